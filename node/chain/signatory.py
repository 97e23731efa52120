"""What an authority says on a chain beside its votes: signed calls, and what became of them."""

import logging
from collections.abc import Callable, Sequence
from typing import Final

from consensus.messages import Block, Certificate
from market.app import BlockResult
from market.client import Call, sign_call
from node.home.trading import CALLS_AT_ONCE_MAX
from node.pool.mempool import PER_SENDER_MAX
from node.tiers import Tier
from wire.transaction import Refused

log = logging.getLogger("commonwatt.signatory")

# How long a call may wait for a block.
VALID_MS: Final = 60_000
# Calls that were handed in and of which no receipt has come.
WAITING_MAX: Final = 64
# Beside a household, so many may wait for a block; the rest of its account's places are its own.
PENDING_MAX: Final = PER_SENDER_MAX - CALLS_AT_ONCE_MAX


class Signatory:
    """Signs calls of this node's account on one chain and hands them in.

    An account has one of them on a chain: its nonces rise.

    Parameters
    ----------
    there : Tier
        The chain, opened and not started.
    now_ms : callable
        Real time, UTC. [ms]
    next_nonce : callable, optional
        Gives the account's nonces, where its household uses the same account.
    """

    def __init__(
        self, there: Tier, now_ms: Callable[[], int], next_nonce: Callable[[], int] | None = None
    ) -> None:
        self._there = there
        self._now_ms = now_ms
        self._next_nonce = next_nonce or self._rise
        self._pending_max = PER_SENDER_MAX if next_nonce is None else PENDING_MAX
        self._nonce = 0
        self._waiting: dict[bytes, str] = {}
        there.chain.on_applied(self._applied)

    def hand_in(self, calls: Sequence[Call]) -> int:
        """Sign calls and hand them in, in their order; return how many were taken."""
        there = self._there
        room = self._pending_max - sum(map(self._pends, self._waiting))
        for done, call in enumerate(calls):
            if done >= room:
                return done
            until_ms = self._now_ms() + VALID_MS
            signed = sign_call(
                call, there.key, there.genesis.chain_id, self._next_nonce(), until_ms
            )
            try:
                there.mempool.submit(signed.raw)
            except Refused as refused:
                log.info("%s.%s is not taken: %s", call.contract, call.entry, refused)
                return done
            self._waiting[signed.tx_id] = f"{call.contract}.{call.entry}"
            while len(self._waiting) > WAITING_MAX:
                del self._waiting[next(iter(self._waiting))]
        return len(calls)

    def _pends(self, tx_id: bytes) -> bool:
        found = self._there.mempool.find(tx_id)
        return found is not None and found[1] is None

    def _rise(self) -> int:
        # They need only rise: by the clock they do so over restarts, too. The account's owner may
        # have signed with other ones, or by a clock that was ahead.
        known = max(self._nonce, self._there.app.nonce(self._there.key.address))
        self._nonce = max(known + 1, self._now_ms())
        return self._nonce

    def _applied(self, block: Block, certificate: Certificate, result: BlockResult) -> None:
        del block, certificate
        for receipt in result.receipts:
            entry = self._waiting.pop(receipt.tx_id, None)
            if entry is None or receipt.code == "ok":
                continue
            # Most often another authority was quicker.
            log.info("%s was refused: %s; %s", entry, receipt.reason, receipt.message)
