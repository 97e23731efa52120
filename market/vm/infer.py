"""The types of one function: what its variables, its expressions and its returns can be.

A function is walked until no variable's type grows any more, a bounded number of times. `types.py`
says what a type is, and puts functions together to a contract.
"""

import ast
import functools
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from market.errors import Rejected
from market.vm.signatures import (
    ADDABLE,
    ANY,
    METHODS,
    NONE,
    SCALAR,
    SEQUENCE,
    SIGNS,
    SIZED,
    Signature,
    named,
    show,
)

# A variable's type only ever grows, from nothing over one type to unknown; passes beyond the bound
# make it unknown, which is always right.
PASSES_MAX: Final = 6


class Call(NamedTuple):
    """A call of another contract that is written out: `call("ledger", "lock", {"address": ...})`.

    `names` is None where the arguments are not written out.
    """

    line: int
    contract: str
    entry: str
    names: tuple[str, ...] | None


def literal_type(node: ast.expr) -> str:
    if isinstance(node, ast.UnaryOp):
        return "int"
    if isinstance(node, ast.Constant):
        return NONE if node.value is None else type(node.value).__name__
    kinds: dict[type[ast.expr], str] = {
        ast.List: "list",
        ast.Dict: "dict",
        ast.Tuple: "tuple",
        ast.ListComp: "list",
        ast.DictComp: "dict",
    }
    return kinds.get(type(node), ANY)


def _join(one: str, other: str) -> str:
    """Return the type of what is one or the other; `""` is the type of nothing yet."""
    if not one or one == other:
        return other
    return one if not other else ANY


class Function:
    """One function under check."""

    def __init__(
        self,
        node: ast.FunctionDef,
        functions: Mapping[str, Signature],
        constants: Mapping[str, str],
    ) -> None:
        self._node = node
        self._functions = functions
        self._params = {argument.arg for argument in node.args.args}
        self._fixed = dict(constants) | dict.fromkeys(self._params, ANY)
        self._types: dict[str, str] = {}
        self._assigned: set[str] = set()
        self._gives = ""
        self._speaks = False
        self.calls: list[Call] = []

    def run(self) -> str:
        """Return what the function gives. Raises `Rejected` at the first complaint."""
        for round_ in range(PASSES_MAX):
            before = dict(self._types)
            self._pass()
            if self._types == before:
                break
            if round_ == PASSES_MAX - 1:
                self._types = dict.fromkeys(self._types, ANY)
        self._speaks = True
        self._pass()
        return self._gives or NONE

    def _pass(self) -> None:
        self._gives = ""
        self._assigned = set(self._params)
        self.calls = []
        self._block(self._node.body)
        if not _ends(self._node.body):
            self._gives = _join(self._gives, NONE)

    def _refuse(self, node: ast.AST, message: str) -> None:
        if self._speaks:
            raise Rejected("types", f"line {getattr(node, 'lineno', '?')}: {message}")

    # -- statements
    def _block(self, body: Sequence[ast.stmt]) -> None:
        for statement in body:
            self._statement(statement)

    def _statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Expr):
            self._type(node.value)
        elif isinstance(node, ast.Return):
            given = NONE if node.value is None else self._type(node.value)
            self._gives = _join(self._gives, given)
        elif isinstance(node, ast.Assign):
            self._assign(node.targets[0], node.value)
        elif isinstance(node, ast.AugAssign):
            self._augment(node)
        elif isinstance(node, ast.If):
            self._type(node.test)
            self._block(node.body)
            self._block(node.orelse)
        elif isinstance(node, ast.For):
            self._loop(node)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            found = [self._type(item) for item in value.elts]
            for item, kind in zip(target.elts, found, strict=False):
                self._store(item, kind)
            return
        kind = self._type(value)
        if kind == NONE and isinstance(value, ast.Call):
            self._refuse(value, f"{show(value)} gives nothing that could be kept")
        if isinstance(target, ast.Tuple):
            self._need(value, kind, SEQUENCE, "is taken apart")
            for item in target.elts:
                self._store(item, ANY)
            return
        self._store(target, kind)

    def _augment(self, node: ast.AugAssign) -> None:
        kind = self._operate(node, node.op, self._type_of_target(node.target), node.value)
        self._store(node.target, kind)

    def _type_of_target(self, target: ast.expr) -> str:
        if isinstance(target, ast.Name):
            return self._name(target)
        return self._type(target)

    def _loop(self, node: ast.For) -> None:
        self._need(node.iter, self._type(node.iter), SEQUENCE, "is gone through")
        # A later turn sees what an earlier one assigned.
        self._assigned |= _stored(node)
        self._spread(node.target, node.iter)
        self._block(node.body)

    def _spread(self, target: ast.expr, iterable: ast.expr) -> None:
        """Give a loop's variables their types: the numbers of `range` and `enumerate` are known."""
        called = iterable.func if isinstance(iterable, ast.Call) else None
        name = called.id if isinstance(called, ast.Name) else ""
        if isinstance(target, ast.Tuple):
            for place, item in enumerate(target.elts):
                self._store(item, "int" if name == "enumerate" and not place else ANY)
        else:
            self._store(target, "int" if name == "range" else ANY)

    def _store(self, target: ast.expr, kind: str) -> None:
        if isinstance(target, ast.Name):
            self._assigned.add(target.id)
            self._types[target.id] = _join(self._types.get(target.id, ""), kind)
        elif isinstance(target, ast.Subscript):
            holder = self._type(target.value)
            self._need(target.value, holder, "list|dict", "is assigned to by place or key")
            self._index(target, holder)
        elif isinstance(target, ast.Tuple):
            for item in target.elts:
                self._store(item, ANY)

    # -- expressions
    def _need(self, node: ast.AST, kind: str, wanted: str, what: str) -> None:
        if self._speaks and kind not in (ANY, "") and kind not in wanted.split("|"):
            shown = wanted.replace("|", ", ")
            self._refuse(node, f"{show(node)} is {named(kind)} and {what}: {shown} needed")

    def _type(self, node: ast.expr) -> str:
        match node:
            case ast.Constant():
                return literal_type(node)
            case ast.Name():
                return self._name(node)
            case ast.List() | ast.Tuple():
                for item in node.elts:
                    self._type(item)
                return literal_type(node)
            case ast.Dict():
                return self._dict(node)
            case ast.ListComp() | ast.DictComp():
                return self._comprehension(node)
            case ast.BinOp():
                return self._operate(node, node.op, self._type(node.left), node.right)
            case ast.UnaryOp():
                return self._unary(node)
            case ast.BoolOp():
                return functools.reduce(_join, [self._type(item) for item in node.values])
            case ast.IfExp():
                self._type(node.test)
                return _join(self._type(node.body), self._type(node.orelse))
            case ast.Compare():
                return self._compare(node)
            case ast.Subscript():
                return self._subscript(node)
            case ast.Call():
                return self._call(node)
        return ANY

    def _name(self, node: ast.Name) -> str:
        if node.id in self._fixed:
            kind = self._fixed[node.id]
            # A parameter may be assigned to, too.
            return kind if node.id not in self._types else ANY
        if node.id not in self._assigned:
            self._refuse(node, f"{node.id} has no value yet")
        return self._types.get(node.id, "")

    def _dict(self, node: ast.Dict) -> str:
        for key, value in zip(node.keys, node.values, strict=True):
            if key is not None:
                self._need(key, self._type(key), "str|int|bool|tuple", "is a map's key")
            self._type(value)
        return "dict"

    def _comprehension(self, node: ast.ListComp | ast.DictComp) -> str:
        kept = set(self._assigned)
        for generator in node.generators:
            self._need(generator.iter, self._type(generator.iter), SEQUENCE, "is gone through")
            self._spread(generator.target, generator.iter)
            for condition in generator.ifs:
                self._type(condition)
        if isinstance(node, ast.ListComp):
            self._type(node.elt)
        else:
            self._type(node.key)
            self._type(node.value)
        self._assigned = kept
        return literal_type(node)

    def _operate(self, node: ast.AST, op: ast.operator, left: str, right_node: ast.expr) -> str:
        right = self._type(right_node)
        sign = SIGNS.get(type(op), "?")
        kinds = ADDABLE if sign == "+" else ("int",)
        for kind in (left, right):
            if kind not in (ANY, "") and kind not in kinds:
                shown = ", ".join(kinds)
                self._refuse(node, f"{show(node)}: {sign} is for {shown}, not {named(kind)}")
        if sign != "+":
            return "int"
        if ANY not in (left, right) and left and right and left != right:
            self._refuse(node, f"{show(node)}: {named(left)} and {named(right)} do not add up")
            return ANY
        return left if left not in (ANY, "") else right

    def _unary(self, node: ast.UnaryOp) -> str:
        kind = self._type(node.operand)
        if isinstance(node.op, ast.Not):
            return "bool"
        self._need(node.operand, kind, "int", "is negated")
        return "int"

    def _compare(self, node: ast.Compare) -> str:
        left, right = self._type(node.left), self._type(node.comparators[0])
        op = node.ops[0]
        known = left not in (ANY, "") and right not in (ANY, "")
        if isinstance(op, ast.In | ast.NotIn):
            self._need(node.comparators[0], right, SIZED + "|range", "is searched")
            if right == "str":
                self._need(node.left, left, "str", "is searched for in text")
            elif right == "list":
                self._need(node.left, left, SCALAR, "is searched for")
        elif isinstance(op, ast.Eq | ast.NotEq):
            if not any(isinstance(p, ast.Constant) for p in (node.left, node.comparators[0])):
                self._need(node.left, left, SCALAR, "is compared")
            if known and left != right and NONE not in (left, right):
                self._refuse(
                    node,
                    f"{show(node)}: {named(left)} is never equal to {named(right)}",
                )
        else:
            for part, kind in ((node.left, left), (node.comparators[0], right)):
                self._need(part, kind, "int|str|bool", "is put in order")
            if known and left != right:
                self._refuse(
                    node,
                    f"{show(node)}: {named(left)} has no order to {named(right)}",
                )
        return "bool"

    def _subscript(self, node: ast.Subscript) -> str:
        holder = self._type(node.value)
        if isinstance(node.slice, ast.Slice):
            self._need(node.value, holder, "list|str|tuple|range", "is cut")
            for bound in (node.slice.lower, node.slice.upper):
                if bound is not None:
                    self._need(bound, self._type(bound), "int|None", "is a place")
            return holder if holder != "" else ""
        self._need(node.value, holder, SIZED + "|range", "is looked into")
        self._index(node, holder)
        return "str" if holder == "str" else ANY

    def _index(self, node: ast.Subscript, holder: str) -> None:
        kind = self._type(node.slice)
        if holder == "dict":
            self._need(node.slice, kind, "str|int|bool|tuple", "is a map's key")
        elif holder in ("list", "str", "tuple", "range"):
            self._need(node.slice, kind, "int", f"is a place in {named(holder)}")

    def _call(self, node: ast.Call) -> str:
        given = [self._type(item) for item in node.args]
        words = {word.arg: self._type(word.value) for word in node.keywords if word.arg}
        if isinstance(node.func, ast.Attribute):
            return self._method(node, self._type(node.func.value), given)
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name == "call":
            self._note(node)
        if name in ("min", "max"):
            return self._extreme(node, name, given)
        signature = self._functions.get(name)
        if signature is None:
            return ANY
        self._fit(node, name, signature, given, words)
        return signature.gives

    def _method(self, node: ast.Call, holder: str, given: list[str]) -> str:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if holder in (ANY, ""):
            return ANY
        signature = METHODS[holder].get(name)
        if signature is None:
            self._refuse(node, f"{show(node.func)}: {named(holder)} has no .{name}")
            return ANY
        self._fit(node, f".{name}", signature, given, {})
        return signature.gives

    def _extreme(self, node: ast.Call, name: str, given: list[str]) -> str:
        if not given:
            self._refuse(node, f"{name} takes a list, or two and more to compare")
            return ANY
        if len(given) == 1:
            self._need(node.args[0], given[0], SEQUENCE, f"is given to {name}")
            return ANY
        kind = functools.reduce(_join, given)
        for item, one in zip(node.args, given, strict=True):
            for other in given:
                if one != other and not {one, other} & {ANY, ""}:
                    self._refuse(item, f"{name}: {named(one)} has no order to {named(other)}")
        return kind

    def _fit(
        self,
        node: ast.Call,
        name: str,
        signature: Signature,
        given: list[str],
        words: Mapping[str, str],
    ) -> None:
        params = signature.params
        low = len(params) - signature.optional
        positional = params[: len(given)]
        count = len(given) + len(words)
        unknown = [word for word in words if word not in params or word == "_"]
        if unknown:
            self._refuse(node, f"{name} has no argument {unknown[0]}")
        doubled = [word for word in words if word in positional]
        if doubled:
            self._refuse(node, f"{name} is given {doubled[0]} twice")
        if len(given) > len(params) or not low <= count <= len(params):
            wanted = str(low) if low == len(params) else f"{low} to {len(params)}"
            self._refuse(node, f"{name} takes {wanted} arguments, not {count}")
        for place, kind in enumerate(given[: len(params)]):
            wanted = signature.takes[place]
            if wanted != ANY:
                self._need(node.args[place], kind, wanted, f"is given to {name}")

    def _note(self, node: ast.Call) -> None:
        if len(node.args) != 3:
            return
        contract, entry, args = node.args
        if not isinstance(contract, ast.Constant) or not isinstance(entry, ast.Constant):
            return
        names: tuple[str, ...] | None = None
        if isinstance(args, ast.Dict):
            keys = [key.value if isinstance(key, ast.Constant) else None for key in args.keys]
            if all(isinstance(key, str) for key in keys):
                names = tuple(str(key) for key in keys)
        self.calls.append(Call(node.lineno, str(contract.value), str(entry.value), names))


def _stored(node: ast.AST) -> set[str]:
    return {
        part.id
        for part in ast.walk(node)
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
    }


def _ends(body: Sequence[ast.stmt]) -> bool:
    """Tell whether nothing after `body` is ever reached."""
    last = body[-1]
    if isinstance(last, ast.Return):
        return True
    if isinstance(last, ast.If):
        return bool(last.orelse) and _ends(last.body) and _ends(last.orelse)
    if isinstance(last, ast.Expr) and isinstance(last.value, ast.Call):
        return isinstance(last.value.func, ast.Name) and last.value.func.id == "revert"
    return False
