"""The report of a run as one page with drawings, which needs nothing else, in light and dark."""

import html
from collections.abc import Sequence
from typing import Any, Final

from testnet.chaos.report import POINTS_MAX, in_ms, in_s, thinned, who
from testnet.chaos.verdict import Seen
from testnet.chaos.watch import Sample

WIDTH: Final = 960
LEFT: Final = 84
RIGHT: Final = 16
CHART_HEIGHT: Final = 220
ROW_HEIGHT: Final = 18
TICKS: Final = 8
# So many nodes have a colour of their own; all others share the last.
COLOURS: Final = 8
# A node that is silent twice within so long was silent all the time.
AWAY_S: Final = 2.0

_STYLE: Final = """
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
body { margin: 2rem auto; max-width: 62rem; padding: 0 1rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.about { color: var(--soft); max-width: 46rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .75rem .25rem 0;
  border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; }
.good { color: var(--good); } .bad { color: var(--bad); }
svg { width: 100%; min-width: 40rem; height: auto; display: block; }
svg text { fill: var(--soft); font-size: 11px; }
.axis { stroke: var(--line); } .hit { fill: var(--hit); opacity: .16; } .bar { fill: var(--hit); }
.up { stroke: var(--line); stroke-width: 2; } .down { stroke: var(--bad); stroke-width: 4; }
.dot { fill: var(--c0); opacity: .7; } path { fill: none; stroke-width: 1.5; }
"""


def as_page(seen: Seen, report: dict[str, Any]) -> str:
    """Return the report as one page that needs nothing else."""
    word = "passed" if report["passed"] else "failed"
    mark = "good" if report["passed"] else "bad"
    e = html.escape
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{e(report['scenario'])}: {word}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{e(report['scenario'])} on {e(report['target'])}: "
        f'<span class="{mark}">{word}</span></h1>',
        f'<p class="about">{e(report["about"])} {len(report["nodes"])} nodes, '
        f"{len(report['authorities'])} of them authorities; seed {report['seed']}.</p>",
        _html_table(
            ("", "check", "figures"),
            [
                (
                    f'<span class="{"good" if c["passed"] else "bad"}">'
                    f"{'✓' if c['passed'] else '✗'}</span>",
                    e(c["name"]),
                    e(c["said"]),
                )
                for c in report["checks"]
            ],
        ),
        "<h2>Heights</h2>",
        _heights(seen),
        "<h2>Faults</h2>",
        _lanes(seen),
        "<h2>Time to finality</h2>",
        _latencies(seen),
        _html_table(
            ("phase", "seconds", "blocks", "blocks/s", "longest gap", "final p50", "final p95"),
            [
                (
                    p["name"],
                    f"{p['seconds']:.0f}",
                    p["blocks"],
                    f"{p['blocks_per_s']:.2f}",
                    f"{p['longest_gap_s']:.1f} s",
                    in_ms(p["finality_ms"]["p50"]),
                    in_ms(p["finality_ms"]["p95"]),
                )
                for p in report["phases"]
            ],
        ),
        *_checkpoints(seen),
        "<h2>Memory</h2>",
        _memory(seen),
        "<h2>Strikes</h2>",
        _html_table(
            ("fault", "nodes", "from", "to", "answers after", "then at the head after"),
            [
                (
                    s["kind"],
                    e(who(s)),
                    f"{s['began_s']:.1f} s",
                    f"{s['ended_s']:.1f} s",
                    in_s(s["up_s"]),
                    in_s(s["recovery_s"]),
                )
                for s in report["strikes"]
            ],
        ),
        "<h2>Nodes</h2>",
        _html_table(
            ("node", "memory, most", "memory, last", "CPU"),
            [
                (
                    e(name),
                    f"{load['rss_max_mib']:.0f} MiB",
                    f"{load['rss_last_mib']:.0f} MiB",
                    f"{load['cpu_percent']:.1f} %",
                )
                for name, load in report["loads"].items()
            ],
        ),
        "</body></html>",
    ]
    return "\n".join(parts)


def _html_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


class _Frame:
    """The time axis of a chart, with the disturbed time behind it, and a scale of values."""

    def __init__(self, seen: Seen, low: float, high: float, unit: str = "") -> None:
        self.end_s = max(seen.finished_s, 1.0)
        self._low, self._high = low, max(high, low + 1)
        self._unit = unit
        self._seen = seen

    def x(self, at_s: float) -> float:
        """Return where a moment is."""
        share = min(max(at_s / self.end_s, 0.0), 1.0)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        """Return where a value is."""
        share = (value - self._low) / (self._high - self._low)
        return round(8 + (1 - share) * (CHART_HEIGHT - 32), 1)

    def path(self, points: Sequence[tuple[float, float] | None], colour: int, title: str) -> str:
        """Return a line; None breaks it."""
        steps, pen = [], "M"
        for point in points:
            if point is None:
                pen = "M"
                continue
            steps.append(f"{pen}{self.x(point[0])} {self.y(point[1])}")
            pen = "L"
        stroke = f"var(--c{min(colour, COLOURS - 1)})"
        name = html.escape(title)
        return f'<path d="{"".join(steps)}" stroke="{stroke}"><title>{name}</title></path>'

    def draw(self, label: str, *content: str) -> str:
        """Return the chart: scales, what `content` draws, and the disturbed time behind it."""
        bottom, right = CHART_HEIGHT - 20, WIDTH - RIGHT
        begin, end = self.x(self._seen.began_s), self.x(self._seen.over_s)
        width, tall = round(end - begin, 1), bottom - 4
        lines = [f'<rect class="hit" x="{begin}" y="4" width="{width}" height="{tall}"/>']
        for value in _ticks(self._low, self._high):
            y, text = self.y(value), f"{value:g}{self._unit}"
            lines.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{y}" y2="{y}"/>')
            lines.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{text}</text>')
        lines += _seconds(self, CHART_HEIGHT - 4)
        return _svg(CHART_HEIGHT, label, [*lines, *content])


def _svg(height: int, label: str, content: Sequence[str]) -> str:
    return (
        f'<div class="wide"><svg viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{html.escape(label)}">{"".join(content)}</svg></div>'
    )


def _ticks(low: float, high: float) -> list[float]:
    step = 1.0
    while (high - low) / step > TICKS:
        step *= 2.5 if f"{step:.0e}"[0] == "2" else 2.0
    first = -(-low // step) * step
    return [first + place * step for place in range(int((high - first) / step) + 1)]


def _seconds(frame: _Frame, y: float) -> list[str]:
    return [
        f'<text x="{frame.x(s)}" y="{y}" text-anchor="middle">{s:g} s</text>'
        for s in _ticks(0.0, frame.end_s)
    ]


def _heights(seen: Seen) -> str:
    heights = [s.height for node in seen.samples.values() for s in node if s.up]
    frame = _Frame(seen, min(heights, default=0), max(heights, default=1))
    paths = [
        frame.path([(s.at_s, s.height) if s.up else None for s in thinned(samples)], place, name)
        for place, (name, samples) in enumerate(seen.samples.items())
    ]
    return frame.draw("Height of each node over time", *paths)


def _memory(seen: Seen) -> str:
    top = max((s.rss_mib for node in seen.samples.values() for s in node), default=1)
    frame = _Frame(seen, 0, top, " MiB")
    paths = [
        frame.path([(s.at_s, s.rss_mib) if s.up else None for s in thinned(samples)], place, name)
        for place, (name, samples) in enumerate(seen.samples.items())
    ]
    return frame.draw("Memory of each node over time", *paths)


def _checkpoints(seen: Seen) -> list[str]:
    """Draw what the region has closed and what the main chain has anchored, where there is one."""
    if seen.main is None or not seen.main.checkpoints:
        return []
    looks = seen.main.checkpoints
    looks = looks[:: max(len(looks) // POINTS_MAX, 1)]
    frame = _Frame(seen, looks[0].anchored, looks[-1].closed)
    paths = [
        frame.path([(one.at_s, one.closed) for one in looks], 0, "closed by the region"),
        frame.path([(one.at_s, one.anchored) for one in looks], 1, "anchored by the main chain"),
    ]
    label = "Checkpoints: closed by the region, anchored by the main chain"
    return [f"<h2>{label}</h2>", frame.draw(label, *paths)]


def _latencies(seen: Seen) -> str:
    told = seen.latencies[:: max(len(seen.latencies) // (4 * POINTS_MAX), 1)]
    frame = _Frame(seen, 0, max((one.took_ms for one in told), default=1), " ms")
    dots = [
        f'<circle class="dot" cx="{frame.x(one.at_s)}" cy="{frame.y(one.took_ms)}" r="2"/>'
        for one in told
    ]
    return frame.draw("How long transactions took to be final", *dots)


def _lanes(seen: Seen) -> str:
    """Draw a row per node: red where it did not answer, bars where it was struck."""
    frame = _Frame(seen, 0, 1)
    content = []
    for place, (name, samples) in enumerate(seen.samples.items()):
        y = 14 + place * ROW_HEIGHT
        star = " ★" if name in seen.plan.roster.authorities else ""
        content.append(f'<text x="0" y="{y + 4}">{html.escape(name)}{star}</text>')
        content.append(f'<line class="up" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        for begin_s, end_s in _away(samples):
            content.append(
                f'<line class="down" x1="{frame.x(begin_s)}" x2="{frame.x(end_s)}" '
                f'y1="{y}" y2="{y}"><title>no answer</title></line>'
            )
        for struck in seen.strikes:
            if name in struck.strike.nodes:
                x = frame.x(struck.began_s)
                width = max(frame.x(struck.ended_s) - x, 1.5)
                title = html.escape(struck.strike.title)
                content.append(
                    f'<rect class="bar" x="{x}" y="{y - 6}" width="{width:.1f}" height="3">'
                    f"<title>{title}</title></rect>"
                )
    height = 24 + len(seen.samples) * ROW_HEIGHT
    content += _seconds(frame, height)
    return _svg(height + 6, "When each node was struck and when it did not answer", content)


def _away(samples: Sequence[Sample]) -> list[tuple[float, float]]:
    spans: list[tuple[float, float]] = []
    for sample in samples:
        if sample.up:
            continue
        if spans and sample.at_s - spans[-1][1] < AWAY_S:
            spans[-1] = (spans[-1][0], sample.at_s)
        else:
            spans.append((sample.at_s, sample.at_s + 0.1))
    return spans
