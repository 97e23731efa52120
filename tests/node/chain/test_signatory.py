"""What an authority says beside its votes leaves room for what its household says."""

import itertools
from types import SimpleNamespace
from typing import Any

from market.client import regions
from node.chain.signatory import PENDING_MAX, Signatory
from node.pool.mempool import PER_SENDER_MAX, Mempool
from node.pool.verifier import TransactionVerifier
from tests.node.grid import key_of, make_genesis, now_ms


async def nobody(batch: bytes) -> None:
    """Gossip to nobody."""


def test_what_waits_for_a_block_is_not_said_again_without_end() -> None:
    genesis = make_genesis()
    pool = Mempool(
        TransactionVerifier(genesis.chain_id), lambda one: None, nobody, now_ms, lambda: None
    )
    there: Any = SimpleNamespace(
        key=key_of(1),
        genesis=genesis,
        mempool=pool,
        app=SimpleNamespace(nonce=lambda address: 0),
        chain=SimpleNamespace(on_applied=lambda listener: None),
    )
    nonces = itertools.count(now_ms())
    one = Signatory(there, now_ms, lambda: next(nonces))
    calls = [regions.approve(number) for number in range(1, 9)]
    taken = [one.hand_in(calls) for _ in range(PENDING_MAX // len(calls) + 3)]
    assert sum(taken) == len(pool) == PENDING_MAX < PER_SENDER_MAX
    assert pool.refused == {}
    # What a block has decided makes room.
    pool.decided([waiting.tx_id for waiting in pool.pending()[:3]])
    assert one.hand_in(calls) == 3
    assert len(pool) == PENDING_MAX
