"""The market as people read it: orders, trades, prices, requests, and what became of a call."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from string import hexdigits
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from node.cli.options import (
    CONFIG,
    EXIT_FAILED,
    ConfigOption,
    JsonOption,
    NodeOption,
    data_of,
    money,
    price,
    print_json,
    settings,
)

if TYPE_CHECKING:
    from node.genesis import Genesis

market_app = typer.Typer(
    help="The market: orders, trades, prices, requests, and why a transaction was refused.",
    no_args_is_help=True,
)

ID_CHARS_SHOWN: Final = 12
OTHER_REGIONS: Final = "other regions"

SlotOption = Annotated[int | None, typer.Option("--slot", min=0, help="The slot's number.")]


@market_app.command("book")
def market_book(
    slot: SlotOption = None,
    config: ConfigOption = CONFIG,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the orders of a slot, or of the slots whose gate is open, with what is left of each."""
    found = _ask(config, node, "market_book", slot=slot)
    if as_json:
        print_json(found)
    else:
        print_book(found)


@market_app.command("trades")
def market_trades(
    slot: SlotOption = None,
    home: Annotated[
        str | None, typer.Option("--home", help="Only of this home: a name, or an account.")
    ] = None,
    config: ConfigOption = CONFIG,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a slot's rounds and trades; of the last slot that may have any if none is given."""
    found = _ask(config, node, "market_trades", slot=slot, home=home)
    if as_json:
        print_json(found)
    else:
        print_trades(found)


@market_app.command("prices")
def market_prices(
    slots: Annotated[
        int, typer.Option("--slots", min=1, max=96, help="How many slots, from the present one.")
    ] = 8,
    config: ConfigOption = CONFIG,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the grid's prices and carbon, the suggested prices, and those of the last round."""
    found = _ask(config, node, "market_prices", slots=slots)
    if as_json:
        print_json(found)
    else:
        print_prices(found)


@market_app.command("requests")
def market_requests(
    config: ConfigOption = CONFIG, node: NodeOption = None, as_json: JsonOption = False
) -> None:
    """Show the requests that take offers, with the offers, in markets by request_offer."""
    found = _ask(config, node, "market_requests")
    if as_json:
        print_json(found)
    else:
        print_requests(found)


@market_app.command("explain")
def market_explain(
    transaction: Annotated[
        str | None,
        typer.Argument(help="Its id; the first 8 digits of one that was handed in at this node."),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Prove how it ended from the genesis file, trusting no node."
        ),
    ] = False,
    peer: Annotated[
        str | None,
        typer.Option(
            "--from", help="With --verify: ask the neighbour at this multiaddress, with /p2p/."
        ),
    ] = None,
    genesis: Annotated[
        Path | None, typer.Option(help="With --verify: the genesis file. [default: this home's]")
    ] = None,
    count: Annotated[
        int, typer.Option("--count", min=1, max=50, help="Without an id: how many are listed.")
    ] = 10,
    config: ConfigOption = CONFIG,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a transaction asked for, what became of it, and what would have been accepted.

    Without an id, list the last transactions that were handed in at the node. With --from and
    --genesis it takes no node and no settings of one's own.
    """
    if peer is not None:
        _print_explained(
            _proven_by_a_peer(transaction, verify, peer, node, config, genesis), as_json
        )
        return
    if transaction is None:
        listed = _ask(config, node, "transactions", count=count)
        if as_json:
            print_json(listed)
        else:
            print_transactions(listed)
        return
    found = _ask(config, node, "transaction", id=transaction)
    if verify and found["status"] == "decided":
        community = _genesis(config, genesis)
        found |= _proven(community, data_of(config, node), bytes.fromhex(found["id"]))
    _print_explained(found, as_json)
    if found["status"] == "unknown" or (verify and "proof" not in found):
        raise typer.Exit(EXIT_FAILED)


def _ask(config: Path, node: Path | None, question: str, **arguments: Any) -> Any:
    from node.api.control import ask

    return asyncio.run(ask(data_of(config, node), question, **arguments))


def _proven_by_a_peer(
    transaction: str | None,
    verify: bool,
    peer: str,
    node: Path | None,
    config: Path,
    genesis: Path | None,
) -> dict[str, Any]:
    from node.errors import ConfigError
    from node.proofs.receipts import TX_ID_BYTES

    if node is not None:
        raise ConfigError("give either --from ADDRESS or --node DIRECTORY")
    if not verify:
        raise ConfigError("a neighbour is not taken at its word: give --verify with --from")
    digits = transaction or ""
    if len(digits) != 2 * TX_ID_BYTES or set(digits) - set(hexdigits):
        raise ConfigError(
            f"with --from the transaction is named by all {2 * TX_ID_BYTES} hexadecimal digits of "
            "its id"
        )
    if genesis is None and not config.exists():
        raise ConfigError(
            f"{config}: there are no settings; give --config FILE, or without a home of your own "
            "--genesis FILE"
        )
    return _proven(_genesis(config, genesis), peer, bytes.fromhex(digits))


def _genesis(config: Path, genesis: Path | None) -> "Genesis":
    from node.genesis import read_genesis

    if genesis is None:
        own = settings(config)
        genesis = own.path(own.node.genesis)
    return read_genesis(genesis)


def _proven(community: "Genesis", asked: Path | str, tx_id: bytes) -> dict[str, Any]:
    """Return what a transaction asked for and how it ended, proven to who trusts no node."""
    from node.proofs.light import names_of, prove_receipt
    from node.proofs.receipts import receipt_view

    return receipt_view(asyncio.run(prove_receipt(community, asked, tx_id)), names_of(community))


# -- printing ------------------------------------------------------------------------------------


def print_book(found: dict[str, Any]) -> None:
    """Print books, a table per slot."""
    from node.cli.tables import show

    if not found["slots"]:
        show(f"no orders stand ({found['at']['market_time']})")
    for slot in found["slots"]:
        show(
            f"slot {slot['slot']}, {slot['starts']}: {slot['status']}, "
            f"the gate closes {slot['gate_closes']}",
            orders_table([*slot["bids"], *slot["asks"]]),
        )
        if not slot["bids"] and not slot["asks"]:
            show("no orders")
    if found["left_off"]:
        show(f"and {found['left_off']} more slots: --slot NUMBER shows one")


def orders_table(orders: list[dict[str, Any]]) -> Any:
    """Return a table of orders."""
    from node.cli.tables import add_row, table

    rows = table("side", "order", "home", "Wh>", "left>", "price>", "terms")
    for order in orders:
        add_row(
            rows,
            (
                "bid" if order["side"] == "buy" else "ask",
                order["order_id"],
                order["home_name"],
                order["energy_wh"],
                order["residual_wh"],
                price(order["price_micro_per_kwh"]),
                _terms(order),
            ),
        )
    return rows


def _terms(order: dict[str, Any]) -> str:
    terms = []
    if order["green"]:
        terms.append("green only")
    if order["partner"]:
        terms.append(f"only with {order['partner_name']}")
    if order["expires_ms"]:
        terms.append(f"until {_moment(order['expires_ms'])}")
    return ", ".join(terms)


def print_trades(found: dict[str, Any]) -> None:
    """Print a slot's rounds, what lines cut, and trades."""
    from node.cli.tables import add_row, dash, show, table

    summary = found["summary"]
    lines = [
        f"slot {found['slot']}, {found['starts']}: {summary['status']}, grid "
        f"{price(summary['tariff_micro_per_kwh'])}, feed-in "
        f"{price(summary['feed_in_micro_per_kwh'])}"
    ]
    if found.get("finality"):
        lines.append(f"final: {found['finality']}")
    if summary["price_micro_per_kwh"]:
        lines.append(f"one price for all: {price(summary['price_micro_per_kwh'])}")
    rounds = table(
        "round>", "kind", "trades>", "Wh>", "low>", "high>", "fees>", "grid Wh>", "cut by lines"
    )
    for held in found["rounds"]:
        cut = (f"line {row['line']}: {row['energy_wh']} Wh" for row in held["curtailed"])
        add_row(
            rounds,
            (
                held["round"],
                held["kind"],
                held["trades"],
                held["traded_wh"],
                price(held["low_micro_per_kwh"]) if held["trades"] else "-",
                price(held["high_micro_per_kwh"]) if held["trades"] else "-",
                money(held["fees_micro"]),
                held["backstop_wh"],
                dash(", ".join(cut)),
            ),
        )
    show(*lines, rounds, _trades(found["trades"], found["elsewhere"]))
    if not found["trades"] and not found["elsewhere"]:
        show("no trades")


def _trades(trades: list[dict[str, Any]], elsewhere: list[dict[str, Any]]) -> Any:
    """Return a table of trades in the region and, below them, of those with other regions."""
    from node.cli.tables import add_row, table

    rows = table("buyer", "seller", "Wh>", "price>", "cost>", "fee>")
    for trade in trades:
        add_row(
            rows,
            (
                trade["buyer_name"],
                trade["seller_name"],
                trade["energy_wh"],
                price(trade["price_micro_per_kwh"]),
                money(trade["cost_micro"]),
                money(trade["fee_micro"]),
            ),
        )
    for row in elsewhere:
        energy_wh, cost_micro = row["bought_wh"], row["cost_micro"]
        names = (row["home_name"], OTHER_REGIONS)
        if row["sold_wh"]:
            energy_wh, cost_micro = row["sold_wh"], row["income_micro"]
            names = (OTHER_REGIONS, row["home_name"])
        cells = (price(cost_micro * 1_000 // energy_wh), money(cost_micro), money(row["fee_micro"]))
        add_row(rows, (*names, energy_wh, *cells))
    return rows


def print_prices(found: dict[str, Any]) -> None:
    """Print a table of prices, a row per slot."""
    from node.cli.tables import add_row, show, table

    rows = table(
        "slot",
        "starts",
        "grid>",
        "feed-in>",
        "g CO2/kWh>",
        "buy at>",
        "sell at>",
        "bid Wh>",
        "ask Wh>",
    )
    for slot in found["slots"]:
        add_row(
            rows,
            (
                slot["slot"],
                slot["starts"],
                price(slot["tariff_micro_per_kwh"]),
                price(slot["feed_in_micro_per_kwh"]),
                slot["intensity_mg_per_wh"],
                price(slot["suggested_buy_micro_per_kwh"]),
                price(slot["suggested_sell_micro_per_kwh"]),
                slot["bid_wh"],
                slot["ask_wh"],
            ),
        )
    show(f"{found['at']['currency']} per kWh; buy at and sell at are suggestions", rows)
    last = found["last_round"]
    if last is None:
        show("no round with trades yet")
    else:
        show(
            f"last round with trades, of slot {last['slot']}, {last['starts']}: "
            f"{price(last['low_micro_per_kwh'])} to {price(last['high_micro_per_kwh'])}"
        )


def print_requests(found: dict[str, Any]) -> None:
    """Print requests, each with its offers."""
    from node.cli.tables import show

    if not found["requests"]:
        show(f"no request takes offers ({found['at']['market_time']})")
    for request in found["requests"]:
        show(*request_lines(request))
    if found["left_off"]:
        show(f"and {found['left_off']} more requests, which close later")


def request_lines(request: dict[str, Any]) -> tuple[Any, ...]:
    """Return what there is to print of a request and its offers."""
    from node.cli.tables import add_row, table

    rows = table("offer>", "home", "Wh>", "price>")
    for offer in request["offered"]:
        add_row(
            rows,
            (
                offer["offer"],
                offer["home_name"],
                offer["energy_wh"],
                price(offer["price_micro_per_kwh"]),
            ),
        )
    head = (
        f"request {request['request']} of {request['home_name']}: {request['energy_wh']} Wh from "
        f"{request['starts']} to {request['ends']}, at most "
        f"{price(request['limit_micro_per_kwh'])}; takes offers until {request['closes']}"
    )
    return (head, rows) if request["offered"] else (head, "  no offers yet")


def print_transactions(listed: list[dict[str, Any]]) -> None:
    """Print a table of transactions, a row each."""
    from node.cli.tables import add_row, dash, show, table

    if not listed:
        show("nothing was handed in here since the node started")
    rows = table("transaction", "asked", "block>", "became of it")
    for found in listed:
        asked = found.get("asked")
        add_row(
            rows,
            (
                found["id"][:ID_CHARS_SHOWN],
                "?" if asked is None else f"{asked['contract']}.{asked['entry']}",
                dash(found["height"]),
                found.get("reason") or found.get("code") or found["status"],
            ),
        )
    show(rows)


def _print_explained(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        print_explained(found)


def print_explained(found: dict[str, Any]) -> None:
    """Print what a transaction asked for, and what became of it."""
    from node.cli.tables import show

    show(f"transaction {found['id']}")
    asked = found.get("asked")
    if asked is not None:
        given = ", ".join(f"{name}={value!r}" for name, value in asked["args"].items())
        show(f"  asked    {asked['sender_name']}: {asked['contract']}.{asked['entry']}({given})")
    if found["status"] == "decided":
        show(f"  decided  block {found['height']}, {_moment(found['time_ms'])}: {found['code']}")
        for contract, name, data in found["events"]:
            said = ", ".join(f"{key}={value!r}" for key, value in data.items())
            show(f"  event    {contract}.{name}: {said}")
    else:
        show(f"  {found['status']}")
    if found.get("reason"):
        show(f"  refused  {found['reason']}: {found['message']}")
    elif found.get("message"):
        show(f"  {found['message']}")
    if found.get("accepted"):
        show(f"  accepted would be: {found['accepted']}")
    proof = found.get("proof")
    if proof is not None:
        show(
            f"  proven   by {proof['signatures']} authorities of epoch {proof['epoch']}: "
            f"block {proof['height']}, {proof['block_hash'][:16]}"
        )
    order = found.get("order")
    if order is not None:
        final = f", final: {order['finality']}" if order.get("finality") else ""
        show(
            f"  order    {order['order_id']}, {order['starts']}: slot {order['status']}, "
            f"{order['energy_wh'] - order['residual_wh']} of {order['energy_wh']} Wh traded{final}",
            _trades(order["trades"], order["elsewhere"]),
        )


def _moment(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
