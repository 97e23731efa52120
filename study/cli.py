"""`commonwatt study`: the papers' experiments, on the product's own contracts and agents."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from study.errors import StudyError

if TYPE_CHECKING:
    from study.cells import Progress
    from study.stats import Check

study_app = typer.Typer(help="Make the papers' experiments again.", no_args_is_help=True)

EXIT_SETUP: Final = 2
EXIT_INTERRUPTED: Final = 130

OutOption = Annotated[
    Path, typer.Option("--out", help="Directory of the results; the same one resumes a study.")
]
SeedsOption = Annotated[int, typer.Option(min=1, max=1_000, help="Runs of each cell.")]
JobsOption = Annotated[
    int | None, typer.Option(min=1, max=256, help="Processes. [default: one per CPU]")
]
PlotsOption = Annotated[bool, typer.Option("--plots/--no-plots", help="Draw, or only tables.")]

EngineOption = Annotated[
    str,
    typer.Option(
        help="here: processes of this machine; dask: its own workers, or ADDRESS of a scheduler."
    ),
]

DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Measurements to make the types of. [default: built-in types]"),
]
ZoneOption = Annotated[str, typer.Option("--zone", help="Time zone of the file's clock.")]


@study_app.callback()
def _study() -> None:
    """Make the papers' experiments again."""
    # Before numpy is loaded, here and in the workers: linear algebra has nothing to do here.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@study_app.command("ce-sdt")
def ce_sdt(
    out: OutOption,
    figure: Annotated[str, typer.Option(help="5 to 10, several with commas, or all.")] = "all",
    users: Annotated[int, typer.Option(help="Users of the base community.")] = 60,
    share: Annotated[int, typer.Option(help="Percent of the users who generate.")] = 20,
    seeds: SeedsOption = 10,
    data: DataOption = None,
    zone: ZoneOption = "Australia/Sydney",
    load: Annotated[
        int | None, typer.Option(help="Percent of the types' load. [default: calibrated, or 100]")
    ] = None,
    consensus: Annotated[
        str, typer.Option(help="one: executed once; full: four authorities agree in process.")
    ] = "one",
    jobs: JobsOption = None,
    plots: PlotsOption = True,
) -> None:
    """CE-SDT (Wang et al. 2023), section 4: figures 5 to 10, with checks of what must show."""
    with _said(out):
        from study.ce.data import types_of
        from study.ce.run import authorities_of, run

        types = types_of(data, zone)
        percent = load if load is not None else (None if data is None else 100)
        changes = {} if percent is None else {"load_percent": percent}
        written, checks = run(
            out=out,
            figure=figure,
            base={
                "users": users,
                "share_percent": share,
                "authorities": authorities_of(consensus),
                **changes,
            },
            seeds=seeds,
            types=types,
            jobs=jobs or os.cpu_count() or 1,
            plots=plots,
            tell=_bar(),
        )
        _print(out, written, checks)


@study_app.command("huang")
def huang(
    out: OutOption,
    figure: Annotated[str, typer.Option(help="8, 9 or all.")] = "all",
    seeds: SeedsOption = 10,
    mode: Annotated[str, typer.Option(help="Producers: literal or hill_climb.")] = "literal",
    days: Annotated[int, typer.Option(help="How long.")] = 2,
    jobs: JobsOption = None,
    plots: PlotsOption = True,
) -> None:
    """Huang et al. 2022, section 3: figures 8 and 9, with checks of what must show."""
    with _said(out):
        from study.hu.market import Setting, mode_of
        from study.hu.run import run

        written, checks = run(
            out=out,
            figure=figure,
            base=Setting(mode=mode_of(mode), days=days),
            seeds=seeds,
            jobs=jobs or os.cpu_count() or 1,
            plots=plots,
            tell=_bar(),
        )
        _print(out, written, checks)


@study_app.command("compare")
def compare(
    out: OutOption,
    homes: Annotated[int, typer.Option(help="Homes; six of ten have PV and a battery.")] = 12,
    days: Annotated[int, typer.Option(help="How long.")] = 1,
    seeds: SeedsOption = 3,
    only: Annotated[
        str, typer.Option(help="Cases whose names begin so, several with semicolons; or all.")
    ] = "all",
    jobs: JobsOption = None,
    engine: EngineOption = "here",
) -> None:
    """One community under all mechanisms and agents, held against the social optimum."""
    with _said(out):
        from study.compare.run import Plan, run
        from study.compare.setting import Setting, cases_of
        from study.engines import executor_of

        plan = Plan(cases_of(only), Setting(homes=homes, days=days), seeds)
        plan.settings()
        with executor_of(engine, jobs) as (executor, at_a_time):
            written = run(out=out, plan=plan, jobs=at_a_time, tell=_bar(), executor=executor)
        _print(out, written, [])


@study_app.command("sweep")
def sweep(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="What to vary.")],
    out: OutOption,
    data: DataOption = None,
    zone: ZoneOption = "Australia/Sydney",
    jobs: JobsOption = None,
    engine: EngineOption = "here",
) -> None:
    """Run a study over every combination of some settings; a table of what came of each."""
    with _said(out):
        from study.ce.data import types_of
        from study.engines import executor_of
        from study.sweep import read_sweep, run

        wanted = read_sweep(config)
        with executor_of(engine, jobs) as (executor, at_a_time):
            written = run(
                out=out,
                sweep=wanted,
                types=types_of(data, zone),
                jobs=at_a_time,
                tell=_bar(),
                executor=executor,
            )
        _print(out, written, [])


@contextmanager
def _said(out: Path) -> Iterator[None]:
    """Say in one line what a person can mend, or how to go on after an interruption."""
    try:
        yield
    except StudyError as error:
        typer.echo(f"commonwatt: {error}", err=True)
        raise typer.Exit(EXIT_SETUP) from None
    except KeyboardInterrupt:
        typer.echo(
            f"commonwatt: interrupted; what is done is in {out}, the same command goes on", err=True
        )
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _bar() -> "Callable[[Progress], None]":
    """Return what shows progress: a bar on a terminal, else a line where something is resumed."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    bar = Bar(
        TextColumn("cells"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = bar.add_task("cells", total=None)

    def tell(progress: "Progress") -> None:
        if not progress.done:
            if progress.before:
                console.print(
                    f"resumed: {progress.before} of {progress.cells} cells were done before"
                )
            bar.start()
        done = progress.before + progress.done
        bar.update(task, completed=done, total=progress.cells)
        if done == progress.cells:
            bar.stop()

    return tell


def _print(out: Path, written: "list[str]", checks: "list[Check]") -> None:
    for check in checks:
        verdict = "inside" if check.inside else "MISS  "
        typer.echo(
            f"{verdict}  {check.figure}: {check.statement}: {check.mean:.{check.digits}f}"
            f" (paper: {check.paper})"
        )
    typer.echo(f"{len(written)} files in {out}: {', '.join(written)}")
