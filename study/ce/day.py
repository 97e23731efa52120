"""A day of CE's community (figure 2's flow) on a chain: requests, offers, gates, readings, bills.

A window of `block_minutes` goes like this, with a block for each step: the gates of the window
before close, and every offerer is told; homes whose interval begins in the next window say what
they lack in it, as requests; all who can supply, offer; and so on. On the hour the meters are read.

What a generator lacks in an interval it first takes out of its battery, what it has over goes in
(CE 3.1, 4.1). To the requests, in an order of its own, it offers what its battery can give beside
all it has promised.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
import numpy as np

from hems.agents.base import Situation
from hems.agents.ce import CeAgent, CeSettings
from hems.agents.draws import shuffled
from hems.bid import Band, Suggested
from market import client
from market.client import SlotSummary
from market.genesis import HomeEntry, MarketParams
from study.ce.setting import DAY_MINUTES, Interval, Setting, Types, User, draw_users
from study.ce.store import AHEAD_MINUTES, Store, spread
from study.chain import chain_of
from study.errors import InvariantError
from study.money import FEED_IN_MICRO_PER_KWH, TARIFF_BANDS, key_of

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
# Thursday, 1 November 2012, in New South Wales, standard time: the paper's month.
DAY_START_MS: Final = 1_351_692_000_000
UTC_OFFSET_MINUTES: Final = 600
BALANCE_MICRO: Final = 1_000_000_000
CAP_W: Final = 50_000


class Hour(msgspec.Struct, frozen=True):
    """What the whole community did in an hour of the day. [Wh]

    need_wh : what users lack after own generation and storage: what they take from the system.
    traded_wh : between users. grid_wh : taken from the grid. fed_in_wh : given to it.
    returned_wh : of that, what consumers gave back unused of what they had bought: the rounding of
        intervals to slots.
    price_micro : what the trades cost, all together. [micro]
    """

    need_wh: int
    traded_wh: int
    grid_wh: int
    fed_in_wh: int
    returned_wh: int
    price_micro: int


class ClassSum(msgspec.Struct, frozen=True):
    """A class's day: how many, what they used and generated [Wh], what they paid and would. [micro]

    gross_micro : the traditional bill, gross-metered: the tariff for all load, the feed-in tariff
    for all generation. net_micro : the same readings without a market, billed net. trades_micro :
    what was paid for what was bought; paid_micro has it in it.
    """

    users: int
    load_wh: int
    pv_wh: int
    import_wh: int
    bought_wh: int
    sold_wh: int
    grid_wh: int
    fed_in_wh: int
    paid_micro: int
    trades_micro: int
    gross_micro: int
    net_micro: int


class Day(msgspec.Struct, frozen=True):
    """A community's day: hour by hour, by class, and what it took of the chain."""

    hours: tuple[Hour, ...]
    consumers: ClassSum
    generators: ClassSum
    stored_wh: int
    blocks: int
    transactions: int
    trades: int
    refused: dict[str, int]


class Community:
    """The homes of a day, their batteries, meters and agents, and the chain they trade on."""

    def __init__(self, setting: Setting, types: Types) -> None:
        self.setting = setting.check()
        self.users = draw_users(setting, types)
        self.keys = [key_of("home", user.number) for user in self.users]
        self.meters = [key.derive("meter") for key in self.keys]
        self.chain = chain_of(self._params(), setting.authorities)
        self.stores = {
            user.number: Store(setting.storage_wh, 60 * setting.hours[0])
            for user in self.users
            if user.generates
        }
        self.agents = {
            user.number: CeAgent(
                CeSettings(seed=1_000_000 * setting.seed + user.number, spread=setting.spread)
            )
            for user in self.users
        }
        length = DAY_MINUTES + AHEAD_MINUTES
        self._imports = {user.number: np.zeros(length, np.int64) for user in self.users}
        self._exports = {number: np.zeros(length, np.int64) for number in self.stores}
        self._starting: dict[int, list[tuple[User, Interval]]] = {}
        for user in self.users:
            for interval in user.intervals:
                window = interval.start // setting.block_minutes * setting.block_minutes
                self._starting.setdefault(window, []).append((user, interval))
        self._asked: dict[int, tuple[int, int]] = {}
        self._offered: dict[tuple[int, int], int] = {}
        self._bands: dict[int, Band] = {}

    def _params(self) -> MarketParams:
        # An hour before, so that the first intervals can be asked for.
        start_ms = _at_ms(60 * self.setting.hours[0]) - HOUR_MS
        entries = tuple(
            HomeEntry(
                address=key.address,
                meter=meter.address,
                name=f"user-{user.number}",
                role="prosumer" if user.generates else "consumer",
                import_cap_w=CAP_W,
                export_cap_w=CAP_W if user.generates else 0,
                battery_wh=self.setting.storage_wh if user.generates else 0,
                pv_w=self.setting.pv_w if user.generates else 0,
                balance_micro=BALANCE_MICRO,
            )
            for user, key, meter in zip(self.users, self.keys, self.meters, strict=True)
        )
        return MarketParams(
            chain_id="ce-sdt",
            genesis_ms=start_ms,
            market_start_ms=start_ms,
            time_lapse=1,
            slot_minutes=60,
            currency="AUD",
            regulator=key_of("regulator").address,
            homes=entries,
            utc_offsets=((0, UTC_OFFSET_MINUTES),),
            tariffs=((0, TARIFF_BANDS),),
            feed_in=((0, FEED_IN_MICRO_PER_KWH),),
            feed_in_enabled=self.setting.feed_in,
            mechanism="request_offer",
            offer_timeout_ms=self.setting.block_minutes * MINUTE_MS - 2_000,
        )

    # -- the day
    def live(self) -> Day:
        """Trade, deliver and settle the day."""
        window = self.setting.block_minutes
        first, last = (60 * hour for hour in self.setting.hours)
        for minute in range(first - window, last, window):
            wanted = self._request(minute)
            if wanted:
                self._offer(minute, wanted)
                self._answer(minute + window)
        self._read(self.setting.hours[1] - 1)
        # The first takes the last readings, the next settles on them.
        for step in range(2):
            self.chain.block(_at_ms(last) + step)
        return self._sum()

    def _request(self, minute: int) -> list[Mapping[str, Any]]:
        """Say what is lacking in the intervals that begin in the next window; read meters.

        Returns the requests that were taken.
        """
        for store in self.stores.values():
            store.pass_to(minute)
        asked = 0
        for user, interval in self._starting.get(minute + self.setting.block_minutes, ()):
            lack_wh = interval.load_wh - interval.pv_wh
            if user.generates:
                lack_wh = self._balance(user, interval, lack_wh)
            if lack_wh > 0:
                self._ask(user, interval, lack_wh)
                asked += 1
        is_read = minute % 60 == 0 and minute > 60 * self.setting.hours[0]
        if is_read:
            self._read(minute // 60 - 1)
        if not (asked or is_read):
            return []
        events = self.chain.block(_at_ms(minute))
        return [event.data for event in events if event.name == "request_posted"]

    def _balance(self, user: User, interval: Interval, lack_wh: int) -> int:
        """Store what a generator has over; take what it lacks from its battery, return the rest."""
        store, span = self.stores[user.number], (interval.start, interval.end)
        if lack_wh > 0:
            own_wh = min(lack_wh, store.room(*span))
            store.add(*span, -own_wh)
            return lack_wh - own_wh
        store.add(*span, -lack_wh)
        return 0

    def _ask(self, user: User, interval: Interval, lack_wh: int) -> None:
        start_ms, end_ms = _at_ms(interval.start), _at_ms(interval.end)
        band = self._band(start_ms // HOUR_MS)
        situation = Situation(start_ms, end_ms - start_ms, band, need_wh=lack_wh)
        for order in self.agents[user.number].orders(situation):
            call = client.post_request(
                start_ms, end_ms, order.energy_wh, True, order.price_micro_per_kwh
            )
            self.chain.post(self.keys[user.number - 1], call)
        self._imports[user.number][interval.start : interval.end] += spread(
            lack_wh, interval.end - interval.start
        )

    def _offer(self, minute: int, requests: Iterable[Mapping[str, Any]]) -> None:
        """Offer what batteries can give, each home in an order of its own until it has no more."""
        prices_of: dict[int, Suggested] = {}
        known: dict[int, tuple[Mapping[str, Any], Situation]] = {}
        for wanted in requests:
            start_ms, end_ms = wanted["start_ms"], wanted["end_ms"]
            self._asked[wanted["request"]] = (_minute(start_ms), _minute(end_ms))
            slot = start_ms // HOUR_MS
            if slot not in prices_of:
                prices = client.prices(self.chain.query, slot)
                prices_of[slot] = Suggested(
                    prices.suggested_sell_micro_per_kwh, prices.suggested_buy_micro_per_kwh
                )
            situation = Situation(start_ms, end_ms - start_ms, self._band(slot), prices_of[slot])
            known[wanted["request"]] = (wanted, situation)
        for number in self.stores:
            # Were they all to begin with the first request, the others would get nothing.
            for request in shuffled(self.agents[number].settings.seed, known):
                self._offer_to(*known[request], number)
        self.chain.block(_at_ms(minute) + MINUTE_MS * self.setting.block_minutes // 2)

    def _offer_to(self, wanted: Mapping[str, Any], situation: Situation, number: int) -> None:
        """Let a home offer what it still can to a request of another."""
        request, store = wanted["request"], self.stores[number]
        start, end = self._asked[request]
        room_wh = min(wanted["energy_wh"], store.room(start, end))
        if number == wanted["home"] or room_wh <= 0:
            return
        own = situation._replace(surplus_wh=room_wh, export_room_wh=room_wh)
        for order in self.agents[number].orders(own):
            energy_wh, price = order.energy_wh, order.price_micro_per_kwh
            self.chain.post(self.keys[number - 1], client.post_offer(request, energy_wh, price))
            self._offered[request, number] = energy_wh
            store.add(start, end, -energy_wh)

    def _answer(self, minute: int) -> None:
        """Close the window's gates: keep what is accepted, take back what is not."""
        for event in self.chain.block(_at_ms(minute) - 1_000):
            if event.name != "offer_answered":
                continue
            number, accepted_wh = event.data["home"], event.data["accepted_wh"]
            start, end = self._asked[event.data["request"]]
            store = self.stores[number]
            store.add(start, end, self._offered.pop((event.data["request"], number)))
            store.add(start, end, -accepted_wh)
            self._exports[number][start:end] += spread(accepted_wh, end - start)
        if self._offered:
            raise InvariantError("an offer was not answered when its request's gate closed")
        self._asked.clear()

    def _read(self, hour: int) -> None:
        """Read all meters of an hour."""
        minutes = slice(60 * hour, 60 * hour + 60)
        slot = _at_ms(60 * hour) // HOUR_MS
        for user, meter in zip(self.users, self.meters, strict=True):
            export_wh = 0
            if user.generates:
                store = self.stores[user.number]
                store.pass_to(60 * hour + 60)
                export_wh = int(
                    self._exports[user.number][minutes].sum() + store.overflow[minutes].sum()
                )
            import_wh = int(self._imports[user.number][minutes].sum())
            self.chain.post(meter, client.post_reading(slot, import_wh, export_wh, slot))

    def _band(self, slot: int) -> Band:
        """Return the slot's tariff and feed-in, asked for once: nobody posts other tables."""
        known = self._bands.get(slot)
        if known is None:
            grid = client.grid_price(self.chain.query, slot)
            known = Band(grid.feed_in_micro_per_kwh, grid.tariff_micro_per_kwh)
            self._bands[slot] = known
        return known

    # -- what came of it
    def _sum(self) -> Day:
        query, first = self.chain.query, _at_ms(0) // HOUR_MS
        summaries = [
            client.slot_summary(query, first + hour) for hour in range(*self.setting.hours)
        ]
        unsettled = [s.slot for s in summaries if s.status != "settled"]
        if unsettled:
            raise InvariantError(f"slots {unsettled} are not settled at the day's end")
        generating = [user.generates for user in self.users]
        hours = [self._hour(summary, generating) for summary in summaries]
        return Day(
            hours=tuple(hours),
            consumers=self._class(False),
            generators=self._class(True),
            stored_wh=sum(store.energy_wh for store in self.stores.values()),
            blocks=self.chain.height,
            transactions=self.chain.transactions,
            trades=sum(summary.trades for summary in summaries),
            refused=dict(self.chain.refused),
        )

    def _hour(self, summary: SlotSummary, generating: list[bool]) -> Hour:
        bills = client.bills_of_slot(self.chain.query, summary.slot)
        return Hour(
            need_wh=summary.import_wh,
            traded_wh=summary.traded_wh,
            grid_wh=summary.grid_wh,
            fed_in_wh=summary.fed_in_wh,
            returned_wh=sum(bill.fed_in_wh for bill in bills if not generating[bill.home - 1]),
            price_micro=summary.traded_micro,
        )

    def _class(self, generates: bool) -> ClassSum:
        members = [user for user in self.users if user.generates == generates]
        totals = {total.home: total for total in client.totals(self.chain.query)}
        sums: dict[str, Any] = {
            name: sum(getattr(totals[user.number], name) for user in members)
            for name in ("import_wh", "bought_wh", "sold_wh", "grid_wh", "fed_in_wh")
        }
        return ClassSum(
            users=len(members),
            load_wh=sum(user.load_wh for user in members),
            pv_wh=sum(user.pv_wh for user in members),
            paid_micro=sum(totals[user.number].total_micro for user in members),
            trades_micro=sum(totals[user.number].trades_cost_micro for user in members),
            gross_micro=sum(map(self._gross_micro, members)),
            net_micro=sum(totals[user.number].grid_only_micro for user in members),
            **sums,
        )

    def _gross_micro(self, user: User) -> int:
        total = 0
        for hour in range(*self.setting.hours):
            band = self._band(_at_ms(60 * hour) // HOUR_MS)
            load_wh = pv_wh = 0.0
            for interval in user.intervals:
                share = min(interval.end, 60 * hour + 60) - max(interval.start, 60 * hour)
                if share > 0:
                    length = interval.end - interval.start
                    load_wh += interval.load_wh * share / length
                    pv_wh += interval.pv_wh * share / length
            total += round(
                (load_wh * band.tariff_micro_per_kwh - pv_wh * FEED_IN_MICRO_PER_KWH) / 1000
            )
        return total


def run_day(setting: Setting, types: Types) -> Day:
    """Let a community live a day.

    Raises
    ------
    InvariantError
        The contracts refuse what its homes post: the day is not what it should be.
    """
    day = Community(setting, types).live()
    if day.refused:
        raise InvariantError(f"the contracts refused {day.refused}")
    return day


def _at_ms(minute: int) -> int:
    return DAY_START_MS + minute * MINUTE_MS


def _minute(at_ms: int) -> int:
    return (at_ms - DAY_START_MS) // MINUTE_MS
