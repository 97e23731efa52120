"""The page of one trade, from the orders that met to the audit, with its proofs."""

import shlex
from collections.abc import Sequence
from typing import Final, NamedTuple

from node.web.dashboard import texts
from node.web.dashboard.asks import Asks
from node.web.dashboard.flows import Row
from node.web.dashboard.html import Child, Html, el, join
from node.web.dashboard.parts import card, link
from node.web.dashboard.words import energy, money, price, price_unit

CLOCK_CHARS: Final = 5
ANCHORED: Final = ("anchored", "audited")


class Stage(NamedTuple):
    """One step of a trade's way: whether it is done, and what is to be said of it."""

    word: str
    is_done: bool
    says: Sequence[Child]


async def trade_page(asks: Asks, slot: int, bid_id: str, ask_id: str) -> Html | None:
    """Return the page's content; None if there is no such trade."""
    found = await asks("market_trades", slot=slot)
    trade = next(
        (
            one
            for one in (found or {"trades": ()})["trades"]
            if one["bid_id"] == bid_id and one["ask_id"] == ask_id and one["seller"]
        ),
        None,
    )
    if found is None or trade is None:
        return None
    whole = await asks("slot", slot=slot)
    book = await asks("market_book", slot=slot)
    numbers = (trade["seller"], trade["buyer"])
    names = {trade["seller"]: trade["seller_name"], trade["buyer"]: trade["buyer_name"]}
    bills = [bill for bill in whole["bills"] if bill["home"] in numbers]
    status = await asks("status")
    stages = _stages(trade, found, book, bills, names)
    title = texts.TRADE_TITLE.format(
        energy=energy(trade["energy_wh"]),
        seller=trade["seller_name"],
        buyer=trade["buyer_name"],
    )
    return join(
        el(
            "section",
            el("p", texts.TRADE, class_="kicker"),
            el("h2", title, class_="big"),
            el(
                "p",
                texts.TRADE_SUB.format(slot=slot, starts=found["starts"]),
                class_="why",
            ),
            el(
                "ol", [_stage(stage, place + 1) for place, stage in enumerate(stages)], class_="way"
            ),
            class_="card",
        ),
        await _proofs(asks, slot, names, status, settled=bool(bills)),
        el("p", link(f"/market?slot={slot}", f"← {texts.MARKET}")),
    )


def _stages(
    trade: Row, found: Row, book: Row | None, bills: Sequence[Row], names: dict[int, str]
) -> list[Stage]:
    currency, finality = found["at"]["currency"], found["finality"]
    unit = price_unit(currency)
    orders = [] if book is None else [*book["slots"][0]["bids"], *book["slots"][0]["asks"]]
    ordered = [
        _order(orders, trade["ask_id"], trade["seller_name"], unit),
        _order(orders, trade["bid_id"], trade["buyer_name"], unit),
    ]
    matched = [
        texts.MATCHED_SAYS.format(
            energy=energy(trade["energy_wh"]),
            price=price(trade["price_micro_per_kwh"]),
            unit=unit,
            cost=money(trade["cost_micro"], currency),
        )
    ]
    delivered = [
        texts.DELIVERED_SAYS.format(
            home=names[bill["home"]],
            bought=energy(bill["import_wh"]),
            sold=energy(bill["export_wh"]),
        )
        if bill["read"]
        else texts.DELIVERED_SILENT.format(home=names[bill["home"]])
        for bill in bills
    ]
    settled = [
        texts.SETTLED_SAYS.format(
            home=names[bill["home"]],
            total=money(bill["total_micro"], currency),
            saved=money(bill["grid_only_micro"] - bill["total_micro"], currency),
        )
        for bill in bills
    ]
    is_settled = bool(bills)
    stages = [
        Stage(texts.STEP_ORDERED, True, ordered),
        Stage(texts.STEP_MATCHED, True, matched),
        Stage(texts.STEP_DELIVERED, is_settled, delivered or [texts.DELIVERED_WAIT]),
        Stage(texts.STEP_SETTLED, is_settled, settled or [texts.SETTLED_WAIT]),
    ]
    if finality is None:
        stages[-1] = stages[-1]._replace(says=[*stages[-1].says, texts.STREET_FINAL])
        return stages
    anchored, audited = finality in ANCHORED, finality == ANCHORED[-1]
    return [
        *stages,
        Stage(
            texts.STEP_ANCHORED,
            anchored,
            [texts.ANCHORED_SAYS if anchored else texts.ANCHORED_WAIT],
        ),
        Stage(texts.STEP_AUDITED, audited, [texts.AUDITED_SAYS if audited else texts.AUDITED_WAIT]),
    ]


def _order(orders: Sequence[Row], order_id: str, home: str, unit: str) -> str:
    order = next((one for one in orders if one["order_id"] == order_id), None)
    if order is None:
        return texts.ORDER_GONE.format(home=home)
    return texts.ORDER_SAYS.format(
        home=home,
        side=texts.SELL if order["side"] == "sell" else texts.BUY,
        energy=energy(order["energy_wh"]),
        price=price(order["price_micro_per_kwh"]),
        unit=unit,
    )


def _stage(stage: Stage, place: int) -> Html:
    return el(
        "li",
        el("span", "✓" if stage.is_done else str(place), class_="mark", aria_hidden="true"),
        el(
            "div",
            el("h3", stage.word),
            el("span", texts.YES if stage.is_done else texts.NOT_YET, class_="unseen"),
            [el("p", line) for line in stage.says],
        ),
        class_="done" if stage.is_done else "waits",
    )


async def _proofs(
    asks: Asks, slot: int, names: dict[int, str], status: Row, settled: bool
) -> Html | None:
    if not settled:
        return None
    homes = await asks("homes") or ()
    listed = [
        el(
            "li",
            link(
                f"/v1/bills/{row['home']['address']}/proof?slot={slot}",
                texts.PROOF_BILL.format(home=row["home"]["name"]),
            ),
        )
        for row in homes
        if row["home"]["number"] in names
    ]
    seller = next(iter(names.values()))
    # A home chooses its name: what is copied into a shell is quoted as one word.
    command = (
        f"commonwatt bill --slot {slot} --verify --home {shlex.quote(seller)} "
        f"--genesis genesis.json --from {status['listens'][0]}"
        if status["listens"]
        else ""
    )
    return card(
        texts.PROOFS,
        el("ul", listed, class_="links"),
        el("h3", texts.PROOF_COMMAND) if command else None,
        el("pre", el("code", command), tabindex="0") if command else None,
        why=texts.PROOFS_WHY,
    )
