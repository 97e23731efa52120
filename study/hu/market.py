"""Hu's case study on a chain: agents bid cycle after cycle, the contracts match high with low.

Each cycle is a slot. Its orders are posted once the cycle before is cleared, so every agent knows
what its last order brought. What the producers sell they deliver; what the consumers do not get
from them the regulator supplies at its price, the tariff.
"""

from typing import Final

import msgspec

from hems.agents.base import Agent, Outcome, Prior, Situation
from hems.agents.hu import MODES, Mode
from hems.agents.hu_consumer import HuConsumerAgent, HuConsumerSettings
from hems.agents.hu_producer import HuProducerAgent, HuProducerSettings
from hems.bid import Band
from hems.sources import community_data
from market import client
from market.genesis import HomeEntry, MarketParams
from study.chain import Chain
from study.errors import InvariantError, SettingError
from study.money import key_of

MINUTE_MS: Final = 60_000
START_MS: Final = 1_351_692_000_000
BALANCE_MICRO: Final = 1_000_000_000
CAP_W: Final = 1_000_000
DAYS_MAX: Final = 31
# Table 2: supply in a cycle [Wh], cost and initial price [micro-USD per kWh].
PRODUCERS: Final = (
    (1_600, 16_000, 17_000),
    (400, 17_000, 18_000),
    (600, 18_000, 19_000),
    (400, 24_000, 25_000),
    (1_000, 28_000, 29_000),
    (3_000, 21_000, 22_000),
    (200, 23_000, 24_000),
)
# Table 3: portion of the demand in percent, value and initial price [micro-USD per kWh].
CONSUMERS: Final = (
    (10, 48_000, 47_000),
    (16, 52_000, 51_000),
    (30, 56_000, 55_000),
    (8, 53_000, 52_000),
    (6, 46_000, 45_000),
    (20, 51_000, 50_000),
    (12, 52_000, 51_000),
)
# As printed they add up to 102 percent.
PORTIONS: Final = sum(row[0] for row in CONSUMERS)


def mode_of(text: str) -> Mode:
    """Read `--mode`. Raises `SettingError`."""
    for mode in MODES:
        if text == mode:
            return mode
    raise SettingError(f"mode {text!r}: one of {', '.join(MODES)}")


class Setting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hu's case with what its text leaves open.

    Parameters
    ----------
    seed : of the agents' random steps.
    mode : of the producers: "literal" (Hu 3 and 4 as printed) or "hill_climb".
    days : how long.
    cycle_minutes : a bidding cycle.
    peak_wh : demand in the highest cycle of the day; calibrated so that the dearest ask sold in the
        first cycle is the paper's first price, 0.024. [Wh]
    regulator_micro_per_kwh : P_regulator.
    step_wh : Δq.
    """

    seed: int = 1
    mode: Mode = "literal"
    days: int = 2
    cycle_minutes: int = 15
    peak_wh: int = 8_550
    regulator_micro_per_kwh: int = 56_000
    step_wh: int = 50

    def check(self) -> "Setting":
        """Return the setting if it can be meant. Raises `SettingError`."""
        if not 1 <= self.days <= DAYS_MAX:
            raise SettingError(f"days {self.days}: 1 to {DAYS_MAX}")
        if not 1 <= self.cycle_minutes <= 60 or 60 % self.cycle_minutes:
            raise SettingError(f"cycle_minutes {self.cycle_minutes}: must divide 60")
        if min(self.peak_wh, self.regulator_micro_per_kwh, self.step_wh) < 1:
            raise SettingError("peak_wh, regulator_micro_per_kwh and step_wh: at least 1")
        return self

    @property
    def cycles(self) -> int:
        """How many cycles there are."""
        return self.days * 1440 // self.cycle_minutes

    def demand_wh(self, cycle: int) -> int:
        """Return what all consumers need in a cycle: the mean home's day, scaled. [Wh]"""
        by_hour = community_data.LOAD_TYPES_W[-1]
        hour = cycle * self.cycle_minutes // 60 % 24
        return by_hour[hour] * self.peak_wh // max(by_hour)


class Cycle(msgspec.Struct, frozen=True):
    """What a cycle brought: demand and what was traded [Wh], and what for. [micro]"""

    demand_wh: int
    traded_wh: int
    traded_micro: int
    high_micro_per_kwh: int

    @property
    def price(self) -> float:
        """The mean price of its trades. [micro/kWh], 0 without any"""
        return self.traded_micro * 1000 / self.traded_wh if self.traded_wh else 0.0


class Course(msgspec.Struct, frozen=True):
    """A run, cycle by cycle, and what it took of the chain."""

    cycles: tuple[Cycle, ...]
    blocks: int
    transactions: int
    refused: dict[str, int]


class Market:
    """Producers 1 to 7, consumers 8 to 14, and the chain they trade on."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting.check()
        count = len(PRODUCERS) + len(CONSUMERS)
        self.keys = [key_of("hu", number) for number in range(1, count + 1)]
        self.meters = [key.derive("meter") for key in self.keys]
        self.chain = Chain(self._params())
        self.clock = self.chain.params.clock()
        self.first = START_MS // self.clock.slot_ms + 1
        self.agents = self._agents()
        self.band = Band(0, setting.regulator_micro_per_kwh)
        self._read = self.first

    def _agents(self) -> list[Agent]:
        seed = 1_000 * self.setting.seed
        producers: list[Agent] = [
            HuProducerAgent(
                HuProducerSettings(
                    seed=seed + place,
                    mode=self.setting.mode,
                    cost_micro_per_kwh=cost,
                    price_micro_per_kwh=price,
                    step_wh=self.setting.step_wh,
                )
            )
            for place, (_, cost, price) in enumerate(PRODUCERS)
        ]
        consumers: list[Agent] = [
            HuConsumerAgent(
                HuConsumerSettings(
                    seed=seed + 100 + place, value_micro_per_kwh=value, price_micro_per_kwh=price
                )
            )
            for place, (_, value, price) in enumerate(CONSUMERS)
        ]
        return [*producers, *consumers]

    def _params(self) -> MarketParams:
        entries = tuple(
            HomeEntry(
                address=key.address,
                meter=meter.address,
                name=f"{'producer' if place < len(PRODUCERS) else 'consumer'}-{place + 1}",
                role="producer" if place < len(PRODUCERS) else "consumer",
                import_cap_w=CAP_W,
                export_cap_w=CAP_W if place < len(PRODUCERS) else 0,
                balance_micro=BALANCE_MICRO,
            )
            for place, (key, meter) in enumerate(zip(self.keys, self.meters, strict=True))
        )
        return MarketParams(
            chain_id="huang",
            genesis_ms=START_MS,
            market_start_ms=START_MS,
            time_lapse=1,
            slot_minutes=self.setting.cycle_minutes,
            currency="USD",
            regulator=key_of("regulator").address,
            homes=entries,
            utc_offsets=((0, 0),),
            tariffs=((0, ((0, self.setting.regulator_micro_per_kwh),)),),
            feed_in=((0, 0),),
            mechanism="high_low",
            trade_price="ask",
        )

    def live(self) -> Course:
        """Trade all cycles."""
        cycles = [self._cycle(cycle) for cycle in range(self.setting.cycles)]
        chain = self.chain
        return Course(tuple(cycles), chain.height, chain.transactions, dict(chain.refused))

    def _cycle(self, cycle: int) -> Cycle:
        slot, demand_wh = self.first + cycle, self.setting.demand_wh(cycle)
        self._post_orders(slot, demand_wh)
        self._post_readings()
        self.chain.block(max(self.clock.gate_close_real_ms(slot - 1), self.chain.time_ms) + 1)
        self.chain.block(self.clock.gate_close_real_ms(slot))
        summary = client.slot_summary(self.chain.query, slot)
        trades = [t for t in client.trades_of_slot(self.chain.query, slot) if not t.backstop]
        for number, agent in enumerate(self.agents, start=1):
            bought = [trade for trade in trades if trade.buyer == number]
            sold = [trade for trade in trades if trade.seller == number]
            agent.observe(
                Outcome(
                    slot * self.clock.slot_ms,
                    self.band,
                    sum(trade.energy_wh for trade in bought),
                    sum(trade.energy_wh for trade in sold),
                    sum(trade.cost_micro + trade.fee_micro for trade in bought),
                    sum(trade.cost_micro for trade in sold),
                    summary.low_micro_per_kwh,
                    summary.high_micro_per_kwh,
                )
            )
        traded = sum(trade.energy_wh for trade in trades)
        cost = sum(trade.cost_micro for trade in trades)
        return Cycle(demand_wh, traded, cost, summary.high_micro_per_kwh)

    def _post_orders(self, slot: int, demand_wh: int) -> None:
        prices = client.prices(self.chain.query, slot)
        prior = None
        if prices.last_high_micro_per_kwh:
            prior = Prior(prices.last_low_micro_per_kwh, prices.last_high_micro_per_kwh)
        for place, agent in enumerate(self.agents):
            supply_wh, need_wh = self._quantities(place, demand_wh)
            situation = Situation(
                slot * self.clock.slot_ms,
                self.clock.slot_ms,
                self.band,
                prior=prior,
                need_wh=need_wh,
                surplus_wh=supply_wh,
                export_room_wh=supply_wh,
            )
            for order in agent.orders(situation):
                side = "buy" if order.side == "bid" else "sell"
                call = client.post_order(slot, side, order.energy_wh, order.price_micro_per_kwh)
                self.chain.post(self.keys[place], call)

    def _post_readings(self) -> None:
        """Read the meters of the slots that have ended: what was sold is given, demand is taken."""
        now_ms = self.chain.time_ms
        while self.clock.slot_end_real_ms(self._read) <= now_ms:
            slot = self._read
            self._read += 1
            given: dict[int, int] = {}
            for trade in client.trades_of_slot(self.chain.query, slot):
                if not trade.backstop:
                    given[trade.seller] = given.get(trade.seller, 0) + trade.energy_wh
            demand_wh = self.setting.demand_wh(slot - self.first)
            for place, meter in enumerate(self.meters):
                _, taken_wh = self._quantities(place, demand_wh)
                call = client.post_reading(slot, taken_wh, given.get(place + 1, 0), slot)
                self.chain.post(meter, call)

    def _quantities(self, place: int, demand_wh: int) -> tuple[int, int]:
        """What somebody can supply, and what they need. [Wh]"""
        if place < len(PRODUCERS):
            return PRODUCERS[place][0], 0
        return 0, demand_wh * CONSUMERS[place - len(PRODUCERS)][0] // PORTIONS


def run_market(setting: Setting) -> Course:
    """Run Hu's case once.

    Raises
    ------
    InvariantError
        The contracts refuse what the agents post: the case is not what it should be.
    """
    course = Market(setting).live()
    if course.refused:
        raise InvariantError(f"the contracts refused {course.refused}")
    return course
