"""Runs contracts: finds the entry, checks who may call it with what, journals, meters.

Instances are named; code is kept by its hash, apart from them. Both are in the state, so a node
that starts from stored state loads exactly the code it was built with. Libraries are named too: a
contract that is deployed takes the text its library has then, and keeps it, by its hash.
"""

import hashlib
from collections.abc import Mapping
from typing import Final, NamedTuple

from market.errors import ContractError, Fault, Rejected, StateError
from market.vm import gas, gate
from market.vm.engine import Engine, Module
from market.vm.gas import Caps, Meter
from market.vm.gate import Code, Export, Library, Program
from market.vm.host import Event, Host, from_text, to_text
from market.vm.journal import Journal, State
from wire.codec import Plain, decode, decode_plain, encode

CONTRACTS_MAX: Final = 64
LIBRARIES_MAX: Final = 32
CODE_PREFIX: Final = "vm/code/"
INSTANCE_PREFIX: Final = "vm/instance/"
LIBRARY_PREFIX: Final = "vm/library/"
IDENTITY_KEY: Final = "vm/identity"
_RESERVED: Final = frozenset({"vm", "chain"})
_CODE_BYTES_MAX: Final = 4 * gate.SOURCE_CHARS_MAX + 4_096
_RECORD_BYTES_MAX: Final = 256


class Outcome(NamedTuple):
    """How one top-level call ended."""

    error: ContractError | None
    result: Plain
    events: list[Event]
    gas: int
    detail: str  # an engine's own words on a fault: for logs only, never for a receipt


class _Instance(NamedTuple):
    program: Program
    module: Module


class Executor:
    """The contracts of one chain and the engine they run on."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._instances: dict[str, _Instance] = {}
        self._libraries: dict[str, Library] = {}

    # -- what is deployed
    def identity(self) -> dict[str, Plain]:
        """What all nodes of a chain must share to execute alike: it stands in the state."""
        return {
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
        if name in self._instances or name in _RESERVED or not name.isidentifier():
            raise Rejected("name", f"{name!r} is taken, or no name for a contract")
        if len(self._instances) >= CONTRACTS_MAX:
            raise Rejected("too_many", f"a chain has at most {CONTRACTS_MAX} contracts")
        shelf = tuple(self._libraries[key] for key in sorted(self._libraries))
        program = self._load(name, source, shelf)
        journal.put(CODE_PREFIX + program.code_hash, program.code)
        journal.put(INSTANCE_PREFIX + name, encode({"code": program.code_hash}))
        return program

    def deploy_library(self, journal: Journal, name: str, source: str) -> Library:
        """Put a library through the gate and write it, for contracts deployed from now on.

        Contracts that stand on an older text of it keep that.

        Raises
        ------
        Rejected
            The gate refuses the text, or the name is none.
        """
        if not name.isidentifier() or name.startswith("_"):
            raise Rejected("name", f"{name!r} is no name for a library")
        if name not in self._libraries and len(self._libraries) >= LIBRARIES_MAX:
            raise Rejected("too_many", f"a chain has at most {LIBRARIES_MAX} libraries")
        library = self._libraries[name] = gate.check_library(name, source)
        journal.put(CODE_PREFIX + library.code_hash, library.code)
        journal.put(LIBRARY_PREFIX + name, encode({"code": library.code_hash}))
        return library

    def restore(self, state: State) -> None:
        """Load the libraries and contracts that stand in `state`.

        Raises
        ------
        StateError
            Code is missing or not what its hash says, or the state was made under other rules.
        """
        identity = state.items.get(IDENTITY_KEY)
        if identity != encode(self.identity()):
            raise StateError("the state was made with another engine, gate or cost table")
        self._instances.clear()
        self._libraries.clear()
        for name, code_hash in _deployed(state, LIBRARY_PREFIX):
            self._libraries[name] = _stored_library(state, name, code_hash)
        for name, code_hash in _deployed(state, INSTANCE_PREFIX):
            code = _stored(state, name, code_hash)
            shelf = tuple(
                _stored_library(state, library, library_hash)
                for library, library_hash in sorted(code.libraries.items())
            )
            self._load(name, code.source, shelf)

    def exports(self) -> Mapping[str, Mapping[str, Export]]:
        """Return the entries of every contract."""
        return {name: instance.program.exports for name, instance in self._instances.items()}

    def find(self, contract: str, entry: str, kinds: tuple[str, ...]) -> Export:
        """Return an entry of one of `kinds`. Raises `Rejected`, saying what there is."""
        instance = self._instances.get(contract)
        if instance is None:
            known = ", ".join(sorted(self._instances))
            raise Rejected("unknown_contract", f"no contract {contract!r}; there are: {known}")
        export = instance.program.exports.get(entry)
        if export is None or export.kind not in kinds:
            open_ = sorted(key for key, e in instance.program.exports.items() if e.kind in kinds)
            raise Rejected(
                "unknown_entry",
                f"{contract} has no {'/'.join(kinds)} entry {entry!r}; it has: {', '.join(open_)}",
            )
        return export

    def check_arguments(self, contract: str, entry: str, export: Export, names: object) -> None:
        """Raise `Rejected` unless exactly the entry's arguments are given."""
        if not isinstance(names, Mapping) or set(names) != set(export.params):
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
            text = self._enter(host, contract, entry, to_text(args))
            result = from_text(text)
        except ContractError as error:
            journal.rollback(mark)
            return Outcome(error, None, [], host.meter.compute, host.detail)
        return Outcome(None, result, host.events, host.meter.compute, "")

    def enter(self, host: Host, contract: str, entry: str, arguments: str) -> str:
        """Run an entry on behalf of a running contract (`Host.call`)."""
        try:
            export = self.find(contract, entry, ("internal", "query"))
            self.check_arguments(contract, entry, export, from_text(arguments))
        except Rejected as error:
            raise Fault(error.reason, error.message) from None
        mark, events = host.journal.mark(), len(host.events)
        try:
            return self._enter(host, contract, entry, arguments)
        except ContractError:
            host.journal.rollback(mark)
            del host.events[events:]
            raise

    def _enter(self, host: Host, contract: str, entry: str, arguments: str) -> str:
        instance = self._instances[contract]
        host.push(contract)
        try:
            host.meter.charge_bytes("enter", len(arguments))
            return self.engine.run(instance.module, host, entry, arguments)
        finally:
            host.pop()

    def _load(self, name: str, source: str, shelf: tuple[Library, ...]) -> Program:
        program = gate.check(name, source, shelf)
        self._instances[name] = _Instance(program, self.engine.load(program))
        return program


def _deployed(state: State, prefix: str) -> list[tuple[str, str]]:
    """Return name and code hash of all that stands under `prefix`, in order of name."""
    return [
        (key.removeprefix(prefix), decode_plain(state.items[key], _RECORD_BYTES_MAX)["code"])
        for key in sorted(state.keys_under(prefix))
    ]


def _stored(state: State, name: str, code_hash: str) -> Code:
    data = state.items.get(CODE_PREFIX + code_hash)
    if data is None:
        raise StateError(f"the code of {name} is missing")
    if hashlib.sha256(data).hexdigest() != code_hash:
        raise StateError(f"the code of {name} is not what its hash says")
    return decode(data, Code, _CODE_BYTES_MAX)


def _stored_library(state: State, name: str, code_hash: str) -> Library:
    return gate.check_library(name, _stored(state, name, code_hash).source)
