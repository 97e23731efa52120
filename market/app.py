"""The application that consensus replicates: blocks of transactions in, a state root out.

`execute` is speculative and repeatable; `commit` takes its result over. A block runs in this order:

1. the convictions that its evidence proves;
2. each contract's `on_block`, in the order of instantiation: gate closures, settlements due, and
   in the last block of an epoch the authorities and parameters of the next;
3. the code that votes put in force (`deployment.py`), in the last block of an epoch;
4. the transactions, in the block's order, each with a receipt;
5. the conservation laws (`invariants.py`);
6. the state root and the receipts' root.

As long as all code is of genesis, a law that does not hold stops the node. Once a vote has brought
in other code, each call is checked by itself, and one that breaks a law is undone.

A transaction is executed if it is still valid, its sender is known, its nonce is above the
sender's last one, and its entry and arguments exist; else its receipt says `rejected` and nothing
is written. An executed transaction uses up its nonce, however it ends.

Queries may run in another thread than `execute`; `commit` waits for them.
"""

import contextlib
import hashlib
import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from market import contracts, deployment, terms
from market.deployment import CHANGED_KEY, Deployer
from market.errors import (
    ContractError,
    Fault,
    InvariantError,
    QueryError,
    Rejected,
    RootMismatch,
    StateError,
)
from market.genesis import Founding, MarketParams
from market.invariants import (
    MEMBER_PREFIX,
    Money,
    check_block,
    check_changes,
    count_money,
    money_after,
)
from market.terms import Terms
from market.vm import journal as state_module
from market.vm import merkle
from market.vm.engine import Engine
from market.vm.executor import IDENTITY_KEY, NATIVE, Executor, Outcome
from market.vm.gas import DEPLOY_CAPS, HOOK_CAPS, QUERY_CAPS, TRANSACTION_CAPS, Caps
from market.vm.host import Event as HostEvent
from market.vm.journal import Journal, State
from market.vm.merkle import Proof, Tree
from market.vm.starlark import StarlarkEngine
from wire.codec import Message, Plain, decode_plain, encode
from wire.keys import address_of
from wire.transaction import CheckedTransaction, Refused

PARAMS_KEY: Final = "chain/params"
HEIGHT_KEY: Final = "chain/block"
CONTRACTS_PART: Final = "contracts"
NONCE_PREFIX: Final = "chain/nonce/"
OFFENCE_PREFIX: Final = "governance/offence/"
_NONCE_BYTES_MAX: Final = 16
_BLOCK_BYTES_MAX: Final = 64

_log = logging.getLogger(__name__)


class BlockEnv(NamedTuple):
    """What execution knows of a block."""

    height: int
    time_ms: int


class Conviction(NamedTuple):
    """What evidence in a block proves: the offence's identity and height, and who committed it."""

    offence: bytes
    height: int
    offenders: tuple[str, ...]


class Event(Message, frozen=True, tag="event"):
    """Something a contract says happened."""

    contract: str
    name: str
    data: dict[str, Any]


class Receipt(Message, frozen=True, tag="receipt"):
    """How a transaction ended.

    `code` is ok, revert, out_of_gas, fault or rejected; `reason` a stable code of the refusal
    (such as `no_margin`), `message` its sentence; both empty if ok.
    """

    tx_id: bytes
    code: str
    reason: str
    message: str
    gas: int
    events: tuple[Event, ...]


# In place of a transaction's id, in the receipt of what no transaction said.
BLOCK_ID: Final = bytes(32)


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


def rooted(receipts: Sequence[Receipt], events: Sequence[Event]) -> tuple[Receipt, ...]:
    """Return the receipts of a block's transactions, and one of its own if it said something."""
    if not events:
        return tuple(receipts)
    return (*receipts, Receipt(BLOCK_ID, "ok", "", "", 0, tuple(events)))


def machine(engine: Engine | None = None) -> dict[str, str]:
    """Return what this program executes contracts with, for a genesis: versions and hashes.

    `contracts` is of the contracts and libraries that the chain begins with.
    """
    identity = Executor(engine or StarlarkEngine()).identity()
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
    """

    def __init__(
        self,
        params: MarketParams,
        engine: Engine | None = None,
        founding: Founding = Founding(),  # noqa: B008 - immutable
    ) -> None:
        self.params = params.check()
        self.founding = founding
        founding.governance.check()
        self.clock = params.clock()
        self.height = -1
        self._time_ms = params.genesis_ms
        self._executor = Executor(engine or StarlarkEngine())
        self._deployer = self._deployer_of(self._executor)
        self._state = State()
        self._tree: Tree = None
        self._money = Money()
        self._hook_failed = False
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
    def genesis(self) -> BlockResult:
        """Deploy and instantiate every contract: the state at height 0, to be committed.

        Raises
        ------
        StateError
            The genesis is for another machine than this program.
        InvariantError
            A contract of ours does not deploy: the program is broken.
        """
        if self.height >= 0:
            raise InvariantError("genesis comes first")
        self.check_machine(beginning=True)
        journal = Journal(self._state)
        journal.put(IDENTITY_KEY, encode(self._executor.identity()))
        journal.put(PARAMS_KEY, self._fingerprint())
        env = BlockEnv(0, self.params.genesis_ms)
        events: list[Event] = []
        arguments = _genesis_arguments(self.params, self.founding)
        for name in contracts.LIBRARIES:
            try:
                self._executor.deploy_library(journal, name, contracts.source(name))
            except Rejected as error:
                raise InvariantError(f"library {name}: {error}") from error
        for name in contracts.CONTRACTS:
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
            events += _events(outcome.events)
        return self._result(env, journal, (), events)

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
        if beginning and texts != contracts.fingerprint():
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
        tree = merkle.update(None, state.items)
        if state_root is not None and merkle.root_of(tree) != state_root:
            raise RootMismatch("the state does not have the state root of its block")
        if state.items.get(PARAMS_KEY) != self._fingerprint():
            raise StateError("the stored state belongs to another genesis than the one given")
        block = state.items.get(HEIGHT_KEY)
        if block is None:
            raise StateError("the stored state names no block")
        stored_height, time_ms = decode_plain(block, _BLOCK_BYTES_MAX)
        if stored_height != height:
            raise StateError(f"the stored state is of height {stored_height}, not {height}")
        money = count_money(state)
        executor = Executor(self._executor.engine)
        executor.restore(state)
        return LoadedState(state, tree, money, executor, height, time_ms)

    def adopt(self, loaded: "LoadedState") -> None:
        """Make a prepared state the committed one."""
        with self._lock:
            self._state, self._tree, self._money = loaded.state, loaded.tree, loaded.money
            self._executor = loaded.executor
            self._deployer = self._deployer_of(loaded.executor)
            self._hook_failed = False
            self.height, self._time_ms = loaded.height, loaded.time_ms

    # -- governance
    def terms(self) -> Terms:
        """Return the terms of the block that follows the committed state."""
        return self._terms(Journal(self._state), self.height)

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
        answers = []
        convicted: set[str] = set()
        for conviction in convictions:
            fresh = {
                address
                for address in conviction.offenders
                if address not in convicted and self._may_be_convicted(address)
            }
            known = OFFENCE_PREFIX + conviction.offence.hex() in self._state.items
            answers.append(bool(fresh) and not known)
            if answers[-1]:
                convicted |= fresh
        return answers

    def _may_be_convicted(self, address: str) -> bool:
        data = self._state.items.get(MEMBER_PREFIX + address)
        return data is not None and not decode_plain(data, len(data))["convicted"]

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
        return Deployer(executor, self.founding.governance.epoch_blocks, self._are_terms)

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
            self._admit(Journal(self._state), tx)
        except Rejected as error:
            raise Refused(error.reason, error.message) from None

    def nonce(self, address: str) -> int:
        """Return the last nonce that `address` has used, 0 if none."""
        return _nonce(self._state.items.get(NONCE_PREFIX + address))

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
        for name, exports in self._executor.exports(journal).items():
            if "on_block" in exports:
                events += self._run_hook(journal, name, "on_block", {}, env)
        if deployment.due(journal) and journal.get(CHANGED_KEY) is None:
            # The last that the founders' code alone has done.
            writes = state_module.effective(self._state, journal.writes)
            check_block(self._state, writes, self._money)
        events += _events(self._deployer.enact(journal, self._env(env)))
        journal.settle()
        receipts = tuple(self._run_transaction(journal, env, tx) for tx in txs)
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
            self._tree, self._money = result.tree, result.money
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
        failed is tried again in the next block, whenever that comes.
        """
        if self.height >= 0 and not self._hook_failed and self._has_work():
            return after_ms + 1
        return min([self.clock.next_deadline_ms(after_ms), *self._dated_ms(after_ms)])

    def _dated_ms(self, after_ms: int) -> list[int]:
        """Return when the next auction, intraday round and request's gate are, if any."""
        clock = self.clock
        moments = [row[0] for row in self._rows("market/auctions")[:1]]
        moments += [row[0] for row in self._rows("requests/open")[:1]]
        every_ms = self.params.intraday_every_ms
        if every_ms and self._list("market/open"):
            moments.append((clock.market_ms(after_ms) // every_ms + 1) * every_ms)
        found = [clock.real_ms(moment) for moment in moments]
        return [moment for moment in found if moment > after_ms]

    # -- parts
    def _has_work(self) -> bool:
        clock, time_ms = self.clock, self._time_ms
        if self._list("settlement/ready") or self._rows("market/jobs"):
            return True
        market_ms = clock.market_ms(time_ms)
        if any(row[0] <= market_ms for row in self._rows("requests/open")[:1]):
            return True
        gates = self._list("market/open")
        windows = self._list("settlement/open")
        return any(clock.gate_close_real_ms(slot) <= time_ms for slot in gates) or any(
            clock.window_end_real_ms(slot) <= time_ms for slot in windows
        )

    def _rows(self, key: str) -> list[list[int]]:
        data = self._state.items.get(key)
        rows: list[list[int]] = [] if data is None else decode_plain(data, len(data))
        return rows

    def _list(self, key: str) -> list[int]:
        data = self._state.items.get(key)
        found = [] if data is None else decode_plain(data, len(data))
        # Code that a vote brought may keep something else there.
        return [item for item in found if type(item) is int] if isinstance(found, list) else []

    def _env(self, env: BlockEnv) -> dict[str, Plain]:
        market_ms = self.clock.market_ms(env.time_ms)
        return {
            "sender": "",
            "public_key": "",
            "tx_id": "",
            "height": env.height,
            "time_ms": env.time_ms,
            "market_ms": market_ms,
            "slot": market_ms // self.clock.slot_ms,
        }

    def _run_hook(
        self, journal: Journal, name: str, entry: str, args: Mapping[str, Plain], env: BlockEnv
    ) -> list[Event]:
        outcome = self._run_lawful(journal, name, entry, args, self._env(env), HOOK_CAPS)
        journal.settle()
        if outcome.error is None:
            return _events(outcome.events)
        # The chain goes on without the hook's writes: no money moves, and every node sees it.
        _log.error("%s.%s failed: %s; %s", name, entry, outcome.error, outcome.detail)
        data = {"kind": outcome.error.kind, "reason": outcome.error.reason}
        return [Event(name, "hook_failed", data)]

    def _run_lawful(
        self,
        journal: Journal,
        name: str,
        entry: str,
        args: Mapping[str, Plain],
        env: dict[str, Plain],
        caps: Caps,
    ) -> Outcome:
        """Run a call; where votes have changed code, undo it if it breaks a law."""
        mark = journal.mark()
        outcome = self._executor.run(journal, name, entry, args, env, caps)
        if outcome.error is None and journal.get(CHANGED_KEY) is not None:
            try:
                check_changes(journal.since(mark))
            except InvariantError as error:
                journal.rollback(mark)
                fault = Fault("law", "the call would break a conservation law; it is undone")
                return Outcome(fault, None, [], outcome.gas, str(error))
        return outcome

    def _run_transaction(
        self, journal: Journal, env: BlockEnv, checked: CheckedTransaction
    ) -> Receipt:
        tx = checked.tx
        try:
            if tx.chain_id != self.params.chain_id:
                raise Rejected("wrong_chain", f"this chain is {self.params.chain_id}")
            if tx.valid_until_ms < env.time_ms:
                raise Rejected(
                    "expired", f"valid until {tx.valid_until_ms} ms, the block is {env.time_ms} ms"
                )
            self._admit(journal, checked)
        except Rejected as error:
            return Receipt(checked.tx_id, error.kind, error.reason, error.message, 0, ())
        call_env = self._env(env)
        call_env["sender"], call_env["tx_id"] = checked.sender, checked.tx_id.hex()
        call_env["public_key"] = tx.sender.hex()
        outcome = self._run_lawful(
            journal, tx.contract, tx.entry, tx.args, call_env, TRANSACTION_CAPS
        )
        if outcome.detail:
            _log.warning("%s.%s: %s; %s", tx.contract, tx.entry, outcome.error, outcome.detail)
        journal.put(NONCE_PREFIX + checked.sender, encode(tx.nonce))
        journal.settle()
        return _receipt(checked.tx_id, outcome)

    def _admit(self, journal: Journal, checked: CheckedTransaction) -> None:
        """Raise `Rejected` if the transaction cannot be executed on `journal`."""
        tx, sender = checked.tx, checked.sender
        export = self._executor.find(journal, tx.contract, tx.entry, ("execute",))
        self._executor.check_arguments(tx.contract, tx.entry, export, tx.args)
        if (
            sender != self.params.regulator
            and journal.get(f"registry/home/{sender}") is None
            and journal.get(f"registry/meter/{sender}") is None
            and journal.get(MEMBER_PREFIX + sender) is None
        ):
            raise Rejected(
                "stranger", f"{sender} is neither home, meter, authority nor regulator here"
            )
        last = _nonce(journal.get(NONCE_PREFIX + sender))
        if tx.nonce <= last:
            raise Rejected("bad_nonce", f"the nonce must be above {last}, it is {tx.nonce}")

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
        tree = merkle.update(self._tree, writes)
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


def _nonce(data: bytes | None) -> int:
    return 0 if data is None else int(decode_plain(data, _NONCE_BYTES_MAX))


def _events(events: Iterable[HostEvent]) -> list[Event]:
    return [Event(event.contract, event.name, event.data) for event in events]


def _receipt(tx_id: bytes, outcome: Outcome) -> Receipt:
    error: ContractError | None = outcome.error
    if error is None:
        return Receipt(tx_id, "ok", "", "", outcome.gas, tuple(_events(outcome.events)))
    return Receipt(tx_id, error.kind, error.reason, error.message, outcome.gas, ())


def _genesis_arguments(params: MarketParams, founding: Founding) -> dict[str, Plain]:
    """Return what each contract is instantiated with."""
    clock = params.clock()
    homes = [
        {
            "address": home.address,
            "meter": home.meter,
            "name": home.name,
            "role": home.role,
            "import_cap_w": home.import_cap_w,
            "export_cap_w": home.export_cap_w,
            "battery_wh": home.battery_wh,
            "pv_w": home.pv_w,
            "place": [home.line, home.cluster, home.green],
        }
        for home in params.homes
    ]
    authorities = [[public.hex(), address_of(public)] for public in founding.authorities]
    balances = {params.regulator: 0} | {home.address: home.balance_micro for home in params.homes}
    for _, address in authorities:
        balances[address] = balances.get(address, 0) + founding.governance.bond_micro
    times = {
        "slot_ms": clock.slot_ms,
        "gate_lead_ms": clock.gate_lead_ms,
        "settle_window_ms": clock.settle_window_ms,
        "keep_slots": params.keep_slots,
    }
    market_rules = {
        name: getattr(params, name)
        for name in (
            "mechanism",
            "trade_price",
            "uniform_price",
            "intraday_every_ms",
            "margin_percent",
            "price_max_micro_per_kwh",
            "energy_max_wh",
            "horizon_slots",
            "orders_per_slot_max",
            "orders_per_home_max",
            "unsettled_orders_max",
            "history_slots",
            "history_max",
            "history_min",
            "default_rate_max_percent",
        )
    }
    market_rules |= {"lines": params.lines, "auctions": params.auctions}
    settlement_rules = {
        "mechanism": params.mechanism,
        "sharing_key": params.sharing_key,
        "sharing_price_micro_per_kwh": params.sharing_price_micro_per_kwh,
        "penalty_micro_per_kwh": params.penalty_micro_per_kwh,
        "shortfall_tolerance_percent": params.shortfall_tolerance_percent,
    }
    return {
        "ledger": {
            "regulator": params.regulator,
            "accounts": [list(account) for account in balances.items()],
            "keepers": ["market", "requests", "settlement", "carbon", "governance"],
        },
        "registry": {
            "regulator": params.regulator,
            "homes": homes,
            "lines": len(params.lines),
            "first_slot": params.market_start_ms // params.slot_ms,
        },
        "tariff": {
            "regulator": params.regulator,
            "utc_offsets": params.utc_offsets,
            "tariffs": params.tariffs,
            "feed_in": [[from_ms, [[0, price]]] for from_ms, price in params.feed_in],
            "intensities": params.intensities,
            "fees": params.fees,
            "coefficients": params.coefficients,
            "feed_in_enabled": params.feed_in_enabled,
            "slot_ms": clock.slot_ms,
            "keep_slots": params.keep_slots,
        },
        "market": market_rules | times | {"regulator": params.regulator},
        "requests": {
            "mechanism": params.mechanism,
            "offer_timeout_ms": params.slot_ms // 3
            if params.offer_timeout_ms is None
            else params.offer_timeout_ms,
            "horizon_slots": params.horizon_slots,
            "orders_per_home_max": params.orders_per_home_max,
            "margin_percent": params.margin_percent,
            "energy_max_wh": params.energy_max_wh,
            "price_max_micro_per_kwh": params.price_max_micro_per_kwh,
        }
        | times,
        "settlement": settlement_rules | times,
        "carbon": {
            "regulator": params.regulator,
            "slot_ms": clock.slot_ms,
            "settle_window_ms": clock.settle_window_ms,
        },
        "governance": {
            "authorities": authorities,
            "params": dict(founding.chain),
            "rules": {
                "epoch_blocks": founding.governance.epoch_blocks,
                "bond_micro": founding.governance.bond_micro,
                "expiry_blocks_max": founding.governance.expiry_blocks_max,
                "evidence_blocks": founding.evidence_blocks,
            },
        },
    }
