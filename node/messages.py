"""What nodes say to each other beside consensus: batches, decided blocks, questions of sync."""

from typing import Annotated, Final

from msgspec import Meta

from consensus.messages import Hash, Unsigned
from wire.codec import Message

BATCH_TRANSACTIONS_MAX: Final = 64
# Below the gossip bound, so that a batch of the largest transactions still fits.
BATCH_BYTES_MAX: Final = 98_304
# A larger block is announced without its body; those who want it ask.
GOSSIPED_BODY_BYTES_MAX: Final = 49_152
SYNC_BLOCKS_MAX: Final = 64
SYNC_BYTES_MAX: Final = 4 * 1_048_576
QUESTION_BYTES_MAX: Final = 256


class TransactionBatch(Message, frozen=True, tag="txs"):
    """Signed transactions, encoded. `sequence` makes a repeated batch a new gossip message."""

    sequence: Unsigned
    transactions: Annotated[list[bytes], Meta(min_length=1, max_length=BATCH_TRANSACTIONS_MAX)]


class DecidedNotice(Message, frozen=True, tag="decided"):
    """A block has been decided. `body` is the encoded block, or empty when it is too large."""

    height: Unsigned
    certificate: bytes
    body: bytes


class GetStatus(Message, frozen=True, tag="get-status"):
    """How far are you?"""


class Status(Message, frozen=True, tag="status"):
    """The height of the last applied block, and its hash."""

    height: Unsigned
    block_hash: Hash


class GetBlocks(Message, frozen=True, tag="get-blocks"):
    """Decided blocks from `first` on, please."""

    first: Unsigned
    count: Annotated[int, Meta(ge=1, le=SYNC_BLOCKS_MAX)]


class Blocks(Message, frozen=True, tag="blocks"):
    """Decided blocks in order of height: encoded (block, certificate) pairs."""

    blocks: Annotated[list[tuple[bytes, bytes]], Meta(max_length=SYNC_BLOCKS_MAX)]
