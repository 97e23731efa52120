"""The dashboard in a browser: nothing fails, it renews itself, everybody can use it.

Set COMMONWATT_PICTURES to a directory to keep what has been seen.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from node.api.watched import WatchedNode
from node.config import WebSection
from node.web.dashboard import texts
from node.web.server import WebServer
from node.web.stream import Stream
from tests.browser.chromium import Page, chromium, found
from tests.browser.looks import PATHS, WIDTHS, look_at
from tests.node.grid import until
from tests.node.web.dashboard.samples import (
    NOW_SLOT,
    Chain,
    app_of,
    main_chain,
    site_of,
    trades,
    watched,
)
from tests.node.web.test_stream import tell

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(found() is None, reason="no Chromium is installed"),
]
TRADE = trades(NOW_SLOT - 3)[1]
TRADE_PATH = f"/trades/{NOW_SLOT - 3}/{TRADE['bid_id']}/{TRADE['ask_id']}"


@asynccontextmanager
async def looking(tmp_path: Path) -> AsyncIterator[tuple[Page, str, Chain, Stream]]:
    """Serve a home's dashboard, and open a tab."""
    chain, stream = Chain(), Stream()
    app = app_of(site_of(chain, main_chain()), chain, stream)
    server = WebServer(WebSection(listen="127.0.0.1:0"), app, [stream])
    await server.start()
    try:
        async with chromium(tmp_path / "profile") as browser:
            yield await browser.page(), server.url, chain, stream
    finally:
        await server.stop()


async def test_every_page_in_every_look(tmp_path: Path) -> None:
    kept = os.environ.get("COMMONWATT_PICTURES")
    async with looking(tmp_path) as (page, url, chain, _):
        paths = PATHS | {"trade": TRADE_PATH}
        # More nodes than fit their card: it scrolls, and has to be reached by keys.
        seen = chain.values["testnet"]["watched"]
        more = [
            WatchedNode(f"home-{number:02d}", "region-1", 125, 3, False, False, True, [])
            for number in range(5, 25)
        ]
        crowd = msgspec.structs.replace(seen, nodes=[*seen.nodes, *more])
        chain.values["testnet"] = chain.values["testnet"] | {"watched": crowd}
        assert await look_at(page, url, paths, Path(kept) if kept else None) == []


async def test_what_is_wrong_with_a_page_is_seen(tmp_path: Path) -> None:
    async with looking(tmp_path) as (page, _, _, _):
        (tmp_path / "bad.html").write_text(
            "<title>x</title><img src=none.png><p style='width: 2000px'>wide"
        )
        wrong = await look_at(page, tmp_path.as_uri(), {"bad": "/bad.html"}, None)
    for said in ("image-alt", "over the edge", "ERR_FILE_NOT_FOUND"):
        assert any(said in one for one in wrong), (said, wrong)


async def test_the_way_of_a_click_and_of_a_key(tmp_path: Path) -> None:
    async with looking(tmp_path) as (page, url, _, _):
        await page.look(*WIDTHS["wide"])
        await page.open(url + "/")
        for word in (texts.COMMUNITY, texts.CHAIN, texts.MARKET):
            await page.click(f"nav.pages a[href='/{word.lower()}']")
            await page.until(f"document.title.startsWith('{word}')")
            shown = await page.evaluate("document.querySelector('nav.pages [aria-current]').text")
            assert shown == word
        await page.until("document.readyState === 'complete'")
        await page.click(f"a.slot[href='/market?slot={NOW_SLOT}']")
        await page.until(f"location.search === '?slot={NOW_SLOT}'")
        await page.until("document.readyState === 'complete'")
        # By keys alone: the first stop leads past the navigation, and links open by Enter.
        await page.press("Tab", 9)
        assert await page.evaluate("document.activeElement.className") == "skip"
        await page.press("Enter", 13)
        await page.until("document.activeElement.id === 'content'")
        await page.evaluate("document.querySelector('a.row').focus()")
        await page.press("Enter", 13)
        await page.until("location.pathname.startsWith('/trades/')")
        await page.until("document.querySelectorAll('.way > li').length === 6")
        # What a page has of its own is all that was asked for.
        assert {one.split("/")[2] for one in page.requested} == {url.split("/")[2]}
        assert page.complaints == []


async def test_it_renews_itself_after_a_block_and_keeps_what_one_does(tmp_path: Path) -> None:
    async with looking(tmp_path) as (page, url, chain, stream):
        await page.look(*WIDTHS["wide"])
        await page.open(url + "/market")
        await page.until("document.querySelector('.state').textContent.includes('block 125')")
        await page.evaluate("document.querySelector('a.row').focus()")
        before: Any = await page.evaluate("document.activeElement.getAttribute('href')")
        await page.evaluate("window.kept = document.querySelector('h1')")
        await until(lambda: len(stream) == 1, "the page listens")
        chain.height = 126
        tell(stream, 126)
        await page.until("document.querySelector('.state').textContent.includes('block 126')")
        # The same document, the same place in it.
        assert await page.evaluate("window.kept === document.querySelector('h1')")
        assert await page.evaluate("document.activeElement.getAttribute('href')") == before
        stream.close()
        await page.until("document.querySelector('.state').classList.contains('away')")
        said = await page.evaluate("document.querySelector('.state b').textContent")
        assert said == texts.STALE


async def test_a_testnet_is_seen_while_no_block_comes(tmp_path: Path) -> None:
    async with looking(tmp_path) as (page, url, chain, stream):
        await page.look(*WIDTHS["wide"])
        await page.open(url + "/testnet")
        await until(lambda: len(stream) == 1, "the page listens")
        chain.watched += 1
        chain.values["testnet"] = watched(260.0)
        stream.watched()
        await page.until("document.querySelector('.chart.wide').textContent.includes('4:00')")
        assert page.complaints == []


async def test_a_drawing_tells_what_is_pointed_at(tmp_path: Path) -> None:
    async with looking(tmp_path) as (page, url, _, _):
        await page.look(*WIDTHS["wide"])
        await page.open(url + "/")
        box = await page.evaluate(
            "(() => { const hit = document.querySelector('.chart.wide .hit');"
            "hit.scrollIntoView({block: 'center'}); const box = hit.getBoundingClientRect();"
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        # A drawing that scrolls away takes its words with it: that has to be over.
        await page.evaluate(
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )
        await page.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])
        await page.until("document.getElementById('tip').classList.contains('shown')")
        told = await page.evaluate("document.getElementById('tip').textContent")
        assert texts.LOAD in told
