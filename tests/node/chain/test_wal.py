"""The write-ahead log's file: what survives a crash, and what counts as lost memory."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import node.chain.wal
from consensus.messages import NIL, PREVOTE, Vote
from consensus.wal import MAGIC, AbstainRecord, Framer, VoteRecord, WalRecord
from node.chain.wal import BULKY_BYTES, Wal
from node.errors import StoreError
from tests.node.grid import PATIENCE_S

AMNESIA = [AbstainRecord(2)]


def record(number: int) -> WalRecord:
    return VoteRecord(Vote(PREVOTE, 0, number, 0, NIL, 1, bytes([number]) * 64))


RECORDS = [record(number) for number in range(1, 5)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Wal.create(tmp_path / "wal")
    return tmp_path / "wal"


def written(path: Path, records: list[WalRecord]) -> bytes:
    wal = Wal.open(path)
    for item in records:
        wal.append(item)
    wal.sync()
    wal.close()
    return path.read_bytes()


def opened(path: Path) -> tuple[list[WalRecord], str | None]:
    wal = Wal.open(path)
    wal.close()
    return wal.records, wal.damage


def test_a_new_log_is_empty_and_sound(path: Path) -> None:
    assert path.read_bytes() == MAGIC
    assert opened(path) == ([], None)
    assert path.stat().st_mode & 0o077 == 0


def test_records_come_back_over_many_openings(path: Path) -> None:
    for count in range(4):
        assert opened(path) == (RECORDS[:count], None)
        written(path, RECORDS[count : count + 1])
    assert opened(path) == (RECORDS, None)


def test_a_tail_torn_at_any_byte_is_dropped_and_appending_goes_on(path: Path) -> None:
    before = written(path, RECORDS[:3])
    whole = written(path, RECORDS[3:])
    for length in range(len(before), len(whole)):
        path.write_bytes(whole[:length])
        assert opened(path) == (RECORDS[:3], None)
        assert path.read_bytes() == before
        assert written(path, RECORDS[3:]) == whole
    path.write_bytes(whole + bytes(700))
    assert opened(path) == (RECORDS, None)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("part", range(8))
def test_a_flipped_bit_anywhere_is_lost_memory(path: Path, part: int) -> None:
    whole = written(path, RECORDS)
    for place in range(part, len(whole), 24):
        rotten = bytearray(whole)
        rotten[place] ^= 1 << part
        path.write_bytes(rotten)
        records, damage = opened(path)
        assert records == AMNESIA
        assert damage
        assert path.with_suffix(".damaged").read_bytes() == rotten


@pytest.mark.parametrize("data", [b"", MAGIC[:3], bytes(3), bytes(8), bytes(400), b"x" * 400])
def test_a_file_without_its_beginning_is_lost_memory(path: Path, data: bytes) -> None:
    written(path, RECORDS)
    path.write_bytes(data)
    records, damage = opened(path)
    assert records == AMNESIA
    assert damage == "the file does not begin as it was made"
    # What is signed from now on is remembered as ever.
    written(path, RECORDS[:1])
    assert opened(path) == ([*AMNESIA, RECORDS[0]], None)


def test_a_missing_file_is_lost_memory_and_stays_so(tmp_path: Path) -> None:
    path = tmp_path / "wal"
    assert opened(path) == (AMNESIA, "the file is missing")
    assert opened(path) == (AMNESIA, None)
    written(path, [AbstainRecord(1)])
    assert opened(path) == ([*AMNESIA, AbstainRecord(1)], None)


def test_a_log_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "wal").mkdir()
    with pytest.raises(StoreError, match="wal: cannot be read"):
        Wal.open(tmp_path / "wal")


def test_rewriting_forgets_what_is_not_given_and_appending_goes_on(path: Path) -> None:
    wal = Wal.open(path)
    for item in RECORDS:
        wal.append(item)
    wal.rewrite(RECORDS[2:3])
    wal.append(RECORDS[3])
    wal.sync()
    wal.close()
    assert opened(path) == (RECORDS[2:], None)
    assert not path.with_suffix(".new").exists()


def test_a_log_is_bulky_from_its_bound_on(path: Path) -> None:
    wal = Wal.open(path)
    size = len(Framer().frame(RECORDS[0]))
    assert not wal.bulky
    for _ in range(BULKY_BYTES // size + 1):
        wal.append(RECORDS[0])
    assert wal.bulky
    wal.rewrite(RECORDS[:1])
    assert not wal.bulky
    wal.close()
    wal.close()
    assert Wal.open(path).records == RECORDS[:1]


def test_closing_waits_for_a_thread_that_rewrites(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wal = Wal.open(path)
    begun, go_on = threading.Event(), threading.Event()
    replace = node.chain.wal.replace_file

    def slowly(target: Path, data: bytes) -> None:
        begun.set()
        assert go_on.wait(PATIENCE_S)
        replace(target, data)

    monkeypatch.setattr(node.chain.wal, "replace_file", slowly)
    with ThreadPoolExecutor(2) as threads:
        rewriting = threads.submit(wal.rewrite, RECORDS[:2])
        assert begun.wait(PATIENCE_S)
        closing = threads.submit(wal.close)
        assert not closing.done()
        go_on.set()
        rewriting.result(PATIENCE_S)
        closing.result(PATIENCE_S)
    wal.rewrite(RECORDS)
    assert opened(path) == (RECORDS[:2], None)
