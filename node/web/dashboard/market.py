"""The page of the market: a slot's book as supply and demand, its clearing, its trades."""

from collections.abc import Iterator, Sequence
from typing import Final

from node.web.dashboard import texts
from node.web.dashboard.asks import Asks
from node.web.dashboard.curves import Meeting, curve, curves_chart, prices_chart
from node.web.dashboard.flows import Row
from node.web.dashboard.html import Html, el, join
from node.web.dashboard.parts import (
    badge,
    card,
    columns,
    empty,
    link,
    meter,
    rows,
    stat,
    stats,
    trade_path,
)
from node.web.dashboard.words import Local, energy, money, number, price, price_unit

AHEAD_SLOTS: Final = 32
BACK_SLOTS: Final = 4
ORDERS_SHOWN: Final = 40
TRADES_SHOWN: Final = 60
CLOCK_CHARS: Final = 5


async def market_page(asks: Asks, slot: int | None) -> Html | None:
    """Return the page's content; None if the slot is not one that the market knows."""
    trades = await asks("market_trades", slot=slot)
    prices = await asks("market_prices", slots=AHEAD_SLOTS)
    if trades is None or prices is None:
        return None
    opened = await asks("market_book", slot=None)
    currency = trades["at"]["currency"]
    slots = [] if opened is None else opened["slots"]
    if slot is None and slots and not trades["summary"]["bids"] + trades["summary"]["asks"]:
        # What the last gate left is of less interest than what is being offered.
        trades = await asks("market_trades", slot=slots[0]["slot"])
    shown = trades["slot"]
    book = await asks("market_book", slot=shown)
    local = await asks.local()
    slot_ms = prices["slots"][0]["start_ms"] // max(1, prices["slots"][0]["slot"])
    return join(
        _slots(shown, [row["slot"] for row in slots], trades["at"], slot_ms, local),
        _figures(trades, currency),
        _curves(trades, book, currency),
        columns(
            _book(book, currency) if book is not None else None,
            _trades(trades, currency),
        ),
        card(
            texts.AHEAD,
            prices_chart(prices["slots"], local, currency, slot_ms),
            why=texts.AHEAD_WHY,
        ),
    )


def _slots(shown: int, opened: Sequence[int], at: Row, slot_ms: int, local: Local) -> Html:
    last = max([at["slot"], shown, *opened])
    numbers = sorted({*range(last - BACK_SLOTS - 2, last + 1), shown, *opened})
    return el(
        "nav",
        [
            link(
                f"/market?slot={place}",
                local.clock(place * slot_ms),
                class_="slot open" if place in opened else "slot",
                current=place == shown,
            )
            for place in numbers
            if place >= at["first_slot"]
        ],
        class_="slots",
        aria_label=texts.SLOTS_NAV,
    )


def _figures(trades: Row, currency: str) -> Html:
    summary, unit = trades["summary"], price_unit(currency)
    low, high = summary["low_micro_per_kwh"], summary["high_micro_per_kwh"]
    state = {"open": "open", "cleared": "street", "settled": "good"}.get(summary["status"], "")
    said: str | Html = texts.NOTHING
    if summary["trades"]:
        span = price(low) if low == high else f"{price(low)}–{price(high)}"
        said = join(span, el("small", unit))
    abroad = summary["imported_wh"] + summary["exported_wh"]
    more = [f"{texts.WITH_REGIONS} {energy(abroad)}"] if abroad else []
    if summary["backstop_wh"]:
        more.append(texts.BACKSTOP.format(energy=energy(summary["backstop_wh"])))
    return stats(
        stat(
            trades["starts"],
            badge(summary["status"], state),
            trades["finality"],
        ),
        stat(texts.CLEARED_AT, said),
        stat(
            texts.VOLUME_STAT,
            energy(summary["traded_wh"]),
            texts.DOT.join(more),
        ),
        stat(
            texts.ORDERS_STAT,
            number(summary["bids"] + summary["asks"]),
            texts.BIDS_ASKS.format(
                bids=f"{summary['bids']} {texts.BIDS.lower()}",
                asks=f"{summary['asks']} {texts.ASKS.lower()}",
            ),
        ),
    )


def _curves(trades: Row, book: Row | None, currency: str) -> Html:
    if book is None:
        mechanism = trades["at"]["mechanism"]
        return empty(texts.SUPPLY_DEMAND, texts.NO_ORDERS_MECHANISM.format(mechanism=mechanism))
    summary = trades["summary"]
    slot = book["slots"][0]
    is_open = slot["status"] == "open"
    column = "residual_wh" if is_open else "energy_wh"
    bids, asks = curve(slot["bids"], column, True), curve(slot["asks"], column, False)
    if not bids and not asks:
        return empty(texts.EMPTY_MARKET, texts.EMPTY_MARKET_WHY)
    cleared = None
    if summary["trades"]:
        cleared = Meeting(
            summary["traded_wh"], summary["low_micro_per_kwh"], summary["high_micro_per_kwh"]
        )
    grid = (summary["feed_in_micro_per_kwh"], summary["tariff_micro_per_kwh"])
    why = {
        "open": texts.GATE_OPEN.format(time=slot["gate_closes"][-CLOCK_CHARS:]),
        "cleared": texts.GATE_CLEARED,
    }.get(slot["status"], texts.GATE_SETTLED)
    return card(texts.SUPPLY_DEMAND, curves_chart(bids, asks, grid, cleared, currency), why=why)


def _book(book: Row, currency: str) -> Html:
    slot = book["slots"][0]
    most = max([1, *(order["energy_wh"] for side in ("bids", "asks") for order in slot[side])])
    return card(
        texts.BOOK,
        el("p", price_unit(currency), class_="why"),
        el(
            "div",
            _side(texts.BIDS, slot["bids"], "buy", most),
            _side(texts.ASKS, slot["asks"], "sell", most),
            class_="ladder",
        ),
    )


def _side(word: str, orders: Sequence[Row], kind: str, most: int) -> Html:
    if not orders:
        return el("div", el("h3", word), el("p", texts.NONE, class_="why"))
    return el(
        "div",
        el("h3", word),
        rows(
            (
                el(
                    "li",
                    el("b", price(order["price_micro_per_kwh"]), class_=f"t-{kind}"),
                    el("span", order["home_name"], class_="grow dim"),
                    el("span", energy(order["energy_wh"])),
                    meter(order["energy_wh"] / most, kind),
                    class_="wrap",
                )
                for order in orders[:ORDERS_SHOWN]
            ),
            "scroll",
        ),
    )


def _trades(trades: Row, currency: str) -> Html:
    own = [trade for trade in trades["trades"] if trade["seller"]][:TRADES_SHOWN]
    if not own and not trades["elsewhere"]:
        return card(texts.TRADES, el("p", texts.EMPTY_TRADES, class_="why"))
    return card(
        texts.TRADES,
        rows((_trade(trade) for trade in own), "scroll"),
        el("h3", texts.ELSEWHERE) if trades["elsewhere"] else None,
        rows(_elsewhere(trades["elsewhere"], currency)) if trades["elsewhere"] else None,
        why=texts.TRADES_WHY if own else "",
    )


def _trade(trade: Row) -> Html:
    return el(
        "li",
        link(
            trade_path(trade["slot"], trade["bid_id"], trade["ask_id"]),
            el(
                "span",
                el("span", trade["seller_name"]),
                el("span", " → ", class_="dim"),
                el("span", trade["buyer_name"]),
                class_="grow",
            ),
            el("span", energy(trade["energy_wh"])),
            el("b", price(trade["price_micro_per_kwh"]), class_="t-street"),
            class_="row",
        ),
        class_="linked",
    )


def _elsewhere(found: Sequence[Row], currency: str) -> Iterator[Html]:
    for row in found[:TRADES_SHOWN]:
        sold = bool(row["sold_wh"])
        yield el(
            "li",
            badge(texts.SELL if sold else texts.BUY, "sell" if sold else "buy"),
            el("span", row["home_name"], class_="grow"),
            el("span", energy(row["sold_wh"] + row["bought_wh"])),
            el("b", money(row["income_micro"] if sold else row["cost_micro"], currency)),
        )
