"""What nodes say to each other beside consensus: batches and decided blocks."""

from typing import Annotated, Final

from msgspec import Meta

from consensus.messages import Unsigned
from wire.codec import Message

BATCH_TRANSACTIONS_MAX: Final = 256
# Below the gossip bound, so that a batch of the largest transactions still fits.
BATCH_BYTES_MAX: Final = 98_304
# A larger block is announced without its body; those who want it ask.
GOSSIPED_BODY_BYTES_MAX: Final = 49_152


class TransactionBatch(Message, frozen=True, tag="txs"):
    """Signed transactions, encoded. `sequence` makes a repeated batch a new gossip message."""

    sequence: Unsigned
    transactions: Annotated[list[bytes], Meta(min_length=1, max_length=BATCH_TRANSACTIONS_MAX)]


class DecidedNotice(Message, frozen=True, tag="decided"):
    """A block has been decided. `body` is the encoded block, or empty when it is too large."""

    height: Unsigned
    certificate: bytes
    body: bytes
