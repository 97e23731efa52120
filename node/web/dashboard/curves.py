"""The charts of a market: supply and demand, price and volume, where energy came from."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from node.web.dashboard import texts
from node.web.dashboard.charts import HALF, HALF_NARROW, hours, legend
from node.web.dashboard.flows import Row
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
    reach,
    steps,
    ticks,
    tips,
)
from node.web.dashboard.words import MICRO, Local, energy, number, price, price_unit

CENT: Final = MICRO / 100
LEAST_WH: Final = 100.0
PRICES_SHARE: Final = 0.56
GAP: Final = 0.12


class Step(NamedTuple):
    """An order in a curve. [Wh, micro per kWh]"""

    energy_wh: int
    price_micro: int
    home: str


class Meeting(NamedTuple):
    """Where the curves meet: so much, between these prices."""

    energy_wh: int
    low_micro: int
    high_micro: int


def curve(orders: Sequence[Row], column: str, falling: bool) -> list[Step]:
    """Return orders in order of price; `column` says what of their energy counts."""
    found = [
        Step(order[column], order["price_micro_per_kwh"], order.get("home_name", ""))
        for order in orders
        if order[column] > 0
    ]
    return sorted(found, key=lambda step: step.price_micro, reverse=falling)


def meeting(bids: Sequence[Step], asks: Sequence[Step]) -> Meeting | None:
    """Return where falling bids and rising asks meet; None if no bid reaches an ask."""
    place_of_bid = place_of_ask = taken_of_bid = taken_of_ask = total = 0
    last: tuple[int, int] | None = None
    while place_of_bid < len(bids) and place_of_ask < len(asks):
        bid, ask = bids[place_of_bid], asks[place_of_ask]
        if bid.price_micro < ask.price_micro:
            break
        amount = min(bid.energy_wh - taken_of_bid, ask.energy_wh - taken_of_ask)
        total += amount
        taken_of_bid += amount
        taken_of_ask += amount
        last = (ask.price_micro, bid.price_micro)
        if taken_of_bid == bid.energy_wh:
            place_of_bid, taken_of_bid = place_of_bid + 1, 0
        if taken_of_ask == ask.energy_wh:
            place_of_ask, taken_of_ask = place_of_ask + 1, 0
    return None if last is None else Meeting(total, *last)


def curves_chart(
    bids: Sequence[Step],
    asks: Sequence[Step],
    grid: tuple[int, int],
    cleared: Meeting | None,
    currency: str,
) -> Html:
    """Return supply and demand as steps, with the grid's prices and where they have met.

    Parameters
    ----------
    grid : tuple of int
        What the grid pays and what it asks. [micro per kWh]
    cleared : Meeting or None
        What was traded in fact; None: not cleared yet, the curves' own meeting is marked.
    """
    met = cleared or meeting(bids, asks)
    prices = [step.price_micro / CENT for step in (*bids, *asks)]
    top = reach((*prices, *(one / CENT for one in grid)), 1.0, 1.12)
    total = max(sum(step.energy_wh for step in side) for side in (bids, asks))
    right = reach([total, met.energy_wh if met else 0], LEAST_WH, 1.08)

    def draw(size: Size) -> Iterable[Html | None]:
        frame = Frame(size, 0, right, 0, top)
        yield axis_y(frame, number, price_unit(currency))
        count = 3 if size.is_narrow else 6
        yield axis_x(frame, [(wh, energy(wh)) for wh in ticks(0, right * 0.97, count)])
        for micro, word in zip(grid, (texts.FEED_IN, texts.TARIFF), strict=True):
            y = frame.y(micro / CENT)
            path = f"M{size.left:g} {y:g}H{size.width - size.right:g}"
            yield el("path", d=path, class_="line c-grid thin dashed")
            yield el(
                "text", word, x=size.width - size.right, y=y - 5, class_="tick", text_anchor="end"
            )
        for side, kind in ((asks, "sell"), (bids, "buy")):
            if side:
                yield _staircase(frame, side, f"line c-{kind} strong")
        if met is not None:
            yield _mark(frame, met, cleared is not None)
        for side, word in ((asks, texts.SUPPLY), (bids, texts.DEMAND)):
            yield _hits(frame, side, word, currency)

    return join(
        figure(draw, texts.CURVES_LABEL, wide=WIDE._replace(height=340)),
        legend(("sell", texts.SUPPLY), ("buy", texts.DEMAND), ("grid", texts.GRID)),
    )


def _staircase(frame: Frame, side: Sequence[Step], class_: str) -> Html:
    x, parts = 0.0, [f"M{frame.x(0):g} {frame.y(side[0].price_micro / CENT):g}"]
    for step in side:
        parts.append(f"V{frame.y(step.price_micro / CENT):g}")
        x += step.energy_wh
        parts.append(f"H{frame.x(x):g}")
    return el("path", d="".join(parts), class_=class_)


def _mark(frame: Frame, met: Meeting, is_cleared: bool) -> Html:
    x = frame.x(met.energy_wh)
    low, high = frame.y(met.low_micro / CENT), frame.y(met.high_micro / CENT)
    middle = (low + high) / 2
    foot = frame.y(0)
    word = texts.CLEARING if is_cleared else texts.WOULD_CLEAR
    at_end = x > frame.size.width - 150
    return el(
        "g",
        el("path", d=f"M{x:g} {middle:g}V{foot:g}", class_="line thin dashed c-street"),
        el("path", d=f"M{x:g} {low:g}V{high:g}", class_="line c-street strong"),
        el("circle", cx=x, cy=round(middle, 1), r=6.5, class_="dot c-street"),
        el(
            "text",
            f"{word} {energy(met.energy_wh)}",
            x=x - 12 if at_end else x + 12,
            y=round(min(low, high) - 16, 1),
            class_="tick strong",
            text_anchor="end" if at_end else "start",
        ),
    )


def _hits(frame: Frame, side: Sequence[Step], word: str, currency: str) -> Html:
    parts: list[Html] = []
    x = 0.0
    for step in side:
        y = frame.y(step.price_micro / CENT)
        begin, end = frame.x(x), frame.x(x + step.energy_wh)
        parts.append(
            el(
                "rect",
                x=begin,
                y=y - 9,
                width=round(max(1.0, end - begin), 1),
                height=18,
                class_="hit",
                data_tip=f"{word}: {step.home}\n{energy(step.energy_wh)} "
                f"{texts.AT_PRICE.format(price=price(step.price_micro))} {price_unit(currency)}",
            )
        )
        x += step.energy_wh
    return el("g", parts)


def volume_chart(slots: Sequence[Row], slot_ms: int, local: Local, currency: str) -> Html:
    """Return the settled slots' prices above their volumes, over one time axis."""
    slots = _gapless(slots)
    edges = _edges(slots, slot_ms)
    top = reach((slot["tariff_micro_per_kwh"] / CENT for slot in slots), 1.0)
    most = reach((_volume(slot) for slot in slots), LEAST_WH)

    def draw(size: Size) -> Iterable[Html | None]:
        upper = size._replace(bottom=size.height * (1 - PRICES_SHARE) + 8)
        lower = size._replace(top=size.height * PRICES_SHARE + 28)
        prices = Frame(upper, edges[0], edges[-1], 0, top)
        volumes = Frame(lower, edges[0], edges[-1], 0, most)
        yield axis_y(prices, number, price_unit(currency))
        yield axis_y(volumes, lambda wh: number(wh / 1_000, 1), "kWh", ticks(0, most, 2))
        yield axis_x(volumes, hours(local, edges[0], edges[-1], _every(edges, size)))
        for column in ("feed_in_micro_per_kwh", "tariff_micro_per_kwh"):
            levels = [slot[column] / CENT for slot in slots]
            yield steps(prices, edges, levels, "line c-grid thin")
        for place, slot in enumerate(slots):
            yield _bar(volumes, edges, place, 0, slot["traded_wh"], "street")
            yield _bar(volumes, edges, place, slot["traded_wh"], _volume(slot), "region")
            if slot["trades"]:
                yield _span(prices, edges, place, slot)
        yield tips(prices._replace(size=size), edges, [_traded(s, slot_ms, local) for s in slots])

    return join(
        figure(draw, texts.VOLUME_LABEL, wide=WIDE._replace(height=340), narrow=_TALL),
        legend(
            ("street", texts.BETWEEN_HOMES), ("region", texts.WITH_REGIONS), ("grid", texts.GRID)
        ),
    )


_TALL: Final = NARROW._replace(height=300)


def _volume(slot: Row) -> int:
    return int(slot["traded_wh"] + slot["imported_wh"] + slot["exported_wh"])


def _gapless(slots: Sequence[Row]) -> list[Row]:
    """Return the slots, and for each stretch between them that has none one empty row."""
    found = list(slots[:1])
    for before, slot in pairwise(slots):
        if slot["slot"] > before["slot"] + 1:
            kept = {
                name: before[name] for name in ("tariff_micro_per_kwh", "feed_in_micro_per_kwh")
            }
            found.append({**dict.fromkeys(before, 0), **kept, "slot": before["slot"] + 1})
        found.append(slot)
    return found


def _edges(slots: Sequence[Row], slot_ms: int) -> list[float]:
    return [
        *(float(slot["slot"] * slot_ms) for slot in slots),
        float((slots[-1]["slot"] + 1) * slot_ms),
    ]


def _every(edges: Sequence[float], size: Size) -> int:
    """Return how many hours apart labels stand."""
    span_h = (edges[-1] - edges[0]) / 3_600_000
    room = 5 if size.is_narrow else 12
    return next((every for every in (1, 2, 3, 6, 12) if span_h / every <= room), 24)


def _bar(
    frame: Frame, edges: Sequence[float], place: int, low: float, high: float, kind: str
) -> Html | None:
    if high <= low:
        return None
    begin, end = frame.x(edges[place]), frame.x(edges[place + 1])
    room = GAP * (end - begin)
    y = frame.y(high)
    return el(
        "rect",
        x=round(begin + room, 1),
        y=y,
        width=round(max(0.6, end - begin - 2 * room), 1),
        height=round(frame.y(low) - y, 1),
        rx=1.5,
        class_=f"area c-{kind}",
    )


def _span(frame: Frame, edges: Sequence[float], place: int, slot: Row) -> Html:
    begin, end = frame.x(edges[place]), frame.x(edges[place + 1])
    high = frame.y(slot["high_micro_per_kwh"] / CENT)
    low = frame.y(slot["low_micro_per_kwh"] / CENT)
    return el(
        "rect",
        x=round(begin + 0.5, 1),
        y=round(high - 1, 1),
        width=round(max(1.5, end - begin - 1), 1),
        height=round(low - high + 2.5, 1),
        rx=1.2,
        class_="area c-street",
    )


def _traded(slot: Row, slot_ms: int, local: Local) -> str:
    lines = [local.clock(slot["slot"] * slot_ms), f"{texts.TRADED} {energy(slot['traded_wh'])}"]
    if slot["trades"]:
        low, high = price(slot["low_micro_per_kwh"]), price(slot["high_micro_per_kwh"])
        lines.append(f"{texts.PRICE} {low} … {high}")
    if slot["imported_wh"] or slot["exported_wh"]:
        lines.append(f"{texts.WITH_REGIONS} {energy(slot['imported_wh'] + slot['exported_wh'])}")
    lines.append(f"{texts.TARIFF} {price(slot['tariff_micro_per_kwh'])}")
    return "\n".join(lines)


def sources_of(slot: Row) -> tuple[int, int, int]:
    """Return what a slot's homes drew from neighbours, other regions and the grid. [Wh]"""
    drawn, grid, regions = slot["import_wh"], slot["grid_wh"], slot["imported_wh"]
    regions = min(regions, drawn - grid)
    return max(0, drawn - grid - regions), max(0, regions), grid


def sources_chart(slots: Sequence[Row], slot_ms: int, local: Local) -> Html:
    """Return what homes drew, slot by slot: from neighbours, other regions and the grid."""
    slots = _gapless(slots)
    edges = _edges(slots, slot_ms)
    most = reach((sum(sources_of(slot)) for slot in slots), LEAST_WH)
    kinds = ("street", "region", "grid")

    def draw(size: Size) -> Iterable[Html | None]:
        frame = Frame(size, edges[0], edges[-1], 0, most)
        yield axis_y(frame, lambda wh: number(wh / 1_000, 1), "kWh")
        yield axis_x(frame, hours(local, edges[0], edges[-1], _every(edges, size)))
        level = [0.0] * len(slots)
        for place, kind in enumerate(kinds):
            after = [
                below + sources_of(slot)[place] for below, slot in zip(level, slots, strict=True)
            ]
            yield band(frame, edges, level, after, f"area c-{kind}")
            level = after
        yield tips(frame, edges, [_drawn(slot, slot_ms, local) for slot in slots])

    words = (texts.NEIGHBOURS, texts.WITH_REGIONS, texts.GRID)
    return join(
        figure(draw, texts.BALANCE_LABEL, wide=HALF, narrow=HALF_NARROW),
        legend(*zip(kinds, words, strict=True)),
    )


def _drawn(slot: Row, slot_ms: int, local: Local) -> str:
    words = (texts.NEIGHBOURS, texts.WITH_REGIONS, texts.GRID)
    parts = [f"{word} {energy(wh)}" for word, wh in zip(words, sources_of(slot), strict=True) if wh]
    return "\n".join([local.clock(slot["slot"] * slot_ms), *parts])


def prices_chart(rows: Sequence[Row], local: Local, currency: str, slot_ms: int) -> Html:
    """Return the grid's and the suggested prices of the slots that come."""
    edges = [*(float(row["start_ms"]) for row in rows), float(rows[-1]["start_ms"] + slot_ms)]
    columns: tuple[tuple[str, str, str], ...] = (
        ("tariff_micro_per_kwh", "grid", texts.TARIFF),
        ("feed_in_micro_per_kwh", "sun", texts.FEED_IN),
        ("suggested_buy_micro_per_kwh", "street", texts.SUGGESTED),
    )
    top = reach((row["tariff_micro_per_kwh"] / CENT for row in rows), 1.0, 1.1)
    told: Callable[[Row], str] = lambda row: "\n".join(  # noqa: E731 - one use, beside it
        [
            local.clock(row["start_ms"]),
            *(f"{word} {price(row[column])}" for column, _, word in columns),
        ]
    )

    def draw(size: Size) -> Iterable[Html | None]:
        frame = Frame(size, edges[0], edges[-1], 0, top)
        yield axis_y(frame, number, price_unit(currency))
        yield axis_x(frame, hours(local, edges[0], edges[-1], _every(edges, size)))
        # The suggested price is often one of the grid's: dashes above it show both.
        for column, kind, _ in reversed(columns):
            dashed = "" if kind == "street" else " dashed"
            values = [row[column] / CENT for row in rows]
            yield steps(frame, edges, values, f"line{dashed} c-{kind}")
        yield tips(frame, edges, [told(row) for row in rows])

    return join(
        figure(draw, texts.AHEAD_LABEL, wide=WIDE._replace(height=220)),
        legend(*((kind, word) for _, kind, word in columns)),
    )
