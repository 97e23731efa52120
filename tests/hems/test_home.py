"""A home's manager through whole days: what it promises to the market and what then happens."""

import logging
from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest

from hems import civil, neighbourhood
from hems.bid import BidSettings, Suggested
from hems.config import CommunityHome, HomeConfig
from hems.delivery import Delivery
from hems.devices import Battery
from hems.errors import ConfigError
from hems.home import CATCH_UP_SLOTS_MAX, HomeEnergyManager, MarketView
from hems.sources.base import Measurements, check_window
from hems.state import COMMITMENTS_MAX, LEAD_SLOTS_MAX, HomeState

SLOT_MS = 15 * civil.MINUTE_MS
SYDNEY = civil.zone_of("Australia/Sydney")
START_MS = civil.day_start_ms(civil.day_number(datetime(2026, 11, 20, tzinfo=UTC).date()), SYDNEY)


def tariff(at_ms: int) -> int:
    hour = (at_ms + civil.offset_ms(at_ms, SYDNEY)) // civil.HOUR_MS % 24
    if hour < 7 or hour >= 22:
        return 177_000
    return 541_100 if 14 <= hour < 20 else 277_100


MARKET = MarketView(tariff, 100_000, Suggested(250_000, 250_000), 50_000)


class Fixed:
    """A source that measures what a test says, the same in every slot."""

    def __init__(self, load_wh: int, pv_wh: int, known: bool = True) -> None:
        self.load_wh, self.pv_wh, self.known = load_wh, pv_wh, known

    def window(self, start_ms: int, end_ms: int, step_ms: int) -> Measurements:
        steps = check_window(start_ms, end_ms, step_ms)
        return Measurements(
            np.full(steps, self.load_wh, np.int64),
            np.full(steps, self.pv_wh, np.int64),
            np.full(steps, self.known),
        )


def manager(load_wh: int, pv_wh: int, battery: Battery | None = None) -> HomeEnergyManager:
    config = HomeConfig(source=CommunityHome(home=0), battery=battery)
    return HomeEnergyManager(config, source=Fixed(load_wh, pv_wh))


def check_physics(home: HomeEnergyManager, before_uwh: int, delivery: Delivery) -> None:
    came = delivery.import_wh + delivery.pv_wh + delivery.discharge_wh
    went = delivery.load_wh + delivery.charge_wh + delivery.export_wh + delivery.curtail_wh
    assert came == went
    battery = home.config.battery
    if battery is None:
        assert delivery.charge_wh == delivery.discharge_wh == delivery.stored_wh == 0
        return
    stored = home.state.stored_uwh - before_uwh
    expected = delivery.charge_wh * battery.charge_efficiency * 1e6
    expected -= delivery.discharge_wh / battery.discharge_efficiency * 1e6
    assert abs(stored - expected) <= 1
    assert min(battery.min_uwh, before_uwh) <= home.state.stored_uwh <= battery.max_uwh


def test_a_street_of_built_in_homes_trades_and_keeps_to_physics_for_a_day() -> None:
    homes = [HomeEnergyManager(config) for config in neighbourhood.built_in(4, seed=3).homes]
    offered = wanted = 0
    for slot in range(48):
        at = START_MS + slot * 2 * SLOT_MS
        for home in homes:
            orders = home.plan_slot(at, 2 * SLOT_MS, MARKET).orders
            offered += sum(order.energy_wh for order in orders if order.side == "ask")
            wanted += sum(order.energy_wh for order in orders if order.side == "bid")
            before = home.state.stored_uwh
            check_physics(home, before, home.deliver(at, 2 * SLOT_MS, MARKET))
    assert offered > 10_000
    assert wanted > 10_000


def test_a_home_without_pv_bids_for_its_load_below_the_tariff() -> None:
    orders = manager(200, 0).plan_slot(START_MS, SLOT_MS, MARKET).orders
    assert [(o.side, o.energy_wh) for o in orders] == [("bid", 200)]
    assert orders[0].price_micro_per_kwh == 177_000  # the suggested price is above the tariff


def test_a_home_with_surplus_asks_between_feed_in_and_the_suggested_price() -> None:
    orders = manager(100, 400).plan_slot(START_MS + 12 * civil.HOUR_MS, SLOT_MS, MARKET).orders
    assert [(o.side, o.energy_wh, o.price_micro_per_kwh) for o in orders] == [("ask", 300, 175_000)]


def test_commitments_already_made_are_not_offered_again() -> None:
    home = manager(100, 400)
    home.plan_slot(START_MS, SLOT_MS, MARKET)
    home.commit(START_MS, -300)
    assert [o for o in home.plan_slot(START_MS, SLOT_MS, MARKET).orders if o.side == "ask"] == []


def test_the_battery_makes_good_what_was_sold_when_production_fails() -> None:
    home = manager(100, 0, Battery())
    home.state = HomeState(4_000_000_000, START_MS)
    home.commit(START_MS, -400)
    delivery = home.deliver(START_MS, SLOT_MS, MARKET)
    assert delivery.export_wh == 400
    assert delivery.discharge_wh == 500


def test_what_the_battery_cannot_give_falls_short() -> None:
    home = manager(100, 0, Battery(capacity_wh=1000, power_w=400))
    home.state = HomeState(1_000_000_000, START_MS)
    home.commit(START_MS, -400)
    delivery = home.deliver(START_MS, SLOT_MS, MARKET)
    assert delivery.discharge_wh == 100
    assert delivery.export_wh == 0


def test_the_baseline_is_the_same_load_and_production_without_battery() -> None:
    delivery = manager(100, 400, Battery()).deliver(START_MS, SLOT_MS, MARKET)
    assert (delivery.baseline_import_wh, delivery.baseline_export_wh) == (0, 300)


def test_a_gap_is_delivered_as_forecast_and_marked() -> None:
    config = HomeConfig(source=CommunityHome(home=0))
    delivery = HomeEnergyManager(config, source=Fixed(0, 0, known=False)).deliver(
        START_MS, SLOT_MS, MARKET
    )
    assert not delivery.known
    assert delivery.load_wh > 0  # the mean home's


def test_resuming_from_the_stored_state_changes_nothing() -> None:
    config = neighbourhood.built_in(1, pv_share=1.0).homes[0]
    straight = HomeEnergyManager(config)
    stopped = HomeEnergyManager(config)
    for slot in range(40, 48):
        at = START_MS + slot * SLOT_MS
        straight.commit(at + SLOT_MS, -50)
        expected = straight.deliver(at, SLOT_MS, MARKET)
        stopped = HomeEnergyManager(config, HomeState.from_plain(stopped.state.to_plain()))
        stopped.commit(at + SLOT_MS, -50)
        assert stopped.deliver(at, SLOT_MS, MARKET) == expected
        assert stopped.state == straight.state


def test_missed_slots_happen_before_the_next() -> None:
    battery = Battery(soc_end=0.5)
    home = manager(100, 0, battery)
    home.plan_slot(START_MS, SLOT_MS, MARKET)
    before = home.state.stored_uwh
    home.deliver(START_MS + 3 * SLOT_MS, SLOT_MS, MARKET)
    assert home.state.next_slot_ms == START_MS + 4 * SLOT_MS
    assert before - home.state.stored_uwh >= 3 * 100_000_000


def test_slots_that_cannot_be_planned_are_refused() -> None:
    home = manager(100, 0)
    home.deliver(START_MS, SLOT_MS, MARKET)
    for at in (START_MS, START_MS + SLOT_MS + 1, START_MS + (LEAD_SLOTS_MAX + 2) * SLOT_MS):
        with pytest.raises(ConfigError, match="next undelivered slot"):
            home.plan_slot(at, SLOT_MS, MARKET)
    with pytest.raises(ConfigError, match="next undelivered slot"):
        home.deliver(START_MS + (CATCH_UP_SLOTS_MAX + 2) * SLOT_MS, SLOT_MS, MARKET)
    with pytest.raises(ConfigError, match="delivered"):
        home.commit(START_MS, 100)
    for slot_ms in (SLOT_MS + 1, 4 * civil.MINUTE_MS, 7 * civil.MINUTE_MS, 90 * civil.MINUTE_MS):
        with pytest.raises(ConfigError, match="a slot of"):
            home.plan_slot(START_MS + SLOT_MS, slot_ms, MARKET)


def test_a_state_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="not a home's state"):
        HomeState.from_plain({"stored_uwh": "much"})
    with pytest.raises(ConfigError, match="not a home's state"):
        HomeState.from_plain({"energy": 1})
    with pytest.raises(ConfigError, match="not -5"):
        HomeState.from_plain({"stored_uwh": -5})
    with pytest.raises(ConfigError, match="at most 192 slots"):
        HomeState(0, 0, dict.fromkeys(range(COMMITMENTS_MAX + 1), 1))


def test_a_smaller_battery_than_before_is_full() -> None:
    config = HomeConfig(source=CommunityHome(home=0), battery=Battery(capacity_wh=1000))
    home = HomeEnergyManager(config, HomeState(4_000_000_000, START_MS), Fixed(100, 0))
    assert home.soc == 1.0
    assert home.deliver(START_MS, SLOT_MS, MARKET).stored_wh <= 1000


def test_nothing_is_offered_where_the_grid_leaves_no_room() -> None:
    level = MarketView(lambda _: 100_000, 100_000, Suggested(100_000, 100_000))
    assert manager(200, 0).plan_slot(START_MS, SLOT_MS, level).orders == []
    below = MarketView(lambda _: 50_000, 100_000)
    assert manager(0, 200).plan_slot(START_MS, SLOT_MS, below).orders == []


@pytest.mark.parametrize(("replayed", "level"), [(True, "INFO"), (False, "WARNING")])
def test_only_a_live_homes_readings_warn(
    replayed: bool,
    level: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("hems.home.open_source", lambda source, zone: Fixed(-20, 0))
    config = HomeConfig(source=CommunityHome(home=0))
    home = HomeEnergyManager(config, source=None if replayed else Fixed(-20, 0))
    with caplog.at_level(logging.INFO, logger="commonwatt.sensors"):
        home.source.window(START_MS, START_MS + 4 * SLOT_MS, SLOT_MS)
    assert home.faults == {"load_negative": 4}
    assert [record.levelname for record in caplog.records] == [level]


def holed(at_ms: int) -> int | None:
    """The tariff without its dear hours."""
    price = tariff(at_ms)
    return None if price == 541_100 else price


def test_a_hole_in_the_tariff_is_mended_said_once_and_not_traded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    home = manager(300, 0, Battery())
    market = MARKET._replace(tariff_micro_per_kwh=holed)
    at_ms = START_MS + 13 * civil.HOUR_MS
    for _ in range(8):
        planned = home.plan_slot(at_ms, SLOT_MS, market)
        # Until eight in the evening the price of one o'clock stands in.
        assert planned.plan.given.import_micro_per_kwh[:8].tolist() == [277_100] * 8
        assert (planned.orders == []) is (holed(at_ms) is None)
        before = home.state.stored_uwh
        check_physics(home, before, home.deliver(at_ms, SLOT_MS, market))
        at_ms += SLOT_MS
    # Six hours, and as far as the last plan has seen of the next day's.
    assert home.faults == {"tariff_hole": 24 + 3}
    assert len([one for one in caplog.records if "names no price" in one.getMessage()]) == 1


def test_without_any_price_a_home_serves_itself(caplog: pytest.LogCaptureFixture) -> None:
    home = manager(300, 0, Battery(soc_end=0.8))
    market = MARKET._replace(tariff_micro_per_kwh=lambda _: None)
    with pytest.raises(ConfigError, match="the tariff has no price for any of 96 slots"):
        home.plan_slot(START_MS, SLOT_MS, market)
    for slot in range(2):
        before = home.state.stored_uwh
        delivery = home.deliver(START_MS + slot * SLOT_MS, SLOT_MS, market)
        check_physics(home, before, delivery)
        assert delivery.discharge_wh == 300
    said = [one.getMessage() for one in caplog.records if "self-consumption" in one.getMessage()]
    assert len(said) == 1


def test_trade_goes_on_in_a_currency_with_large_numbers() -> None:
    yen = MarketView(lambda at_ms: 100 * tariff(at_ms), 10_000_000)
    orders = manager(300, 0).plan_slot(START_MS, SLOT_MS, yen).orders
    assert [order.side for order in orders] == ["bid"]
    assert 10_000_000 < orders[0].price_micro_per_kwh <= 17_700_000


def test_a_home_that_kept_little_of_what_it_sold_offers_less() -> None:
    home = neighbourhood.built_in(1, pv_share=1.0, battery=None).homes[0]
    noon = START_MS + 12 * civil.HOUR_MS
    sold = []
    for strain in (0.0, 0.5, 1.0):
        orders = HomeEnergyManager(home).plan_slot(noon, SLOT_MS, MARKET._replace(strain=strain))
        sold.append(sum(order.energy_wh for order in orders.orders if order.side == "ask"))
    assert sold[0] > sold[1] > sold[2]


def test_caution_offers_less_than_the_mean_surplus() -> None:
    config = neighbourhood.built_in(1, pv_share=1.0, battery=None).homes[0]
    noon = START_MS + 12 * civil.HOUR_MS
    sold = []
    for caution in (0.0, 0.5, 1.0):
        bold = msgspec.structs.replace(config, bidding=BidSettings(caution=caution))
        orders = HomeEnergyManager(bold).plan_slot(noon, SLOT_MS, MARKET).orders
        sold.append(sum(order.energy_wh for order in orders if order.side == "ask"))
    assert sold[0] > sold[1] > sold[2]
