"""The page of the community: who supplies whom, prices and volumes, regions, every home."""

from collections.abc import Sequence
from typing import Any, Final

from node.web.dashboard import texts
from node.web.dashboard.asks import DAY_SLOTS, Asks
from node.web.dashboard.curves import sources_chart, sources_of, volume_chart
from node.web.dashboard.drawings import Line, RegionMark, region_map, trade_map
from node.web.dashboard.flows import Row
from node.web.dashboard.html import Html, el, join
from node.web.dashboard.parts import card, columns, empty, meter, rows, stat, stats
from node.web.dashboard.words import energy, money, number, percent, plural, power, short

MAP_HOMES_MAX: Final = 60
HOMES_SHOWN: Final = 200
ADDRESS_CHARS: Final = 16


async def community_page(asks: Asks) -> Html:
    """Return the page's content; of a main chain only its regions."""
    regions = await asks("regions")
    between = await asks("flows", slots=DAY_SLOTS)
    homes = await asks("homes")
    if homes is None:
        shown = _regions(regions or [], 0, between)
        return shown or empty(texts.EMPTY_SLOTS, texts.EMPTY_SLOTS_WHY)
    status = await asks("status")
    trades = await asks("market_trades")
    slots: list[Row] = await asks("slots", count=DAY_SLOTS) or []
    slot_ms = trades["start_ms"] // max(1, trades["slot"])
    currency = trades["at"]["currency"]
    local = await asks.local()
    region = await asks("region")
    own_number = 0 if region is None else region["number"]
    busy = await _last_traded(asks, trades, slots)
    return join(
        _figures(homes, slots, currency),
        _applications(await asks("applications") or ()),
        columns(
            _map(homes, busy, status["address"]),
            _regions(regions, own_number, between) if regions else None,
        )
        if homes
        else None,
        card(
            texts.VOLUME,
            volume_chart(slots, slot_ms, local, currency),
            why=texts.VOLUME_WHY,
        )
        if slots
        else empty(texts.EMPTY_SLOTS, texts.EMPTY_SLOTS_WHY),
        columns(
            card(texts.BALANCE_CHART, sources_chart(slots, slot_ms, local), why=texts.BALANCE_WHY)
            if slots
            else None,
            _homes(homes, currency, status["address"]),
        ),
    )


async def _last_traded(asks: Asks, trades: Row, slots: Sequence[Row]) -> Row:
    """Return the trades of the last slot that has some; of the last at all if none has."""
    if trades["elsewhere"] or any(trade["seller"] for trade in trades["trades"]):
        return trades
    for slot in reversed(slots):
        if slot["trades"] or slot["imported_wh"] or slot["exported_wh"]:
            found: Row = await asks("market_trades", slot=slot["slot"])
            return found
    return trades


def _figures(homes: Sequence[Row], slots: Sequence[Row], currency: str) -> Html:
    traded = sum(slot["traded_wh"] for slot in slots)
    drawn = sum(slot["import_wh"] for slot in slots)
    own = sum(sum(sources_of(slot)[:2]) for slot in slots)
    saved = sum(row["total"]["grid_only_micro"] - row["total"]["total_micro"] for row in homes)
    abroad = sum(slot["imported_wh"] + slot["exported_wh"] for slot in slots)
    over = [texts.TRADED_OVER.format(slots=plural(len(slots), texts.SLOTS_ONE, texts.SLOTS_MANY))]
    if abroad:
        over.append(texts.TRADED_ABROAD.format(energy=energy(abroad)))
    sunny = sum(1 for row in homes if row["home"]["pv_w"])
    stored = sum(1 for row in homes if row["home"]["battery_wh"])
    share = own / drawn if drawn else None
    return stats(
        stat(
            texts.SELF_SUFFICIENCY,
            texts.NOTHING if share is None else percent(share),
            join(meter(share or 0, "street"), texts.SELF_WHY),
            "good",
        ),
        stat(
            texts.TRADED,
            energy(traded),
            texts.DOT.join(over),
        ),
        stat(texts.SAVED_ALL, money(saved, currency)),
        stat(
            texts.HOMES,
            number(len(homes)),
            texts.HOMES_WITH.format(sun=sunny, battery=stored),
        ),
    )


def _applications(found: Sequence[Row]) -> Html | None:
    """Return who asks at this node to be registered; None if nobody does."""
    if not found:
        return None
    return card(
        texts.APPLICATIONS,
        rows(
            el(
                "li",
                el("b", row["name"]),
                el(
                    "span",
                    texts.APPLICATION_CAN.format(
                        role=row["role"],
                        pv=power(row.get("pv_w", 0)),
                        battery=energy(row.get("battery_wh", 0)),
                    ),
                    class_="grow dim",
                ),
                el("code", short(row["address"], ADDRESS_CHARS), title=row["address"]),
            )
            for row in found[:HOMES_SHOWN]
        ),
        why=texts.APPLICATIONS_WHY,
    )


def _map(homes: Sequence[Row], trades: Row, address: str) -> Html:
    lines: dict[tuple[int | None, int | None], int] = {}
    places = {row["home"]["number"]: place for place, row in enumerate(homes)}
    active = {t[side] for t in trades["trades"] for side in ("buyer", "seller")}
    active |= {row["home"] for row in trades["elsewhere"]}
    if len(homes) > MAP_HOMES_MAX:
        # Of a large community only who trades.
        homes = [row for row in homes if row["home"]["number"] in active][:MAP_HOMES_MAX]
        places = {row["home"]["number"]: place for place, row in enumerate(homes)}
    for trade in trades["trades"]:
        if trade["seller"] in places and trade["buyer"] in places:
            pair: tuple[int | None, int | None]
            pair = (places[trade["seller"]], places[trade["buyer"]])
            lines[pair] = lines.get(pair, 0) + trade["energy_wh"]
    for row in trades["elsewhere"]:
        if row["home"] in places:
            place = places[row["home"]]
            pair = (place, None) if row["sold_wh"] else (None, place)
            lines[pair] = lines.get(pair, 0) + row["sold_wh"] + row["bought_wh"]
    marks = {place: "own" for place, row in enumerate(homes) if row["home"]["address"] == address}
    names = [row["home"]["name"] for row in homes]
    drawn = [Line(seller, buyer, wh) for (seller, buyer), wh in lines.items()]
    return card(
        texts.MAP,
        trade_map(names, marks, drawn),
        why=texts.MAP_WHY.format(slot=trades["starts"][-5:]),
    )


def _regions(regions: Sequence[Row], own_number: int, between: Row | None) -> Html | None:
    if not regions:
        return None
    marks = [
        RegionMark(
            row["number"],
            row.get("name") or texts.REGION.format(number=row["number"]),
            row.get("status", "live"),
            row.get("closed"),
            row["anchored"],
            row.get("audited"),
            row["number"] == own_number,
        )
        for row in regions
    ]
    places = {row["number"]: place for place, row in enumerate(regions)}
    sold = [
        Line(places[row["seller"]], places[row["buyer"]], row["energy_wh"])
        for row in (between or {"flows": ()})["flows"]
        if row["seller"] in places and row["buyer"] in places
    ]
    why = texts.REGIONS_WHY
    if between is not None and between["first_slot"] is not None:
        count = between["last_slot"] - between["first_slot"] + 1
        slots = plural(count, texts.SLOTS_ONE, texts.SLOTS_MANY)
        why = f"{why} {texts.REGIONS_SOLD if sold else texts.REGIONS_SOLD_NOTHING}".format(
            slots=slots
        )
    return card(texts.REGIONS, region_map(marks, sold), why=why)


def _homes(homes: Sequence[Row], currency: str, address: str) -> Html:
    def saved(row: Row) -> int:
        return int(row["total"]["grid_only_micro"] - row["total"]["total_micro"])

    ordered: list[Any] = sorted(homes, key=saved, reverse=True)[:HOMES_SHOWN]
    most = max([1, *(saved(row) for row in ordered)])
    return card(
        texts.EVERY_HOME,
        rows(
            (
                el(
                    "li",
                    el("span", row["home"]["name"], class_="grow"),
                    el(
                        "span",
                        f"↓{energy(row['total']['bought_wh'])} ↑{energy(row['total']['sold_wh'])}",
                        class_="dim",
                    ),
                    el("b", money(saved(row), currency)),
                    meter(saved(row) / most, "battery"),
                    class_="wrap own" if row["home"]["address"] == address else "wrap",
                )
                for row in ordered
            ),
            "scroll",
        ),
        why=texts.EVERY_HOME_WHY,
    )
