"""The deploy gate: what a contract's text may be, and how its operators are made safe.

The text is parsed by Python's own `ast`, walked against an allow-list (`language.py`), and written
out again with every operator whose cost or growth the engine does not meter routed to a guarded
form in `prelude.star`. What is left is the intersection of Starlark and Python: functions, `for`,
`if`, integers, text, lists, maps, comprehensions. Not left: floats, `/`, classes, `while`,
recursion (a function is only ever called by its name, and the call graph must have no cycle),
exceptions, imports, calls outside functions, names that start with an underscore.

A contract may stand on libraries: `LIBRARIES = ["matching"]` puts their functions and constants
into its program, before its own. A library passes the same gate on its own, so it knows no name of
the contract that uses it; no name may be defined twice.

The gate keeps honest contracts deterministic and bounded. It is no security boundary against a
malicious contract that two thirds of the authorities approve.
"""

import ast
import functools
import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Final, NamedTuple

from market.errors import Rejected
from market.vm.language import CALLABLE, Guard, refuse
from market.vm.scan import parse_text
from wire.codec import Message, encode

FUNCTION_NODES_MAX: Final = 3_000
PROGRAMS_KEPT_MAX: Final = 64
LIBRARIES_MAX: Final = 8
EXPORTS_NAME: Final = "EXPORTS"
LIBRARIES_NAME: Final = "LIBRARIES"
# Those of a block take nothing: before its transactions, and after them.
BLOCK_HOOKS: Final = ("on_block", "after_block")
HOOKS: Final = frozenset({"instantiate", "migrate", *BLOCK_HOOKS})
KINDS: Final = frozenset({"execute", "query", "internal"})

# Gate and type checker are part of the chain: whoever changes a word of them changes the rules.
_RULES: Final = (
    *("scan.py", "gate.py", "language.py"),
    *("signatures.py", "infer.py", "types.py", "prelude.star"),
)
PRELUDE: Final = resources.files("market.vm").joinpath("prelude.star").read_text("utf-8")

_LITERAL_NODES: Final = (ast.Constant, ast.List, ast.Dict, ast.Load, ast.UnaryOp, ast.USub)


class Export(NamedTuple):
    """One entry of a contract: who may call it, and the names of its arguments."""

    kind: str  # "execute", "query", "internal" or "hook"
    params: tuple[str, ...]

    @property
    def names(self) -> frozenset[str]:
        """The names of its arguments, in no order."""
        return _names(self.params)


class Library(NamedTuple):
    """A library's text that passed the gate; `text` is its guarded form."""

    name: str
    code: bytes
    text: str
    functions: frozenset[str]
    constants: frozenset[str]

    @property
    def code_hash(self) -> str:
        """What the library's text is known by."""
        return hashlib.sha256(self.code).hexdigest()


class Program(NamedTuple):
    """A contract's text that passed the gate.

    `text` is what engines load: prelude, guarded libraries, guarded contract, and for each export
    `<name>__entry`, which takes the arguments as one JSON text and returns the result as one.
    `code` is what the state keeps, by its hash: the text, and which libraries it stands on.
    """

    name: str
    code: bytes
    text: str
    exports: Mapping[str, Export]
    libraries: tuple[Library, ...]

    @property
    def code_hash(self) -> str:
        """What the contract's text, with that of its libraries, is known by."""
        return hashlib.sha256(self.code).hexdigest()


class Code(Message, frozen=True, tag="code"):
    """Code as it stands in the state, under its hash; `libraries` maps names to code hashes."""

    source: str
    libraries: dict[str, str]


class _Parsed(NamedTuple):
    tree: ast.Module
    functions: Mapping[str, ast.FunctionDef]
    constants: frozenset[str]


@functools.cache
def _names(params: tuple[str, ...]) -> frozenset[str]:
    return frozenset(params)


def fingerprint() -> str:
    """Hash of everything that decides which texts are taken, and what they come to mean."""
    here = resources.files("market.vm")
    parts = [here.joinpath(name).read_text("utf-8") for name in _RULES]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@functools.lru_cache(maxsize=PROGRAMS_KEPT_MAX)
def check(name: str, source: str, shelf: tuple[Library, ...] = ()) -> Program:
    """Pass a contract's text through the gate. A pure function: its results are kept.

    Parameters
    ----------
    name, source : str
    shelf : tuple of Library
        The libraries there are; the contract declares those it wants.

    Raises
    ------
    Rejected
        With the line and the reason.
    """
    parsed = _parse(name, source)
    libraries = _libraries(parsed, shelf)
    exports = _exports(parsed.tree, parsed.functions)
    text = _guarded(parsed, libraries)
    entries = "".join(_entry(entry, export.params) for entry, export in exports.items())
    code = encode(Code(source, {library.name: library.code_hash for library in libraries}))
    parts = [PRELUDE, *(library.text for library in libraries), text, entries]
    return Program(name, code, "\n".join(parts), exports, libraries)


@functools.lru_cache(maxsize=PROGRAMS_KEPT_MAX)
def check_library(name: str, source: str) -> Library:
    """Pass a library's text through the gate, on its own.

    Raises
    ------
    Rejected
        With the line and the reason.
    """
    parsed = _parse(name, source)
    reserved = parsed.constants & {EXPORTS_NAME, LIBRARIES_NAME}
    if reserved:
        raise Rejected("library", f"{name}: a library has no {min(reserved)}, a contract has")
    if HOOKS & parsed.functions.keys():
        hook = min(HOOKS & parsed.functions.keys())
        raise Rejected("library", f"{name}: {hook} is a contract's; a library has no entries")
    text = _guarded(parsed, ())
    functions = frozenset(parsed.functions)
    return Library(name, encode(Code(source, {})), text, functions, parsed.constants)


def _parse(name: str, source: str) -> _Parsed:
    tree = parse_text(name, source)
    functions = _check_top(tree)
    constants = frozenset(
        name for name in map(_top_name, tree.body) if name and name not in functions
    )
    return _Parsed(tree, functions, constants)


def _guarded(parsed: _Parsed, libraries: tuple[Library, ...]) -> str:
    """Check the functions and return their guarded text. The tree is used up."""
    functions = set(parsed.functions).union(*(library.functions for library in libraries))
    constants = set(parsed.constants).union(*(library.constants for library in libraries))
    for function in parsed.functions.values():
        _check_function(function, functions)
    # A library knows none of the contract's functions: no cycle leads through one.
    _check_calls(parsed.functions)
    guarded = Guard(functions, constants).visit(parsed.tree)
    return ast.unparse(ast.fix_missing_locations(guarded))


def _libraries(parsed: _Parsed, shelf: tuple[Library, ...]) -> tuple[Library, ...]:
    """Return the libraries a contract declares; refuse those unknown, and names that clash."""
    if LIBRARIES_NAME not in parsed.constants:
        return ()
    declared = _declared(parsed.tree, LIBRARIES_NAME)
    if (
        not isinstance(declared, list)
        or not all(type(name) is str for name in declared)
        or len(set(declared)) < len(declared)
        or len(declared) > LIBRARIES_MAX
    ):
        raise Rejected(
            "library", f"LIBRARIES is a list of at most {LIBRARIES_MAX} names, each of them once"
        )
    known = {library.name: library for library in shelf}
    for name in declared:
        if name not in known:
            there = ", ".join(sorted(known)) or "none"
            raise Rejected("library", f"there is no library {name}; there are: {there}")
    libraries = tuple(known[name] for name in declared)
    _check_clashes(parsed.tree, libraries)
    return libraries


def _check_clashes(tree: ast.Module, libraries: tuple[Library, ...]) -> None:
    owners: dict[str, str] = {}
    for library in libraries:
        for name in sorted(library.functions | library.constants):
            if name in owners:
                raise Rejected(
                    "redefined", f"{name} is in library {owners[name]} and {library.name}"
                )
            owners[name] = library.name
    for node in tree.body:
        name = _top_name(node) or ""
        if name in owners:
            raise refuse(node, "redefined", f"{name} is in library {owners[name]}")


def _check_top(tree: ast.Module) -> dict[str, ast.FunctionDef]:
    functions: dict[str, ast.FunctionDef] = {}
    names: set[str] = set()
    for node in tree.body:
        name = _top_name(node)
        if name in names:
            raise refuse(node, "redefined", f"{name} is defined twice")
        if name:
            names.add(name)
        if isinstance(node, ast.FunctionDef):
            if node.name in CALLABLE:
                raise refuse(node, "redefined", f"{node.name} is a built-in")
            functions[node.name] = node
        elif isinstance(node, ast.Assign):
            if len(node.targets) != 1 or not isinstance(node.targets[0], ast.Name):
                raise refuse(node, "top_level", "a constant is one name = one literal")
            if not all(isinstance(part, _LITERAL_NODES) for part in ast.walk(node.value)):
                raise refuse(node, "top_level", "a constant is a literal, nothing is computed")
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            raise refuse(node, "top_level", "only functions and constants stand outside functions")
    return functions


def _top_name(node: ast.stmt) -> str | None:
    """Return the name that a statement at the top defines, if it is one of the allowed ones."""
    if isinstance(node, ast.FunctionDef):
        return node.name
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return None


def _declared(tree: ast.Module, name: str) -> object:
    """Return the value of the constant `name`, None if there is none or it is no value."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and _top_name(node) == name:
            return _literal(node)
    return None


def _literal(node: ast.Assign) -> object:
    try:
        return ast.literal_eval(node.value)
    except (ValueError, TypeError):
        return None


def _exports(tree: ast.Module, functions: Mapping[str, ast.FunctionDef]) -> dict[str, Export]:
    declared = _declared(tree, EXPORTS_NAME)
    if not isinstance(declared, dict) or not declared:
        raise Rejected("exports", "the contract needs EXPORTS = {entry: kind}")
    exports: dict[str, Export] = {}
    for entry, kind in declared.items():
        if not isinstance(kind, str) or kind not in KINDS:
            raise Rejected("exports", f"{entry}: a kind is one of {', '.join(sorted(KINDS))}")
        if entry not in functions or entry in HOOKS:
            raise Rejected("exports", f"{entry} is not a function that can be exported")
        exports[entry] = Export(kind, _params(functions[entry]))
    for hook in sorted(HOOKS & functions.keys()):
        params = _params(functions[hook])
        if params != (() if hook in BLOCK_HOOKS else ("args",)):
            raise Rejected("exports", f"{hook} takes {'nothing' if not params else 'args'}")
        exports[hook] = Export("hook", params)
    return exports


def _params(function: ast.FunctionDef) -> tuple[str, ...]:
    return tuple(argument.arg for argument in function.args.args)


def _check_function(function: ast.FunctionDef, functions: set[str]) -> None:
    arguments = function.args
    if arguments.vararg or arguments.kwarg or arguments.kwonlyargs or arguments.posonlyargs:
        raise refuse(function, "syntax", "only plain parameters")
    if arguments.defaults or function.decorator_list or function.returns:
        raise refuse(function, "syntax", "no defaults, decorators or annotations")
    nodes = list(ast.walk(function))
    if len(nodes) > FUNCTION_NODES_MAX:
        raise refuse(function, "function_size", f"{function.name} is too long: divide it")
    called = {node.func for node in nodes if isinstance(node, ast.Call)}
    for node in nodes:
        if isinstance(node, ast.FunctionDef) and node is not function:
            raise refuse(node, "syntax", "a function inside a function")
        if isinstance(node, ast.Name) and node not in called and node.id in functions | CALLABLE:
            raise refuse(node, "function_value", f"{node.id} is only ever called by its name")
        if isinstance(node, ast.arg) and node.arg in functions | CALLABLE:
            raise refuse(node, "redefined", f"{node.arg} is a function")


def _check_calls(functions: Mapping[str, ast.FunctionDef]) -> None:
    """Refuse cycles in the call graph."""
    calls = {
        name: {
            node.func.id
            for node in ast.walk(function)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        & functions.keys()
        for name, function in functions.items()
    }
    while calls:
        leaves = {name for name, targets in calls.items() if not targets & calls.keys()}
        if not leaves:
            raise Rejected("recursion", f"these call each other: {', '.join(sorted(calls))}")
        calls = {name: targets for name, targets in calls.items() if name not in leaves}


def _entry(name: str, params: tuple[str, ...]) -> str:
    arguments = ", ".join(f'args["{param}"]' for param in params)
    if name in HOOKS and params:
        arguments = "args"
    return (
        f"def {name}__entry(text):\n"
        f"    args = json.decode(text)\n"
        f"    return _encode({name}({arguments}))\n"
    )
