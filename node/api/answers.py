"""The questions a running node answers on its control socket.

status                      what the node says of itself (`node.status`), with its household
slots      {count}          the last settled slots, newest last
slot       {slot}           one slot: summary, trades, bills
homes                       registered homes with their accounts and totals
latencies                   how long this home's transactions took to be final, each [ms]
money                       what was minted and redeemed, and what all accounts hold
query      {contract, entry, args}      a contract's query
submit     {transaction}    hand in a signed transaction, hexadecimal
submit_many {transactions}  hand in several: which were refused and why, and how many now wait
transaction {id}            where a transaction is, what it asked, how it ended (`node.api.explain`)
transactions {count}        the same of the last ones that were handed in here, newest first
block      {height}         a decided block's hash, roots and time
blocks     {before, count}  the same of the last ones below a height, newest first
bill       {address, slot}  a home's bill; slot null: of the last settled slot
receipt_proof {id}          how it ended as a `ReceiptProof`, hexadecimal, for who trusts no node
bill_proof {address, slot}  the same as a `BillProof`, hexadecimal, for who trusts no node
applications                homes that ask to be registered, with their accounts
                            (`node.membership.joining`)
path       {epoch, height}  signed headers from an epoch to a height (`Headers`), hexadecimal

What people see of the market (`market_book` and so on) is in `node.api.views`.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from consensus.authorities import voters_of
from consensus.messages import BLOCK_BYTES_MAX, CERTIFICATE_BYTES_MAX, Block, Certificate
from market import client, governance
from market.app import Application
from market.errors import QueryError
from node.api.control import Answer, integer
from node.api.explain import Explainer
from node.api.views import Views, homes_of
from node.chain.store import Store, StoredBlock
from node.errors import ControlError
from node.home.household import Household
from node.membership.joining import Doorkeeper
from node.pool.mempool import Mempool
from node.proofs.bill import Bills, to_hex
from node.proofs.receipts import Receipts
from node.status import Finality, NodeStatus
from wire.codec import decode
from wire.keys import is_address
from wire.transaction import Refused

SLOTS_MAX: Final = 200
BLOCKS_MAX: Final = 50
HEIGHT_MAX: Final = 2**62


class Answers:
    """Answers from the parts of one node."""

    def __init__(
        self,
        status: NodeStatus,
        household: Household | None,
        app: Application,
        mempool: Mempool,
        store: Store,
        finality: Finality,
        bills: Bills,
        receipts: Receipts,
        doorkeeper: Doorkeeper,
        main: Application | None = None,
    ) -> None:
        self._doorkeeper = doorkeeper
        self._bills = bills
        self._receipts = receipts
        self._status = status
        self._household = household
        self._app = app
        self._mempool = mempool
        self._store = store
        self._finality = finality
        self._views = Views(app, main)
        self._explainer = Explainer(mempool, store, app, self._views)

    def table(self) -> dict[str, Answer]:
        """Return the answers by the question's name."""
        return {
            "status": self.status,
            "slots": self.slots,
            "slot": self.slot,
            "homes": self.homes,
            "latencies": self.latencies,
            "money": self.money,
            "query": self.query,
            "nonce": self.nonce,
            "submit": self.submit,
            "submit_many": self.submit_many,
            "transaction": self._explainer.transaction,
            "transactions": self._explainer.transactions,
            "block": self.block,
            "blocks": self.blocks,
            "bill": self.bill,
            "receipt_proof": self.receipt_proof,
            "bill_proof": self.bill_proof,
            "path": self.path,
            "applications": self.applications,
            **self._views.table(),
        }

    async def status(self, question: Mapping[str, Any]) -> Any:
        """The node's status and its home's."""
        snapshot = self._status.snapshot()
        try:
            snapshot["home"] = self._household.snapshot() if self._household is not None else None
        except QueryError:
            # The market does not know this home (yet); the node has its status all the same.
            snapshot["home"] = None
        return snapshot

    async def applications(self, question: Mapping[str, Any]) -> Any:
        """What homes that ask to be registered would be registered as, in order of arrival."""
        return [one.registration().args for one in self._doorkeeper.waiting()]

    async def slots(self, question: Mapping[str, Any]) -> Any:
        """Summaries of the slots that were settled last, by their times."""
        count = integer(question, "count", 1, SLOTS_MAX)
        numbers = sorted(client.settled_slots(self._app.query, count))
        return [client.slot_summary(self._app.query, number) for number in numbers]

    async def slot(self, question: Mapping[str, Any]) -> Any:
        """One slot, whole."""
        number = integer(question, "slot", 0, 10**9)
        return {
            "summary": client.slot_summary(self._app.query, number),
            "finality": self._views.finality(number),
            "trades": client.trades_of_slot(self._app.query, number),
            "bills": client.bills_of_slot(self._app.query, number),
        }

    async def homes(self, question: Mapping[str, Any]) -> Any:
        """Homes with their accounts and totals."""
        return [
            {
                "home": home,
                "account": self._account(home.address),
                "total": client.total(self._app.query, home.number),
            }
            for home in homes_of(self._app)
        ]

    async def latencies(self, question: Mapping[str, Any]) -> Any:
        """The last finality latencies of this home's transactions."""
        return [round(latency, 1) for latency in self._finality.latencies_ms]

    async def money(self, question: Mapping[str, Any]) -> Any:
        """The money supply, and what all accounts hold."""
        supply = client.money(self._app.query)
        # Whoever may hold money: homes, the regulator, and authorities that are no homes.
        addresses = {home.address for home in homes_of(self._app)}
        addresses |= {member.address for member in governance.members(self._app.query)}
        addresses |= {self._app.params.regulator}
        accounts = [self._account(address) for address in addresses]
        return {
            "minted_micro": supply.minted_micro,
            "redeemed_micro": supply.redeemed_micro,
            "balances_micro": sum(account.balance_micro for account in accounts),
            "held_micro": sum(account.held_micro for account in accounts),
        }

    def _account(self, address: str) -> client.Account:
        """Return an account; an empty one of a home that was given no first money yet."""
        try:
            return client.account(self._app.query, address)
        except QueryError as error:
            if error.code != "unknown_account":
                raise
            return client.Account(address, 0, 0, 0)

    async def query(self, question: Mapping[str, Any]) -> Any:
        """A contract's query."""
        args = question.get("args", {})
        if not isinstance(args, dict):
            raise ControlError("args is an object")
        return self._app.query(str(question.get("contract")), str(question.get("entry")), args)

    async def nonce(self, question: Mapping[str, Any]) -> Any:
        """Return the last nonce of an address, 0 if none."""
        return self._app.nonce(_address(question))

    async def submit(self, question: Mapping[str, Any]) -> Any:
        """Hand in a signed transaction."""
        try:
            raw = bytes.fromhex(str(question.get("transaction")))
        except ValueError:
            raise ControlError("transaction is hexadecimal text") from None
        checked = self._mempool.submit(raw)
        self._finality.submitted(checked.tx_id)
        return {"id": checked.tx_id.hex()}

    async def submit_many(self, question: Mapping[str, Any]) -> Any:
        """Hand in several signed transactions; each is taken or refused by itself."""
        try:
            texts = msgspec.convert(question.get("transactions"), list[str])
            raws = [bytes.fromhex(text) for text in texts]
        except (msgspec.ValidationError, ValueError):
            raise ControlError("transactions is a list of hexadecimal texts") from None
        refused = []
        for place, result in enumerate(self._mempool.submit_many(raws)):
            if isinstance(result, Refused):
                refused.append([place, result.code, result.message])
            else:
                self._finality.submitted(result.tx_id)
        return {
            "accepted": len(raws) - len(refused),
            "refused": refused,
            "pending": len(self._mempool),
        }

    async def block(self, question: Mapping[str, Any]) -> Any:
        """A decided block's header, in short; the same at every node."""
        stored = await self._store.block(integer(question, "height", 0, HEIGHT_MAX))
        return None if stored is None else _in_short(stored)

    async def blocks(self, question: Mapping[str, Any]) -> Any:
        """The last decided blocks below the height `before`, or at all; newest first.

        Each with its round and with who has signed it, of the votes that this node kept.
        """
        count = integer(question, "count", 1, BLOCKS_MAX)
        height = self._store.height
        if question.get("before") is not None:
            height = min(height, integer(question, "before", 0, HEIGHT_MAX) - 1)
        rows: list[dict[str, Any]] = []
        while height >= 0 and len(rows) < count:
            stored = await self._store.block(height)
            if stored is None:
                # A snapshot has jumped over what is below.
                break
            rows.append(_in_short(stored) | _votes(stored, height))
            height -= 1
        return {"blocks": rows, "next_before": height + 1 if len(rows) == count else None}

    async def bill(self, question: Mapping[str, Any]) -> Any:
        """A home's bill for a slot, by this node's word."""
        address, slot = _bill_of(question)
        home = client.home(self._app.query, address)
        if slot is None:
            slot = next(iter(client.settled_slots(self._app.query, 1)), None)
        bill = None if slot is None else client.bill(self._app.query, slot, home.number)
        finality = None if bill is None else self._views.finality(bill.slot)
        return {"home": home, "slot": slot, "bill": bill, "finality": finality}

    async def receipt_proof(self, question: Mapping[str, Any]) -> Any:
        """How a transaction ended, with proof."""
        return to_hex(await self._receipts.proof(_tx_id(question)))

    async def bill_proof(self, question: Mapping[str, Any]) -> Any:
        """A home's bill for a slot, with proof."""
        return to_hex(await self._bills.proof(*_bill_of(question)))

    async def path(self, question: Mapping[str, Any]) -> Any:
        """Signed headers from an epoch to a height."""
        epoch = integer(question, "epoch", 0, 2**62)
        return to_hex(await self._bills.path(epoch, integer(question, "height", 0, 2**62)))


def _address(question: Mapping[str, Any]) -> str:
    address = question.get("address")
    if not isinstance(address, str) or not is_address(address):
        raise ControlError("address is an account address: cw and 40 hexadecimal digits")
    return address


def _bill_of(question: Mapping[str, Any]) -> tuple[str, int | None]:
    address = _address(question)
    if question.get("slot") is None:
        return address, None
    return address, integer(question, "slot", 0, 10**9)


def _in_short(stored: StoredBlock) -> dict[str, Any]:
    block = decode(stored.block, Block, BLOCK_BYTES_MAX)
    header = block.header
    return {
        "height": header.height,
        "hash": stored.block_hash.hex(),
        "parent_hash": header.parent_hash.hex(),
        "epoch": header.epoch,
        "time_ms": header.time_ms,
        "proposer": header.proposer,
        "transactions": len(block.txs),
        "evidence": len(block.evidence),
        "state_root": header.state_root.hex(),
        "receipts_root": header.receipts_root.hex(),
    }


def _votes(stored: StoredBlock, height: int) -> dict[str, Any]:
    # Nobody signs the genesis block: everybody makes it.
    if height == 0:
        return {"round": 0, "signers": []}
    certificate = decode(stored.certificate, Certificate, CERTIFICATE_BYTES_MAX)
    return {"round": certificate.round, "signers": voters_of(certificate.bitmap)}


def _tx_id(question: Mapping[str, Any]) -> bytes:
    try:
        return bytes.fromhex(str(question.get("id")))
    except ValueError:
        raise ControlError("id is hexadecimal text") from None
