"""The charts of a home: its energy, its battery, its forecast."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from node.web.dashboard import texts
from node.web.dashboard.flows import Flow, Row, edges_of, runs
from node.web.dashboard.html import Html, el, join
from node.web.dashboard.plot import (
    NARROW,
    WIDE,
    Frame,
    Size,
    axis_x,
    axis_y,
    band,
    figure,
    polyline,
    reach,
    steps,
    tips,
    under,
    upright,
)
from node.web.dashboard.words import HOUR_MS, Local, energy, mean_power_w, number, percent, power

DAY_MS: Final = 24 * HOUR_MS
PAST_MS: Final = 12 * HOUR_MS
HALF: Final = Size(520, 230)
HALF_NARROW: Final = NARROW._replace(height=210)
LEAST_W: Final = 500.0
KILO: Final = 1_000


class Series(NamedTuple):
    """One kind of energy: its colour's class, its word, and its power."""

    kind: str
    word: str
    power_w: Callable[[Flow], float]


INCOMING: Final = (
    Series("sun", texts.SUN, lambda flow: flow.sun_w),
    Series("battery", texts.FROM_BATTERY, lambda flow: flow.from_battery_w),
    Series("street", texts.FROM_STREET, lambda flow: flow.from_street_w),
    Series("grid", texts.FROM_GRID, lambda flow: flow.from_grid_w),
)
OUTGOING: Final = (
    Series("battery", texts.TO_BATTERY, lambda flow: flow.to_battery_w),
    Series("street", texts.TO_STREET, lambda flow: flow.to_street_w),
    Series("grid", texts.TO_GRID, lambda flow: flow.to_grid_w),
)


def legend(*entries: tuple[str, str]) -> Html:
    """Return (class of colour, word) as a legend."""
    return el(
        "ul",
        [
            el("li", el("span", class_=f"key c-{kind}", aria_hidden="true"), word)
            for kind, word in entries
        ],
        class_="legend",
    )


def hours(local: Local, low_ms: float, high_ms: float, every: int) -> list[tuple[float, str]]:
    """Return those full hours of a range that `every` divides, with their labels."""
    first = -int(-low_ms // HOUR_MS) * HOUR_MS
    # Zones may be half an hour off.
    found = []
    for start_ms in range(int(first) - HOUR_MS // 2, int(high_ms) + 1, HOUR_MS // 2):
        moment = local.moment(start_ms)
        if start_ms >= low_ms and moment.minute == 0 and moment.hour % every == 0:
            found.append((float(start_ms), f"{moment:%H:%M}"))
    return found


def window_of(flows: Sequence[Flow], now_ms: int) -> tuple[float, float]:
    """Return the day that is shown: half of it past, once there is so much."""
    low = max(flows[0].start_ms, now_ms - PAST_MS) if flows else now_ms
    return float(low), float(low + DAY_MS)


def within(flows: Iterable[Flow], low: float, high: float) -> list[Flow]:
    """Return those of a range."""
    return [flow for flow in flows if flow.end_ms > low and flow.end_ms <= high]


def energy_chart(flows: Sequence[Flow], now_ms: int, local: Local) -> Html:
    """Return stacked powers: what comes in above zero, what goes out below, the load as a line."""
    low, high = window_of(flows, now_ms)
    shown = within(flows, low, high)
    top = reach((sum(one.power_w(flow) for one in INCOMING) for flow in shown), LEAST_W)
    foot = -reach((sum(one.power_w(flow) for one in OUTGOING) for flow in shown), 0)

    def draw(size: Size) -> Iterable[Html | None]:
        frame = Frame(size, low, high, foot, top)
        yield axis_y(frame, lambda w: number(w / KILO, 1), "kW")
        yield axis_x(frame, hours(local, low, high, 6 if size.is_narrow else 3))
        for ahead in (False, True):
            part = [flow for flow in shown if flow.is_planned is ahead]
            for run in runs(part):
                yield el("g", _stacks(frame, run), class_="ahead" if ahead else None)
        yield upright(frame, now_ms, "now", texts.NOW_MARK)
        for run in runs(shown):
            yield tips(frame, edges_of(run), [_told(flow, local) for flow in run])

    return join(
        figure(draw, texts.ENERGY_LABEL, wide=WIDE._replace(height=310)),
        legend(
            ("sun", texts.SUN),
            ("battery", texts.BATTERY),
            ("street", texts.NEIGHBOURS),
            ("grid", texts.GRID),
            ("load", texts.LOAD),
        ),
    )


def _stacks(frame: Frame, run: list[Flow]) -> Iterable[Html | None]:
    edges = edges_of(run)
    for series, sign in ((INCOMING, 1), (OUTGOING, -1)):
        level = [0.0] * len(run)
        for one in series:
            after = [
                below + sign * one.power_w(flow) for below, flow in zip(level, run, strict=True)
            ]
            yield band(frame, edges, level, after, f"area c-{one.kind}")
            level = after
    yield steps(frame, edges, [flow.load_w for flow in run], "line c-load")


def _told(flow: Flow, local: Local) -> str:
    parts = [
        f"{one.word} {power(one.power_w(flow))}"
        for one in (*INCOMING, *OUTGOING)
        if one.power_w(flow) >= 1
    ]
    clock = f"{local.clock(flow.start_ms)}–{local.clock(flow.end_ms)}"
    return "\n".join([clock, f"{texts.LOAD} {power(flow.load_w)}", *parts])


def charge_chart(flows: Sequence[Flow], capacity_wh: int, now_ms: int, local: Local) -> Html:
    """Return the state of charge over the shown day, in percent of the capacity."""
    low, high = window_of(flows, now_ms)
    shown = within(flows, low, high)

    def draw(size: Size) -> Iterable[Html | None]:
        frame = Frame(size, low, high, 0, 100)
        yield axis_y(frame, number, "%", (0, 25, 50, 75, 100))
        yield axis_x(frame, hours(local, low, high, 6))
        past = [flow for flow in shown if not flow.is_planned]
        ahead = [*past[-1:], *(flow for flow in shown if flow.is_planned)]
        for part, kind in ((past, ""), (ahead, " ahead")):
            points = [
                (float(flow.end_ms), 100 * flow.stored_wh / max(1, capacity_wh)) for flow in part
            ]
            yield under(frame, points, f"area c-battery soft{kind}")
            yield polyline(frame, points, f"line c-battery{kind}")
        yield upright(frame, now_ms, "now")
        for run in runs(shown):
            yield tips(
                frame,
                edges_of(run),
                [
                    f"{local.clock(flow.end_ms)}\n"
                    f"{percent(flow.stored_wh / max(1, capacity_wh))}, {energy(flow.stored_wh)}"
                    for flow in run
                ],
            )

    return figure(draw, texts.CHARGE_LABEL, wide=HALF, narrow=HALF_NARROW)


def forecast_chart(forecast: Row, now_ms: int, local: Local) -> Html:
    """Return expected load and sun with their bands, as mean powers."""
    starts: list[int] = forecast["starts_ms"]
    lengths: list[int] = forecast["lengths_ms"]
    edges = [*(float(start) for start in starts), float(starts[-1] + lengths[-1])]

    def powers(kind: str, column: str) -> list[float]:
        values = forecast[kind][column]
        return [mean_power_w(wh, ms) for wh, ms in zip(values, lengths, strict=True)]

    top = reach((*powers("load", "high_wh"), *powers("pv", "high_wh")), LEAST_W)

    def draw(size: Size) -> Iterable[Html | None]:
        frame = Frame(size, edges[0], edges[-1], 0, top)
        yield axis_y(frame, lambda w: number(w / KILO, 1), "kW")
        yield axis_x(frame, hours(local, edges[0], edges[-1], 6))
        for kind, colour in (("pv", "sun"), ("load", "load")):
            lower, upper = powers(kind, "low_wh"), powers(kind, "high_wh")
            yield band(frame, edges, lower, upper, f"area c-{colour} soft")
            yield steps(frame, edges, powers(kind, "mean_wh"), f"line c-{colour}")
        if edges[0] <= now_ms <= edges[-1]:
            yield upright(frame, now_ms, "now")
        yield tips(
            frame, edges, [_expected(forecast, place, local) for place in range(len(starts))]
        )

    return join(
        figure(draw, texts.FORECAST_LABEL, wide=HALF, narrow=HALF_NARROW),
        legend(("sun", texts.SUN), ("load", texts.LOAD)),
    )


def _expected(forecast: Row, place: int, local: Local) -> str:
    length_ms = forecast["lengths_ms"][place]
    lines = [local.clock(forecast["starts_ms"][place])]
    for kind, word in (("pv", texts.SUN), ("load", texts.LOAD)):
        row: Any = forecast[kind]
        low, mean, high = (
            power(mean_power_w(row[column][place], length_ms))
            for column in ("low_wh", "mean_wh", "high_wh")
        )
        lines.append(f"{word} {mean} ({low} … {high})")
    return "\n".join(lines)
