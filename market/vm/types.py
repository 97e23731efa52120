"""The type checker: what would fault whenever it ran, found before anybody votes on it.

Types are flat (`int`, `str`, `list`, ...), and unknown wherever a value comes from outside: an
argument, the state, another contract, an element. A variable has a type if all that is ever
assigned to it has that type; a function returns one if all its returns do. So a complaint is about
code that faults, or compares what is never equal, whatever the arguments; code without complaints
may fault still.

Why not the engine's own checker: on a text of 200 characters it can run for ever (types of lists
grow at every turn of a loop), and cannot be stopped. Here a function is walked a bounded number of
times, and what is said is ours, so that it may stand in a receipt.
"""

import ast
import functools
from collections.abc import Mapping
from typing import Final, NamedTuple

from market.errors import Rejected
from market.vm.gate import Code, Export, Library, Program
from market.vm.infer import Call, Function, literal_type
from market.vm.scan import parse_text
from market.vm.signatures import (
    ANY,
    FUNCTIONS,
    Signature,
)
from wire.codec import decode

ENTRIES_SHOWN_MAX: Final = 6


class _Checked(NamedTuple):
    functions: Mapping[str, Signature]
    constants: Mapping[str, str]
    calls: tuple[Call, ...]


def check(program: Program, exports: Mapping[str, Mapping[str, Export]]) -> None:
    """Check a program that passed the gate, and its calls of the contracts there are.

    Parameters
    ----------
    exports : map of contracts to their entries
        Calls of contracts that are not among them are left alone.

    Raises
    ------
    Rejected
        Reason `types`, with the line.
    """
    _checked_program(program)
    check_calls(program, exports)


def check_calls(program: Program, exports: Mapping[str, Mapping[str, Export]]) -> None:
    """Check only a program's calls of some contracts. Errors as `check`."""
    own = _checked_program(program).calls
    libraries = [call for lib in program.libraries for call in _checked_library(lib).calls]
    for call in [*own, *libraries]:
        if call.contract in exports:
            _check_call(program.name, call, exports[call.contract])


def check_library(name: str, source: str) -> None:
    """Check a library's text that passed the gate. Errors as `check`."""
    _checked(name, source, ())


def _check_call(name: str, call: Call, exports: Mapping[str, Export]) -> None:
    where = f"{name}, line {call.line}: {call.contract}.{call.entry}"
    open_ = {key: e for key, e in exports.items() if e.kind in ("internal", "query")}
    export = open_.get(call.entry)
    if export is None:
        shown = ", ".join(sorted(open_)[:ENTRIES_SHOWN_MAX]) or "nothing"
        raise Rejected("types", f"{where} is no entry for contracts; there are: {shown}")
    if call.names is not None and set(call.names) != set(export.params):
        wanted = ", ".join(export.params) or "nothing"
        raise Rejected("types", f"{where} takes {wanted}, not {', '.join(call.names) or 'nothing'}")


def _checked_program(program: Program) -> _Checked:
    code = decode(program.code, Code, len(program.code))
    return _checked(program.name, code.source, program.libraries)


def _checked_library(library: Library) -> _Checked:
    return _checked(library.name, decode(library.code, Code, len(library.code)).source, ())


@functools.lru_cache(maxsize=128)
def _checked(name: str, source: str, libraries: tuple[Library, ...]) -> _Checked:
    """Check a text on its own. Pure: results are kept. Raises `Rejected`, reason `types`."""
    tree = parse_text(name, source)
    functions = dict(FUNCTIONS)
    constants: dict[str, str] = {}
    for library in libraries:
        known = _checked_library(library)
        functions |= known.functions
        constants |= known.constants
    own: dict[str, Signature] = {}
    calls: list[Call] = []
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            constants[node.targets[0].id] = literal_type(node.value)
    definitions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    for definition in definitions.values():
        params = tuple(argument.arg for argument in definition.args.args)
        own[definition.name] = Signature(params, 0, (ANY,) * len(params), ANY)
    # Callees first, so that what they give is known; the gate has refused cycles.
    for function_name in _in_order(definitions):
        checker = Function(definitions[function_name], functions | own, constants)
        gives = checker.run()
        own[function_name] = own[function_name]._replace(gives=gives)
        calls += checker.calls
    return _Checked(own, constants, tuple(calls))


def _in_order(definitions: Mapping[str, ast.FunctionDef]) -> list[str]:
    waiting = {
        name: {
            part.func.id
            for part in ast.walk(node)
            if isinstance(part, ast.Call) and isinstance(part.func, ast.Name)
        }
        & definitions.keys()
        for name, node in definitions.items()
    }
    order: list[str] = []
    while waiting:
        ready = [name for name, targets in waiting.items() if not targets & waiting.keys()]
        order += ready or list(waiting)
        waiting = {name: t for name, t in waiting.items() if ready and name not in ready}
    return order
