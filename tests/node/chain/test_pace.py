"""How large a block may be, judged by how long the last ones took."""

import msgspec

from consensus.params import Params
from node.chain.pace import FIRST_GUESS_S, TIMER_SHARE, TRANSACTIONS_MIN, Pace
from node.genesis import ChainParams

CHAIN = ChainParams()
BUDGET_S = TIMER_SHARE * CHAIN.consensus.propose_ms / 1_000


def paced(transaction_s: float) -> Pace:
    """Return a pace that has seen many blocks with this time per transaction."""
    pace = Pace()
    for _ in range(100):
        pace.executed(1_000, 1_000 * transaction_s)
    return pace


def test_a_block_is_as_large_as_can_be_executed_in_its_share_of_the_timer() -> None:
    assert Pace().transactions_max(CHAIN, 0) == int(BUDGET_S / FIRST_GUESS_S)
    for transaction_s in (0.0002, 0.001, 0.01):
        count = paced(transaction_s).transactions_max(CHAIN, 0)
        assert abs(count * transaction_s - BUDGET_S) <= 1.01 * transaction_s
    patient = msgspec.structs.replace(CHAIN, consensus=Params(propose_ms=3_000))
    assert abs(paced(0.001).transactions_max(patient, 0) - 1_200) <= 1


def test_blocks_become_smaller_when_they_take_longer_and_large_again_after() -> None:
    pace = paced(0.0002)
    before = pace.transactions_max(CHAIN, 0)
    pace.executed(1_000, 1.0)
    slow = pace.transactions_max(CHAIN, 0)
    assert before / 5 < slow < before / 2
    pace.executed(1_000, 0.2)
    assert slow < pace.transactions_max(CHAIN, 0) < before
    for _ in range(30):
        pace.executed(1_000, 0.2)
    assert before - pace.transactions_max(CHAIN, 0) <= 1


def test_each_round_that_failed_halves_the_block() -> None:
    counts = [paced(0.0005).transactions_max(CHAIN, round_) for round_ in (0, 1, 2, 2**31 - 1)]
    assert counts[1] == counts[0] // 2
    assert counts[2] == counts[0] // 4
    assert counts[3] == TRANSACTIONS_MIN


def test_the_chain_s_bound_holds_and_something_is_always_proposed() -> None:
    assert paced(1e-9).transactions_max(CHAIN, 0) == CHAIN.block_transactions_max
    assert paced(100.0).transactions_max(CHAIN, 0) == TRANSACTIONS_MIN


def test_a_block_of_few_teaches_nothing() -> None:
    pace = paced(0.0005)
    before = pace.transaction_s
    pace.executed(0, 1.0)
    pace.executed(3, 1.0)
    assert pace.transaction_s == before
