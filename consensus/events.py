"""What the driver tells the core (events) and what the core asks of the driver (effects).

The driver's duties:

1. Feed events one at a time to `Core.handle` and carry the returned effects out **in order**.
   An effect may not begin before every `Persist` before it is on the disk.
2. Call `EnterHeight(h)` when block h−1 is applied (at the start: for the height after the store's),
   and `BeginRounds(h)` when there is reason to make block h: the block interval has passed and
   there are transactions, a deadline, or the heartbeat.
3. Answer `BuildBlock` with `BlockBuilt` (executed, so its roots are right; `header.time_ms` the
   clock, at least the parent's + 1; `header.proposer` this node) and `CheckBlock` with
   `BlockChecked`, whenever they are ready. `valid` must be a function of the chain alone
   (`validate.check_block`, then execution): the same on every node, whatever the time.
4. Give each received message the wall clock of its arrival, and its sender's index in
   `core.authorities` at that moment. A stranger's messages are not for the core.
"""

from typing import Final, TypeAlias

import msgspec

from consensus.authorities import AuthoritySet
from consensus.messages import Block, Certificate, ConsensusMessage, Decided, Evidence
from consensus.params import Params
from consensus.wal import WalRecord


class _Plain(msgspec.Struct, frozen=True):
    pass


# Timer kinds. The vote timers have the number of the step they end.
TIMER_PROPOSE: Final = 0
TIMER_PREVOTE: Final = 1
TIMER_PRECOMMIT: Final = 2
TIMER_SUMMARY: Final = 3


class Timer(_Plain, frozen=True):
    """A timer's name. `TIMER_SUMMARY` has no height and round (0, 0) and runs all the time."""

    kind: int
    height: int
    round: int


# -- events


class EnterHeight(_Plain, frozen=True):
    """The previous block is applied; `authorities` decide this height. Heights only rise.

    `parent` is that block with its certificate, for peers that have not decided it yet: after a
    restart the core would not have it, and if few others do, they would wait for ever. Genesis
    has none. `behind` says that later blocks may exist: while the duty of R22 lasts, the height
    does not count. `params` replace the core's from this height on.
    """

    height: int
    authorities: AuthoritySet
    parent: Decided | None = None
    behind: bool = False
    params: Params | None = None


class BeginRounds(_Plain, frozen=True):
    """There is reason to make this height's block now. Ignored if the rounds have begun."""

    height: int


class Received(_Plain, frozen=True):
    """A decoded message from authority `sender`, arrived at `now_ms` by this node's clock."""

    message: ConsensusMessage
    sender: int
    now_ms: int


class TimerFired(_Plain, frozen=True):
    """A timer's time has come. Timers of rounds gone by may fire; they do nothing."""

    timer: Timer


class BlockBuilt(_Plain, frozen=True):
    """The answer to `BuildBlock`; ignored if the round has passed."""

    height: int
    round: int
    block: Block


class BlockChecked(_Plain, frozen=True):
    """The answer to `CheckBlock`: whether the block follows its parent and its roots are right."""

    height: int
    block_hash: bytes
    valid: bool


Event: TypeAlias = EnterHeight | BeginRounds | Received | TimerFired | BlockBuilt | BlockChecked


# -- effects


class Persist(_Plain, frozen=True):
    """Append the record to the WAL and make it durable before any later effect."""

    record: WalRecord


class Broadcast(_Plain, frozen=True):
    """Send to every other authority of the current height."""

    message: ConsensusMessage


class Send(_Plain, frozen=True):
    """Send to one authority."""

    to: int
    message: ConsensusMessage


class SetTimer(_Plain, frozen=True):
    """Answer `TimerFired(timer)` after `delay_ms`."""

    timer: Timer
    delay_ms: int


class BuildBlock(_Plain, frozen=True):
    """Make and execute a block for this round; answer `BlockBuilt`."""

    height: int
    round: int


class CheckBlock(_Plain, frozen=True):
    """Check and execute the block; answer `BlockChecked`. Asked once per block hash.

    The body belongs to the header (`validate.body_problem` is None) and chain, epoch and height
    are right; nothing else is known of it.
    """

    block: Block
    block_hash: bytes
    round: int


class Decide(_Plain, frozen=True):
    """The block is final. Apply it, then `EnterHeight` the next."""

    block: Block
    certificate: Certificate


class ReportEvidence(_Plain, frozen=True):
    """Proof against an authority, to be gossiped and put into a block."""

    evidence: Evidence


class Misbehaved(_Plain, frozen=True):
    """`sender` sent what no honest authority sends; count it against the peer."""

    sender: int
    reason: str


Effect: TypeAlias = (
    Persist
    | Broadcast
    | Send
    | SetTimer
    | BuildBlock
    | CheckBlock
    | Decide
    | ReportEvidence
    | Misbehaved
)
