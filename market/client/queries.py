"""Typed queries of the market's contracts, and where their answers stand in the state, for proofs.

Each query takes `query`, a callable `(contract, entry, args) -> plain value` (such as
`Application.query`, or one that asks over HTTP), and returns frozen structs.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, TypeVar

import msgspec

from wire.codec import Plain, decode_plain

Query: TypeAlias = Callable[[str, str, dict[str, Plain]], Plain]

GRID: Final = 0
SETTLED_COUNT_MAX: Final = 1_000


class Account(msgspec.Struct, frozen=True):
    """An account; `held_micro` are margins, `arrears_micro` what it owes the regulator."""

    address: str
    balance_micro: int
    held_micro: int
    arrears_micro: int


class Money(msgspec.Struct, frozen=True):
    """All money that ever came in and went out."""

    minted_micro: int
    redeemed_micro: int


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a home is in the grid: its feeder's line, its distance cluster, and if it is green."""

    line: int
    cluster: int
    green: bool


class Home(msgspec.Struct, frozen=True):
    """A registered home.

    `until_slot` is the first slot without it, once it leaves; `key` the one that speaks for its
    account in place of the first; `offers` who may take the place of its `account` or `meter`;
    `lost`: the regulator has taken the first key's rights.
    """

    number: int
    address: str
    meter: str
    name: str
    role: str
    import_cap_w: int
    export_cap_w: int
    battery_wh: int
    pv_w: int
    place: Place
    since_slot: int
    until_slot: int | None = None
    key: str | None = None
    offers: dict[str, str] = {}
    lost: bool = False


class Order(msgspec.Struct, frozen=True):
    """An order, with what is left of it."""

    order_id: str
    slot: int
    home: int
    side: str
    energy_wh: int
    residual_wh: int
    price_micro_per_kwh: int
    time_ms: int
    margin_micro: int
    expires_ms: int = 0
    green: bool = False
    partner: int = 0


class Trade(msgspec.Struct, frozen=True):
    """A trade between two homes, or of a home with the regulator's standing ask (`backstop`).

    A backstop trade is grid energy: it is billed as metered, at the tariff, and `cost_micro` is
    only what it would come to if taken in full.
    """

    slot: int
    buyer: int
    seller: int
    bid_id: str
    ask_id: str
    energy_wh: int
    price_micro_per_kwh: int
    cost_micro: int
    fee_micro: int = 0

    @property
    def backstop(self) -> bool:
        """Whether the seller is the regulator."""
        return self.seller == GRID


class SlotSummary(msgspec.Struct, frozen=True):
    """One slot: `status` is open, cleared or settled. Trades and prices are homes' own.

    What was imported and exported was traded with other regions, for what was paid and got without
    fees; `fees_micro` has all grid fees.
    """

    slot: int
    status: str
    rounds: int
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
    homes: int
    readings: int
    import_wh: int
    export_wh: int
    grid_wh: int
    fed_in_wh: int
    grid_micro: int
    feed_in_micro: int
    penalty_micro: int
    carbon_mg: int
    green_wh: int
    defaults: int
    imported_wh: int = 0
    exported_wh: int = 0
    paid_micro: int = 0
    got_micro: int = 0


class Bill(msgspec.Struct, frozen=True):
    """One home's bill for one slot.

    `total_micro` = trades' cost − trades' income + grid fees + grid cost − feed-in income +
    penalty: what the home pays, negative if it is paid. `grid_only_micro` is what it would have
    paid without the market. `read` is False where the meter was silent and the amounts are assumed.
    `carbon_mg` is what its grid energy carries; the green amounts are certificates of origin that
    it got and gave.
    """

    slot: int
    home: int
    read: bool
    bought_wh: int
    sold_wh: int
    import_wh: int
    export_wh: int
    trades_cost_micro: int
    trades_income_micro: int
    grid_wh: int
    grid_cost_micro: int
    fed_in_wh: int
    feed_in_income_micro: int
    fees_micro: int
    shortfall_wh: int
    penalty_micro: int
    total_micro: int
    grid_only_micro: int
    carbon_mg: int
    green_bought_wh: int
    green_sold_wh: int

    @property
    def saved_micro(self) -> int:
        """What the market saved the home."""
        return self.grid_only_micro - self.total_micro


class Total(msgspec.Struct, frozen=True):
    """The sums of all bills a home ever had, also of slots that have been forgotten."""

    home: int
    slots: int
    bought_wh: int
    sold_wh: int
    import_wh: int
    export_wh: int
    trades_cost_micro: int
    trades_income_micro: int
    grid_wh: int
    grid_cost_micro: int
    fed_in_wh: int
    feed_in_income_micro: int
    fees_micro: int
    penalty_micro: int
    total_micro: int
    grid_only_micro: int
    carbon_mg: int
    green_bought_wh: int
    green_sold_wh: int

    @property
    def saved_micro(self) -> int:
        """What the market saved the home."""
        return self.grid_only_micro - self.total_micro


class Prices(msgspec.Struct, frozen=True):
    """The grid's prices for a slot, the suggested ones (CE 5-6), and the prior round's (Hu)."""

    slot: int
    tariff_micro_per_kwh: int
    feed_in_micro_per_kwh: int
    suggested_sell_micro_per_kwh: int
    suggested_buy_micro_per_kwh: int
    last_slot: int
    last_low_micro_per_kwh: int
    last_high_micro_per_kwh: int


class GridPrice(msgspec.Struct, frozen=True):
    """What the grid sells and buys at in a slot."""

    tariff_micro_per_kwh: int
    feed_in_micro_per_kwh: int


class Reading(msgspec.Struct, frozen=True):
    """An accepted meter reading."""

    home: int
    import_wh: int
    export_wh: int
    sequence: int
    time_ms: int


class Record(msgspec.Struct, frozen=True):
    """What a home has contracted: contracts not settled yet, and (slot, whether it was kept)."""

    open: int
    history: list[tuple[int, bool]]


S = TypeVar("S")


def typed(value: Plain, kind: type[S]) -> S:
    """Return a contract's plain value as `kind`. Raises `msgspec.ValidationError`."""
    return msgspec.convert(value, kind)


def account(query: Query, address: str) -> Account:
    """Return an account. Raises `QueryError` `unknown_account`."""
    return typed(query("ledger", "balance", {"address": address}), Account)


def money(query: Query) -> Money:
    """Return what has been minted and redeemed."""
    return typed(query("ledger", "money", {}), Money)


def home(query: Query, address: str) -> Home:
    """Return a home by its account. Raises `QueryError` `not_a_home`."""
    return typed(query("registry", "home", {"address": address}), Home)


def homes(query: Query) -> list[Home]:
    """Return all homes, in the order of their numbers."""
    return typed(query("registry", "homes", {}), list[Home])


def order_book(query: Query, slot: int) -> list[Order]:
    """Return a slot's orders: bids then asks, best first."""
    return typed(query("market", "book", {"slot": slot}), list[Order])


def orders_of(query: Query, slot: int, number: int) -> list[Order]:
    """Return a home's orders in a slot, in the order of their posting."""
    return typed(query("market", "orders", {"slot": slot, "home": number}), list[Order])


def trades_of_slot(query: Query, slot: int) -> list[Trade]:
    """Return a slot's trades, in the order of their matching; those of the backstop last."""
    return decode_trades(slot, query("market", "trades", {"slot": slot}))


def trades_of_home(query: Query, slot: int, number: int) -> list[Trade]:
    """Return a home's trades in a slot."""
    return [trade for trade in trades_of_slot(query, slot) if number in (trade.buyer, trade.seller)]


class Elsewhere(msgspec.Struct, frozen=True):
    """What a home has traded with other regions by one of its orders; the fee is on top.

    `number` is the order's, the second part of its `order_id`.
    """

    home: int
    bought_wh: int
    cost_micro: int
    sold_wh: int
    income_micro: int
    fee_micro: int
    number: int

    @property
    def energy_wh(self) -> int:
        """What was traded, one way or the other."""
        return self.bought_wh + self.sold_wh


_ElsewhereRow = tuple[int, int, int, int, int, int, int]


def traded_elsewhere(query: Query, slot: int) -> list[Elsewhere]:
    """Return what homes traded with other regions, in a region that does (`Membership.exports`).

    Empty until it is shown what became of the slot's offer.
    """
    found = typed(query("export", "positions_of", {"slot": slot}), list[_ElsewhereRow])
    return [Elsewhere(*row) for row in found]


class Round(msgspec.Struct, frozen=True):
    """One round of a slot: `kind` is day_ahead, intraday, gate, request or sharing.

    `curtailed` are pairs of a line that bound and what was cut because of it. [Wh]
    """

    slot: int
    round: int
    kind: str
    time_ms: int
    trades: int
    traded_wh: int
    traded_micro: int
    fees_micro: int
    low_micro_per_kwh: int
    high_micro_per_kwh: int
    backstop_wh: int
    curtailed: list[tuple[int, int]]


class Request(msgspec.Struct, frozen=True):
    """A request for energy (CE figure 2); `status` is open, closed, or grid: the grid serves it."""

    request: int
    home: int
    address: str
    start_ms: int
    end_ms: int
    energy_wh: int
    bidding: bool
    limit_micro_per_kwh: int
    margin_micro: int
    closes_ms: int
    status: str
    offers: int
    traded_wh: int
    traded_micro: int


class Offer(msgspec.Struct, frozen=True):
    """An offer to a request."""

    request: int
    offer: int
    home: int
    energy_wh: int
    price_micro_per_kwh: int
    margin_micro: int


def rounds(query: Query, slot: int) -> list[Round]:
    """Return the rounds that a slot has had, first to last."""
    return typed(query("market", "rounds", {"slot": slot}), list[Round])


def auctions(query: Query) -> list[tuple[int, int, int]]:
    """Return the auctions to come: (market time [ms], first slot, number of slots)."""
    return typed(query("market", "auctions", {}), list[tuple[int, int, int]])


def open_requests(query: Query) -> list[Request]:
    """Return the requests that take offers, those that close first in front."""
    return typed(query("requests", "requests_open", {}), list[Request])


def request(query: Query, number: int) -> Request | None:
    """Return a request; None if there is none, or it is forgotten."""
    return typed(query("requests", "request_view", {"number": number}), Request | None)  # type: ignore[arg-type]


def offers(query: Query, number: int) -> list[Offer]:
    """Return the offers to a request, in the order of their posting."""
    return typed(query("requests", "offers_to", {"number": number}), list[Offer])


def open_slots(query: Query) -> list[int]:
    """Return the slots that have orders and are not cleared."""
    return typed(query("market", "rounds_open", {}), list[int])


def record(query: Query, number: int) -> Record:
    """Return a home's contracts that are not settled, and which of the last ones it kept."""
    return typed(query("market", "history", {"home": number}), Record)


def utc_offsets(query: Query) -> list[tuple[int, int]]:
    """Return local time as dated offsets from UTC: (market time [ms], offset [min])."""
    return typed(query("tariff", "table", {"kind": "utc_offsets"}), list[tuple[int, int]])


def slot_summary(query: Query, slot: int) -> SlotSummary:
    """Return a slot's summary; of a slot nobody touched, one of zeros."""
    return typed(query("settlement", "summary", {"slot": slot}), SlotSummary)


def settled_slots(query: Query, count: int) -> list[int]:
    """Return the last slots settled of those still kept, in the order of their settlement."""
    return typed(query("settlement", "settled", {"count": count}), list[int])


def bill(query: Query, slot: int, number: int) -> Bill | None:
    """Return a home's bill for a slot; None while the slot is not settled, or forgotten."""
    found = query("settlement", "bill", {"slot": slot, "home": number})
    return None if found is None else typed(found, Bill)


def bills_of_slot(query: Query, slot: int) -> list[Bill]:
    """Return all homes' bills for a slot; empty while it is not settled."""
    return typed(query("settlement", "bills", {"slot": slot}), list[Bill])


def total(query: Query, number: int) -> Total:
    """Return a home's sums; of a home without a settled slot, zeros."""
    found = query("settlement", "total", {"home": number})
    return _no_total(number) if found is None else typed(found, Total)


def totals(query: Query) -> list[Total]:
    """Return the sums of all homes that have a settled slot, by number."""
    return typed(query("settlement", "totals", {}), list[Total])


def prices(query: Query, slot: int) -> Prices:
    """Return the prices that bear on a slot."""
    return typed(query("market", "prices", {"slot": slot}), Prices)


def grid_price(query: Query, slot: int) -> GridPrice:
    """Return what the grid sells and buys at in a slot."""
    tariff, feed_in = query("tariff", "prices", {"slot": slot})
    return GridPrice(tariff, feed_in)


def intensity(query: Query, slot: int) -> int:
    """Return what a watt-hour of grid energy carries in a slot. [mg CO2-equivalent]"""
    return typed(query("tariff", "intensity", {"slot": slot}), int)


def readings(query: Query, slot: int) -> list[Reading]:
    """Return the readings accepted for a slot."""
    rows = query("settlement", "readings", {"slot": slot})
    return [Reading(*row) for row in rows]


def decode_trades(slot: int, rows: Sequence[Sequence[int]]) -> list[Trade]:
    """Return trades from the contract's compact rows."""
    return [
        Trade(
            slot=slot,
            buyer=buyer,
            seller=seller,
            bid_id=f"{slot}-{bid}",
            ask_id="grid" if seller == GRID else f"{slot}-{ask}",
            energy_wh=energy_wh,
            price_micro_per_kwh=price,
            cost_micro=cost,
            fee_micro=fee,
        )
        for buyer, seller, bid, ask, energy_wh, price, cost, fee in rows
    ]


def _no_total(number: int) -> Total:
    zeros = dict.fromkeys(Total.__struct_fields__, 0)
    return Total(**{**zeros, "home": number})


# -- where it stands in the state, for proofs

SETTLED_KEY: Final = "settlement/settled"
UNSETTLED_KEY: Final = "settlement/open"
_VALUE_BYTES_MAX: Final = 65_536


def home_key(address: str) -> str:
    """Return the state's key of a home's registration."""
    return f"registry/home/{address}"


def bill_key(slot: int, number: int) -> str:
    """Return the state's key of a home's bill for a slot."""
    return f"settlement/bill/{slot}/{100_000 + number}"


def read_home(value: bytes) -> Home:
    """Decode what stands at a `home_key`. Raises `DecodeError` or `msgspec.ValidationError`."""
    return typed(decode_plain(value, _VALUE_BYTES_MAX), Home)


def read_settled(value: bytes) -> list[int]:
    """Decode what stands at `SETTLED_KEY` or `UNSETTLED_KEY`: slots. Errors as above."""
    return typed(decode_plain(value, _VALUE_BYTES_MAX), list[int])


def read_bill(value: bytes) -> Bill:
    """Decode what stands at a `bill_key`. Errors as above."""
    return typed(decode_plain(value, _VALUE_BYTES_MAX), Bill)
