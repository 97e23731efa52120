"""What people see of the market: tables with homes' names, local times, all of one state.

market_book     {slot}          standing orders of a slot, or of the open slots that have any
market_trades   {slot, home}    a slot's rounds and trades, or of one home's the trades only
market_prices   {slots}         grid prices and suggested ones from the present slot on
market_requests                 requests that take offers, with the offers
account         {account}       what an account has, holds, owes, has open, and did not keep

Each answer has `at`: the block and the market's time that it is of.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from market import carbon, client, governance, tiers
from market.app import Application
from market.client.finality import finality_of_slot
from market.errors import QueryError
from market.genesis import MECHANISMS_WITH_ORDERS
from market.time import CALENDAR_END_MS
from node.api.control import Answer, integer
from node.errors import AbsentError, UnknownError
from wire.keys import is_address

SLOT_MAX: Final = 10**9
BOOK_SLOTS_MAX: Final = 8
PRICES_SLOTS_MAX: Final = 96
REQUESTS_MAX: Final = 100
NAMES_SHOWN_MAX: Final = 8
GRID_NAME: Final = "grid"


class Views:
    """Answers about one application's committed state.

    Parameters
    ----------
    app : Application
    main : Application, optional
        The main chain's, where this node keeps it beside a region.
    """

    def __init__(self, app: Application, main: Application | None = None) -> None:
        self._app = app
        self._main = main
        self._query = app.query
        self._offsets: tuple[int, list[tuple[int, int]]] = (-2, [])

    def table(self) -> dict[str, Answer]:
        """Return the answers by the question's name."""
        return {
            "market_book": self._answer(self.book),
            "market_trades": self._answer(self.trades),
            "market_prices": self._answer(self.prices),
            "market_requests": self._answer(self.requests),
            "account": self._answer(self.account),
        }

    def _answer(self, view: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Answer:
        async def answer(question: Mapping[str, Any]) -> Any:
            with self._app.at_rest():
                return {"at": self._at()} | view(question)

        return answer

    # -- views -------------------------------------------------------------------------------

    def book(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """The orders of one slot, or of those whose gate is open: bids and asks, best first."""
        self._need(MECHANISMS_WITH_ORDERS, "orders", "market requests")
        asked = self._asked_slot(question)
        opened = [asked] if asked is not None else client.open_slots(self._query)
        names = self._names()
        slots = []
        for slot in opened[:BOOK_SLOTS_MAX]:
            summary = client.slot_summary(self._query, slot)
            orders = [_named(order, names) for order in client.order_book(self._query, slot)]
            slots.append(
                self._slot(slot)
                | {
                    "status": summary.status,
                    "gate_closes": self._local(self._gate_ms(slot)),
                    "bids": [order for order in orders if order["side"] == "buy"],
                    "asks": [order for order in orders if order["side"] == "sell"],
                }
            )
        return {"slots": slots, "left_off": max(0, len(opened) - BOOK_SLOTS_MAX)}

    def trades(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """A slot's rounds and trades; of the last that may have any if none is named."""
        asked = self._asked_slot(question)
        slot = self._last_slot() if asked is None else asked
        names = self._names()
        found = client.trades_of_slot(self._query, slot)
        elsewhere = self._elsewhere(slot)
        if question.get("home") is not None:
            number = self._home(question["home"]).number
            found = [trade for trade in found if number in (trade.buyer, trade.seller)]
            elsewhere = [row for row in elsewhere if row.home == number]
        return self._slot(slot) | {
            "finality": self.finality(slot),
            "summary": client.slot_summary(self._query, slot),
            "rounds": [
                _plain(held)
                | {
                    "curtailed": [
                        {"line": line, "energy_wh": energy_wh} for line, energy_wh in held.curtailed
                    ]
                }
                for held in client.rounds(self._query, slot)
            ],
            "trades": [_named(trade, names) for trade in found],
            "elsewhere": [_named(row, names) for row in elsewhere],
        }

    def prices(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """The prices of the present slot and those that follow."""
        count = _integer(question, "slots", 1, PRICES_SLOTS_MAX) or 1
        first = self._app.clock.slot_at(self._app.time_ms)
        rows, last = [], None
        for slot in range(first, first + count):
            last = client.prices(self._query, slot)
            summary = client.slot_summary(self._query, slot)
            rows.append(
                self._slot(slot)
                | {
                    "tariff_micro_per_kwh": last.tariff_micro_per_kwh,
                    "feed_in_micro_per_kwh": last.feed_in_micro_per_kwh,
                    "intensity_mg_per_wh": client.intensity(self._query, slot),
                    "suggested_buy_micro_per_kwh": last.suggested_buy_micro_per_kwh,
                    "suggested_sell_micro_per_kwh": last.suggested_sell_micro_per_kwh,
                    "bid_wh": summary.bid_wh,
                    "ask_wh": summary.ask_wh,
                }
            )
        held = None
        if last is not None and last.last_slot:
            held = self._slot(last.last_slot) | {
                "low_micro_per_kwh": last.last_low_micro_per_kwh,
                "high_micro_per_kwh": last.last_high_micro_per_kwh,
            }
        return {"slots": rows, "last_round": held}

    def requests(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """The requests that take offers, those that close first in front, with the offers."""
        del question
        self._need(("request_offer",), "requests", "market book")
        opened = client.open_requests(self._query)
        names = self._names()
        return {
            "requests": [self._request(found, names) for found in opened[:REQUESTS_MAX]],
            "left_off": max(0, len(opened) - REQUESTS_MAX),
        }

    def account(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """What an account has: `account` is an address, a home's name, or `regulator`."""
        address = self._address(question.get("account"))
        home = next((h for h in self._homes() if h.address == address), None)
        try:
            money = client.account(self._query, address)
        except QueryError as error:
            if home is None or error.code != "unknown_account":
                raise
            # A home that came later has none before it gets money.
            money = client.Account(address, 0, 0, 0)
        member = next((m for m in governance.members(self._query) if m.address == address), None)
        bond_micro = 0 if member is None else member.bond_micro
        found: dict[str, Any] = {
            "address": address,
            "name": self._title(address, home),
            "account": money,
            "bond_micro": bond_micro,
            "seat": None if member is None else member.seat,
            "home": home,
        }
        orders = [] if home is None else self._orders(home.number)
        held_by_orders = sum(order.margin_micro for order in orders)
        # Margins of requests, of offers, and of what was traded without orders.
        rest = money.held_micro - bond_micro - held_by_orders
        found["held_by"] = {
            "bond_micro": bond_micro,
            "orders_micro": held_by_orders,
            "requests_micro": rest,
        }
        return found if home is None else found | self._home_view(home, orders)

    def order(self, order_id: str, slot: int, home: int, **posted: Any) -> dict[str, Any] | None:
        """An order as it stands now, with its trades; None once it is withdrawn or forgotten."""
        del posted
        with self._app.at_rest():
            names = self._names()
            orders = client.orders_of(self._query, slot, home)
            found = next((order for order in orders if order.order_id == order_id), None)
            if found is None:
                return None
            trades = client.trades_of_home(self._query, slot, home)
            number = int(order_id.partition("-")[2])
            elsewhere = [row for row in self._elsewhere(slot) if row.number == number]
            # What the grid would have served counts as filled, until others have.
            left_wh = max(0, found.residual_wh - sum(row.energy_wh for row in elsewhere))
            return (
                self._slot(slot)
                | _named(found, names)
                | {
                    "residual_wh": left_wh,
                    "elsewhere": [_named(row, names) for row in elsewhere],
                    "status": client.slot_summary(self._query, slot).status,
                    "finality": self.finality(slot),
                    "trades": [
                        _named(trade, names)
                        for trade in trades
                        if order_id in (trade.bid_id, trade.ask_id)
                    ],
                }
            )

    def name_of(self, address: str) -> str:
        """What an account is called: its home's name, the meter's, the regulator, or itself."""
        for home in self._homes():
            if address == home.meter:
                return f"{home.name}'s meter"
            if address == home.address:
                return home.name
        return self._title(address, None)

    def finality(self, slot: int) -> str | None:
        """How final a slot's trades and bills are; None where there is no main chain.

        Of a home that does not keep it, by what its region has been shown.
        """
        member = self._app.params.region
        if member is None:
            return None
        main = None if self._main is None else self._main.query
        return finality_of_slot(self._query, main, member.region, slot)

    # -- parts -------------------------------------------------------------------------------

    def _homes(self) -> list[client.Home]:
        return homes_of(self._app)

    def _elsewhere(self, slot: int) -> list[client.Elsewhere]:
        """Return what was traded with other regions; nothing where the region does not."""
        if not tiers.exports(self._app.params.region):
            return []
        return client.traded_elsewhere(self._query, slot)

    def _home_view(self, home: client.Home, orders: list[client.Order]) -> dict[str, Any]:
        names = self._names()
        record = client.record(self._query, home.number)
        params, now = self._app.params, self._app.clock.slot_at(self._app.time_ms)
        recent = [kept for slot, kept in record.history if slot > now - params.history_slots]
        opened = [
            request
            for request in client.open_requests(self._query)[:REQUESTS_MAX]
            if request.home == home.number
        ]
        return {
            "total": client.total(self._query, home.number),
            "orders": [_named(order, names) for order in orders],
            "requests": [self._request(request, names) for request in opened],
            "record": {
                "unsettled": record.open,
                "contracted_slots": len(recent),
                "defaults": len(recent) - sum(recent),
                "of_the_last_slots": params.history_slots,
                "defaulted_slots": [slot for slot, kept in record.history if not kept],
            },
            "carbon": [
                msgspec.to_builtins(period)
                | _plain(carbon.report(self._query, period.period, home.number))
                for period in carbon.periods(self._query)
                if period.status == "open"
            ],
        }

    def _orders(self, number: int) -> list[client.Order]:
        """A home's orders whose margins are held: in slots that are not settled."""
        slots = set(client.open_slots(self._query))
        unsettled = self._app.value(client.UNSETTLED_KEY)
        if unsettled is not None:
            slots |= set(client.read_settled(unsettled))
        return [
            order for slot in sorted(slots) for order in client.orders_of(self._query, slot, number)
        ]

    def _request(self, request: client.Request, names: Mapping[int, str]) -> dict[str, Any]:
        return _named(request, names) | {
            "starts": self._local(request.start_ms),
            "ends": self._local(request.end_ms),
            "closes": self._local(request.closes_ms),
            "offered": [
                _named(offer, names) for offer in client.offers(self._query, request.request)
            ],
        }

    def _last_slot(self) -> int:
        """The last slot whose gate has closed; where surplus is shared, the last settled one."""
        closed = self._app.clock.next_gate_slot(self._app.time_ms) - 1
        if self._app.params.mechanism != "sharing":
            return closed
        return next(iter(client.settled_slots(self._query, 1)), closed)

    def _first_slot(self) -> int:
        """The slot in which the market began."""
        return self._app.clock.slot_at(self._app.clock.genesis_ms)

    def _asked_slot(self, question: Mapping[str, Any]) -> int | None:
        """The slot that a question names, if it names one. Raises `UnknownError`."""
        slot = _integer(question, "slot", 0, SLOT_MAX)
        if slot is not None and slot < self._first_slot():
            raise UnknownError(
                f"slot {slot} was before this market, whose first is {self._first_slot()}"
            )
        if slot is not None and self._app.clock.slot_start_market_ms(slot) > CALENDAR_END_MS:
            raise UnknownError(f"slot {slot} begins after the year 9999, where calendars end")
        return slot

    def _at(self) -> dict[str, Any]:
        clock, time_ms = self._app.clock, self._app.time_ms
        return {
            "height": self._app.height,
            "time_ms": time_ms,
            "market_ms": clock.market_ms(time_ms),
            "market_time": self._local(clock.market_ms(time_ms)),
            "slot": clock.slot_at(time_ms),
            "first_slot": self._first_slot(),
            "mechanism": self._app.params.mechanism,
            "currency": self._app.params.currency,
        }

    def _slot(self, slot: int) -> dict[str, Any]:
        start_ms = self._app.clock.slot_start_market_ms(slot)
        return {"slot": slot, "start_ms": start_ms, "starts": self._local(start_ms)}

    def _gate_ms(self, slot: int) -> int:
        clock = self._app.clock
        return clock.slot_start_market_ms(slot) - clock.gate_lead_ms

    def _local(self, market_ms: int) -> str:
        """Local wall clock: `2025-11-03 14:15`."""
        if self._offsets[0] != self._app.height:
            self._offsets = (self._app.height, client.utc_offsets(self._query))
        offset = 0
        for from_ms, minutes in self._offsets[1]:
            if from_ms <= market_ms:
                offset = minutes
        moment = datetime.fromtimestamp(market_ms / 1000, UTC) + timedelta(minutes=offset)
        return f"{moment:%Y-%m-%d %H:%M}"

    def _names(self) -> dict[int, str]:
        return {client.GRID: GRID_NAME} | {home.number: home.name for home in self._homes()}

    def _need(self, mechanisms: tuple[str, ...], what: str, instead: str) -> None:
        mechanism = self._app.params.mechanism
        if mechanism in mechanisms:
            return
        other = instead if mechanism != "sharing" else "market trades"
        raise AbsentError(
            f"this market has no {what}: its mechanism is {mechanism}; see `commonwatt {other}`"
        )

    def _title(self, address: str, home: client.Home | None) -> str:
        if home is not None:
            return home.name
        return "regulator" if address == self._app.params.regulator else address

    def _address(self, account: object) -> str:
        if isinstance(account, str) and is_address(account):
            return account
        if account == "regulator":
            return self._app.params.regulator
        return self._home(account).address

    def _home(self, name: object) -> client.Home:
        """The home of a name or an address."""
        homes = self._homes()
        found = [home for home in homes if name in (home.name, home.address)]
        if len(found) == 1:
            return found[0]
        if found:
            raise UnknownError(
                f"{len(found)} homes are called {str(name)[:64]!r}; name one by its account: "
                f"{_some(home.address for home in found)}"
            )
        raise UnknownError(
            f"no home is called {str(name)[:64]!r}; there are {_some(home.name for home in homes)}"
        )


def homes_of(app: Application) -> list[client.Home]:
    """Return a chain's homes, in the order of their numbers; a main chain has none."""
    return [] if app.params.main is not None else client.homes(app.query)


def _plain(value: msgspec.Struct) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(value)
    return found


def _named(row: msgspec.Struct, names: Mapping[int, str]) -> dict[str, Any]:
    """Return a row with a name beside each home's number."""
    found = _plain(row)
    for column in ("home", "buyer", "seller", "partner"):
        number = found.get(column)
        if number is not None and (number or column == "seller"):
            found[f"{column}_name"] = names.get(number, str(number))
    return found


def _some(names: Iterable[str]) -> str:
    rows = list(names)
    return ", ".join(rows[:NAMES_SHOWN_MAX]) + (", ..." if len(rows) > NAMES_SHOWN_MAX else "")


def _integer(question: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    return None if question.get(name) is None else integer(question, name, low, high)
