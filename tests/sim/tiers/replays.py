"""A simulated region's blocks for `node.regions.auditor` and `.replay`: followed, proven, judged.

What the daemon has in `node.chain.blocks.BlockMaker` and `Application` the simulator has in
`TierRules` and values; these stand in their places. A proof is judged with nothing but itself: over
the part of the state that its witness shows, by the real contracts.
"""

import functools
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from consensus.authorities import AuthoritySet, verify_certificate
from consensus.errors import BlockRefused
from consensus.light import LightClient
from consensus.messages import Block, Header, header_hash
from market.app import Application, BlockEnv, LoadedState
from market.errors import RootMismatch, StateError
from market.genesis import Founding, MarketParams
from market.tiers import natives_of
from market.vm import merkle
from market.vm.executor import Native
from node.genesis import Genesis
from node.regions import auditor, audits, replay, showing
from tests.sim import keys
from tests.sim.app import STATE_BYTES_MAX, Ledger, Sets, State
from tests.sim.tiers.chains import LEDGER_KEY, SETS_KEY, Chain, TierState, own_pairs
from tests.sim.tiers.machine import copy_of
from wire.codec import decode
from wire.errors import DecodeError

if TYPE_CHECKING:
    from tests.sim.tiers.grid import Grid

Maker = Any


class Followed(NamedTuple):
    """A state, as `Application.execute` returns what a block does."""

    state: TierState


class RegionApp:
    """What an auditor executes a region's blocks with. Nobody executes the same block twice."""

    def __init__(
        self,
        grid: "Grid",
        params: MarketParams,
        founding: Founding,
        natives: Mapping[str, Native],
    ) -> None:
        self.chain = chain_of(grid, params.chain_id)
        self.params, self.founding = params, founding
        self.natives = natives_of(params.main, natives)
        self.state = self.chain.first_state

    def genesis(self, inherited: Iterable[tuple[str, bytes]] = ()) -> Followed:
        return Followed(self.chain.first_state)

    def prepare(self, items: Iterable[tuple[str, bytes]], height: int, root: bytes) -> Followed:
        """Errors as `Application.prepare`."""
        try:
            state = self.chain.state_of(items)
        except (DecodeError, KeyError) as error:
            raise StateError(f"it is no state: {error}") from None
        if state.root != root:
            raise RootMismatch("the state does not have the state root of its block")
        if state.height != height:
            raise StateError(f"the state is of height {state.height}, not {height}")
        assert isinstance(state, TierState)
        return Followed(state)

    def adopt(self, followed: Followed) -> None:
        self.state = followed.state

    commit = adopt

    def value(self, name: str) -> bytes | None:
        return self.state.value(name)

    def loaded(self) -> LoadedState:
        """The state with all that is under its root, for who records what a block touches."""
        state, app = copy_of(self.state.app.state), self.state.app
        state.items |= self.state.own()
        executor: Any = None
        return LoadedState(state, self.state.tree, app.money, executor, app.height, app.time_ms)


class _Following:
    """Judges blocks over a `RegionApp`, as every honest node of the region would."""

    def __init__(self, app: RegionApp) -> None:
        self._app = app

    def genesis_block(self, founded: Followed) -> Block:
        return self._app.chain.genesis

    def execute(self, block: Block, parent: Header) -> Followed:
        app = self._app
        found = app.chain.follow(app.state, parent, block, header_hash(block.header))
        if found is None:
            raise BlockRefused("roots", "the block does not follow")
        assert isinstance(found, TierState)
        return Followed(found)


class _Replaying:
    """Judges a block over an application: one that records, or knows but what is shown."""

    def __init__(self, chain: Chain, app: Application) -> None:
        self._chain, self._app = chain, app

    def _decoded(self, name: str, kind: type) -> Any:
        data = self._app.value(name)
        if data is None:
            raise BlockRefused("state", f"the state has no {name}")
        return decode(data, kind, STATE_BYTES_MAX)

    def execute(self, block: Block, parent: Header) -> object:
        """Errors as `BlockMaker.execute`."""
        rules, header = self._chain.honest_rules, block.header
        base = State(self._decoded(LEDGER_KEY, Ledger), self._decoded(SETS_KEY, Sets))
        rules.check_link(base, parent, block)
        after = rules.own_after(base, parent, block)
        checked = rules.checked(block.txs, header.time_ms)
        env = BlockEnv(header.height, header.time_ms, header.parent_hash)
        result = self._app.execute(env, checked)
        root = merkle.root_of(merkle.update(result.tree, own_pairs(after)))
        if (header.state_root, header.next_authorities_hash) != (root, after.seats.hash):
            raise BlockRefused("roots", "execution gives another state_root")
        return result


class _Sets:
    """Who decides the block after the state, as `node.chain.epochs.Epochs`."""

    def __init__(self, genesis: Genesis, app: RegionApp) -> None:
        self._app = app

    def of_height(self, height: int) -> AuthoritySet:
        return self._app.state.seats


def chain_of(grid: "Grid", chain_id: str) -> Chain:
    return next(chain for chain in grid.chains.values() if chain.chain_id == chain_id)


def maker_of(grid: "Grid", genesis: Genesis, app: Any) -> Maker:
    """As `node.regions.replay.maker_of`."""
    if isinstance(app, RegionApp):
        return _Following(app)
    return _Replaying(chain_of(grid, genesis.chain_id), app)


async def _at_once(function: Any, *args: Any) -> Any:
    return function(*args)


def patches(grid: "Grid") -> list[tuple[Any, str, Any]]:
    """Let `node`'s auditors live in the simulator: its clock, signatures and blocks."""
    quick = functools.partial(verify_certificate, verifier=keys.verify)
    making = functools.partial(maker_of, grid)
    clock = SimpleNamespace(monotonic=lambda: grid.now_ms / 1_000)
    waiting = SimpleNamespace(**(vars(audits.asyncio) | {"to_thread": _at_once}))
    return [
        (auditor, "Application", functools.partial(RegionApp, grid)),
        (auditor, "Epochs", _Sets),
        (auditor, "maker_of", making),
        (auditor, "verify_certificate", quick),
        (replay, "maker_of", making),
        (replay, "verify_certificate", quick),
        (showing, "LightClient", functools.partial(LightClient, verifier=keys.verify)),
        (audits, "time", clock),
        (audits, "asyncio", waiting),
        (showing, "asyncio", waiting),
        # What an auditor finds is no error of the run.
        (audits.log, "disabled", True),
    ]
