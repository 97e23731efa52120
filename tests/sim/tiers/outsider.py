"""Who belongs to a region, has no quorum, and posts what is not true."""

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from consensus.authorities import AuthoritySet
from consensus.checkpoint import Checkpoint
from consensus.light import SignedHeader, ends_epoch
from consensus.messages import header_hash
from market.client import Call, regions
from market.vm import merkle
from node.regions.checkpoints import posted
from tests.sim.tiers import machine as machines
from tests.sim.tiers.views import entry
from wire.codec import decode_plain, encode

if TYPE_CHECKING:
    from random import Random

    from tests.sim.tiers.chains import Chain
    from tests.sim.tiers.grid import Grid

VALUE_BYTES_MAX: Final = 8_192
OLD_HEADERS: Final = 8


class Outsider:
    """Makes what is true a little wrong, and posts it to a region or of a region."""

    def __init__(self, grid: "Grid", rng: "Random") -> None:
        self.grid = grid
        self.rng = rng

    def act(self, chain: "Chain") -> None:
        """Post something false."""
        rng, grid = self.rng, self.grid
        alive = [node for node in chain.nodes if node.up]
        if not alive:
            return
        node = rng.choice(alive)
        if rng.random() < 0.4:
            found = list(node.database.checkpoints.values())
            if found:
                call = self._of_region(chain, rng.choice(found[-4:]))
                node.send_call(machines.authority_key(chain.number, 0), call, to_main=True)
            return
        head = grid.main_head()
        if head is not None:
            key = machines.home_key(chain.number, 0)
            for call in self._of_main(chain, *head):
                node.send_call(key, call, to_main=False)

    # -- to the main chain

    def _of_region(self, chain: "Chain", found: Checkpoint) -> Call:
        """A checkpoint of an honest region, changed."""
        rng = self.rng
        choice = rng.randrange(4)
        certificate, header = found.certificate, found.header
        if choice == 0:
            # One signature less than a quorum.
            lowest = certificate.bitmap & -certificate.bitmap
            few = replace(
                certificate,
                bitmap=certificate.bitmap ^ lowest,
                signatures=certificate.signatures[1:],
            )
            found = replace(found, certificate=few)
        elif choice == 1:
            header = replace(header, time_ms=header.time_ms + 1)
            moved = replace(certificate, block_hash=header_hash(header))
            found = replace(found, header=header, certificate=moved)
        elif choice == 2:
            parts = decode_plain(found.record, VALUE_BYTES_MAX)
            parts[-2] += 1
            found = replace(found, record=encode(parts))
        return regions.checkpoint(chain.number, header.epoch, posted(found))

    # -- to a region

    def _of_main(self, chain: "Chain", node: object, signed: SignedHeader) -> list[Call]:
        """Something about the main chain: a header nobody certified, an old one, a false value."""
        rng, header, certificate = self.rng, signed.header, signed.certificate
        refund = self._refund(chain, node, signed)
        if refund:
            return refund
        choice = rng.randrange(6)
        if choice == 5:
            said = [call for number, call in self.grid.said if number == chain.number]
            return [rng.choice(said)] if said else []
        if choice == 0:
            forged = replace(header, state_root=rng.randbytes(32), height=header.height + 1)
            moved = replace(certificate, block_hash=header_hash(forged), height=forged.height)
            return [regions.follow(encode(replace(signed, header=forged, certificate=moved)).hex())]
        if choice == 1:
            old = [
                end
                for height in range(max(1, header.height - OLD_HEADERS), header.height)
                if (end := self._certified(height)) is not None
            ]
            return [regions.follow(encode(rng.choice(old)).hex())] if old else []
        if choice == 2:
            return self._other_set(chain)
        if choice == 3:
            return self._false_value(chain, node, signed)
        return self._unknown_header(chain, signed)

    def _refund(self, chain: "Chain", node: object, signed: SignedHeader) -> list[Call]:
        """As if nothing had come of an offer that was taken: before somebody shows what has."""
        state, number = node.state, chain.number  # type: ignore[attr-defined]
        open_slots = self.grid.books.trade.unresolved(number)
        traded = [slot for region, slot in self.grid.books.trade.legs if region == number]
        traded = sorted(open_slots.intersection(traded))
        window = state.value(regions.WINDOW_KEY)
        if not traded or window is None:
            return []
        slot = self.rng.choice(traded)
        proof = encode(merkle.prove(state.tree, regions.WINDOW_KEY))
        false = encode(merkle.prove(state.tree, regions.result_key(number, slot)))
        refund = regions.refund(signed.header.height, slot, window, proof, false)
        return [regions.follow(encode(signed).hex()), refund]

    def _certified(self, height: int) -> SignedHeader | None:
        for other in self.grid.main.nodes:
            if other.database.run(height, 1):
                signed: SignedHeader = other.database.signed(height)
                return signed
        return None

    def _other_set(self, chain: "Chain") -> list[Call]:
        """The true last header of an epoch, with another set than it announces."""
        epoch = chain.nodes[0].shown.main_epoch
        for other in self.grid.main.nodes:
            end = other.database.epoch_ends.get(epoch)
            if end is not None and ends_epoch(end.header):
                own = [machines.key(f"impostor {place}").public for place in range(4)]
                shown = replace(end, next_authorities=AuthoritySet(epoch + 1, tuple(own)))
                return [regions.follow(encode(shown).hex())]
        return []

    def _false_value(self, chain: "Chain", node: object, signed: SignedHeader) -> list[Call]:
        """More anchored than is, with the proof of what is."""
        state = node.state  # type: ignore[attr-defined]
        name = regions.anchored_key(chain.number)
        value = state.value(name)
        closed = entry(chain.nodes[0].state, "export/closed")["number"]
        record = self.grid.books.closed[chain.number].get(closed)
        if value is None or record is None:
            return []
        last = decode_plain(value, VALUE_BYTES_MAX)
        more = last | {"number": closed, "record_hash": record.hash}
        proof = encode(merkle.prove(state.tree, name)).hex()
        height = signed.header.height
        follow = regions.follow(encode(signed).hex())
        return [follow, regions.confirm(height, encode(more).hex(), proof)]

    def _unknown_header(self, chain: "Chain", signed: SignedHeader) -> list[Call]:
        """A value with a sound proof, from a state that was never the main chain's."""
        closed = entry(chain.nodes[0].state, "export/closed")["number"]
        record = self.grid.books.closed[chain.number].get(closed)
        if record is None:
            return []
        name = regions.anchored_key(chain.number)
        value = encode({"number": closed, "record_hash": record.hash, "to_height": 1})
        tree = merkle.update(None, {name: value, "other": b"\x01"})
        proof = encode(merkle.prove(tree, name)).hex()
        return [regions.confirm(signed.header.height + 1, value.hex(), proof)]
