"""What nodes say to each other beside consensus: batches, decided blocks, questions of sync."""

from typing import Final

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

    sequence: int
    transactions: list[bytes]


class DecidedNotice(Message, frozen=True, tag="decided"):
    """A block has been decided. `body` is the encoded block, or empty when it is too large."""

    height: int
    certificate: bytes
    body: bytes


class GetStatus(Message, frozen=True, tag="get-status"):
    """How far are you?"""


class Status(Message, frozen=True, tag="status"):
    """The height of the last applied block, and its hash."""

    height: int
    block_hash: bytes


class GetBlocks(Message, frozen=True, tag="get-blocks"):
    """Decided blocks from `first` on, please."""

    first: int
    count: int


class Blocks(Message, frozen=True, tag="blocks"):
    """Decided blocks in order of height: encoded (block, certificate) pairs."""

    blocks: list[tuple[bytes, bytes]]
