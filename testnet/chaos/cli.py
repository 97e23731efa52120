"""The commands that disturb a grid."""

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from node.cli.options import JsonOption, print_json

chaos_app = typer.Typer(
    help="Disturb a grid by a scenario and judge what it makes of it.", no_args_is_help=True
)


class TargetName(StrEnum):
    """What `--target` takes."""

    processes = "processes"
    netns = "netns"
    containers = "containers"


@chaos_app.command("run")
def chaos_run(
    scenario: Annotated[str, typer.Argument(help="A TOML file, or a shipped scenario's name.")],
    target: Annotated[TargetName, typer.Option(help="Where the grid runs.")] = TargetName.processes,
    project: Annotated[
        str, typer.Option(help="The Compose project that --target containers disturbs.")
    ] = "commonwatt",
    chain: Annotated[
        str,
        typer.Option(help="Of several chains: the beginning of its id. [default: the largest]"),
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(help="Write report.json and report.html there, and keep the nodes' logs."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    dashboard: Annotated[
        bool,
        typer.Option("--dashboard", help="The last home shows the run (--target processes)."),
    ] = False,
) -> None:
    """Run a scenario; exit code 0 if every promise was kept, 1 if not, 2 if it cannot be run."""
    from testnet.chaos.session import Options, session

    options = Options(scenario, target.value, out, as_json, project, chain, dashboard)
    try:
        code = asyncio.run(session(options))
    except (KeyboardInterrupt, asyncio.CancelledError):
        typer.echo("stopped; all faults are undone", err=True)
        code = 130
    raise typer.Exit(code)


@chaos_app.command("draw")
def chaos_draw(
    report: Annotated[Path, typer.Argument(help="The report.json of a run.")],
    out: Annotated[Path, typer.Option(help="The SVG to write.")],
) -> None:
    """Draw the memory of a run's nodes over time, and how fast it grew."""
    from testnet.chaos.draw import memory_svg, read_report
    from testnet.chaos.errors import ChaosError

    drawn = memory_svg(read_report(report))
    try:
        out.write_text(drawn)
    except OSError as error:
        raise ChaosError(f"--out {out}: cannot be written ({error.strerror})") from None


@chaos_app.command("list")
def chaos_list(as_json: JsonOption = False) -> None:
    """List the shipped scenarios."""
    from testnet.chaos.scenario import kinds_of, load_scenario, shipped

    scenarios = [load_scenario(file) for file in shipped()]
    if not as_json:
        for one in scenarios:
            typer.echo(f"{one.name:24} {one.about}")
        return
    print_json(
        [
            {
                "name": one.name,
                "about": one.about,
                "homes": one.grid.homes,
                "authorities": one.grid.authorities,
                "regions": one.grid.regions,
                "kinds": kinds_of(one),
            }
            for one in scenarios
        ]
    )


@chaos_app.command("undo")
def chaos_undo() -> None:
    """Undo what a run has left that could not do so itself."""
    from testnet.chaos.journal import undo_left, unfinished

    if not unfinished():
        typer.echo("nothing to undo")
        return
    problems = undo_left(typer.echo)
    for problem in problems:
        typer.echo(f"commonwatt: {problem}", err=True)
    raise typer.Exit(1 if problems else 0)
