"""How large a block may be to be executed in time.

A block that takes longer to execute than the proposal's timer runs gets no votes: the round is
lost, the next block is larger still, and a street under too much load would decide nothing at all.
So who proposes takes only as many transactions as it can expect everybody to execute in time,
judged by how long the last blocks took here.
"""

from typing import Final

from node.genesis import ChainParams

# The share of the proposal's timer that executing a block may take here. It is executed twice in a
# round, first by who builds it, and others may be slower than we.
TIMER_SHARE: Final = 0.4
# What a transaction is expected to take before any has been executed. [s]
FIRST_GUESS_S: Final = 0.0005
# Blocks of fewer tell more of what a block costs than of what a transaction does.
TELLING_TRANSACTIONS: Final = 32
# The weight of the last block in the estimate: one slow block is no reason to propose small ones.
WEIGHT: Final = 0.3
TRANSACTIONS_MIN: Final = 16


class Pace:
    """An estimate of what a transaction takes, and the block size that follows from it."""

    def __init__(self) -> None:
        self.transaction_s = FIRST_GUESS_S

    def executed(self, transactions: int, taken_s: float) -> None:
        """Learn how long a block took, from being handed over until its result was here."""
        if transactions < TELLING_TRANSACTIONS:
            return
        self.transaction_s += WEIGHT * (taken_s / transactions - self.transaction_s)

    def transactions_max(self, params: ChainParams, round_: int) -> int:
        """Return how many transactions to propose; half as many after each round that failed."""
        budget_ms = TIMER_SHARE * params.consensus.propose_timeout_ms(0)
        affordable = int(budget_ms / 1000 / self.transaction_s) >> min(round_, 16)
        return min(max(affordable, TRANSACTIONS_MIN), params.block_transactions_max)
