"""The page of this node's home: now, the day, the battery, the forecast, orders, what it saved."""

from typing import Any, Final

from node.web.dashboard import texts
from node.web.dashboard.asks import Asks
from node.web.dashboard.charts import charge_chart, energy_chart, forecast_chart
from node.web.dashboard.drawings import flow_drawing
from node.web.dashboard.flows import Flow, Row, delivered, planned
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
from node.web.dashboard.today import devices_card, today_card
from node.web.dashboard.words import Local, energy, money, percent, price, price_unit

ORDERS_SHOWN: Final = 8
# Of so many settled slots those with trades are looked at, so many of them.
TRADED_SLOTS: Final = 32
SLOTS_ASKED: Final = 6
CLOCK_CHARS: Final = 5


async def home_page(asks: Asks) -> Html:
    """Return the page's content."""
    status = await asks("status")
    home = status["home"]
    if home is None:
        return empty(texts.NOT_REGISTERED, texts.NOT_REGISTERED_WHY)
    local = await asks.local()
    prices = await asks("market_prices", slots=1)
    past = delivered(await asks("deliveries") or ())
    plan = await asks("plan")
    forecast = await asks("forecast")
    flows = [*past, *planned(plan, past[-1].end_ms if past else 0)]
    currency = prices["at"]["currency"]
    return join(
        columns(
            _now(past, home, local),
            _figures(home, prices, currency),
            class_="hero",
        ),
        card(
            texts.ENERGY,
            energy_chart(flows, home["market_ms"], local),
            why=texts.ENERGY_WHY,
        )
        if flows
        else None,
        columns(
            card(
                texts.CHARGE,
                charge_chart(flows, home["battery_wh"], home["market_ms"], local),
                why=texts.CHARGE_WHY,
            )
            if home["battery_wh"] and flows
            else None,
            card(
                texts.FORECAST,
                forecast_chart(forecast, home["market_ms"], local),
                why=texts.FORECAST_WHY,
            )
            if forecast
            else None,
        ),
        columns(
            today_card(past, home["market_ms"], local),
            _bill(home, currency),
            devices_card(await asks("devices"), plan, home["market_ms"], local),
            class_="three",
        ),
        columns(
            await _orders(asks, status["address"], local, currency),
            await _trades(asks, status["address"], currency),
        ),
    )


def _now(past: list[Flow], home: Row, local: Local) -> Html:
    if not past:
        return empty(texts.EMPTY_HOME, texts.EMPTY_HOME_WHY)
    last = past[-1]
    begin, end = local.clock(last.start_ms), local.clock(last.end_ms)
    return card(
        texts.NOW,
        flow_drawing(last, bool(home["battery_wh"])),
        why=texts.NOW_SLOT.format(begin=begin, end=end),
        class_="present",
    )


def _figures(home: Row, prices: Row, currency: str) -> Html:
    saved, alone = home["saved_micro"], home["grid_only_micro"]
    note = texts.EARNED_MORE
    if alone > 0:
        # More than all of it is saved where one is paid in the end.
        note = texts.SAVED_BESIDE.format(amount=money(alone, currency))
        if saved <= alone:
            note = texts.SAVED_OF.format(share=percent(saved / alone))
    slot = prices["slots"][0]
    capacity = home["battery_wh"]
    share = home["stored_wh"] / capacity if capacity else 0.0
    unit = price_unit(currency)
    return stats(
        stat(texts.SAVED, money(saved, currency), note if saved > 0 else None, "good"),
        stat(
            texts.STORED,
            percent(share) if capacity else texts.NOTHING,
            join(
                meter(share, "battery"),
                f"{energy(home['stored_wh'])} {texts.STORED_OF.format(capacity=energy(capacity))}",
            )
            if capacity
            else texts.NO_BATTERY,
        ),
        stat(
            texts.TARIFF_NOW,
            join(price(slot["tariff_micro_per_kwh"]), el("small", unit)),
            texts.FEED_IN_NOW.format(price=price(slot["feed_in_micro_per_kwh"]), unit=unit),
        ),
        stat(
            texts.BALANCE,
            money(home["balance_micro"], currency),
            texts.HELD.format(amount=money(home["held_micro"], currency)),
        ),
    )


def _bill(home: Row, currency: str) -> Html:
    total, alone = home["total_micro"], home["grid_only_micro"]
    most = max(abs(total), abs(alone), 1)
    return card(
        texts.BILL,
        rows(
            el(
                "li",
                el("span", word, class_="grow"),
                el("span", texts.PAID if micro > 0 else texts.RECEIVED, class_="dim")
                if micro
                else None,
                el("b", money(abs(micro), currency)),
                meter(abs(micro) / most, kind),
                class_="wrap",
            )
            for word, micro, kind in (
                (texts.BILL_WITH, total, "street"),
                (texts.BILL_WITHOUT, alone, "grid"),
            )
        ),
        el(
            "p",
            f"{texts.BOUGHT} {energy(home['bought_wh'])}{texts.DOT}"
            f"{texts.SOLD} {energy(home['sold_wh'])}",
            class_="why",
        ),
    )


async def _orders(asks: Asks, address: str, local: Local, currency: str) -> Html:
    account = await asks("account", account=address)
    prices = await asks("market_prices", slots=1)
    slot_ms = prices["slots"][0]["start_ms"] // max(1, prices["slots"][0]["slot"])
    orders: list[Any] = (account or {}).get("orders", [])
    now = prices["at"]["slot"]
    shown = [order for order in orders if order["slot"] >= now][-ORDERS_SHOWN:]
    if not shown:
        return card(texts.ORDERS, el("p", texts.NO_ORDERS, class_="why"))
    return card(
        texts.ORDERS,
        rows(_order(order, local.clock(order["slot"] * slot_ms), currency) for order in shown),
    )


def _order(order: Row, clock: str, currency: str) -> Html:
    filled = 1 - order["residual_wh"] / max(1, order["energy_wh"])
    side = texts.SELL if order["side"] == "sell" else texts.BUY
    return el(
        "li",
        el("span", clock, class_="dim"),
        badge(side, order["side"]),
        el("span", energy(order["energy_wh"]), class_="grow whole"),
        el("span", f"{price(order['price_micro_per_kwh'])} {price_unit(currency)}"),
        el("span", texts.FILLED.format(share=percent(filled)), class_="dim")
        if filled > 0
        else None,
    )


async def _trades(asks: Asks, address: str, currency: str) -> Html:
    summaries = await asks("slots", count=TRADED_SLOTS) or ()
    numbers = [slot["slot"] for slot in summaries if slot["trades"]][: -SLOTS_ASKED - 1 : -1]
    trades: list[tuple[str, Row]] = []
    for slot in (None, *numbers):
        found = await asks("market_trades", slot=slot, home=address)
        if found is not None:
            clock = found["starts"][-CLOCK_CHARS:]
            trades += [(clock, trade) for trade in found["trades"] if trade["seller"]]
        if len(trades) >= ORDERS_SHOWN:
            break
    if not trades:
        return card(texts.MY_TRADES, el("p", texts.NO_MY_TRADES, class_="why"))
    own = (await asks("account", account=address))["home"]["number"]
    return card(
        texts.MY_TRADES,
        rows(_trade(trade, own, clock) for clock, trade in trades[:ORDERS_SHOWN]),
        why=texts.TRADES_UNIT.format(unit=price_unit(currency)),
    )


def _trade(trade: Row, own: int, clock: str) -> Html:
    sells = trade["seller"] == own
    partner = trade["buyer_name"] if sells else trade["seller_name"]
    return el(
        "li",
        link(
            trade_path(trade["slot"], trade["bid_id"], trade["ask_id"]),
            el("span", clock, class_="dim"),
            badge(texts.SELL if sells else texts.BUY, "sell" if sells else "buy"),
            el("span", partner, class_="grow"),
            el("span", energy(trade["energy_wh"])),
            el("span", price(trade["price_micro_per_kwh"]), class_="dim"),
            class_="row",
        ),
        class_="linked",
    )
