"""What peers send is understood or refused; a state has one stream."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.errors import SnapshotRefused
from consensus.messages import ZERO_HASH
from consensus.snapshot import chunk_is_good, chunks_of, manifest_of, pairs_of
from consensus.sync_messages import (
    ANSWER_BYTES_MAX,
    CHUNK_BYTES,
    QUESTION_BYTES_MAX,
    Blocks,
    Chunk,
    GetBlocks,
    GetChunk,
    GetHeaders,
    GetManifest,
    GetPath,
    GetStatus,
    Headers,
    Manifest,
    Nothing,
    Status,
    decode_answer,
    decode_question,
)
from tests.consensus.ready import ready_chain
from wire.codec import encode
from wire.errors import DecodeError, TooLargeError

CHAIN = ready_chain()
QUESTIONS = [
    GetStatus(),
    GetHeaders(1, 128),
    GetPath(3, 2**40),
    GetBlocks(5, 64),
    GetManifest(bytes(32)),
    GetChunk(bytes(32), 4_095),
]
ANSWERS = [
    Status(9, ZERO_HASH, 3, 5, bytes(32)),
    Headers(tuple(CHAIN.signed[38:42])),
    Blocks((encode(CHAIN.blocks[3]), b"")),
    CHAIN.snapshots[100].manifest,
    Chunk(b"data"),
    Nothing(),
]


def test_questions_and_answers_come_back_as_they_went() -> None:
    assert [decode_question(encode(question)) for question in QUESTIONS] == QUESTIONS
    assert [decode_answer(encode(answer)) for answer in ANSWERS] == ANSWERS
    assert max(len(encode(question)) for question in QUESTIONS) <= QUESTION_BYTES_MAX


def test_what_is_out_of_bounds_is_refused() -> None:
    def refused(message: object) -> None:
        with pytest.raises(DecodeError):
            decode_answer(encode(message))
        with pytest.raises(DecodeError):
            decode_question(encode(message))

    for wrong in (
        ["get-headers", 1, 0],
        ["get-headers", 1, 129],
        ["get-blocks", -1, 1],
        ["get-blocks", 1, 65],
        ["get-chunk", bytes(32), 4_096],
        ["get-chunk", bytes(31), 0],
        ["status", 2**63, ZERO_HASH, 0, 0, b""],
        ["status", 1, ZERO_HASH, 0, 0, bytes(33)],
        ["headers", [encode(CHAIN.signed[3])]],
        ["headers", [[]] * 129],
        ["blocks", [b""] * 65],
        ["chunk", b""],
        ["chunk", bytes(CHUNK_BYTES + 1)],
        ["manifest", 1, ZERO_HASH, ZERO_HASH, 1, []],
        ["manifest", 1, ZERO_HASH, ZERO_HASH, CHUNK_BYTES + 1, [ZERO_HASH]],
        ["manifest", 1, ZERO_HASH, ZERO_HASH, CHUNK_BYTES, [ZERO_HASH] * 2],
        ["manifest", 1, ZERO_HASH, ZERO_HASH, 2**40, [ZERO_HASH]],
    ):
        refused(wrong)
    with pytest.raises(TooLargeError):
        decode_answer(bytes(ANSWER_BYTES_MAX + 1))
    with pytest.raises(TooLargeError):
        decode_question(bytes(QUESTION_BYTES_MAX + 1))


STATES = st.dictionaries(st.text(max_size=20), st.binary(max_size=70_000), max_size=30)


@settings(max_examples=30)
@given(STATES, st.randoms(use_true_random=False))
def test_a_stream_gives_its_pairs_back_however_it_is_cut(
    state: dict[str, bytes], rng: random.Random
) -> None:
    pairs = sorted(state.items())
    chunks = list(chunks_of(pairs))
    assert all(len(chunk) == CHUNK_BYTES for chunk in chunks[:-1])
    assert list(pairs_of(chunks)) == pairs
    stream = b"".join(chunks)
    cuts = sorted(rng.randrange(len(stream) + 1) for _ in range(5))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert list(pairs_of(pieces)) == pairs


def test_keys_ascend_and_sizes_are_bounded() -> None:
    for wrong in ([("b", b""), ("a", b"")], [("a", b""), ("a", b"")], [("k" * 1_025, b"")]):
        with pytest.raises(SnapshotRefused):
            list(chunks_of(wrong))
    with pytest.raises(SnapshotRefused):
        list(chunks_of([("a", bytes(4 * 1_048_576 + 1))]))


@pytest.mark.parametrize(
    ("stream", "word"),
    [
        (b"\0\1a\0\0\0\0" + b"\0\1a\0\0\0\0", "ascend"),
        (b"\0\1b\0\0\0\0" + b"\0\1a\0\0\0\0", "ascend"),
        (b"\xff\xffa", "key of 65535 bytes"),
        (b"\0\1a\xff\xff\xff\xff", "value of"),
        (b"\0\1a\0\0\0\5abc", "ends within"),
        (b"\0", "ends within"),
        (b"\0\1\xff\0\0\0\0", "not text"),
    ],
)
def test_what_is_no_stream_is_refused(stream: bytes, word: str) -> None:
    with pytest.raises(SnapshotRefused, match=word):
        list(pairs_of([stream]))


@given(st.binary(max_size=400))
def test_random_streams_are_read_or_refused(data: bytes) -> None:
    try:
        pairs = list(pairs_of([data]))
    except SnapshotRefused:
        return
    assert b"".join(chunks_of(pairs)) == data


def test_a_manifest_names_every_byte() -> None:
    shot = CHAIN.snapshots[100]
    assert len(shot.chunks) > 1
    assert all(chunk_is_good(shot.manifest, n, data) for n, data in enumerate(shot.chunks))
    assert not chunk_is_good(shot.manifest, 0, shot.chunks[1])
    assert not chunk_is_good(shot.manifest, 99, shot.chunks[0])
    assert isinstance(shot.manifest, Manifest)
    assert shot.manifest.id != CHAIN.snapshots[200].manifest.id
    with pytest.raises(SnapshotRefused):
        manifest_of(CHAIN.blocks[1].header, [], 0)
