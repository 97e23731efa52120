"""What all pages are put together from: cards, figures, lists."""

from collections.abc import Iterable, Sequence

from node.web.dashboard import texts
from node.web.dashboard.html import Child, Html, el


def card(title: str, *children: Child, why: str = "", class_: str = "") -> Html:
    """Return a section with a heading."""
    return el(
        "section",
        el("h2", title),
        el("p", why, class_="why") if why else None,
        *children,
        class_=f"card {class_}".strip(),
    )


def stat(title: str, value: Child, note: Child = None, kind: str = "") -> Html:
    """Return one figure with its name."""
    return el(
        "div",
        el("dt", title),
        el("dd", value, class_="figure"),
        el("dd", note, class_="note") if note else None,
        class_=f"stat {kind}".strip(),
    )


def stats(*found: Html | None) -> Html:
    """Return figures beside each other."""
    return el("dl", [one for one in found if one is not None], class_="stats")


def empty(title: str, why: str) -> Html:
    """Return what stands where there is nothing to show yet."""
    return el("section", el("h2", title), el("p", why, class_="why"), class_="card empty")


def columns(*found: Html | None, class_: str = "two") -> Html:
    """Return cards beside each other; below each other on a phone."""
    return el("div", [one for one in found if one is not None], class_=f"columns {class_}")


def meter(share: float, kind: str) -> Html:
    """Return a share of one as a bar."""
    width = round(100 * min(1.0, max(0.0, share)), 1)
    return el(
        "svg",
        el("rect", width="100", height="6", class_="track"),
        el("rect", width=width, height="6", class_=f"area c-{kind}") if width else None,
        viewBox="0 0 100 6",
        preserveAspectRatio="none",
        class_="meter",
        aria_hidden="true",
    )


def rows(found: Iterable[Html], class_: str = "") -> Html:
    """Return a list of rows."""
    return el("ul", found, class_=f"rows {class_}".strip())


def facts(pairs: Sequence[tuple[str, Child]]) -> Html:
    """Return names with what stands for them."""
    return el(
        "dl",
        [el("div", el("dt", name), el("dd", value)) for name, value in pairs],
        class_="facts",
    )


def badge(word: str, kind: str = "") -> Html:
    """Return a word in a pill."""
    return el("span", word, class_=f"badge {kind}".strip())


def link(href: str, *children: Child, class_: str = "", current: bool = False) -> Html:
    """Return a link."""
    return el(
        "a",
        *children,
        href=href,
        class_=class_ or None,
        aria_current="page" if current else None,
    )


def trade_path(slot: int, bid: str, ask: str) -> str:
    """Return where a trade's page is. Orders' ids are `SLOT-NUMBER`; `grid` is the grid's."""
    return f"/trades/{slot}/{_part(bid)}/{_part(ask)}"


def _part(order_id: str) -> str:
    return order_id if order_id else texts.GRID.lower()
