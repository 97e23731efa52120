"""A street of whole homes on the contracts: they forecast, plan, bid, deliver and are settled.

As in a running street a slot is traded two slots ahead, cleared at its gate, and settled on what
the homes' meters then read. By request and offer a home's plan for a slot becomes its requests and
what it has to spare (`node.home.requests`).
"""

from collections.abc import Sequence
from datetime import date
from typing import Final

import msgspec

from hems import civil
from hems.bid import Suggested
from hems.config import HomeConfig, PlanSettings
from hems.delivery import Delivery
from hems.home import HomeEnergyManager, MarketView
from market import client
from market.genesis import HomeEntry, MarketParams
from node.home import trading, view
from node.home.requests import Requests
from node.membership.joining import EXPORT_CAP_W, IMPORT_CAP_W
from study.chain import Chain
from study.money import FEED_IN_MICRO_PER_KWH, TARIFF_BANDS, key_of
from wire.keys import SigningKey

ZONE: Final = "Australia/Sydney"
FIRST_DAY: Final = date(2026, 11, 20)
LEAD_SLOTS: Final = 2
BALANCE_MICRO: Final = 1_000_000_000
# Of New South Wales' grid, as the testnet's. [mg/Wh]
INTENSITY_MG_PER_WH: Final = 680
# A home offers to so many requests at once (`node.home.requests`), and then to the rest.
OFFER_ROUNDS_MAX: Final = 64
# A plan takes milliseconds. The limit is of wall time: on a busy machine rules would trade.
UNHURRIED: Final = PlanSettings(time_limit_ms=60_000)


class Street:
    """The homes' managers and keys, and the chain they trade on.

    Parameters
    ----------
    configs : sequence of HomeConfig
    mechanism : str, optional
        Of the contracts; None where nothing is traded.
    slot_minutes : int
    """

    def __init__(
        self, configs: Sequence[HomeConfig], mechanism: str | None, slot_minutes: int = 15
    ) -> None:
        self.mechanism = mechanism
        self.slot_ms = slot_minutes * civil.MINUTE_MS
        zone = civil.zone_of(ZONE)
        start_ms = civil.day_start_ms(civil.day_number(FIRST_DAY), zone)
        self.first_slot = start_ms // self.slot_ms
        self.regulator = key_of("street", "regulator")
        self.keys = [key_of("street", number) for number in range(1, len(configs) + 1)]
        self.meters = [key.derive("meter") for key in self.keys]
        params = MarketParams(
            chain_id="street",
            genesis_ms=start_ms,
            market_start_ms=start_ms,
            time_lapse=1,
            slot_minutes=slot_minutes,
            currency="AUD",
            regulator=self.regulator.address,
            homes=tuple(map(_entry, range(len(configs)), self.keys, self.meters, configs)),
            utc_offsets=((0, civil.offset_ms(start_ms, zone) // civil.MINUTE_MS),),
            tariffs=((0, TARIFF_BANDS),),
            feed_in=((0, FEED_IN_MICRO_PER_KWH),),
            intensities=((0, ((0, INTENSITY_MG_PER_WH),)),),
        )
        if mechanism is not None:
            params = msgspec.structs.replace(params, mechanism=mechanism)
        self.params = params
        self.clock = self.params.clock()
        self.chain = Chain(self.params)
        self.homes = [
            HomeEnergyManager(msgspec.structs.replace(config, planning=UNHURRIED))
            for config in configs
        ]
        self.delivered: list[list[Delivery]] = [[] for _ in configs]
        self._requests = [
            Requests(self.chain.query, number, self.slot_ms)
            for number in range(1, len(configs) + 1)
        ]
        self._tariffs: dict[int, int] = {}
        for home in self.homes:
            home.plan_slot(start_ms, self.slot_ms, MarketView(self.tariff, FEED_IN_MICRO_PER_KWH))

    @property
    def slots_per_day(self) -> int:
        """How many slots a day has."""
        return civil.DAY_MS // self.slot_ms

    def tariff(self, at_ms: int) -> int:
        """Return the contract's tariff at a moment. [micro/kWh]"""
        slot = at_ms // self.slot_ms
        if slot not in self._tariffs:
            grid = client.grid_price(self.chain.query, slot)
            self._tariffs[slot] = grid.tariff_micro_per_kwh
        return self._tariffs[slot]

    def live(self, days: int) -> None:
        """Trade and deliver for some days; the last slot's readings are in then."""
        last = self.first_slot + days * self.slots_per_day
        for slot in range(self.first_slot, last):
            gate_ms = self.clock.gate_close_real_ms(slot + 1)
            self.chain.block(gate_ms)
            if self.mechanism not in (None, "sharing"):
                self._hear(slot + 1)
            self._trade(slot + LEAD_SLOTS)
            self._read(slot)
            self.chain.block(self.clock.slot_end_real_ms(slot))
        # The block after the last readings settles on them.
        self.chain.block(self.clock.slot_end_real_ms(last - 1) + 1)

    def _trade(self, slot: int) -> None:
        """Plan a slot, and post what is wanted and what is to spare."""
        seen = self._view(slot)
        for place, home in enumerate(self.homes):
            record = client.record(self.chain.query, place + 1)
            own = seen._replace(strain=view.strain(record, slot, self.params))
            orders = home.plan_slot(slot * self.slot_ms, self.slot_ms, own).orders
            if self.mechanism == "request_offer":
                calls = self._requests[place].plan(slot, orders)
            elif self.mechanism in (None, "sharing"):
                calls = []
            else:
                calls = [trading.call_of(order, slot) for order in orders]
            for call in calls:
                self.chain.post(self.keys[place], call)
        self.chain.block(self.chain.time_ms + 1_000)
        if self.mechanism == "request_offer":
            self._offer()

    def _offer(self) -> None:
        """Let homes offer what they have to spare to what is asked for."""
        for _ in range(OFFER_ROUNDS_MAX):
            offers = [
                (key, call)
                for key, requests in zip(self.keys, self._requests, strict=True)
                for call in requests.offers()
            ]
            if not offers:
                return
            for key, call in offers:
                self.chain.post(key, call)
            self.chain.block(self.chain.time_ms + 1_000)

    def _read(self, slot: int) -> None:
        seen = self._view(slot)
        for place, (home, meter) in enumerate(zip(self.homes, self.meters, strict=True)):
            read = home.deliver(slot * self.slot_ms, self.slot_ms, seen)
            self.delivered[place].append(read)
            call = client.post_reading(slot, read.import_wh, read.export_wh, slot)
            self.chain.post(meter, call)

    def _hear(self, slot: int) -> None:
        """Tell the homes how a slot was cleared."""
        start_ms = slot * self.slot_ms
        for number, home in enumerate(self.homes, start=1):
            # By request and offer a slot without trades is never said to be cleared.
            outcome = trading.outcome(self.chain.query, slot, start_ms, number)
            outcome = outcome._replace(final=True)
            net_wh = outcome.bought_wh - outcome.sold_wh
            if net_wh:
                home.commit(start_ms, net_wh)
            home.observe([outcome])

    def _view(self, slot: int) -> MarketView:
        prices = client.prices(self.chain.query, slot)
        return MarketView(
            self.tariff,
            prices.feed_in_micro_per_kwh,
            Suggested(prices.suggested_sell_micro_per_kwh, prices.suggested_buy_micro_per_kwh),
            self.params.penalty_micro_per_kwh,
            view.prior_of(prices),
            EXPORT_CAP_W,
        )


def _entry(place: int, key: SigningKey, meter: SigningKey, config: HomeConfig) -> HomeEntry:
    return HomeEntry(
        address=key.address,
        meter=meter.address,
        name=f"home-{place + 1:02d}",
        role="prosumer",
        import_cap_w=IMPORT_CAP_W,
        export_cap_w=EXPORT_CAP_W,
        battery_wh=config.battery.capacity_wh if config.battery else 0,
        balance_micro=BALANCE_MICRO,
    )
