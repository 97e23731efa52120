import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from hems.forecast import plots, report
from hems.forecast.base import Forecast
from hems.forecast.data import built_in_series, read_series, without_nothing
from hems.forecast.report import Series
from tests.hems.forecast.homes import home
from tests.hems.sources.test_formats import city_text

STEPS = 24
DAYS = 130


@pytest.fixture(scope="module")
def judged() -> report.HomeReport:
    values = home(DAYS)
    values[100 * STEPS : 101 * STEPS] = np.nan
    return report.walk_forward(Series("one", values, STEPS, 0), "ridge", retrain_days=30)


def test_skill_is_over_the_same_steps_and_signed() -> None:
    actual, naive = np.array([1.0, 2.0, 3.0, np.nan]), np.array([2.0, 3.0, np.nan, 1.0])
    use = np.isfinite(actual) & np.isfinite(naive)
    half = report.skill(actual, np.array([1.5, 2.5, 99.0, 99.0]), naive, use)
    assert half == pytest.approx((0.5, 0.5, 0.5 / 1.5))
    assert report.skill(actual, naive, naive, use)[:2] == pytest.approx((0.0, 0.0))


def test_pinball_is_the_mean_of_three_quantiles() -> None:
    actual = np.array([[10.0]])
    flat = np.array([[0.0]])
    forecast = Forecast(flat, flat, np.array([[20.0]]), np.array([[4.0]]))
    losses = (0.1 * 10, 0.5 * 6, 0.1 * 10)
    assert report.pinball(actual, forecast, np.array([[True]])) == pytest.approx(sum(losses) / 3)


def test_a_home_is_judged_by_what_was_known(judged: report.HomeReport) -> None:
    assert judged.days == 39
    assert judged.actual_wh.shape == judged.test.mean_wh.shape == (39, STEPS)
    assert judged.chosen == {"ridge/ridge": 2}
    assert judged.gaps == pytest.approx(1 / DAYS)
    # The habits of these homes can be learnt: better than the naive and than the blend.
    assert judged.mean.skill_rmse > judged.others["blend"].skill_rmse > 0
    assert judged.median.skill_mae > judged.mean.skill_mae
    assert judged.pinball_wh < judged.pinball_28_wh
    assert 0.65 < judged.coverage_80 < 0.95


def test_the_test_days_do_not_know_themselves(judged: report.HomeReport) -> None:
    values = home(DAYS)
    values[100 * STEPS : 101 * STEPS] = np.nan
    values[120 * STEPS :] *= 10
    other = report.walk_forward(Series("one", values, STEPS, 0), "ridge", retrain_days=30)
    first = DAYS - judged.days
    same = slice(0, 120 - first + 1)
    assert np.array_equal(other.test.mean_wh[same], judged.test.mean_wh[same])


def test_too_little_is_not_judged() -> None:
    with pytest.raises(report.TooLittleError, match="41 days; 42 are needed"):
        report.walk_forward(Series("one", home(41), STEPS, 0))
    values = home(60)
    values[40 * STEPS :] = np.nan
    with pytest.raises(report.TooLittleError, match="0% of the last 18 days"):
        report.walk_forward(Series("one", values, STEPS, 0))
    with pytest.raises(report.TooLittleError, match="42 are needed"):
        report.pv_skill(Series("one", home(10), STEPS, 0))


def test_the_plain_report_has_the_agreed_fields(judged: report.HomeReport) -> None:
    skill = report.Skill(0.1, 0.2, 0.0)
    plain = report.as_plain([judged, judged], "x.csv", "ridge", {"one": skill}, ["two: too short"])
    fields = {"skill_mae_vs_naive7d", "skill_rmse_vs_naive7d", "bias_fraction"}
    for kind in ("mean", "median"):
        assert fields | {"worst_home", "coverage_80", "pinball"} <= set(plain[kind])
        assert plain[kind]["worst_home"] == plain[kind]["skill_mae_vs_naive7d"]
        assert all(fields <= set(each[kind]) for each in plain["homes"])
    assert plain["coverage_80"] == judged.coverage_80
    assert plain["pinball"] < plain["pinball_28_days"]
    assert plain["left_out"] == ["two: too short"]


def test_drawings_are_whole_svg(judged: report.HomeReport) -> None:
    for text in (plots.skills_svg([judged]), plots.week_svg(judged, STEPS)):
        root = ElementTree.fromstring(text)
        assert root.tag.endswith("svg")
        assert len(list(root)) > 10
        assert "nan" not in text


def test_bars_are_as_high_as_their_values() -> None:
    text = plots.bars_svg(
        "Bills", ["a home\nof two lines", "h" * 80], {"one": [4.0, -2.0], "two": [2.0, 1.0]}, str
    )
    root = ElementTree.fromstring(text)
    bars = [one for one in root.iter() if one.get("fill") in plots.COLOURS and one.get("height")]
    heights = [float(one.attrib["height"]) for one in bars]
    # In groups; the legend's two boxes come last.
    assert [height / heights[1] for height in heights[:4]] == pytest.approx([2, 1, 1, 0.5], 0.01)
    bottom = float(bars[0].attrib["y"]) + heights[0]
    assert float(bars[2].attrib["y"]) == pytest.approx(bottom, abs=0.2)
    words = [one.text for one in root.iter() if one.tag.endswith("text")]
    assert {"a home", "of two lines", "one", "two"} <= set(words)
    assert any((one or "").startswith("…h") for one in words)


def test_a_file_with_gaps_and_production_is_read(tmp_path: Path) -> None:
    lines = ["time,a,b,b_pv,dead"]
    for step in range(4 * STEPS):
        if step != 50:
            a = "" if step < 30 else "0.2"
            lines.append(
                f"2024-03-{1 + step // STEPS:02d} {step % STEPS:02d}:00,{a},0.1,0.05,0.0000001"
            )
    (tmp_path / "homes.csv").write_text("\n".join([*lines, ""]))
    loads, productions = read_series(tmp_path / "homes.csv", "UTC")
    assert [series.name for series in loads] == ["a", "b"]
    # The first day of `a` has no measurement at all: it begins a day later.
    assert loads[0].first_day == loads[1].first_day + 1
    assert len(loads[0].energy_wh) == 3 * STEPS
    assert np.isnan(loads[1].energy_wh).sum() == 1
    assert np.nanmax(loads[1].energy_wh) == 100
    assert [series.name for series in productions] == ["b"]


def test_a_folder_of_buildings_is_read(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"Building_{number}.csv").write_text(city_text(3))
    loads, productions = read_series(tmp_path, "UTC")
    assert [series.name for series in loads] == ["Building_1", "Building_2"]
    # The hour before the first day has been measured: that day is there, with its gaps.
    assert loads[0].energy_wh[-1] == pytest.approx(1_490)
    assert productions[0].steps_per_day == 24


def test_next_to_nothing_is_a_gap_where_there_is_much_of_it() -> None:
    values = np.full(1_000, 200.0)
    values[:11] = 1e-4
    assert np.isnan(without_nothing(values, STEPS)[:11]).all()
    values[:11] = 200.0
    # A fuse may be out for an hour.
    values[:18:2] = 1e-4
    assert np.array_equal(without_nothing(values, STEPS), values)


def test_built_in_homes_can_be_judged() -> None:
    loads, productions = built_in_series(homes=1, days=60)
    judged = report.walk_forward(loads[0], "blend")
    assert judged.chosen == {"blend": 1}
    assert judged.mean.skill_mae > 0
    assert np.isfinite(report.pv_skill(productions[0]).skill_mae)
