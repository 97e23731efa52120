"""The simulated world: one clock, one queue of what is to come, one source of chance."""

import heapq
import itertools
from collections.abc import Iterable
from random import Random
from typing import NamedTuple

import msgspec

from consensus.authorities import AuthoritySet
from consensus.core import Core
from consensus.events import Effect
from consensus.messages import Block, ConsensusMessage, Header, decode_message, header_hash
from consensus.params import Params
from consensus.wal import WalRecord
from tests.sim import keys
from tests.sim.checks import Checker, Violation
from tests.sim.network import DUEL_HEIGHTS, Faults, Network
from tests.sim.node import SimNode, genesis_block, is_valid, state_after
from wire.codec import encode

CHAIN_ID = "simulated"
BLOCK_INTERVAL_MS = 1_000
CHAOS_MS = 30_000
DUEL_MS = 40_000
DUEL_SUMMARY_MS = 4_000
HEALING_MS = 400_000
HEIGHTS_AFTER_HEALING = 2
# Nobody's crash lasts longer, except that of those who are dead.
DOWN_MS_MAX = 12_000
DUEL_DOWN_MS_MAX = 2_000


class Faithless(Core):
    """A faulty authority that keeps no lock."""

    def _may_prevote(self, hash_: bytes, valid_round: int) -> bool:
        return True


class Mutation:
    """How a mutant differs; the real thing by default."""

    core: type[Core] = Core

    def recovered(self, records: list[WalRecord]) -> list[WalRecord]:
        """What the core gets to see of the WAL."""
        return records

    def reordered(self, effects: list[Effect]) -> Iterable[Effect]:
        """The order in which the driver carries effects out."""
        return effects


class Result(NamedTuple):
    """One run: what went wrong, if anything, and how much happened."""

    seed: int
    nodes: int
    violation: str | None
    heights: int
    messages: int
    simulated_ms: int
    evidence: int


class World:
    """One run. Everything in it follows from `seed` (and `n`, and the options)."""

    chain_id = CHAIN_ID

    def __init__(
        self,
        seed: int,
        n: int,
        faults: Faults | None = None,
        mutation: Mutation | None = None,
        twins: int | None = None,
        params: Params | None = None,
    ) -> None:
        self.seed = seed
        self.n = n
        self.rng = Random(seed * 1_000 + n)
        self.mutation = mutation or Mutation()
        self.now_ms = 1_000_000
        self.messages = 0
        self._queue: list[tuple[int, int, int, int, object]] = []
        self._counter = itertools.count()
        self._valid: dict[tuple[bytes, bytes], bool] = {}
        self._sets: dict[int, AuthoritySet] = {}
        rng = self.rng
        f = (n - 1) // 3
        faults = faults if faults is not None else Faults(rng)
        self.params = params or Params()
        if faults.duel_rounds and params is None:
            self.params = msgspec.structs.replace(self.params, summary_ms=DUEL_SUMMARY_MS)
        twins = twins if twins is not None else rng.randint(0, f)
        budget = f - twins
        dead = rng.randint(0, budget) if faults.crashes else 0
        self.frail = rng.randint(0, budget - dead) if faults.rot or faults.wipe else 0
        self.epoch_heights = rng.choice((0, 0, 3))
        self.publics = [keys.public_of(index) for index in range(n)]
        self.genesis = genesis_block(CHAIN_ID, self.authorities(0), self.authorities(1))
        self.network = Network(self, faults)
        order = list(range(n))
        rng.shuffle(order)
        self.twin_slots = order[:twins]
        self.dead_slots = set(order[twins : twins + dead])
        self.frail_slots = order[twins + dead : twins + dead + self.frail]
        honest = {self.publics[slot] for slot in order[twins:]}
        self.checker = Checker(CHAIN_ID, honest)
        self.nodes = [SimNode(self, slot, self.publics[slot], 0) for slot in range(n)]
        for slot in self.twin_slots:
            self.nodes.append(SimNode(self, len(self.nodes), self.publics[slot], 1))
        for node in self.nodes:
            node.skew_ms = rng.randint(-faults.skew_ms, faults.skew_ms)
            node.is_honest = node.public in honest
            node.lies = not node.is_honest and rng.random() < 0.5
            node.speed = 1 + faults.drift * (2 * rng.random() - 1)
        self.ahead_ms_max = self.params.time_bound_max_ms + faults.skew_ms
        self.lazy = {node.slot for node in self.nodes if rng.random() < 0.2}

    # -- what nodes use

    def authorities(self, height: int) -> AuthoritySet:
        """The set that decides a height; in some runs its order changes with the epoch."""
        epoch = height // self.epoch_heights if self.epoch_heights else 0
        known = self._sets.get(epoch)
        if known is None:
            turn = epoch % self.n
            publics = tuple(self.publics[turn:] + self.publics[:turn])
            known = self._sets[epoch] = AuthoritySet(epoch, publics)
        return known

    def make_core(self, node: SimNode) -> Core:
        """Make a node's core, or a mutant."""
        kind = self.mutation.core
        if not node.is_honest and node.slot % 2:
            kind = Faithless
        return kind(CHAIN_ID, node.public, keys.signer_of(node.public), keys.verify, self.params)

    def recovered(self, records: list[WalRecord]) -> list[WalRecord]:
        return self.mutation.recovered(records)

    def reordered(self, effects: list[Effect]) -> Iterable[Effect]:
        return self.mutation.reordered(effects)

    def header_after(self, parent: Header, **fields: object) -> Header:
        """Make a child's header of its parent's."""
        height = parent.height + 1
        return msgspec.structs.replace(
            parent,
            epoch=self.authorities(height).epoch,
            height=height,
            parent_hash=header_hash(parent),
            state_root=state_after(parent, fields["tx_root"]),  # type: ignore[arg-type]
            authorities_hash=self.authorities(height).hash,
            next_authorities_hash=self.authorities(height + 1).hash,
            **fields,
        )

    def is_valid(self, block: Block, hash_: bytes, parent: Header) -> bool:
        """Check a block; every node would find the same, so it is worked out once."""
        key = (hash_, header_hash(parent))
        valid = self._valid.get(key)
        if valid is None:
            authorities = self.authorities(parent.height + 1)
            valid = self._valid[key] = is_valid(block, parent, authorities, self._sets)
        return valid

    def work_ms(self) -> int:
        """How long building, checking or applying a block takes."""
        return 1 + int(30 * self.rng.random())

    def begin_delay_ms(self, node: SimNode) -> int | None:
        """When a node's driver wants the next block; None: it waits for others to begin."""
        if node.slot in self.lazy and not self.network.healed:
            return None
        parent_ms = node.chain[-1][0].header.time_ms
        return max(0, parent_ms + BLOCK_INTERVAL_MS - node.now_ms) if parent_ms else 0

    def deliver(self, a: int, b: int, message: ConsensusMessage, delay_ms: int) -> None:
        """Put a message into the queue; it is lost if b is down when it arrives."""
        if self.rng.random() < 0.002:
            message = decode_message(encode(message))
        item = (self.now_ms + delay_ms, next(self._counter), b, a, message)
        heapq.heappush(self._queue, item)

    def schedule(self, node: SimNode, delay_ms: int, what: tuple) -> None:  # type: ignore[type-arg]
        """Wake a node, if it is still the same process then."""
        item = (self.now_ms + delay_ms, next(self._counter), node.slot, -1, (node.generation, what))
        heapq.heappush(self._queue, item)

    def crashed(self, node: SimNode) -> None:
        """A fuse has burnt down: the process dies here and comes back later."""
        node.crash()
        if node.slot in self.dead_slots and self.rng.random() < 0.3:
            return
        self._later(self._down_ms(), ("up", node.slot))

    def _down_ms(self) -> int:
        longest_ms = DUEL_DOWN_MS_MAX if self.network.faults.duel_rounds else DOWN_MS_MAX
        return self.rng.randint(100, longest_ms)

    # -- the run

    def run(self) -> Result:
        """Run the faulty phase, heal, and demand progress."""
        start_ms = self.now_ms
        violation = None
        try:
            for node in self.nodes:
                node.boot()
            self._later(self.rng.randint(500, 4_000), ("nemesis",))
            if self.network.faults.duel_rounds:
                self._run_until(start_ms + DUEL_MS, DUEL_HEIGHTS)
            else:
                self._run_until(start_ms + CHAOS_MS, None)
            self._heal()
            goal = self._goal()
            if not self._run_until(self.now_ms + HEALING_MS, goal):
                raise Violation(self._stuck(goal))
        except Violation as error:
            violation = str(error)
        except Exception as error:
            violation = f"{type(error).__name__}: {error}"
        heights = max(len(node.chain) for node in self.nodes) - 1
        simulated_ms = self.now_ms - start_ms
        return Result(
            self.seed, self.n, violation, heights, self.messages, simulated_ms,
            self.checker.evidence,
        )  # fmt: skip

    def _run_until(self, end_ms: int, goal: int | None) -> bool:
        """Run until the time, or until all who live have applied height `goal`; tell if so."""
        queue, nodes = self._queue, self.nodes
        while queue and queue[0][0] <= end_ms:
            self.now_ms, _, slot, sender, what = heapq.heappop(queue)
            if slot < 0:
                self._world_event(what)  # type: ignore[arg-type]
                continue
            node = nodes[slot]
            if not node.up:
                continue
            if sender >= 0:
                node.receive(what, nodes[sender].public)  # type: ignore[arg-type]
            elif what[0] == node.generation:  # type: ignore[index]
                node.fire(what[1])  # type: ignore[index]
                if goal is not None and what[1][0] == "apply" and self._reached(goal):  # type: ignore[index]
                    return True
        self.now_ms = end_ms
        return False

    def _stuck(self, goal: int) -> str:
        states = [
            f"{node}: height {node.core.height} round {node.core.round} "
            f"step {node.core.step} locked {node.core.locked_round}"
            for node in self._living()
            if len(node.chain) <= goal
        ]
        return f"liveness: {HEALING_MS} ms after healing, not at {goal}: {states}"

    def _living(self) -> list[SimNode]:
        return [node for node in self.nodes if node.slot not in self.dead_slots and node.is_honest]

    def _goal(self) -> int:
        return max(len(node.chain) for node in self.nodes) - 1 + HEIGHTS_AFTER_HEALING

    def _reached(self, goal: int) -> bool:
        return all(len(node.chain) > goal for node in self._living())

    def _heal(self) -> None:
        self.network.heal()
        for node in self.nodes:
            node.fuse = None
            if node.slot in self.dead_slots:
                if node.up:
                    node.crash()
            elif not node.up:
                node.boot()
            elif not node.core.decided:
                self.schedule(node, BLOCK_INTERVAL_MS, ("begin", node.core.height))

    # -- the nemesis

    def _later(self, delay_ms: int, what: tuple) -> None:  # type: ignore[type-arg]
        heapq.heappush(self._queue, (self.now_ms + delay_ms, next(self._counter), -1, -1, what))

    def _world_event(self, what: tuple) -> None:  # type: ignore[type-arg]
        if self.network.healed:
            return
        if what[0] == "up":
            node = self.nodes[what[1]]
            if not node.up:
                node.boot()
            return
        if self.network.faults.duel_rounds:
            self._harm_duellist()
            self._later(self.rng.randint(200, 3_000), ("nemesis",))
        else:
            self._do_harm()
            self._later(self.rng.randint(500, 6_000), ("nemesis",))

    def _harm_duellist(self) -> None:
        rng, faults = self.rng, self.network.faults
        if not faults.crashes:
            return
        if faults.rot and self.frail_slots and rng.random() < 0.4:
            self._damage(wipe=False)
            return
        node = rng.choice(self.nodes)
        if node.up:
            node.fuse = rng.randrange(8)

    def _do_harm(self) -> None:
        rng, faults = self.rng, self.network.faults
        choice = rng.random()
        if choice < 0.3 and faults.partitions:
            self.network.groups = [rng.randint(0, 1) for _ in self.nodes]
        elif choice < 0.5:
            self.network.groups = None
        elif choice < 0.85 and faults.crashes:
            node = rng.choice(self.nodes)
            if node.up:
                node.fuse = rng.randrange(40)
        elif choice < 0.95 and faults.rot and self.frail_slots:
            self._damage(wipe=False)
        elif faults.wipe and self.frail_slots:
            self._damage(wipe=True)

    def _damage(self, wipe: bool) -> None:
        node = self.nodes[self.rng.choice(self.frail_slots)]
        if node.up:
            node.crash()
            self._later(self._down_ms(), ("up", node.slot))
        if wipe:
            node.wipe()
        else:
            node.disk.rot(self.rng)


def run_seed(seed: int, n: int, mutation: Mutation | None = None, kind: str = "any") -> Result:
    """Run one seed with the faults it draws, of any kind, or only `duel` or only `chaos`."""
    if kind == "any":
        return World(seed, n, mutation=mutation).run()
    rng = Random(seed)
    faults = Faults(rng)
    while (faults.duel_rounds > 0) != (kind == "duel"):
        faults = Faults(rng)
    return World(seed, n, faults=faults, mutation=mutation).run()
