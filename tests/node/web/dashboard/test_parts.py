"""What pages are made of: markup that cannot be broken, numbers, energy flows, curves."""

import re

import msgspec
import pytest

from node.web.dashboard.curves import Meeting, Step, curve, meeting, sources_chart
from node.web.dashboard.drawings import Line, RegionMark, region_map
from node.web.dashboard.flows import delivered, planned, runs
from node.web.dashboard.html import Html, el, escape, join
from node.web.dashboard.plot import nice_step, ticks
from node.web.dashboard.words import THIN, Local, cut, energy, money, number, seconds
from tests.node.web.dashboard.samples import NOW_SLOT, SLOT_MS, delivery, plan, summary


def test_text_is_escaped_wherever_it_stands() -> None:
    evil = "\"><script>'&"
    safe = "&quot;&gt;&lt;script&gt;&#39;&amp;"
    assert el("p", evil, title=evil) == f'<p title="{safe}">{safe}</p>'
    assert el("p", [evil, el("b", evil)]) == f"<p>{safe}<b>{safe}</b></p>"
    assert join(evil, None, escape(evil)) == safe + safe
    # What is put together of markup and text is text again.
    assert el("p", el("b", "x") + "y") == "<p>&lt;b&gt;x&lt;/b&gt;y</p>"


def test_attributes_are_left_out_or_bare() -> None:
    found = el("a", class_="x", aria_label="y", title=None, hidden=True, href=False, x=0.5, y=2.0)
    assert found == '<a class="x" aria-label="y" hidden x="0.5" y="2"></a>'
    assert el("rect", x=1) == '<rect x="1"/>'
    assert isinstance(found, Html)


def test_numbers_as_they_are_read() -> None:
    assert number(-1_234.5, 1) == f"\N{MINUS SIGN}1{THIN}234.5"
    assert number(-0.001, 2) == "0.00"
    assert [energy(wh) for wh in (0, 999, 1_000, 12_345, 2_000_000)] == [
        f"0{THIN}Wh",
        f"999{THIN}Wh",
        f"1.00{THIN}kWh",
        f"12.3{THIN}kWh",
        f"2{THIN}000{THIN}kWh",
    ]
    assert money(-1_230_000, "AUD") == f"\N{MINUS SIGN}1.23{THIN}AUD"
    assert (seconds(None), seconds(981), seconds(12_400)) == ("–", f"0.98{THIN}s", f"12{THIN}s")
    assert (cut("home-01", 7), cut("home-001", 7)) == ("home-01", "home-0…")


def test_local_time_follows_the_dated_offsets() -> None:
    local = Local([(0, 600), (10 * SLOT_MS, 660)])
    assert local.clock(9 * SLOT_MS) == "12:15"
    assert local.clock(10 * SLOT_MS) == "13:30"


def test_regions_are_drawn_with_what_they_sold_each_other() -> None:
    marks = [RegionMark(n, f"R{n}", "live", None, 4, 3, n == 1) for n in (1, 2)]
    assert "chord" not in region_map(marks)
    drawn = region_map(marks, [Line(0, 1, 1_250), Line(1, 0, 90), Line(1, 7, 5), Line(None, 0, 5)])
    assert f">{energy(1_250)}</text>" in drawn
    assert f">{energy(90)}</text>" in drawn
    # Of many arrows nobody could tell whose an amount is.
    assert f">{energy(90)}</text>" not in region_map(marks, [Line(1, 0, 90)] * 7)
    tips = re.findall(r'data-tip="(R\d → R\d: [^"]*)"', drawn)
    assert tips == [f"R1 → R2: 1.25{THIN}kWh", f"R2 → R1: 90{THIN}Wh"]
    # Two that face each other sell around the main chain, each way on its own side of it.
    heights = [float(y) for y in re.findall(r'd="M[\d.]+ 190.0Q[\d.]+ ([\d.]+) ', drawn)]
    assert len(heights) == 2
    assert min(heights) < 190 - 2 * 46 < 190 + 2 * 46 < max(heights)


@pytest.mark.parametrize("span", [0.001, 0.7, 3, 10, 99, 541, 12_345])
def test_an_axis_has_some_round_values(span: float) -> None:
    found = ticks(-span / 3, span)
    assert 3 <= len(found) <= 8
    assert 0 in found
    step = nice_step(4 * span / 3)
    assert f"{step:e}"[0] in "125"


def test_what_comes_in_goes_out_or_is_used() -> None:
    rows = [delivery(NOW_SLOT + place) for place in range(40)]
    ahead = planned(plan(), (NOW_SLOT + 10) * SLOT_MS)
    assert ahead[0].start_ms == (NOW_SLOT + 10) * SLOT_MS
    # A car's 10 Wh of a quarter of an hour are in the plan's load alone.
    for flow, more_w in [*((flow, 0) for flow in delivered(rows)), *((flow, 40) for flow in ahead)]:
        comes = flow.sun_w + flow.from_battery_w + flow.from_street_w + flow.from_grid_w
        goes = flow.to_battery_w + flow.to_street_w + flow.to_grid_w
        assert comes - goes == pytest.approx(flow.load_w - more_w)
        assert min(flow[2:10]) >= 0


def test_a_gap_parts_what_is_drawn() -> None:
    flows = delivered([delivery(NOW_SLOT + place) for place in (0, 1, 3, 4, 5)])
    assert [len(run) for run in runs(flows)] == [2, 3]
    assert list(runs([])) == []


def test_a_slot_that_was_not_settled_is_a_gap_and_not_more_of_the_one_before() -> None:
    def bars(*slots: int) -> list[float]:
        rows = [msgspec.to_builtins(summary(NOW_SLOT + slot)) for slot in slots]
        drawn = str(sources_chart(rows, SLOT_MS, Local([])))
        return [float(width) for width in re.findall(r'<rect[^>]* width="([0-9.]+)"', drawn)]

    whole, gapped = bars(0, 1, 2, 3, 4, 5), bars(0, 1, 4, 5)
    assert len(whole) == 2 * 6
    # Two slots of the six are one gap, twice as wide as a slot.
    assert sorted(gapped[:5]) == pytest.approx([*sorted(whole[:6])[:4], 2 * whole[0]], abs=0.3)


def test_curves_meet_where_a_bid_no_longer_reaches_an_ask() -> None:
    bids = [Step(100, 30, "a"), Step(100, 20, "b"), Step(100, 10, "c")]
    asks = [Step(150, 12, "d"), Step(100, 18, "e")]
    assert meeting(bids, asks) == Meeting(200, 18, 20)
    assert meeting(bids, [Step(100, 31, "f")]) is None
    assert meeting([], asks) is None
    assert meeting(bids[:1], asks) == Meeting(100, 12, 30)


def test_a_curve_leaves_out_what_is_gone() -> None:
    orders = [
        {"residual_wh": wh, "price_micro_per_kwh": price, "home_name": "x"}
        for wh, price in ((10, 2), (0, 9), (20, 5))
    ]
    assert [step.price_micro for step in curve(orders, "residual_wh", True)] == [5, 2]
    assert [step.price_micro for step in curve(orders, "residual_wh", False)] == [2, 5]
