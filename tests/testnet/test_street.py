"""A street's description is taken as it was written, or refused in one line."""

import json
import socket
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from node.config import WebSection, load_config
from node.genesis import read_genesis
from node.lock import DirectoryLock
from node.setup import DATA_NAME, GENESIS_NAME
from testnet.processes import HomeProcess
from testnet.report import PROMISES, is_sound
from testnet.street import STREET_NAME, StreetError, StreetPlan, create_street, open_street
from testnet.up import agents_asked, is_free, refuse_running, serve_dashboard

GOOD: dict[str, Any] = {
    "plan": {"homes": 4, "seed": 7},
    "names": ["home-01", "home-02", "home-03", "home-04"],
}


def test_a_street_is_opened(tmp_path: Path) -> None:
    assert open_street(tmp_path) is None
    (tmp_path / STREET_NAME).write_text(json.dumps(GOOD))
    street = open_street(tmp_path)
    assert street is not None
    assert (street.plan, street.names) == (StreetPlan(homes=4, seed=7), GOOD["names"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "\udcff",
        '{"plan": ' + '{"a":' * 100_000,
        json.dumps(GOOD | {"names": GOOD["names"][:3]}),
        json.dumps(GOOD | {"names": ["../../etc", *GOOD["names"][1:]]}),
        json.dumps(GOOD | {"names": "home"}),
        json.dumps(GOOD | {"plan": {"homes": 4, "more": 1}}),
        json.dumps(GOOD | {"plan": {"homes": 10**9}}),
    ],
    ids=["empty", "list", "bytes", "deep", "few", "outside", "text", "unknown", "many"],
)
def test_what_is_no_street_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / STREET_NAME).write_text(text, errors="surrogateescape")
    with pytest.raises(StreetError) as caught:
        open_street(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_street_that_runs_is_not_started_again(tmp_path: Path) -> None:
    (tmp_path / STREET_NAME).write_text(json.dumps(GOOD))
    street = open_street(tmp_path)
    assert street is not None
    data = street.home("home-03") / DATA_NAME
    data.mkdir(parents=True)
    refuse_running(street)
    with (
        DirectoryLock(data),
        pytest.raises(
            StreetError, match=r"runs already \(home-03 is process \d+\)\. Stop it first"
        ),
    ):
        refuse_running(street)
    refuse_running(street)


def test_agents_are_asked_for_by_all_and_by_one() -> None:
    assert agents_asked([]) == {}
    assert agents_asked(["home-03=hu_producer", "ce"]) == {
        "agent": "ce",
        "agents": {"home-03": "hu_producer"},
    }
    with pytest.raises(StreetError, match="there is ce already"):
        agents_asked(["ce", "mpc"])
    with pytest.raises(StreetError, match="there is ce already"):
        agents_asked(["home-03=ce", "home-03=mpc"])


def test_a_streets_homes_get_their_agents_and_storage(tmp_path: Path) -> None:
    plan = StreetPlan(
        homes=6,
        agent="zero_intelligence",
        agents={"home-02": "ce", "home-03": "mpc"},
        speculators=2,
    )
    street = create_street(tmp_path / "street", plan)
    assert open_street(tmp_path / "street") == street
    homes = []
    for name in street.names:
        home = load_config(street.home(name) / "node.toml", {}).home
        assert home is not None
        homes.append(home)
    agents = ["zero_intelligence", "ce", "mpc", "zero_intelligence"] + ["hu_speculator"] * 2
    assert [home.agent for home in homes] == agents
    # Each draws for itself.
    seeds = [home.agent_settings.get("seed") for home in homes]
    assert seeds == [201, 202, None, 204, 205, 206]
    entries = read_genesis(street.home("home-01") / GENESIS_NAME).market.homes
    assert [entry.role for entry in entries[4:]] == ["speculator"] * 2
    assert all(entry.battery_wh == 5_000 and entry.export_cap_w > 0 for entry in entries[4:])


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (StreetPlan(homes=6, agent="cd"), "agent 'cd': there is none of this name"),
        (StreetPlan(homes=6, agents={"home-07": "ce"}), "homes are home-01 to home-06"),
        (StreetPlan(homes=6, speculators=3), "3 speculators: 0 to 2"),
        (StreetPlan(intraday_minutes=5, mechanism="sharing"), "high_low and uniform have orders"),
        (StreetPlan(intraday_minutes=-1), "every -1 minutes: 1 to 1440"),
        (StreetPlan(rules={"mechanism": "uniform"}), "rules: mechanism is no rule of a market"),
        (StreetPlan(rules={"margin_percent": "10"}), "rules: margin_percent: Expected `int`"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    tmp_path: Path, plan: StreetPlan, words: str
) -> None:
    with pytest.raises(StreetError, match=words):
        create_street(tmp_path / "street", plan)
    assert not (tmp_path / "street").exists()


def test_any_broken_promise_is_told_by_the_exit_code() -> None:
    kept = dict.fromkeys(PROMISES, True)
    assert is_sound(kept)
    assert is_sound({**kept, "main": None})
    assert is_sound({**kept, "main": {"state_roots_equal": True}})
    assert not is_sound({**kept, "main": {"state_roots_equal": False}})
    for name in PROMISES:
        assert not is_sound({**kept, name: False})


def test_one_home_serves_its_dashboard_where_a_port_is_free(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text("[node]\n")
    process = HomeProcess("home-01", tmp_path)
    usual = WebSection().listen
    taken = socket.create_server(WebSection().address) if is_free(usual) else nullcontext()
    with taken:
        address = serve_dashboard(process)
    assert address != f"http://{usual}/"
    web = load_config(tmp_path / "node.toml", process.settings).web
    assert web is not None
    assert (web.dashboard, address) == (True, f"http://{web.listen}/")


def test_last_words_are_those_that_may_say_why(tmp_path: Path) -> None:
    process = HomeProcess("home-01", tmp_path)
    assert process.last_words() == "no log"
    process.log_path.write_text("")
    assert process.last_words() == "it said nothing"
    said = "ERROR   commonwatt.daemon: no address to listen on"
    doubt = "WARNING commonwatt.sensors: home: pv, 1 of its readings"
    process.log_path.write_text(f"10:00 {said}\n10:01 {doubt}\n\n")
    assert process.last_words() == f"10:00 {said}"


def test_a_homes_own_address_holds(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text('[node]\n[web]\nlisten = "127.0.0.1:4999"\n')
    process = HomeProcess("home-01", tmp_path)
    assert serve_dashboard(process) == "http://127.0.0.1:4999/"
    web = load_config(tmp_path / "node.toml", process.settings).web
    assert web is not None
    assert web.dashboard
