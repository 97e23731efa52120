"""Regions and a main chain in one simulated world: one clock, one queue, one seed."""

import contextlib
import functools
import heapq
import itertools
from collections import deque
from collections.abc import Iterator
from random import Random
from typing import Any, Final, NamedTuple

from consensus.authorities import AuthoritySet
from consensus.checkpoint import verify_checkpoint
from consensus.evidence import check_evidence
from consensus.light import LightClient, SignedHeader
from market.client import Call
from node.regions import certifier
from tests.market.street import START_MS
from tests.regions.cheat import CHEATS, Cheat
from tests.sim import keys
from tests.sim.errors import Violation
from tests.sim.faults import Faults
from tests.sim.network import JITTER_MS, LATENCY_MS
from tests.sim.tiers import machine as machines
from tests.sim.tiers import replays
from tests.sim.tiers.captured import Captured
from tests.sim.tiers.chains import Chain, TierState
from tests.sim.tiers.checks import Books, TierChecker
from tests.sim.tiers.emitted import Regulator
from tests.sim.tiers.faults import GridFaults, grid_faults_of
from tests.sim.tiers.leaving import Sponsor
from tests.sim.tiers.machine import Machine
from tests.sim.tiers.mutation import TierMutation
from tests.sim.tiers.node import TierNode
from tests.sim.tiers.outsider import Outsider
from tests.sim.tiers.slander import Slanderer
from tests.sim.tiers.views import shown_of
from wire.keys import SigningKey

FAULTY_MS: Final = 60_000
HEALING_MS: Final = 400_000
# So long after healing all that a region had closed until then is anchored, and known to be there.
ANCHORING_MS: Final = 120_000
HEIGHTS_AFTER_HEALING: Final = 2
FIRST_MS: Final = START_MS + 1_000
TIER_SENDER: Final = -2
# As chains' numbers: nobody's, and those of who acts from outside.
OUTSIDE: Final = 1_000_000
SLANDERER: Final = OUTSIDE + 1
REGULATOR: Final = OUTSIDE + 2
SPONSORS: Final = OUTSIDE + 1_000
SAID_MAX: Final = 64
CHECK_EVERY: Final = 64


class GridResult(NamedTuple):
    """One run: what went wrong, if anything, and how much happened."""

    seed: int
    nodes: int
    violation: str | None
    heights: int
    messages: int
    simulated_ms: int
    convictions: int
    jumps: int
    closed: int
    anchored: int
    slots: int
    rotations: int
    halts: int
    frozen: int
    audited: int
    redrawn: int
    accused: int
    proven: int
    left: int
    refused: int
    traded_wh: int
    # The longest that it took after healing until all of then was known as anchored.
    anchoring_ms: int


class Grid:
    """One run. Everything in it follows from `seed`, the sizes and the options."""

    def __init__(
        self,
        seed: int,
        n: int = 4,
        regions: int = 3,
        faults: GridFaults | None = None,
        mutation: TierMutation | None = None,
    ) -> None:
        self.seed = seed
        self.n = n
        self.regions = regions
        self.rng = Random(f"grid {seed} {n} {regions}")
        self.mutation = mutation or TierMutation()
        self.faults = faults if faults is not None else GridFaults(Random(f"faults {seed}"))
        self.now_ms = FIRST_MS
        self.messages = 0
        self.healed = False
        self.audit_rng = Random(f"audits {seed}")
        self._queue: list[tuple[int, int, int, int, int, Any]] = []
        self._counter = itertools.count()
        # Regions that are cut off from the main chain.
        self.cut: set[int] = set()
        # What regions were shown of the exchange; somebody may show it once more.
        self.said: deque[tuple[int, Call]] = deque(maxlen=SAID_MAX)
        self.captured: dict[int, Captured] = {}
        self.poster = self.mutation.poster()
        self.books = Books(self)
        self._cast()
        chaos = [self.faults.chain(number) for number in range(regions + 1)]
        taken = self.taken
        self.chains = {
            number: self._chain(number, chaos[number])
            for number in range(regions + 1)
            if number != taken
        }
        self.main = self.chains[0]
        if taken is not None:
            self.captured[taken] = Captured(self, taken)
        self.outsider = Outsider(self, Random(f"outsider {seed}"))
        self._cast_auditors()
        self._cast_leaving()

    def _cast(self) -> None:
        """Say which regions are whose, and who audits how."""
        rng, faults, regions = self.audit_rng, self.faults, self.regions
        self.taken = regions if faults.captured else None
        # Regions whose authorities cheat: how, and from when on.
        self.cheating: dict[int, tuple[Cheat, int]] = {}
        if faults.fraud and self.taken != 1:
            cheat = CHEATS[rng.choice(sorted(CHEATS))]
            self.cheating[1] = (cheat, FIRST_MS + rng.randint(5_000, 40_000))
        everybody = range(1, regions + 1)
        # Regions that show auditors nothing before all is healed, and those that never do.
        hidden = [number for number in everybody if faults.withheld and rng.random() < 0.5]
        self._hidden = {number for number in hidden if number != self.taken}
        self.hidden_for_good = {
            number for number in self.cheating if faults.withheld and rng.random() < 0.3
        }

    def _cast_auditors(self) -> None:
        """Say which seats are silent or show nothing: where somebody is faulty, that one."""
        rng, faults = self.audit_rng, self.faults
        self._silent: set[tuple[int, int]] = set()
        self._hiding: set[tuple[int, int]] = set()
        for number, chain in self.chains.items():
            places = [*chain.faulty_slots, *chain.dead_slots] or [rng.randrange(self.n)]
            if faults.silence:
                self._silent.add((number, places[0]))
            if faults.withheld and number:
                self._hiding.add((number, places[0]))
        # Who is content with everything, unasked, and who has nobody behind it.
        self.yea_sayer: SigningKey | None = None
        if self.taken is not None:
            self.yea_sayer = machines.authority_key(self.taken, 0)
        elif faults.slander:
            number = max(self.chains)
            chain = self.chains[number]
            places = [*chain.faulty_slots, *chain.dead_slots] or [rng.randrange(self.n)]
            self._silent.add((number, places[0]))
            self.yea_sayer = machines.authority_key(number, places[0])

    def _cast_leaving(self) -> None:
        """Say who acts from outside of all chains; and which home leaves which region, and when."""
        rng = self.audit_rng
        self.slanderer = Slanderer(self, Random(f"slanderer {self.seed}"))
        self.actors: dict[int, Slanderer | Regulator | Sponsor] = {}
        if self.yea_sayer is not None or self.faults.slander:
            self.actors[SLANDERER] = self.slanderer
        if self.faults.leaving:
            self.actors[REGULATOR] = Regulator(self, Random(f"regulator {self.seed}"))
            leaving = rng.randint(1, self.regions)
            self.actors[SPONSORS] = Sponsor(self, leaving, Random(f"sponsor {self.seed}"))
        self.leavers = {
            (number, rng.randrange(self.n)): FIRST_MS + rng.randrange(FAULTY_MS)
            for number in self.chains
            if number and self.faults.leaving
        }

    def cheating_of(self, number: int) -> tuple[Cheat, int] | None:
        """How a region cheats, and from when on; None: it does not."""
        return self.cheating.get(number)

    @property
    def dishonest(self) -> set[int]:
        """Regions that may be frozen."""
        return {*self.captured, *self.cheating}

    def audits_by(self, node: TierNode) -> bool:
        """Whether a node does its duty as an auditor."""
        return node.slot < self.n and (node.world.number, node.slot) not in self._silent

    def withholds(self, node: TierNode) -> bool:
        """Whether a node shows auditors nothing of its region."""
        number = node.world.number
        if number in self.hidden_for_good or (number, node.slot) in self._hiding:
            return True
        return number in self._hidden and not self.healed

    def _chain(self, number: int, faults: Faults) -> Chain:
        chain = Chain(self, number, self.n, faults, self.mutation)
        checker = chain.checker
        checker.__class__ = TierChecker
        checker.books, checker.number = self.books, number  # type: ignore[attr-defined]
        return chain

    # -- what chains ask

    def machine_of(self, number: int) -> Machine:
        """The contracts of a chain, those of a mutant where it has others."""
        changes = self.mutation.contracts
        if number:
            return machines.region_machine(number, self.n, self.n, changes)
        return machines.main_machine((self.n,) * (self.regions + 1), changes)

    def chain_id(self, region: int) -> str:
        return machines.chain_id_of(region)

    def set_of(self, region: int, epoch: int) -> AuthoritySet | None:
        """The set of a chain's epoch, as the chain itself has come to it."""
        if region in self.captured:
            return self.captured[region].set_of(epoch)
        for node in self.chains[region].nodes:
            found = node.database.state.set_of_epoch(epoch)
            if found is not None and node.is_honest:
                return found
        return None

    def epoch_of(self, region: int, height: int) -> int:
        if region in self.captured:
            return self.captured[region].epoch_of(height)
        return self.chains[region].rules.epoch_of(height)

    def main_head(self) -> tuple[TierNode, SignedHeader] | None:
        """The node of the main chain that has come furthest, and its last header."""
        node = max(self.main.nodes, key=lambda node: node.height)
        if node.database.certificate is None:
            return None
        return node, node.database.signed(node.height)

    def main_state(self) -> TierState:
        """The main chain's newest state."""
        return max(self.main.nodes, key=lambda node: node.height).state

    def tell_main(self, number: int, service: tuple[Any, ...]) -> None:
        """Carry something of a captured region to all of the main chain."""
        for other in self.main.nodes:
            self.messages += 1
            if self.healed or self.rng.random() >= self.faults.drop:
                delay_ms = LATENCY_MS + int(JITTER_MS * self.rng.random())
                self.push(delay_ms, 0, other.slot, TIER_SENDER, (service, other))

    def push(self, delay_ms: int, number: int, slot: int, sender: int, what: Any) -> None:
        """Have something happen to a node, or with slot -1 to a chain."""
        item = (self.now_ms + delay_ms, next(self._counter), number, slot, sender, what)
        heapq.heappush(self._queue, item)

    def send(self, a: TierNode, b: TierNode, service: tuple[Any, ...]) -> None:
        """Carry something from one tier to the other."""
        self._send(a, b, service, self.rng)

    def ask(self, a: TierNode, b: TierNode, service: tuple[Any, ...]) -> None:
        """Carry what an auditor asks, or is answered."""
        self._send(a, b, service, self.audit_rng)

    def _send(self, a: TierNode, b: TierNode, service: tuple[Any, ...], rng: Random) -> None:
        self.messages += 1
        delay_ms = LATENCY_MS + int(JITTER_MS * rng.random())
        if not self.healed:
            if {a.world.number, b.world.number} & self.cut or rng.random() < self.faults.drop:
                return
            if self.faults.slow and rng.random() < self.faults.slow:
                delay_ms += int(4_000 * rng.random() ** 2)
        self.push(delay_ms, b.world.number, b.slot, TIER_SENDER, (service, a))

    # -- the run

    def run(self) -> GridResult:
        """Run the faulty phase, heal, and demand progress."""
        violation = None
        self._anchoring_ms = 0
        try:
            with self._patched():
                self._run_phases()
        except Violation as error:
            violation = str(error)
        except Exception as error:
            violation = f"{type(error).__name__}: {error}"
        return self._result(violation)

    def _result(self, violation: str | None) -> GridResult:
        books, chains = self.books, self.chains.values()
        return GridResult(
            seed=self.seed,
            nodes=self.n,
            violation=violation,
            heights=sum(max(node.height for node in chain.nodes) for chain in chains),
            messages=self.messages + sum(chain.messages for chain in chains),
            simulated_ms=self.now_ms - FIRST_MS,
            convictions=sum(chain.checker.convictions for chain in chains),
            jumps=sum(chain.checker.jumps for chain in chains),
            closed=sum(map(len, books.closed.values())),
            anchored=sum(map(len, books.anchored.values())),
            slots=books.slots,
            rotations=books.rotations,
            halts=books.halts,
            frozen=len(books.frozen),
            audited=sum(books.audit.audited.values()),
            redrawn=books.audit.redrawn,
            accused=books.audit.accused,
            proven=len(books.frozen & books.audit.cheated_at.keys()),
            left=len(books.left) + len(books.leaving.homes),
            refused=sum(books.refused.values()),
            traded_wh=books.trade.traded_wh,
            anchoring_ms=self._anchoring_ms,
        )

    def _run_phases(self) -> None:
        for chain in self.chains.values():
            chain.now_ms = self.now_ms
            for node in chain.nodes:
                node.boot()
            chain.nemesis.begin()
        self._strike_later()
        for number in self.captured:
            self.push(self.rng.randrange(2_000), number, -1, -1, None)
        if self.faults.forgery:
            self.push(self.rng.randrange(2_000), OUTSIDE, -1, -1, None)
        for number in self.actors:
            # Nobody leaves before there is something to leave.
            wait_ms = 8_000 if number >= SPONSORS else 0
            self.push(wait_ms + self.audit_rng.randrange(40_000 if wait_ms else 2_000), number,
                      -1, -1, None)  # fmt: skip
        self._run_until(FIRST_MS + FAULTY_MS, lambda: False)
        self._heal()
        healed_ms = self.now_ms
        goals = {
            chain.number: max(node.height for node in chain.nodes) + HEIGHTS_AFTER_HEALING
            for chain in self.chains.values()
        }
        if not self._run_until(healed_ms + HEALING_MS, lambda: self._are_at(goals)):
            late = [
                chain for chain in self.chains.values() if not chain.reached(goals[chain.number])
            ]
            raise Violation("; ".join(chain._stuck(goals[chain.number]) for chain in late))
        self._demand_anchoring(healed_ms)
        for chain in self.chains.values():
            chain.checker.on_end(chain.living())
        self.books.on_end()

    def _demand_anchoring(self, healed_ms: int) -> None:
        """All that was closed when the grid healed is anchored soon, and each region knows it."""
        closed = {
            number: len(found)
            for number, found in self.books.closed.items()
            if number not in self.dishonest and number not in self.books.left
        }
        anchored = {number: len(found) for number, found in self.books.anchored.items()}
        waiting = {number: self.books.trade.unresolved(number) for number in closed}
        began_ms = self.now_ms
        demanded = (closed, waiting, anchored)
        if not self._run_until(began_ms + ANCHORING_MS, lambda: self._know(*demanded)):
            known = {
                number: (len(self.books.anchored[number]), self._least_known(number), count)
                for number, count in closed.items()
            }
            raise Violation(
                f"liveness: anchored, known to be, closed by region: {known}; offers "
                f"without an end: {self._open_offers(waiting)}; frozen "
                f"{sorted(self.books.frozen)} of {sorted(self.dishonest)}; audited "
                f"{self.books.audit.audited} of {anchored}, cheated at "
                f"{self.books.audit.cheated_at}"
            )
        self._anchoring_ms = self.now_ms - healed_ms

    def _are_at(self, goals: dict[int, int]) -> bool:
        return all(chain.reached(goals[chain.number]) for chain in self.chains.values())

    def _least_known(self, region: int) -> int:
        living = self.chains[region].living()
        return min(shown_of(node.state).anchored for node in living)

    def _open_offers(self, waiting: dict[int, set[int]]) -> dict[int, list[int]]:
        left = {number: self.books.trade.unresolved(number) for number in waiting}
        return {number: sorted(left[number] & slots) for number, slots in waiting.items()}

    def _know(
        self, closed: dict[int, int], waiting: dict[int, set[int]], anchored: dict[int, int]
    ) -> bool:
        left = self.books.left
        closed = {number: count for number, count in closed.items() if number not in left}
        if any(found for n, found in self._open_offers(waiting).items() if n not in left):
            return False
        if not self.books.audit.is_proven(anchored):
            return False
        return all(
            len(self.books.anchored[number]) >= count and self._least_known(number) >= count
            for number, count in closed.items()
        ) and all(number in self.books.frozen for number in self.captured if self._is_known(number))

    def _is_known(self, number: int) -> bool:
        """Whether somebody has seen two certified blocks of a captured region."""
        return self.captured[number].conflict_ms is not None

    def _run_until(self, end_ms: int, is_done: Any) -> bool:
        queue, chains = self._queue, self.chains
        steps = 0
        while queue and queue[0][0] <= end_ms:
            self.now_ms, _, number, slot, sender, what = heapq.heappop(queue)
            if number < 0:
                self._strike()
                continue
            if number not in chains:
                self._act(number)
                continue
            chain = chains[number]
            chain.now_ms = self.now_ms
            if sender == TIER_SENDER:
                node = chain.nodes[slot]
                if node.up:
                    node.serve(*what)
            elif chain.dispatch(slot, sender, what):
                steps += 1
                if steps % CHECK_EVERY == 0 and is_done():
                    return True
        self.now_ms = end_ms
        return bool(is_done())

    def _act(self, number: int) -> None:
        """Let a captured region, or who is outside of all, do something, and come back."""
        if number in self.actors:
            self.actors[number].act()
            self.push(self.audit_rng.randint(1_500, 5_000), number, -1, -1, None)
            return
        if number == OUTSIDE:
            honest = [chain for other, chain in self.chains.items() if other]
            if honest:
                self.outsider.act(self.rng.choice(honest))
        else:
            region = self.captured[number]
            region.act()
            if self._is_known(number) and number not in self.books.frozen:
                region.report()
        self.push(self.rng.randint(400, 2_500), number, -1, -1, None)

    # -- harm between the chains

    def _strike_later(self) -> None:
        delay_ms = self.rng.randint(1_000, 9_000)
        heapq.heappush(self._queue, (self.now_ms + delay_ms, next(self._counter), -1, -1, -1, None))

    def _strike(self) -> None:
        if self.healed:
            return
        rng, faults = self.rng, self.faults
        choice = rng.random()
        if choice < 0.35 and faults.cuts:
            self.cut = {number for number in range(1, self.regions + 1) if rng.random() < 0.5}
        elif choice < 0.55:
            self.cut = set()
        elif choice < 0.8 and faults.halts:
            self._halt(rng.choice(sorted(self.chains)))
        elif choice < 0.9 and faults.halts:
            self._halt(0)
        self._strike_later()

    def _halt(self, number: int) -> None:
        """More than f authorities die at once, and come back together."""
        chain = self.chains[number]
        chain.now_ms = self.now_ms
        rng = self.rng
        f = (chain.n - 1) // 3
        down_ms = rng.choice((3_000, 12_000, 40_000))
        for node in rng.sample(chain.nodes, f + 1):
            if node.up:
                node.crash()
                if node.slot not in chain.dead_slots:
                    chain.later(down_ms + rng.randrange(500), ("up", node.slot))

    def _heal(self) -> None:
        self.healed = True
        self.cut = set()
        for chain in self.chains.values():
            chain.now_ms = self.now_ms
            chain.heal()

    @contextlib.contextmanager
    def _patched(self) -> Iterator[None]:
        """Let the contracts' machine take the simulator's signatures; and put the bug in."""
        light = functools.partial(LightClient, verifier=keys.verify)
        patches: list[tuple[Any, str, Any]] = [
            (certifier, "verify_checkpoint", _quick(verify_checkpoint)),
            (certifier, "check_evidence", _quick(check_evidence)),
            (certifier, "LightClient", light),
            *replays.patches(self),
            *self.mutation.patches,
        ]
        before = [(where, name, getattr(where, name)) for where, name, _ in patches]
        try:
            for where, name, value in patches:
                setattr(where, name, value)
            yield
        finally:
            for where, name, value in reversed(before):
                setattr(where, name, value)


def _quick(function: Any) -> Any:
    return functools.partial(function, verifier=keys.verify)


def run_grid(
    seed: int,
    n: int = 4,
    regions: int = 3,
    mutation: TierMutation | None = None,
    faults: str = "any",
) -> GridResult:
    """Run one seed with the faults it draws, or those named (`tests.sim.tiers.faults`)."""
    return Grid(seed, n, regions, grid_faults_of(faults, seed), mutation).run()


Chain.node_kind = TierNode
