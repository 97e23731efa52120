"""Each command that the pages tell people to type is run by a test, or it is said why not."""

import ast
import functools
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import cli
from tests.docs.test_pages import DOCS, PAGES, ROOT, parse, typed
from tests.docs.test_reading import READING

WHOLE = [
    ROOT / "README.md",
    *PAGES,
    *(DOCS / f"{name}.md" for name in ("chaos", "dashboard", "deploy", "home", "mqtt", "security")),
]
HERE = "docs/test_reading.py::test_the_pages_reading_commands_are_answered"
# Where each command is typed by a test as a person does, or called with what the parser made of it.
TYPED = {
    ("backup",): "node/test_backup.py::test_the_commands",
    ("bill",): "node/proofs/test_bill.py::test_the_command_proves_a_bill_that_a_neighbour_serves",
    ("chaos", "draw"): "testnet/chaos/test_draw.py::test_memory_and_its_growth_are_drawn",
    ("chaos", "list"): "docs/test_typed.py::test_what_needs_no_node_is_answered",
    ("chaos", "run"): "e2e/test_chaos.py::test_processes_are_killed_stopped_and_wiped",
    ("chaos", "undo"): "e2e/test_chaos.py::test_whatever_ends_the_tool_a_stopped_home_goes_on",
    ("community", "admit"): HERE,
    ("community", "alarms"): "node/feeder/test_alarms.py::"
    "test_the_command_reads_the_store_of_a_stopped_node",
    (
        "community",
        "leave",
    ): "node/membership/test_leaving.py::test_a_home_leaves_and_takes_its_money",
    ("community", "remove"): "node/membership/test_leaving.py::"
    "test_the_regulator_takes_a_home_in_and_out",
    ("contracts", "call"): "node/test_contracts.py::test_any_entry_can_be_called_and_asked",
    ("contracts", "query"): "node/test_contracts.py::test_any_entry_can_be_called_and_asked",
    ("contracts", "deploy"): "node/test_contracts.py::test_a_contract_by_the_command_line",
    ("forecast", "report"): "node/test_forecast_report.py::test_the_report_is_printed_and_drawn",
    ("gov", "propose"): "node/test_governor.py::test_a_seat_by_the_command_line",
    ("gov", "vote"): "node/test_governor.py::test_a_seat_by_the_command_line",
    ("init",): "node/membership/test_joining.py::test_init_asks_a_neighbour_for_the_genesis",
    ("invite", "create"): HERE,
    ("invite", "revoke"): HERE,
    ("invite", "show"): HERE,
    ("key", "encrypt"): "node/keys/test_keyfile.py::"
    "test_a_key_is_encrypted_shown_and_decrypted_by_command",
    ("key", "offer"): "node/keys/test_rotation.py::test_a_stolen_home_goes_on_with_a_new_node",
    ("key", "recovery-code"): "node/keys/test_keyfile.py::test_a_key_comes_back_from_paper",
    ("key", "restore"): "node/keys/test_keyfile.py::test_a_key_comes_back_from_paper",
    ("key", "rotate"): "node/keys/test_rotation.py::test_a_stolen_home_goes_on_with_a_new_node",
    ("key", "show-address"): "node/keys/test_keyfile.py::"
    "test_a_key_is_encrypted_shown_and_decrypted_by_command",
    ("meter", "key"): "node/home/test_disclosure.py::test_a_home_discloses_and_its_auditor_reads",
    (
        "meter",
        "disclose",
    ): "node/home/test_disclosure.py::test_a_home_discloses_and_its_auditor_reads",
    (
        "meter",
        "read-disclosure",
    ): "node/home/test_disclosure.py::test_a_home_discloses_and_its_auditor_reads",
    ("region", "approve"): "node/regions/test_region_commands.py::"
    "test_a_region_comes_in_and_is_anchored_by_its_commands",
    ("region", "create"): "node/regions/test_region_commands.py::"
    "test_a_region_comes_in_and_is_anchored_by_its_commands",
    ("region", "deposit"): "node/regions/test_region_commands.py::"
    "test_a_region_leaves_and_its_sponsor_has_all_back",
    ("region", "leave"): "node/regions/test_region_commands.py::"
    "test_a_region_leaves_and_its_sponsor_has_all_back",
    ("region", "list"): "node/regions/test_region_commands.py::"
    "test_a_region_leaves_and_its_sponsor_has_all_back",
    ("region", "override"): "node/regions/test_succession.py::"
    "test_a_region_that_has_lost_two_of_four_goes_on_with_two_others",
    ("region", "prove"): "node/regions/test_succession.py::"
    "test_a_region_that_has_lost_two_of_four_goes_on_with_two_others",
    ("region", "reclaim"): "node/regions/test_region_commands.py::"
    "test_a_region_leaves_and_its_sponsor_has_all_back",
    ("region", "show"): "node/regions/test_succession.py::"
    "test_a_region_that_has_lost_two_of_four_goes_on_with_two_others",
    ("restore",): "node/test_backup.py::test_the_commands",
    ("testnet", "compose"): "docs/test_typed.py::test_what_needs_no_node_is_answered",
    ("testnet", "create"): "e2e/test_stack.py",
    ("testnet", "kubernetes"): "testnet/test_kubernetes.py",
    ("testnet", "stack"): "testnet/test_stack.py",
    ("testnet", "up"): "e2e/test_street.py::test_the_built_in_street_trades_and_resumes",
    ("verify",): "node/regions/test_region_commands.py::"
    "test_a_region_comes_in_and_is_anchored_by_its_commands",
}
# Why a command is parsed only. What it calls has tests; its own lines are few.
PARSED = {
    (
        "load",
    ): "testnet/test_load.py and chaos' bursts run what it runs; by itself it needs a street",
    ("run",): "the daemon: each street of e2e/ runs it as `python -m node`",
}


def groups(words: list[str]) -> tuple[str, ...]:
    """Return which command it is: `region override propose`."""
    command, path = typer.main.get_command(cli.app), []
    while inner := getattr(command, "commands", None):
        command = inner[words[len(path)]]
        path.append(words[len(path)])
    return tuple(path)


@functools.cache
def named_in(file: Path) -> frozenset[str]:
    tree = ast.parse(file.read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, functions))


def test_each_command_of_the_pages_has_its_test() -> None:
    found = set()
    for page in WHOLE:
        for words in typed(page):
            if words[0] == "commonwatt":
                path = groups(words[1:])
                known = [path[:end] for end in (1, 2, 3)]
                own = [one for one in known if one in TYPED or one in PARSED or one in READING]
                name = f"{page.name}: commonwatt {' '.join(path)}"
                assert own, f"{name}: which test types it (TYPED), or why does none (PARSED)?"
                found.add(own[0])
    assert found == TYPED.keys() | PARSED.keys() | READING, "of commands that stand on no page"
    assert not TYPED.keys() & PARSED.keys()


@pytest.mark.parametrize("path", TYPED, ids=" ".join)
def test_the_named_test_is_there_and_types_it(path: tuple[str, ...]) -> None:
    name, _, test = TYPED[path].partition("::")
    file = ROOT / "tests" / name
    assert not test or test in named_in(file)
    text = file.read_text()
    # Its helpers may say the first word for all of its lines.
    assert any(f'"{word}"' in text or f"{word} " in text for word in path)
    assert f'"{path[-1]}"' in text, f"{name} never says {path[-1]}"


@pytest.mark.parametrize("page", WHOLE, ids=lambda page: page.stem)
def test_what_is_to_be_typed_on_other_pages_can_be(page: Path) -> None:
    for words in typed(page):
        if words[0] == "commonwatt":
            parse(words[1:])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["chaos", "list"], "f-lost"),
        (["chaos", "undo"], "nothing to undo"),
        (["testnet", "compose", "--regions", "2", "--homes", "10"], "services:"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[:2]),
)
def test_what_needs_no_node_is_answered(
    line: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    result = CliRunner().invoke(cli.app, line)
    assert (result.exit_code, says in result.output) == (0, True), result.output
