"""The charts of a chain: its blocks, its votes, how long transactions take, checkpoints."""

from collections.abc import Iterable, Sequence
from typing import Final

from node.web.dashboard import texts
from node.web.dashboard.charts import HALF, HALF_NARROW, legend
from node.web.dashboard.flows import Row
from node.web.dashboard.html import Html, el, join
from node.web.dashboard.plot import (
    WIDE,
    Frame,
    Size,
    axis_x,
    axis_y,
    figure,
    nice_step,
    reach,
    ticks,
    tips,
)
from node.web.dashboard.words import cut, number, plural

BAR: Final = 0.7
NARROW_BLOCKS: Final = 16
ROW: Final = 30
NAME_CHARS: Final = 12


def blocks_chart(blocks: Sequence[Row]) -> Html:
    """Return the last blocks, oldest first, as bars of their transactions."""
    most = reach((block["transactions"] for block in blocks), 4)

    def draw(size: Size) -> Iterable[Html | None]:
        shown = blocks[-NARROW_BLOCKS:] if size.is_narrow else blocks
        first = shown[0]["height"]
        frame = Frame(size, first, first + len(shown), 0, most)
        yield axis_y(frame, number, texts.TRANSACTIONS)
        every = max(1, len(shown) // (4 if size.is_narrow else 8))
        marks = shown[::every]
        yield axis_x(frame, [(b["height"] + 0.5, number(b["height"])) for b in marks])
        for block in shown:
            x = frame.x(block["height"] + (1 - BAR) / 2)
            y = frame.y(block["transactions"])
            foot = frame.y(0)
            yield el(
                "rect",
                x=x,
                y=min(y, foot - 3),
                width=round(frame.x(block["height"] + (1 + BAR) / 2) - x, 1),
                height=round(max(3.0, foot - y), 1),
                rx=3,
                class_="area c-street" if not block["round"] else "area c-warn",
            )
        edges = [*(float(block["height"]) for block in shown), float(first + len(shown))]
        yield tips(frame, edges, [block_told(block) for block in shown])

    return join(
        figure(draw, texts.BLOCKS_LABEL, wide=WIDE._replace(height=200)),
        legend(("street", texts.FIRST_ROUND), ("warn", texts.LATER_ROUND)),
    )


def block_told(block: Row) -> str:
    """Return a block in lines."""
    return texts.BLOCK_TIP.format(
        height=number(block["height"]),
        transactions=plural(block["transactions"], texts.TRANSACTION, texts.TRANSACTIONS),
        round=block["round"],
    )


def name_of(place: int, names: Sequence[str]) -> str:
    """Return an authority's name."""
    return names[place] if 0 <= place < len(names) else f"#{place}"


def votes_chart(blocks: Sequence[Row], names: Sequence[str]) -> Html:
    """Return a row of dots for each authority: which of the last blocks it has signed."""
    height = 26 + ROW * max(1, len(names))

    def draw(size: Size) -> Iterable[Html | None]:
        shown = blocks[-NARROW_BLOCKS:] if size.is_narrow else blocks
        first = shown[0]["height"]
        frame = Frame(size, first, first + len(shown), 0, 1)
        dot = min(7.0, (size.width - size.left) / len(shown) * 0.3)
        for place, name in enumerate(names):
            y = 20 + ROW * place
            yield el("text", cut(name, NAME_CHARS), x=0, y=y + 4, class_="label")
            for block in shown:
                signed = place in block["signers"]
                yield el(
                    "circle",
                    cx=frame.x(block["height"] + 0.5),
                    cy=y,
                    r=round(dot if signed else dot * 0.4, 1),
                    class_="vote yes" if signed else "vote no",
                )
                if block["proposer"] == place:
                    yield el(
                        "circle",
                        cx=frame.x(block["height"] + 0.5),
                        cy=y,
                        r=round(dot + 3, 1),
                        class_="vote by",
                    )
        edges = [*(float(block["height"]) for block in shown), float(first + len(shown))]
        yield tips(frame, edges, [_signed(block, names) for block in shown])

    return figure(
        draw,
        texts.VOTES_LABEL,
        wide=Size(1_040, height, left=110, top=2, bottom=2),
        narrow=Size(350, height, left=84, top=2, bottom=2),
    )


def _signed(block: Row, names: Sequence[str]) -> str:
    signers = ", ".join(name_of(place, names) for place in block["signers"])
    return f"{block_told(block)}\n{signers}"


def finality_chart(latencies_ms: Sequence[float]) -> Html:
    """Return how many of the last own transactions took how long."""
    longest = max(latencies_ms)
    step = nice_step(longest, 14)
    counts = [0] * (int(longest // step) + 1)
    for one in latencies_ms:
        counts[int(one // step)] += 1
    most = reach(counts, 4)

    def draw(size: Size) -> Iterable[Html | None]:
        frame = Frame(size, 0, step * len(counts), 0, most)
        yield axis_y(frame, number, "")
        marks = ticks(0, frame.high_x, 3 if size.is_narrow else 5)
        digits = 1 if all(ms % 100 == 0 for ms in marks) else 2
        yield axis_x(frame, [(ms, f"{number(ms / 1_000, digits)} s") for ms in marks])
        for place, count in enumerate(counts):
            if count:
                x, y = frame.x((place + 0.08) * step), frame.y(count)
                yield el(
                    "rect",
                    x=x,
                    y=y,
                    width=round(frame.x((place + 0.92) * step) - x, 1),
                    height=round(frame.y(0) - y, 1),
                    rx=2,
                    class_="area c-battery",
                )
        edges = [place * step for place in range(len(counts) + 1)]
        said = [
            f"{number(place * step / 1_000, 2)} … {number((place + 1) * step / 1_000, 2)} s\n"
            f"{plural(count, texts.TRANSACTION, texts.TRANSACTIONS)}"
            for place, count in enumerate(counts)
        ]
        yield tips(frame, edges, said)

    return figure(draw, texts.FINALITY_LABEL, wide=HALF, narrow=HALF_NARROW)
