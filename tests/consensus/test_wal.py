"""The log's bytes: cut anywhere they lose only their tail; changed anywhere they say so."""

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus import wal
from consensus.errors import InvariantError
from consensus.messages import NIL, PRECOMMIT, PREVOTE, TRANSACTIONS_MAX
from consensus.wal import MAGIC, Framer, scan
from tests.consensus.table import Table, hash_of

TABLE = Table()
BLOCK = TABLE.block()
POL = TABLE.certificate(PREVOTE, hash_of(BLOCK))
FINAL = TABLE.certificate(PRECOMMIT, hash_of(BLOCK))
RECORDS: list[wal.WalRecord] = [
    wal.AbstainRecord(2),
    wal.ProposalRecord(TABLE.proposal(BLOCK)),
    wal.VoteRecord(TABLE.vote(PREVOTE, 0, NIL)),
    wal.RoundRecord(1, 1, (TABLE.vote(PRECOMMIT, 1, NIL), TABLE.vote(PRECOMMIT, 2, NIL))),
    wal.LockRecord(1, 1, BLOCK, POL, TABLE.vote(PRECOMMIT, 0, hash_of(BLOCK), 1)),
    wal.DecisionRecord(1, hash_of(BLOCK), FINAL, None),
]


def file_of(records):
    framer = Framer()
    frames = [framer.frame(record) for record in records]
    ends = [len(MAGIC)]
    for frame in frames:
        ends.append(ends[-1] + len(frame))
    return MAGIC + b"".join(frames), ends


FILE, ENDS = file_of(RECORDS)


def test_a_log_reads_back():
    found = scan(FILE)
    assert found.records == RECORDS
    assert (found.good_length, found.damage) == (len(FILE), None)


def test_appending_goes_on_where_the_scan_ended():
    found = scan(FILE[:-3])
    again = FILE[: found.good_length] + Framer(found.crc).frame(RECORDS[0])
    assert scan(again).records == [*RECORDS[:-1], RECORDS[0]]
    assert scan(again).damage is None


def test_cut_at_any_byte_it_loses_the_torn_tail_only():
    for length in range(len(FILE) + 1):
        found = scan(FILE[:length])
        whole = sum(1 for end in ENDS[1:] if end <= length)
        assert found.records == RECORDS[:whole]
        assert found.damage is None
        assert found.good_length == (ENDS[whole] if length >= len(MAGIC) else 0)


@settings(max_examples=400)
@given(st.integers(0, len(FILE) * 8 - 1))
def test_a_flipped_bit_is_always_noticed(bit):
    data = bytearray(FILE)
    data[bit // 8] ^= 1 << bit % 8
    found = scan(bytes(data))
    assert found.damage is not None
    intact = sum(1 for end in ENDS[1:] if end <= bit // 8)
    assert found.records == RECORDS[:intact]


@given(st.integers(0, len(FILE)), st.integers(1, 5_000))
def test_zeros_after_a_record_are_a_torn_tail(length, zeros):
    whole = max(end for end in [0, *ENDS] if end <= length)
    found = scan(FILE[:whole] + bytes(zeros))
    assert found.damage is None
    assert len(found.records) == max(0, ENDS.index(whole) if whole else 0)


@pytest.mark.parametrize("gone", range(len(RECORDS) - 1))
def test_a_record_cut_out_is_noticed(gone):
    data = FILE[: ENDS[gone]] + FILE[ENDS[gone + 1] :]
    assert scan(data).damage is not None
    assert scan(data).records == RECORDS[:gone]


def test_a_record_twice_or_moved_is_noticed():
    second = FILE[ENDS[1] : ENDS[2]]
    third = FILE[ENDS[2] : ENDS[3]]
    assert scan(FILE[: ENDS[2]] + second + FILE[ENDS[2] :]).damage is not None
    assert scan(FILE[: ENDS[1]] + third + second + FILE[ENDS[3] :]).damage is not None


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_an_error(data):
    found = scan(data)
    assert found.good_length <= len(data)
    found = scan(MAGIC + data)
    assert found.good_length <= len(MAGIC + data)


def test_another_files_bytes_are_damage():
    assert scan(b"SQLite format 3\0" * 10).damage is not None
    assert scan(b"SQ").damage is not None
    assert scan(b"").damage is None


def frame_by_hand(payload, number):
    head = len(payload).to_bytes(4, "big") + bytes([number])
    head_crc = zlib.crc32(head)
    crc = zlib.crc32(payload, head_crc)
    return MAGIC + head + head_crc.to_bytes(4, "big") + crc.to_bytes(4, "big") + payload


@pytest.mark.parametrize(("payload", "number"), [(b"", 99), (b"\x90", 1), (b"\x93", 2)])
def test_sound_frames_of_nonsense_are_damage(payload, number):
    assert scan(frame_by_hand(payload, number)).damage is not None


def test_a_length_beyond_the_bound_is_damage():
    head = (wal.RECORD_BYTES_MAX + 1).to_bytes(4, "big") + b"\x01"
    data = MAGIC + head + zlib.crc32(head).to_bytes(4, "big") + bytes(4) + b"x"
    assert "unknown type 1 or of" in (scan(data).damage or "")


def test_a_record_beyond_the_bound_is_not_written():
    block = TABLE.block(txs=tuple(bytes(8_192) for _ in range(400)))
    assert len(block.txs) < TRANSACTIONS_MAX
    with pytest.raises(InvariantError, match="at most"):
        Framer().frame(wal.ProposalRecord(TABLE.proposal(block)))
