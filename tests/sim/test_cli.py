"""The command: which runs, which faults, what it prints and how it exits."""

import pytest

from tests.sim.__main__ import main
from tests.sim.faults import KINDS, NAMES, faults_of


def test_it_prints_a_summary_and_exits_with_0(capsys):
    assert main(["--seeds", "6", "--nodes", "4,7", "--jobs", "1", "--faults", "duel"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("6 runs in ")
    assert printed.endswith("0 violations\n")


def test_a_violation_comes_with_the_command_that_repeats_it(capsys):
    command = ["--seeds", "2", "--nodes", "4", "--jobs", "1", "--faults", "duel"]
    assert main([*command, "--mutant", "vote before persist"]) == 1
    printed = capsys.readouterr().out
    assert "seed 1 n=4: durability: " in printed
    again = "--first-seed 1 --seeds 1 --nodes 4 --faults duel --mutant 'vote before persist'"
    assert f"again: uv run python -m tests.sim {again}\n" in printed
    assert printed.endswith("2 violations\n")


def test_two_processes_do_the_same_as_one(capsys):
    printed = []
    for jobs in ("1", "2"):
        assert main(["--seeds", "40", "--nodes", "4", "--faults", "duel", "--jobs", jobs]) == 0
        printed.append(capsys.readouterr().out.split("\n", 1)[1])
    assert printed[0] == printed[1]


@pytest.mark.parametrize(("option", "value", "says"), [
    ("--faults", "drops,gremlins", "'gremlins' is no fault; it must be one of drops, delay,"),
    ("--faults", "drops,any", "'any' is no fault"),
    ("--faults", "", "'' is no fault"),
    ("--nodes", "4,x", "numbers of authorities with commas"),
    ("--nodes", "0", "each from 1 to 63"),
    ("--seeds", "0", "a whole number from 1 on"),
    ("--seeds", "many", "a whole number from 1 on"),
])  # fmt: skip
def test_what_cannot_be_is_said_so(option, value, says, capsys):
    with pytest.raises(SystemExit) as ended:
        main([option, value])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_a_named_fault_is_switched_on_and_no_other(name):
    off, on = vars(faults_of("drops", 1)), vars(faults_of(name, 1))
    changed = {key for key in on if on[key] and key != "drop"}
    assert changed or name == "drops"
    allowed = {"torn": {"torn", "crashes"}, "skew": {"skew_ms", "drift"}}
    allowed |= {name: {name, "faulty_min"} for name in ("twins", "lies")}
    assert len(changed) <= len(allowed.get(name, {name}))
    assert not off["partitions"]


def test_the_kinds_of_runs():
    for seed in range(20):
        assert faults_of("duel", seed).duel_rounds
        assert not faults_of("chaos", seed).duel_rounds
    assert faults_of("any", 1) is None
    assert set(KINDS) == {"any", "chaos", "duel"}
