"""HTML and SVG that cannot be broken by what stands in it: all text is escaped unless made here."""

from collections.abc import Iterable
from typing import Final, TypeAlias

_ESCAPES: Final = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}
)
_EMPTY: Final = frozenset(
    ("circle", "path", "line", "rect", "polyline", "polygon", "meta", "link", "input", "br", "stop")
)


class Html(str):
    """Markup. Only `el` and `join` make it; any other text is escaped where it is put in."""

    __slots__ = ()


Child: TypeAlias = "str | int | Html | Iterable[str | Html | None] | None"
Value: TypeAlias = "str | int | float | bool | None"


def escape(text: str) -> Html:
    """Return text as markup that shows it."""
    return Html(text.translate(_ESCAPES))


def join(*children: Child) -> Html:
    """Return children as one piece of markup; None is nothing."""
    return Html("".join(_said(child) for child in children))


def el(tag: str, /, *children: Child, **attributes: Value) -> Html:
    """Return an element.

    `class_` stands for `class`, `aria_label` for `aria-label`; None and False leave an attribute
    out, True has it without a value.
    """
    parts = [tag]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        key = name.rstrip("_").replace("_", "-")
        if value is True:
            parts.append(key)
        elif isinstance(value, str):
            parts.append(f'{key}="{value.translate(_ESCAPES)}"')
        else:
            parts.append(f'{key}="{value:g}"' if isinstance(value, float) else f'{key}="{value}"')
    opening = " ".join(parts)
    if tag in _EMPTY and not children:
        return Html(f"<{opening}/>")
    return Html(f"<{opening}>{''.join(_said(child) for child in children)}</{tag}>")


def _said(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    if isinstance(child, str):
        return child.translate(_ESCAPES)
    if isinstance(child, int):
        return str(child)
    return "".join(_said(one) for one in child)
