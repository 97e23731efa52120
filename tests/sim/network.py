"""The simulated network: delay, loss, reordering, duplicates, replay, partitions, omission."""

from random import Random
from typing import TYPE_CHECKING, Any

from consensus.messages import NIL, ConsensusMessage, Proposal, Vote
from tests.sim.faults import DUEL_HEIGHTS, Faults

if TYPE_CHECKING:
    from tests.sim.world import World

REPLAYED_MAX = 64
LATENCY_MS = 5
JITTER_MS = 55
SLOW_MS = 4_000


class Network:
    """Decides for each message between two slots when it arrives, if it does.

    Messages are those of the core, or tuples: gossip, and questions and answers of sync.
    """

    def __init__(self, world: "World", faults: Faults) -> None:
        self._world = world
        self._rng: Random = world.rng
        self.faults = faults
        self.healed = False
        self.groups: list[int] | None = None
        self._lost: dict[tuple[int, int, int], set[tuple[int, int]]] = {}
        self._old: list[ConsensusMessage] = []
        # When the last message of a link arrives, where links keep the order.
        self._arrivals: dict[tuple[int, int], int] = {}

    @property
    def omits(self) -> bool:
        """Whether all but votes and proposals is lost just now."""
        return self.faults.duel_rounds > 0 and not self.healed

    def heal(self) -> None:
        """From now on everything arrives within 60 ms."""
        self.healed = True
        self.groups = None

    def send(
        self, a: int, b: int, message: ConsensusMessage | tuple[Any, ...], lie: bool = False
    ) -> None:
        """Carry a message from slot a to slot b. Lies are not replayed: others would be blamed."""
        rng, world, faults = self._rng, self._world, self.faults
        world.messages += 1
        if self.healed:
            world.deliver(a, b, message, LATENCY_MS + int(JITTER_MS * rng.random()))
            return
        if self.groups is not None and self.groups[a] != self.groups[b]:
            return
        if faults.drop and rng.random() < faults.drop:
            return
        if faults.duel_rounds and self._omits(a, b, message):
            return
        delay_ms = LATENCY_MS + int(JITTER_MS * rng.random())
        if faults.slow and rng.random() < faults.slow:
            delay_ms = int(SLOW_MS * rng.random() ** 2)
        if not faults.reorder:
            arrival = max(world.now_ms + delay_ms, self._arrivals.get((a, b), 0))
            self._arrivals[a, b] = arrival
            delay_ms = arrival - world.now_ms
        world.deliver(a, b, message, delay_ms)
        if faults.duplicate and rng.random() < faults.duplicate:
            world.deliver(a, b, message, delay_ms + rng.randrange(2_000))
        if faults.replay and not lie and type(message) is not tuple:
            self._replay(b, message)  # type: ignore[arg-type]

    def _replay(self, b: int, message: ConsensusMessage) -> None:
        rng = self._rng
        if len(self._old) < REPLAYED_MAX:
            self._old.append(message)
        else:
            self._old[rng.randrange(REPLAYED_MAX)] = message
        if rng.random() < self.faults.replay:
            sender = rng.randrange(len(self._world.nodes))
            if sender != b:
                self._world.deliver(sender, b, rng.choice(self._old), rng.randrange(5_000))

    def _omits(self, a: int, b: int, message: ConsensusMessage | tuple[Any, ...]) -> bool:
        """Lose, by link, all of one kind of message of one round.

        Nil votes pass, so that rounds go on; repair does not, as it would undo the omission.
        """
        if type(message) is Vote:
            if message.block_hash == NIL:
                return False
            key = (message.height, message.round, message.kind)
        elif type(message) is Proposal:
            key = (message.height, message.round, 0)
        else:
            return True
        if message.height > DUEL_HEIGHTS or message.round >= self.faults.duel_rounds:
            return False
        lost = self._lost.get(key)
        if lost is None:
            lost = self._lost[key] = self._draw_lost()
        return (a, b) in lost

    def _draw_lost(self) -> set[tuple[int, int]]:
        rng = self._rng
        slots = range(len(self._world.nodes))
        style = rng.random()
        if style < 0.2:
            return set()
        if style < 0.4:
            sides = [rng.randint(0, 1 if style < 0.35 else 2) for _ in slots]
            return {(a, b) for a in slots for b in slots if sides[a] != sides[b]}
        share = rng.choice((0.2, 0.35, 0.7))
        if style < 0.6:
            return {(a, b) for a in slots for b in slots if rng.random() < share}
        # Some see everything, the others little: one may lock, or decide, alone.
        seeing = {slot for slot in slots if rng.random() < share}
        return {(a, b) for a in slots for b in slots if b not in seeing and rng.random() < 0.6}
