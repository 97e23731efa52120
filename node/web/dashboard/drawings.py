"""What is drawn without axes: flows of a home, who supplies whom, regions around their chain."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from node.web.dashboard import texts
from node.web.dashboard.flows import Flow
from node.web.dashboard.html import Html, el, join
from node.web.dashboard.words import cut, energy, power

FLOW_LEAST_W: Final = 5.0
FLOW_FULL_W: Final = 5_000.0
# More arrows than these tell their amounts to the pointer only.
AMOUNTS_MAX: Final = 6
AMOUNT_AWAY: Final = 14.0
LABELS_MAX: Final = 40
NAME_CHARS: Final = 12
REGION_CHARS: Final = 10


class Node(NamedTuple):
    """A circle of the home's drawing, and the power that it gives; negative: takes."""

    kind: str
    word: str
    x: float
    y: float
    gives_w: float


def flow_drawing(flow: Flow, has_battery: bool) -> Html:
    """Return the home with what gives and what takes."""
    nodes = [
        Node("sun", texts.SUN, 260, 62, flow.sun_w),
        Node("street", texts.NEIGHBOURS, 72, 110, flow.from_street_w - flow.to_street_w),
        Node("grid", texts.GRID, 72, 262, flow.from_grid_w - flow.to_grid_w),
        Node("load", texts.HOUSE, 448, 186, -flow.load_w),
    ]
    if has_battery:
        gives = flow.from_battery_w - flow.to_battery_w
        nodes.append(Node("battery", texts.BATTERY, 260, 310, gives))
    said = "; ".join(f"{node.word} {power(node.gives_w)}" for node in nodes)
    return el(
        "svg",
        (_wire(node) for node in nodes),
        el("circle", cx=260, cy=186, r=7, class_="hub"),
        (_circle(node) for node in nodes),
        viewBox="0 0 520 372",
        class_="flow",
        role="img",
        aria_label=said,
    )


def _wire(node: Node) -> Html:
    if node.x == 260:
        path = f"M260 {node.y:g}V186"
    else:
        middle = (node.x + 260) / 2
        path = f"M{node.x:g} {node.y:g}C{middle:g} {node.y:g} {middle:g} 186 260 186"
    if abs(node.gives_w) < FLOW_LEAST_W:
        return el("path", d=path, class_="wire")
    width = 2 + 7 * min(1.0, math.sqrt(abs(node.gives_w) / FLOW_FULL_W))
    way = "in" if node.gives_w > 0 else "out"
    return join(
        el("path", d=path, class_="wire"),
        el("path", d=path, class_=f"wire c-{node.kind} {way}", stroke_width=round(width, 1)),
    )


def _circle(node: Node) -> Html:
    active = abs(node.gives_w) >= FLOW_LEAST_W
    return el(
        "g",
        el("circle", cx=node.x, cy=node.y, r=44, class_=f"ring c-{node.kind}"),
        el("text", power(abs(node.gives_w)), x=node.x, y=node.y + 2, class_="value"),
        el("text", node.word, x=node.x, y=node.y + 20, class_="word"),
        class_=None if active else "idle",
    )


class Line(NamedTuple):
    """Energy from one to another, by their places in the circle; None: other regions. [Wh]"""

    seller: int | None
    buyer: int | None
    energy_wh: int


def trade_map(names: Sequence[str], marks: Mapping[int, str], lines: Sequence[Line]) -> Html:
    """Return homes in a circle with lines from sellers to buyers.

    Parameters
    ----------
    names : sequence of str
        The homes, in their order.
    marks : mapping
        A class for some of them, by their place.
    lines : sequence of Line
    """
    count = max(1, len(names))
    radius, middle = 128.0, 200.0
    places = [
        (
            middle + radius * math.sin(2 * math.pi * place / count),
            middle - radius * math.cos(2 * math.pi * place / count),
        )
        for place in range(len(names))
    ]
    most = max((line.energy_wh for line in lines), default=1) or 1
    outside = (middle, middle)
    sums: dict[int, int] = {}
    for line in lines:
        for place, sign in ((line.seller, 1), (line.buyer, -1)):
            if place is not None:
                sums[place] = sums.get(place, 0) + sign * line.energy_wh
    abroad = any(line.seller is None or line.buyer is None for line in lines)
    return el(
        "svg",
        el("circle", cx=middle, cy=middle, r=radius, class_="orbit"),
        [
            _chord(
                outside if line.seller is None else places[line.seller],
                outside if line.buyer is None else places[line.buyer],
                line,
                1.5 + 8 * line.energy_wh / most,
            )
            for line in lines
        ],
        _abroad(middle) if abroad else None,
        (
            _house(names[place], at, middle, sums.get(place, 0), marks.get(place, ""))
            for place, at in enumerate(places)
        ),
        viewBox="0 0 400 400",
        class_="map",
        role="img",
        aria_label=texts.MAP_LABEL,
    )


def _abroad(middle: float) -> Html:
    return el(
        "g",
        el("circle", cx=middle, cy=middle, r=26, class_="ring c-region"),
        el("text", texts.MAP_OTHERS.split(" ")[0], x=middle, y=middle - 2, class_="word"),
        el("text", texts.MAP_OTHERS.split(" ")[-1], x=middle, y=middle + 11, class_="word"),
    )


def _chord(begin: tuple[float, float], end: tuple[float, float], line: Line, width: float) -> Html:
    (ax, ay), (bx, by) = begin, end
    # Lines bend towards the middle, so that they cross few homes.
    cx, cy = (ax + bx) / 2 * 0.45 + 200 * 0.55, (ay + by) / 2 * 0.45 + 200 * 0.55
    path = f"M{ax:.1f} {ay:.1f}Q{cx:.1f} {cy:.1f} {bx:.1f} {by:.1f}"
    kind = "region" if line.seller is None or line.buyer is None else "street"
    return el(
        "path",
        d=path,
        class_=f"chord c-{kind}",
        stroke_width=round(width, 1),
        data_tip=energy(line.energy_wh),
    )


def _house(name: str, at: tuple[float, float], middle: float, sum_wh: int, mark: str) -> Html:
    x, y = at
    side = "seller" if sum_wh > 0 else "buyer" if sum_wh < 0 else "quiet"
    dx, dy = x - middle, y - middle
    length = math.hypot(dx, dy) or 1
    tx, ty = x + dx / length * 22, y + dy / length * 20 + 4
    anchor = "middle" if abs(dx) < 20 else "start" if dx > 0 else "end"
    told = f"{name}\n{energy(sum_wh)}" if sum_wh else name
    return el(
        "g",
        el("circle", cx=round(x, 1), cy=round(y, 1), r=11, class_=f"house {side} {mark}".strip()),
        el(
            "text",
            cut(name, NAME_CHARS),
            x=round(tx, 1),
            y=round(ty, 1),
            class_="label",
            text_anchor=anchor,
        ),
        data_tip=told,
        class_=mark or None,
    )


def _standing(region: "RegionMark") -> str:
    if region.status != "live":
        return region.status
    if region.audited is None:
        return f"{texts.ANCHORED} {region.anchored}"
    return f"{texts.AUDITED} {region.audited}"


class RegionMark(NamedTuple):
    """One region of the map: how far its slots are anchored and audited; None: not told."""

    number: int
    name: str
    status: str
    closed: int | None
    anchored: int
    audited: int | None
    is_own: bool


def region_map(regions: Sequence[RegionMark], sold: Sequence[Line] = ()) -> Html:
    """Return regions around their main chain, with arrows from sellers to buyers."""
    shown = regions[:LABELS_MAX]
    radius, middle_x, middle_y = 132.0, 200.0, 190.0
    parts: list[Html] = []
    wires: list[Html] = []
    places: list[tuple[float, float]] = []
    for place, region in enumerate(shown):
        turn = 2 * math.pi * place / max(1, len(shown)) - math.pi / (1 if len(shown) == 2 else 2)
        x, y = middle_x + radius * 1.1 * math.cos(turn), middle_y + radius * math.sin(turn)
        places.append((x, y))
        path = f"M{x:.1f} {y:.1f}L{middle_x:g} {middle_y:g}"
        wires.append(el("path", d=path, class_="wire"))
        if region.status == "live":
            wires.append(el("path", d=path, class_="wire c-region in", stroke_width=4))
        parts.append(_region(region, round(x, 1), round(y, 1), len(shown)))
    most = max((line.energy_wh for line in sold), default=1) or 1
    arrows = []
    for seller, buyer, energy_wh in sold:
        if seller is None or buyer is None or max(seller, buyer) >= len(shown):
            continue
        told = f"{shown[seller].name} → {shown[buyer].name}: {energy(energy_wh)}"
        ends = places[seller], places[buyer]
        said = energy(energy_wh) if len(sold) <= AMOUNTS_MAX else ""
        width = 2 + 6 * energy_wh / most
        arrows.append(_arrow(*ends, (middle_x, middle_y), width, told, said))
    return el(
        "svg",
        wires,
        arrows,
        el("circle", cx=middle_x, cy=middle_y, r=46, class_="ring c-load"),
        el("text", texts.MAIN_CHAIN, x=middle_x, y=middle_y + 4, class_="word strong"),
        parts,
        viewBox="0 0 400 380",
        class_="map",
        role="img",
        aria_label=texts.REGIONS_LABEL,
    )


def _arrow(
    begin: tuple[float, float],
    end: tuple[float, float],
    middle: tuple[float, float],
    width: float,
    told: str,
    said: str,
) -> Html:
    """Return a line around the main chain, beside the one of the other way, its head, its words."""
    (ax, ay), (bx, by) = begin, end
    mx, my = (ax + bx) / 2, (ay + by) / 2
    dx, dy = bx - ax, by - ay
    length = math.hypot(dx, dy) or 1
    # To the right of its way; of neighbours the one on the inside bends outwards, too, but less.
    rx, ry = -dy / length, dx / length
    out = (mx - middle[0]) * rx + (my - middle[1]) * ry
    bend = 150.0 if abs(out) < 60 else 64.0 if out > 0 else -14.0
    cx, cy = mx + rx * bend, my + ry * bend
    # Of a quadratic curve, half way.
    hx, hy = (mx + cx) / 2, (my + cy) / 2
    ux, uy, size = dx / length, dy / length, 4 + width
    head = (
        f"M{hx + ux * size:.1f} {hy + uy * size:.1f}"
        f"L{hx - ux * size - uy * size:.1f} {hy - uy * size + ux * size:.1f}"
        f"L{hx - ux * size + uy * size:.1f} {hy - uy * size - ux * size:.1f}Z"
    )
    return el(
        "g",
        el(
            "path",
            d=f"M{ax:.1f} {ay:.1f}Q{cx:.1f} {cy:.1f} {bx:.1f} {by:.1f}",
            class_="chord c-street",
            stroke_width=round(width, 1),
        ),
        el("path", d=head, class_="head c-street"),
        el(
            "text",
            said,
            x=round(hx + rx * (size + AMOUNT_AWAY), 1),
            y=round(hy + ry * (size + AMOUNT_AWAY) + 4, 1),
            class_="word",
        )
        if said
        else None,
        data_tip=told,
    )


def _region(region: RegionMark, x: float, y: float, count: int) -> Html:
    radius = 46 if count <= 6 else 28
    told = [f"{region.name}: {region.status}"]
    if region.is_own:
        told[0] += f" ({texts.THIS_REGION})"
    told += [f"{texts.ANCHORED}: {region.anchored}"]
    if region.audited is not None:
        told += [f"{texts.AUDITED}: {region.audited}"]
    text: Iterable[Html] = (
        el("text", cut(region.name, REGION_CHARS), x=x, y=y - 1, class_="word strong"),
        el(
            "text",
            _standing(region),
            x=x,
            y=y + 14,
            class_="word",
        ),
    )
    own = " own" if region.is_own else ""
    state = "" if region.status == "live" else " away"
    return el(
        "g",
        el("circle", cx=x, cy=y, r=radius, class_=f"ring c-region{own}{state}"),
        text,
        data_tip="\n".join(told),
    )
