"""`commonwatt forecast`: how good a home's forecasts are, on its own data."""

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from node.cli.options import JsonOption, print_json
from node.cli.tables import add_row, show, table

if TYPE_CHECKING:
    from hems.forecast.model import ModelName
    from hems.forecast.report import HomeReport, Series, Skill

forecast_app = typer.Typer(help="Judge the forecasts.", no_args_is_help=True)

_ZONE: Final = "Australia/Sydney"


@forecast_app.callback()
def _forecast() -> None:
    """Judge the forecasts."""


@forecast_app.command("report")
def report(
    data: Annotated[
        Path | None,
        typer.Option(
            help="Measurements, as a CSV of time and a load column per home. "
            "[default: built-in homes]"
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="auto, blend, ridge or boosted.")] = "auto",
    retrain_days: Annotated[int, typer.Option(min=1, help="Train anew after this many days.")] = 28,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Homes judged at once. [default: one per CPU]")
    ] = None,
    zone: Annotated[str, typer.Option(help="The time zone of the file's clock.")] = _ZONE,
    as_json: JsonOption = False,
    out: Annotated[
        Path | None, typer.Option(help="Also write report.json and drawings (SVG) here.")
    ] = None,
) -> None:
    """Walk forward through each home's days, forecasting each at midnight, and print the skill.

    The last 30 % of each home's days are forecast, from nothing but the days before each. Skill is
    1 - error / error of the 7-day naive forecast (the same time seven days before).
    """
    # Before numpy is loaded, here and in the workers: see `node.launch`.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from hems.errors import HemsError
    from hems.forecast import report as reports
    from hems.forecast.data import built_in_series, read_series
    from hems.forecast.model import model_of
    from node.errors import ConfigError

    try:
        name = model_of(model)
        file = "built-in homes, synthetic" if data is None else data.name
        loads, productions = built_in_series() if data is None else read_series(data, zone)
        homes, left_out = _judge(loads, name, retrain_days, jobs or os.cpu_count() or 1)
        if not homes:
            raise ConfigError(f"{file}: no home can be judged: {'; '.join(left_out)}")
        pv = {series.name: reports.pv_skill(series) for series in productions}
    except HemsError as error:
        raise ConfigError(str(error)) from None
    plain = reports.as_plain(homes, file, model, pv, left_out)
    if out is not None:
        _write(out, homes, loads[0].steps_per_day, plain)
    if as_json:
        print_json(plain)
    else:
        _print(homes, pv, left_out, file, model)
        if out is not None:
            typer.echo(f"report.json and drawings are in {out}")


def _judge(
    loads: list["Series"], model: "ModelName", retrain_days: int, jobs: int
) -> tuple[list["HomeReport"], list[str]]:
    """Return the reports of the homes that can be judged, and why others cannot."""
    from hems.forecast.report import TooLittleError, walk_forward

    homes, left_out = [], []
    jobs = min(jobs, len(loads))
    ways: Iterator[Callable[[], HomeReport]]
    with ExitStack() as stack:
        if jobs > 1:
            workers = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))
            pool = stack.enter_context(workers)
            waiting = [pool.submit(walk_forward, each, model, retrain_days) for each in loads]
            ways = (future.result for future in waiting)
        else:
            ways = (partial(walk_forward, each, model, retrain_days) for each in loads)
        for place, way in enumerate(ways, start=1):
            _progress(f"home {place} of {len(loads)}")
            try:
                homes.append(way())
            except TooLittleError as error:
                left_out.append(str(error))
    _progress("")
    return homes, left_out


def _progress(text: str) -> None:
    """Write a line over the last one on a terminal; nothing where nobody watches."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{text}\x1b[K")
        sys.stderr.flush()


def _write(
    out: Path, homes: list["HomeReport"], steps_per_day: int, plain: dict[str, object]
) -> None:
    import json

    from hems.forecast.plots import skills_svg, week_svg
    from node.errors import ConfigError

    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.json").write_text(json.dumps(plain, indent=1) + "\n")
        (out / "skill.svg").write_text(skills_svg(homes))
        (out / "week.svg").write_text(week_svg(homes[0], steps_per_day))
    except OSError as error:
        raise ConfigError(f"--out {out}: {error.strerror or error}") from None


def _print(
    homes: list["HomeReport"],
    pv: dict[str, "Skill"],
    left_out: list[str],
    file: str,
    model: str,
) -> None:
    from hems.forecast.report import median_skill, total_of

    shown = table(
        "home", "mean MAE>", "RMSE>", "bias>", "median MAE>", "80 % holds>", "pinball>", "model"
    )

    def figures(mean: "Skill", median: "Skill", coverage: float, pinball: float) -> list[str]:
        return [
            f"{mean.skill_mae:.3f}",
            f"{mean.skill_rmse:.3f}",
            f"{mean.bias:+.1%}",
            f"{median.skill_mae:.3f}",
            f"{coverage:.1%}",
            f"{pinball:.3f}",
        ]

    for home in homes:
        ratio = home.pinball_wh / home.pinball_28_wh if home.pinball_28_wh else 1.0
        chosen = max(home.chosen, key=lambda name: home.chosen[name])
        add_row(
            shown, [home.name, *figures(home.mean, home.median, home.coverage_80, ratio), chosen]
        )
    coverage, ratio = total_of(homes)
    middle = median_skill([home.mean for home in homes])
    add_row(
        shown,
        [
            "median home",
            *figures(middle, median_skill([home.median for home in homes]), coverage, ratio),
            "",
        ],
    )
    others = table("forecast", "MAE>", "RMSE>", "bias>")
    for name in homes[0].others:
        of = median_skill([home.others[name] for home in homes])
        add_row(others, [name, f"{of.skill_mae:.3f}", f"{of.skill_rmse:.3f}", f"{of.bias:+.1%}"])
    days = sorted(home.days for home in homes)
    show(
        f"{file}: load, day-ahead at midnight, the last {days[0]} to {days[-1]} days; "
        f"model {model}",
        "skill over the 7-day naive; pinball as a share of the 28-day quantiles'",
        shown,
        "to compare, median home",
        others,
    )
    for name, of in pv.items():
        show(
            f"PV of {name}: MAE skill {of.skill_mae:.3f}, RMSE {of.skill_rmse:.3f} over yesterday, "
            f"bias {of.bias:+.1%}"
        )
    for reason in left_out:
        show(f"left out: {reason}")
