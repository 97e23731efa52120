"""What people see of the market, over a market without a chain; and the commands that print it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

import cli
from market import carbon, client
from market.errors import QueryError
from node.api.control import ControlServer
from node.api.views import BOOK_SLOTS_MAX, PRICES_SLOTS_MAX, Views
from node.errors import ConfigError, ControlError
from tests.market.street import (
    FEED_IN,
    HOME_KEYS,
    INTENSITY,
    REGULATOR,
    SLOT,
    SLOT_MS,
    START_MS,
    TARIFF,
    Street,
    params,
)

Answered = dict[str, Any]
MARGIN_PERCENT = params().margin_percent


def ask(street: Street, name: str, **question: Any) -> Answered:
    """Answer as the control socket would: through JSON."""
    answer = asyncio.run(Views(street.app).table()[name](question))  # type: ignore[arg-type]
    found: Answered = json.loads(msgspec.json.encode(answer))
    return found


def order(side: str, energy_wh: int, price: int, slot: int = SLOT, **terms: Any) -> client.Call:
    return client.post_order(slot, side, energy_wh, price, **terms)


def traded() -> Street:
    """Home 1 sold to home 2 all that it asked, in a slot that is cleared; home 3 has a bid left."""
    street = Street(params(), None)
    later = street.time_ms + 3_600_000
    assert street.home(1, order("sell", 300, 100_000)).code == "ok"
    assert street.home(2, order("buy", 300, 150_000)).code == "ok"
    terms = {"green": True, "partner": 1, "expires_ms": later}
    assert street.home(3, order("buy", 50, 120_000, **terms)).code == "ok"
    return street


def test_a_book_has_names_residuals_and_terms() -> None:
    street = traded()
    (slot,) = ask(street, "market_book")["slots"]
    assert (slot["slot"], slot["status"]) == (SLOT, "open")
    assert slot["starts"] > slot["gate_closes"]
    assert [bid["home_name"] for bid in slot["bids"]] == ["home 2", "home 3"]
    assert [ask_["home_name"] for ask_ in slot["asks"]] == ["home 1"]
    assert slot["bids"][1]["partner_name"] == "home 1"
    assert slot["bids"][1]["green"] is True
    assert "partner_name" not in slot["bids"][0]
    street.to_gate()
    assert ask(street, "market_book")["slots"] == []
    (slot,) = ask(street, "market_book", slot=SLOT)["slots"]
    assert slot["status"] == "cleared"
    assert [bid["residual_wh"] for bid in slot["bids"]] == [0, 50]


def test_a_book_of_many_slots_is_cut_and_says_so() -> None:
    street = Street(params())
    for slot in range(SLOT, SLOT + BOOK_SLOTS_MAX + 2):
        assert street.home(1, order("buy", 1, 1, slot=slot)).code == "ok"
    found = ask(street, "market_book")
    assert [slot["slot"] for slot in found["slots"]] == list(range(SLOT, SLOT + BOOK_SLOTS_MAX))
    assert found["left_off"] == 2


def test_trades_are_of_the_slot_whose_gate_closed_last() -> None:
    street = traded()
    assert ask(street, "market_trades")["slot"] == SLOT - 1
    street.to_gate()
    found = ask(street, "market_trades")
    assert found["slot"] == SLOT
    (trade,) = found["trades"]
    assert (trade["buyer_name"], trade["seller_name"]) == ("home 2", "home 1")
    assert (trade["energy_wh"], trade["cost_micro"]) == (300, 300 * 100_000 // 1000)
    (held,) = found["rounds"]
    assert (held["kind"], held["trades"], held["curtailed"]) == ("gate", 1, [])
    for home, count in (("home 1", 1), (HOME_KEYS[1].address, 1), ("home 4", 0)):
        assert len(ask(street, "market_trades", home=home)["trades"]) == count
    assert ask(street, "market_trades", slot=SLOT + 1)["trades"] == []


def test_trades_say_which_line_bound_and_what_the_grid_served() -> None:
    two = params(2).homes
    homes = tuple(msgspec.structs.replace(home, line=line) for line, home in enumerate(two, 1))
    street = Street(params(homes, lines=((1, 0, 400), (2, 0, 10_000))))
    assert street.home(1, order("sell", 300, 100_000)).code == "ok"
    assert street.home(2, order("buy", 300, TARIFF)).code == "ok"
    street.to_gate()
    found = ask(street, "market_trades")
    (held,) = found["rounds"]
    assert held["curtailed"] == [{"line": 1, "energy_wh": 200}]
    assert found["trades"][0]["energy_wh"] == 100


def test_shared_surplus_is_shown_once_it_is_settled() -> None:
    street = Street(params(2, mechanism="sharing"))
    street.to_end()
    assert ask(street, "market_trades")["trades"] == []
    street.read(1, SLOT, 0, 100)
    street.read(2, SLOT, 60, 0)
    street.block()
    found = ask(street, "market_trades")
    assert (found["slot"], found["rounds"][0]["kind"]) == (SLOT, "sharing")
    (trade,) = found["trades"]
    assert (trade["buyer_name"], trade["seller_name"]) == ("home 2", "home 1")
    assert trade["energy_wh"] == 60


def test_prices_of_the_slots_to_come() -> None:
    street = traded()
    found = ask(street, "market_prices", slots=3)
    assert found["last_round"] is None
    assert [row["slot"] for row in found["slots"]] == [SLOT - 1, SLOT, SLOT + 1]
    row = found["slots"][1]
    assert (row["tariff_micro_per_kwh"], row["feed_in_micro_per_kwh"]) == (TARIFF, FEED_IN)
    assert row["intensity_mg_per_wh"] == INTENSITY
    assert (row["bid_wh"], row["ask_wh"]) == (350, 300)
    street.to_gate()
    last = ask(street, "market_prices", slots=1)["last_round"]
    assert (last["slot"], last["low_micro_per_kwh"], last["high_micro_per_kwh"]) == (
        SLOT, 100_000, 100_000,
    )  # fmt: skip


def test_local_time_follows_its_dated_offsets() -> None:
    street = Street(params(utc_offsets=((0, 60), ((SLOT + 1) * SLOT_MS, 120))))
    utc = [
        row["start_ms"] // 60_000 % 1_440 for row in ask(street, "market_prices", slots=3)["slots"]
    ]
    local = [row["starts"][-5:] for row in ask(street, "market_prices", slots=3)["slots"]]
    wanted = [(minute + offset) % 1_440 for minute, offset in zip(utc, (60, 60, 120), strict=True)]
    assert local == [f"{minute // 60:02}:{minute % 60:02}" for minute in wanted]


def request_street() -> Street:
    street = Street(params(mechanism="request_offer"))
    start = START_MS + SLOT_MS
    assert street.home(2, client.post_request(start, start + SLOT_MS, 100)).code == "ok"
    assert street.home(1, client.post_offer(1, 60, 90_000)).code == "ok"
    return street


def test_requests_with_their_offers() -> None:
    street = request_street()
    (request,) = ask(street, "market_requests")["requests"]
    assert (request["home_name"], request["energy_wh"]) == ("home 2", 100)
    assert request["closes"] < request["starts"] < request["ends"]
    (offer,) = request["offered"]
    assert (offer["home_name"], offer["price_micro_per_kwh"]) == ("home 1", 90_000)
    held = ask(street, "account", account="home 1")
    assert held["held_by"]["requests_micro"] == held["account"]["held_micro"] > 0
    assert ask(street, "account", account="home 2")["requests"] == [request]


@pytest.mark.parametrize(
    ("mechanism", "name", "words"),
    [
        ("request_offer", "market_book", "its mechanism is request_offer; .* market requests"),
        ("high_low", "market_requests", "its mechanism is high_low; .* market book"),
        ("sharing", "market_book", "its mechanism is sharing; .* market trades"),
    ],
)
def test_the_wrong_table_says_which_is_right(mechanism: str, name: str, words: str) -> None:
    with pytest.raises(ControlError, match=words):
        ask(Street(params(mechanism=mechanism)), name)


def test_an_account_says_what_holds_its_money() -> None:
    street = traded()
    found = ask(street, "account", account="home 2")
    margin = 300 * TARIFF // 1000 * MARGIN_PERCENT // 100
    assert found["name"] == "home 2"
    assert found["account"]["held_micro"] == margin
    assert found["held_by"] == {"bond_micro": 0, "orders_micro": margin, "requests_micro": 0}
    assert [order["order_id"] for order in found["orders"]] == [f"{SLOT}-2"]
    assert found["record"]["unsettled"] == 1
    street.to_gate()
    assert ask(street, "account", account="home 2")["held_by"]["orders_micro"] == margin
    street.to_window_end()
    found = ask(street, "account", account="home 2")
    assert found["orders"] == []
    assert found["account"]["held_micro"] == 0
    assert found["record"]["contracted_slots"] == 1
    assert found["total"]["bought_wh"] == 300
    seller = ask(street, "account", account=HOME_KEYS[0].address)
    assert seller["record"]["defaults"] == 1
    assert seller["record"]["defaulted_slots"] == [SLOT]


def test_an_account_says_its_quotas() -> None:
    street = Street(params())
    assert street.send(REGULATOR, carbon.open_period(SLOT + 1, SLOT + 5, 1_000)).code == "ok"
    assert street.send(REGULATOR, carbon.allot(1, [(2, 5_000)])).code == "ok"
    (period,) = ask(street, "account", account="home 2")["carbon"]
    assert (period["allotted_mg"], period["first_slot"]) == (5_000, SLOT + 1)


def test_the_regulators_account_and_nobodys() -> None:
    street = Street(params())
    assert ask(street, "account", account="regulator")["name"] == "regulator"
    with pytest.raises(ControlError, match="no home is called 'home 9'; there are home 1, home 2"):
        ask(street, "account", account="home 9")
    with pytest.raises(QueryError, match="unknown_account"):
        ask(street, "account", account=HOME_KEYS[7].address)
    twins = tuple(msgspec.structs.replace(home, name="twin") for home in params(2).homes)
    with pytest.raises(ControlError, match="2 homes are called 'twin'; name one by its account"):
        ask(Street(params(twins)), "account", account="twin")


@pytest.mark.parametrize(
    ("name", "question", "words"),
    [
        ("market_book", {"slot": "x"}, "slot is a whole number"),
        ("market_trades", {"slot": -1}, "slot is -1, allowed are 0 to"),
        ("market_book", {"slot": 10**9}, "slot 1000000000 begins after the year 9999"),
        ("market_trades", {"slot": 5}, r"slot 5 was before this market, whose first is \d{7}"),
        ("market_book", {"slot": 5}, "slot 5 was before this market"),
        ("market_prices", {"slots": PRICES_SLOTS_MAX + 1}, "allowed are 1 to 96"),
        ("market_prices", {"slots": True}, "slots is a whole number"),
        ("account", {}, "no home is called 'None'"),
        ("market_trades", {"home": ["x"]}, "no home is called"),
    ],
)
def test_bad_questions(name: str, question: Answered, words: str) -> None:
    with pytest.raises(ControlError, match=words):
        ask(Street(params()), name, **question)


# -- the commands ------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def answering(directory: Path, street: Street) -> AsyncIterator[None]:
    server = ControlServer(directory, Views(street.app).table())
    await server.start()
    try:
        yield
    finally:
        await server.stop()


async def typed(directory: Path, street: Street, *arguments: str) -> str:
    """Type a command beside a node that answers; return what it prints."""
    async with answering(directory, street):
        line = [*arguments, "--node", str(directory)]
        result: Result = await asyncio.to_thread(CliRunner().invoke, cli.app, line)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


async def test_the_tables_in_print(tmp_path: Path) -> None:
    street = traded()
    book = await typed(tmp_path, street, "market", "book")
    assert f"{SLOT}-1" in book
    assert "green only, only with home 1, until " in book
    street.to_gate()
    assert "no orders stand" in await typed(tmp_path, street, "market", "book")
    trades = await typed(tmp_path, street, "market", "trades")
    assert "home 2  home 1  300  0.1000  0.030000  0.000000" in trades
    assert "gate" in trades
    assert "no trades" in await typed(tmp_path, street, "market", "trades", "--home", "home 4")
    prices = await typed(tmp_path, street, "market", "prices", "--slots", "2")
    assert "last round with trades" in prices
    assert "0.2000" in prices
    found = json.loads(await typed(tmp_path, street, "market", "prices", "--json"))
    assert len(found["slots"]) == 8
    account = await typed(tmp_path, street, "account", "home 2")
    assert "balance    9.994000 AUD" in account
    assert "held       0.006000: orders 0.006000, requests and offers 0.000000" in account
    assert "0 of 0 contracted slots kept" in account
    assert "balance    0.000000 AUD" in await typed(tmp_path, street, "account", "regulator")


async def test_requests_in_print(tmp_path: Path) -> None:
    printed = await typed(tmp_path, request_street(), "market", "requests")
    assert "request 1 of home 2: 100 Wh from" in printed
    assert "home 1" in printed
    assert "0.0900" in printed
    with pytest.raises(ControlError, match="see `commonwatt market requests`"):
        await typed(tmp_path, request_street(), "market", "book")


async def test_names_move_no_cursor(tmp_path: Path) -> None:
    (home,) = params(1).homes
    evil = msgspec.structs.replace(home, name="a\x1b[2J[red]b")
    street = Street(params((evil,)))
    assert street.home(1, order("buy", 1, 1)).code == "ok"
    printed = await typed(tmp_path, street, "market", "book")
    assert "\x1b" not in printed
    assert "a\ufffd[2J[red]b" in printed


async def test_an_account_without_settings_wants_a_name(tmp_path: Path) -> None:
    street = Street(params())
    with pytest.raises(ConfigError, match="there are no settings; name the account"):
        await typed(tmp_path, street, "account", "--config", str(tmp_path / "no.toml"))
