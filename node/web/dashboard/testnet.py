"""The page of a testnet: all of its nodes, their heights, and what is done to them.

There only where somebody who watches the whole grid tells this node of it (`node.api.watched`).
"""

from collections.abc import Sequence
from typing import Final

from node.web.dashboard import texts
from node.web.dashboard.asks import Asks
from node.web.dashboard.flows import Row
from node.web.dashboard.html import Html, el, join
from node.web.dashboard.lanes import during, heads_chart, lanes_chart
from node.web.dashboard.parts import badge, card, columns, rows, stat, stats
from node.web.dashboard.words import number, plural

FAULTS_SHOWN: Final = 40
# Whoever watches says something every second.
SILENT_S: Final = 10.0


async def testnet_page(asks: Asks) -> Html | None:
    """Return the page's content; None where nobody watches the grid."""
    found = await asks("testnet")
    if found is None:
        return None
    watched = found["watched"]
    struck = _struck(watched)
    heads = heads_chart(watched)
    return join(
        _figures(watched, found["told_s_ago"]),
        card(
            texts.TIME_LINE,
            lanes_chart(watched),
            why=texts.TIME_LINE_WHY.format(title=watched["title"]),
        ),
        card(texts.HEADS, heads, why=texts.HEADS_WHY) if heads is not None else None,
        columns(_nodes(watched["nodes"], struck), _faults(watched["faults"])),
    )


def _struck(watched: Row) -> dict[int, str]:
    """Return what is done to nodes now, by their places."""
    now = (fault for fault in watched["faults"] if fault["ended_s"] is None)
    return {place: fault["kind"] for fault in now for place in fault["nodes"]}


def _figures(watched: Row, told_s_ago: float) -> Html:
    nodes = watched["nodes"]
    up = sum(node["is_up"] for node in nodes)
    voting = sum(node["is_voting"] and node["is_up"] for node in nodes)
    seats = sum(node["is_authority"] for node in nodes)
    going_on = sum(fault["ended_s"] is None for fault in watched["faults"])
    heights = [node["height"] for node in nodes if node["chain"] == nodes[0]["chain"]]
    all_faults = plural(len(watched["faults"]), texts.FAULTS_ONE, texts.FAULTS_MANY)
    said = texts.LAST_BEHIND.format(blocks=number(max(heights) - min(heights)))
    silent = told_s_ago > SILENT_S
    return stats(
        stat(
            texts.NODES_UP,
            texts.OF_ALL.format(count=number(up), all=number(len(nodes))),
            texts.SILENT.format(seconds=number(told_s_ago)) if silent else texts.WATCHED,
            "good" if up == len(nodes) and not silent else "",
        ),
        stat(texts.VOTING, texts.OF_ALL.format(count=number(voting), all=number(seats))),
        stat(
            texts.HEIGHT,
            number(max(heights)),
            texts.DOT.join([nodes[0]["chain"] or texts.NOT_SEEN, said])
            if any(node["chain"] != nodes[0]["chain"] for node in nodes)
            else said,
        ),
        stat(texts.FAULTS_NOW, number(going_on), texts.FAULTS_OF.format(faults=all_faults)),
    )


def _nodes(nodes: Sequence[Row], struck: dict[int, str]) -> Html:
    chains: dict[str, list[int]] = {}
    for place, node in enumerate(nodes):
        chains.setdefault(str(node["chain"]), []).append(place)
    found: list[Html] = []
    # Who has not said yet which chain it keeps comes last.
    for chain, places in sorted(chains.items(), key=lambda chain: not chain[0]):
        found.append(el("h3", f"{chain or texts.NOT_SEEN}{texts.DOT}{number(len(places))}"))
        found.append(rows(_node(nodes[place], struck.get(place)) for place in places))
    shown = el("div", found, class_="scroll", role="group", aria_label=texts.NODES)
    return card(texts.NODES, shown, why=texts.NODES_WHY)


def _node(node: Row, kind: str | None) -> Html:
    word, mark = (texts.AWAY, "warn") if not node["is_up"] else (texts.VOTES_NOW, "good")
    if not node["chain"]:
        word, mark = texts.NOT_SEEN, ""
    elif node["is_up"] and not node["is_voting"]:
        word, mark = (texts.SILENT_SEAT, "warn") if node["is_authority"] else (texts.FOLLOWS, "")
    return el(
        "li",
        el("span", node["name"], class_="grow"),
        badge(kind, "sell") if kind is not None else None,
        badge(word, mark),
        el("span", plural(node["peers"], texts.PEER_ONE, texts.PEER_MANY), class_="dim"),
        el("b", number(node["height"])),
    )


def _faults(faults: Sequence[Row]) -> Html:
    if not faults:
        return card(texts.FAULTS, el("p", texts.NO_FAULTS, class_="why"))
    return card(
        texts.FAULTS,
        rows(
            (
                el(
                    "li",
                    badge(fault["kind"], "sell" if fault["ended_s"] is None else ""),
                    el("span", fault["who"], class_="grow"),
                    el("span", during(fault["began_s"], fault["ended_s"]), class_="dim"),
                )
                for fault in reversed(faults[-FAULTS_SHOWN:])
            ),
            "scroll",
        ),
        why=texts.FAULTS_WHY,
    )
