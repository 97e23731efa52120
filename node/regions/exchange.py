"""Trade across regions, for whoever posts it: what is due on which chain, by both chains' states.

A region's `export` contract offers by rule of the region, the main chain's `exchange` clears by its
own; what is left to do is to show each chain what the other's state says. Nothing here rests on the
poster's word, and a call that another has posted first is refused and changes nothing.
"""

from collections.abc import Iterable
from typing import Any, Final

from consensus.messages import Header
from market.app import Application
from market.client import Call, regions
from wire.codec import Message, decode_plain, encode

# As many as a region keeps to be shown (`contracts/export.star`).
OFFERS_MAX: Final = 64
# So many ends of offers are shown at a time; of one account 64 transactions may wait.
ENDS_AT_ONCE_MAX: Final = 16
_VALUE_BYTES_MAX: Final = 65_536


class Offer(Message, frozen=True, tag="offer"):
    """An entry of a region's outbox, with the proof from the state that its checkpoint is of.

    Parameters
    ----------
    region, checkpoint, number, slot : whose, by which checkpoint, which entry, for which slot.
    value, proof : encoded, as the state holds them.
    """

    region: int
    checkpoint: int
    number: int
    slot: int
    value: bytes
    proof: bytes

    def call(self) -> Call:
        """Return what shows it to the main chain."""
        return regions.offer(self.region, self.checkpoint, self.number, self.value, self.proof)


def make_offers(app: Application, header: Header) -> tuple[Offer, ...]:
    """Return the open offers that the checkpoint just closed proves, none if it closed none.

    Those are the ones that it has brought out, and earlier ones again: whoever lost a checkpoint,
    or could not post it in time, shows them by a later one.

    Parameters
    ----------
    app : Application
        A region's, at the state after `header`; the proofs can be made at no later one.
    header : Header
    """
    closed = _value(app, "export/closed")
    if closed is None or app.state_root != header.state_root or closed["height"] != header.height:
        return ()
    region = _value(app, "export/rules")["region"]
    found = []
    for slot in _value(app, "export/open")[-OFFERS_MAX:]:
        number = _value(app, f"export/offer/{1_000_000_000 + slot}")["number"]
        key = regions.outbox_key(number)
        value = app.value(key)
        if value is not None:
            proof = encode(app.prove(key))
            found.append(Offer(region, closed["number"], number, slot, value, proof))
    return tuple(found)


def still_open(offers: Iterable[Offer], main: Application) -> list[Offer]:
    """Return the offers that the main chain could still take: keep these, forget the others."""
    window = _value(main, regions.WINDOW_KEY)
    return [offer for offer in offers if window is None or offer.slot > window[1]]


def offers_due(offers: Iterable[Offer], main: Application) -> list[Call]:
    """Return what offers the main chain is to be shown, in order of their slots.

    Parameters
    ----------
    offers : of one region, as `make_offers` made them; of one slot's, the last that is anchored.
    main : the main chain's application at its last state.
    """
    due: dict[int, Offer] = {}
    for offer in still_open(offers, main):
        last = _value(main, regions.anchored_key(offer.region))
        anchored = last is not None and last["number"] >= offer.checkpoint
        if anchored and main.value(regions.pending_offer_key(offer.region, offer.slot)) is None:
            known = due.get(offer.slot)
            if known is None or known.checkpoint < offer.checkpoint:
                due[offer.slot] = offer
    return [due[slot].call() for slot in sorted(due)]


def ends_due(region: Application, main: Application, main_head: str) -> list[Call]:
    """Return what a region is to be shown of the exchange, in the order in which to post it.

    What homes wait for comes first; what is late can wait, and the rest is due with a later head.

    Parameters
    ----------
    region : the region's application at its last state.
    main : the main chain's at the state after `main_head`.
    main_head : the main chain's last header, as `regions.follow` takes it. The last headers of
        epochs that the region has not seen are shown before, by whoever calls this.
    """
    rules = _value(region, "export/rules")
    window = _value(main, regions.WINDOW_KEY)
    known = _value(region, "export/main")
    if rules is None or window is None or known is None:
        return []
    calls = []
    for slot in unresolved(region):
        found = _shown(main, rules["region"], slot, window)
        if found is not None:
            calls.append(found)
        if len(calls) == ENDS_AT_ONCE_MAX:
            break
    if calls and known["height"] < main.height:
        calls.insert(0, regions.follow(main_head))
    return calls


def _shown(main: Application, region: int, slot: int, window: list[int]) -> Call | None:
    key = regions.result_key(region, slot)
    value = main.value(key)
    if value is not None:
        return regions.claim(main.height, slot, value, encode(main.prove(key)))
    if not window[0] <= slot <= window[1]:
        return None
    shown = main.value(regions.WINDOW_KEY)
    if shown is None:
        return None
    proof, absence = encode(main.prove(regions.WINDOW_KEY)), encode(main.prove(key))
    return regions.refund(main.height, slot, shown, proof, absence)


def unresolved(region: Application) -> list[int]:
    """Return the slots whose offers are open, and then those that are late."""
    found: dict[str, list[int]] = {"open": [], "late": []}
    for slot in _value(region, "export/kept") or []:
        entry = _value(region, f"export/offer/{1_000_000_000 + slot}")
        if entry is not None and entry["status"] in found:
            found[entry["status"]].append(slot)
    return sorted(found["open"]) + sorted(found["late"])


def _value(app: Application, key: str) -> Any:
    data = app.value(key)
    return None if data is None else decode_plain(data, _VALUE_BYTES_MAX)
