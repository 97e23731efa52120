"""Code that comes by vote: judged before the vote opens, put in force at an epoch's end.

A change is a contract's first text (`deploy`), another text for a contract that is there
(`upgrade`), or a library's text (`library`). `governance.star` counts the votes; it reaches this
module as the machine's own entries, `vm.propose` and `vm.drop`.

Before a vote opens the change is rehearsed on the block's journal, whole: gate, type check, load,
`instantiate` or `migrate`, the hooks of one block, the conservation laws; then all of it is undone.
The rehearsal runs again when the change comes into force, and is kept if it goes well. Whatever
goes wrong is undone and named, and the old code stays.

What is proposed stands in the state under `vm/proposed/NUMBER` until its vote is over.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from market import idle
from market.errors import ContractError, InvariantError, Rejected, Revert
from market.invariants import check_changes
from market.vm import gate, types
from market.vm.executor import (
    NATIVE,
    Executor,
    Source,
    code,
    instances,
    libraries,
)
from market.vm.gas import CHANGE_CAPS, COST
from market.vm.gate import BLOCK_HOOKS, Program
from market.vm.host import MESSAGE_CHARS_MAX, Event, Host
from market.vm.journal import Journal
from market.vm.scan import SOURCE_CHARS_MAX
from wire.codec import Message, Plain, decode, decode_plain, encode, plain_problem
from wire.errors import DecodeError

KINDS: Final = ("deploy", "upgrade", "library")
GOVERNANCE: Final = "governance"
PROPOSED_PREFIX: Final = "vm/proposed/"
# How many changes of code votes have put in force; absent as long as all code is of genesis.
CHANGED_KEY: Final = "vm/changed"
DUE_KEY: Final = "governance/due"
DUE_MAX: Final = 4
# The most texts that one block checks: the longest takes a good part of a second.
CODE_CHECKS_PER_BLOCK_MAX: Final = 1
ARGS_BYTES_MAX: Final = 4_096
_CHANGE_BYTES_MAX: Final = 4 * SOURCE_CHARS_MAX + ARGS_BYTES_MAX + 1_024
_DUE_BYTES_MAX: Final = 4_096
_COUNT_BYTES_MAX: Final = 16

# The entries that the chain itself calls: without them it could not go on.
_NEEDED: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    GOVERNANCE: {
        "convict": ("offence", "height", "addresses"),
        "enacted": ("number", "reason", "message"),
        "on_block": (),
        "succeed": ("rules", "seats"),
    },
    "export": {"on_block": (), "succeed": ()},
}

_log = logging.getLogger(__name__)


class CodeChange(Message, frozen=True, tag="code-change"):
    """What a proposal would put in force; `code_hash` covers the text and its libraries'."""

    kind: str
    name: str
    source: str
    args: dict[str, Any]
    code_hash: str


class Deployer:
    """Judges changes of code and puts them in force, over the journals of one chain's blocks.

    Parameters
    ----------
    executor : Executor
        Gets the machine's entries.
    epoch_blocks : int
        So that governance is rehearsed at the end of an epoch, where its work is.
    are_terms : callable
        Whether a journal says who decides the block after a height, and by which parameters.
    """

    def __init__(
        self, executor: Executor, epoch_blocks: int, are_terms: Callable[[Journal, int], bool]
    ) -> None:
        self._executor = executor
        self._epoch_blocks = epoch_blocks
        self._are_terms = are_terms
        executor.natives = {"propose": self._propose, "drop": self._drop}

    # -- the machine's entries
    def _propose(self, host: Host, caller: str, args: Plain) -> Plain:
        """Judge a change and keep it; returns its code hash. Raises `Revert`: code and reason."""
        _need_governance(caller)
        number, change = _read_change(args)
        journal = host.journal
        if journal.code_checks >= CODE_CHECKS_PER_BLOCK_MAX:
            raise Revert(
                "busy", f"a block checks at most {CODE_CHECKS_PER_BLOCK_MAX} text: try again"
            )
        journal.code_checks += 1
        host.meter.charge(COST["code_check"])
        mark = journal.mark()
        try:
            code_hash, _ = self.install(journal, change, host.block_env)
        except ContractError as error:
            raise Revert(error.reason, error.message[:MESSAGE_CHARS_MAX]) from None
        finally:
            journal.rollback(mark)
        kept = CodeChange(change.kind, change.name, change.source, change.args, code_hash)
        journal.put(f"{PROPOSED_PREFIX}{number}", encode(kept))
        return code_hash

    def _drop(self, host: Host, caller: str, args: Plain) -> Plain:
        """Forget a change whose vote is over."""
        _need_governance(caller)
        host.meter.charge(COST["kv_del"])
        if isinstance(args, dict) and type(args.get("number")) is int:
            host.journal.put(f"{PROPOSED_PREFIX}{args['number']}", None)
        return None

    # -- in force
    def enact(self, journal: Journal, env: dict[str, Plain]) -> list[Event]:
        """Put in force what governance says is due; each change whole, or not at all."""
        events: list[Event] = []
        for number in due(journal):
            mark = journal.mark()
            try:
                found = self._enact(journal, number, env)
            except ContractError as error:
                _log.warning("the code of proposal %d is not put in force: %s", number, error)
                journal.rollback(mark)
                found = self._report_failure(journal, number, error, env)
            journal.put(f"{PROPOSED_PREFIX}{number}", None)
            events += found
        return events

    def _enact(self, journal: Journal, number: int, env: dict[str, Plain]) -> list[Event]:
        data = journal.get(f"{PROPOSED_PREFIX}{number}")
        if data is None:
            raise Rejected("unknown_proposal", f"no code waits under number {number}")
        change = decode(data, CodeChange, _CHANGE_BYTES_MAX)
        _, events = self.install(journal, change, env)
        events += self._report(journal, number, None, env)
        count = decode_plain(journal.get(CHANGED_KEY) or encode(0), _COUNT_BYTES_MAX)
        journal.put(CHANGED_KEY, encode(count + 1))
        return events

    def _report(
        self, journal: Journal, number: int, error: ContractError | None, env: dict[str, Plain]
    ) -> list[Event]:
        """Tell governance, as it now is, how a change ended. Raises what it ends in."""
        reason, message = ("", "") if error is None else (error.reason, error.message)
        args: dict[str, Plain] = {"number": number, "reason": reason, "message": message}
        outcome = self._executor.run(journal, GOVERNANCE, "enacted", args, env, CHANGE_CAPS)
        if outcome.error is not None:
            raise outcome.error
        return outcome.events

    def _report_failure(
        self, journal: Journal, number: int, error: ContractError, env: dict[str, Plain]
    ) -> list[Event]:
        try:
            return self._report(journal, number, error, env)
        except ContractError as again:
            data = {"kind": again.kind, "reason": again.reason}
            return [Event(GOVERNANCE, "hook_failed", data)]

    def install(
        self, journal: Journal, change: CodeChange, env: dict[str, Plain]
    ) -> tuple[str, list[Event]]:
        """Write a change to the journal, run what begins with it, and check what came of it.

        Returns
        -------
        tuple
            The code hash, and the events.

        Raises
        ------
        ContractError
            It cannot be; the caller undoes what was written.
        """
        executor, mark = self._executor, journal.mark()
        if change.kind == "library":
            code_hash = executor.deploy_library(journal, change.name, change.source).code_hash
            types.check_library(change.name, change.source)
            events: list[Event] = []
        else:
            deploy = executor.deploy if change.kind == "deploy" else executor.upgrade
            program = deploy(journal, change.name, change.source)
            # What the old code has said of its hook says nothing of the new one's.
            idle.wake(journal, [change.name])
            code_hash = program.code_hash
            self._check_fit(journal, change.name, program)
            events = self._begin(journal, change, program, env)
            self._rehearse(journal, change.name, program, env)
        if change.code_hash not in ("", code_hash):
            raise Rejected(
                "library_changed", f"{change.name} stands on a library that has changed since"
            )
        try:
            check_changes(journal.since(mark))
        except InvariantError as error:
            raise Rejected("law", f"{change.name} would break a law: {error}") from None
        return code_hash, events

    def _check_fit(self, journal: Journal, name: str, program: Program) -> None:
        """Refuse what is badly typed, and what does not fit those it calls or is called by."""
        for entry, params in _NEEDED.get(name, {}).items():
            export = program.exports.get(entry)
            if export is None or export.kind not in ("internal", "hook") or export.params != params:
                wanted = ", ".join(params) or "nothing"
                raise Rejected("needed", f"the chain calls {name}.{entry}, which takes {wanted}")
        exports = self._executor.exports(journal)
        types.check(program, exports)
        for instance in instances(journal):
            if instance.name != name:
                caller = self._executor.program(journal, instance.name)
                types.check_calls(caller, {name: exports[name]})

    def _begin(
        self, journal: Journal, change: CodeChange, program: Program, env: dict[str, Plain]
    ) -> list[Event]:
        entry = "instantiate" if change.kind == "deploy" else "migrate"
        if entry not in program.exports:
            if change.args:
                raise Rejected("bad_arguments", f"{change.name} has no {entry} that takes args")
            return []
        return self._run(journal, change.name, entry, change.args, env)

    def _rehearse(
        self, journal: Journal, name: str, program: Program, env: dict[str, Plain]
    ) -> None:
        """Run a block's hooks and undo it: what faults at once shall not come into force."""
        hooks = [hook for hook in BLOCK_HOOKS if hook in program.exports]
        if not hooks:
            return
        if name == GOVERNANCE:
            height = int(env["height"])
            env = env | {"height": height + self._epoch_blocks - height % self._epoch_blocks}
        mark = journal.mark()
        try:
            for hook in hooks:
                self._run(journal, name, hook, {}, env)
                check_changes(journal.since(mark))
            if name == GOVERNANCE and not self._are_terms(journal, int(env["height"])):
                raise Rejected("terms", "governance.on_block names no authorities or parameters")
        except InvariantError as error:
            raise Rejected("law", f"{name}.{hook} would break a law: {error}") from None
        finally:
            journal.rollback(mark)

    def _run(
        self,
        journal: Journal,
        name: str,
        entry: str,
        args: Mapping[str, Plain],
        env: dict[str, Plain],
    ) -> list[Event]:
        outcome = self._executor.run(journal, name, entry, args, env, CHANGE_CAPS)
        if outcome.error is not None:
            if outcome.detail:
                _log.warning("%s.%s: %s", name, entry, outcome.detail)
            raise Rejected(outcome.error.reason, f"{name}.{entry}: {outcome.error.message}")
        return outcome.events


# -- before anything is sent


def judge(
    change: CodeChange,
    shelf: tuple[gate.Library, ...],
    exports: Mapping[str, Mapping[str, gate.Export]],
) -> str:
    """Judge a change by what needs no state, as the chain will; return its code hash.

    Parameters
    ----------
    shelf, exports
        The libraries there are, and the entries of the contracts there are.

    Raises
    ------
    Rejected
        Gate or type checker refuse the text, with line and reason.
    """
    if change.kind == "library":
        library = gate.check_library(change.name, change.source)
        types.check_library(change.name, change.source)
        return library.code_hash
    program = gate.check(change.name, change.source, shelf)
    types.check(program, {**exports, change.name: program.exports})
    return program.code_hash


# -- questions


def overview(source: Source, executor: Executor) -> Plain:
    """Return what is deployed: contracts in the order of their hooks, and libraries by name."""
    contracts = []
    for instance in instances(source):
        program = executor.program(source, instance.name)
        contracts.append(
            {
                "name": instance.name,
                "code_hash": instance.code_hash,
                "libraries": [library.name for library in program.libraries],
                "entries": _entries(program),
            }
        )
    shelf = [{"name": name, "code_hash": code_hash} for name, code_hash in libraries(source)]
    return {"contracts": contracts, "libraries": shelf}


def contract(source: Source, executor: Executor, name: str) -> Plain:
    """Return a contract or library with its text. Raises `Rejected`, saying what there is."""
    shelf = dict(libraries(source))
    if name in shelf:
        text = code(source, name, shelf[name]).source
        return {"name": name, "kind": "library", "code_hash": shelf[name], "source": text}
    instance = executor.instance(source, name)
    program = executor.program(source, name)
    return {
        "name": name,
        "kind": "contract",
        "code_hash": instance.code_hash,
        "libraries": {library.name: library.code_hash for library in program.libraries},
        "entries": _entries(program),
        "source": code(source, name, instance.code_hash).source,
    }


def proposed(source: Source, number: int) -> Plain:
    """Return the change that a proposal is about. Raises `Rejected` if none waits."""
    data = source.get(f"{PROPOSED_PREFIX}{number}")
    if data is None:
        raise Rejected("unknown_proposal", f"no code waits for a vote under number {number}")
    change = decode(data, CodeChange, _CHANGE_BYTES_MAX)
    return {
        "number": number,
        "kind": change.kind,
        "name": change.name,
        "code_hash": change.code_hash,
        "args": change.args,
        "source": change.source,
    }


def ask(source: Source, executor: Executor, entry: str, args: Mapping[str, Plain]) -> Plain:
    """Answer a question about code, as if the machine were a contract.

    Raises
    ------
    Rejected
        There is no such question, or it is about nothing that there is.
    """
    given = set(args)
    if entry == "overview" and not given:
        return overview(source, executor)
    if entry == "contract" and given == {"name"}:
        return contract(source, executor, str(args["name"]))
    if entry == "proposed" and given == {"number"}:
        return proposed(source, int(args["number"]) if type(args["number"]) is int else 0)
    raise Rejected(
        "unknown_entry", f"{NATIVE} answers overview(), contract(name), proposed(number)"
    )


def _entries(program: Program) -> list[dict[str, Plain]]:
    return [
        {"name": name, "kind": export.kind, "params": list(export.params)}
        for name, export in sorted(program.exports.items())
    ]


def _need_governance(caller: str) -> None:
    if caller != GOVERNANCE:
        raise Revert("not_governance", "code comes by a vote: governance.propose_code")


def _read_change(args: Plain) -> tuple[int, CodeChange]:
    if not isinstance(args, dict) or set(args) != {"number", "kind", "name", "source", "args"}:
        raise Revert("bad_argument", "vm.propose takes number, kind, name, source, args")
    number, begin = args["number"], args["args"]
    texts = [args[key] for key in ("kind", "name", "source")]
    if type(number) is not int or not all(type(text) is str for text in texts):
        raise Revert("bad_argument", "number is an integer; kind, name and source are text")
    kind, name, source = texts
    if kind not in KINDS:
        raise Revert("bad_argument", f"kind must be one of {', '.join(KINDS)}")
    if type(begin) is not dict or plain_problem(begin) or len(encode(begin)) > ARGS_BYTES_MAX:
        raise Revert("bad_argument", f"args is a map of at most {ARGS_BYTES_MAX} bytes")
    if kind == "library" and begin:
        raise Revert("bad_arguments", "a library takes no args")
    return number, CodeChange(kind, name, source, begin, "")


def due(journal: Journal) -> list[int]:
    """Return the numbers of the changes that governance wants in force now, in order."""
    data = journal.get(DUE_KEY)
    if data is None:
        return []
    try:
        numbers = decode_plain(data, _DUE_BYTES_MAX)
    except DecodeError:
        return []
    if not isinstance(numbers, list):
        return []
    return [number for number in numbers if type(number) is int][:DUE_MAX]
