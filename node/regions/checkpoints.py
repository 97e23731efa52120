"""Making checkpoints: a function of a region's state and of the header that proves it.

The record stands in the state after the block that wrote it, so a checkpoint is made when that
block has just been committed, before the next one changes the tree that proofs are taken from.
"""

from consensus.checkpoint import Checkpoint, StateProof, record_key
from consensus.messages import Certificate, Header
from market.app import Application
from wire.codec import decode_plain, encode

_CLOSED_KEY = "export/closed"
_CLOSED_BYTES_MAX = 256


def make_checkpoint(
    app: Application, header: Header, certificate: Certificate
) -> Checkpoint | None:
    """Return the checkpoint that the block just committed has closed, None if it closed none.

    Parameters
    ----------
    app : Application
        A region's, at the state after `header`.
    header, certificate
        Of that block.
    """
    data = app.value(_CLOSED_KEY)
    if data is None or app.state_root != header.state_root:
        return None
    closed = decode_plain(data, _CLOSED_BYTES_MAX)
    if closed["height"] != header.height:
        return None
    key = record_key(closed["number"])
    record, proof = app.value(key), app.prove(key)
    if record is None:
        return None
    shown = StateProof(proof.siblings, proof.leaf_key_hash, proof.leaf_value_hash)
    return Checkpoint(record, header, certificate, shown)


def posted(checkpoint: Checkpoint) -> str:
    """Return a checkpoint as a transaction of the main chain carries it."""
    return encode(checkpoint).hex()
