"""Bills for paper: one page per home and month, as HTML without scripts or anything fetched."""

import html
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from node.exports.rows import Book, Row

_STYLE: Final = """
body { font: 9pt/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 1009px; color: #111 }
section { break-after: page } section:last-child { break-after: auto }
h1 { font-size: 15pt; margin: 1.5em 0 0 } p { margin: .2em 0 1em; color: #555 }
table { border-collapse: collapse; width: 100%; font-size: 8pt; font-variant-numeric: tabular-nums }
th, td { padding: .2em .3em; text-align: right; border-bottom: 1px solid #ddd }
th { font-weight: 600; vertical-align: bottom } td { white-space: nowrap }
th:first-child, td:first-child { text-align: left }
tfoot td { font-weight: 600; border-top: 2px solid }
@page { size: A4 landscape; margin: 15mm } @media print { body { margin: 0; max-width: none } }
"""
# Heading, column of a bill, and whether it is money or energy.
_COLUMNS: Final = (
    ("bought of neighbours", "bought_wh"),
    ("sold to neighbours", "sold_wh"),
    ("from the grid", "grid_wh"),
    ("fed in", "fed_in_wh"),
    ("paid to neighbours", "trades_cost_micro"),
    ("paid by neighbours", "trades_income_micro"),
    ("paid to the grid", "grid_cost_micro"),
    ("paid for fed in", "feed_in_income_micro"),
    ("grid fees", "fees_micro"),
    ("penalty", "penalty_micro"),
    ("total", "total_micro"),
    ("saved", "saved_micro"),
)


def to_html(book: Book, rows: Sequence[Row]) -> bytes:
    """Return bills as a page that prints one sheet or more per home and month."""
    pages: dict[tuple[int, str], list[Row]] = defaultdict(list)
    for row in rows:
        pages[int(row["home"]), str(row["start_local"])[:7]].append(row)
    sections = [
        _section(book, home, month, pages[home, month]) for home, month in sorted(pages)
    ] or ["<p>No slot of these days is settled and still kept.</p>"]
    title = html.escape(f"Bills of {book.chain_id}")
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body>\n{''.join(sections)}</body></html>\n"
    ).encode()


def _section(book: Book, home: int, month: str, rows: Sequence[Row]) -> str:
    days: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        days[str(row["start_local"])[:10]].append(row)
    name, address = html.escape(book.name_of(home)), html.escape(book.address_of(home))
    silent = sum(1 for row in rows if not row["read"])
    assumed = (
        f"; in {silent} of them the meter was silent, and amounts are assumed" if silent else ""
    )
    units = f"<th>kWh</th>{'<th>kWh</th>' * 3}{f'<th>{html.escape(book.currency)}</th>' * 8}"
    heads = "".join(f"<th>{heading}</th>" for heading, _ in _COLUMNS)
    body = "".join(_line(day, _sums(found)) for day, found in sorted(days.items()))
    span = " to ".join(
        str(row["start_local"])[:16].replace("T", " ") for row in (rows[0], rows[-1])
    )
    return (
        f"<section><h1>{name}, {month}</h1><p>{address} on {html.escape(book.chain_id)}, as of "
        f"block {book.height}: {len(rows)} slots, {span}"
        f"{assumed}. What is negative, the home is paid.</p>\n"
        f"<table><thead><tr><th>day</th>{heads}</tr><tr><th></th>{units}</tr></thead>\n"
        f"<tbody>{body}</tbody>\n<tfoot>{_line('in all', _sums(rows))}</tfoot></table></section>\n"
    )


def _sums(rows: Iterable[Row]) -> dict[str, int]:
    sums = dict.fromkeys((column for _, column in _COLUMNS), 0)
    for row in rows:
        for column in sums:
            sums[column] += int(row[column])
    return sums


def _line(head: str, sums: Mapping[str, int]) -> str:
    cells = "".join(f"<td>{_amount(column, sums[column])}</td>" for _, column in _COLUMNS)
    return f"<tr><td>{head}</td>{cells}</tr>\n"


def _amount(column: str, value: int) -> str:
    """Return energy in kWh and money in the currency's unit, exactly."""
    unit, digits = (1_000, 3) if column.endswith("_wh") else (1_000_000, 6)
    sign, size = "\N{MINUS SIGN}" if value < 0 else "", abs(value)
    return f"{sign}{size // unit:,}.{size % unit:0{digits}d}"
