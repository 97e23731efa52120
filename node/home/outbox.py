"""What a home says to the market: signed, kept, said, and said again where it was not heard.

A transaction is kept on disk before it is said (`node/home/memory.py`), with the state that it
tells of. One that no block has decided is said again by the next life of the daemon; one that no
block can take any more is signed anew if it is a reading, and let go if it is an order.
"""

import logging
from collections.abc import Callable, Collection
from typing import Final

from market import client
from market.receipts import Receipt
from node.home.memory import HomeMemory
from node.keys.homekeys import HomeKeys
from node.status import Finality
from wire.keys import SigningKey
from wire.transaction import CheckedTransaction, Refused

log = logging.getLogger("commonwatt.household")

# Refusals of a node that may take the same later.
NO_ROOM: Final = ("mempool_full", "too_many_pending")


class Outbox:
    """Says what one home has to say, for its account and its meter.

    Parameters
    ----------
    chain_id : str
    keys : HomeKeys
    memory : HomeMemory
        What is undecided.
    save : callable
        Makes the memory durable, with the state of the home.
    last_nonce : callable
        The last nonce of an address in the committed state.
    submit : callable
        Hands in a signed transaction; raises `Refused`.
    finality : Finality
        Told of every transaction submitted.
    now_ms : callable
        Real time. [ms]
    """

    def __init__(
        self,
        chain_id: str,
        keys: HomeKeys,
        memory: HomeMemory,
        save: Callable[[], None],
        last_nonce: Callable[[str], int],
        submit: Callable[[bytes], CheckedTransaction],
        finality: Finality,
        now_ms: Callable[[], int],
    ) -> None:
        self.meter = keys.meter
        # Why what was said was not taken, by code.
        self.refused: dict[str, int] = {}
        self._chain_id = chain_id
        self._account = keys.account
        self._memory = memory
        self._save = save
        self._last_nonce = last_nonce
        self._submit = submit
        self._finality = finality
        self._now_ms = now_ms
        self._nonces: dict[str, int] = {}
        # The highest nonce of each sender that a block has taken.
        self._decided: dict[str, int] = {}

    @property
    def undecided(self) -> Collection[CheckedTransaction]:
        """What was signed and no block known here has decided, the oldest first."""
        return self._memory.outbox.values()

    def next_nonce(self, key: SigningKey | None = None) -> int:
        """Return a nonce above all known ones, of the home's account if no key is named.

        They need only rise: by the clock they do so over restarts, too. The clock may have been
        ahead, or somebody else have signed with this key.
        """
        address = (key or self._account).address
        known = max(self._nonces.get(address, 0), self._last_nonce(address))
        nonce = self._nonces[address] = max(known + 1, self._now_ms())
        return nonce

    def sign(
        self, call: client.Call, valid_until_ms: int, key: SigningKey | None = None
    ) -> CheckedTransaction:
        """Sign a call and keep it; it may be said once the memory is durable (`say_all`)."""
        key = key or self._account
        nonce = self.next_nonce(key)
        signed = client.sign_call(call, key, self._chain_id, nonce, valid_until_ms)
        self._memory.keep(signed)
        return signed

    def say_all(self, signed: list[CheckedTransaction]) -> None:
        """Make what is kept durable, then hand these in."""
        self._save()
        for one in signed:
            self.say(one)

    def say(self, signed: CheckedTransaction) -> None:
        """Hand in a transaction that is kept; a refusal is counted."""
        try:
            self._submit(signed.raw)
        except Refused as refused:
            log.info("%s %s was refused: %s", signed.tx.contract, signed.tx.entry, refused)
            self._let_go(signed, refused)
            self._count(refused.code)
        else:
            self._finality.submitted(signed.tx_id)

    def decided(self, receipt: Receipt) -> bool:
        """Take note of a receipt; return whether it answers something of this home."""
        mine = self._memory.drop(receipt.tx_id)
        if mine is None:
            return False
        self._decided[mine.sender] = max(self._decided.get(mine.sender, 0), mine.tx.nonce)
        if receipt.code != "ok":
            self._count(receipt.reason)
        return True

    def say_again(self) -> None:
        """Say what a life before this one has signed and no block known here has decided."""
        for signed in list(self.undecided):
            # Above these, whatever the clock says now.
            self._nonces[signed.sender] = max(self._nonces.get(signed.sender, 0), signed.tx.nonce)
            try:
                self._submit(signed.raw)
            except Refused as refused:
                # Most often it was decided just before the end.
                log.info("%s is not said again: %s", signed.tx.entry, refused)
                self._let_go(signed, refused)

    def overtaken(self) -> list[CheckedTransaction]:
        """Return what no block can take any more, because what was signed after it came first."""
        return [one for one in self.undecided if one.tx.nonce < self._decided.get(one.sender, 0)]

    def say_anew(self) -> None:
        """Sign overtaken readings again: one that is lost would count as nothing delivered.

        The market takes one reading of a slot at most. It would take an order twice, were the first
        in a block that a snapshot has jumped over; so orders are let go.
        """
        anew = []
        for old in self.overtaken():
            self._memory.drop(old.tx_id)
            valid_ms = old.tx.valid_until_ms
            if old.sender == self.meter.address and valid_ms > self._now_ms():
                args = {**old.tx.args, "sequence": self.next_nonce(self.meter)}
                call = client.Call(old.tx.contract, old.tx.entry, args)
                anew.append(self.sign(call, valid_ms, self.meter))
        if anew:
            self.say_all(anew)

    def _let_go(self, signed: CheckedTransaction, refused: Refused) -> None:
        # A reading there was no room for is signed again once the next one is decided.
        if refused.code not in NO_ROOM or signed.sender != self.meter.address:
            self._memory.drop(signed.tx_id)

    def _count(self, code: str) -> None:
        self.refused[code] = self.refused.get(code, 0) + 1
