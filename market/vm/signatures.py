"""What the type checker knows beforehand: what built-ins, host calls and methods take and give."""

import ast
from collections.abc import Mapping
from typing import Final, NamedTuple

ANY: Final = "any"
NONE: Final = "None"
SHOWN_CHARS_MAX: Final = 24


class Signature(NamedTuple):
    """What a function takes and gives. Types that several are good for are joined by `|`."""

    params: tuple[str, ...]
    optional: int
    takes: tuple[str, ...]
    gives: str


def _signature(text: str) -> Signature:
    left, _, gives = text.partition("->")
    pairs = [part.strip().split(":") for part in left.split(",") if part.strip()]
    names = tuple(name.rstrip("?") for name, _ in pairs)
    optional = sum(name.endswith("?") for name, _ in pairs)
    return Signature(names, optional, tuple(kind.strip() for _, kind in pairs), gives.strip())


def _table(text: str) -> dict[str, Signature]:
    rows = (line.strip().partition(" ") for line in text.strip().splitlines())
    return {name: _signature(rest) for name, _, rest in rows}


SIZED: Final = "list|dict|str|tuple"
SEQUENCE: Final = "list|dict|tuple|range"

# Parameters of built-ins have no names that could be given: `_`.
FUNCTIONS: Final = _table(
    f"""
    kv_get key:str -> any
    kv_get_many keys:list|tuple|range -> list
    kv_put key:str, value:int|str|bool|list|dict|tuple|range -> None
    kv_put_many values:dict -> None
    kv_del key:str -> None
    kv_scan folder:str -> list
    kv_keys folder:str -> list
    emit event:str, data:any -> None
    revert code:str, message:str -> None
    env -> dict
    caller -> str
    call contract:str, entry:str, args:dict -> any
    sha256 text:str -> str
    verify_signature public_key:any, message:any, signature:any -> bool
    expect_int name:str, value:any, low:int, high:int -> None
    expect_text name:str, value:any, length_max:int -> None
    expect_address name:str, value:any -> None
    len _:{SIZED}|range -> int
    sorted _:{SEQUENCE}, reverse?:bool -> list
    range _:int, _?:int, _?:int -> range
    enumerate _:{SEQUENCE} -> list
    abs _:int -> int
    int _:str -> int
    str _:str|int -> str
    bool _:any -> bool
    list _?:{SEQUENCE} -> list
    type _:any -> str
    reversed _:list|tuple|range -> list
    any _:{SEQUENCE} -> bool
    all _:{SEQUENCE} -> bool
    """
)
_LISTS: Final = _table(
    """
    append _:any -> None
    pop _?:int -> any
    insert _:int, _:any -> None
    index _:any -> int
    """
)
_DICTS: Final = _table(
    """
    get _:str|int|bool|tuple, _?:any -> any
    keys -> list
    values -> list
    items -> list
    pop _:str|int|bool|tuple, _?:any -> any
    setdefault _:str|int|bool|tuple, _?:any -> any
    """
)
_TEXTS: Final = _table(
    """
    startswith _:str -> bool
    endswith _:str -> bool
    split _:str -> list
    index _:str -> int
    """
)
METHODS: Final[Mapping[str, Mapping[str, Signature]]] = {
    "list": _LISTS,
    "dict": _DICTS,
    "str": _TEXTS,
    "tuple": {"index": _LISTS["index"]},
    "int": {},
    "bool": {},
    NONE: {},
    "range": {},
}
ADDABLE: Final = ("int", "str", "list", "tuple")
SCALAR: Final = f"int|str|bool|{NONE}"
SIGNS: Final[Mapping[type[ast.AST], str]] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.FloorDiv: "//",
    ast.Mod: "%",
}
ORDER: Final[Mapping[type[ast.AST], str]] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}


def show(node: ast.AST, depth: int = 3) -> str:
    """Return an expression as a complaint names it: short, and the same on every Python."""
    match node:
        case ast.Name():
            return node.id
        case ast.Constant(value=str() as text):
            return f'"{text[:SHOWN_CHARS_MAX]}"'
        case ast.Constant():
            return str(node.value)[:SHOWN_CHARS_MAX]
        case ast.List() | ast.ListComp():
            return "[...]"
        case ast.Dict() | ast.DictComp():
            return "{...}"
        case ast.Attribute() if depth:
            return f"{show(node.value, depth - 1)}.{node.attr}"
        case ast.Call() if depth:
            return f"{show(node.func, depth - 1)}(...)"
        case ast.Subscript() if depth:
            return f"{show(node.value, depth - 1)}[...]"
        case ast.BinOp() | ast.AugAssign() if depth:
            sign = SIGNS.get(type(node.op), "?")
            left, right = (
                (node.left, node.right)
                if isinstance(node, ast.BinOp)
                else (node.target, node.value)
            )
            return f"{show(left, depth - 1)} {sign} {show(right, depth - 1)}"
        case ast.Compare() if depth:
            right = node.comparators[0]
            sign = ORDER.get(type(node.ops[0]), "?")
            return f"{show(node.left, depth - 1)} {sign} {show(right, depth - 1)}"
    return "..."


def named(kind: str) -> str:
    """Return a type as a sentence names a value of it."""
    if kind == NONE:
        return "nothing"
    return f"an {kind}" if kind == "int" else f"a {kind}"
