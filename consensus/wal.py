"""The write-ahead log of one authority: its records, their framing, and how to read it back.

No I/O happens here. The driver appends `Framer.frame(record)` and syncs the file; after a start it
reads the whole file and `scan`s it.

    file     magic 8 | frame ...
    frame    payload length u32 | record type u8 | head CRC u32 | payload CRC u32 | payload

Both CRCs (CRC-32) continue from the previous frame's payload CRC (0 at the start), so a frame that
was cut out, repeated or moved does not fit. The head has its own, so a flipped length cannot make
a whole record look like one that was cut short.
"""

import struct
import zlib
from typing import Annotated, Final, NamedTuple, TypeAlias

from msgspec import Meta

from consensus.errors import InvariantError
from consensus.messages import (
    AUTHORITIES_MAX,
    BLOCK_BYTES_MAX,
    CERTIFICATE_BYTES_MAX,
    Block,
    Certificate,
    Hash,
    Proposal,
    Round,
    Unsigned,
    Vote,
)
from wire.codec import Message, decode, encode
from wire.errors import DecodeError

MAGIC: Final = b"CWWAL\x00\x01\n"
RECORD_BYTES_MAX: Final = BLOCK_BYTES_MAX + 4 * CERTIFICATE_BYTES_MAX


class ProposalRecord(Message, frozen=True, tag="wpr"):
    """A proposal this node signed, with its block."""

    proposal: Proposal


class VoteRecord(Message, frozen=True, tag="wvt"):
    """A prevote, or a nil precommit, that this node signed."""

    vote: Vote


class RoundRecord(Message, frozen=True, tag="wrd"):
    """The precommits, one of each of a quorum, that ended the round before `round`.

    Whoever speaks in a round can show others the way there, also after a restart: else those who
    missed one of these votes, when its voter has gone, would wait for it for ever.
    """

    height: Unsigned
    round: Round
    votes: Annotated[tuple[Vote, ...], Meta(max_length=AUTHORITIES_MAX)]


class LockRecord(Message, frozen=True, tag="wlk"):
    """The lock, its proof and the precommit that came with it, as one.

    `block` is None if an earlier record of this height holds it.
    """

    height: Unsigned
    round: Round
    block: Block | None
    pol: Certificate
    precommit: Vote


class DecisionRecord(Message, frozen=True, tag="wdc"):
    """A decision, which may not have been applied yet. `block` as in `LockRecord`."""

    height: Unsigned
    block_hash: Hash
    certificate: Certificate
    block: Block | None


class AbstainRecord(Message, frozen=True, tag="wab"):
    """This node has lost memory: it signs nothing until so many more heights are decided."""

    heights: Unsigned


WalRecord: TypeAlias = (
    ProposalRecord | VoteRecord | RoundRecord | LockRecord | DecisionRecord | AbstainRecord
)

_TYPES: Final[dict[int, type[WalRecord]]] = {
    1: ProposalRecord,
    2: VoteRecord,
    3: LockRecord,
    4: DecisionRecord,
    5: AbstainRecord,
    6: RoundRecord,
}
_NUMBERS: Final = {kind: number for number, kind in _TYPES.items()}
_HEAD: Final = struct.Struct(">IB")
_CRC: Final = struct.Struct(">I")
_CRCS: Final = struct.Struct(">II")
_FRAME_BYTES: Final = _HEAD.size + _CRCS.size


class Scan(NamedTuple):
    """What a WAL file holds.

    `records` are the sound ones from the start; `good_length` is where they end and appending may
    go on with `Framer(crc)` after cutting the file there. `damage` is None, also if a torn tail
    was dropped; otherwise it says what is wrong and where: then the node may have forgotten
    something it signed, and must abstain (`Core.recover(records, damaged=True)`).
    """

    records: list[WalRecord]
    good_length: int
    crc: int
    damage: str | None


class Framer:
    """Frames records one after the other; `crc` is that of the frame before."""

    __slots__ = ("crc",)

    def __init__(self, crc: int = 0) -> None:
        self.crc = crc

    def frame(self, record: WalRecord) -> bytes:
        """Return the next frame's bytes; they must be appended in this order."""
        payload = encode(record)
        if len(payload) > RECORD_BYTES_MAX:
            raise InvariantError(f"a record of {len(payload)} bytes, at most {RECORD_BYTES_MAX}")
        head = _HEAD.pack(len(payload), _NUMBERS[type(record)])
        head_crc = zlib.crc32(head, self.crc)
        self.crc = zlib.crc32(payload, head_crc)
        return head + _CRCS.pack(head_crc, self.crc) + payload


def scan(data: bytes) -> Scan:
    """Read a WAL file's bytes; never raises, whatever they are.

    A *torn tail* is what a crash during an append leaves: the last frame is cut short, or there
    are only zeros after the last sound one. It was never acted upon and is dropped. Anything else
    that does not fit is damage. A whole last frame with a wrong CRC is damage too: it may have
    been durable, and acted upon, before it rotted.
    """
    if len(data) < len(MAGIC):
        torn = MAGIC.startswith(data) or not any(data)
        return Scan([], 0, 0, None if torn else "the file does not start as a WAL does")
    if not data.startswith(MAGIC):
        torn = not any(data)
        return Scan([], 0, 0, None if torn else "the file does not start as a WAL does")
    records: list[WalRecord] = []
    offset = len(MAGIC)
    crc = 0
    while offset < len(data):
        step = _read_frame(data, offset, crc)
        if isinstance(step, str):
            damage = f"{step} at byte {offset} of {len(data)}"
            torn = not any(data[offset:])
            return Scan(records, offset, crc, None if torn else damage)
        if step is None:
            break
        record, offset, crc = step
        records.append(record)
    return Scan(records, offset, crc, None)


def _read_frame(data: bytes, offset: int, crc: int) -> tuple[WalRecord, int, int] | str | None:
    """Return (record, next offset, CRC), what is wrong, or None for a frame cut short."""
    body = offset + _FRAME_BYTES
    if body > len(data):
        return None
    head = data[offset : offset + _HEAD.size]
    head_crc, payload_crc = _CRCS.unpack_from(data, offset + _HEAD.size)
    if zlib.crc32(head, crc) != head_crc:
        return "a frame's head is damaged"
    length, number = _HEAD.unpack(head)
    kind = _TYPES.get(number)
    if kind is None or length > RECORD_BYTES_MAX:
        return f"a frame of unknown type {number} or of {length} bytes"
    if body + length > len(data):
        return None
    payload = data[body : body + length]
    if zlib.crc32(payload, head_crc) != payload_crc:
        return "a record is damaged"
    try:
        record = decode(payload, kind, RECORD_BYTES_MAX)
    except DecodeError as error:
        return f"a record is {error}"
    return record, body + length, payload_crc
