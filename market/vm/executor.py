"""Runs contracts: finds the entry, checks who may call it with what, journals, meters.

Instances are named; code is kept by its hash, apart from them. Both are in the state, and which
code runs is read there at every call: an upgrade inside a block that is not committed leaves
nothing behind, and a node that starts from stored state runs exactly the code it was built with.
What an executor keeps beside the state are loaded modules, by what they were loaded from.

Libraries are named too: a contract that is deployed takes the text its library has then, and keeps
it, by its hash.
"""

import functools
import hashlib
import threading
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol, TypeAlias

from market.errors import ContractError, Fault, HostFailure, Rejected, StateError
from market.vm import gas, gate
from market.vm.engine import Engine, Module
from market.vm.gas import Caps, Meter
from market.vm.gate import Code, Export, Library, Program
from market.vm.host import Event, Host, from_text, to_text
from market.vm.journal import Journal, State
from market.vm.scan import SOURCE_CHARS_MAX
from wire.codec import Plain, decode, decode_plain, encode

VM_VERSION: Final = 3
CONTRACTS_MAX: Final = 64
LIBRARIES_MAX: Final = 32
# Loaded code is kept for what is deployed, apart from what was loaded on trial: texts that come to
# nothing must not push out those in use.
LOADED_MAX: Final = 2 * CONTRACTS_MAX
TRIALS_MAX: Final = 16
# Of all chains in this process: every block asks what contracts there are.
INSTANCES_KEPT_MAX: Final = 512
CODE_PREFIX: Final = "vm/code/"
INSTANCE_PREFIX: Final = "vm/instance/"
LIBRARY_PREFIX: Final = "vm/library/"
IDENTITY_KEY: Final = "vm/identity"
# The machine itself, as contracts see it: entries that are no contract's.
NATIVE: Final = "vm"
# What a contract may enter of another.
_INNER: Final = ("internal", "query")
_RESERVED: Final = frozenset({NATIVE, "chain"})
_CODE_BYTES_MAX: Final = 4 * SOURCE_CHARS_MAX + 4_096
_RECORD_BYTES_MAX: Final = 256
NAME_CHARS_MAX: Final = 32

# What the machine does when a contract calls `vm.ENTRY`: host, calling contract, arguments.
Native: TypeAlias = "Callable[[Host, str, Plain], Plain]"


class Source(Protocol):
    """What has key-value pairs: a `Journal`, or a committed state through one."""

    def get(self, key: str) -> bytes | None:
        """Return the value at `key`, or None."""

    def keys_under(self, prefix: str) -> list[str]:
        """Return the keys in a folder and below, in order."""


class Instance(NamedTuple):
    """A contract as it stands in the state; `order` is its place among the hooks of a block."""

    name: str
    code_hash: str
    order: int


class Outcome(NamedTuple):
    """How one top-level call ended."""

    error: ContractError | None
    result: Plain
    events: list[Event]
    gas: int
    detail: str  # an engine's own words on a fault: for logs only, never for a receipt


class _Loaded(NamedTuple):
    program: Program
    module: Module


class Executor:
    """The engine of one chain, and what it has loaded."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.natives: dict[str, Native] = {}
        # By the record of the instance, which names the code by its hash.
        self._loaded: dict[bytes, _Loaded] = {}
        self._trials: dict[bytes, _Loaded] = {}
        self._lock = threading.Lock()

    # -- what is deployed
    def identity(self) -> dict[str, Plain]:
        """What all nodes of a chain must share to execute alike: it stands in the state."""
        return {
            "vm": str(VM_VERSION),
            "engine": self.engine.identity,
            "gate": gate.fingerprint(),
            "gas": gas.fingerprint(),
        }

    def deploy(self, journal: Journal, name: str, source: str) -> Program:
        """Put a contract through the gate, load it and write its code and instance.

        Raises
        ------
        Rejected
            The gate or the engine refuses the text, or the name is taken.
        """
        if journal.get(INSTANCE_PREFIX + name) is not None or name in _RESERVED:
            raise Rejected("name", f"{name!r} is taken")
        if not _is_name(name):
            raise Rejected("name", f"{name!r} is no name for a contract: small letters, digits, _")
        there = instances(journal)
        if len(there) >= CONTRACTS_MAX:
            raise Rejected("too_many", f"a chain has at most {CONTRACTS_MAX} contracts")
        order = 1 + max((instance.order for instance in there), default=0)
        return self._install(journal, name, source, order)

    def upgrade(self, journal: Journal, name: str, source: str) -> Program:
        """Give a contract that there is other code; its state and its place stay.

        Raises
        ------
        Rejected
            There is no such contract, it has this code already, or the text is refused.
        """
        old = self.instance(journal, name)
        program = self._install(journal, name, source, old.order)
        if program.code_hash == old.code_hash:
            raise Rejected("no_change", f"{name} has this code already")
        self._forget_code(journal, old.code_hash)
        return program

    def deploy_library(self, journal: Journal, name: str, source: str) -> Library:
        """Put a library through the gate and write it, for contracts deployed from now on.

        Contracts that stand on an older text of it keep that.

        Raises
        ------
        Rejected
            The gate refuses the text, or the name is none.
        """
        if not _is_name(name):
            raise Rejected("name", f"{name!r} is no name for a library: small letters, digits, _")
        there = dict(libraries(journal))
        if name not in there and len(there) >= LIBRARIES_MAX:
            raise Rejected("too_many", f"a chain has at most {LIBRARIES_MAX} libraries")
        library = gate.check_library(name, source)
        journal.put(CODE_PREFIX + library.code_hash, library.code)
        journal.put(LIBRARY_PREFIX + name, encode({"code": library.code_hash}))
        if name in there and there[name] != library.code_hash:
            self._forget_code(journal, there[name])
        return library

    def shelf(self, source: Source) -> tuple[Library, ...]:
        """Return the libraries that a contract deployed now may stand on."""
        return tuple(_stored_library(source, *row) for row in libraries(source))

    def instance(self, source: Source, name: str) -> Instance:
        """Return a contract's record. Raises `Rejected`, saying what there is."""
        record = source.get(INSTANCE_PREFIX + name)
        if record is None:
            known = ", ".join(sorted(instance.name for instance in instances(source)))
            raise Rejected("unknown_contract", f"no contract {name!r}; there are: {known}")
        return _instance(name, record)

    def program(self, source: Source, name: str) -> Program:
        """Return the program of a contract. Raises `Rejected` if there is none."""
        return self._find(source, name).program

    def restore(self, state: State) -> None:
        """Check and load the libraries and contracts that stand in `state`.

        Raises
        ------
        StateError
            Code is missing or not what its hash says, or the state was made under other rules.
        """
        self.check_identity(state.items.get(IDENTITY_KEY))
        journal = Journal(state)
        try:
            self.shelf(journal)
            for instance in instances(journal):
                self._find(journal, instance.name)
        except Rejected as error:
            raise StateError(f"the stored code is refused: {error}") from None

    def check_identity(self, stored: bytes | None) -> None:
        """Raise `StateError`, naming what differs, unless a chain's machine is this one."""
        ours = self.identity()
        theirs = {} if stored is None else decode_plain(stored, len(stored))
        for part in sorted(ours.keys() | theirs.keys()):
            if theirs.get(part) != ours.get(part):
                raise StateError(
                    f"the chain's contracts are executed with {part} {theirs.get(part)}, this "
                    f"program has {ours.get(part)}: run the version that the other homes run"
                )

    def exports(self, source: Source) -> Mapping[str, Mapping[str, Export]]:
        """Return the entries of every contract, in the order of their instantiation."""
        return {
            instance.name: self._find(source, instance.name).program.exports
            for instance in instances(source)
        }

    def find(self, source: Source, contract: str, entry: str, kinds: tuple[str, ...]) -> Export:
        """Return an entry of one of `kinds`. Raises `Rejected`, saying what there is."""
        return self._export(self._find(source, contract), contract, entry, kinds)

    def _export(
        self, loaded: "_Loaded", contract: str, entry: str, kinds: tuple[str, ...]
    ) -> Export:
        exports = loaded.program.exports
        export = exports.get(entry)
        if export is None or export.kind not in kinds:
            open_ = sorted(key for key, e in exports.items() if e.kind in kinds)
            raise Rejected(
                "unknown_entry",
                f"{contract} has no {'/'.join(kinds)} entry {entry!r}; it has: {', '.join(open_)}",
            )
        return export

    def check_arguments(self, contract: str, entry: str, export: Export, names: object) -> None:
        """Raise `Rejected` unless exactly the entry's arguments are given."""
        # Most often a dict: asking whether it is a Mapping costs more than all else here.
        if not isinstance(names, (dict, Mapping)) or names.keys() != export.names:
            wanted = ", ".join(export.params) or "nothing"
            raise Rejected("bad_arguments", f"{contract}.{entry} takes {wanted}")

    # -- running
    def run(
        self,
        journal: Journal,
        contract: str,
        entry: str,
        args: Mapping[str, Plain],
        env: dict[str, Plain],
        caps: Caps,
    ) -> Outcome:
        """Run one top-level call; on any error its writes and events are dropped.

        Raises
        ------
        HostFailure
            This node failed; nothing may be concluded about the call.
        """
        host = Host(journal, Meter(caps), self, env)
        mark = journal.mark()
        try:
            loaded = self._find(journal, contract)
            text = self._enter(host, loaded, contract, entry, to_text(args))
            result = from_text(text)
        except ContractError as error:
            journal.rollback(mark)
            # The engine never lets go of an exception that a host function raised: with its
            # traceback it would keep this call's frames, and with them the journal, for ever.
            error.__traceback__ = error.__cause__ = error.__context__ = None
            return Outcome(error, None, [], host.meter.compute, host.detail)
        return Outcome(None, result, host.events, host.meter.compute, "")

    def enter(self, host: Host, contract: str, entry: str, arguments: str) -> str:
        """Run an entry on behalf of a running contract (`Host.call`)."""
        if contract == NATIVE:
            return self._enter_native(host, entry, arguments)
        try:
            loaded = self._find(host.journal, contract)
            export = self._export(loaded, contract, entry, _INNER)
            self.check_arguments(contract, entry, export, from_text(arguments))
        except Rejected as error:
            raise Fault(error.reason, error.message) from None
        mark, events = host.journal.mark(), len(host.events)
        try:
            return self._enter(host, loaded, contract, entry, arguments)
        except ContractError:
            host.journal.rollback(mark)
            del host.events[events:]
            raise

    def _enter_native(self, host: Host, entry: str, arguments: str) -> str:
        native = self.natives.get(entry)
        if native is None:
            raise Fault("unknown_entry", f"the machine has no entry {entry!r}")
        host.meter.charge_bytes("enter", len(arguments))
        return to_text(native(host, host.contract, from_text(arguments)))

    def _enter(
        self,
        host: Host,
        loaded: "_Loaded",
        contract: str,
        entry: str,
        arguments: str,
    ) -> str:
        host.push(contract)
        try:
            host.meter.charge_bytes("enter", len(arguments))
            return self.engine.run(loaded.module, host, entry, arguments)
        finally:
            host.pop()

    # -- loading
    def _find(self, source: Source, name: str) -> _Loaded:
        record = source.get(INSTANCE_PREFIX + name)
        if record is None:
            self.instance(source, name)  # says what there is
            raise HostFailure(f"contract {name} is gone")
        found = self._loaded.get(record) or self._trials.get(record)
        if found is None:
            found = self._load(source, name, record)
        return found

    def _load(self, source: Source, name: str, record: bytes) -> _Loaded:
        code = _stored(source, name, _instance(name, record).code_hash)
        shelf = tuple(
            _stored_library(source, library, library_hash)
            for library, library_hash in sorted(code.libraries.items())
        )
        program = gate.check(name, code.source, shelf)
        loaded = _Loaded(program, self.engine.load(program))
        return self._keep(self._loaded, LOADED_MAX, record, loaded)

    def _install(self, journal: Journal, name: str, source: str, order: int) -> Program:
        program = gate.check(name, source, self.shelf(journal))
        record = encode({"code": program.code_hash, "order": order})
        if record not in self._loaded and record not in self._trials:
            loaded = _Loaded(program, self.engine.load(program))
            self._keep(self._trials, TRIALS_MAX, record, loaded)
        journal.put(CODE_PREFIX + program.code_hash, program.code)
        journal.put(INSTANCE_PREFIX + name, record)
        return program

    def _keep(
        self, kept: dict[bytes, _Loaded], count_max: int, record: bytes, loaded: _Loaded
    ) -> _Loaded:
        # Queries load beside a block's execution.
        with self._lock:
            while len(kept) >= count_max:
                kept.pop(next(iter(kept)))
            kept[record] = loaded
        return loaded

    def _forget_code(self, journal: Journal, code_hash: str) -> None:
        """Delete code that nothing stands on any more."""
        used = {library_hash for _, library_hash in libraries(journal)}
        for instance in instances(journal):
            used.add(instance.code_hash)
            used |= set(_stored(journal, instance.name, instance.code_hash).libraries.values())
        gone = _stored(journal, "what is replaced", code_hash)
        for unused in {code_hash, *gone.libraries.values()} - used:
            journal.put(CODE_PREFIX + unused, None)


def instances(source: Source) -> list[Instance]:
    """Return the contracts that stand in `source`, in the order of their instantiation."""
    found = []
    for key in source.keys_under(INSTANCE_PREFIX):
        record = source.get(key)
        if record is not None:
            found.append(_instance(key.removeprefix(INSTANCE_PREFIX), record))
    return sorted(found, key=lambda instance: instance.order)


def libraries(source: Source) -> list[tuple[str, str]]:
    """Return name and code hash of the libraries that stand in `source`, by name."""
    found = []
    for key in source.keys_under(LIBRARY_PREFIX):
        record = source.get(key)
        if record is not None:
            code_hash = decode_plain(record, _RECORD_BYTES_MAX)["code"]
            found.append((key.removeprefix(LIBRARY_PREFIX), code_hash))
    return found


def code(source: Source, name: str, code_hash: str) -> Code:
    """Return code that stands in `source`. Raises `StateError` if it is missing or damaged."""
    return _stored(source, name, code_hash)


@functools.lru_cache(maxsize=INSTANCES_KEPT_MAX)
def _instance(name: str, record: bytes) -> Instance:
    row = decode_plain(record, _RECORD_BYTES_MAX)
    return Instance(name, row["code"], row["order"])


def _is_name(name: str) -> bool:
    if not 0 < len(name) <= NAME_CHARS_MAX or not name[0].isalpha():
        return False
    return all(sign in "abcdefghijklmnopqrstuvwxyz0123456789_" for sign in name)


def _stored(source: Source, name: str, code_hash: str) -> Code:
    data = source.get(CODE_PREFIX + code_hash)
    if data is None:
        raise StateError(f"the code of {name} is missing")
    if hashlib.sha256(data).hexdigest() != code_hash:
        raise StateError(f"the code of {name} is not what its hash says")
    return decode(data, Code, _CODE_BYTES_MAX)


def _stored_library(source: Source, name: str, code_hash: str) -> Library:
    return gate.check_library(name, _stored(source, name, code_hash).source)
