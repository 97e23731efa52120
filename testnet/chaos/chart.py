"""Lines over a run's time, as SVG by hand: parts of the page, and of drawings by themselves."""

import html
from collections.abc import Sequence
from typing import Final, Protocol

WIDTH: Final = 960
LEFT: Final = 84
RIGHT: Final = 16
CHART_HEIGHT: Final = 220
TICKS: Final = 8
# So many nodes have a colour of their own; all others share the last.
COLOURS: Final = 8

STYLE: Final = """
:root { color-scheme: light dark;
  --ink: #1c2321; --soft: #66706c; --paper: #fbfbf8; --line: #d9ddd6;
  --bad: #b3261e; --good: #1d6b3a; --hit: #d8832e;
  --c0: #1f6feb; --c1: #b8561b; --c2: #1d7a4d; --c3: #8a3ffc;
  --c4: #a56a00; --c5: #c02a6b; --c6: #00737f; --c7: #7a7f85; }
@media (prefers-color-scheme: dark) { :root {
  --ink: #e6e9e6; --soft: #9aa5a0; --paper: #151918; --line: #343b38;
  --bad: #ff8a80; --good: #74d69a; --hit: #e8a35c;
  --c0: #79b0ff; --c1: #f2a06a; --c2: #6fd3a0; --c3: #c3a1ff;
  --c4: #e5bb5c; --c5: #ff8fbf; --c6: #6ccfd8; --c7: #aab0b5; } }
svg text { fill: var(--soft); font-size: 11px; }
.axis { stroke: var(--line); } .hit { fill: var(--hit); opacity: .16; }
path { fill: none; stroke-width: 1.5; }
.faint { stroke-width: 1; opacity: .45; }
.trend { stroke-width: 2; stroke-dasharray: 7 4; }
"""


class Spell(Protocol):
    """When a run was disturbed, and when it ended. [s since its start]"""

    @property
    def began_s(self) -> float:
        """The disturbed time's beginning."""

    @property
    def over_s(self) -> float:
        """Its end."""

    @property
    def finished_s(self) -> float:
        """The run's end."""


class Frame:
    """The time axis of a chart, with the disturbed time behind it, and a scale of values."""

    def __init__(
        self, spell: Spell, low: float, high: float, unit: str = "", height: int = CHART_HEIGHT
    ) -> None:
        self.end_s = max(spell.finished_s, 1.0)
        self._height = height
        self._low, self._high = low, max(high, low + 1)
        self._unit = unit
        self._spell = spell

    def x(self, at_s: float) -> float:
        """Return where a moment is."""
        share = min(max(at_s / self.end_s, 0.0), 1.0)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        """Return where a value is."""
        share = (value - self._low) / (self._high - self._low)
        return round(8 + (1 - share) * (self._height - 32), 1)

    def path(
        self,
        points: Sequence[tuple[float, float] | None],
        colour: int,
        title: str,
        style: str = "",
    ) -> str:
        """Return a line; None breaks it. `style` is a class of the page's."""
        steps, pen = [], "M"
        for point in points:
            if point is None:
                pen = "M"
                continue
            steps.append(f"{pen}{self.x(point[0])} {self.y(point[1])}")
            pen = "L"
        stroke = _colour(colour)
        name = html.escape(title)
        look = f' class="{style}"' if style else ""
        return f'<path{look} d="{"".join(steps)}" stroke="{stroke}"><title>{name}</title></path>'

    def swatch(self, x: float, y: float, colour: int) -> str:
        """Return a short line of a colour, for a legend."""
        return f'<path d="M{x} {y}h22" stroke="{_colour(colour)}" stroke-width="3"/>'

    def parts(self, *content: str) -> list[str]:
        """Return the scales, the disturbed time behind them, and what `content` draws."""
        bottom, right = self._height - 20, WIDTH - RIGHT
        begin, end = self.x(self._spell.began_s), self.x(self._spell.over_s)
        width, tall = round(end - begin, 1), bottom - 4
        lines = [f'<rect class="hit" x="{begin}" y="4" width="{width}" height="{tall}"/>']
        for value in ticks(self._low, self._high):
            y, text = self.y(value), f"{value:g}{self._unit}"
            lines.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{y}" y2="{y}"/>')
            lines.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{text}</text>')
        lines += seconds(self, self._height - 4)
        return [*lines, *content]


def _colour(number: int) -> str:
    return f"var(--c{min(number, COLOURS - 1)})"


def svg(height: int, label: str, content: Sequence[str], *, alone: bool = False) -> str:
    """Return a drawing; `alone`: as a file by itself, else as a part of a page."""
    space = ' xmlns="http://www.w3.org/2000/svg"' if alone else ""
    return (
        f'<svg{space} viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{html.escape(label)}">{"".join(content)}</svg>'
    )


def ticks(low: float, high: float) -> list[float]:
    """Return round values of a scale, at most `TICKS` steps apart."""
    step = 1.0
    while (high - low) / step > TICKS:
        step *= 2.5 if f"{step:.0e}"[0] == "2" else 2.0
    first = -(-low // step) * step
    return [first + place * step for place in range(int((high - first) / step) + 1)]


def seconds(frame: Frame, y: float) -> list[str]:
    """Return the words of the time axis."""
    return [
        f'<text x="{frame.x(s)}" y="{y}" text-anchor="middle">{s:g} s</text>'
        for s in ticks(0.0, frame.end_s)
    ]
