"""How a transaction ended, with its proof: what a node serves, and how a reader checks it.

A block's header carries the root of its receipts, which its authorities computed before they voted.
So a receipt with its place in the block and a Merkle path is proven by the block's certified
header, and that from the genesis file alone, as a bill is (`node.proofs.bill`). What was asked for
is proven by the transaction's id, which is its hash. A receipt is final: no later block says
otherwise, and its age does not matter.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple, Protocol

from msgspec import Meta

from consensus.authorities import AuthoritySet
from consensus.errors import HeaderRefused, ProofRefused
from consensus.light import LightClient, SignedHeader
from consensus.messages import BLOCK_BYTES_MAX, TRANSACTIONS_MAX, Block
from market.receipts import Receipt
from market.refusals import accepted
from market.vm import merkle
from market.vm.merkle import Proof
from node.chain.store import Store
from node.chain.sync import Sync
from node.errors import ControlError, ProofError
from node.genesis import Genesis
from node.network.base import Network
from node.proofs.bill import PathSource, follow
from wire.codec import Message, decode, encode
from wire.errors import DecodeError
from wire.keys import address_of
from wire.transaction import TRANSACTION_BYTES_MAX, SignedTransaction, Transaction, id_of

PROTOCOL: Final = "prove-receipt"
TX_ID_BYTES: Final = 32
QUESTION_BYTES_MAX: Final = 128
# The events of one transaction may be large.
PROOF_BYTES_MAX: Final = 6 * 1_048_576
PROVING_MAX: Final = 8

_REASONS: Final = {
    "unknown": "the node knows of no block that holds the transaction",
    "busy": "too many ask the node at once; ask again",
}


class ProveReceipt(Message, frozen=True, tag="prove-receipt"):
    """Prove how a transaction ended, please. Asked of a neighbour."""

    tx_id: Annotated[bytes, Meta(min_length=TX_ID_BYTES, max_length=TX_ID_BYTES)]


class NoReceipt(Message, frozen=True, tag="no-receipt"):
    """There is no proof to be had."""

    reason: Literal["unknown", "busy"]


class ReceiptProof(Message, frozen=True, tag="receipt-proof"):
    """A certified header, the receipt at a place in its block, and the signed transaction."""

    signed: SignedHeader
    index: Annotated[int, Meta(ge=0, lt=TRANSACTIONS_MAX)]
    transaction: Annotated[bytes, Meta(max_length=TRANSACTION_BYTES_MAX)]
    receipt: Receipt
    proof: Proof


_ReceiptAnswer: Any = ReceiptProof | NoReceipt


class ReceiptSource(PathSource, Protocol):
    """A node that is asked for receipts, and trusted in nothing."""

    async def receipt(self, tx_id: bytes) -> bytes:
        """Return an encoded `ReceiptProof` or `NoReceipt`; errors as `path`."""


class ProvenReceipt(NamedTuple):
    """What a transaction asked for, how it ended, and at which place in which block."""

    tx: Transaction
    receipt: Receipt
    place: int
    height: int
    time_ms: int
    block_hash: bytes
    epoch: int
    signatures: int


class Receipts:
    """Serves receipts and their proofs from one node's store, to whoever asks."""

    def __init__(self, store: Store, sync: Sync, network: Network) -> None:
        self._store = store
        self._sync = sync
        self._proving = 0
        network.on_request(PROTOCOL, self._answer)

    async def _answer(self, peer: str, data: bytes) -> bytes:
        del peer
        return encode(await self.proof(decode(data, ProveReceipt, QUESTION_BYTES_MAX).tx_id))

    async def proof(self, tx_id: bytes) -> ReceiptProof | NoReceipt:
        """Return the proof of how a transaction ended."""
        if self._proving >= PROVING_MAX:
            return NoReceipt("busy")
        self._proving += 1
        try:
            return await self._proof(tx_id)
        finally:
            self._proving -= 1

    async def _proof(self, tx_id: bytes) -> ReceiptProof | NoReceipt:
        height = await self._store.height_of(tx_id)
        stored = None if height is None else await self._store.block(height)
        if stored is None:
            return NoReceipt("unknown")
        block = decode(stored.block, Block, BLOCK_BYTES_MAX)
        header = block.header
        path = await self._sync.path(header.epoch, header.height)
        receipts = decode(stored.receipts, tuple[Receipt, ...], len(stored.receipts))
        places = [index for index, receipt in enumerate(receipts) if receipt.tx_id == tx_id]
        if not path or path[-1].header.height != header.height or not places:
            return NoReceipt("unknown")
        proof = merkle.prove_item([encode(receipt) for receipt in receipts], places[0])
        place = places[0]
        return ReceiptProof(path[-1], place, block.txs[place], receipts[place], proof)


class ReceiptReader:
    """Checks what a node serves against the genesis, and nothing else."""

    def __init__(self, genesis: Genesis) -> None:
        first = AuthoritySet(0, tuple(genesis.authorities))
        self._light = LightClient(genesis.chain_id, first)

    async def fetch(self, source: ReceiptSource, tx_id: bytes) -> ProvenReceipt:
        """Ask a node how a transaction ended, and check what it says.

        Raises
        ------
        ControlError, PeerError
            The node does not answer, or knows no block with the transaction.
        ProofError
            What it serves does not prove what it claims.
        """
        served = await source.receipt(tx_id)
        try:
            material = decode(served, _ReceiptAnswer, PROOF_BYTES_MAX)
            if isinstance(material, NoReceipt):
                raise ControlError(f"no proof is served: {_REASONS[material.reason]}")
            if material.receipt.tx_id != tx_id:
                raise ProofRefused("the receipt is another transaction's")
            tx = decode(material.transaction, SignedTransaction, TRANSACTION_BYTES_MAX).tx
            if id_of(tx) != tx_id:
                raise ProofRefused("what was asked for is another transaction's")
            await follow(self._light, source, material.signed)
            self._light.check_receipt(
                material.index, encode(material.receipt), material.proof, merkle.verify
            )
        except DecodeError as error:
            raise ProofError(f"what the node serves is malformed: {error}") from None
        except (HeaderRefused, ProofRefused) as error:
            raise ProofError(f"what the node serves proves nothing: {error}") from None
        header, certificate = material.signed.header, material.signed.certificate
        return ProvenReceipt(
            tx,
            material.receipt,
            material.index,
            header.height,
            header.time_ms,
            certificate.block_hash,
            header.epoch,
            len(certificate.signatures),
        )


def receipt_view(proven: ProvenReceipt, names: Mapping[str, str]) -> dict[str, Any]:
    """Return a proven receipt as a plain map, as `transaction` answers, with its proof.

    Parameters
    ----------
    names : mapping of str to str
        What accounts are called; who is not in it is called by its address.
    """
    receipt, tx = proven.receipt, proven.tx
    sender = address_of(tx.sender)
    return {
        "id": receipt.tx_id.hex(),
        "status": "decided",
        "height": proven.height,
        "time_ms": proven.time_ms,
        "asked": {
            "sender": sender,
            "sender_name": names.get(sender, sender),
            "contract": tx.contract,
            "entry": tx.entry,
            "args": tx.args,
            "nonce": tx.nonce,
            "valid_until_ms": tx.valid_until_ms,
        },
        "code": receipt.code,
        "reason": receipt.reason,
        "message": receipt.message,
        "accepted": accepted(receipt.reason, tx.contract) if receipt.reason else "",
        "gas": receipt.gas,
        "events": [[event.contract, event.name, event.data] for event in receipt.events],
        "proof": {
            "height": proven.height,
            "place": proven.place,
            "time_ms": proven.time_ms,
            "block_hash": proven.block_hash.hex(),
            "epoch": proven.epoch,
            "signatures": proven.signatures,
        },
    }
