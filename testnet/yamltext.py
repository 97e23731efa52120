"""Writes data as YAML that people can read; just what manifests need."""

import json
import re
from collections.abc import Iterable
from typing import Any, Final

_PLAIN: Final = re.compile(r"[A-Za-z/][A-Za-z0-9_./@-]*")
# Words that some reader of YAML takes for something else than text.
_NOT_TEXT: Final = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})
_STEP: Final = "  "


def yaml_text(value: Any) -> str:
    """Return a tree of dict, list, str, int, bool and None as one YAML document."""
    return "\n".join(_lines(value, "")) + "\n"


def yaml_documents(values: Iterable[Any]) -> str:
    """Return several documents of one stream."""
    return "---\n".join(map(yaml_text, values))


def _lines(value: Any, indent: str) -> Iterable[str]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _entry(f"{indent}{_text(str(key))}:", item, indent)
    elif isinstance(value, list | tuple) and value:
        for item in value:
            yield from _entry(f"{indent}-", item, indent)
    else:
        yield indent + _scalar(value)


def _entry(head: str, item: Any, indent: str) -> Iterable[str]:
    if isinstance(item, dict | list | tuple) and item:
        inner = list(_lines(item, indent + _STEP))
        if head.endswith("-"):
            yield f"{head} {inner[0].lstrip()}"
            yield from inner[1:]
        else:
            yield head
            yield from inner
    elif isinstance(item, str) and _is_block(item):
        yield f"{head} |"
        yield from (f"{indent}{_STEP}{line}" if line else "" for line in item[:-1].split("\n"))
    else:
        yield f"{head} {_scalar(item)}"


def _is_block(text: str) -> bool:
    """Tell whether a text can stand as a block of lines as it is."""
    body = text[:-1]
    return (
        text.endswith("\n")
        and "\n" in body
        and body == body.strip()
        and all(letter == "\n" or letter.isprintable() for letter in body)
    )


def _scalar(value: Any) -> str:
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _text(value: str) -> str:
    if _PLAIN.fullmatch(value) and value.lower() not in _NOT_TEXT:
        return value
    # What JSON has for a text, YAML has, too.
    return json.dumps(value, ensure_ascii=False)
