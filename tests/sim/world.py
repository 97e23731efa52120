"""The simulated world: one clock, one queue of what is to come, one source of chance."""

import contextlib
import hashlib
import heapq
import itertools
from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple

import msgspec

from consensus import validate
from consensus.authorities import AuthoritySet
from consensus.core import Core
from consensus.errors import BlockRefused
from consensus.evidence import EVIDENCE_HEIGHTS_MAX
from consensus.messages import Block, ConsensusMessage, Header, decode_message
from consensus.params import Params
from consensus.snapshot import chunks_of, manifest_of
from consensus.sync_messages import Manifest
from tests.sim import keys
from tests.sim.app import Rules, State, first_state, genesis_block, state_of
from tests.sim.checks import Checker
from tests.sim.errors import Violation
from tests.sim.faults import DUEL_HEIGHTS, Faults, faults_of
from tests.sim.mutation import Mutation
from tests.sim.nemesis import Nemesis
from tests.sim.network import Network
from tests.sim.node import SimNode
from wire.codec import encode

CHAIN_ID = "simulated"
BLOCK_INTERVAL_MS = 1_000
CHAOS_MS = 30_000
DUEL_MS = 40_000
DUEL_SUMMARY_MS = 4_000
HEALING_MS = 400_000
HEIGHTS_AFTER_HEALING = 2
EPOCH_BLOCKS = 3
SHORT_WINDOW = 4
RECODED_SHARE = 0.002


class Faithless(Core):
    """A faulty authority that keeps no lock."""

    def _may_prevote(self, hash_: bytes, valid_round: int) -> bool:
        return True


class Result(NamedTuple):
    """One run: what went wrong, if anything, and how much happened."""

    seed: int
    nodes: int
    violation: str | None
    heights: int
    messages: int
    simulated_ms: int
    evidence: int
    convictions: int
    committed: int
    questions: int
    liars_dropped: int
    jumps: int


class World:
    """One run. Everything in it follows from `seed` (and `n`, and the options)."""

    chain_id = CHAIN_ID
    node_kind = SimNode
    epoch_length = EPOCH_BLOCKS
    block_interval_ms = BLOCK_INTERVAL_MS
    state_of = staticmethod(state_of)

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
        self.rng = rng = Random(seed * 1_000 + n)
        self.mutation = mutation or Mutation()
        self.now_ms = 1_000_000
        self.messages = 0
        self._queue: list[tuple[int, int, int, int, Any]] = []
        self._counter = itertools.count()
        self._executed: dict[tuple[bytes, bytes], State | None] = {}
        self._true: dict[tuple[bytes, bytes], State | None] = {}
        self._states: dict[bytes, tuple[Header, State]] = {}
        self._snapshots: dict[bytes, tuple[Manifest, list[bytes]]] = {}
        faults = faults if faults is not None else Faults(rng)
        self.params = params or Params()
        if faults.duel_rounds and params is None:
            self.params = msgspec.structs.replace(self.params, summary_ms=DUEL_SUMMARY_MS)
        self._draw_terms(faults)
        self._found()
        self.genesis = genesis_block(self.chain_id, self.first_state.seats, self.first_state.root)
        self.network = Network(self, faults)
        self.nemesis = Nemesis(self)
        self._cast(faults, twins)

    def _found(self) -> None:
        """Say who decides the first heights, over which state, by which rules."""
        self.publics = [keys.public_of(index) for index in range(self.n)]
        self.first_state = first_state(self.publics)
        terms = (self.chain_id, self.epoch_blocks, self.evidence_window)
        self.rules: Rules = self.mutation.rules(*terms)
        self._true_rules = self.rules if self.rules.is_shared else Rules(*terms)

    def _draw_terms(self, faults: Faults) -> None:
        rng = self.rng
        self.epoch_blocks = self.epoch_length if faults.epochs else 0
        self.has_short_window = faults.lies and rng.random() < 0.3
        self.evidence_window = SHORT_WINDOW if self.has_short_window else EVIDENCE_HEIGHTS_MAX
        self.snapshot_every = rng.choice((0, 2, 5))
        self.snapshot_behind = rng.choice((0, 2, 4))
        # Whether who is behind by one height waits for its peers to repair that (R24).
        self.is_patient = faults.duel_rounds > 0 and rng.random() < 0.5
        self.bulky_bytes = rng.choice((0, 2_000, 20_000))
        self.lying_share = rng.choice((0.1, 0.5, 1.0))

    def _cast(self, faults: Faults, twins: int | None) -> None:
        """Say who is faulty, and how: at most f, together."""
        rng, n = self.rng, self.n
        f = (n - 1) // 3
        if twins is None:
            twins = rng.randint(min(faults.faulty_min, f), f) if faults.twins or faults.lies else 0
        budget = f - twins
        dead = rng.randint(0, budget) if faults.crashes else 0
        frail = rng.randint(0, budget - dead) if faults.rot or faults.wipe or faults.torn else 0
        order = list(range(n))
        rng.shuffle(order)
        self.faulty_slots = order[:twins]
        self.dead_slots = set(order[twins : twins + dead])
        self.frail_slots = order[twins + dead : twins + dead + frail]
        honest = {self.publics[slot] for slot in order[twins:]}
        self.checker = Checker(self._true_rules, honest, self.first_state)
        kind = self.node_kind
        self.nodes = [kind(self, slot, self.publics[slot], 0) for slot in range(n)]
        for slot in self.faulty_slots:
            if faults.twins or not faults.lies:
                self.nodes.append(kind(self, len(self.nodes), self.publics[slot], 1))
        for node in self.nodes:
            node.skew_ms = rng.randint(-faults.skew_ms, faults.skew_ms)
            node.is_honest = node.public in honest
            node.is_frail = node.slot in self.frail_slots
            is_liar = rng.random() < 0.5 if faults.twins else True
            node.lies = faults.lies and not node.is_honest and is_liar
            node.speed = 1 + faults.drift * (2 * rng.random() - 1)
        self.ahead_ms_max = self.params.time_bound_max_ms + faults.skew_ms
        self.lazy = {node.slot for node in self.nodes if faults.lazy and rng.random() < 0.2}

    # -- what nodes use

    def authorities(self, height: int) -> AuthoritySet:
        """The set that decides a height, as far as the chain has come."""
        newest = max(self.nodes, key=lambda node: node.height).database.state
        return newest.set_of_epoch(self.rules.epoch_of(height)) or newest.seats

    def make_core(self, node: SimNode) -> Core:
        """Make a node's core, or a mutant."""
        kind = self.mutation.core
        if not node.is_honest and node.slot % 2:
            kind = Faithless
        signer = keys.signer_of(node.public)
        return kind(self.chain_id, node.public, signer, keys.verify, self.params)

    def execute(self, state: State, parent: Header, block: Block, hash_: bytes) -> State | None:
        """Check and execute a block on a state; None if it may not follow.

        Every node would find the same, so it is worked out once.
        """
        return execute_once(self._executed, self.rules, state, parent, block, hash_)

    def truth(self, state: State, parent: Header, block: Block, hash_: bytes) -> State | None:
        """The same by the true rules, for the checker."""
        known = self._executed if self._true_rules is self.rules else self._true
        return execute_once(known, self._true_rules, state, parent, block, hash_)

    def keep_state(self, block_hash: bytes, header: Header, state: State) -> None:
        """Remember a state of which somebody offers a snapshot."""
        self._states[block_hash] = (header, state)

    def snapshot(self, block_hash: bytes) -> tuple[Manifest, list[bytes]]:
        """Return a snapshot: made when somebody asks, as every node would make it."""
        found = self._snapshots.get(block_hash)
        if found is None:
            header, state = self._states[block_hash]
            chunks = list(chunks_of(state.pairs()))
            hashes = [hashlib.sha256(chunk).digest() for chunk in chunks]
            found = (manifest_of(header, hashes, sum(map(len, chunks))), chunks)
            self._snapshots[block_hash] = found
        return found

    def work_ms(self) -> int:
        """How long building, checking or applying a block takes."""
        return 1 + int(30 * self.rng.random())

    def begin_delay_ms(self, node: SimNode) -> int | None:
        """When a node's driver wants the next block; None: it waits for others to begin."""
        if node.slot in self.lazy and not self.network.healed:
            return None
        parent_ms = node.database.head.header.time_ms
        return max(0, parent_ms + self.block_interval_ms - node.now_ms) if parent_ms else 0

    def deliver(
        self, a: int, b: int, message: ConsensusMessage | tuple[Any, ...], delay_ms: int
    ) -> None:
        """Put a message into the queue; it is lost if b is down when it arrives."""
        if type(message) is not tuple and self.rng.random() < RECODED_SHARE:
            message = decode_message(encode(message))
        item = (self.now_ms + delay_ms, next(self._counter), b, a, message)
        heapq.heappush(self._queue, item)

    def schedule(self, node: SimNode, delay_ms: int, what: tuple[Any, ...]) -> None:
        """Wake a node, if it is still the same process then."""
        item = (self.now_ms + delay_ms, next(self._counter), node.slot, -1, (node.generation, what))
        heapq.heappush(self._queue, item)

    def later(self, delay_ms: int, what: tuple[Any, ...]) -> None:
        """Have something happen to the world."""
        heapq.heappush(self._queue, (self.now_ms + delay_ms, next(self._counter), -1, -1, what))

    def crashed(self, node: SimNode) -> None:
        """A fuse has burnt down: the process dies here and comes back later."""
        node.crash()
        if node.slot in self.dead_slots and self.rng.random() < 0.3:
            return
        self.later(self.nemesis.down_ms(), ("up", node.slot))

    # -- the run

    def run(self) -> Result:
        """Run the faulty phase, heal, and demand progress."""
        start_ms = self.now_ms
        violation = None
        try:
            with self._patched():
                self._run_phases(start_ms)
        except Violation as error:
            violation = str(error)
        except Exception as error:
            violation = f"{type(error).__name__}: {error}"
        heights = max(node.height for node in self.nodes)
        simulated_ms = self.now_ms - start_ms
        checker = self.checker
        return Result(
            self.seed, self.n, violation, heights, self.messages, simulated_ms, checker.evidence,
            checker.convictions, checker.committed, checker.questions, checker.liars_dropped,
            checker.jumps,
        )  # fmt: skip

    def _run_phases(self, start_ms: int) -> None:
        for node in self.nodes:
            node.boot()
        self.nemesis.begin()
        if self.network.faults.duel_rounds:
            self._run_until(start_ms + DUEL_MS, DUEL_HEIGHTS)
        else:
            self._run_until(start_ms + CHAOS_MS, None)
        self.heal()
        goal = max(node.height for node in self.nodes) + HEIGHTS_AFTER_HEALING
        suspects = self.suspects()
        end_ms = self.now_ms + HEALING_MS
        if not self._run_until(end_ms, goal):
            raise Violation(self._stuck(goal))
        while suspects - self.convicted():
            goal += 1
            if not self._run_until(end_ms, goal):
                raise Violation("conviction: who is known to have signed twice never is")
        self.checker.on_end(self.living())

    @contextlib.contextmanager
    def _patched(self) -> Iterator[None]:
        patches: list[tuple[Any, str, Any]] = []
        if self.has_short_window:
            patches.append((validate, "EVIDENCE_HEIGHTS_MAX", self.evidence_window))
        patches += self.mutation.patches
        before = [(where, name, getattr(where, name)) for where, name, _ in patches]
        try:
            for where, name, value in patches:
                setattr(where, name, value)
            yield
        finally:
            for where, name, value in reversed(before):
                setattr(where, name, value)

    def _run_until(self, end_ms: int, goal: int | None) -> bool:
        """Run until the time, or until all who live have applied height `goal`; tell if so."""
        queue = self._queue
        if goal is not None and self.reached(goal):
            return True
        while queue and queue[0][0] <= end_ms:
            self.now_ms, _, slot, sender, what = heapq.heappop(queue)
            is_step = self.dispatch(slot, sender, what)
            if goal is not None and is_step and self.reached(goal):
                return True
        self.now_ms = end_ms
        return False

    def dispatch(self, slot: int, sender: int, what: Any) -> bool:
        """Let what was put into the queue happen; tell if a node may have a new head by it."""
        if slot < 0:
            self._happen(what)
            return False
        node = self.nodes[slot]
        if not node.up:
            return False
        if sender >= 0:
            if type(what) is tuple:
                node.serve(what, self.nodes[sender])
            else:
                node.receive(what, self.nodes[sender])
        elif what[0] == node.generation:
            node.fire(what[1])
            return what[1][0] in ("apply", "foreign", "load")
        return False

    def _happen(self, what: tuple[Any, ...]) -> None:
        if self.network.healed:
            return
        if what[0] == "up":
            node = self.nodes[what[1]]
            if not node.up:
                node.boot()
        else:
            self.nemesis.strike()

    def _stuck(self, goal: int) -> str:
        states = [
            f"{node}: height {node.core.height} round {node.core.round} "
            f"step {node.core.step} locked {node.core.locked_round}"
            for node in self.living()
            if node.height < goal
        ]
        return f"liveness: {HEALING_MS} ms after healing, not at {goal}: {states}"

    def living(self) -> list[SimNode]:
        return [node for node in self.nodes if node.slot not in self.dead_slots and node.is_honest]

    def suspects(self) -> set[bytes]:
        """Who must be convicted: reported by somebody who lives and has lost nothing since."""
        if self.has_short_window:
            return set()
        sound = {node.slot for node in self.living()} - set(self.frail_slots)
        return {public for public, slots in self.checker.reported.items() if slots & sound}

    def convicted(self) -> set[bytes]:
        lists = [set(node.database.state.ledger.convicted) for node in self.living()]
        return set.intersection(*lists) if lists else set()

    def reached(self, goal: int) -> bool:
        return all(node.height >= goal for node in self.living())

    def heal(self) -> None:
        """End all faults: who is down comes back, but for those that never do."""
        self.network.heal()
        for node in self.nodes:
            node.fuse = None
            if node.slot in self.dead_slots:
                if node.up:
                    node.crash()
            elif not node.up:
                node.boot()
            elif not node.core.decided:
                self.schedule(node, self.block_interval_ms, ("begin", node.core.height))


def execute_once(
    known: dict[tuple[bytes, bytes], State | None],
    rules: Rules, state: State, parent: Header, block: Block, hash_: bytes,
) -> State | None:  # fmt: skip
    """Check and execute a block, unless it is `known` what comes of it; None if it is refused."""
    key = (state.root, hash_)
    if key not in known:
        try:
            known[key] = rules.execute(state, parent, block)
        except BlockRefused:
            known[key] = None
    return known[key]


def run_seed(seed: int, n: int, mutation: Mutation | None = None, faults: str = "any") -> Result:
    """Run one seed with the faults it draws, those of one kind, or those named (`faults_of`)."""
    return World(seed, n, faults=faults_of(faults, seed), mutation=mutation).run()
