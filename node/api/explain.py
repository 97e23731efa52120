"""What a transaction asked for, and what became of it, in words for its owner.

A transaction is `decided` (a block holds it, with a receipt), `pending` (it waits here for a
block), `refused` (this node let it into no block) or `unknown` here. The receipts are this node's
word.
"""

from collections.abc import Mapping
from string import hexdigits
from typing import Any, Final

from consensus.messages import BLOCK_BYTES_MAX, Block
from market.app import Application
from market.receipts import Receipt
from market.refusals import accepted
from node.api.views import Views
from node.chain.store import Store, StoredBlock
from node.errors import ControlError
from node.pool.mempool import Mempool
from wire.codec import decode
from wire.keys import address_of
from wire.transaction import TRANSACTION_BYTES_MAX, SignedTransaction, Transaction

ID_BYTES: Final = 32
ID_CHARS_MIN: Final = 8
OWN_MAX: Final = 50


class Explainer:
    """Knows where transactions of one node are."""

    def __init__(self, mempool: Mempool, store: Store, app: Application, views: Views) -> None:
        self._mempool = mempool
        self._store = store
        self._app = app
        self._views = views

    async def transaction(self, question: Mapping[str, Any]) -> Any:
        """Where a transaction is, what it asked for, and how it ended."""
        return await self._explain(self._id_of(question.get("id")))

    async def transactions(self, question: Mapping[str, Any]) -> Any:
        """The same of the last ones handed in here, newest first; at most `count`."""
        count = question.get("count")
        if type(count) is not int or not 1 <= count <= OWN_MAX:
            raise ControlError(f"count is a whole number from 1 to {OWN_MAX}")
        return [await self._explain(tx_id) for tx_id in self._mempool.own()[: -count - 1 : -1]]

    async def _explain(self, tx_id: bytes) -> dict[str, Any]:
        # Before the store: what a block has decided leaves the mempool after it is in the store.
        here = self._mempool.find(tx_id)
        height = await self._store.height_of(tx_id)
        stored = None if height is None else await self._store.block(height)
        found: dict[str, Any] = {"id": tx_id.hex(), "height": height}
        if stored is not None:
            decided = self._decided(stored, tx_id)
            if stored.height <= self._app.height:
                return found | decided
            # Whoever hears that it is decided may ask next what came of it in the state.
            return found | {
                "height": None,
                "status": "pending",
                "asked": decided["asked"],
                "message": f"block {stored.height} holds it, which this node is applying",
            }
        if here is None:
            return found | {
                "status": "unknown",
                "message": "this node knows no such transaction: none of its blocks "
                f"{self._store.first_height} to {self._store.height} holds it, and it does not "
                "wait here; another node may know more",
            }
        checked, refused = here
        found["asked"] = self._asked(checked.tx)
        if refused is None:
            return found | {"status": "pending", "message": "it waits here for a block to hold it"}
        return found | {
            "status": "refused",
            "code": "rejected",
            "reason": refused.code,
            "message": refused.message,
            "accepted": accepted(refused.code, checked.tx.contract),
        }

    def _id_of(self, text: object) -> bytes:
        """Return the id of all its digits, or of the first ones of an own transaction's."""
        digits = text.lower() if isinstance(text, str) else ""
        if not ID_CHARS_MIN <= len(digits) <= 2 * ID_BYTES or set(digits) - set(hexdigits):
            raise ControlError(
                f"a transaction's id has {2 * ID_BYTES} hexadecimal digits; {ID_CHARS_MIN} are "
                "enough for one of the last that were handed in here"
            )
        if len(digits) == 2 * ID_BYTES:
            return bytes.fromhex(digits)
        found = [tx_id for tx_id in self._mempool.own() if tx_id.hex().startswith(digits)]
        if len(found) == 1:
            return found[0]
        raise ControlError(
            f"{len(found)} of the last {len(self._mempool.own())} transactions that were handed in "
            f"here begin with {digits}; give all {2 * ID_BYTES} digits"
        )

    def _decided(self, stored: StoredBlock, tx_id: bytes) -> dict[str, Any]:
        receipts = decode(stored.receipts, tuple[Receipt, ...], len(stored.receipts))
        place = next(i for i, receipt in enumerate(receipts) if receipt.tx_id == tx_id)
        block, receipt = decode(stored.block, Block, BLOCK_BYTES_MAX), receipts[place]
        tx = decode(block.txs[place], SignedTransaction, TRANSACTION_BYTES_MAX).tx
        found = {
            "status": "decided",
            "time_ms": block.header.time_ms,
            "asked": self._asked(tx),
            "code": receipt.code,
            "reason": receipt.reason,
            "message": receipt.message,
            "accepted": accepted(receipt.reason, tx.contract) if receipt.reason else "",
            "gas": receipt.gas,
            "events": [[e.contract, e.name, e.data] for e in receipt.events],
        }
        posted = [e.data for e in receipt.events if e.name == "order_posted"]
        if posted:
            found["order"] = self._views.order(**posted[0])
        return found

    def _asked(self, tx: Transaction) -> dict[str, Any]:
        sender = address_of(tx.sender)
        return {
            "sender": sender,
            "sender_name": self._views.name_of(sender),
            "contract": tx.contract,
            "entry": tx.entry,
            "args": tx.args,
            "nonce": tx.nonce,
            "valid_until_ms": tx.valid_until_ms,
        }
