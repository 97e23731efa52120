"""What a home discloses: its auditor alone reads it, it is the home's, what differs is said."""

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

import cli
from hems.delivery import Delivery
from hems.sources.live import BIN_MS, LiveSource
from market.client import ReadingAccepted
from market.receipts import Event, Receipt
from node.config import Config, settings_text
from node.errors import ConfigError, ProofError, StoreError
from node.genesis import write_genesis
from node.home import detail as details
from node.home import disclosure
from node.home.detail import DetailBook, SlotDetail, decode_detail, detail_of, read_details
from node.home.disclosure import (
    Disclosure,
    Finding,
    Period,
    Reading,
    auditor_key,
    check_origin,
    compare,
    disclose,
    key_text,
    open_period,
    read_disclosure,
    read_key_text,
)
from node.setup import GENESIS_NAME, create_home
from tests.node.exports.test_exports import founded
from tests.node.grid import key_of, make_genesis
from wire.codec import decode, encode
from wire.errors import DecodeError
from wire.keys import SigningKey

HOUR_MS = 3_600_000
HOME, CHAIN = 3, "street"
METER = SigningKey(bytes([7]) * 32)
AUDITOR = SigningKey(bytes([8]) * 32)
KEY = auditor_key(AUDITOR)
TO = read_key_text(key_text(KEY))


def slot(number: int = 5, **changes: object) -> SlotDetail:
    """900 Wh taken and 200 Wh of sun: 700 used, 300 of them by a car; 350 stored; 50 given."""
    made = SlotDetail(
        number, 700, 200, 400, 50, 0, 900, 50, 1_400, True, {"car": 300}, ((150, 100), (250, 100))
    )
    return msgspec.structs.replace(made, **changes)


def disclosed(*slots: SlotDetail) -> bytes:
    return disclose(slots or (slot(),), TO, CHAIN, HOME, METER)


def signed(period: Period, by: SigningKey = METER) -> bytes:
    """Sign whatever a period holds."""
    return encode(Disclosure(period, by.sign(disclosure._DOMAIN + encode(period))))


def forged(by: SigningKey = METER, **changes: object) -> bytes:
    """A disclosure with other values, signed again."""
    return signed(msgspec.structs.replace(read_disclosure(disclosed()), **changes), by)


def test_the_auditor_reads_what_the_home_said() -> None:
    told = [slot(9), slot(5, known=False, devices={}, course=()), slot(7, course=(None, (1, 0)))]
    period = read_disclosure(disclosed(*told))
    check_origin(period, CHAIN, {HOME: METER.address})
    assert open_period(period, KEY) == sorted(told, key=lambda one: one.slot)


def test_nothing_of_it_is_legible_and_no_two_records_are_alike() -> None:
    one, other = disclosed(), disclosed()
    for data in (one, other):
        assert b"car" not in data
        assert encode(slot()) not in data
    first, second = read_disclosure(one).slots[0], read_disclosure(other).slots[0]
    assert first.ephemeral != second.ephemeral
    assert first.data != second.data
    # A quiet slot is as long as a busy one.
    quiet = slot(import_wh=0, export_wh=0, load_wh=0, pv_wh=0, stored_wh=0, devices={})
    assert len(read_disclosure(disclosed(quiet)).slots[0].data) == len(first.data)


def test_another_auditor_does_not_open_it() -> None:
    other = auditor_key(METER)
    with pytest.raises(ProofError, match=f"for the auditor {key_text(KEY)}"):
        open_period(read_disclosure(disclosed()), other)
    # Nor if it is made to look as if it were for that one, by whoever passes it on.
    theirs = read_key_text(key_text(other))
    with pytest.raises(ProofError, match="slot 5 does not open"):
        open_period(read_disclosure(forged(to=theirs)), other)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_no_changed_byte_goes_unseen() -> None:
    data = disclosed()
    for at in range(0, len(data), 3):
        with pytest.raises(ProofError):
            open_period(read_disclosure(flipped(data, at)), KEY)


BAD_FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "no disclosure, or it was cut off"),
    "truncated": (lambda: disclosed()[:-1], "cut off or changed .* ask the home"),
    "something else": (lambda: encode({"a": 1}), "no disclosure"),
    "another version": (lambda: forged(version=2), "version 2; this program reads version 1"),
    "no slots": (lambda: forged(slots=()), "holds 1 to 38400 slots"),
    "a slot twice": (
        lambda: forged(slots=read_disclosure(disclosed()).slots * 2),
        "in their order",
    ),
    "for no key": (lambda: forged(to=b"short"), "names a home and its auditor"),
    "of no home": (lambda: forged(home=0), "names a home"),
    "signed by another": (lambda: forged(by=AUDITOR), "not that of the meter it names"),
    "another chain unsigned": (
        lambda: disclosed().replace(encode(CHAIN), encode("strict")),
        "changed after it was signed",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_is_wrong_is_refused_with_a_reason(name: str) -> None:
    make, words = BAD_FILES[name]
    with pytest.raises(ProofError, match=words):
        read_disclosure(make())


def test_it_is_of_this_chain_and_of_the_homes_own_meter() -> None:
    period = read_disclosure(disclosed())
    with pytest.raises(ProofError, match="of the chain 'street', this node's is 'other'"):
        check_origin(period, "other", {HOME: METER.address})
    with pytest.raises(ProofError, match="home 3, which the registry does not know"):
        check_origin(period, CHAIN, {1: METER.address})
    with pytest.raises(ProofError, match="signed by another meter"):
        check_origin(period, CHAIN, {HOME: AUDITOR.address})
    thief = forged(by=AUDITOR, meter=AUDITOR.public)
    with pytest.raises(ProofError, match="signed by another meter"):
        check_origin(read_disclosure(thief), CHAIN, {HOME: METER.address})


def sealed_again(**changes: object) -> bytes:
    (record,) = read_disclosure(disclosed()).slots
    return forged(slots=(msgspec.structs.replace(record, **changes),))


SEALED_WRONGLY: dict[str, Callable[[], bytes]] = {
    "said to be another slot": lambda: sealed_again(slot=6),
    "said to be another home's": lambda: forged(home=4),
    "said to be another chain's": lambda: forged(chain_id="other"),
    "another key": lambda: sealed_again(ephemeral=bytes([9]) * 32),
    "a key of small order": lambda: sealed_again(ephemeral=bytes(32)),
    "no key": lambda: sealed_again(ephemeral=b""),
    "cut short": lambda: sealed_again(data=b"short"),
    "too long": lambda: sealed_again(data=bytes(details.DETAIL_BYTES_MAX + 257)),
    "no detail": lambda: forged(slots=(holding(b"\x01"),)),
    "of negative energy": lambda: forged(slots=(holding(encode(slot(load_wh=-1))),)),
}


def holding(data: bytes) -> disclosure.SealedSlot:
    """Seal anything, as a home might that wants to harm its auditor."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disclosure, "encode", lambda _: data)
        return disclosure._seal(slot(), TO, CHAIN, HOME)


@pytest.mark.parametrize("name", SEALED_WRONGLY)
def test_what_is_sealed_wrongly_is_named_by_its_slot(name: str) -> None:
    period = read_disclosure(SEALED_WRONGLY[name]())
    with pytest.raises(ProofError, match=r"slot [56] does not open"):
        open_period(period, KEY)


def test_a_key_with_a_slip_in_it_is_refused() -> None:
    text = key_text(KEY)
    assert read_key_text(f" {text.upper()}\n") == TO
    for wrong in (
        "",
        "cwx",
        AUDITOR.address,
        text[:-1],
        text.replace("cwx", "cwy"),
        "cwx" + " " * 72,
    ):
        with pytest.raises(ConfigError, match="is no auditor's key"):
            read_key_text(wrong)
    other = text[:10] + ("0" if text[10] != "0" else "1") + text[11:]
    for slipped in (other, text[:-1] + "x"):
        with pytest.raises(ConfigError, match="a slip"):
            read_key_text(slipped)
    with pytest.raises(ConfigError, match="everybody could read"):
        disclose([slot()], bytes(32), CHAIN, HOME, METER)


def test_too_little_and_too_much_is_not_disclosed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="nothing to disclose"):
        disclose([], TO, CHAIN, HOME, METER)
    monkeypatch.setattr(disclosure, "SLOTS_MAX", 1)
    with pytest.raises(ConfigError, match="at most 1"):
        disclosed(slot(1), slot(2))
    monkeypatch.setattr(disclosure, "DISCLOSURE_BYTES_MAX", 100)
    with pytest.raises(ConfigError, match="choose fewer days"):
        disclosed()


SETTLED = {5: Reading(900, 50)}
DIFFERENT: dict[str, tuple[SlotDetail, dict[int, Reading], str]] = {
    "not settled": (slot(), {}, "no reading of it"),
    "settled otherwise": (
        slot(),
        {5: Reading(901, 50)},
        "disclosed 900 Wh taken and 50 given, settled 901 and 50",
    ),
    "energy from nowhere": (
        slot(load_wh=720, course=()),
        SETTLED,
        "1150 Wh came .* and 1170 Wh went",
    ),
    "more moved than used": (
        slot(devices={"car": 800}, course=()),
        SETTLED,
        "took 800 Wh of a load of 700",
    ),
    "another course of load": (
        slot(devices={}, course=((350, 100), (440, 100))),
        SETTLED,
        "adds up to 790 Wh of load, the slot to 700",
    ),
    "another course of sun": (
        slot(course=((350, 100), (350, 60))),
        SETTLED,
        "160 Wh of production, the slot to 200",
    ),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_does_not_add_up_is_said(name: str) -> None:
    told, settled, words = DIFFERENT[name]
    (finding,) = compare([told], settled)
    assert finding.slot == 5
    assert re.search(words, finding.what), finding


def test_what_adds_up_is_not_found_fault_with() -> None:
    rounded = slot(devices={}, course=((351, 101), (351, 101)))
    partly_heard = slot(devices={}, course=((350, 100), (420, 100)))
    gap = slot(course=(None, (250, 100)))
    forecast = slot(known=False, course=((1, 0), (2, 0)))
    for told in (slot(), rounded, partly_heard, gap, forecast, slot(course=())):
        assert compare([told], SETTLED) == []
    assert compare([slot(6), slot()], SETTLED) == [
        Finding(6, "this node's blocks hold no reading of it")
    ]


# -- where it is kept


def delivery(start_ms: int = 0) -> Delivery:
    return Delivery(
        start_ms, 2 * BIN_MS, 700, 200, 400, 50, 0, 900, 50, 1_400, 10, 500, 0, True, {"car": 300}
    )


def test_a_slots_detail_is_what_was_delivered_and_heard(tmp_path: Path) -> None:
    live = LiveSource(tmp_path / "measured.db", has_pv=False, stale_ms=BIN_MS)
    for at in range(0, 2 * BIN_MS + 1, BIN_MS // 2):
        live.heard_power("load", at, 1_200.0)
    told = detail_of(5, delivery(), live)
    live.close()
    assert told == slot(course=((100, 0), (100, 0)))
    assert detail_of(5, delivery(), None) == slot(course=())


def test_the_course_says_where_too_little_was_heard(tmp_path: Path) -> None:
    live = LiveSource(tmp_path / "measured.db", has_pv=False, stale_ms=BIN_MS // 2)
    for at in range(0, BIN_MS + 1, BIN_MS // 2):
        live.heard_power("load", at, 1_200.0)
    assert detail_of(5, delivery(), live).course == ((100, 0), None)
    # A slot that begins within five minutes has none.
    assert detail_of(5, delivery(BIN_MS // 2), live).course == ()
    live.close()


def test_the_book_keeps_the_newest_and_says_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(details, "DETAIL_SLOTS_MAX", 3)
    path = tmp_path / "detail.db"
    book = DetailBook(path)
    for number in (1, 2, 3, 4, 4, 6):
        book.keep(slot(number))
    assert path.stat().st_mode & 0o077 == 0
    # Beside who goes on writing.
    assert [one.slot for one in read_details(path)] == [3, 4, 6]
    book.close()
    again = DetailBook(path)
    again.keep(slot(7))
    again.close()
    assert read_details(path)[-1] == slot(7)


def test_a_book_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="kept no detail"):
        read_details(tmp_path / "detail.db")
    path = tmp_path / "other.db"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match="cannot be read"):
        read_details(path)
    with pytest.raises(StoreError, match="cannot hold"):
        DetailBook(path)
    good = tmp_path / "detail.db"
    DetailBook(good).close()
    with closing(sqlite3.connect(good)) as db, db:
        db.execute("INSERT INTO detail VALUES (1, x'01')")
    with pytest.raises(StoreError, match="cannot be read"):
        read_details(good)


def test_detail_is_bounded() -> None:
    assert decode_detail(encode(slot())) == slot()
    for wrong in (
        slot(devices={str(number): 1 for number in range(65)}),
        slot(course=((1, 1),) * 289),
        slot(-1),
        slot(load_wh=10**9 + 1),
        slot(devices={"car": -1}),
        slot(course=((0, -1),)),
        slot(devices={"x" * 9_000: 1}),
    ):
        with pytest.raises(DecodeError):
            decode_detail(encode(wrong))


# -- the commands


@pytest.fixture
async def home(tmp_path: Path) -> Path:
    """A stopped node whose meter told 24 hours, all kept in detail."""
    directory, genesis = tmp_path / "home", make_genesis(slot_minutes=60)
    create_home(directory, settings_text(Config()), key_of(0))
    write_genesis(genesis, directory / GENESIS_NAME)
    path = directory / "data" / "chain.db"
    await founded(path, genesis)
    first = genesis.market.market_start_ms // HOUR_MS
    told = [ReadingAccepted(number, 1, 900, 50) for number in range(first, first + 24)]
    told += [ReadingAccepted(number, 2, 1, 1) for number in range(first, first + 24)]
    events = tuple(
        Event("settlement", "reading_accepted", msgspec.to_builtins(reading)) for reading in told
    )
    receipt = Receipt(bytes(32), "ok", "", "", 0, events)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE blocks SET receipts = ?", (encode((receipt,)),))
    book = DetailBook(directory / "data" / "detail.db")
    for number in range(first, first + 24):
        book.keep(slot(number))
    book.close()
    return directory


def run(home: Path, *words: str) -> tuple[int, str]:
    try:
        done = CliRunner().invoke(
            cli.app,
            ["meter", *words, "--config", str(home / "node.toml")],
            catch_exceptions=False,
        )
    except (ConfigError, ProofError) as error:
        return 2, str(error)
    return done.exit_code, done.output


async def test_a_home_discloses_and_its_auditor_reads(home: Path, tmp_path: Path) -> None:
    code, printed = run(home, "key")
    key = printed.strip()
    assert (code, key) == (0, key_text(auditor_key(key_of(0))))
    out = tmp_path / "period.cwd"
    code, printed = run(home, "disclose", "--auditor", key, "--out", str(out))
    assert code == 0, printed
    assert "24 slots of home 1" in printed
    code, printed = run(home, "read-disclosure", str(out))
    assert code == 0, printed
    assert "all of it adds up" in printed
    told = json.loads(run(home, "read-disclosure", str(out), "--json")[1])
    assert (told["home"], len(told["slots"]), told["findings"]) == (1, 24, [])
    assert told["slots"][0]["devices"] == {"car": 300}


async def test_the_auditor_hears_what_was_settled_otherwise(home: Path, tmp_path: Path) -> None:
    book = DetailBook(home / "data" / "detail.db")
    (first, *_, last) = read_details(home / "data" / "detail.db")
    book.keep(slot(first.slot, import_wh=800, load_wh=600, course=()))
    book.close()
    out = tmp_path / "period.cwd"
    key = key_text(auditor_key(key_of(0)))
    run(home, "disclose", "--auditor", key, "--out", str(out))
    code, printed = run(home, "read-disclosure", str(out))
    assert code == 1
    assert f"slot {first.slot}: disclosed 800 Wh taken and 50 given, settled 900 and 50" in printed
    assert f"slot {last.slot}" not in printed


async def test_what_cannot_be_disclosed_or_read_is_said(home: Path, tmp_path: Path) -> None:
    key, out = key_text(auditor_key(key_of(0))), tmp_path / "period.cwd"
    code, words = run(home, "disclose", "--auditor", key, "--out", str(out), "--from", "1999")
    assert (code, "no day such as" in words) == (2, True)
    code, words = run(
        home,
        "disclose",
        "--auditor",
        key,
        "--out",
        str(out),
        "--from",
        "1999-01",
        "--to",
        "1999-02",
    )
    assert (code, "nothing to disclose" in words) == (2, True)
    code, words = run(home, "disclose", "--auditor", "cwx12", "--out", str(out))
    assert (code, "is no auditor's key" in words) == (2, True)
    code, words = run(home, "read-disclosure", str(out))
    assert (code, "cannot be read" in words) == (2, True)
    run(home, "disclose", "--auditor", key_text(KEY), "--out", str(out))
    code, words = run(home, "read-disclosure", str(out))
    assert (code, "it is for the auditor" in words) == (2, True)
    run(home, "disclose", "--auditor", key, "--out", str(tmp_path / "no" / "such"))
    assert decode(out.read_bytes(), Disclosure, 1 << 20).period.home == 1
    assert isinstance(read_disclosure(out.read_bytes()), Period)
