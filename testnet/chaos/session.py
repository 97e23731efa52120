"""`commonwatt chaos run`: from what was typed to the verdict and its report."""

import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from rich.console import Console

from testnet.chaos.errors import ChaosError
from testnet.chaos.journal import Journal, alone, read_journal, undoing, unfinished
from testnet.chaos.page import as_page
from testnet.chaos.report import as_json, show
from testnet.chaos.run import prepare, run_plan
from testnet.chaos.scenario import Scenario, find_scenario, load_scenario
from testnet.chaos.targets.base import Target
from testnet.chaos.targets.containers import Containers
from testnet.chaos.targets.netns import Namespaces
from testnet.chaos.targets.processes import Processes
from testnet.chaos.verdict import judge

EXIT_KEPT: Final = 0
EXIT_BROKEN: Final = 1
JSON_NAME: Final = "report.json"
PAGE_NAME: Final = "report.html"
LOGS_NAME: Final = "logs"
PROJECT: Final = "commonwatt"
CONTAINERS: Final = "containers"
_WHY_NOT: Final = {
    "netns": "what listens in a home's own network namespace cannot be reached from here",
    CONTAINERS: "what containers serve is in their settings, and those that do show this run",
}


class Options(NamedTuple):
    """What was typed."""

    scenario: str
    target: str
    out: Path | None = None
    as_json: bool = False
    project: str = PROJECT
    chain: str = ""
    dashboard: bool = False


def say(line: str) -> None:
    """Tell a person how it goes."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - for a person


async def session(options: Options) -> int:
    """Run a scenario; return the exit code.

    Raises
    ------
    ChaosError
        It cannot be run. What was done is undone.
    """
    scenario = load_scenario(find_scenario(options.scenario))
    out = _prepare_out(options.out)
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="commonwatt-chaos-"))
        keep = stack.enter_context(_kept_on_failure(directory))
        journal = Journal.begin()
        # What a run that crashed has left would disturb this one, too.
        left = [file for file in unfinished() if not read_journal(file)[1]]
        stack.enter_context(undoing(journal, say))
        if options.target == CONTAINERS:
            stack.enter_context(alone(f"project-{options.project}"))
        target = await make_target(options, directory, scenario, journal)
        plan = await prepare(scenario, target)
        if left:
            say(f"{len(left)} earlier runs are not undone: see `commonwatt chaos undo`")
        seen = await run_plan(plan, target, say)
        verdict = judge(seen)
        report = as_json(seen, verdict, target.name) | {"took_s": round(time.monotonic() - begun)}
        if out is not None:
            (out / JSON_NAME).write_text(json.dumps(report, indent=1) + "\n")
            (out / PAGE_NAME).write_text(as_page(seen, report))
            (out / LOGS_NAME).mkdir()
            await target.save_logs(out / LOGS_NAME)
        keep(not verdict.passed)
    if options.as_json:
        print(json.dumps(report, indent=1))  # noqa: T201 - the command's output
    else:
        show(report, Console())
    if out is not None:
        say(f"the report is {out / PAGE_NAME}")
    elif not verdict.passed:
        say(f"the nodes' directories and logs are in {directory}")
    return EXIT_KEPT if verdict.passed else EXIT_BROKEN


async def make_target(
    options: Options, directory: Path, scenario: Scenario, journal: Journal
) -> Target:
    """Return the target that was asked for, nothing of it touched."""
    if options.dashboard and options.target != "processes":
        raise ChaosError(
            f"--dashboard: {_WHY_NOT[options.target]}; leave it out, or use --target processes"
        )
    match options.target:
        case "containers":
            return await Containers.find(options.project, options.chain, journal)
        case "netns":
            return Namespaces(directory, scenario.grid, journal)
        case _:
            return Processes(directory, scenario.grid, journal, options.dashboard, say)


def _prepare_out(out: Path | None) -> Path | None:
    if out is None:
        return None
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ChaosError(f"--out {out}: cannot be made ({error.strerror})") from None
    if (out / JSON_NAME).exists():
        raise ChaosError(f"--out {out}: holds a report already; use another directory")
    return out


@contextlib.contextmanager
def _kept_on_failure(directory: Path) -> Iterator[Callable[[bool], None]]:
    keep = False

    def decide(kept: bool) -> None:
        nonlocal keep
        keep = kept

    try:
        yield decide
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)
