"""One chain of a grid: the simulator's world, with the contracts of its tier in the state."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from consensus.errors import BlockRefused
from consensus.evidence import EVIDENCE_HEIGHTS_MAX
from consensus.messages import Block, Evidence, Header, header_hash
from market.app import Application, BlockEnv
from market.receipts import Event, Receipt
from market.vm import merkle
from tests.regions.cheat import Cheat
from tests.sim.app import (
    STATE_BYTES_MAX,
    Carried,
    Ledger,
    Rules,
    Sets,
    State,
    decode_tx,
    first_state,
)
from tests.sim.faults import Faults
from tests.sim.mutation import Mutation
from tests.sim.tiers import machine as machines
from tests.sim.tiers.machine import AppState, Machine
from tests.sim.world import World, execute_once
from wire import transaction
from wire.codec import decode, decode_plain, encode
from wire.errors import DecodeError
from wire.transaction import CheckedTransaction

if TYPE_CHECKING:
    from tests.sim.tiers.grid import Grid

LEDGER_KEY: Final = "simulated/ledger"
SETS_KEY: Final = "simulated/sets"
BLOCK_KEY: Final = "chain/block"
BLOCK_KEY_BYTES_MAX: Final = 64
REGION_SEATS_MIN: Final = 4
MAIN_INTERVAL_MS: Final = 5_000
REGION_INTERVAL_MS: Final = 2_000
TIER_EPOCH_BLOCKS: Final = 6


def own_pairs(state: State) -> dict[str, bytes]:
    return {LEDGER_KEY: encode(state.ledger), SETS_KEY: encode(state.sets)}


class TierState(State):
    """A ledger, the sets, and what the contracts hold: all under one root that proves each key.

    `done` are the block's transactions with how they ended, `events` what its hooks said; None and
    empty after a jump. `cheated_at` is the first height whose block does not follow, as far as is
    known.
    """

    def __init__(
        self,
        ledger: Ledger,
        sets: Sets,
        app: AppState,
        done: tuple[tuple[CheckedTransaction, Receipt], ...] | None = None,
        events: tuple[Event, ...] = (),
        cheated_at: int | None = None,
    ) -> None:
        super().__init__(ledger, sets)
        self.app = app
        self.done = done
        self.events = events
        self.cheated_at = cheated_at

    @cached_property
    def tree(self) -> merkle.Tree:
        return merkle.update(self.app.tree, self.own())

    @cached_property
    def root(self) -> bytes:
        return merkle.root_of(self.tree)

    def pairs(self) -> list[tuple[str, bytes]]:
        return sorted((self.app.items | self.own()).items())

    def own(self) -> dict[str, bytes]:
        """What the simulator has in the state, beside the contracts."""
        return own_pairs(self)

    # What `make_checkpoint` asks of an application.

    @property
    def state_root(self) -> bytes:
        return self.root

    def value(self, name: str) -> bytes | None:
        return self.app.items.get(name)

    def prove(self, name: str) -> merkle.Proof:
        return merkle.prove(self.tree, name)


def first_tier_state(publics: Sequence[bytes], machine: Machine) -> TierState:
    base = first_state(publics)
    return TierState(base.ledger, base.sets, machine.first)


class TierRules(Rules):
    """The simulator's rules of blocks, and the contracts executed.

    `cheat` changes what blocks of the time and later write: by such rules a region lives whose
    authorities cheat.
    """

    machine: Machine
    cheat: Cheat | None = None
    cheat_ms = 0

    def after(
        self, state: State, parent: Header, txs: Sequence[bytes], evidence: Sequence[Evidence],
        time_ms: int = 0,
    ) -> State:  # fmt: skip
        """Execute: what every chain of the simulator has, then the contracts."""
        after = super().after(state, parent, txs, evidence, time_ms)
        assert isinstance(state, TierState)
        checked = self.checked(txs, time_ms)
        env = BlockEnv(after.height, time_ms, header_hash(parent))
        cheat = self._cheat if self.cheat is not None and time_ms >= self.cheat_ms else None
        self._has_cheated = False
        app, result = self.machine.after(state.app, env, checked, cheat)
        done = tuple(zip(checked, result.receipts, strict=True))
        cheated_at = state.cheated_at or (after.height if self._has_cheated else None)
        return TierState(after.ledger, after.sets, app, done, result.events, cheated_at)

    def _cheat(self, app: Application, writes: dict[str, bytes | None]) -> bool:
        cheat = type(self).cheat
        self._has_cheated = cheat is not None and cheat(app, writes)
        return self._has_cheated

    def checked(self, txs: Sequence[bytes], time_ms: int) -> list[CheckedTransaction]:
        decoded = map(decode_tx, txs)
        raws = [tx.raw for tx in decoded if isinstance(tx, Carried)]
        found = transaction.check(raws, self.machine.chain_id, time_ms)
        for item in found:
            if isinstance(item, transaction.Refused):
                raise BlockRefused("transaction", str(item))
        return found  # type: ignore[return-value]

    def own_after(self, state: State, parent: Header, block: Block) -> State:
        """Return what becomes of all but the contracts. Raises `BlockRefused`."""
        return super().after(state, parent, block.txs, block.evidence, block.header.time_ms)

    def sets_after(self, sets: Sets, ledger: Ledger) -> Sets:
        """As everywhere, but the convicted stay where too few would be left for a region."""
        after = super().sets_after(sets, ledger)
        seats = sets.by_epoch[-1]
        if after is sets or after.by_epoch[-1].n >= REGION_SEATS_MIN:
            return after
        turned = (*seats.publics[1:], seats.publics[0])
        return Sets((*sets.by_epoch, type(seats)(seats.epoch + 1, turned)))


def app_height(items: Mapping[str, bytes]) -> tuple[int, int]:
    """Height and time of the block that an application's state is after."""
    height, time_ms = decode_plain(items[BLOCK_KEY], BLOCK_KEY_BYTES_MAX)
    return height, time_ms


class Chain(World):
    """One chain of a grid. Chain 0 is the main chain."""

    epoch_length = TIER_EPOCH_BLOCKS

    def __init__(
        self, grid: "Grid", number: int, n: int, faults: Faults, mutation: Mutation | None
    ) -> None:
        self.grid = grid
        self.number = number
        self.chain_id = machines.chain_id_of(number)
        self.block_interval_ms = REGION_INTERVAL_MS if number else MAIN_INTERVAL_MS
        super().__init__(grid.seed * 64 + number, n, faults=faults, mutation=mutation)

    def _draw_terms(self, faults: Faults) -> None:
        super()._draw_terms(faults)
        # It is a constant of the program, which other chains of this run have, too.
        self.has_short_window = False
        self.evidence_window = EVIDENCE_HEIGHTS_MAX
        self.now_ms = self.grid.now_ms

    def _found(self) -> None:
        self.publics = machines.publics_of(self.number, self.n)
        self.machine = self.grid.machine_of(self.number)
        self.first_state = first_tier_state(self.publics, self.machine)
        terms = (self.chain_id, self.epoch_blocks, self.evidence_window)
        bound = type("Bound", (TierRules,), {"machine": self.machine})
        self.honest_rules = self.rules = self._true_rules = bound(*terms)
        cheating = self.grid.cheating_of(self.number)
        if cheating is not None:
            cheat, cheat_ms = cheating
            changed = {"cheat": staticmethod(cheat), "cheat_ms": cheat_ms}
            self.rules = self._true_rules = type("Cheating", (bound,), changed)(*terms)
        self._followed: dict[tuple[bytes, bytes], State | None] = {}

    def state_after(self, header: Header) -> TierState | None:
        """The state after a decided block; None if nobody has executed it."""
        if not header.height:
            return self.first_state
        hash_ = header_hash(header)
        found = (state for (_, known), state in self._executed.items() if known == hash_)
        state = next(found, None)
        return state if isinstance(state, TierState) else None

    def follow(self, state: State, parent: Header, block: Block, hash_: bytes) -> State | None:
        """Execute a block as an auditor does: by the rules; None if it does not follow."""
        if self.rules is self.honest_rules:
            return self.truth(state, parent, block, hash_)
        return execute_once(self._followed, self.honest_rules, state, parent, block, hash_)

    def state_of(self, pairs: Iterable[tuple[str, bytes]]) -> State:
        """Read a snapshot's pairs. Errors as `wire.codec.decode`, `KeyError`."""
        found = dict(pairs)
        ledger = decode(found.pop(LEDGER_KEY), Ledger, STATE_BYTES_MAX)
        sets = decode(found.pop(SETS_KEY), Sets, STATE_BYTES_MAX)
        try:
            height, time_ms = app_height(found)
        except (TypeError, ValueError) as error:
            raise DecodeError(f"the block's height: {error}") from None
        return TierState(ledger, sets, self.machine.load(found.items(), height, time_ms))

    # -- the grid's clock and queue are used

    def deliver(self, a: int, b: int, message: Any, delay_ms: int) -> None:
        self.grid.push(delay_ms, self.number, b, a, message)

    def schedule(self, node: Any, delay_ms: int, what: tuple[Any, ...]) -> None:
        self.grid.push(delay_ms, self.number, node.slot, -1, (node.generation, what))

    def later(self, delay_ms: int, what: tuple[Any, ...]) -> None:
        self.grid.push(delay_ms, self.number, -1, -1, what)
