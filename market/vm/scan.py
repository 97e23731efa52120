"""Reading a contract's text: the same answer on every version of Python that a home may run.

Texts come by transactions, and a refusal stands in a receipt: all homes must refuse the same texts
with the same words. Python's parser changes from version to version in what it takes, how deep, and
what it says. So whatever only some versions know is found here first, on the tokens, and of the
parser's own complaints nothing is passed on.
"""

import ast
import re
import threading
from typing import Final

from market.errors import Rejected

SOURCE_CHARS_MAX: Final = 65_000
NESTING_MAX: Final = 60
# Brackets leave no trace in the tree, and how many the parser's stack holds differs.
BRACKETS_MAX: Final = 40

_TOKEN: Final = re.compile(
    r"""
    (?P<comment>\#[^\n]*)
    | (?P<text>\"\"\".*?\"\"\" | '''.*?''' | "[^"\n]*" | '[^'\n]*')
    | (?P<word>[^\W\d]\w*)
    | (?P<number>\.?\d[\w.]*)
    | (?P<power>\*\*)
    | (?P<open>[(\[{])
    | (?P<close>[)\]}])
    | (?P<line>\n)
    | (?P<space>\ +)
    | (?P<sign>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_DECIMAL: Final = re.compile(r"[0-9]+(_[0-9]+)*")
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
# After these a star would unpack.
_BEFORE_VALUE: Final = frozenset(
    ["(", "[", "{", ",", "=", ":", "return", "in", "not", "and", "or", "if", "else"]
)


# CPython 3.11 counts the depth of the tree it builds in one place for all threads, and fails with a
# SystemError where two of them build at once.
_PARSER: Final = threading.Lock()


def parse_text(name: str, source: str) -> ast.Module:
    """Return the tree of a contract's text.

    Raises
    ------
    Rejected
        With the line and the reason.
    """
    if len(source) > SOURCE_CHARS_MAX:
        raise Rejected("source_size", f"{len(source)} characters, at most {SOURCE_CHARS_MAX}")
    _scan(source)
    try:
        with _PARSER:
            tree = ast.parse(source)
    except (RecursionError, MemoryError):
        raise _too_deep() from None
    except SyntaxError as error:
        where = f"line {error.lineno}:" if error.lineno else ""
        raise _unparsable(name, where) from None
    except ValueError:
        raise _unparsable(name, "") from None
    _check_depth(tree)
    return tree


def _unparsable(name: str, where: str) -> Rejected:
    error = Rejected("syntax", f"{name}: the text cannot be parsed")
    # Where a version of Python gives up is its own affair: for people, never for a receipt.
    if where:
        error.add_note(f"{where} the parser gave up here")
    return error


def _too_deep() -> Rejected:
    return Rejected("nesting", f"expressions nest deeper than {NESTING_MAX} levels")


def _scan(source: str) -> None:
    # Which escapes are valid differs between versions of Python.
    place = source.find("\\")
    if place >= 0:
        line = source.count("\n", 0, place) + 1
        raise _refuse(line, "syntax", "a backslash; texts are written without escapes")
    control = _CONTROL.search(source)
    if control:
        number = source.count("\n", 0, control.start()) + 1
        raise _refuse(number, "syntax", "a tab or control character; lines are indented by spaces")
    line, depth, before = 1, 0, ("", "")
    for match in _TOKEN.finditer(source):
        kind, sign = match.lastgroup or "", match.group()
        if kind == "open":
            depth += 1
            if depth > BRACKETS_MAX:
                raise _refuse(line, "nesting", f"brackets nest deeper than {BRACKETS_MAX} levels")
        elif kind == "close":
            depth -= 1
        else:
            _check_token(line, kind, sign, before, source[match.end() : match.end() + 1])
        line += sign.count("\n")
        if kind not in ("space", "comment"):
            before = (before[1], sign)


def _check_token(line: int, kind: str, sign: str, before: tuple[str, str], after: str) -> None:
    """Refuse what not every version of Python reads alike. `before` are the last two tokens."""
    if kind == "word":
        if not sign.isascii():
            raise _refuse(line, "name", f"{sign}: a name is ASCII")
        if after in ("'", '"'):
            if "b" in sign.lower():
                raise _refuse(line, "literal", "bytes literal: integers, text and booleans only")
            raise _refuse(line, "syntax", f"{sign} before a text; texts are plain")
        if sign == "except" or before[1] in ("type", "lazy"):
            raise _refuse(line, "syntax", f"{before[1]} {sign} is not part of the language")
    elif kind == "number" and not _DECIMAL.fullmatch(sign):
        kind = "float literal" if "." in sign else "literal"
        raise _refuse(line, "literal", f"{kind} {sign}: integers are written in decimal digits")
    elif kind == "power" or (sign == "*" and before[1] in _BEFORE_VALUE):
        raise _refuse(line, "syntax", "** and unpacking by * are not part of the language")
    elif kind == "sign" and sign in ("'", '"'):
        raise _refuse(line, "syntax", "a text that does not end on its line")


def _refuse(line: int, reason: str, message: str) -> Rejected:
    return Rejected(reason, f"line {line}: {message}")


def _check_depth(tree: ast.AST) -> None:
    level: list[ast.AST] = [tree]
    for _ in range(NESTING_MAX):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return
    raise _too_deep()
