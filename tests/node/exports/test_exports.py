"""What is exported is what the chain has: sums, names, days; and files that other programs read."""

import csv
import io
import os
import sqlite3
from contextlib import closing
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from typer.testing import CliRunner

import cli
from market import client
from market.app import Application
from node.api.answers import Answers
from node.chain.blocks import BlockMaker
from node.chain.epochs import Epochs
from node.chain.replica import Replica
from node.chain.store import Store
from node.config import Config, settings_text
from node.errors import ConfigError, GenesisError, StoreError, UnknownError
from node.exports.formats import to_csv, to_parquet
from node.exports.page import to_html
from node.exports.rows import COLUMNS, TEXTS, Book, Days, Kind, Row, days_of
from node.genesis import Genesis, write_genesis
from node.offline import examine, load_application
from node.pool.verifier import TransactionVerifier
from node.regions.certifier import natives
from node.setup import GENESIS_NAME, create_home
from tests.market.street import HOME_KEYS, SLOT, Street, params
from tests.node.grid import key_of, make_genesis

HOMES = 4


@pytest.fixture(scope="module")
def street() -> Street:
    """Three slots with trades, a short delivery, and a silent meter."""
    street = Street(params(HOMES, utc_offsets=((0, 600),)))
    for slot in range(SLOT, SLOT + 3):
        street.home(1, client.post_order(slot, "sell", 600, 100_000))
        street.home(2, client.post_order(slot, "buy", 500, 150_000))
        street.home(3, client.post_order(slot, "buy", 300, 200_000))
    street.to_gate(SLOT)
    for slot in range(SLOT, SLOT + 3):
        # The next slot's gate closes before this one's end.
        street.to_gate(slot + 1)
        street.to_end(slot)
        for number, import_wh, export_wh in ((1, 0, 550), (2, 350, 0), (3, 300, 0)):
            street.read(number, slot, import_wh, export_wh)
    street.to_window_end(SLOT + 2)
    street.block()
    return street


def read_csv(kind: Kind, rows: list[Row]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(to_csv(kind, rows).decode(), newline="")))


def test_bills_sum_to_the_chains_totals(street: Street) -> None:
    rows = read_csv(Kind.BILLS, Book(street.app).rows(Kind.BILLS, Days()))
    assert len(rows) == 3 * HOMES
    for number in range(1, HOMES + 1):
        total = client.total(street.query, number)
        mine = [row for row in rows if int(row["home"]) == number]
        assert len(mine) == total.slots == 3
        for column in set(total.__struct_fields__) - {"home", "slots"}:
            assert sum(int(row[column]) for row in mine) == getattr(total, column), column
        assert sum(int(row["saved_micro"]) for row in mine) == total.saved_micro
    assert {row["read"] for row in rows if row["home"] == "4"} == {"0"}


def test_trades_sum_to_the_slots(street: Street) -> None:
    book = Book(street.app)
    slots = read_csv(Kind.SLOTS, book.rows(Kind.SLOTS, Days()))
    trades = read_csv(Kind.TRADES, book.rows(Kind.TRADES, Days()))
    assert [int(row["slot"]) for row in slots] == [SLOT, SLOT + 1, SLOT + 2]
    for row in slots:
        mine = [trade for trade in trades if trade["slot"] == row["slot"]]
        assert len(mine) == int(row["trades"]) > 0
        assert sum(int(trade["energy_wh"]) for trade in mine) == int(row["traded_wh"]) == 600
        assert sum(int(trade["cost_micro"]) for trade in mine) == int(row["traded_micro"])
    assert {trade["seller_name"] for trade in trades} == {"home 1"}


def test_a_homes_rows_and_a_days(street: Street) -> None:
    book = Book(street.app)
    address = HOME_KEYS[1].address
    assert book.rows(Kind.BILLS, Days(), "home 2") == book.rows(Kind.BILLS, Days(), address)
    assert {row["home"] for row in book.rows(Kind.BILLS, Days(), address)} == {2}
    trades = book.rows(Kind.TRADES, Days(), "home 3")
    assert {row["buyer"] for row in trades} == {3}
    day = book.local(SLOT).date()
    assert len(book.slots(Days(day, day))) == 3
    assert book.slots(Days(last=day.replace(year=day.year - 1))) == []
    done: list[tuple[int, int]] = []
    book.rows(Kind.SLOTS, Days(), on_slot=lambda at, of: done.append((at, of)))
    assert done == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(UnknownError, match="no home is called 'x'; there are home 1, home 2"):
        book.rows(Kind.BILLS, Days(), "x")


async def test_slots_are_in_the_order_of_their_times() -> None:
    street = Street(params(HOMES))
    street.to_gate(SLOT + 1)
    for slot, silent in ((SLOT, 4), (SLOT + 1, None)):
        street.to_end(slot)
        for number in {1, 2, 3, 4} - {silent}:
            street.read(number, slot, 100, 0)
    street.block()
    street.to_window_end(SLOT)
    # The first one waited for a meter, the second did not have to.
    assert client.settled_slots(street.query, 9) == [SLOT + 1, SLOT]
    assert Book(street.app).slots(Days()) == [SLOT, SLOT + 1]
    answers = SimpleNamespace(_app=street.app)
    told = await Answers.slots(cast(Answers, answers), {"count": 9})
    assert [one.slot for one in told] == [SLOT, SLOT + 1]


def test_columns_are_whole_numbers_with_units(street: Street) -> None:
    book = Book(street.app)
    for kind in Kind:
        for row in book.rows(kind, Days()):
            assert set(row) == set(COLUMNS[kind])
            assert {name for name, value in row.items() if type(value) is str} <= TEXTS
    units = ("_wh", "_micro", "_micro_per_kwh", "_mg", "_ms", "_local")
    amounts = [name for name in COLUMNS[Kind.BILLS] if name.endswith(units)]
    assert set(COLUMNS[Kind.BILLS]) - set(amounts) == {"slot", "home", "home_name", "read"}


def test_days_and_months() -> None:
    assert days_of("2025-11", "2025-12") == Days(date(2025, 11, 1), date(2025, 12, 31))
    assert days_of("2024-02-29", None) == Days(date(2024, 2, 29), None)
    for bad in ("2025-13", "2025-02-30", "3.11.2025", "2025", "9999-12"):
        with pytest.raises(ValueError, match="is no day"):
            days_of(bad, None)
    with pytest.raises(ValueError, match="2025-10 lies before 2025-11"):
        days_of("2025-11", "2025-10")


def test_the_page_prints_the_same_sums(street: Street) -> None:
    book = Book(street.app)
    page = to_html(book, book.rows(Kind.BILLS, Days(), "home 2")).decode()
    total = client.total(street.query, 2)
    assert page.count("<section>") == 1
    assert f"<td>{total.bought_wh / 1000:.3f}</td>" in page
    assert f"<td>{total.total_micro / 1e6:.6f}</td>" in page.rpartition("in all")[2]
    assert "<script" not in page
    assert "No slot" in to_html(book, []).decode()


def test_a_neighbours_name_is_text_everywhere(street: Street) -> None:
    book = Book(street.app)
    rows = book.rows(Kind.BILLS, Days(), "home 2")
    for row in rows:
        row["home_name"] = "=cmd()"
    assert {row["home_name"] for row in read_csv(Kind.BILLS, rows)} == {"'=cmd()"}
    book._homes[2] = client.Home(
        *(
            "<b>&" if name == "name" else getattr(book._homes[2], name)
            for name in client.Home.__struct_fields__
        )
    )
    assert "&lt;b&gt;&amp;" in to_html(book, rows).decode()


def test_parquet_has_the_same_rows(street: Street, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    book = Book(street.app)
    for kind in Kind:
        rows = book.rows(kind, Days())
        file = tmp_path / f"{kind}.parquet"
        file.write_bytes(to_parquet(kind, rows))
        table = parquet.read_table(file)
        assert tuple(table.column_names) == COLUMNS[kind]
        assert table.to_pylist() == [{name: row[name] for name in COLUMNS[kind]} for row in rows]
        assert {str(field.type) for field in table.schema if field.name not in TEXTS} == {"int64"}


def export(file: Path, *arguments: str) -> "tuple[int, str, BaseException | None]":
    line = ["export", *arguments, "--config", str(file)]
    result = CliRunner().invoke(cli.app, line)
    return result.exit_code, result.output, result.exception


async def founded(path: Path, genesis: Genesis) -> None:
    """Make the store of a node that has founded its chain, and was stopped."""
    store = await Store.open(path, genesis.hash)
    app = Application(genesis.market, founding=genesis.founding(), natives=natives())
    epochs = Epochs(genesis, app)
    maker = BlockMaker(genesis, epochs, app, TransactionVerifier(genesis.chain_id))
    replica = Replica(genesis.chain_id, store, app, epochs, maker)
    await replica.open()
    replica.close()
    await store.close()


async def test_the_command_reads_a_stopped_nodes_store(tmp_path: Path) -> None:
    directory, genesis = tmp_path / "home", make_genesis()
    create_home(directory, settings_text(Config()), key_of(0))
    write_genesis(genesis, directory / GENESIS_NAME)
    file, path = directory / "node.toml", directory / "data" / "chain.db"
    await founded(path, genesis)
    before = path.read_bytes()
    app = load_application(path, genesis)
    assert (app.height, [home.name for home in client.homes(app.query)][:1]) == (0, ["home-0"])
    assert examine(path, genesis.hash) == (0, genesis.market.genesis_ms)
    out = tmp_path / "slots.csv"
    code, said, error = export(file, "slots", "--out", str(out))
    assert (code, said.strip(), error) == (0, f"{out}: 0 slots as of block 0", None)
    assert out.read_text() == ",".join(COLUMNS[Kind.SLOTS]) + "\n"
    code, said, _ = export(file, "trades", "--out", "-")
    assert (code, said.strip()) == (0, ",".join(COLUMNS[Kind.TRADES]))
    # A pipe is written to, not replaced by a file.
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    try:
        code, said, error = export(file, "slots", "--format", "csv", "--out", str(pipe))
        assert (code, error, pipe.is_fifo()) == (0, None, True)
        assert os.read(reader, 10_000) == out.read_bytes()
    finally:
        os.close(reader)
    assert path.read_bytes() == before


async def test_a_state_that_its_block_does_not_prove_is_not_read(tmp_path: Path) -> None:
    genesis, path = make_genesis(), tmp_path / "chain.db"
    await founded(path, genesis)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM state WHERE key = (SELECT MAX(key) FROM state)")
    with pytest.raises((StoreError, GenesisError), match=r"chain.db: .*state"):
        load_application(path, genesis)
    with pytest.raises(GenesisError, match="another genesis"):
        load_application(path, make_genesis(homes=6))


def test_what_cannot_be_is_said_in_one_line(tmp_path: Path) -> None:
    create_home(tmp_path / "home", settings_text(Config()), key_of(0))
    write_genesis(make_genesis(), tmp_path / "home" / GENESIS_NAME)
    file = tmp_path / "home" / "node.toml"
    for arguments, kind, says in (
        (("bills", "--out", "x.ods"), ConfigError, "Give --format csv, parquet or html"),
        (("slots", "--out", "x.html"), ConfigError, "HTML is for bills"),
        (("bills", "--out", "-", "--format", "parquet"), ConfigError, "give --out FILE"),
        (("bills", "--out", "-", "--from", "May"), ConfigError, "'May' is no day"),
        (("bills", "--out", "-"), StoreError, "this node has not run yet"),
    ):
        _, _, error = export(file, *arguments)
        assert isinstance(error, kind)
        assert says in str(error)
        assert "\n" not in str(error)
