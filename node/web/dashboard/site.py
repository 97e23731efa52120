"""Serves the pages: each is written once per block for all who look at it.

A page is a whole document; its script asks for it again after a block and puts in what has changed.
Nothing on it comes from elsewhere, and no script or style stands in it: the policy that is sent
with it allows neither.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Final, NamedTuple

from fastapi import APIRouter, Request, Response

from market.errors import QueryError
from node.api.views import SLOT_MAX
from node.errors import ControlError
from node.web.dashboard import texts
from node.web.dashboard.asks import Asks
from node.web.dashboard.chain import chain_page
from node.web.dashboard.community import community_page
from node.web.dashboard.home import home_page
from node.web.dashboard.html import Html, el, join
from node.web.dashboard.market import market_page
from node.web.dashboard.parts import empty, link
from node.web.dashboard.testnet import testnet_page
from node.web.dashboard.trade import trade_page
from node.web.dashboard.words import number

ASSETS: Final = Path(__file__).parent / "assets"
TYPES: Final = {
    "dashboard.css": "text/css; charset=utf-8",
    "dashboard.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
PAGES_KEPT: Final = 32
# Plans and the clock move between blocks, too.
FRESH_S: Final = 5.0
ORDER_ID_CHARS_MAX: Final = 32
HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}

TESTNET: Final = "/testnet"

Write = Callable[[], Awaitable[Html | None]]


class Site(NamedTuple):
    """What pages are about.

    own, main : answers of the node's own chain, and of the main chain where it is kept beside it
    height : the own chain's height
    has_home : whether this node has a home
    is_main : whether its own chain is a main chain, which has no market
    watched : how often somebody who watches the whole grid has told of it; 0: it is no testnet, or
        nobody watches
    """

    own: Asks
    main: Asks | None
    height: Callable[[], int]
    has_home: bool
    is_main: bool
    watched: Callable[[], int] = lambda: 0

    @property
    def pages(self) -> list[tuple[str, str, str]]:
        """What there is: path, icon, word."""
        found = [("/", "home", texts.HOME)] if self.has_home else []
        found.append(("/community", "community", texts.COMMUNITY))
        if not self.is_main:
            found.append(("/market", "market", texts.MARKET))
        found.append(("/chain", "chain", texts.CHAIN))
        return [*found, (TESTNET, "testnet", texts.TESTNET)] if self.watched() else found


class _Written(NamedTuple):
    of: tuple[int, int]
    time_s: float
    status: int
    tag: str
    body: bytes


class _Press:
    """Writes pages, one at a time, and keeps the last ones."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._kept: OrderedDict[str, _Written] = OrderedDict()
        self._lock = asyncio.Lock()

    async def page(self, key: str, current: str, word: str, write: Write) -> _Written:
        """Return a page of this block, written now or before."""
        async with self._lock:
            of, now = (self._site.height(), self._seen(key)), time.monotonic()
            found = self._kept.get(key)
            if found is None or found.of != of or now - found.time_s > FRESH_S:
                content = await write()
                status = HTTPStatus.NOT_FOUND if content is None else HTTPStatus.OK
                state = await self._site.own("status")
                if content is None:
                    content = join(
                        empty(texts.NO_PAGE, texts.NO_PAGE_WHY), el("p", link("/", texts.BACK))
                    )
                body = document(self._site, state, current, word, content).encode()
                tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
                found = _Written(of, now, status, tag, body)
            self._kept[key] = found
            self._kept.move_to_end(key)
            while len(self._kept) > PAGES_KEPT:
                self._kept.popitem(last=False)
            return found

    def _seen(self, key: str) -> int:
        """Return what a page depends on beside the height: a grid may stand still, and is seen."""
        return self._site.watched() if key == TESTNET else 0


def document(site: Site, state: dict[str, object], current: str, word: str, content: Html) -> str:
    """Return a whole page."""
    name = str(state["name"])
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", f"{word}{texts.DOT}{name}{texts.DOT}{texts.BRAND}"),
        el("link", rel="icon", href=_asset("icon.svg"), type="image/svg+xml"),
        el("link", rel="stylesheet", href=_asset("dashboard.css")),
        el("script", src=_asset("dashboard.js"), defer=True),
    )
    body = el(
        "body",
        el("a", texts.SKIP, href="#content", class_="skip"),
        el(
            "header",
            link("/", el("span", class_="sun", aria_hidden="true"), texts.BRAND, class_="brand"),
            el("nav", _nav(site, current), class_="pages", aria_label=texts.NAV_LABEL),
            el("div", _state(state), id="state", class_="state", role="status"),
        ),
        el("main", el("h1", _title(word, name)), content, id="content", tabindex="-1"),
        el(
            "footer",
            el("p", texts.FOOT),
            el("p", link("/openapi.json", texts.API), texts.DOT, link("/metrics", texts.METRICS)),
        ),
        el("div", id="tip", class_="tip", aria_hidden="true"),
        data_stale=texts.STALE,
    )
    return f"<!doctype html>{el('html', head, body, lang='en')}"


def _title(word: str, name: str) -> Html:
    return join(word, el("small", name))


def _nav(site: Site, current: str) -> list[Html]:
    return [
        link(
            path,
            el("span", class_=f"icon {icon}", aria_hidden="true"),
            word,
            current=path == current,
        )
        for path, icon, word in site.pages
    ]


def _state(state: dict[str, object]) -> Html:
    behind = int(str(state["behind"]))
    word = texts.BEHIND.format(blocks=number(behind)) if behind else texts.LIVE
    height = texts.BLOCK.format(height=number(int(str(state["height"]))))
    return join(
        el("span", class_="lamp warn" if behind else "lamp", aria_hidden="true"),
        el("b", word),
        el("span", height),
    )


def _read(name: str) -> tuple[bytes, str]:
    data = (ASSETS / name).read_bytes()
    return data, hashlib.sha256(data).hexdigest()[:16]


_FILES: Final = {name: _read(name) for name in TYPES}


def _asset(name: str) -> str:
    return f"/assets/{name}?v={_FILES[name][1]}"


def dashboard_routes(site: Site) -> APIRouter:
    """Return the paths of the pages and of what they need."""
    router = APIRouter(include_in_schema=False)
    press = _Press(site)

    async def said(request: Request, key: str, current: str, word: str, write: Write) -> Response:
        try:
            found = await press.page(key, current, word, write)
        except (ControlError, QueryError):
            # The node is stopping, or its state is just being replaced by a snapshot.
            return Response(status_code=HTTPStatus.SERVICE_UNAVAILABLE, headers=HEADERS)
        headers = HEADERS | {"etag": found.tag}
        if found.status == HTTPStatus.OK and request.headers.get("if-none-match") == found.tag:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(found.body, found.status, headers, media_type="text/html")

    @router.get("/")
    async def first(request: Request) -> Response:
        if not site.has_home:
            path = site.pages[0][0]
            return Response(status_code=HTTPStatus.SEE_OTHER, headers={"location": path})
        return await said(request, "/", "/", texts.HOME, lambda: home_page(site.own))

    @router.get("/community")
    async def community(request: Request) -> Response:
        path = "/community"
        return await said(request, path, path, texts.COMMUNITY, lambda: community_page(site.own))

    @router.get("/chain")
    async def chain(request: Request) -> Response:
        path = "/chain"
        write: Write = lambda: chain_page(site.own, site.main)  # noqa: E731 - as beside it
        return await said(request, path, path, texts.CHAIN, write)

    @router.get(TESTNET)
    async def testnet(request: Request) -> Response:
        write: Write = lambda: testnet_page(site.own)  # noqa: E731 - as beside it
        return await said(request, TESTNET, TESTNET, texts.TESTNET, write)

    if not site.is_main:
        _market(router, site, said)
    _assets(router)
    return router


def _market(
    router: APIRouter,
    site: Site,
    said: Callable[[Request, str, str, str, Write], Awaitable[Response]],
) -> None:
    @router.get("/market")
    async def market(request: Request, slot: str = "") -> Response:
        path, found = "/market", _slot(slot)

        async def write() -> Html | None:
            return None if slot and found is None else await market_page(site.own, found)

        key = f"{path}?{found}" if found is not None or not slot else f"{path}?none"
        return await said(request, key, path, texts.MARKET, write)

    @router.get("/trades/{slot}/{bid}/{ask}")
    async def trade(request: Request, slot: str, bid: str, ask: str) -> Response:
        number_of_slot = _slot(slot)

        async def write() -> Html | None:
            if number_of_slot is None or max(len(bid), len(ask)) > ORDER_ID_CHARS_MAX:
                return None
            return await trade_page(site.own, number_of_slot, bid, ask)

        key = f"/trades/{number_of_slot}/{bid[:40]}/{ask[:40]}"
        return await said(request, key, "/market", texts.TRADE, write)


def _slot(text: str) -> int | None:
    """Return a slot's number; None for what is none."""
    if not text.isascii() or not text.isdigit() or len(text) > len(str(SLOT_MAX)):
        return None
    return int(text) if int(text) <= SLOT_MAX else None


def _assets(router: APIRouter) -> None:
    @router.get("/assets/{name}")
    async def asset(name: str) -> Response:
        if name not in _FILES:
            return Response(status_code=HTTPStatus.NOT_FOUND, headers=HEADERS)
        # Its address has its hash: another version has another one.
        headers = HEADERS | {"cache-control": "public, max-age=31536000, immutable"}
        return Response(_FILES[name][0], headers=headers, media_type=TYPES[name])
