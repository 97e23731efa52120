"""The page of the chain: blocks, authorities and their votes, finality, checkpoints, decisions."""

from collections.abc import Sequence
from typing import Any, Final

from node.web.dashboard import texts
from node.web.dashboard.asks import Asks
from node.web.dashboard.blocks import blocks_chart, finality_chart, votes_chart
from node.web.dashboard.flows import Row
from node.web.dashboard.html import Html, el, join
from node.web.dashboard.parts import badge, card, columns, facts, meter, rows, stat, stats
from node.web.dashboard.words import number, seconds, short, utc_clock

BLOCKS_SHOWN: Final = 40
PROPOSALS_SHOWN: Final = 10
AUTHORITIES_SHOWN: Final = 24
HASH_CHARS: Final = 16


async def chain_page(asks: Asks, main: Asks | None) -> Html:
    """Return the page's content; `main` is the main chain's, where it is kept beside the own."""
    status = await asks("status")
    names = await asks.authorities()
    blocks = await _blocks(asks)
    latencies: list[float] = await asks("latencies") or []
    epoch = await asks("query", contract="governance", entry="authorities")
    # Who signed is told by places in the epoch's set, and another epoch may have another one.
    of_epoch = [block for block in blocks if block["epoch"] == epoch["epoch"]]
    regions = await asks("regions") or []
    region = await asks("region") if regions else None
    return join(
        _figures(status),
        card(texts.BLOCKS, blocks_chart(blocks), why=texts.BLOCKS_WHY) if blocks else None,
        card(
            texts.VOTES,
            votes_chart(of_epoch, names[:AUTHORITIES_SHOWN]),
            why=texts.VOTES_WHY.format(quorum=epoch["quorum"], all=len(names)),
        )
        if of_epoch
        else None,
        columns(
            card(texts.FINALITY_CHART, finality_chart(latencies), why=texts.FINALITY_WHY)
            if latencies
            else None,
            _checkpoints(regions, region),
        ),
        await _main(main) if main is not None else None,
        columns(
            _identity(status),
            await _decisions(asks),
        ),
    )


async def _blocks(asks: Asks) -> list[Row]:
    """Return the last blocks, oldest first, without the genesis, which nobody signs."""
    found: dict[str, Any] = await asks("blocks", before=None, count=BLOCKS_SHOWN)
    return [block for block in reversed(found["blocks"]) if block["height"]]


def _figures(status: Row) -> Html:
    finality = status["finality_ms"]
    trips = sorted(peer["rtt_ms"] for peer in status["peers"] if peer["rtt_ms"] is not None)
    rtt = number(trips[len(trips) // 2], 1) if trips else None
    return stats(
        stat(
            texts.HEIGHT,
            number(status["height"]),
            texts.EPOCH.format(epoch=status["epoch"]),
        ),
        stat(
            texts.FINALITY,
            seconds(finality["p50"]),
            texts.FINALITY_OF.format(p95=seconds(finality["p95"]), count=number(finality["count"]))
            if finality["count"]
            else texts.FINALITY_NONE,
            "good",
        ),
        stat(
            texts.PEERS,
            number(len(status["peers"])),
            texts.PEERS_RTT.format(rtt=rtt) if rtt else None,
        ),
        stat(texts.WAITING, number(status["mempool"]), texts.WAITING_WHAT),
    )


def _checkpoints(regions: Sequence[Row], own: Row | None) -> Html:
    if not regions:
        return card(texts.CHECKPOINTS, el("p", texts.NO_MAIN, class_="why"))
    if own is not None and "audited" not in own:
        said = texts.ONLY_ANCHORED.format(anchored=own["anchored"], closed=own["closed"])
        return card(
            texts.CHECKPOINTS,
            meter(own["anchored"] / max(1, own["closed"]), "battery"),
            el("p", said, class_="why"),
        )
    closed = (own or {}).get("inside", {}).get("closed", 0)
    return card(
        texts.CHECKPOINTS,
        rows(
            (
                el(
                    "li",
                    el(
                        "span",
                        row["name"] or texts.REGION.format(number=row["number"]),
                        class_="grow",
                    ),
                    badge(row["status"], "good" if row["status"] == "live" else "warn"),
                    _stages(row, closed if own and row["number"] == own["number"] else None),
                    class_="wrap",
                )
                for row in regions
            ),
            "scroll",
        ),
        why=texts.CHECKPOINTS_WHY,
    )


def _stages(row: Row, closed: int | None) -> Html:
    counts = (closed, row["anchored"], row["audited"])
    return el(
        "ol",
        [
            el("li", el("b", number(count)), el("span", word))
            for word, count in zip(texts.CHECKPOINT_STAGES, counts, strict=True)
            if count is not None
        ],
        class_="stages",
    )


async def _main(main: Asks) -> Html:
    status = await main("status")
    blocks = await _blocks(main)
    count = number(len(await main.authorities()))
    return card(
        texts.MAIN_CHAIN,
        facts(
            [
                (texts.HEIGHT, number(status["height"])),
                (texts.AUTHORITIES, count),
                (texts.PEERS, number(len(status["peers"]))),
            ]
        ),
        blocks_chart(blocks) if blocks else None,
        class_="inline",
    )


def _identity(status: Row) -> Html:
    return card(
        texts.IDENTITY,
        facts(
            [
                (texts.CHAIN_ID, status["chain_id"]),
                *(
                    (word, el("code", short(status[name], HASH_CHARS), title=status[name]))
                    for word, name in (
                        (texts.GENESIS, "genesis_hash"),
                        (texts.BLOCK_HASH, "block_hash"),
                        (texts.STATE_ROOT, "state_root"),
                    )
                ),
                (texts.LAST_BLOCK, utc_clock(status["block_time_ms"])),
                (texts.VERSION, status["version"]),
            ]
        ),
    )


async def _decisions(asks: Asks) -> Html:
    proposals = await asks("query", contract="governance", entry="proposals") or []
    if not proposals:
        return card(texts.RULES, el("p", texts.NO_PROPOSALS, class_="why"))
    return card(
        texts.RULES,
        rows(
            el(
                "li",
                el("span", str(row.get("kind", texts.PROPOSED)), class_="grow"),
                badge(str(row.get("status", ""))),
            )
            for row in proposals[-PROPOSALS_SHOWN:]
        ),
    )
