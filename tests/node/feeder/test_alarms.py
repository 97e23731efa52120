"""The regulator's command: a head meter's file, the readings of a node's store, and a sentence."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

import cli
from market.client import ReadingAccepted
from market.receipts import Event, Receipt
from node.config import Config, settings_text
from node.errors import MeteringError
from node.feeder.alarms import feeder_alarms, read_head
from node.feeder.meters import FeederSettings
from node.genesis import write_genesis
from node.offline import readings
from node.setup import GENESIS_NAME, create_home
from tests.node.exports.test_exports import founded
from tests.node.feeder.test_meters import DAYS, LIES_FROM, PER_DAY, feeder
from tests.node.grid import key_of, make_genesis
from wire.codec import encode

HOUR_MS = 3_600_000
FIRST = 496_000
HEAD = "slot,import_wh,export_wh\n"


def told_by_homes(liar: int | None = None) -> tuple[list[ReadingAccepted], dict[int, int]]:
    told, head = feeder()
    if liar is not None:
        told[liar, LIES_FROM:] = np.round(told[liar, LIES_FROM:] * 0.7)
    said = [
        ReadingAccepted(FIRST + place, home + 1, max(0, int(wh)), max(0, -int(wh)))
        for home, row in enumerate(told)
        for place, wh in enumerate(row)
    ]
    return said, {FIRST + place: int(wh) for place, wh in enumerate(head)}


def test_an_alarm_names_slots_and_homes_by_their_numbers() -> None:
    said, head = told_by_homes(liar=2)
    (alarm,) = feeder_alarms(said, head, HOUR_MS, FeederSettings())
    assert alarm["last_slot"] == FIRST + DAYS * PER_DAY - 1
    assert alarm["suspects"][0]["home"] == 3
    said, head = told_by_homes()
    assert feeder_alarms(said, head, HOUR_MS, FeederSettings()) == []


def test_too_little_is_no_ground_for_an_alarm() -> None:
    said, head = told_by_homes(liar=2)
    with pytest.raises(MeteringError, match="no readings"):
        feeder_alarms([], head, HOUR_MS, FeederSettings())
    with pytest.raises(MeteringError, match="no readings"):
        feeder_alarms(said, {}, HOUR_MS, FeederSettings())
    # One home is in the community for two weeks only.
    late = [one for one in said if one.home != 4 or one.slot >= FIRST + 14 * PER_DAY]
    with pytest.raises(MeteringError, match=r"336 slots .* 21 days are needed"):
        feeder_alarms(late, head, HOUR_MS, FeederSettings())


WRONG: dict[str, tuple[bytes, str]] = {
    "no columns": (b"", "no column slot"),
    "other columns": (b"slot,wh\n1,2\n", "no column import_wh"),
    "text": (HEAD.encode() + b"1,many,0\n", r"line 2: import_wh .* 'many'"),
    "negative": (HEAD.encode() + b"1,-5,0\n", "0 or more"),
    "a fraction": (HEAD.encode() + b"1,0.5,0\n", "whole number"),
    "a short row": (HEAD.encode() + b"1,2\n", "export_wh must be"),
    "twice": (HEAD.encode() + b"1,2,3\n1,2,3\n", "line 3: slot 1 a second time"),
    "no text at all": (HEAD.encode() + b"\xff\xfe\x00", "cannot be read as CSV"),
    "digits of another script": (HEAD.encode() + "1,²,0\n".encode(), "whole number"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_head_meters_file_that_is_wrong(tmp_path: Path, name: str) -> None:
    data, words = WRONG[name]
    path = tmp_path / "head.csv"
    path.write_bytes(data)
    with pytest.raises(MeteringError, match=words):
        read_head(path)
    with pytest.raises(MeteringError, match="cannot be read"):
        read_head(tmp_path / "nowhere.csv")


def test_a_head_meters_file_as_it_should_be(tmp_path: Path) -> None:
    path = tmp_path / "head.csv"
    path.write_text(
        "start_local,slot,export_wh,import_wh\n2026-11-20,7,30, 100\n2026-11-21,8,5,0\n"
    )
    assert read_head(path) == {7: 70, 8: -5}


async def test_the_command_reads_the_store_of_a_stopped_node(tmp_path: Path) -> None:
    directory, genesis = tmp_path / "home", make_genesis(slot_minutes=60)
    create_home(directory, settings_text(Config()), key_of(0))
    write_genesis(genesis, directory / GENESIS_NAME)
    path = directory / "data" / "chain.db"
    await founded(path, genesis)
    said, head = told_by_homes(liar=2)
    events = tuple(
        Event("settlement", "reading_accepted", msgspec.to_builtins(reading)) for reading in said
    )
    receipt = Receipt(bytes(32), "ok", "", "", 0, events)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "INSERT INTO blocks SELECT 1, zeroblob(32), block, certificate, ? FROM blocks",
            (encode((receipt,)),),
        )
    assert list(readings(path, genesis)) == said
    file = tmp_path / "head.csv"
    rows = [f"{slot},{max(0, wh)},{max(0, -wh)}\n" for slot, wh in head.items()]
    file.write_text(HEAD + "".join(rows))
    line = ["community", "alarms", "--head", str(file), "--config", str(directory / "node.toml")]
    done = CliRunner().invoke(cli.app, line)
    assert done.exit_code == 1, done.output
    assert "Wh are missing" in done.output
    assert "home 3: scaled would explain" in done.output
    told = json.loads(CliRunner().invoke(cli.app, [*line, "--json"]).output)
    assert told[0]["suspects"][0]["home"] == 3
