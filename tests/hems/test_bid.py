import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hems.bid import (
    ORDERS_PER_SIDE_MAX,
    Band,
    BidSettings,
    Order,
    Segment,
    Suggested,
    expected_curve,
    orders_for_slot,
    value_curve,
)
from hems.devices import Battery
from hems.errors import ConfigError
from hems.plan import Limits, PlanInput, Planner

BAND = Band(100_000, 300_000)
TRUTHFUL = BidSettings(shading=0)


def day(rng: np.random.Generator, stored_wh: float = 2000.0, steps: int = 24) -> PlanInput:
    hours = np.arange(steps) * 24 / steps
    return PlanInput(
        np.full(steps, 86_400_000 // steps, np.int64),
        rng.gamma(2, 200, steps),
        3000 * np.maximum(0, np.sin((hours - 6) / 12 * np.pi)) * rng.uniform(0.1, 1),
        np.zeros(steps),
        np.where((hours >= 14) & (hours < 20), 541_100.0, 277_100.0),
        np.full(steps, 100_000.0),
        stored_wh,
    )


def sunny_day() -> PlanInput:
    given = day(np.random.default_rng(0))
    return given._replace(pv_wh=given.pv_wh + np.where(given.pv_wh > 0, 1500.0, 0.0))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 23))
def test_the_curve_is_convex_and_exact(seed: int, slot: int) -> None:
    rng = np.random.default_rng(seed)
    given = day(rng, float(rng.uniform(500, 5000)))
    planner = Planner(Battery())
    plan, segments = value_curve(planner, given, slot)
    # Within the grid's prices, where orders are: beyond, buying to store what may not be charged
    # from the grid can be worth more than the tariff, which is what selling costs.
    tariff = given.import_micro_per_kwh[slot]
    values = {
        side: [min(s.value_micro_per_kwh, tariff) for s in segments if s.side == side]
        for side in ("bid", "ask")
    }
    assert np.allclose(values["bid"], sorted(values["bid"], reverse=True), atol=2000)
    assert np.allclose(values["ask"], sorted(values["ask"]), atol=2000)
    if values["bid"] and values["ask"]:
        assert max(values["bid"]) <= min(values["ask"]) + 2000
    # Doing all of one side changes the plan's cost by the area under the curve.
    for side, sign in (("bid", 1), ("ask", -1)):
        part = [s for s in segments if s.side == side]
        traded = given.traded_wh.copy()
        traded[slot] += sign * sum(s.energy_wh for s in part)
        after = planner.solve(given._replace(traded_wh=traded)).cost_micro
        area = sum(s.energy_wh * s.value_micro_per_kwh for s in part) / 1000
        assert plan.cost_micro - sign * area == pytest.approx(after, abs=50)


def test_without_a_battery_the_curve_is_the_grids_prices() -> None:
    given = sunny_day()
    plan, segments = value_curve(Planner(None), given, 12)
    surplus = given.pv_wh[12] - given.load_wh[12]
    assert surplus > 0
    assert segments == [Segment("ask", pytest.approx(surplus), pytest.approx(100_000))]
    assert value_curve(Planner(None), given, 0)[1] == [
        Segment("bid", pytest.approx(given.load_wh[0]), pytest.approx(277_100))
    ]
    assert plan.method == "direct"


def test_selling_what_must_be_bought_back_costs_tariff_and_penalty() -> None:
    given = day(np.random.default_rng(0), stored_wh=600)
    _, segments = value_curve(Planner(Battery()), given, 0, shortfall_micro_per_kwh=50_000)
    dearest = max(s.value_micro_per_kwh for s in segments if s.side == "ask")
    assert dearest > 277_100
    assert all(order.side == "bid" for order in orders_for_slot(segments, Band(100_000, 277_100)))


def test_the_cap_limits_what_is_sold() -> None:
    given = sunny_day()
    _, segments = value_curve(Planner(None, Limits(export_w=300)), given, 12)
    assert sum(s.energy_wh for s in segments) == pytest.approx(300)


def test_truth_is_told_without_shading() -> None:
    segments = [Segment("bid", 500, 250_000), Segment("ask", 400, 260_000)]
    suggested = Suggested(200_000, 200_000)
    assert orders_for_slot(segments, BAND, suggested, TRUTHFUL) == [
        Order("ask", 400, 260_000),
        Order("bid", 500, 250_000),
    ]


def test_shading_goes_towards_the_suggested_price_and_never_against_the_home() -> None:
    suggested = Suggested(180_000, 220_000)
    half = BidSettings(shading=0.5)
    cases = [
        ("ask", 100_000, 140_000),
        ("ask", 250_000, 250_000),
        ("bid", 300_000, 260_000),
        ("bid", 150_000, 150_000),
    ]
    for side, value, price in cases:
        orders = orders_for_slot([Segment(side, 100, value)], BAND, suggested, half)  # type: ignore[arg-type]
        assert orders == [Order(side, 100, price)]  # type: ignore[arg-type]


@given(st.floats(0, 400_000), st.floats(0, 400_000), st.integers(0, 400_000), st.floats(0, 1))
def test_shaded_orders_still_cross_where_both_gain(
    cost: float, value: float, suggested: int, shading: float
) -> None:
    settings = BidSettings(shading=shading)
    both = orders_for_slot(
        [Segment("ask", 100, cost)], BAND, Suggested(suggested, suggested), settings
    )
    both += orders_for_slot(
        [Segment("bid", 100, value)], BAND, Suggested(suggested, suggested), settings
    )
    for order in both:
        assert BAND.feed_in_micro_per_kwh <= order.price_micro_per_kwh <= BAND.tariff_micro_per_kwh
    if len(both) == 2 and cost <= suggested <= value and 100_000 <= suggested <= 300_000:
        assert both[0].price_micro_per_kwh <= both[1].price_micro_per_kwh


def test_what_is_not_worth_an_order_is_not_sent() -> None:
    segments = [
        Segment("ask", 500, 299_500),
        Segment("bid", 500, 100_500),
        Segment("ask", 5, 150_000),
        Segment("bid", 9.9, 290_000),
    ]
    assert orders_for_slot(segments, BAND, None, TRUTHFUL) == []


def test_equal_prices_are_one_order_and_few_are_kept() -> None:
    segments = [Segment("ask", 100.6, 150_000), Segment("ask", 100.6, 150_000)]
    assert orders_for_slot(segments, BAND, None, TRUTHFUL) == [Order("ask", 201, 150_000)]
    many = [Segment("ask", 100, 150_000 + 1000 * k) for k in range(10)]
    orders = orders_for_slot(many, BAND, None, TRUTHFUL)
    assert len(orders) == ORDERS_PER_SIDE_MAX
    assert orders[0].price_micro_per_kwh == 150_000


def test_settings_and_bands_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="shading"):
        BidSettings(shading=1.5)
    with pytest.raises(ConfigError, match="caution"):
        BidSettings(caution=-1)
    with pytest.raises(ConfigError, match="order_wh_min"):
        BidSettings(order_wh_min=0)
    for band in (Band(300_000, 100_000), Band(-1, 100_000)):
        with pytest.raises(ConfigError, match="a band has"):
            orders_for_slot([], band)


ERRORS = np.linspace(-500, 500, 11)


def asks(segments: list[Segment]) -> list[Segment]:
    return [s for s in segments if s.side == "ask"]


def test_a_seller_without_battery_asks_the_newsvendors_price() -> None:
    given = sunny_day()
    slot = int(np.argmax(given.pv_wh - given.load_wh))
    surplus = float((given.pv_wh - given.load_wh)[slot])
    segments = value_curve(Planner(None), given, slot, 50_000)[1]
    band = Band(100_000, 277_100)
    curve = asks(expected_curve(segments, ERRORS, band, 50_000))
    # Between two errors that differ by 100 Wh: sold up to q, short with the share of lower errors.
    cuts = np.append(0.0, surplus + ERRORS)
    cost = 100_000 + np.arange(11) / 11 * (277_100 + 50_000 - 100_000)
    worth = cost < 277_100
    total = float((np.diff(cuts) * cost)[worth].sum())
    assert sum(s.energy_wh for s in curve) == pytest.approx(float(np.diff(cuts)[worth].sum()))
    assert sum(s.energy_wh * s.value_micro_per_kwh for s in curve) == pytest.approx(total)
    assert curve[0].value_micro_per_kwh == pytest.approx(100_000)


def test_a_battery_that_can_make_it_good_sells_as_if_it_were_sure() -> None:
    band = Band(100_000, 277_100)
    sure = [Segment("ask", 2000.0, 150_000.0), Segment("bid", 2000.0, 150_000.0)]
    curve = asks(expected_curve(sure, ERRORS, band, 50_000))
    assert curve[0].value_micro_per_kwh == pytest.approx(150_000)
    assert sum(s.energy_wh for s in curve) >= 1500
    assert expected_curve(sure, np.zeros(11), band) == sure


def test_a_home_with_nothing_left_hardly_sells_what_it_may_not_have() -> None:
    band = Band(100_000, 277_100)
    nothing = [Segment("bid", 300.0, 277_100.0)]
    assert asks(expected_curve(nothing, ERRORS[:6] + 250, band, 50_000)) == []
    sold = [
        sum(s.energy_wh for s in asks(expected_curve([], ERRORS + 400, band, 50_000, caution=c)))
        for c in (0.0, 0.4, 1.0)
    ]
    assert sold[0] > sold[1] > sold[2]


def test_no_more_is_offered_than_may_be_exported() -> None:
    segments = [Segment("ask", 1000.0, 120_000.0)]
    curve = asks(expected_curve(segments, ERRORS, BAND, export_room_wh=600.0))
    assert sum(s.energy_wh for s in curve) == pytest.approx(600)
    assert asks(expected_curve(segments, ERRORS, BAND, export_room_wh=0.0)) == []


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 23), st.booleans(), st.floats(0, 1))
def test_the_expected_curve_is_ordered_and_within_the_band(
    seed: int, slot: int, stores: bool, caution: float
) -> None:
    rng = np.random.default_rng(seed)
    given = day(rng, float(rng.uniform(500, 5000)))
    band = Band(100_000, int(given.import_micro_per_kwh[slot]))
    segments = value_curve(Planner(Battery() if stores else None), given, slot, 50_000)[1]
    errors = rng.normal(0, rng.uniform(0, 800), 11)
    curve = expected_curve(segments, errors, band, 50_000, caution=caution)
    for side, direction in (("bid", -1), ("ask", 1)):
        values = [s.value_micro_per_kwh for s in curve if s.side == side]
        assert len(values) <= ORDERS_PER_SIDE_MAX
        assert np.all(np.diff(values) * direction >= -2000)
        assert all(band[0] - 1 <= v <= band[1] + 1 for v in values) or np.ptp(errors) < 1
    assert all(s.energy_wh > 0 for s in curve)
