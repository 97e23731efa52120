"""The simulated network: delay, loss, duplicates, replay, partitions, omission by link."""

from random import Random
from typing import TYPE_CHECKING

from consensus.messages import NIL, ConsensusMessage, Proposal, Vote

if TYPE_CHECKING:
    from tests.sim.world import World

REPLAYED_MAX = 64
DUEL_HEIGHTS = 1
DUELS_SHARE = 0.7


class Faults:
    """Which faults a run has; drawn from its seed, or all off.

    Two kinds of runs. *Chaos*: anything may happen at any time over many heights. *Duel*: in the
    first rounds of the first heights each kind of message is lost by link, and little else goes
    wrong; that is where locks and proofs of lock must hold, and a run is short.
    """

    def __init__(self, rng: Random | None = None) -> None:
        self.drop = self.duplicate = self.replay = self.slow = self.drift = 0.0
        self.partitions = self.crashes = self.rot = self.wipe = self.torn = False
        self.duel_rounds = 0
        self.skew_ms = 0
        if rng is None:
            return
        self.torn = rng.random() < 0.5
        if rng.random() < DUELS_SHARE:
            self.duel_rounds = rng.randint(1, 7)
            self.crashes = rng.random() < 0.4
            self.rot = self.crashes and rng.random() < 0.4
            return
        # Swarm testing: each run has some faults, not all, so that they cannot mask each other.
        self.drop = rng.choice((0.0, 0.0, 0.02, 0.1, 0.3))
        self.duplicate = rng.choice((0.0, 0.0, 0.05, 0.2))
        self.replay = rng.choice((0.0, 0.0, 0.05))
        self.slow = rng.choice((0.0, 0.0, 0.1, 0.3))
        self.partitions = rng.random() < 0.4
        self.crashes = rng.random() < 0.5
        self.rot = rng.random() < 0.3
        self.wipe = rng.random() < 0.2
        self.skew_ms = rng.choice((0, 0, 100, 400, 3_000))
        self.drift = rng.choice((0.0, 0.02, 0.2))


class Network:
    """Decides for each message between two slots when it arrives, if it does."""

    def __init__(self, world: "World", faults: Faults) -> None:
        self._world = world
        self._rng = world.rng
        self.faults = faults
        self.healed = False
        self.groups: list[int] | None = None
        self._lost: dict[tuple[int, int, int], set[tuple[int, int]]] = {}
        self._old: list[ConsensusMessage] = []

    def heal(self) -> None:
        """From now on everything arrives within 60 ms."""
        self.healed = True
        self.groups = None

    def connected(self, a: int, b: int) -> bool:
        """Tell whether a request from a to b gets through now."""
        if self.healed:
            return True
        if self.groups is not None and self.groups[a] != self.groups[b]:
            return False
        return self._rng.random() >= self.faults.drop

    def send(self, a: int, b: int, message: ConsensusMessage, lie: bool = False) -> None:
        """Carry a message from slot a to slot b. Lies are not replayed: others would be blamed."""
        rng, world, faults = self._rng, self._world, self.faults
        world.messages += 1
        if self.healed:
            world.deliver(a, b, message, 5 + int(55 * rng.random()))
            return
        if self.groups is not None and self.groups[a] != self.groups[b]:
            return
        if faults.drop and rng.random() < faults.drop:
            return
        if faults.duel_rounds and self._omits(a, b, message):
            return
        delay_ms = 5 + int(55 * rng.random())
        if faults.slow and rng.random() < faults.slow:
            delay_ms = int(4_000 * rng.random() ** 2)
        world.deliver(a, b, message, delay_ms)
        if faults.duplicate and rng.random() < faults.duplicate:
            world.deliver(a, b, message, delay_ms + rng.randrange(2_000))
        if faults.replay and not lie:
            self._replay(b, message)

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

    def _omits(self, a: int, b: int, message: ConsensusMessage) -> bool:
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
