"""The times and limits of agreement that a chain's genesis or governance may set."""

from typing import Final

from wire.codec import Message

# Messages of rounds further ahead than this are refused: nobody honest is there.
ROUNDS_AHEAD_MAX: Final = 1_000
# Of whom nothing has been heard over two of its turns, a proposal is awaited this much shorter.
ABSENT_SHARE: Final = 5


class Params(Message, frozen=True, tag="cpr"):
    """Timers [ms] and time rules [ms] of one chain. The defaults suit a neighbourhood.

    A round's timer is `base + growth · round`, at most `timeout_max_ms`. The two bounds on a fresh
    proposal's time grow by `time_growth_ms` per round up to `time_bound_max_ms`, so that badly set
    clocks slow agreement down but cannot stop it.
    """

    propose_ms: int = 1_500
    propose_growth_ms: int = 500
    vote_ms: int = 700
    vote_growth_ms: int = 300
    timeout_max_ms: int = 15_000
    summary_ms: int = 500
    precision_ms: int = 500
    age_ms: int = 5_000
    time_growth_ms: int = 500
    time_bound_max_ms: int = 15_000

    def propose_timeout_ms(self, round_: int) -> int:
        """How long to wait for a round's proposal."""
        return min(self.propose_ms + self.propose_growth_ms * round_, self.timeout_max_ms)

    def absent_timeout_ms(self) -> int:
        """How long to wait for the proposal of an authority that seems away (R32)."""
        return min(self.propose_ms, self.timeout_max_ms) // ABSENT_SHARE

    def vote_timeout_ms(self, round_: int) -> int:
        """How long to wait for more votes once a quorum has voted without agreeing."""
        return min(self.vote_ms + self.vote_growth_ms * round_, self.timeout_max_ms)
