"""`commonwatt chaos draw`: the memory of a run's nodes over time, from its report, as a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from testnet.chaos.chart import CHART_HEIGHT, LEFT, STYLE, WIDTH, Frame, svg
from testnet.chaos.errors import ChaosError
from testnet.chaos.report import REPORT_VERSION

REPORT_BYTES_MAX: Final = 64 * 1_048_576
HEIGHT: Final = CHART_HEIGHT + 120
LINE: Final = 16
TITLE_HEIGHT: Final = 24
MARGIN_MIB: Final = 10

Point = tuple[float, float | None]


class DrawnGrowth(msgspec.Struct, frozen=True):
    """As `testnet.chaos.verdict.Growth`."""

    mib_per_h: float
    begin_s: float
    begin_mib: float
    end_s: float


class DrawnStrike(msgspec.Struct, frozen=True):
    """Whom a fault has struck."""

    nodes: list[str]


class DrawnReport(msgspec.Struct, frozen=True):
    """What of a report is drawn. [s, MiB]"""

    version: Literal[1]
    scenario: str
    target: str
    passed: bool
    began_s: float
    over_s: float
    finished_s: float
    strikes: list[DrawnStrike]
    growths: dict[str, DrawnGrowth]
    rss_mib: Annotated[dict[str, list[Point]], msgspec.Meta(min_length=1)]


def read_report(file: Path) -> DrawnReport:
    """Read a report that `chaos run --out` has written.

    Raises
    ------
    ChaosError
        It cannot be read, or is none of this version.
    """
    try:
        with file.open("rb") as opened:
            data = opened.read(REPORT_BYTES_MAX + 1)
    except OSError as error:
        raise ChaosError(f"{file}: cannot be read ({error.strerror})") from None
    if len(data) > REPORT_BYTES_MAX:
        raise ChaosError(f"{file}: a report has at most {REPORT_BYTES_MAX} bytes")
    try:
        return msgspec.json.decode(data, type=DrawnReport)
    except msgspec.MsgspecError as error:
        raise ChaosError(
            f"{file}: not a report.json of `commonwatt chaos run --out`, of version "
            f"{REPORT_VERSION} and with the memory of its nodes ({error})"
        ) from None


def memory_svg(report: DrawnReport) -> str:
    """Return the memory of each node over time; straight lines where it was up for long enough.

    Nodes that were struck are faint: what a new process takes at first is no growth.
    """
    known = [mib for points in report.rss_mib.values() for _, mib in points if mib is not None]
    low = max(min(known, default=0.0) - MARGIN_MIB, 0.0)
    frame = Frame(report, low, max(known, default=1.0) + MARGIN_MIB, " MiB", HEIGHT)
    struck = {name for strike in report.strikes for name in strike.nodes}
    lines, legend = [], []
    for place, (name, points) in enumerate(report.rss_mib.items()):
        faint = "faint" if name in struck else ""
        lines.append(frame.path(_broken(points), place, name, faint))
        growth = report.growths.get(name)
        if growth is not None:
            lines.append(frame.path(_trend(growth), place, f"{name}, trend", "trend"))
        legend.append(_words(name, name in struck, growth))
    word = "passed" if report.passed else "failed"
    title = f"{report.scenario} on {report.target}: memory of each node; the verdict: {word}"
    tall = TITLE_HEIGHT + HEIGHT + LINE * (len(legend) + 1)
    content = [
        f"<style>{STYLE} text.name {{ font-size: 13px; fill: var(--ink); }}</style>",
        f'<rect width="{WIDTH}" height="{tall}" fill="var(--paper)"/>',
        f'<text class="name" x="{LEFT}" y="{TITLE_HEIGHT - 6}">{title}</text>',
        f'<g transform="translate(0 {TITLE_HEIGHT})">{"".join(frame.parts(*lines))}</g>',
    ]
    for place, words in enumerate(legend):
        y = TITLE_HEIGHT + HEIGHT + LINE * (place + 1)
        content.append(frame.swatch(LEFT, y - 4, place))
        content.append(f'<text x="{LEFT + 30}" y="{y}">{words}</text>')
    return svg(tall, title, content, alone=True)


def _broken(points: Sequence[Point]) -> list[tuple[float, float] | None]:
    return [None if mib is None else (at_s, mib) for at_s, mib in points]


def _trend(growth: DrawnGrowth) -> list[tuple[float, float] | None]:
    rise = growth.mib_per_h * (growth.end_s - growth.begin_s) / 3_600
    return [(growth.begin_s, growth.begin_mib), (growth.end_s, growth.begin_mib + rise)]


def _words(name: str, struck: bool, growth: DrawnGrowth | None) -> str:
    what = "struck" if struck else "left alone"
    if growth is None:
        return f"{name}: {what}"
    minutes = (growth.end_s - growth.begin_s) / 60
    return f"{name}: {what}, {growth.mib_per_h:+.2f} MiB/h over {minutes:.0f} minutes (dashed)"
