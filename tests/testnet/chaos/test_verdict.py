"""The verdict says what was kept and what was not, from made-up runs whose truth is known."""

import json
import re
from typing import Any

import pytest

from testnet.chaos.anchoring import Checkpoints, Height, Main
from testnet.chaos.audit import Audit
from testnet.chaos.page import as_page
from testnet.chaos.plan import make_plan
from testnet.chaos.report import as_json, thinned
from testnet.chaos.roster import Roster
from testnet.chaos.scenario import read_scenario
from testnet.chaos.verdict import (
    Seen,
    Struck,
    Verdict,
    growth_of,
    judge,
    lagging,
    longest_gap,
    owed,
)
from testnet.chaos.watch import DOWN, Heads, Latency, Sample, appended

NAMES = ("home-01", "home-02", "home-03", "home-04")
ROSTER = Roster(NAMES, NAMES, {})
WELL = Audit({}, 9, [], 5, [], [], 3, [])


def node(heights: dict[float, int], rss_mib: float = 100.0) -> list[Sample]:
    """A node's samples, every second, from heights at moments (-1: it does not answer)."""
    found, height = [], 0
    for second in range(100):
        height = heights.get(second, height + 1 if height >= 0 else height)
        if height < 0:
            found.append(DOWN._replace(at_s=float(second)))
        else:
            found.append(Sample(float(second), height, True, 3, rss_mib, second / 10, second))
    return found


def seen(**changes: Any) -> Seen:
    """A run of 100 s, one block a second, `home-04` killed from 20 to 40."""
    scenario = read_scenario(
        {
            "about": "a <test>",
            "grid": {"homes": 4},
            "demands": changes.pop("demands", {}),
            "fault": [{"kind": "kill", "nodes": ["f"], "at_s": 0, "for_s": 20}]
            if "fault" not in changes
            else changes.pop("fault"),
        },
        "x",
    )
    plan = make_plan(scenario, ROSTER)
    level = node({})
    base = Seen(
        plan,
        0.0,
        20.0,
        40.0,
        99.0,
        True,
        [Struck(strike, 20.0, 40.0) for strike in plan.strikes],
        {
            "home-01": level,
            "home-02": level,
            "home-03": level,
            "home-04": node({20: -1, 43: 20, 45: 45}),
        },
        [Latency(float(second), 900.0 + second) for second in range(99)],
        [],
        {height: float(height) for height in range(1, 99)},
        WELL,
        0.0,
    )
    return base._replace(**changes)


def test_a_liar_that_did_not_lie_is_no_trial() -> None:
    fault = [
        {
            "kind": "byzantine", "nodes": ["home-04"], "behaviour": "nil", "at_s": 0, "for_s": 20
        }
    ]  # fmt: skip
    assert "byzantine" not in [check.name for check in judge(seen()).checks]
    assert "byzantine" not in failed(judge(seen(fault=fault, lies={"home-04": 3})))
    told = failed(judge(seen(fault=fault, lies={"home-04": 0})))
    assert told["byzantine"] == "home-04 has told nothing but the truth"


def failed(verdict: Verdict) -> dict[str, str]:
    return {check.name: check.said for check in verdict.checks if not check.passed}


def test_a_good_run_passes() -> None:
    verdict = judge(seen())
    assert verdict.passed
    (recovery,) = verdict.recoveries
    assert (recovery.up_s, recovery.took_s) == (3.0, 2.0)
    before, during, after = verdict.phases
    assert [phase.blocks for phase in verdict.phases] == [19, 20, 59]
    assert during.rate == pytest.approx(1.0)
    assert during.finality_ms == {"count": 20, "p50": 930.0, "p95": 939.0}
    assert before.finality_ms["count"] == 20
    assert after.gap_s == 1.0
    assert verdict.loads["home-01"].cpu_percent == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"problems": ["a and b have different blocks"]}, "agreement", "different blocks"),
        ({"books": WELL._replace(different=["x", "y"])}, "agreement", r"x \(and 1 more\)"),
        ({"books": WELL._replace(lost=["tx gone"])}, "nothing lost", "tx gone"),
        ({"books": WELL._replace(money=["-1"])}, "money", "-1"),
        ({"books": WELL._replace(energy=["slot 3"])}, "energy", "slot 3"),
        ({"level": False}, "recovery", "not all nodes"),
        ({"demands": {"recovery_s": 1}}, "recovery", r"kill home-04: at the head after 2.0 s"),
        ({"demands": {"finality_p95_ms": 900}}, "finality", "p95 939 ms of 20"),
        ({"demands": {"finality_p95_ms": 900}, "latencies": []}, "finality", "only 0"),
        ({"demands": {"gap_s": 0.5}}, "liveness", "longest gap 1.0 s"),
    ],
)
def test_what_was_not_kept_fails(changes: dict[str, Any], name: str, words: str) -> None:
    verdict = judge(seen(**changes))
    assert not verdict.passed
    (only,) = failed(verdict)
    assert only == name
    assert re.search(words, failed(verdict)[name])


def test_who_never_came_back_fails() -> None:
    away = seen()
    away.samples["home-04"][:] = node({20: -1, 43: 20, 44: 20} | dict.fromkeys(range(44, 100), 20))
    verdict = judge(away)
    assert verdict.recoveries[0].up_s == 3.0
    assert verdict.recoveries[0].took_s is None
    assert "never" in failed(verdict)["recovery"]


def test_blocks_need_not_come_without_a_quorum() -> None:
    fault = [{"kind": "kill", "nodes": ["f+1"], "at_s": 0, "for_s": 20}]
    blocks = {h: float(h) for h in (*range(1, 20), *range(50, 99))}
    assert not failed(judge(seen(fault=fault, blocks_s=blocks, demands={"gap_s": 5})))
    # After it, only a recovery's time is left to them.
    blocks = {h: float(h) for h in (*range(1, 20), *range(70, 99))}
    verdict = judge(seen(fault=fault, blocks_s=blocks, demands={"gap_s": 5}))
    assert "longest gap 15.0 s (at 55 s)" in failed(verdict)["liveness"]
    # With a quorum they must come all the time.
    verdict = judge(seen(blocks_s=blocks, demands={"gap_s": 5}))
    assert "longest gap 51.0 s (at 19 s)" in failed(verdict)["liveness"]


def test_a_halved_block_rate_fails_where_it_is_asked() -> None:
    blocks = {h: float(h) for h in (*range(1, 20), *range(20, 40, 2), *range(40, 99))}
    demands = {"block_rate_percent": 80}
    assert "53 %" in failed(judge(seen(blocks_s=blocks, demands=demands)))["block rate"]
    assert judge(seen(blocks_s=blocks)).passed
    assert judge(seen(demands=demands)).passed


def test_what_was_accepted_in_a_burst_must_be_committed() -> None:
    told = {"accepted": 50, "committed": 50, "refused": {"full": 2}}
    verdict = judge(seen(bursts=[told]))
    assert verdict.passed
    assert "50 of 50 accepted orders committed, 2 refused" in {c.said for c in verdict.checks}
    for bad in ({"committed": 49}, {"accepted": 0, "committed": 0}):
        assert list(failed(judge(seen(bursts=[told | bad])))) == ["burst"]


SEATS = ("home-01", "neutral-01", "neutral-02", "neutral-03")
REGION = Roster(NAMES, NAMES, {}, SEATS[1:], 2)
CUT = {"kind": "partition", "sides": [["all"], ["outside"]], "at_s": 0, "for_s": 20}


def cut_off(anchored_s: float = 45.0, level_s: float = 44.0, main_gap_s: float = 0.0) -> Seen:
    """The run of a region cut from the main chain from 20 to 40; both make a block a second.

    Checkpoints are closed every 5 s and anchored 2 s later, those of the cut at `anchored_s`; the
    region's keeper is at the head again at `level_s`; the others decide nothing for `main_gap_s`.
    """
    tree = {"about": "a cut", "grid": {"homes": 8, "regions": 2}, "fault": [CUT]}
    plan = make_plan(read_scenario(tree | {"demands": {"gap_s": 5, "recovery_s": 5}}, "x"), REGION)

    def head(second: float) -> int:
        return int(min(second, 25) if second < 25 + main_gap_s else second)

    def anchored(second: float) -> int:
        closed = int(second - 2) // 5
        return min(closed, 3) if 20 <= second < anchored_s else closed

    heights = {name: [Height(float(s), head(s)) for s in range(100)] for name in SEATS}
    heights["home-01"] = [
        Height(float(s), 20 if 20 <= s < level_s else head(s)) for s in range(100)
    ]
    looks = [Checkpoints(float(s), s // 5, anchored(s)) for s in range(100)]
    level = {name: node({}) for name in NAMES}
    main = Main(0.0, SEATS, heights, looks)
    struck = [Struck(strike, 20.0, 40.0) for strike in plan.strikes]
    return seen()._replace(plan=plan, samples=level, strikes=struck, main=main)


def test_a_region_that_was_cut_catches_up() -> None:
    verdict = judge(cut_off())
    assert verdict.passed
    said = {check.name: check.said for check in verdict.checks}
    assert "longest gap 1.0 s" in said["main chain"]
    assert "1 of the region's nodes at the head after 3.0 s" in said["main recovery"]
    assert (
        "4 closed and 0 anchored while disturbed, the last of them 5.0 s after the end"
        in said["checkpoints"]
    )
    assert "main chain" not in {check.name for check in judge(seen()).checks}


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"anchored_s": 101.0}, "checkpoints", "8 never came, 3 is the last"),
        # A mere minute is what is left to it.
        ({"anchored_s": 99.0}, "", ""),
        ({"level_s": 48.0}, "main recovery", "at the head after 7.0 s; at most 5 s"),
        ({"level_s": 101.0}, "main recovery", "home-01 never came to the main chain's head"),
        ({"main_gap_s": 12.0}, "main chain", "longest gap 12.0 s"),
    ],
)
def test_what_the_main_chain_owes_is_asked(
    changes: dict[str, float], name: str, words: str
) -> None:
    found = failed(judge(cut_off(**changes)))
    assert list(found) == ([name] if name else [])
    assert words in found.get(name, "")


def test_checkpoints_are_waited_for_where_there_were_any() -> None:
    main = cut_off(anchored_s=101.0).main
    assert main is not None
    assert owed(main, 40.0)
    assert not owed(main._replace(checkpoints=[]), 40.0)
    # It was not let in when all was over.
    assert not owed(main, 3.0)
    late = cut_off(anchored_s=45.0).main
    assert late is not None
    assert not owed(late, 40.0)


def test_keepers_of_the_main_chain_are_waited_for() -> None:
    back, never = cut_off(level_s=48.0).main, cut_off(level_s=101.0).main
    assert back is not None
    assert never is not None
    assert not lagging(back, NAMES, 40.0)
    assert lagging(never, NAMES, 40.0)
    # Nobody has looked yet since then.
    assert lagging(back, NAMES, 99.5)


def test_the_page_draws_checkpoints() -> None:
    run = cut_off()
    report = as_json(run, judge(run), "netns")
    assert [40.0, 8, 3] in report["checkpoints"]
    assert "anchored by the main chain" in as_page(run, report)


def test_memory_that_grows_is_found() -> None:
    def life(begin_s: int, seconds: int, mib_per_s: float) -> list[Sample]:
        return [
            Sample(float(begin_s + s), 1, True, 3, 100 + s * mib_per_s, 0.0, float(s))
            for s in range(0, seconds, 10)
        ]

    one = growth_of(life(100, 3_600, 1 / 3_600))
    assert one is not None
    assert one == pytest.approx((1.0, 100, 100, 3_690))
    # Only the longest life counts; what a new process takes at first is no growth.
    both = life(0, 600, 1.0) + life(700, 3_600, 0.0)
    level = growth_of(both)
    assert level is not None
    assert level.mib_per_h == pytest.approx(0.0, abs=1e-9)
    assert growth_of(life(0, 600, 1.0)) is None
    assert growth_of([DOWN]) is None
    run = seen(demands={"rss_mib_per_h": 1})
    assert "no node was up for 30 minutes" in failed(judge(run))["memory"]
    run.samples["home-01"] = life(20, 3_600, 2 / 3_600)
    assert "home-01 grows by 2.00 MiB/h" in failed(judge(run))["memory"]
    run.samples["home-01"] = life(20, 3_600, 0.5 / 3_600)
    assert "memory" not in failed(judge(run))


def test_the_report_is_plain_and_the_page_escapes() -> None:
    run = seen()
    report = as_json(run, judge(run), "processes")
    assert json.loads(json.dumps(report)) == report
    assert report["passed"] is True
    assert report["strikes"][0]["recovery_s"] == 2.0
    page = as_page(run, report)
    assert "a &lt;test&gt;" in page
    assert "<test>" not in page
    for outside in ("http:", "https:", "src=", "@import", "url("):
        assert outside not in page
    assert page.count("<path") == 2 * len(NAMES)


def test_gaps_and_heads() -> None:
    assert longest_gap([3, 1, 2, 8], 0, 10) == (5, 3)
    assert longest_gap([], 2, 10) == (8, 2)
    heads = Heads({"a": node({}), "b": node({5: 50, 6: 6})})
    assert [heads.at(second) for second in (-1, 0, 4, 5, 6, 60)] == [-1, 1, 5, 50, 50, 61]


def test_what_was_appended_is_found() -> None:
    assert list(appended([], [1, 2])) == [1, 2]
    assert list(appended([1, 2], [1, 2, 3])) == [3]
    assert list(appended([1, 2, 3], [3, 4])) == [4]
    assert list(appended([1, 2], [1, 2])) == []
    # A process that began anew.
    assert list(appended([1, 2], [5])) == [5]


def test_thinned_keeps_what_was_down() -> None:
    samples = node({}) * 40
    samples[2001] = DOWN._replace(at_s=20.0)
    few = thinned(samples)
    assert len(few) <= 401
    assert any(not sample.up for sample in few)
