"""What each agent earns: a street of homes trades by the real contracts, one agent at a time.

    uv run python -m bench.agents [--homes 12] [--days 1] [--seeds 1,2] [--only ce,mpc] [--jobs 2]
        [--picture FILE]

Homes post orders to `market.app` two slots ahead, as in a running street; the contracts clear at
the gate, and settle on what the homes' meters then read. In process and in virtual time: no
network, no consensus. What a home earns is its saving: what the same readings would have cost at
the grid's prices, minus its bills. The baseline is the street of zero-intelligence agents.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date
from multiprocessing import Pool
from pathlib import Path
from textwrap import wrap
from typing import Final, NamedTuple

import msgspec

from bench.figures import Said, command, figure
from hems import civil
from hems.agents.base import Outcome, Prior
from hems.bid import Band, Suggested
from hems.config import ConstantHome, HomeConfig, PlanSettings
from hems.forecast.plots import bars_svg
from hems.home import HomeEnergyManager, MarketView
from hems.neighbourhood import built_in, with_storage
from market import client
from market.app import Application, BlockEnv
from market.client import Call
from market.genesis import HomeEntry, MarketParams
from node import trading
from node.joining import EXPORT_CAP_W, IMPORT_CAP_W
from testnet.street import (
    BALANCE_MICRO,
    FEED_IN_MICRO_PER_KWH,
    TARIFF_BANDS,
)
from wire.keys import SigningKey
from wire.transaction import CheckedTransaction

ZONE: Final = "Australia/Sydney"
FIRST_DAY: Final = date(2026, 11, 20)
SLOT_MS: Final = 15 * civil.MINUTE_MS
LEAD_SLOTS: Final = 2
VALID_MS: Final = 3_600_000
REGULATOR_PRICE: Final = 200_000
PLANT_W: Final = 2_000
LINE_LETTERS: Final = 14
# A plan takes milliseconds. The limit is of wall time: on a busy machine rules would trade.
UNHURRIED: Final = PlanSettings(time_limit_ms=60_000)


class Run(NamedTuple):
    """A street: its name in the table, its homes, and those whose agent the row is about."""

    name: str
    homes: list[HomeConfig]
    about: list[int]


class Street:
    """The contracts, and the homes' managers and keys."""

    def __init__(self, configs: list[HomeConfig]) -> None:
        start_ms = civil.day_start_ms(civil.day_number(FIRST_DAY), civil.zone_of(ZONE))
        self.first_slot = start_ms // SLOT_MS
        regulator = SigningKey(bytes([255]) * 32)
        self.keys = [SigningKey(bytes([n]) * 32) for n in range(1, len(configs) + 1)]
        self.meters = [key.derive("meter") for key in self.keys]
        self.params = MarketParams(
            chain_id="bench",
            genesis_ms=start_ms,
            market_start_ms=start_ms,
            time_lapse=1,
            slot_minutes=SLOT_MS // civil.MINUTE_MS,
            currency="AUD",
            regulator=regulator.address,
            homes=tuple(map(_entry, range(len(configs)), self.keys, self.meters, configs)),
            utc_offsets=((0, civil.offset_ms(start_ms, civil.zone_of(ZONE)) // civil.MINUTE_MS),),
            tariffs=((0, TARIFF_BANDS),),
            feed_in=((0, FEED_IN_MICRO_PER_KWH),),
        )
        self.clock = self.params.clock()
        self.app = Application(self.params)
        self.app.commit(self.app.genesis())
        self.homes = [
            HomeEnergyManager(msgspec.structs.replace(config, planning=UNHURRIED))
            for config in configs
        ]
        self._tariffs: dict[int, int] = {}
        self._height = 0
        self._time_ms = start_ms
        self.refused: Counter[str] = Counter()
        self._nonce = 0
        for home in self.homes:
            home.plan_slot(start_ms, SLOT_MS, MarketView(self.tariff, FEED_IN_MICRO_PER_KWH))

    def tariff(self, at_ms: int) -> int:
        """Return the contract's tariff. [micro/kWh]"""
        slot = at_ms // SLOT_MS
        if slot not in self._tariffs:
            grid = client.grid_price(self.app.query, slot)
            self._tariffs[slot] = grid.tariff_micro_per_kwh
        return self._tariffs[slot]

    def live(self, days: int) -> None:
        """Trade and deliver."""
        last = self.first_slot + days * civil.DAY_MS // SLOT_MS
        for slot in range(self.first_slot, last):
            gate_ms = self.clock.gate_close_real_ms(slot + 1)
            self._block([], gate_ms)
            self._hear(slot + 1)
            self._block(self._orders(slot + LEAD_SLOTS), gate_ms + 1_000)
            self._block(self._readings(slot), self.clock.slot_end_real_ms(slot))

    def _orders(self, slot: int) -> list[CheckedTransaction]:
        start_ms, view, txs = slot * SLOT_MS, self._view(slot), []
        for number, (home, key) in enumerate(zip(self.homes, self.keys, strict=True), start=1):
            record = client.record(self.app.query, number)
            own = view._replace(strain=trading.strain(record, slot, self.params))
            for order in home.plan_slot(start_ms, SLOT_MS, own).orders:
                side = "buy" if order.side == "bid" else "sell"
                price = order.price_micro_per_kwh
                txs.append(self._sign(key, client.post_order(slot, side, order.energy_wh, price)))
        return txs

    def _readings(self, slot: int) -> list[CheckedTransaction]:
        view, txs = self._view(slot), []
        for home, meter in zip(self.homes, self.meters, strict=True):
            read = home.deliver(slot * SLOT_MS, SLOT_MS, view)
            call = client.post_reading(slot, read.import_wh, read.export_wh, slot)
            txs.append(self._sign(meter, call))
        return txs

    def _hear(self, slot: int) -> None:
        """Tell the homes how a slot was cleared."""
        summary = client.slot_summary(self.app.query, slot)
        every = [t for t in client.trades_of_slot(self.app.query, slot) if not t.backstop]
        band = Band(FEED_IN_MICRO_PER_KWH, self.tariff(slot * SLOT_MS))
        for number, home in enumerate(self.homes, start=1):
            bought = [trade for trade in every if trade.buyer == number]
            sold = [trade for trade in every if trade.seller == number]
            outcome = Outcome(
                slot * SLOT_MS,
                band,
                sum(trade.energy_wh for trade in bought),
                sum(trade.energy_wh for trade in sold),
                sum(trade.cost_micro + trade.fee_micro for trade in bought),
                sum(trade.cost_micro for trade in sold),
                summary.low_micro_per_kwh,
                summary.high_micro_per_kwh,
            )
            net_wh = outcome.bought_wh - outcome.sold_wh
            if net_wh:
                home.commit(slot * SLOT_MS, net_wh)
            home.observe([outcome])

    def _view(self, slot: int) -> MarketView:
        prices = client.prices(self.app.query, slot)
        prior = None
        if prices.last_high_micro_per_kwh:
            prior = Prior(prices.last_low_micro_per_kwh, prices.last_high_micro_per_kwh)
        return MarketView(
            self.tariff,
            prices.feed_in_micro_per_kwh,
            Suggested(prices.suggested_sell_micro_per_kwh, prices.suggested_buy_micro_per_kwh),
            self.params.penalty_micro_per_kwh,
            prior,
            self.params.homes[0].export_cap_w,
        )

    def _sign(self, key: SigningKey, call: Call) -> CheckedTransaction:
        self._nonce += 1
        until_ms = self._time_ms + VALID_MS
        return client.sign_call(call, key, self.params.chain_id, self._nonce, until_ms)

    def _block(self, txs: list[CheckedTransaction], time_ms: int) -> None:
        self._height += 1
        self._time_ms = time_ms
        result = self.app.execute(BlockEnv(self._height, time_ms), txs)
        self.app.commit(result)
        for receipt in result.receipts:
            if receipt.code != "ok":
                self.refused[receipt.reason] += 1


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


def with_agent(
    homes: list[HomeConfig], choose: Callable[[HomeConfig], str], seed: int, **settings: str
) -> list[HomeConfig]:
    """Return homes with the agents chosen for them, each with a seed of its own."""
    found = []
    for place, home in enumerate(homes):
        agent = choose(home)
        own = {} if agent == "mpc" else {"seed": 1_000 * seed + place, **settings}
        found.append(msgspec.structs.replace(home, agent=agent, agent_settings=own))
    return found


def runs(homes: int, seed: int) -> list[Run]:
    """Return the streets to run."""
    street = built_in(homes, seed=seed)
    every = list(range(homes))

    def by_role(home: HomeConfig) -> str:
        return "hu_producer" if home.battery else "hu_consumer"

    found = [
        Run(
            "zero_intelligence",
            with_agent(street.homes, lambda _: "zero_intelligence", seed),
            every,
        ),
        Run("ce", with_agent(street.homes, lambda _: "ce", seed), every),
        Run("hu_producer, hu_consumer", with_agent(street.homes, by_role, seed), every),
    ]
    for mode in ("literal", "hill_climb"):
        chosen = with_agent(street.homes, lambda _: "hu_prosumer", seed, mode=mode)
        found.append(Run(f"hu_prosumer, {mode}", chosen, every))
    found.append(Run("mpc", street.homes, every))
    found.append(Run("mpc, last home hu_speculator", with_storage(street, 1).homes, [homes - 1]))
    plant = HomeConfig(
        source=ConstantHome(pv_w=PLANT_W),
        # It asks for all its connection can give, which is what it makes.
        export_cap_w=PLANT_W,
        zone=ZONE,
        agent="hu_regulator",
        agent_settings={"price_micro_per_kwh": REGULATOR_PRICE},
    )
    found.append(Run("mpc, last home hu_regulator", [*street.homes[:-1], plant], [homes - 1]))
    return found


def measure(task: tuple[Run, int]) -> tuple[list[client.Total], Counter[str], float]:
    """Let a street live some days; return homes' sums, what was refused, and its CPU seconds."""
    run, days = task
    begin = time.process_time()
    street = Street(run.homes)
    street.live(days)
    totals = {total.home: total for total in client.totals(street.app.query)}
    spent = time.process_time() - begin
    return [totals[number] for number in sorted(totals)], street.refused, spent


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--homes", type=int, default=12)
    parser.add_argument("--days", type=int, default=1)
    parser.add_argument("--seeds", default="1,2")
    parser.add_argument("--only", default="", help="rows that begin with one of these")
    parser.add_argument("--jobs", type=int, default=2, help="streets at a time")
    parser.add_argument("--picture", type=Path, help="draw the savings: an SVG file")


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Let the streets live."""
    yield f"{given.homes} homes, {given.days} days; saving per day, all homes"
    yield (
        f"seed {'agent':30} traded kWh  penalty  saving  ratio  with PV  without  worst"
        "  the agent's  CPU s  refused"
    )
    begins = tuple(given.only.split(","))
    tasks = [
        (seed, run)
        for seed in map(int, given.seeds.split(","))
        for run in runs(given.homes, seed)
        if run.name.startswith(begins)
    ]
    saved: dict[int, dict[str, float]] = {}
    spent_s = []
    with Pool(given.jobs) as pool:
        measured = pool.imap(measure, [(run, given.days) for _, run in tasks])
        for (seed, run), (totals, refused, spent) in zip(tasks, measured, strict=True):
            of = saved.setdefault(seed, {})
            of[run.name] = sum(total.saved_micro for total in totals) / 1e6 / given.days
            base = next(iter(of.values()))
            spent_s.append(spent)
            text = row(seed, run, given.days, totals, base)
            yield f"{text} {spent:6.1f}  {dict(refused) or ''}"
    if not saved:
        raise SystemExit(f"--only {given.only}: no row begins so")
    for name in next(iter(saved.values())):
        by_seed = [of[name] for of in saved.values()]
        yield figure(f"{name}, saved a day", "dollars", by_seed, better="higher")
    yield figure("a street", "s", spent_s)
    if given.picture:
        given.picture.write_text(drawn(saved))


def row(seed: int, run: Run, days: int, totals: list[client.Total], base: float) -> str:
    """Return most of a row; `base` is the saving of the seed's first one."""
    saved = [total.saved_micro / 1e6 / days for total in totals]
    sunny = [s for s, home in zip(saved, run.homes, strict=True) if home.battery]
    return (
        f"{seed:4} {run.name:30}"
        f" {sum(total.sold_wh for total in totals) / 1000:10.1f}"
        f" {sum(total.penalty_micro for total in totals) / 1e6:8.2f}"
        f" {sum(saved):7.2f} {sum(saved) / base:6.2f} {sum(sunny):8.2f}"
        f" {sum(saved) - sum(sunny):8.2f} {min(saved):6.2f}"
        f" {sum(saved[place] for place in run.about):12.2f}"
    )


def drawn(saved: dict[int, dict[str, float]]) -> str:
    """Return the streets' savings, by seed and agent, as a drawing."""
    agents = list(next(iter(saved.values())))
    names = ["\n".join(wrap(agent.replace("_", " "), LINE_LETTERS)) for agent in agents]
    series = {f"seed {seed}": [of[agent] for agent in agents] for seed, of in saved.items()}
    title = "What all homes save in a day by trading, in dollars"
    return bars_svg(title, names, series, lambda value: f"{value:.1f}")


if __name__ == "__main__":
    command(__doc__, options, figures)
