"""Drawings as SVG written by hand: bars per home, and a week of one home's forecasts."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Final

import numpy as np

from hems.civil import FloatArray
from hems.forecast.report import HomeReport

WIDTH: Final = 960
HEIGHT: Final = 420
LEFT: Final = 64
RIGHT: Final = 16
TOP: Final = 56
BOTTOM: Final = 64
WEEK_DAYS: Final = 7
HOMES_DRAWN_MAX: Final = 60
LINES_MAX: Final = 2
# Width of a letter, about.
LETTER: Final = 7.6

_MEAN: Final = "#2563a8"
_MEDIAN: Final = "#d9822b"
_ACTUAL: Final = "#333333"
_BAND: Final = "#bcd4ec"
COLOURS: Final = (_MEAN, _MEDIAN, "#6b9a3b", "#8a8a8a")


def skills_svg(homes: list[HomeReport]) -> str:
    """Return bars of each home's MAE skill, of the mean and of the median forecast."""
    shown = homes[:HOMES_DRAWN_MAX]
    return bars_svg(
        "MAE skill over the 7-day naive, day-ahead",
        [home.name for home in shown],
        {
            "mean forecast": [home.mean.skill_mae for home in shown],
            "median forecast": [home.median.skill_mae for home in shown],
        },
        lambda value: f"{value:.2f}",
        axis_min=0.1,
    )


def bars_svg(
    title: str,
    names: Sequence[str],
    series: dict[str, list[float]],
    label: Callable[[float], str],
    axis_min: float = 0.0,
) -> str:
    """Return bars beside each other, a group for each name.

    Parameters
    ----------
    names : sequence of str
        Shortened where they do not fit; lines end where they say so.
    series : dict of str to list of float
        Up to `len(COLOURS)`, a value for each name.
    label : callable
        Of a value on the axis.
    axis_min : float
        The axis reaches at least so high.
    """
    every = [value for values in series.values() for value in values]
    least = min(0.0, *every)
    canvas = _Canvas(title, least, max(axis_min, least + 1e-9, *every))
    canvas.grid(label)
    slot = (WIDTH - LEFT - RIGHT) / len(names)
    pitch = 0.72 / len(series)
    room = max(3, int(slot / LETTER))
    for place, name in enumerate(names):
        for bar, (values, colour) in enumerate(zip(series.values(), COLOURS, strict=False)):
            x = LEFT + slot * (place + 0.14 + pitch * bar)
            canvas.bar(x, slot * pitch * 0.94, values[place], colour)
        for line, words in enumerate(name.splitlines()[:LINES_MAX]):
            short = words if len(words) <= room else "…" + words[-room + 1 :]
            y = HEIGHT - BOTTOM + 20 + 15 * line
            canvas.text(LEFT + slot * (place + 0.5), y, short, "middle")
    canvas.legend(tuple(zip(series, COLOURS, strict=False)))
    return canvas.finish()


def week_svg(home: HomeReport, steps_per_day: int) -> str:
    """Return the last whole measured week: what came, the mean, and the 80 % interval."""
    days = len(home.actual_wh)
    measured = np.isfinite(home.actual_wh).mean(axis=1)
    starts = range(max(1, days - WEEK_DAYS + 1))
    first = max(starts, key=lambda at: (float(measured[at : at + WEEK_DAYS].sum()), at))
    part = slice(first, first + WEEK_DAYS)
    watts = steps_per_day / 24
    actual = home.actual_wh[part].ravel() * watts
    test = home.test
    mean, low, high = (
        values[part].ravel() * watts for values in (test.mean_wh, test.low_wh, test.high_wh)
    )
    most = max(1.0, float(np.nanmax(np.concatenate((actual, high)))))
    canvas = _Canvas(f"{home.name}: a week of day-ahead forecasts [W]", 0.0, most)
    canvas.band(low, high, _BAND)
    canvas.grid(lambda value: f"{value:,.0f}")
    canvas.line(actual, _ACTUAL, 1.0)
    canvas.line(mean, _MEAN, 1.8)
    for day in range(len(actual) // steps_per_day):
        x = LEFT + (WIDTH - LEFT - RIGHT) * (day + 0.5) * steps_per_day / len(actual)
        canvas.text(x, HEIGHT - BOTTOM + 20, f"day {day + 1}", "middle")
    canvas.legend((("measured", _ACTUAL), ("mean forecast", _MEAN), ("80 % interval", _BAND)))
    return canvas.finish()


class _Canvas:
    """A drawing with a value axis; elements are drawn in the order they come."""

    def __init__(self, title: str, least: float, most: float) -> None:
        self.least, self.most = least, most
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
            f'<text x="{LEFT}" y="24" font-size="15">{escape(title)}</text>',
        ]

    def y(self, value: float) -> float:
        share = (value - self.least) / (self.most - self.least)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def grid(self, label: Callable[[float], str]) -> None:
        step = _round_step((self.most - self.least) / 5)
        for tick in np.arange(np.ceil(self.least / step), np.floor(self.most / step) + 1) * step:
            # Not "-0".
            value = 0.0 if abs(tick) < step / 2 else float(tick)
            y = self.y(value)
            self.parts.append(
                f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
                f'stroke="{"#dddddd" if value else "#888888"}"/>'
            )
            self.text(LEFT - 8, y + 4, label(value), "end")

    def bar(self, x: float, width: float, value: float, colour: str) -> None:
        top, bottom = sorted((self.y(value), self.y(0.0)))
        self.parts.append(
            f'<rect x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{bottom - top:.1f}" '
            f'fill="{colour}"/>'
        )

    def band(self, low: FloatArray, high: FloatArray, colour: str) -> None:
        x = self._xs(len(low))
        there = [(x[i], low[i], high[i]) for i in range(len(low))]
        upper = [f"{at:.1f},{self.y(float(top)):.1f}" for at, _, top in there]
        lower = [f"{at:.1f},{self.y(float(bottom)):.1f}" for at, bottom, _ in reversed(there)]
        self.parts.append(f'<polygon points="{" ".join(upper + lower)}" fill="{colour}"/>')

    def line(self, values: FloatArray, colour: str, width: float) -> None:
        x = self._xs(len(values))
        pieces: list[list[str]] = [[]]
        for place, value in enumerate(values):
            if np.isfinite(value):
                pieces[-1].append(f"{x[place]:.1f},{self.y(float(value)):.1f}")
            elif pieces[-1]:
                pieces.append([])
        for piece in pieces:
            if len(piece) > 1:
                self.parts.append(
                    f'<polyline points="{" ".join(piece)}" fill="none" stroke="{colour}" '
                    f'stroke-width="{width}" stroke-linejoin="round"/>'
                )

    def text(self, x: float, y: float, words: str, anchor: str = "start") -> None:
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#333333">'
            f"{escape(words)}</text>"
        )

    def legend(self, entries: tuple[tuple[str, str], ...]) -> None:
        for place, (words, colour) in enumerate(entries):
            x = LEFT + 170 * place
            self.parts.append(f'<rect x="{x}" y="34" width="14" height="10" fill="{colour}"/>')
            self.text(x + 20, 44, words)

    def finish(self) -> str:
        return "\n".join([*self.parts, "</svg>", ""])

    def _xs(self, count: int) -> FloatArray:
        return np.asarray(LEFT + (WIDTH - LEFT - RIGHT) * np.arange(count) / max(1, count - 1))


def _round_step(about: float) -> float:
    """Return 1, 2 or 5 times a power of ten, at or above a length."""
    power = 10.0 ** np.floor(np.log10(about))
    return float(next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= about))
