"""One case of the comparison with one seed: a street lives its days, and what came of them."""

from collections.abc import Sequence

import msgspec
import numpy as np

from hems.config import HomeConfig
from hems.delivery import Delivery
from hems.devices import Battery
from hems.neighbourhood import built_in
from market import client
from study.compare.optimum import Stored, least_cost
from study.compare.quotas import open_quotas, trade_quotas
from study.compare.setting import ALONE, Setting
from study.compare.street import Street
from study.errors import InvariantError
from study.money import FEED_IN_MICRO_PER_KWH

MICRO = 1_000_000
WH_PER_KWH = 1_000


class Kpis(msgspec.Struct, frozen=True):
    """What a community's days came to.

    sunny_micro, other_micro : bills of the homes with PV and of those without.
    alone_micro : what all would have paid by the grid alone for the same readings.
    least_micro : what they could have paid at least (`study.compare.optimum`).
    self_sufficiency : of the load, what the grid did not deliver, and self_consumption : of the
        production, what it did not take, both without what batteries lost.
    peak_w : the highest mean power of a slot that all together took from the grid.
    volatility : the deviation of the slots' mean prices over their mean; 0 without trades.
    quota_traded_mg, quota_paid_micro : carbon quota that changed hands; what was paid for excess.
    """

    homes: int
    load_wh: int
    pv_wh: int
    grid_wh: int
    fed_in_wh: int
    traded_wh: int
    sunny_micro: int
    other_micro: int
    alone_micro: int
    least_micro: int
    penalty_micro: int
    self_sufficiency: float
    self_consumption: float
    peak_w: int
    carbon_mg: int
    price_micro_per_kwh: int
    volatility: float
    quota_traded_mg: int
    quota_paid_micro: int
    refused: dict[str, int]

    @property
    def paid_micro(self) -> int:
        """What all paid."""
        return self.sunny_micro + self.other_micro


def configs_of(setting: Setting) -> list[HomeConfig]:
    """Return the homes: of one seed the same in every case, but for agent and battery."""
    battery = Battery(grid_charging=setting.grid_charging)
    found = []
    for place, home in enumerate(built_in(setting.homes, setting.seed, battery=battery).homes):
        own = {} if setting.agent == "mpc" else {"seed": 1_000 * setting.seed + place}
        found.append(msgspec.structs.replace(home, agent=setting.agent, agent_settings=own))
    return found


def run_case(setting: Setting) -> Kpis:
    """Let a community live its days.

    Raises
    ------
    InvariantError
        What came of it cannot be: slots that are not settled, a bill below the social optimum.
    """
    configs = configs_of(setting.check())
    mechanism = None if setting.mechanism == ALONE else setting.mechanism
    street = Street(configs, mechanism, setting.slot_minutes)
    if setting.quota_g:
        open_quotas(street, setting.days, setting.quota_g)
    before = [home.state.stored_uwh / MICRO for home in street.homes]
    street.live(setting.days)
    stores = [
        Stored(config.battery, first, home.state.stored_uwh / MICRO, _kwh(own, "pv_wh"))
        for config, first, home, own in zip(
            configs, before, street.homes, street.delivered, strict=True
        )
        if config.battery is not None
    ]
    least = least_cost(
        sum((_kwh(own, "load_wh") - _kwh(own, "pv_wh") for own in street.delivered), np.zeros(1)),
        np.array([street.tariff(one.slot_start_ms) / MICRO for one in street.delivered[0]]),
        FEED_IN_MICRO_PER_KWH / MICRO,
        stores,
        setting.slot_minutes / 60,
    )
    reports = trade_quotas(street) if setting.quota_g else []
    slots = range(street.first_slot, street.first_slot + setting.days * street.slots_per_day)
    summaries = [client.slot_summary(street.chain.query, slot) for slot in slots]
    if any(summary.status != "settled" for summary in summaries):
        raise InvariantError("slots are not settled at the end")
    totals = sorted(client.totals(street.chain.query), key=lambda total: total.home)
    kpis = _kpis(configs, street.delivered, totals, summaries, round(least * MICRO))
    kpis = msgspec.structs.replace(
        kpis,
        quota_traded_mg=sum(report.bought_mg for report in reports),
        quota_paid_micro=sum(report.paid_micro for report in reports),
        refused=dict(street.chain.refused),
    )
    # What rounding to watt-hours and micro-units can come to.
    if kpis.paid_micro - kpis.penalty_micro < kpis.least_micro - len(slots) * setting.homes * 1_000:
        raise InvariantError("the homes paid less than the social optimum")
    return kpis


def _kwh(own: Sequence[Delivery], name: str) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.array([getattr(one, name) for one in own]) / WH_PER_KWH


def _kpis(
    configs: Sequence[HomeConfig],
    delivered: Sequence[Sequence[Delivery]],
    totals: Sequence[client.Total],
    summaries: Sequence[client.SlotSummary],
    least_micro: int,
) -> Kpis:
    every = [one for own in delivered for one in own]
    load_wh, pv_wh = sum(one.load_wh for one in every), sum(one.pv_wh for one in every)
    grid_wh = sum(total.grid_wh for total in totals)
    fed_in_wh = sum(total.fed_in_wh for total in totals)
    traded_wh = sum(summary.traded_wh for summary in summaries)
    prices = [s.traded_micro / s.traded_wh for s in summaries if s.traded_wh]
    bills = {True: 0, False: 0}
    for config, total in zip(configs, totals, strict=True):
        bills[config.battery is not None] += total.total_micro
    slot_ms = every[0].slot_ms
    return Kpis(
        homes=len(configs),
        load_wh=load_wh,
        pv_wh=pv_wh,
        grid_wh=grid_wh,
        fed_in_wh=fed_in_wh,
        traded_wh=traded_wh,
        sunny_micro=bills[True],
        other_micro=bills[False],
        alone_micro=sum(total.grid_only_micro for total in totals),
        least_micro=least_micro,
        penalty_micro=sum(total.penalty_micro for total in totals),
        self_sufficiency=1 - grid_wh / load_wh,
        self_consumption=1 - fed_in_wh / pv_wh if pv_wh else 0.0,
        peak_w=max(s.grid_wh for s in summaries) * 3_600_000 // slot_ms,
        carbon_mg=sum(total.carbon_mg for total in totals),
        price_micro_per_kwh=sum(s.traded_micro for s in summaries) * 1000 // max(1, traded_wh),
        volatility=float(np.std(prices) / np.mean(prices)) if prices else 0.0,
        quota_traded_mg=0,
        quota_paid_micro=0,
        refused={},
    )
