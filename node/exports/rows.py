"""Bills, slots and trades as rows, read from the market's state at one block.

The state keeps the last `keep_slots` slots of the genesis, so these rows are of them alone; the
sums of all bills that ever were stand in `client.total`.
"""

import datetime
import re
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from market import client
from market.app import Application
from node.errors import UnknownError

_DAY: Final = re.compile(r"([0-9]{4})-([0-9]{2})(?:-([0-9]{2}))?")
HOMES_SHOWN_MAX: Final = 12
_ONE_DAY: Final = datetime.timedelta(days=1)

Row: TypeAlias = dict[str, int | str]


class Kind(StrEnum):
    """What is exported."""

    BILLS = "bills"
    SLOTS = "slots"
    TRADES = "trades"


class Days(NamedTuple):
    """Local days, both included; None: without an end on that side."""

    first: datetime.date | None = None
    last: datetime.date | None = None

    def has(self, day: datetime.date) -> bool:
        """Tell whether a day is among them."""
        return (self.first is None or self.first <= day) and (self.last is None or day <= self.last)


class Book:
    """The slots that a market's state keeps, as of its last block.

    Parameters
    ----------
    app : Application
        Nobody changes its state meanwhile.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        self._query = app.query
        self._offsets = client.utc_offsets(app.query)
        self._homes = {home.number: home for home in client.homes(app.query)}
        self.currency = app.params.currency
        self.chain_id = app.params.chain_id
        self.height = app.height

    def name_of(self, number: int) -> str:
        """What a home is called; the grid is `grid`."""
        if number == client.GRID:
            return "grid"
        return self._homes[number].name

    def address_of(self, number: int) -> str:
        """A home's account."""
        return self._homes[number].address

    def meters(self) -> dict[int, str]:
        """Return the addresses of the homes' meters, by home."""
        return {number: home.meter for number, home in self._homes.items()}

    def number_of(self, home: str) -> int:
        """Return the number of a home that is named by its name or account.

        Raises
        ------
        UnknownError
            There is none, or more than one of that name.
        """
        found = [one for one in self._homes.values() if home in (one.name, one.address)]
        if len(found) == 1:
            return found[0].number
        if found:
            raise UnknownError(f"{len(found)} homes are called {home!r}; give its account, cw...")
        names = [one.name for one in self._homes.values()]
        more = ", ..." if len(names) > HOMES_SHOWN_MAX else ""
        raise UnknownError(
            f"no home is called {home!r}; there are {', '.join(names[:HOMES_SHOWN_MAX])}{more}"
        )

    def slots(self, days: Days) -> list[int]:
        """Return the settled slots that are kept and begin on these days, oldest first."""
        newest = client.settled_slots(self._query, 1)
        if not newest:
            return []
        value = self._app.value(client.SETTLED_KEY)
        # The chain has them as they were settled, which is not always the order of their times.
        kept = sorted(newest if value is None else client.read_settled(value))
        return [slot for slot in kept if days.has(self.local(slot).date())]

    def local(self, slot: int) -> datetime.datetime:
        """Return the local wall clock at which a slot begins."""
        start_ms = self._app.clock.slot_start_market_ms(slot)
        offset_min = 0
        for from_ms, minutes in self._offsets:
            if from_ms <= start_ms:
                offset_min = minutes
        zone = datetime.timezone(datetime.timedelta(minutes=offset_min))
        return datetime.datetime.fromtimestamp(start_ms / 1000, zone)

    def bills(self, slots: Iterable[int], home: int | None = None) -> Iterator[Row]:
        """Yield the homes' bills for these slots, or one home's."""
        for slot in slots:
            for bill in client.bills_of_slot(self._query, slot):
                if home in (None, bill.home):
                    named = {"home_name": self.name_of(bill.home)}
                    yield self._row(slot, bill) | named | {"saved_micro": bill.saved_micro}

    def summaries(self, slots: Iterable[int]) -> Iterator[Row]:
        """Yield these slots' summaries."""
        for slot in slots:
            yield self._row(slot, client.slot_summary(self._query, slot))

    def trades(self, slots: Iterable[int], home: int | None = None) -> Iterator[Row]:
        """Yield these slots' trades, or those of one home: among homes, and with the grid."""
        for slot in slots:
            for trade in client.trades_of_slot(self._query, slot):
                if home in (None, trade.buyer, trade.seller):
                    yield self._row(slot, trade) | {
                        "buyer_name": self.name_of(trade.buyer),
                        "seller_name": self.name_of(trade.seller),
                    }

    def rows(
        self,
        kind: Kind,
        days: Days,
        home: str | None = None,
        on_slot: Callable[[int, int], None] = lambda done, of: None,
    ) -> list[Row]:
        """Return the rows of a kind.

        Parameters
        ----------
        home : str, optional
            Only this home's: its name or account.
        on_slot : callable
            Called with how many slots are done, of how many.

        Raises
        ------
        UnknownError
            As `number_of`.
        """
        number = None if home is None else self.number_of(home)
        slots = self.slots(days)

        def told() -> Iterator[int]:
            for done, slot in enumerate(slots, 1):
                yield slot
                on_slot(done, len(slots))

        match kind:
            case Kind.BILLS:
                return list(self.bills(told(), number))
            case Kind.TRADES:
                return list(self.trades(told(), number))
            case Kind.SLOTS:
                return list(self.summaries(told()))

    def _row(self, slot: int, value: msgspec.Struct) -> Row:
        plain: dict[str, Any] = msgspec.to_builtins(value)
        begins: Row = {
            "slot": slot,
            "start_ms": self._app.clock.slot_start_market_ms(slot),
            "start_local": self.local(slot).isoformat(timespec="minutes"),
        }
        return begins | {name: _cell(found) for name, found in plain.items()}


COLUMNS: Final[dict[Kind, tuple[str, ...]]] = {
    Kind.BILLS: (
        *("slot", "start_ms", "start_local", "home", "home_name"),
        *(name for name in client.Bill.__struct_fields__ if name not in ("slot", "home")),
        "saved_micro",
    ),
    Kind.SLOTS: (
        *("slot", "start_ms", "start_local"),
        *(name for name in client.SlotSummary.__struct_fields__ if name != "slot"),
    ),
    Kind.TRADES: (
        *("slot", "start_ms", "start_local", "buyer", "buyer_name", "seller", "seller_name"),
        *(
            name
            for name in client.Trade.__struct_fields__
            if name not in ("slot", "buyer", "seller")
        ),
    ),
}
# Columns of text; all others are whole numbers.
TEXTS: Final = frozenset(
    {"start_local", "home_name", "status", "buyer_name", "seller_name", "bid_id", "ask_id"}
)


def days_of(first: str | None, last: str | None) -> Days:
    """Return the days from `first` to `last`, each `2025-11-03`, or a month: `2025-11`.

    Raises
    ------
    ValueError
        One of them is no such day, or the last lies before the first.
    """
    days = Days(
        None if first is None else _range_of(first)[0],
        None if last is None else _range_of(last)[1],
    )
    if days.first is not None and days.last is not None and days.last < days.first:
        raise ValueError(f"{last} lies before {first}")
    return days


def _range_of(text: str) -> tuple[datetime.date, datetime.date]:
    match = _DAY.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        year, month = int(match[1]), int(match[2])
        if match[3] is not None:
            day = datetime.date(year, month, int(match[3]))
            return day, day
        first = datetime.date(year, month, 1)
        following = datetime.date(year + month // 12, month % 12 + 1, 1)
    except ValueError:
        raise ValueError(
            f"{text!r} is no day such as 2025-11-03, or month such as 2025-11"
        ) from None
    return first, following - _ONE_DAY


def _cell(value: Any) -> int | str:
    return int(value) if isinstance(value, bool) else value
