"""Typed events of the contracts: `decode_event` makes an `Event` the struct of its kind."""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import msgspec

from market.client.queries import Request, Round, SlotSummary, Trade, decode_trades, typed
from market.receipts import Event


class OrderPosted(msgspec.Struct, frozen=True):
    """An order was accepted and its margin locked."""

    order_id: str
    slot: int
    home: int
    side: str
    energy_wh: int
    price_micro_per_kwh: int
    margin_micro: int
    terms: dict[str, int | bool] = {}


class OrderWithdrawn(msgspec.Struct, frozen=True):
    """An order was taken back and its margin returned."""

    order_id: str
    slot: int
    home: int
    energy_wh: int
    margin_micro: int


class OrderCommitted(msgspec.Struct, frozen=True):
    """A home committed to sealed orders, of which nobody else knows more than this."""

    slot: int
    home: int
    digest: str
    margin_micro: int


class CommitmentWithdrawn(msgspec.Struct, frozen=True):
    """A commitment was taken back before its gate, and its margin returned."""

    slot: int
    home: int
    margin_micro: int


class OrdersRevealed(msgspec.Struct, frozen=True):
    """A home revealed its orders; each is an `OrderPosted` of the same transaction."""

    slot: int
    home: int
    orders: int
    returned_micro: int


class CommitmentForfeited(msgspec.Struct, frozen=True):
    """A home did not reveal in time: its margin is the community's."""

    slot: int
    home: int
    margin_micro: int


class Trades(msgspec.Struct, frozen=True):
    """A batch of trades of a slot that was just cleared."""

    slot: int
    trades: tuple[Trade, ...]


class SlotCleared(msgspec.Struct, frozen=True):
    """A slot with orders was cleared; prices and sums of the homes' own trades."""

    slot: int
    tariff_micro_per_kwh: int
    feed_in_micro_per_kwh: int
    bids: int
    asks: int
    bid_wh: int
    ask_wh: int
    trades: int
    traded_wh: int
    traded_micro: int
    low_micro_per_kwh: int
    high_micro_per_kwh: int
    price_micro_per_kwh: int
    fees_micro: int
    curtailed_wh: int
    backstop_wh: int
    rounds: int


class RoundHeld(msgspec.Struct, frozen=True):
    """A round before the gate made trades, or cut them."""

    summary: Round


class RequestPosted(msgspec.Struct, frozen=True):
    """A request was accepted; the others may offer until it closes."""

    request: Request


class OfferPosted(msgspec.Struct, frozen=True):
    """An offer was accepted and its margin locked."""

    request: int
    offer: int
    home: int
    energy_wh: int
    price_micro_per_kwh: int
    margin_micro: int


class OfferWithdrawn(msgspec.Struct, frozen=True):
    """An offer was taken back and its margin returned."""

    request: int
    offer: int
    home: int
    margin_micro: int


class OfferAnswered(msgspec.Struct, frozen=True):
    """What of an offer was accepted, 0 if nothing."""

    request: int
    offer: int
    home: int
    accepted_wh: int


class RequestClosed(msgspec.Struct, frozen=True):
    """A request's gate closed; what is unmet the grid serves."""

    request: int
    home: int
    traded_wh: int
    unmet_wh: int


class ReadingAccepted(msgspec.Struct, frozen=True):
    """A meter's reading was accepted."""

    slot: int
    home: int
    import_wh: int
    export_wh: int


class SlotSettled(msgspec.Struct, frozen=True):
    """A slot was settled; its bills can be queried."""

    summary: SlotSummary


class Defaulted(msgspec.Struct, frozen=True):
    """A home delivered less than it sold (`shortfall`), or could not pay (`arrears`)."""

    slot: int
    home: int
    reason: str
    covered_micro: int = 0


class Minted(msgspec.Struct, frozen=True):
    """Money came in."""

    address: str
    amount_micro: int


class Redeemed(msgspec.Struct, frozen=True):
    """Money went out."""

    address: str
    amount_micro: int


class Transferred(msgspec.Struct, frozen=True):
    """Money went from one account to another."""

    sender: str
    address: str
    amount_micro: int


class ArrearsPaid(msgspec.Struct, frozen=True):
    """A home paid back what the regulator had covered."""

    address: str
    amount_micro: int
    left_micro: int


class HomeRegistered(msgspec.Struct, frozen=True):
    """A home was taken in."""

    address: str
    name: str
    since_slot: int


class HomeLeft(msgspec.Struct, frozen=True):
    """A home leaves: `until_slot` is the first slot without it."""

    address: str
    home: int
    until_slot: int


class KeyOffered(msgspec.Struct, frozen=True):
    """A home's `account` or `meter` was offered to a key, which has yet to take the place."""

    address: str
    purpose: str
    key: str


class KeyReplaced(msgspec.Struct, frozen=True):
    """The key of a home's `account` or `meter` is another from here on."""

    address: str
    purpose: str
    key: str


class Invited(msgspec.Struct, frozen=True):
    """Whoever holds the key of `address` may bring in one home, until a block time. [ms]"""

    address: str
    until_ms: int


class InviteRevoked(msgspec.Struct, frozen=True):
    """An invitation was taken back."""

    address: str


class InviteAccepted(msgspec.Struct, frozen=True):
    """An invitation was used: the node of `address` is let in, to be registered."""

    address: str
    invitation: str


class HookFailed(msgspec.Struct, frozen=True):
    """A contract's work at a deadline failed and was dropped; a bug in the contract."""

    contract: str
    kind: str
    reason: str


MarketEvent: TypeAlias = (
    OrderPosted
    | OrderWithdrawn
    | OrderCommitted
    | CommitmentWithdrawn
    | OrdersRevealed
    | CommitmentForfeited
    | Trades
    | SlotCleared
    | RoundHeld
    | RequestPosted
    | OfferPosted
    | OfferWithdrawn
    | OfferAnswered
    | RequestClosed
    | ReadingAccepted
    | SlotSettled
    | Defaulted
    | Minted
    | Redeemed
    | Transferred
    | ArrearsPaid
    | HomeRegistered
    | HomeLeft
    | KeyOffered
    | KeyReplaced
    | Invited
    | InviteRevoked
    | InviteAccepted
    | HookFailed
)

_EVENTS: Final[Mapping[tuple[str, str], Any]] = {
    ("market", "order_posted"): OrderPosted,
    ("market", "order_withdrawn"): OrderWithdrawn,
    ("sealed", "order_committed"): OrderCommitted,
    ("sealed", "commitment_withdrawn"): CommitmentWithdrawn,
    ("sealed", "orders_revealed"): OrdersRevealed,
    ("sealed", "commitment_forfeited"): CommitmentForfeited,
    ("market", "slot_cleared"): SlotCleared,
    ("requests", "offer_posted"): OfferPosted,
    ("requests", "offer_withdrawn"): OfferWithdrawn,
    ("requests", "offer_answered"): OfferAnswered,
    ("requests", "request_closed"): RequestClosed,
    ("settlement", "reading_accepted"): ReadingAccepted,
    ("settlement", "defaulted"): Defaulted,
    ("ledger", "minted"): Minted,
    ("ledger", "redeemed"): Redeemed,
    ("ledger", "transferred"): Transferred,
    ("ledger", "arrears_paid"): ArrearsPaid,
    ("registry", "home_registered"): HomeRegistered,
    ("registry", "home_left"): HomeLeft,
    ("registry", "key_offered"): KeyOffered,
    ("registry", "key_replaced"): KeyReplaced,
    ("registry", "invited"): Invited,
    ("registry", "invite_revoked"): InviteRevoked,
    ("registry", "invite_accepted"): InviteAccepted,
}


def decode_event(event: Event) -> MarketEvent | None:
    """Return an event as the struct of its kind; None for a kind this program does not know."""
    data = event.data
    if event.name == "hook_failed":
        return HookFailed(event.contract, data["kind"], data["reason"])
    if (event.contract, event.name) == ("market", "trades"):
        return Trades(data["slot"], tuple(decode_trades(data["slot"], data["rows"])))
    if (event.contract, event.name) == ("market", "round_held"):
        return RoundHeld(typed(data, Round))
    if (event.contract, event.name) == ("requests", "request_posted"):
        return RequestPosted(typed(data, Request))
    if (event.contract, event.name) == ("settlement", "slot_settled"):
        return SlotSettled(typed(data, SlotSummary))
    kind = _EVENTS.get((event.contract, event.name))
    decoded: MarketEvent | None = None if kind is None else msgspec.convert(data, kind)
    return decoded
