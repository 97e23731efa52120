"""Other people's programs: what they are asked, and what is said where they are not to be had."""

import sys
from pathlib import Path

import numpy as np
import pytest

from bench.figures import parser_of
from bench.peers import emhass_forecasts, emhass_plans, environment, gsy_e
from bench.plan import random_day
from hems.devices import Battery
from hems.forecast.report import Series


def test_without_a_checkout_gsy_e_is_refused_with_what_would_be_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = parser_of(gsy_e.__doc__, gsy_e.options)
    with pytest.raises(SystemExit):
        parser.parse_args([])
    assert "--checkout" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parser.parse_args(["--checkout", str(tmp_path)])
    assert f"{tmp_path} is no checkout of gsy-e" in capsys.readouterr().err
    (tmp_path / "src" / "gsy_e").mkdir(parents=True)
    assert parser.parse_args(["--checkout", str(tmp_path)]).checkout == tmp_path


def test_gsy_e_is_asked_for_the_community_of_the_studies() -> None:
    asked = gsy_e.question(60, 60)
    assert len(asked["homes"]) == 60
    assert sum(bool(home["pv_w"]) for home in asked["homes"]) == 12
    assert all(len(home["load_w"]) == 24 for home in asked["homes"])
    assert {home["battery_kwh"] for home in asked["homes"] if not home["pv_w"]} == {0}


def test_emhass_is_asked_for_our_days_in_its_units() -> None:
    day = random_day(np.random.default_rng(0))
    asked = emhass_plans.question([day], Battery(), 0.01)
    (one,) = asked["days"]
    # Half hours: 1 Wh in one is 2 W.
    assert one["load_w"] == pytest.approx(day.load_wh * 2)
    assert one["import"] == pytest.approx(day.import_micro_per_kwh / 1e6)
    assert (asked["gap"], asked["battery"]["capacity_wh"]) == (0.01, Battery().capacity_wh)


def test_emhass_is_not_told_what_it_is_to_forecast_beyond_the_days_asked() -> None:
    energy = np.arange(10 * 24, dtype=float)
    energy[3] = np.nan
    series = Series("a home", energy, 24, 20_000)
    asked = emhass_forecasts.question(series, 6, 2)
    load = asked["load_w"]
    assert isinstance(load, list)
    assert len(load) == 8 * 24
    assert (load[3], load[5]) == (None, 5.0)
    assert asked["begins"] == "2024-10-04"


def test_what_a_peer_says_when_it_fails_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.py").write_text("raise RuntimeError('no battery')\n")
    monkeypatch.setattr(environment, "INSIDE", tmp_path)
    with pytest.raises(SystemExit, match="no battery"):
        environment.ask(Path(sys.executable), "bad", {})


def test_a_question_is_answered_through_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "import json, sys\n"
        "asked = json.load(open(sys.argv[1]))\n"
        "print('what it prints does not matter')\n"
        "json.dump([asked, asked], open(sys.argv[2], 'w'))\n"
    )
    (tmp_path / "twice.py").write_text(script)
    monkeypatch.setattr(environment, "INSIDE", tmp_path)
    assert environment.ask(Path(sys.executable), "twice", {"a": 1}) == [{"a": 1}, {"a": 1}]


def test_environments_are_kept_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made: list[list[str]] = []

    def said(command: list[str]) -> None:
        made.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True)

    monkeypatch.setattr(environment, "_said", said)
    python = environment.python_of(("pymarket==0.7.6",), "3.11")
    assert tmp_path / "commonwatt" / "peers" in python.parents
    assert len(made) == 2
    assert environment.python_of(("pymarket==0.7.6",), "3.11") == python
    assert len(made) == 2
