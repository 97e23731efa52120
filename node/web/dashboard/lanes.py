"""A testnet's time line: a lane for each node, away or struck, and the height of the chain."""

from collections.abc import Iterable, Sequence
from typing import Final

from node.web.dashboard import texts
from node.web.dashboard.charts import legend
from node.web.dashboard.flows import Row
from node.web.dashboard.html import Html, el, join
from node.web.dashboard.plot import (
    NARROW,
    WIDE,
    Frame,
    Size,
    axis_x,
    axis_y,
    figure,
    nice_step,
    polyline,
    reach,
)
from node.web.dashboard.words import cut, number

LANE: Final = 24
LANES_MAX: Final = 40
NAME_CHARS: Final = 12
# Whatever is shorter could not be seen, or pointed at.
LEAST_PX: Final = 3.0
LEAST_S: Final = 10.0
MINUTE_S: Final = 60
HOUR_S: Final = 3_600
TICK_STEPS_S: Final = (5, 10, 30, 60, 120, 300, 600, 1_800, HOUR_S, 2 * HOUR_S, 6 * HOUR_S)


def lanes_chart(watched: Row) -> Html:
    """Return a lane for each node, with when it did not answer and what was done to it."""
    nodes = watched["nodes"][:LANES_MAX]
    height = 12 + LANE * len(nodes) + 26

    def draw(size: Size) -> Iterable[Html | None]:
        frame = _frame(size, watched)
        yield axis_x(frame, _marks(watched["now_s"], 3 if size.is_narrow else 8))
        for place, node in enumerate(nodes):
            y = 12 + LANE * place
            yield el("text", cut(node["name"], NAME_CHARS), x=0, y=y + 12, class_="label")
            yield el(
                "path", d=f"M{size.left:g} {y + 8:g}H{size.width - size.right:g}", class_="lane"
            )
            for begin_s, end_s in node["away"]:
                told = f"{node['name']}\n{texts.LANE_AWAY}\n{during(begin_s, end_s)}"
                yield _bar(frame, watched, begin_s, end_s, y + 5, 6, "area c-warn", told)
            for fault in watched["faults"]:
                if place in fault["nodes"]:
                    told = f"{fault['kind']}\n{fault['who']}\n{_when(fault)}"
                    begin_s, end_s = fault["began_s"], fault["ended_s"]
                    yield _bar(frame, watched, begin_s, end_s, y, 16, "area soft c-sell", told)

    return join(
        figure(
            draw,
            texts.LANES_LABEL,
            wide=Size(1_040, height, left=110, top=2),
            narrow=Size(350, height, left=84, top=2),
        ),
        legend(("sell soft", texts.FAULT), ("warn", texts.LANE_AWAY)),
    )


def heads_chart(watched: Row) -> Html | None:
    """Return the chain's height over time, with faults behind it; None before there is a line."""
    points = [(float(at_s), float(height)) for at_s, height in watched["heads"]]
    if len(points) < 2:
        return None
    low = points[0][1]
    high = low + reach((height - low for _, height in points), 4)

    def draw(size: Size) -> Iterable[Html | None]:
        frame = _frame(size, watched)._replace(low_y=low, high_y=high)
        step = nice_step(high - low, 4)
        first = int(-(-low // step))
        at = [n * step for n in range(first, int(high // step) + 1)]
        yield axis_y(frame, number, texts.HEIGHT.lower(), [one for one in at if one % 1 == 0])
        yield axis_x(frame, _marks(watched["now_s"], 3 if size.is_narrow else 8))
        tall = size.height - size.top - size.bottom
        for fault in watched["faults"]:
            told = f"{fault['kind']}\n{fault['who']}\n{_when(fault)}"
            begin_s, end_s = fault["began_s"], fault["ended_s"]
            kind = "area soft c-sell"
            yield _bar(frame, watched, begin_s, end_s, size.top, tall, kind, told)
        yield polyline(frame, points, "line c-street")

    return figure(draw, texts.HEADS_LABEL, wide=WIDE._replace(height=200), narrow=NARROW)


def during(begin_s: float, end_s: float | None) -> str:
    """Return a span of the watch; an open one says so."""
    end = texts.GOES_ON if end_s is None else clock(end_s)
    return f"{clock(begin_s)} – {end}"


def clock(at_s: float) -> str:
    """Return a time of the watch as minutes and seconds, with hours once there are some."""
    whole = int(at_s)
    hours, rest = divmod(whole, HOUR_S)
    minutes, seconds = divmod(rest, MINUTE_S)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _when(fault: Row) -> str:
    return during(fault["began_s"], fault["ended_s"])


def _frame(size: Size, watched: Row) -> Frame:
    return Frame(size, 0, max(LEAST_S, float(watched["now_s"])), 0, 1)


def _marks(now_s: float, count: int) -> Sequence[tuple[float, str]]:
    end_s = max(LEAST_S, now_s)
    fits = (step for step in TICK_STEPS_S if end_s / step <= count)
    step = next(fits, -(-int(end_s / count) // HOUR_S) * HOUR_S or HOUR_S)
    return [(float(at_s), clock(at_s)) for at_s in range(0, int(end_s) + 1, step)]


def _bar(
    frame: Frame,
    watched: Row,
    begin_s: float,
    end_s: float | None,
    y: float,
    height: float,
    class_: str,
    told: str,
) -> Html:
    x = frame.x(begin_s)
    end = frame.x(watched["now_s"] if end_s is None else end_s)
    width = round(max(LEAST_PX, end - x), 1)
    return el("rect", x=x, y=y, width=width, height=height, rx=3, class_=class_, data_tip=told)
