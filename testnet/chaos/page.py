"""The report of a run as one page with drawings, which needs nothing else, in light and dark."""

import html
from collections.abc import Sequence
from typing import Any, Final

from testnet.chaos.chart import CHART_HEIGHT, LEFT, RIGHT, STYLE, WIDTH, Frame, seconds, svg
from testnet.chaos.report import POINTS_MAX, in_ms, in_s, thinned, who
from testnet.chaos.verdict import Seen
from testnet.chaos.watch import Sample

ROW_HEIGHT: Final = 18
# A node that is silent twice within so long was silent all the time.
AWAY_S: Final = 2.0

_STYLE: Final = (
    STYLE
    + """
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
.bar { fill: var(--hit); }
.up { stroke: var(--line); stroke-width: 2; } .down { stroke: var(--bad); stroke-width: 4; }
.dot { fill: var(--c0); opacity: .7; }
"""
)


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
            ("node", "memory, most", "memory, last", "memory grew by", "CPU"),
            [
                (
                    e(name),
                    f"{load['rss_max_mib']:.0f} MiB",
                    f"{load['rss_last_mib']:.0f} MiB",
                    _grew(report["growths"].get(name)),
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


def _grew(growth: dict[str, float] | None) -> str:
    return "–" if growth is None else f"{growth['mib_per_h']:+.2f} MiB/h"


def _drawn(frame: Frame, label: str, *content: str) -> str:
    return _wide(CHART_HEIGHT, label, frame.parts(*content))


def _wide(height: int, label: str, content: Sequence[str]) -> str:
    return f'<div class="wide">{svg(height, label, content)}</div>'


def _heights(seen: Seen) -> str:
    heights = [s.height for node in seen.samples.values() for s in node if s.up]
    frame = Frame(seen, min(heights, default=0), max(heights, default=1))
    paths = [
        frame.path([(s.at_s, s.height) if s.up else None for s in thinned(samples)], place, name)
        for place, (name, samples) in enumerate(seen.samples.items())
    ]
    return _drawn(frame, "Height of each node over time", *paths)


def _memory(seen: Seen) -> str:
    top = max((s.rss_mib for node in seen.samples.values() for s in node), default=1)
    frame = Frame(seen, 0, top, " MiB")
    paths = [
        frame.path([(s.at_s, s.rss_mib) if s.up else None for s in thinned(samples)], place, name)
        for place, (name, samples) in enumerate(seen.samples.items())
    ]
    return _drawn(frame, "Memory of each node over time", *paths)


def _checkpoints(seen: Seen) -> list[str]:
    """Draw what the region has closed and what the main chain has anchored, where there is one."""
    if seen.main is None or not seen.main.checkpoints:
        return []
    looks = seen.main.checkpoints
    looks = looks[:: max(len(looks) // POINTS_MAX, 1)]
    frame = Frame(seen, looks[0].anchored, looks[-1].closed)
    paths = [
        frame.path([(one.at_s, one.closed) for one in looks], 0, "closed by the region"),
        frame.path([(one.at_s, one.anchored) for one in looks], 1, "anchored by the main chain"),
    ]
    label = "Checkpoints: closed by the region, anchored by the main chain"
    return [f"<h2>{label}</h2>", _drawn(frame, label, *paths)]


def _latencies(seen: Seen) -> str:
    told = seen.latencies[:: max(len(seen.latencies) // (4 * POINTS_MAX), 1)]
    frame = Frame(seen, 0, max((one.took_ms for one in told), default=1), " ms")
    dots = [
        f'<circle class="dot" cx="{frame.x(one.at_s)}" cy="{frame.y(one.took_ms)}" r="2"/>'
        for one in told
    ]
    return _drawn(frame, "How long transactions took to be final", *dots)


def _lanes(seen: Seen) -> str:
    """Draw a row per node: red where it did not answer, bars where it was struck."""
    frame = Frame(seen, 0, 1)
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
    content += seconds(frame, height)
    return _wide(height + 6, "When each node was struck and when it did not answer", content)


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
