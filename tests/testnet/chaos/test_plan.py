"""Who is struck when; what contradicts itself or cannot be is refused beforehand."""

from typing import Any

import pytest

from testnet.chaos.errors import ScenarioError
from testnet.chaos.plan import Plan, Wire, make_plan, wires
from testnet.chaos.roster import Roster
from testnet.chaos.scenario import Kill, read_scenario
from testnet.street import home_names

NAMES = tuple(home_names(8))
ROSTER = Roster(NAMES, NAMES[:4], {"north": NAMES[4:6]})
# The first of two regions under a main chain.
REGION = Roster(NAMES[:4], NAMES[:4], {}, (*NAMES[4:], "neutral-01"), 2)
REGIONS = {"homes": 8, "regions": 2}


def planned(*faults: dict[str, Any], roster: Roster = ROSTER, **tables: Any) -> Plan:
    tree = {"about": "a test", "fault": list(faults), **tables}
    return make_plan(read_scenario(tree, "x"), roster)


def fault(kind: str, at_s: float = 0, for_s: float = 10, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "at_s": at_s, "for_s": for_s, **more}


def nodes_of(*words: str, seed: int = 1) -> tuple[str, ...]:
    plan = planned(fault("kill", nodes=list(words)), run={"seed": seed})
    return plan.strikes[0].nodes


def test_words_mean_nodes() -> None:
    assert nodes_of("all") == NAMES
    assert nodes_of("authorities") == NAMES[:4]
    assert nodes_of("followers") == NAMES[4:]
    assert nodes_of("f") == ("home-04",)
    assert nodes_of("f+1") == ("home-03", "home-04")
    assert nodes_of("authorities:2", "north") == ("home-01", "home-02", "home-05", "home-06")
    assert nodes_of("followers:1") == ("home-05",)
    drawn = nodes_of("random:3")
    assert len(drawn) == 3
    assert drawn == nodes_of("random:3")
    assert len({nodes_of("random:3", seed=seed) for seed in range(8)}) > 1


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("home-09", r"unknown node 'home-09'; known are .*north, home-01 to home-08"),
        ("random:9", "there are 8 to choose from"),
        ("authorities:0", "there are 4 to choose from"),
        ("followers:5", "there are 4 to choose from"),
        ("outside", "this grid has one chain"),
        ("random:x", "unknown node"),
        ("south", "unknown node"),
    ],
)
def test_unknown_nodes_are_refused(word: str, words: str) -> None:
    with pytest.raises(ScenarioError, match=words):
        nodes_of(word)


def test_a_grid_that_is_too_small_is_refused() -> None:
    with pytest.raises(ScenarioError, match="needs 9 homes; this grid has 8"):
        planned(fault("kill", nodes=["all"]), grid={"homes": 9})
    with pytest.raises(ScenarioError, match="needs 5 authorities; this grid has 4"):
        planned(fault("kill", nodes=["all"]), grid={"homes": 8, "authorities": 5})


def test_a_scenarios_groups_have_names_of_their_own() -> None:
    plan = planned(fault("kill", nodes=["ends"]), groups={"ends": ["home-01", "home-08"]})
    assert plan.strikes[0].nodes == ("home-01", "home-08")
    for taken in ("north", "home-01", "all", "rest", "outside", "a:1"):
        with pytest.raises(ScenarioError, match="the name is taken"):
            planned(fault("kill", nodes=["all"]), groups={taken: ["home-01"]})


def test_a_region_is_cut_from_all_others() -> None:
    cut = planned(fault("partition", sides=[["all"], ["outside"]]), roster=REGION, grid=REGIONS)
    (strike,) = cut.strikes
    assert strike.nodes == NAMES[:4]
    assert strike.sides == (NAMES[:4], (*NAMES[4:], "neutral-01"))
    found = wires([strike], cut.roster)
    assert found["home-01", "neutral-01"] == found["neutral-01", "home-01"] == Wire(cut=True)
    assert len(found) == 2 * 4 * 5
    # Its own authorities hear each other.
    assert cut.able() == [(0.0, 10.0, True)]
    late = fault("link", nodes=["home-01"], to=["neutral-01"], delay_ms=5)
    assert planned(late, roster=REGION, grid=REGIONS).strikes[0].sides == (
        ("home-01",),
        ("neutral-01",),
    )


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (fault("kill", nodes=["neutral-01"]), "neutral-01: only the sides of a partition"),
        (fault("link", nodes=["outside"], delay_ms=5), "outside: only the sides of a partition"),
        (fault("partition", sides=[["home-05"], ["neutral-01"]]), "all of its sides are outside"),
        (fault("burst", homes=4), "burst: made-up homes trade on a street by itself"),
    ],
)
def test_what_cannot_be_asked_of_others_is_refused(bad: dict[str, Any], words: str) -> None:
    with pytest.raises(ScenarioError, match=words):
        planned(bad, roster=REGION, grid=REGIONS)


def test_a_grid_of_one_chain_has_no_regions() -> None:
    with pytest.raises(ScenarioError, match="needs 2 regions; this grid has 1"):
        planned(fault("kill", nodes=["all"]), grid=REGIONS)


def test_staggered_strikes_follow_each_other() -> None:
    plan = planned(fault("restart", 5, 3, nodes=["north"], stagger_s=8))
    assert [(s.nodes, s.begin_s, s.end_s) for s in plan.strikes] == [
        (("home-05",), 5, 8),
        (("home-06",), 13, 16),
    ]
    assert plan.end_s == 16


@pytest.mark.parametrize(
    ("one", "two", "words"),
    [
        (
            fault("kill", nodes=["home-02"]),
            fault("stop", 4, nodes=["authorities"]),
            "fault 2 .stop home-02, from 4 s. and fault 1 .kill, until 10 s.: one process",
        ),
        # A node that was killed is given a second to come up.
        (fault("kill", nodes=["home-02"]), fault("wipe", 10.5, nodes=["f", "home-02"]), "process"),
        (fault("cpu", nodes=["all"], percent=10), fault("stop", nodes=["f"]), "stands still"),
        (
            fault("clock", nodes=["all"], skew_ms=10),
            fault("clock", nodes=["f"], skew_ms=-10),
            "clock has one value at a time",
        ),
        (
            fault("link", nodes=["home-01"], to=["home-02"], delay_ms=5),
            fault("link", nodes=["home-02"], to=["all"], delay_ms=9),
            "both say how home-01 reaches home-02",
        ),
    ],
)
def test_contradictions_are_refused(one: dict[str, Any], two: dict[str, Any], words: str) -> None:
    with pytest.raises(ScenarioError, match=words):
        planned(one, two)


def test_what_can_be_together_is_taken() -> None:
    planned(
        fault("kill", nodes=["home-02"]),
        fault("kill", 11, nodes=["home-02"]),
        fault("link", nodes=["all"], delay_ms=5),
        fault("link", 10, nodes=["all"], delay_ms=9),
        fault("disconnect", nodes=["home-03"]),
        fault("partition", sides=[["home-03"], ["rest"]]),
        fault("byzantine", nodes=["home-02"], behaviour="nil"),
    )


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (fault("byzantine", nodes=["home-05"], behaviour="nil"), "only authorities"),
        (fault("byzantine", nodes=["f+1"], behaviour="nil"), "at most 1 of 4"),
        (fault("link", nodes=["all"]), "is as it was"),
        (fault("partition", sides=[["home-01"], ["authorities"]]), "home-01 is on two sides"),
        (fault("partition", sides=[["rest"], ["rest"]]), "two sides are 'rest'"),
        (fault("partition", sides=[["all"], ["rest"]]), "nobody is left"),
        (fault("partition", 0, 3000, sides=[["f"], ["rest"]], flap_s=1), "flaps more than"),
    ],
)
def test_what_cannot_be_is_refused(bad: dict[str, Any], words: str) -> None:
    with pytest.raises(ScenarioError, match=words):
        planned(bad)


def test_a_quorum_works_or_does_not() -> None:
    assert planned(fault("kill", nodes=["f"])).able() == [(0.0, 10.0, True)]
    assert planned(fault("kill", nodes=["f+1"])).able() == [(0.0, 10.0, False)]
    plan = planned(
        fault("kill", 0, 10, nodes=["home-01"]), fault("disconnect", 5, 10, nodes=["home-02"])
    )
    assert plan.able() == [(0.0, 5.0, True), (5.0, 10.0, False), (10.0, 15.0, True)]
    halves = fault("partition", sides=[["home-01", "home-02"], ["home-03", "rest"]])
    assert planned(halves).able() == [(0.0, 10.0, False)]
    assert planned(fault("partition", sides=[["home-01"], ["rest"]])).able() == [(0.0, 10.0, True)]
    # Who speaks and is not heard has no part in a quorum.
    deaf = fault("partition", sides=[["home-01", "home-02"], ["rest"]], one_way=True)
    assert planned(deaf).able() == [(0.0, 10.0, False)]
    flapping = fault("partition", 0, 7, sides=[["authorities:2"], ["rest"]], flap_s=2)
    assert planned(flapping).able() == [
        (0.0, 2.0, False),
        (2.0, 4.0, True),
        (4.0, 6.0, False),
        (6.0, 7.0, True),
    ]


def test_wires_are_those_of_what_is_in_force() -> None:
    plan = planned(
        fault("link", nodes=["home-01"], to=["north"], delay_ms=30, both_ways=False),
        fault("partition", sides=[["home-01"], ["home-05", "home-07"]]),
        fault("partition", sides=[["home-02"], ["home-03"]], one_way=True),
    )
    link, cut, one_way = plan.strikes
    slow = Wire(delay_ms=30)
    assert wires([link], plan.roster) == {
        ("home-01", "home-05"): slow,
        ("home-01", "home-06"): slow,
    }
    assert wires([one_way], plan.roster) == {("home-02", "home-03"): Wire(cut=True)}
    both = wires([link, cut], plan.roster)
    assert both["home-01", "home-05"] == slow._replace(cut=True)
    assert both["home-07", "home-01"] == Wire(cut=True)
    assert wires([], plan.roster) == {}


def test_random_faults_are_those_of_the_seed() -> None:
    asked = {"length_s": 100, "every_s": 10, "for_s": [2, 5], "kinds": ["kill", "stop"]}
    plan = planned(random=asked)
    assert len(plan.strikes) == 10
    assert plan.strikes == planned(random=asked).strikes
    assert plan.strikes != planned(random=asked, run={"seed": 2}).strikes
    assert 4 <= sum(isinstance(strike.fault, Kill) for strike in plan.strikes) <= 6
    assert all(2 <= strike.end_s - strike.begin_s <= 5 for strike in plan.strikes)
    some = planned(random=asked | {"nodes": ["authorities"]})
    assert {name for strike in some.strikes for name in strike.nodes} <= set(NAMES[:4])
    with pytest.raises(ScenarioError, match="within every_s"):
        planned(random=asked | {"for_s": [2, 9.5]})
