"""The real contracts of both tiers, as values: a state goes in with a block, another comes out.

Simulated nodes share what they have executed, are behind each other, lose everything and jump, so
an application with one state of its own will not do. A `Machine` lends one application's compiled
contracts to any state of its chain.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Final, NamedTuple

from market import contracts
from market.app import Application, BlockEnv, BlockResult
from market.client import Call, regions, sign_call
from market.genesis import GovernanceParams, HomeEntry, MarketParams
from market.invariants import Money, count_money
from market.tiers import ExchangeRules, ExportRules, MainRules, Membership
from market.vm import journal, merkle
from node.genesis import GENESIS_VERSION, ChainParams, Genesis
from node.regions.certifier import natives
from tests.market.street import REGULATOR, START_MS, params
from tests.regions.cheat import Cheat, tampered
from wire.codec import Plain
from wire.keys import SigningKey
from wire.transaction import CheckedTransaction

MAIN_ID: Final = "main"
EPOCH_BLOCKS_MAX: Final = 100_000
BOND_MICRO: Final = 5_000_000
ESCROW_MICRO: Final = 20_000_000
SPONSOR_MICRO: Final = 100_000_000
HOME_MICRO: Final = 50_000_000
HOLD_MS: Final = 30_000
HALT_MS: Final = 45_000
AUDIT_MS: Final = 50_000
ACCUSER_BOND_MICRO: Final = 1_000_000
SLANDERER_MICRO: Final = 10_000_000
CHECKPOINT_MS: Final = 15_000
# A slot of a quarter of an hour passes in fifteen seconds.
TIME_LAPSE: Final = 60
SLOT_MS: Final = 15 * 60_000
# From the gate on, a record must be anchored and its offer be shown before the exchange closes, and
# what came of it at home before the slot is settled without.
EXCHANGE: Final = ExchangeRules(close_ms=20_000 * TIME_LAPSE)
EXPORTS: Final = ExportRules()
SETTLE_WINDOW_MS: Final = 4 * SLOT_MS
VALID_MS: Final = 25_000

# What stands in a contract, and what a mutant puts there: (contract, old, new).
Change = tuple[str, str, str]


def key(purpose: str) -> SigningKey:
    return SigningKey(hashlib.sha256(f"simulated {purpose}".encode()).digest())


@lru_cache(maxsize=256)
def authority_key(chain: int, index: int) -> SigningKey:
    """An authority's key; chain 0 is the main chain, the others are regions."""
    return key(f"authority {chain}/{index}")


@lru_cache(maxsize=256)
def home_key(region: int, index: int) -> SigningKey:
    return key(f"home {region}/{index}")


def sponsor_key(region: int) -> SigningKey:
    return key(f"sponsor {region}")


def regulator_key() -> SigningKey:
    return REGULATOR


def slanderer_key() -> SigningKey:
    """Of somebody with money on the main chain, and no seat anywhere."""
    return key("slanderer")


def publics_of(chain: int, n: int) -> list[bytes]:
    return [authority_key(chain, index).public for index in range(n)]


def chain_id_of(chain: int) -> str:
    return f"region-{chain}" if chain else MAIN_ID


class AppState(NamedTuple):
    """What an application holds after a block. Nobody changes it."""

    state: journal.State
    tree: merkle.Tree
    money: Money
    hook_failed: bool
    height: int
    time_ms: int

    @property
    def items(self) -> dict[str, bytes]:
        return self.state.items


class Machine:
    """The contracts of one chain, compiled, and its first state."""

    def __init__(self, genesis: Genesis) -> None:
        market = genesis.market
        self.genesis = genesis
        self.chain_id = market.chain_id
        self.clock = market.clock()
        self._app = app = Application(market, None, genesis.founding(), natives())
        app.commit(app.genesis())
        self.first = AppState(app._state, app._tree, app._money, False, 0, market.genesis_ms)

    def _take(self, before: AppState) -> Application:
        app = self._app
        app._state, app._tree, app._money = before.state, before.tree, before.money
        app._hook_failed, app.height, app._time_ms = before[3:]
        return app

    def after(
        self,
        before: AppState,
        env: BlockEnv,
        txs: Sequence[CheckedTransaction],
        cheat: Cheat | None = None,
    ) -> tuple[AppState, BlockResult]:
        """Execute a block, and let `cheat` change what it writes. Errors as `Application.execute`.

        The result is another object than that of the execution only if `cheat` has changed it.
        """
        app = self._take(before)
        result = app.execute(env, txs)
        if cheat is not None:
            result = tampered(app, result, cheat)
        state = copy_of(before.state)
        state.apply(result.writes)
        failed = any(event.name == "hook_failed" for event in result.events)
        after = AppState(state, result.tree, result.money, failed, env.height, env.time_ms)
        return after, result

    def query(self, at: AppState, contract: str, entry: str, args: dict[str, Plain]) -> Plain:
        return self._take(at).query(contract, entry, args)

    def load(self, items: Iterable[tuple[str, bytes]], height: int, time_ms: int) -> AppState:
        """Build the state of a snapshot's pairs."""
        state = journal.load(items)
        tree = merkle.update(None, state.items | state.folder_counts())
        return AppState(state, tree, count_money(state), False, height, time_ms)


def copy_of(state: journal.State) -> journal.State:
    copy = journal.State()
    copy.items = dict(state.items)
    copy._folders = {
        name: folder._replace(keys=set(folder.keys), folders=set(folder.folders))
        for name, folder in state._folders.items()
    }
    return copy


@contextmanager
def _changed(changes: Sequence[Change]) -> Iterator[None]:
    """Have the contracts of a mutant for as long as they are deployed."""
    source = contracts.source

    def mutated(wanted: str) -> str:
        text = source(wanted)
        for name, old, new in changes:
            if name == wanted:
                if text.count(old) != 1:
                    raise ValueError(f"{name}.star has {old!r} {text.count(old)} times")
                text = text.replace(old, new)
        return text

    contracts.source = mutated
    try:
        yield
    finally:
        contracts.source = source


def _genesis(market: MarketParams, publics: Sequence[bytes]) -> Genesis:
    governance = GovernanceParams(epoch_blocks=EPOCH_BLOCKS_MAX, bond_micro=0)
    return Genesis(GENESIS_VERSION, tuple(publics), ChainParams(), market, governance)


@lru_cache(maxsize=64)
def region_genesis(region: int, n: int, main_n: int) -> Genesis:
    """What a region and all who audit it begin with."""
    return _genesis(_region_params(region, n, main_n), publics_of(region, n))


def _region_params(region: int, n: int, main_n: int) -> MarketParams:
    homes = [home_key(region, index) for index in range(n)]
    entries = tuple(
        HomeEntry(one.address, one.derive("meter").address, f"home {place}", "prosumer",
                  10_000, 10_000, balance_micro=HOME_MICRO)
        for place, one in enumerate(homes, 1)
    )  # fmt: skip
    main_keys = tuple(publics_of(0, main_n))
    membership = Membership(region, MAIN_ID, main_keys, CHECKPOINT_MS, EXPORTS)
    return params(
        homes=entries, chain_id=chain_id_of(region), region=membership, time_lapse=TIME_LAPSE,
        settle_window_ms=SETTLE_WINDOW_MS,
    )  # fmt: skip


def registration(region: int, genesis: Genesis, seated: Sequence[SigningKey]) -> Call:
    """How a sponsor registers a region whose authorities all agree."""
    chain_id, genesis_hash = genesis.chain_id, genesis.hash.hex()
    digest = hashlib.sha256(regions.possession_text(chain_id, genesis_hash).encode()).digest()
    keys, proofs = [one.public for one in seated], [one.sign(digest) for one in seated]
    name = f"Region {region}"
    return regions.register(region, name, chain_id, genesis_hash, keys, proofs, ESCROW_MICRO)


# A mutant's machines are not kept beside others': a hunt is for one at a time.
@lru_cache(maxsize=24)
def region_machine(region: int, n: int, main_n: int, changes: tuple[Change, ...] = ()) -> Machine:
    with _changed(changes):
        return Machine(region_genesis(region, n, main_n))


@lru_cache(maxsize=12)
def main_machine(sizes: tuple[int, ...], changes: tuple[Change, ...] = ()) -> Machine:
    """A main chain of `sizes[0]` authorities, with a region let in for each other size."""
    numbers = range(1, len(sizes))
    sponsors = [(sponsor_key(number).address, SPONSOR_MICRO) for number in numbers]
    rules = MainRules(
        bond_micro=BOND_MICRO,
        hold_ms=HOLD_MS,
        halt_ms=HALT_MS,
        audit_ms=AUDIT_MS,
        accuser_bond_micro=ACCUSER_BOND_MICRO,
        exchange=EXCHANGE,
        sponsors=(*sponsors, (slanderer_key().address, SLANDERER_MICRO)),
    )
    market = params(homes=(), chain_id=MAIN_ID, main=rules, time_lapse=TIME_LAPSE)
    with _changed(changes):
        machine = Machine(_genesis(market, publics_of(0, sizes[0])))
    for number in numbers:
        seated = [authority_key(number, index) for index in range(sizes[number])]
        genesis = region_genesis(number, sizes[number], sizes[0])
        _admit(machine, number, registration(number, genesis, seated), sizes[0])
    return machine


def _admit(machine: Machine, region: int, registering: Call, main_n: int) -> None:
    calls = [(sponsor_key(region), registering)]
    calls += [(authority_key(0, index), regions.approve(region)) for index in range(main_n)]
    txs = [sign_call(call, one, MAIN_ID, region, START_MS + VALID_MS) for one, call in calls]
    after, result = machine.after(machine.first, BlockEnv(0, START_MS), txs)
    if result.receipts[0].code != "ok":
        raise ValueError(f"region {region} cannot be registered: {result.receipts[0]}")
    machine.first = after
