"""Decoders of the chaos tool: scenarios that people write, journals that crashes leave."""

import math
from pathlib import Path
from typing import Any, Final

import msgspec

from testnet.chaos.errors import ScenarioError, UndoError
from testnet.chaos.journal import Command, Entry, Journal, Remove, Signal, read_journal
from testnet.chaos.scenario import Scenario, load_scenario, shipped
from tests.fuzz.file_targets import folder, in_own_folder
from tests.fuzz.judge import Target


def chaos_scenario() -> Target:
    def check(scenario: Scenario, data: bytes) -> str | None:
        times = [time for fault in scenario.fault for time in (fault.at_s, fault.for_s)]
        return None if all(map(math.isfinite, times)) else f"a fault at {times}"

    return Target(
        "chaos-scenario",
        in_own_folder(load_scenario),
        (ScenarioError,),
        tuple(file.read_bytes() for file in shipped()),
        kind="text",
        check=check,
        words=(b"[[fault]]", b"kind", b"nodes", b"at_s", b"for_s", b"nan", b"inf"),
        # tomllib is Python: as of the settings, the most that is read takes it as long.
        cpu_s_max=0.05,
    )


def chaos_journal() -> Target:
    def read(path: Path) -> Any:
        return read_journal(path)

    file = folder() / "journal.jsonl"
    journal = Journal(file)
    journal.deed("a process", Signal(7, 8, 18))
    journal.undone(journal.deed("a rule", Command(["nsenter", "x"], ["gone"], 7, 8)))
    journal.deed("a file", Remove("/nowhere/x"))
    torn = file.read_bytes() + msgspec.json.encode(Entry(9, "torn"))
    journal.close()
    return Target(
        "chaos-journal", in_own_folder(read), (UndoError,), (file.read_bytes(), torn), kind="text"
    )


TARGETS: Final = (chaos_scenario, chaos_journal)
