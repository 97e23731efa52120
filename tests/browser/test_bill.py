"""A bill fits the sheet that it is printed on."""

from pathlib import Path

import pytest

from market import client
from node.exports.page import to_html
from node.exports.rows import Book, Days, Kind
from tests.browser.chromium import chromium, found
from tests.market.street import SLOT, Street, params

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(found() is None, reason="no Chromium is installed"),
]
# A4 across, less its margins of 15 mm.
SHEET_PX = int((297 - 30) / 25.4 * 96)


async def test_a_bill_fits_its_sheet(tmp_path: Path) -> None:
    street = Street(params(4, balance_micro=10**12))
    street.home(1, client.post_order(SLOT, "sell", 2_000, 100_000))
    street.home(2, client.post_order(SLOT, "buy", 2_000, 150_000))
    street.to_gate(SLOT)
    street.to_end(SLOT)
    street.read(2, SLOT, 2_400, 0)
    street.to_window_end(SLOT)
    book = Book(street.app)
    rows = book.rows(Kind.BILLS, Days(), "home 1")
    # As much as a month of a large home comes to.
    large = {"wh": 999_999, "micro": 299_999_999}
    many = [
        row | {n: large[n.rpartition("_")[2]] for n in row if n.endswith(tuple(large))}
        for row in rows
    ]
    for row in many:
        row["total_micro"] = -row["total_micro"]
    file = tmp_path / "bill.html"
    file.write_bytes(to_html(book, many))
    async with chromium(tmp_path / "profile") as browser:
        page = await browser.page()
        await page.look(SHEET_PX, 700)
        await page.open(file.as_uri())
        over = "document.documentElement.scrollWidth - innerWidth"
        assert await page.evaluate(over) <= 0
        assert await page.evaluate("document.querySelectorAll('tbody tr').length") == 1
        assert page.complaints == []
