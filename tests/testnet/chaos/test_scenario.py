"""A scenario's file is read as it was meant, or refused in one line that says what is wrong."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import fields

from market.genesis import MarketParams
from testnet.chaos.errors import ScenarioError
from testnet.chaos.journal import Journal
from testnet.chaos.plan import make_plan
from testnet.chaos.scenario import (
    Kill,
    Link,
    find_scenario,
    load_scenario,
    read_scenario,
    shipped,
)
from testnet.chaos.targets.processes import Processes

KILL = {"kind": "kill", "nodes": ["home-01"], "at_s": 0, "for_s": 5}


def of(*faults: dict[str, Any], **tables: Any) -> dict[str, Any]:
    return {"about": "a test", "fault": list(faults), **tables}


def test_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "two-lost.toml"
    file.write_text(
        'about = "two"\n[demands]\ngap_s = 4\n[groups]\nwest = ["home-01"]\n'
        '[[fault]]\nkind = "kill"\nnodes = ["west"]\nat_s = 1\nfor_s = 2.5\n'
        '[[fault]]\nkind = "link"\nnodes = ["all"]\nat_s = 1\nfor_s = 2\ndelay_ms = 30\n'
    )
    scenario = load_scenario(file)
    assert scenario.name == "two-lost"
    assert scenario.demands.gap_s == 4
    kill, link = scenario.fault
    assert kill == Kill(nodes=("west",), at_s=1, for_s=2.5)
    assert isinstance(link, Link)
    assert (link.delay_ms, link.to, link.both_ways) == (30, ("all",), True)


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        (of(), "nothing would happen"),
        ({"fault": [KILL]}, "about"),
        (of(KILL, wind=1), "unknown field `wind`"),
        (of(KILL | {"how": "hard"}), "fault.*unknown field `how`"),
        (of(KILL | {"kind": "kiln"}), "fault.*Invalid value 'kiln'"),
        (of(KILL | {"for_s": 0}), "for_s: Expected `float` > 0"),
        (of(KILL | {"at_s": -1}), "at_s: Expected `float` >= 0"),
        (of(KILL | {"nodes": []}), "nodes: .*length >= 1"),
        (of(KILL | {"nodes": "home-01"}), "nodes: Expected `array`"),
        (of(KILL, grid={"homes": 3}), "grid.homes"),
        (of({**KILL, "kind": "byzantine", "behaviour": "rude"}), "Invalid enum value 'rude'"),
    ],
)
def test_what_is_not_known_is_refused(tree: dict[str, Any], words: str) -> None:
    with pytest.raises(ScenarioError, match=words) as caught:
        read_scenario(tree, "x.toml")
    assert str(caught.value).startswith("x.toml: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"about = ", "not TOML"),
        (b"\xff", "not TOML: 'utf-8' codec"),
        (b"#" * 40_000, "more than the"),
        (b'name = "x"\nabout = "y"', "leave it out"),
    ],
)
def test_what_is_no_scenario_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "x.toml"
    file.write_bytes(content)
    with pytest.raises(ScenarioError, match=words):
        load_scenario(file)
    with pytest.raises(ScenarioError, match="cannot be read"):
        load_scenario(tmp_path / "none.toml")


def test_a_shipped_scenario_is_found_by_its_name(tmp_path: Path) -> None:
    assert find_scenario("f-lost") in shipped()
    assert find_scenario(str(shipped()[0])) == shipped()[0]
    with pytest.raises(ScenarioError, match=r"those are .*f-lost"):
        find_scenario("f-found")


def test_where_memory_may_not_grow_the_market_s_is_full_before() -> None:
    slots = next(one.default for one in fields(MarketParams) if one.name == "keep_slots")
    asked = [one for one in map(load_scenario, shipped()) if one.demands.rss_mib_per_h]
    assert asked
    for one in asked:
        slot_s = one.grid.slot_minutes * 60 / one.grid.time_lapse
        assert one.run.warm_up_s > slots * slot_s, one.name


@pytest.mark.parametrize("file", shipped(), ids=lambda file: file.stem)
def test_shipped_scenarios_fit_the_grid_they_ask_for(file: Path, tmp_path: Path) -> None:
    scenario = load_scenario(file)
    journal = Journal(tmp_path / "journal.jsonl")
    plan = make_plan(scenario, Processes(tmp_path, scenario.grid, journal).roster)
    assert plan.strikes
