"""Axes, steps and areas in SVG.

Each chart is drawn twice, for wide screens and for phones; the style sheet shows one of them. What
is drawn has no colours of its own: they are the style sheet's, by class, for light and dark.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from node.web.dashboard.html import Html, el, join

TICKS: Final = 5
# A step may be so much less than asked for: rather some values more than too few.
ROUGHLY: Final = 0.75
LABEL_DOWN: Final = 4.0
# A label nearer to the right edge than this would reach over it.
EDGE_ROOM: Final = 18.0


class Size(NamedTuple):
    """Width, height and left margin of a drawing, in its own units: about a pixel each."""

    width: float
    height: float
    left: float = 44
    right: float = 10
    top: float = 22
    bottom: float = 26

    @property
    def is_narrow(self) -> bool:
        """Whether it is a phone's."""
        return self.width < NARROW_BELOW


NARROW_BELOW: Final = 600.0
WIDE: Final = Size(1_040, 280)
NARROW: Final = Size(350, 240, left=36, right=6)


class Frame(NamedTuple):
    """Where values stand in a drawing."""

    size: Size
    low_x: float
    high_x: float
    low_y: float
    high_y: float

    def x(self, value: float) -> float:
        """Return where a value is on the horizontal axis."""
        size = self.size
        share = (value - self.low_x) / ((self.high_x - self.low_x) or 1)
        return round(size.left + share * (size.width - size.left - size.right), 1)

    def y(self, value: float) -> float:
        """Return where a value is on the vertical axis."""
        size = self.size
        share = (value - self.low_y) / ((self.high_y - self.low_y) or 1)
        return round(size.height - size.bottom - share * (size.height - size.bottom - size.top), 1)


def nice_step(span: float, count: int = TICKS) -> float:
    """Return a step of 1, 2 or 5 times a power of ten that divides a span into about `count`."""
    rough = max(span, 1e-9) / count
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * one for one in (1, 2, 5, 10) if power * one >= rough * ROUGHLY)


def reach(values: Iterable[float], least: float, share: float = 1.06) -> float:
    """Return how far an axis goes so that the values fit with some room; at least `least`."""
    return max(least, max(values, default=0.0) * share)


def ticks(low: float, high: float, count: int = TICKS) -> list[float]:
    """Return round values in a range."""
    step = nice_step(high - low, count)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 9) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def figure(
    draw: Callable[[Size], Iterable[Html | None]],
    label: str,
    class_: str = "",
    wide: Size = WIDE,
    narrow: Size = NARROW,
) -> Html:
    """Return a chart in both sizes; `label` says what is to be seen to who cannot see it."""
    return join(
        *(
            el(
                "svg",
                draw(size),
                viewBox=f"0 0 {size.width:g} {size.height:g}",
                class_=f"chart {kind} {class_}".strip(),
                role="img",
                aria_label=label,
            )
            for kind, size in (("wide", wide), ("narrow", narrow))
        )
    )


def axis_y(
    frame: Frame, say: Callable[[float], str], unit: str, at: Sequence[float] | None = None
) -> Html:
    """Return horizontal lines with their values; the zero is stronger."""
    size = frame.size
    count = 4 if size.is_narrow else TICKS
    parts: list[Html] = []
    for value in ticks(frame.low_y, frame.high_y, count) if at is None else at:
        y = frame.y(value)
        kind = "rule zero" if value == 0 else "rule"
        parts.append(el("path", d=f"M{size.left:g} {y:g}H{size.width - size.right:g}", class_=kind))
        parts.append(
            el(
                "text",
                say(value),
                x=size.left - 7,
                y=y + LABEL_DOWN,
                class_="tick",
                text_anchor="end",
            )
        )
    parts.append(el("text", unit, x=0, y=size.top - 10, class_="tick unit"))
    return el("g", parts)


def axis_x(frame: Frame, marks: Iterable[tuple[float, str]]) -> Html:
    """Return labels below, each at its value."""
    size = frame.size
    y = size.height - 7
    return el(
        "g",
        [
            el("text", label, x=frame.x(value), y=y, class_="tick", text_anchor="middle")
            for value, label in marks
            if frame.x(value) <= size.width - EDGE_ROOM
        ],
    )


def steps(frame: Frame, edges: Sequence[float], values: Sequence[float], class_: str) -> Html:
    """Return a line that has each value between two edges."""
    return el("path", d=_run(frame, edges, values, "M"), class_=class_)


def band(
    frame: Frame,
    edges: Sequence[float],
    lower: Sequence[float],
    upper: Sequence[float],
    class_: str,
) -> Html | None:
    """Return the area between two lines of steps; None if it is empty everywhere."""
    if not any(low != high for low, high in zip(lower, upper, strict=True)):
        return None
    there = _run(frame, edges, upper, "M")
    back = _run(frame, edges[::-1], lower[::-1], "L")
    return el("path", d=f"{there}{back}Z", class_=class_)


def _run(frame: Frame, edges: Sequence[float], values: Sequence[float], begin: str) -> str:
    if not values:
        return ""
    parts = [f"{begin}{frame.x(edges[0]):g} {frame.y(values[0]):g}"]
    last = values[0]
    for edge, value in zip(edges[1:], values[1:], strict=False):
        if value != last:
            parts.append(f"H{frame.x(edge):g}V{frame.y(value):g}")
            last = value
    parts.append(f"H{frame.x(edges[len(values)]):g}")
    return "".join(parts)


def polyline(frame: Frame, points: Sequence[tuple[float, float]], class_: str) -> Html:
    """Return a line from point to point."""
    path = "L".join(f"{frame.x(x):g} {frame.y(y):g}" for x, y in points)
    return el("path", d=f"M{path}" if path else "", class_=class_)


def under(frame: Frame, points: Sequence[tuple[float, float]], class_: str) -> Html | None:
    """Return the area between a line and the lower end of the axis."""
    if not points:
        return None
    path = "L".join(f"{frame.x(x):g} {frame.y(y):g}" for x, y in points)
    foot = frame.y(frame.low_y)
    first, last = frame.x(points[0][0]), frame.x(points[-1][0])
    return el("path", d=f"M{first:g} {foot:g}L{path}L{last:g} {foot:g}Z", class_=class_)


def upright(frame: Frame, value: float, class_: str, label: str = "") -> Html:
    """Return a vertical line over the whole height, with a word at its top."""
    size, x = frame.size, frame.x(value)
    line = el("path", d=f"M{x:g} {size.top:g}V{size.height - size.bottom:g}", class_=class_)
    if not label:
        return line
    at_end = x > size.width - 80
    return join(
        line,
        el(
            "text",
            label,
            x=x - 6 if at_end else x + 6,
            y=size.top + 9,
            class_=f"tick {class_}-word",
            text_anchor="end" if at_end else "start",
        ),
    )


def tips(frame: Frame, edges: Sequence[float], said: Sequence[str]) -> Html:
    """Return what is told of each step when it is pointed at."""
    size = frame.size
    return el(
        "g",
        [
            el(
                "rect",
                x=frame.x(edges[place]),
                y=size.top,
                width=max(0.5, round(frame.x(edges[place + 1]) - frame.x(edges[place]), 1)),
                height=size.height - size.top - size.bottom,
                class_="hit",
                data_tip=text,
            )
            for place, text in enumerate(said)
            if edges[place + 1] > frame.low_x and edges[place] < frame.high_x
        ],
    )
