"""The deploy gate: what a contract's text may be, and how its operators are made safe.

The text is parsed by Python's own `ast`, walked against an allow-list, and written out again with
every operator whose cost or growth the engine does not meter routed to a guarded form in
`prelude.star`. What is left is the intersection of Starlark and Python: functions, `for`, `if`,
integers, text, lists, maps, comprehensions. Not left: floats, `/`, classes, `while`, recursion (a
function is only ever called by its name, and the call graph must have no cycle), exceptions,
imports, calls outside functions, names that start with an underscore.

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
from typing import Final, NamedTuple, cast

from market.errors import Rejected
from market.vm.scan import parse_text
from wire.codec import Message, encode

FUNCTION_NODES_MAX: Final = 3_000
INT_BITS_MAX: Final = 128
LITERAL_CHARS_MAX: Final = 1_024
PROGRAMS_KEPT_MAX: Final = 64
LIBRARIES_MAX: Final = 8
EXPORTS_NAME: Final = "EXPORTS"
LIBRARIES_NAME: Final = "LIBRARIES"
HOOKS: Final = frozenset({"instantiate", "migrate", "on_block"})
KINDS: Final = frozenset({"execute", "query", "internal"})

# Gate and type checker are part of the chain: whoever changes a word of them changes the rules.
_RULES: Final = ("scan.py", "gate.py", "signatures.py", "types.py", "prelude.star")
PRELUDE: Final = resources.files("market.vm").joinpath("prelude.star").read_text("utf-8")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NODES: Final = tuple(
    getattr(ast, name)
    for name in sorted(
        _words(
            """
            Module FunctionDef arguments arg Return Assign AugAssign For If Expr Pass Break Continue
            BoolOp BinOp UnaryOp IfExp Dict List Tuple ListComp DictComp comprehension Compare Call
            Constant Attribute Subscript Slice Name Load Store And Or Add Sub Mult FloorDiv Mod Not
            USub Eq NotEq Lt LtE Gt GtE In NotIn keyword
            """
        )
    )
)
_METHODS: Final = _words(
    "append get keys values items startswith endswith split pop setdefault index insert"
)
_BUILTINS: Final = _words(
    "len sorted min max range enumerate abs int str bool list type reversed any all"
)
_HOST: Final = _words(
    "kv_get kv_get_many kv_put kv_put_many kv_del kv_scan kv_keys emit revert env call sha256 "
    "verify_signature expect_int expect_text expect_address"
)
_ROUTED: Final[dict[str, str]] = {
    name: f"_{name}" for name in _words("sorted min max range enumerate str list reversed any all")
} | {"int": "_text_to_int"}
_ROUTED_METHODS: Final = _words("split keys values items index pop insert")
_OPERATORS: Final[dict[type[ast.operator], str]] = {
    ast.Add: "_add",
    ast.Sub: "_sub",
    ast.Mult: "_mul",
}
_LITERAL_NODES: Final = (ast.Constant, ast.List, ast.Dict, ast.Load, ast.UnaryOp, ast.USub)
_CALLABLE: Final = _BUILTINS | _HOST


class Export(NamedTuple):
    """One entry of a contract: who may call it, and the names of its arguments."""

    kind: str  # "execute", "query", "internal" or "hook"
    params: tuple[str, ...]


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
    guarded = _Guard(functions, constants).visit(parsed.tree)
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
            raise _refuse(node, "redefined", f"{name} is in library {owners[name]}")


def _refuse(node: ast.AST, reason: str, message: str) -> Rejected:
    return Rejected(reason, f"line {getattr(node, 'lineno', '?')}: {message}")


def _check_top(tree: ast.Module) -> dict[str, ast.FunctionDef]:
    functions: dict[str, ast.FunctionDef] = {}
    names: set[str] = set()
    for node in tree.body:
        name = _top_name(node)
        if name in names:
            raise _refuse(node, "redefined", f"{name} is defined twice")
        if name:
            names.add(name)
        if isinstance(node, ast.FunctionDef):
            if node.name in _CALLABLE:
                raise _refuse(node, "redefined", f"{node.name} is a built-in")
            functions[node.name] = node
        elif isinstance(node, ast.Assign):
            if len(node.targets) != 1 or not isinstance(node.targets[0], ast.Name):
                raise _refuse(node, "top_level", "a constant is one name = one literal")
            if not all(isinstance(part, _LITERAL_NODES) for part in ast.walk(node.value)):
                raise _refuse(node, "top_level", "a constant is a literal, nothing is computed")
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            raise _refuse(node, "top_level", "only functions and constants stand outside functions")
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
        if params != (() if hook == "on_block" else ("args",)):
            raise Rejected("exports", f"{hook} takes {'nothing' if not params else 'args'}")
        exports[hook] = Export("hook", params)
    return exports


def _params(function: ast.FunctionDef) -> tuple[str, ...]:
    return tuple(argument.arg for argument in function.args.args)


def _check_function(function: ast.FunctionDef, functions: set[str]) -> None:
    arguments = function.args
    if arguments.vararg or arguments.kwarg or arguments.kwonlyargs or arguments.posonlyargs:
        raise _refuse(function, "syntax", "only plain parameters")
    if arguments.defaults or function.decorator_list or function.returns:
        raise _refuse(function, "syntax", "no defaults, decorators or annotations")
    nodes = list(ast.walk(function))
    if len(nodes) > FUNCTION_NODES_MAX:
        raise _refuse(function, "function_size", f"{function.name} is too long: divide it")
    called = {node.func for node in nodes if isinstance(node, ast.Call)}
    for node in nodes:
        if isinstance(node, ast.FunctionDef) and node is not function:
            raise _refuse(node, "syntax", "a function inside a function")
        if isinstance(node, ast.Name) and node not in called and node.id in functions | _CALLABLE:
            raise _refuse(node, "function_value", f"{node.id} is only ever called by its name")
        if isinstance(node, ast.arg) and node.arg in functions | _CALLABLE:
            raise _refuse(node, "redefined", f"{node.arg} is a function")


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


def _call(name: str, *args: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(args), [])


def _is_literal(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    return isinstance(node, ast.Constant)


def _is_int(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int


class _Guard(ast.NodeTransformer):
    """Check every node and route unmetered operators to their guards."""

    def __init__(self, functions: set[str], constants: set[str]) -> None:
        self._functions = functions
        self._constants = constants
        self._known: set[str] = set()

    def visit(self, node: ast.AST) -> ast.AST:
        if not isinstance(node, _NODES):
            raise _refuse(node, "syntax", f"{type(node).__name__} is not part of the language")
        names = [getattr(node, key, None) for key in ("id", "arg", "name")]
        for name in names:
            if isinstance(name, str) and name != "_" and (name.startswith("_") or "__" in name):
                raise _refuse(node, "name", f"{name}: a name neither starts with _ nor holds __")
            if isinstance(name, str) and not name.isascii():
                raise _refuse(node, "name", f"{name}: a name is ASCII")
        return cast(ast.AST, super().visit(node))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        local = {argument.arg for argument in node.args.args}
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                local.add(part.id)
        shadowed = local & (self._functions | self._constants | _CALLABLE)
        if shadowed:
            raise _refuse(node, "redefined", f"{min(shadowed)} is a function or a constant")
        self._known = local | self._functions | self._constants | _CALLABLE
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if isinstance(node.ctx, ast.Load) and node.id not in self._known:
            raise _refuse(node, "name", f"{node.id} is not known here")
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if node.value is not None and type(node.value) not in (int, str, bool):
            kind = type(node.value).__name__
            raise _refuse(node, "literal", f"{kind} literal: integers, text and booleans only")
        if type(node.value) is int and node.value.bit_length() > INT_BITS_MAX:
            raise _refuse(node, "literal", f"an integer has at most {INT_BITS_MAX} bits")
        if type(node.value) is str and len(node.value) > LITERAL_CHARS_MAX:
            raise _refuse(node, "literal", f"a text has at most {LITERAL_CHARS_MAX} characters")
        return node

    def visit_Tuple(self, node: ast.Tuple) -> ast.AST:
        # Tuples are hashed by content: one shared many times over would be endless as a map key.
        if isinstance(node.ctx, ast.Load) and not all(_is_literal(item) for item in node.elts):
            raise _refuse(node, "tuple", "a tuple of variables: make it a list")
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        target, value = node.targets[0], node.value
        if len(node.targets) > 1:
            raise _refuse(node, "syntax", "one assignment at a time")
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            if len(target.elts) != len(value.elts):
                raise _refuse(node, "syntax", "as many values as names")
            # `a, b = b, a`: the tuple is taken apart at once.
            target.elts = [cast(ast.expr, self.visit(item)) for item in target.elts]
            value.elts = [cast(ast.expr, self.visit(item)) for item in value.elts]
            return node
        return self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        guard = _OPERATORS.get(type(node.op))
        if guard is None:
            # `text % value` would write out a whole structure.
            if isinstance(node.op, ast.Mod) and not _is_int(node.left):
                node.left = _call("_int", node.left)
            return node
        if isinstance(node.op, ast.Add | ast.Sub) and _is_int(node.right):
            return node
        return _call(guard, node.left, node.right)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.Add | ast.Sub) and _is_int(node.value):
            return node
        if not isinstance(node.target, ast.Name):
            raise _refuse(node, "syntax", "augmented assignment to an element: write it out")
        target = ast.Name(node.target.id, ast.Load())
        guard = _OPERATORS.get(type(node.op))
        if guard is None:
            value: ast.expr = ast.BinOp(_call("_int", target), node.op, node.value)
        else:
            value = _call(guard, target, node.value)
        return ast.Assign([node.target], value)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if len(node.ops) > 1:
            raise _refuse(node, "syntax", "a chain of comparisons: join two with `and`")
        if isinstance(node.ops[0], ast.In | ast.NotIn):
            if not isinstance(node.comparators[0], ast.Tuple | ast.Constant):
                node.comparators = [_call("_pay", node.comparators[0])]
                if not _is_literal(node.left):
                    node.left = _call("_scalar", node.left)
        elif not _is_literal(node.left) and not _is_literal(node.comparators[0]):
            node.left = _call("_scalar", node.left)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.slice, ast.Slice):
            return node
        if not isinstance(node.ctx, ast.Load) or node.slice.step:
            raise _refuse(node, "syntax", "a slice is only read, and has no step")
        nothing = ast.Constant(None)
        return _call("_slice", node.value, node.slice.lower or nothing, node.slice.upper or nothing)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        raise _refuse(node, "method", f".{node.attr} is only ever called")

    def visit_Call(self, node: ast.Call) -> ast.AST:
        function = node.func
        node.args = [cast(ast.expr, self.visit(item)) for item in node.args]
        node.keywords = [cast(ast.keyword, self.visit(item)) for item in node.keywords]
        if any(word.arg is None for word in node.keywords):
            raise _refuse(node, "syntax", "** in a call")
        if isinstance(function, ast.Attribute):
            if function.attr not in _METHODS:
                raise _refuse(node, "method", f".{function.attr} is not among the methods")
            value = cast(ast.expr, self.visit(function.value))
            if function.attr in _ROUTED_METHODS:
                return ast.Call(
                    ast.Name(f"_m_{function.attr}", ast.Load()), [value, *node.args], node.keywords
                )
            node.func = ast.Attribute(value, function.attr, ast.Load())
            return node
        if not isinstance(function, ast.Name) or function.id not in self._functions | _CALLABLE:
            raise _refuse(node, "function_value", "only functions are called, by their names")
        node.func = ast.Name(_ROUTED.get(function.id, function.id), ast.Load())
        return node
