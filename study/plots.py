"""Drawings of results: PNG and SVG beside each other, with the assumptions under them.

matplotlib is the extra `study`; it is loaded when something is drawn, and not before.
"""

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from study.cells import write
from study.errors import SettingError

DOTS_PER_INCH: Final = 120
LETTERS_PER_LINE: Final = 118
LINE_INCHES: Final = 0.16


class Line(NamedTuple):
    """One line: its name, and of each place the mean, the lowest and the highest over the seeds."""

    name: str
    x: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    dashed: bool = False


class Drawing(NamedTuple):
    """Lines over one axis. `marks` are values of the paper: (x, y, name)."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    assumptions: str
    marks: Sequence[tuple[float, float, str]] = ()
    steps: bool = False


def need_matplotlib() -> None:
    """Find that drawings can be made, before hours of work. Raises `SettingError`."""
    try:
        import matplotlib  # noqa: F401 - whether it is there
    except ImportError:
        raise SettingError(
            "drawings need matplotlib: install commonwatt with the extra `study` "
            "(uv sync --extra study), or ask for none with --no-plots"
        ) from None


def draw(folder: Path, name: str, drawing: Drawing) -> list[str]:
    """Write `name`.png and `name`.svg; return their names."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    notes = textwrap.wrap(drawing.assumptions, LETTERS_PER_LINE)
    height = 4.8 + LINE_INCHES * len(notes)
    figure = Figure(figsize=(9, height))
    FigureCanvasAgg(figure)
    foot = (LINE_INCHES * len(notes) + 0.15) / height
    axes = figure.add_axes((0.09, foot + 0.6 / height, 0.88, 1 - foot - 1.1 / height))
    for line in drawing.lines:
        _line(axes, line, drawing.steps)
    for x, y, text in drawing.marks:
        axes.plot([x], [y], "kx", markersize=8)
        axes.annotate(text, (x, y), xytext=(5, 5), textcoords="offset points", fontsize=7)
    axes.set_title(drawing.title)
    axes.set_xlabel(drawing.x_label)
    axes.set_ylabel(drawing.y_label)
    axes.grid(alpha=0.3)
    if drawing.lines:
        axes.legend(fontsize=8)
    figure.text(0.02, 0.1 / height, "\n".join(notes), fontsize=7, va="bottom")
    written = []
    # The same drawing is the same file; its words are text, not outlines of letters.
    with rc_context({"svg.hashsalt": "commonwatt", "svg.fonttype": "none"}):
        for kind in ("png", "svg"):
            data = io.BytesIO()
            metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {}
            figure.savefig(data, format=kind, dpi=DOTS_PER_INCH, metadata=metadata)
            write(folder / f"{name}.{kind}", data.getvalue())
            written.append(f"{name}.{kind}")
    return written


def _line(axes: Any, line: Line, steps: bool) -> None:
    style = "--" if line.dashed else "-"
    if steps:
        axes.step(line.x, line.mean, style, where="post", label=line.name)
        step = "post"
    else:
        axes.plot(line.x, line.mean, style, marker="o", markersize=3, label=line.name)
        step = None
    colour = axes.lines[-1].get_color()
    if list(line.low) != list(line.high):
        axes.fill_between(line.x, line.low, line.high, step=step, color=colour, alpha=0.15, lw=0)
