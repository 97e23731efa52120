"""The application that consensus replicates: blocks of transactions in, a state root out.

`execute` is speculative and repeatable; `commit` takes its result over. A block runs in this order:

1. the convictions that its evidence proves;
2. each contract's `on_block`, in the order of instantiation, but of those that have said that they
   are idle until later (`idle.py`): gate closures, settlements due, and in the last block of an
   epoch the authorities and parameters of the next;
3. the code that votes put in force (`deployment.py`), in the last block of an epoch;
4. the transactions, in the block's order, each with a receipt;
5. each contract's `after_block`, in the same order as in 2;
6. the conservation laws (`invariants.py`);
7. the state root and the receipts' root.

As long as all code is of genesis, a law that does not hold stops the node. Once a vote has brought
in other code, each call is checked by itself, and one that breaks a law is undone.

A transaction is executed if it is still valid, its sender is known and its key not replaced, its
nonce is above that key's last one, and its entry and arguments exist; else its receipt says
`rejected` and nothing is written. An executed transaction uses up its nonce, however it ends.

Queries may run in another thread than `execute`; `commit` waits for them.
"""

import contextlib
import hashlib
import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from market import contracts, deployment, idle, instantiation, terms, tiers
from market.admission import NONCE_PREFIX, admit, nonce_of
from market.agenda import Agenda, MainAgenda, MarketAgenda
from market.convictions import Conviction, admissible
from market.deployment import CHANGED_KEY, Deployer
from market.errors import (
    InvariantError,
    ParamsError,
    QueryError,
    Rejected,
    RootMismatch,
    StateError,
)
from market.genesis import Founding, MarketParams
from market.invariants import (
    Money,
    check_block,
    count_money,
    money_after,
    supposed_money,
)
from market.lawful import Call, run_lawful
from market.receipts import Event, Receipt, events_of, receipt_of, rooted
from market.terms import Terms
from market.vm import journal as state_module
from market.vm import merkle
from market.vm.engine import Engine
from market.vm.executor import IDENTITY_KEY, NATIVE, Executor, Native
from market.vm.gas import DEPLOY_CAPS, HOOK_CAPS, QUERY_CAPS, TRANSACTION_CAPS
from market.vm.journal import Journal, State
from market.vm.merkle import Proof, Tree
from market.vm.starlark import shared_engine
from wire.codec import Plain, decode_plain, encode
from wire.transaction import CheckedTransaction, Refused

PARAMS_KEY: Final = "chain/params"
HEIGHT_KEY: Final = "chain/block"
CONTRACTS_PART: Final = "contracts"
_BLOCK_BYTES_MAX: Final = 64
# Later than any block.
NEVER_MS: Final = 2**62

_log = logging.getLogger(__name__)


class BlockEnv(NamedTuple):
    """What execution knows of a block; `parent_hash` is what nobody could choose before."""

    height: int
    time_ms: int
    parent_hash: bytes = b""


class BlockResult(NamedTuple):
    """What a block does. `commit` wants it as `execute` made it.

    `events` are what no transaction said: of hooks, convictions, code put in force. `next` are the
    terms of the block that follows.
    """

    height: int
    receipts: tuple[Receipt, ...]
    events: tuple[Event, ...]
    state_root: bytes
    receipts_root: bytes
    writes: Mapping[str, bytes | None]
    base_root: bytes
    tree: Tree
    money: Money
    next: Terms

    @property
    def rooted(self) -> tuple[Receipt, ...]:
        """What `receipts_root` covers, in order: see `rooted`."""
        return rooted(self.receipts, self.events)


def machine(engine: Engine | None = None) -> dict[str, str]:
    """Return what this program executes contracts with, for a genesis: versions and hashes.

    `contracts` is of the contracts and libraries that the chain begins with.
    """
    identity = Executor(engine or shared_engine()).identity()
    return {**identity, CONTRACTS_PART: contracts.fingerprint()}


class LoadedState(NamedTuple):
    """A whole state, checked and ready to be `adopt`ed."""

    state: State
    tree: Tree
    money: Money
    executor: Executor
    height: int
    time_ms: int


class Application:
    """One market: its contracts, its committed state, and how blocks change it.

    Parameters
    ----------
    params : MarketParams
        Checked here. Raises `ParamsError`.
    engine : Engine, optional
        Only tests give another than the default.
    founding : Founding, optional
        The authorities that decide its blocks; nobody governs without.
    natives : mapping of str to Native, optional
        What a chain with a second tier asks of the machine: signatures of other chains' blocks,
        which this room knows nothing of (`node/regions/certifier.py`). Without them it raises
        `ParamsError`.
    """

    def __init__(
        self,
        params: MarketParams,
        engine: Engine | None = None,
        founding: Founding = Founding(),  # noqa: B008 - immutable
        natives: Mapping[str, Native] = MappingProxyType({}),
    ) -> None:
        self.params = params.check()
        is_alone = params.region is None and params.main is None
        if not natives and not is_alone:
            raise ParamsError("a chain of the second tier needs what checks other chains' blocks")
        # A street by itself has none, whoever runs it: all must have the same machine.
        self.natives = {} if is_alone else tiers.natives_of(self.params.main, natives)
        self.founding = founding
        founding.governance.check()
        self.clock = params.clock()
        self.height = -1
        self._time_ms = params.begins_ms
        self._executor = Executor(engine or shared_engine())
        self._deployer = self._deployer_of(self._executor)
        self._state = State()
        self._tree: Tree = None
        self._money = Money()
        self._hook_failed = False
        # Those of the next block, once they are known.
        self._next: Terms | None = None
        self._lock = threading.RLock()

    # -- state
    @property
    def time_ms(self) -> int:
        """The committed block's time, the genesis' before there is one. [ms, UTC]"""
        return self._time_ms

    @property
    def state_root(self) -> bytes:
        """The root of the committed state."""
        return merkle.root_of(self._tree)

    def state_items(self) -> list[tuple[str, bytes]]:
        """Return the committed key-value pairs, in key order."""
        with self._lock:
            return sorted(self._state.items.items())

    def state_copy(self) -> dict[str, bytes]:
        """Return the committed key-value pairs as they are now, in no order; quick."""
        with self._lock:
            return dict(self._state.items)

    def prove(self, key: str) -> Proof:
        """Return the proof of what the committed state holds at `key`, be it nothing."""
        return merkle.prove(self._tree, key)

    def value(self, key: str) -> bytes | None:
        """Return the committed encoding at `key`: what `prove` is about."""
        return self._state.items.get(key)

    # -- beginning
    def genesis(self, inherited: Iterable[tuple[str, bytes]] = ()) -> BlockResult:
        """Deploy and instantiate every contract: the state at height 0, to be committed.

        A chain in another's place (`tiers.Succession`) begins with that one's state, which is
        `inherited`; nothing of it is believed before it is found to be the one that is named.

        Raises
        ------
        StateError
            The genesis is for another machine than this program, or what is inherited is not the
            state that it names, or nothing that it can begin with.
        InvariantError
            A contract of ours does not deploy: the program is broken.
        """
        if self.height >= 0:
            raise InvariantError("genesis comes first")
        if self.params.succeeds is not None:
            return self._succeed(self.params.succeeds, inherited)
        self.check_machine(beginning=True)
        journal = Journal(self._state)
        journal.put(IDENTITY_KEY, encode(self._executor.identity()))
        journal.put(PARAMS_KEY, self._fingerprint())
        env = BlockEnv(0, self.params.genesis_ms)
        events: list[Event] = []
        arguments = instantiation.arguments(self.params, self.founding)
        for name in contracts.LIBRARIES:
            try:
                self._executor.deploy_library(journal, name, contracts.source(name))
            except Rejected as error:
                raise InvariantError(f"library {name}: {error}") from error
        for name in tiers.contracts_of(self.params.region, self.params.main, self.params.sealed):
            try:
                self._executor.deploy(journal, name, contracts.source(name))
            except Rejected as error:
                raise InvariantError(f"contract {name}: {error}") from error
            outcome = self._executor.run(
                journal,
                name,
                "instantiate",
                arguments[name],
                self._env(env),
                DEPLOY_CAPS,
            )
            if outcome.error is not None:
                raise InvariantError(f"contract {name}: {outcome.error}; {outcome.detail}")
            events += events_of(outcome.events)
        return self._result(env, journal, (), events)

    def _succeed(
        self, succeeds: tiers.Succession, inherited: Iterable[tuple[str, bytes]]
    ) -> BlockResult:
        # The code is that of the state, not what this program would begin a chain with.
        self.check_machine()
        state = state_module.load(inherited)
        tree = merkle.update(None, state.items | state.folder_counts())
        if merkle.root_of(tree) != succeeds.state_root:
            raise StateError(
                f"what this chain is to begin with is not the state of chain {succeeds.chain_id} "
                f"after height {succeeds.height}, which its genesis names"
            )
        executor = Executor(self._executor.engine)
        executor.restore(state)
        money = count_money(state)
        self.adopt(LoadedState(state, tree, money, executor, -1, succeeds.time_ms))
        journal = Journal(state)
        journal.put(PARAMS_KEY, self._fingerprint())
        # Heights begin anew, and the clock may be another.
        idle.wake(journal, executor.exports(journal))
        env = BlockEnv(0, succeeds.time_ms)
        events: list[Event] = []
        calls: list[tuple[str, dict[str, Plain]]] = [
            ("governance", instantiation.seats(self.founding)),
            ("export", {}),
        ]
        for name, arguments in calls:
            outcome = executor.run(journal, name, "succeed", arguments, self._env(env), DEPLOY_CAPS)
            if outcome.error is not None:
                raise StateError(f"contract {name}: {outcome.error}; {outcome.detail}")
            events += events_of(outcome.events)
        result = self._result(env, journal, (), events)
        # Whoever stores it has nothing of the state yet.
        return result._replace(writes={**state.items, **result.writes})

    def check_machine(self, *, beginning: bool = False) -> None:
        """Check that this program is the machine that the genesis is for.

        Parameters
        ----------
        beginning : bool
            Whether the chain is to begin here, with the contracts that the program brings. Later
            they are taken from the state.

        Raises
        ------
        StateError
            It is another; the text names what differs.
        """
        if not self.founding.machine:
            return
        wanted = dict(self.founding.machine)
        texts = wanted.pop(CONTRACTS_PART, "")
        self._executor.check_identity(encode(wanted))
        begins_anew = beginning and self.params.succeeds is None
        if begins_anew and texts != contracts.fingerprint():
            raise StateError(
                f"the chain begins with contracts {texts}, this program brings "
                f"{contracts.fingerprint()}: run the version that the other homes began with"
            )

    def load(self, items: Iterable[tuple[str, bytes]], height: int) -> None:
        """Take over stored state, after a restart: rebuild the index, the tree and the contracts.

        The caller compares `state_root` with the block's. Errors as `prepare`.
        """
        self.adopt(self.prepare(items, height))

    def prepare(
        self, items: Iterable[tuple[str, bytes]], height: int, state_root: bytes | None = None
    ) -> "LoadedState":
        """Check a state and build what it needs to run, leaving the present one as it is.

        With `state_root` nothing of the items is believed before they are found to have it.

        Raises
        ------
        RootMismatch
            The items do not have `state_root`.
        StateError
            The state belongs to another genesis, or was made with another engine, gate or costs.
        InvariantError
            Its money does not add up.
        """
        state = state_module.load(items)
        tree = merkle.update(None, state.items | state.folder_counts())
        if state_root is not None and merkle.root_of(tree) != state_root:
            raise RootMismatch("the state does not have the state root of its block")
        loaded = self.rested(state, tree, Executor(self._executor.engine))
        if loaded.height != height:
            raise StateError(f"the stored state is of height {loaded.height}, not {height}")
        return loaded._replace(money=count_money(state))

    def rested(self, state: State, tree: Tree, executor: Executor) -> "LoadedState":
        """Check what a state says of itself and load its code, wherever the state comes from.

        Its money is taken to add up, as it does in every state that this program has made.
        Errors as `prepare`.
        """
        if state.items.get(PARAMS_KEY) != self._fingerprint():
            raise StateError("the stored state belongs to another genesis than the one given")
        block = state.items.get(HEIGHT_KEY)
        if block is None:
            raise StateError("the stored state names no block")
        height, time_ms = decode_plain(block, _BLOCK_BYTES_MAX)
        executor.restore(state)
        money = supposed_money(state)
        return LoadedState(state, tree, money, executor, height, time_ms)

    def loaded(self) -> "LoadedState":
        """Return the committed state as another application of this chain may `adopt` it."""
        with self._lock:
            return LoadedState(
                self._state, self._tree, self._money, self._executor, self.height, self._time_ms
            )

    def adopt(self, loaded: "LoadedState") -> None:
        """Make a prepared state the committed one."""
        with self._lock:
            self._state, self._tree, self._money = loaded.state, loaded.tree, loaded.money
            self._executor = loaded.executor
            self._deployer = self._deployer_of(loaded.executor)
            self._hook_failed = False
            self._next = None
            self.height, self._time_ms = loaded.height, loaded.time_ms

    # -- governance
    def terms(self) -> Terms:
        """Return the terms of the block that follows the committed state."""
        with self._lock:
            if self._next is None:
                self._next = self._terms(Journal(self._state), self.height)
            return self._next

    def authorities(self, epoch: int) -> tuple[bytes, ...] | None:
        """Return an epoch's public keys, None if it is not made yet or not kept any more.

        Safe to call from any thread.
        """
        return terms.authorities(self._state.items.get(terms.epoch_key(epoch)))

    def epoch_of(self, height: int) -> int:
        """Return the epoch that a height belongs to."""
        return max(height - 1, 0) // self.founding.governance.epoch_blocks

    def admissible(self, convictions: Iterable[Conviction]) -> list[bool]:
        """Tell of each, after those before it, whether it convicts anybody not convicted yet."""
        return admissible(self._state, convictions)

    def _terms(self, journal: Journal, height: int) -> Terms:
        return terms.read(journal, self.epoch_of(height + 1))

    def _are_terms(self, journal: Journal, height: int) -> bool:
        names = [name for name, _ in self.founding.chain]
        return terms.are_sound(journal, self.epoch_of(height + 1), names)

    def _keep_terms(self, journal: Journal, height: int) -> list[Event]:
        """Let set and parameters stay as they are if the code that a vote brought names none."""
        if not self.founding.authorities or journal.get(CHANGED_KEY) is None:
            return []
        if self._are_terms(journal, height):
            return []
        terms.keep(journal, self._state, self.epoch_of(height), self.epoch_of(height + 1))
        return [Event("governance", "hook_failed", {"kind": "fault", "reason": "terms"})]

    def _deployer_of(self, executor: Executor) -> Deployer:
        deployer = Deployer(executor, self.founding.governance.epoch_blocks, self._are_terms)
        executor.natives |= self.natives
        return deployer

    def _fingerprint(self) -> bytes:
        return encode(
            [self.params.fingerprint(), hashlib.sha256(encode(self.founding)).hexdigest()]
        )

    # -- transactions
    def check(self, tx: CheckedTransaction) -> None:
        """Judge a transaction for the mempool, against the committed state.

        Raises
        ------
        Refused
            `unknown_contract`, `unknown_entry`, `bad_arguments`, `stranger` or `bad_nonce`.
        """
        try:
            admit(self._executor, Journal(self._state), tx, self.params)
        except Rejected as error:
            raise Refused(error.reason, error.message) from None

    def nonce(self, address: str) -> int:
        """Return the last nonce that `address` has used, 0 if none."""
        return nonce_of(self._state.items.get(NONCE_PREFIX + address))

    def execute(
        self,
        env: BlockEnv,
        txs: Sequence[CheckedTransaction],
        convictions: Sequence[Conviction] = (),
    ) -> BlockResult:
        """Execute a block over the committed state, which is left as it is.

        Each conviction must be `admissible`.

        Raises
        ------
        HostFailure
            This node failed; it must stop.
        InvariantError
            A conservation law would be broken; the node must stop before it votes.
        """
        journal = Journal(self._state)
        events: list[Event] = []
        for conviction in convictions:
            arguments: dict[str, Plain] = {
                "offence": conviction.offence.hex(),
                "height": conviction.height,
                "addresses": list(conviction.offenders),
            }
            events += self._run_hook(journal, "governance", "convict", arguments, env)
        events += self._run_hooks(journal, "on_block", env)
        if deployment.due(journal) and journal.get(CHANGED_KEY) is None:
            # The last that the founders' code alone has done.
            writes = state_module.effective(self._state, journal.writes)
            check_block(self._state, writes, self._money)
        events += events_of(self._deployer.enact(journal, self._env(env)))
        journal.settle()
        shown = self._env(env)
        receipts = tuple(self._run_transaction(journal, env, tx, shown) for tx in txs)
        events += self._run_hooks(journal, "after_block", env)
        return self._result(env, journal, receipts, events)

    def commit(self, result: BlockResult) -> None:
        """Take over the result of `execute` or `genesis`.

        Raises
        ------
        InvariantError
            The result was made over another state than the committed one.
        """
        if result.base_root != self.state_root or result.height <= self.height:
            raise InvariantError("the result to commit was made over another state")
        with self._lock:
            self._state.apply(result.writes)
            self._tree, self._money, self._next = result.tree, result.money, result.next
            self._hook_failed = any(event.name == "hook_failed" for event in result.events)
            self.height, self._time_ms = decode_plain(
                self._state.items[HEIGHT_KEY], _BLOCK_BYTES_MAX
            )

    # -- questions
    def at_rest(self) -> contextlib.AbstractContextManager[object]:
        """Hold `commit` up, so that several queries are about one state; for no longer."""
        return self._lock

    def query(self, contract: str, entry: str, args: Mapping[str, Plain]) -> Plain:
        """Ask a contract, at the committed state; whatever it writes is dropped.

        The machine itself answers as contract `vm` what code there is (`deployment.ask`).

        Raises
        ------
        QueryError
            Unknown contract or entry, bad arguments, the contract's refusal, or too much work.
        """
        with self._lock:
            journal = Journal(self._state)
            try:
                if contract == NATIVE:
                    return deployment.ask(journal, self._executor, entry, args)
                export = self._executor.find(journal, contract, entry, ("query",))
                self._executor.check_arguments(contract, entry, export, args)
            except Rejected as error:
                raise QueryError(error.reason, error.message) from None
            env = self._env(BlockEnv(max(self.height, 0), self._time_ms))
            outcome = self._executor.run(journal, contract, entry, args, env, QUERY_CAPS)
        if outcome.error is not None:
            raise QueryError(outcome.error.reason, outcome.error.message)
        return outcome.result

    def next_deadline_ms(self, after_ms: int) -> int:
        """Return the first block time after `after_ms` at which `on_block` has work.

        That is a gate closure or a settlement window's end; or at once, if a slot is fully read
        and waits to be settled, or work was left over from the last block. A hook that has just
        failed is tried again in the next block, whenever that comes. A main chain that waits for
        nothing has none: `NEVER_MS`.
        """
        agenda = self._agenda()
        if self.height >= 0 and not self._hook_failed and agenda.has_work(self._time_ms):
            return after_ms + 1
        found = agenda.next_ms(after_ms)
        return NEVER_MS if found is None else found

    def _agenda(self) -> Agenda:
        params, region = self.params, self.params.region
        if params.main is None:
            checkpoint_ms = 0 if region is None else region.checkpoint_ms
            return MarketAgenda(self._state, self.clock, params.intraday_every_ms, checkpoint_ms)
        exchange = params.main.exchange
        return MainAgenda(
            self._state,
            self.clock,
            params.main.halt_ms,
            None if exchange is None else exchange.close_ms,
            self.terms().chain.get("block_interval_ms", 1),
        )

    # -- parts
    def _env(self, env: BlockEnv) -> dict[str, Plain]:
        market_ms = self.clock.market_ms(env.time_ms)
        return {
            "height": env.height,
            "market_ms": market_ms,
            "parent_hash": env.parent_hash.hex(),
            "public_key": "",
            "sender": "",
            "slot": market_ms // self.clock.slot_ms,
            "time_ms": env.time_ms,
            "tx_id": "",
        }

    def _run_hooks(self, journal: Journal, hook: str, env: BlockEnv) -> list[Event]:
        """Run a hook of all contracts that have it, in the order of their instantiation.

        `on_block` of a contract that is idle in this block is passed over.
        """
        events: list[Event] = []
        shown = self._env(env)
        for name, exports in self._executor.exports(journal).items():
            if hook not in exports:
                continue
            if hook == "on_block" and self._is_idle(journal, name, shown):
                continue
            events += self._run_hook(journal, name, hook, {}, env)
        return events

    def _is_idle(self, journal: Journal, name: str, shown: Mapping[str, Plain]) -> bool:
        return idle.is_idle(journal, name, shown)

    def _run_hook(
        self, journal: Journal, name: str, entry: str, args: Mapping[str, Plain], env: BlockEnv
    ) -> list[Event]:
        outcome = run_lawful(
            self._executor, journal, Call(name, entry, args), self._env(env), HOOK_CAPS
        )
        journal.settle()
        if outcome.error is None:
            return events_of(outcome.events)
        # The chain goes on without the hook's writes: no money moves, and every node sees it.
        _log.error("%s.%s failed: %s; %s", name, entry, outcome.error, outcome.detail)
        data = {"kind": outcome.error.kind, "reason": outcome.error.reason}
        return [Event(name, "hook_failed", data)]

    def _run_transaction(
        self,
        journal: Journal,
        env: BlockEnv,
        checked: CheckedTransaction,
        shown: Mapping[str, Plain],
    ) -> Receipt:
        """Run a transaction in a block of which contracts are shown `shown`."""
        tx = checked.tx
        try:
            if tx.chain_id != self.params.chain_id:
                raise Rejected("wrong_chain", f"this chain is {self.params.chain_id}")
            if tx.valid_until_ms < env.time_ms:
                raise Rejected(
                    "expired", f"valid until {tx.valid_until_ms} ms, the block is {env.time_ms} ms"
                )
            account = admit(self._executor, journal, checked, self.params)
        except Rejected as error:
            return Receipt(checked.tx_id, error.kind, error.reason, error.message, 0, ())
        call_env = dict(shown)
        call_env["sender"], call_env["tx_id"] = account, checked.tx_id.hex()
        # Of a key that took another's place, it is not the account's.
        call_env["public_key"] = tx.sender.hex() if account == checked.sender else ""
        outcome = run_lawful(
            self._executor,
            journal,
            Call(tx.contract, tx.entry, tx.args),
            call_env,
            TRANSACTION_CAPS,
        )
        if outcome.detail:
            _log.warning("%s.%s: %s; %s", tx.contract, tx.entry, outcome.error, outcome.detail)
        journal.put(NONCE_PREFIX + checked.sender, encode(tx.nonce))
        journal.settle()
        return receipt_of(checked.tx_id, outcome)

    def _result(
        self,
        env: BlockEnv,
        journal: Journal,
        receipts: tuple[Receipt, ...],
        events: Sequence[Event],
    ) -> BlockResult:
        journal.put(HEIGHT_KEY, encode([env.height, env.time_ms]))
        events = [*events, *self._keep_terms(journal, env.height)]
        writes = state_module.effective(self._state, journal.writes)
        check = check_block if journal.get(CHANGED_KEY) is None else money_after
        money = check(self._state, writes, self._money)
        folders = state_module.folder_counts_after(self._state, writes)
        tree = merkle.update(self._tree, writes | folders)
        return BlockResult(
            height=env.height,
            receipts=receipts,
            events=tuple(events),
            state_root=merkle.root_of(tree),
            receipts_root=merkle.list_root([encode(part) for part in rooted(receipts, events)]),
            writes=writes,
            base_root=self.state_root,
            tree=tree,
            money=money,
            next=self._terms(journal, env.height),
        )
