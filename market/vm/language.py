"""The contracts' language: which nodes, methods and functions it has, and the guarded forms of its
operators.

`Guard` checks a parsed text against the language and routes what an engine does not meter to the
guarded forms in `prelude.star`; `gate.py` decides what stands around functions, and in which order.
"""

import ast
from typing import Final, cast

from market.errors import Rejected

INT_BITS_MAX: Final = 128
LITERAL_CHARS_MAX: Final = 1_024


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NODES: Final = tuple(
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
METHODS: Final = _words(
    "append get keys values items startswith endswith split pop setdefault index insert"
)
BUILTINS: Final = _words(
    "len sorted min max range enumerate abs int str bool list type reversed any all"
)
HOST: Final = _words(
    "kv_get kv_get_many kv_put kv_put_many kv_del kv_scan kv_keys emit revert env caller call "
    "sha256 verify_signature expect_int expect_text expect_address"
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
CALLABLE: Final = BUILTINS | HOST


def refuse(node: ast.AST, reason: str, message: str) -> Rejected:
    """Return the refusal of a node, with its line."""
    return Rejected(reason, f"line {getattr(node, 'lineno', '?')}: {message}")


def _call(name: str, *args: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(args), [])


def _is_literal(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    return isinstance(node, ast.Constant)


def _is_int(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int


class Guard(ast.NodeTransformer):
    """Check every node and route unmetered operators to their guards."""

    def __init__(self, functions: set[str], constants: set[str]) -> None:
        self._functions = functions
        self._constants = constants
        self._known: set[str] = set()

    def visit(self, node: ast.AST) -> ast.AST:
        if not isinstance(node, NODES):
            raise refuse(node, "syntax", f"{type(node).__name__} is not part of the language")
        names = [getattr(node, key, None) for key in ("id", "arg", "name")]
        for name in names:
            if isinstance(name, str) and name != "_" and (name.startswith("_") or "__" in name):
                raise refuse(node, "name", f"{name}: a name neither starts with _ nor holds __")
            if isinstance(name, str) and not name.isascii():
                raise refuse(node, "name", f"{name}: a name is ASCII")
        return cast(ast.AST, super().visit(node))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        local = {argument.arg for argument in node.args.args}
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                local.add(part.id)
        shadowed = local & (self._functions | self._constants | CALLABLE)
        if shadowed:
            raise refuse(node, "redefined", f"{min(shadowed)} is a function or a constant")
        self._known = local | self._functions | self._constants | CALLABLE
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if isinstance(node.ctx, ast.Load) and node.id not in self._known:
            raise refuse(node, "name", f"{node.id} is not known here")
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if node.value is not None and type(node.value) not in (int, str, bool):
            kind = type(node.value).__name__
            raise refuse(node, "literal", f"{kind} literal: integers, text and booleans only")
        if type(node.value) is int and node.value.bit_length() > INT_BITS_MAX:
            raise refuse(node, "literal", f"an integer has at most {INT_BITS_MAX} bits")
        if type(node.value) is str and len(node.value) > LITERAL_CHARS_MAX:
            raise refuse(node, "literal", f"a text has at most {LITERAL_CHARS_MAX} characters")
        return node

    def visit_Tuple(self, node: ast.Tuple) -> ast.AST:
        # Tuples are hashed by content: one shared many times over would be endless as a map key.
        if isinstance(node.ctx, ast.Load) and not all(_is_literal(item) for item in node.elts):
            raise refuse(node, "tuple", "a tuple of variables: make it a list")
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        target, value = node.targets[0], node.value
        if len(node.targets) > 1:
            raise refuse(node, "syntax", "one assignment at a time")
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            if len(target.elts) != len(value.elts):
                raise refuse(node, "syntax", "as many values as names")
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
            raise refuse(node, "syntax", "augmented assignment to an element: write it out")
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
            raise refuse(node, "syntax", "a chain of comparisons: join two with `and`")
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
            raise refuse(node, "syntax", "a slice is only read, and has no step")
        nothing = ast.Constant(None)
        return _call("_slice", node.value, node.slice.lower or nothing, node.slice.upper or nothing)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        raise refuse(node, "method", f".{node.attr} is only ever called")

    def visit_Call(self, node: ast.Call) -> ast.AST:
        function = node.func
        node.args = [cast(ast.expr, self.visit(item)) for item in node.args]
        node.keywords = [cast(ast.keyword, self.visit(item)) for item in node.keywords]
        if any(word.arg is None for word in node.keywords):
            raise refuse(node, "syntax", "** in a call")
        if isinstance(function, ast.Attribute):
            if function.attr not in METHODS:
                raise refuse(node, "method", f".{function.attr} is not among the methods")
            value = cast(ast.expr, self.visit(function.value))
            if function.attr in _ROUTED_METHODS:
                return ast.Call(
                    ast.Name(f"_m_{function.attr}", ast.Load()), [value, *node.args], node.keywords
                )
            node.func = ast.Attribute(value, function.attr, ast.Load())
            return node
        if not isinstance(function, ast.Name) or function.id not in self._functions | CALLABLE:
            raise refuse(node, "function_value", "only functions are called, by their names")
        node.func = ast.Name(_ROUTED.get(function.id, function.id), ast.Load())
        return node
