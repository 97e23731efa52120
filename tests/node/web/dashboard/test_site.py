"""The dashboard's pages: for each kind of node and chain, of values that are not nice."""

import re
from html.parser import HTMLParser

import pytest

from node.web.dashboard import site as module
from node.web.dashboard import texts
from tests.node.web.dashboard.samples import (
    EVIL,
    NOW_SLOT,
    Chain,
    asking,
    begun,
    main_chain,
    site_of,
    trades,
    watched,
)

TRADE = trades(NOW_SLOT - 3)[1]
TRADE_PATH = f"/trades/{NOW_SLOT - 3}/{TRADE['bid_id']}/{TRADE['ask_id']}"
PAGES = (
    "/",
    "/community",
    "/market",
    f"/market?slot={NOW_SLOT - 2}",
    "/chain",
    TRADE_PATH,
    "/testnet",
)
EMPTY = frozenset(("meta", "link", "br", "input"))


class Reader(HTMLParser):
    """Reads a page as a browser does, and sees that each element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def check(text: str) -> Reader:
    """See that a page is whole, says nothing of `None`, and has no code or style in it."""
    page = Reader(text)
    scripts = [attrs for tag, attrs in page.tags if tag == "script"]
    assert len(scripts) == 1
    assert str(scripts[0]["src"]).startswith("/assets/")
    assert not [tag for tag, _ in page.tags if tag == "style"]
    assert not [
        name for _, attrs in page.tags for name in attrs if name.startswith(("on", "style"))
    ]
    assert "None" not in " ".join(page.words)
    assert "nan" not in re.findall(r'[ "](nan|inf)\b', text)
    for name in ("href", "src"):
        for _, attrs in page.tags:
            assert str(attrs.get(name) or "/").startswith(("/", "#"))
    return page


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_of_a_trading_home(path: str) -> None:
    chain = Chain()
    async with asking(site_of(chain, main_chain()), chain) as http:
        answer = await http.get(path)
        assert answer.status_code == 200
        assert EVIL not in answer.text
        page = check(answer.text)
        # The evil name is shown as it is, as words.
        assert EVIL in page.words
        drawings = [attrs for tag, attrs in page.tags if tag == "svg" and "role" in attrs]
        assert all(attrs["aria-label"] for attrs in drawings)
        assert bool(drawings) == (path != TRADE_PATH)


@pytest.mark.parametrize("path", PAGES[:5])
async def test_a_page_of_a_chain_that_has_just_begun(path: str) -> None:
    chain = begun()
    async with asking(site_of(chain), chain) as http:
        answer = await http.get(path)
        assert answer.status_code == 200
        check(answer.text)


async def test_what_stands_where_there_is_nothing_yet() -> None:
    chain = begun()
    async with asking(site_of(chain), chain) as http:
        said = {path: (await http.get(path)).text for path in PAGES[:5]}
    assert texts.EMPTY_HOME in said["/"]
    assert texts.EMPTY_SLOTS in said["/community"]
    assert texts.EMPTY_MARKET in said["/market"]
    assert texts.NO_MAIN in said["/chain"]


async def test_a_node_of_a_main_chain_has_neither_home_nor_market() -> None:
    chain = main_chain()
    async with asking(site_of(chain, is_main=True), chain) as http:
        first = await http.get("/")
        assert (first.status_code, first.headers["location"]) == (303, "/community")
        for path in ("/community", "/chain"):
            page = check((await http.get(path)).text)
            links = [attrs.get("href") for tag, attrs in page.tags if tag == "a"]
            assert "/market" not in links
            assert "Region 1" in page.words
        assert (await http.get("/market")).status_code == 404


async def test_a_home_that_is_not_registered_yet() -> None:
    chain = Chain()
    chain.values["status"] = main_chain().values["status"]
    async with asking(site_of(chain), chain) as http:
        assert texts.NOT_REGISTERED in (await http.get("/")).text


@pytest.mark.parametrize("mechanism", ["request_offer", "sharing"])
async def test_a_market_without_orders(mechanism: str) -> None:
    chain = Chain().without("market_book")
    usual = chain.values["market_trades"]
    chain.values["market_trades"] = lambda asked: (
        usual(asked) | {"at": usual(asked)["at"] | {"mechanism": mechanism}}
    )
    async with asking(site_of(chain), chain) as http:
        answer = await http.get("/market")
        page = check(answer.text)
        assert texts.NO_ORDERS_MECHANISM.format(mechanism=mechanism) in page.words


@pytest.mark.parametrize(
    "path",
    [
        "/market?slot=x",
        "/market?slot=-1",
        "/market?slot=99999999999999999999",
        "/market?slot=%D9%A1",
        f"/trades/{NOW_SLOT}/1-1/1-2",
        "/trades/x/1-1/1-2",
        f"/trades/{NOW_SLOT}/{'9' * 300}/1",
        f"/trades/{NOW_SLOT}/{EVIL.replace('/', '')}/1",
    ],
)
async def test_a_page_that_is_not_there(path: str) -> None:
    chain = Chain()
    async with asking(site_of(chain), chain) as http:
        answer = await http.get(path)
        assert answer.status_code == 404
        check(answer.text)
        assert texts.NO_PAGE in answer.text


async def test_a_trade_is_told_from_order_to_audit() -> None:
    chain = Chain()
    async with asking(site_of(chain), chain) as http:
        page = check((await http.get(TRADE_PATH)).text)
        ways = [attrs.get("class") for tag, attrs in page.tags if tag == "li"]
        assert [way for way in ways if way in ("done", "waits")] == ["done"] * 6
        # A home chooses its name: in a shell it is one word.
        assert any(
            f"--home '{TRADE['seller_name']}'" in w or "--home home-" in w for w in page.words
        )
        chain.values["slot"] = {"bills": []}
        chain.height += 1
        path = TRADE_PATH.replace(str(NOW_SLOT - 3), str(NOW_SLOT))
        page = check((await http.get(path)).text)
        ways = [attrs.get("class") for tag, attrs in page.tags if tag == "li"]
        assert [way for way in ways if way in ("done", "waits")] == ["done"] * 2 + ["waits"] * 4


async def test_a_testnet_that_is_watched_is_seen_without_blocks() -> None:
    chain = Chain()
    async with asking(site_of(chain), chain) as http:
        page = check((await http.get("/testnet")).text)
        for word in ("home-03", "kill", "neutral-01", texts.NOT_SEEN, texts.SILENT_SEAT, "1:30"):
            assert any(word in said for said in page.words), word
        assert texts.OF_ALL.format(count=3, all=5) in page.words
        tips = [attrs.get("data-tip") or "" for tag, attrs in page.tags if tag == "rect"]
        assert any(tip == f"kill\nhome-03\n1:19 – {texts.GOES_ON}" for tip in tips)
        assert any(tip.startswith("home-02") and "0:20 – 0:41" in tip for tip in tips)
        chain.watched += 1
        chain.values["testnet"] = watched(3_725.0) | {"told_s_ago": 30.0}
        page = check((await http.get("/testnet")).text)
        assert texts.SILENT.format(seconds=30) in page.words
        assert any("1:00:00" in said for said in page.words)


async def test_who_is_not_watched_has_no_page_of_a_testnet() -> None:
    chain = Chain().without("testnet")
    chain.watched = 0
    async with asking(site_of(chain), chain) as http:
        assert (await http.get("/testnet")).status_code == 404
        page = check((await http.get("/chain")).text)
        assert "/testnet" not in [attrs.get("href") for tag, attrs in page.tags if tag == "a"]


async def test_a_page_is_written_once_per_block_for_all() -> None:
    chain = Chain()
    async with asking(site_of(chain), chain) as http:
        first = await http.get("/chain")
        asked = len(chain.asked)
        assert (await http.get("/chain")).content == first.content
        same = await http.get("/chain", headers={"if-none-match": first.headers["etag"]})
        assert (same.status_code, same.content) == (304, b"")
        assert len(chain.asked) == asked
        chain.height += 1
        later = await http.get("/chain", headers={"if-none-match": first.headers["etag"]})
        assert later.status_code == 200
        assert len(chain.asked) == 2 * asked


async def test_no_more_than_some_pages_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGES_KEPT", 2)
    chain = Chain()
    async with asking(site_of(chain), chain) as http:
        for path in ("/chain", "/market", "/community"):
            await http.get(path)
        asked = len(chain.asked)
        await http.get("/community")
        assert len(chain.asked) == asked
        await http.get("/chain")
        assert len(chain.asked) > asked


async def test_nothing_may_come_from_elsewhere() -> None:
    chain = Chain()
    async with asking(site_of(chain), chain) as http:
        page = await http.get("/")
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert page.headers["x-content-type-options"] == "nosniff"
        found = re.findall(r'(?:href|src)="(/assets/[^"]+)"', page.text)
        assert len(found) == 3
        for path in found:
            asset = await http.get(path)
            assert asset.status_code == 200
            assert "immutable" in asset.headers["cache-control"]
            assert not re.findall(r"""(?:url\(|import |fetch\()["']?https?:""", asset.text)
        for path in ("/assets/nothing", "/assets/..%2Fsite.py", "/assets/%2e%2e/site.py"):
            assert (await http.get(path)).status_code == 404


async def test_pages_are_no_part_of_the_api() -> None:
    chain = Chain()
    async with asking(site_of(chain), chain) as http:
        paths = (await http.get("/openapi.json")).json()["paths"]
        assert not [
            path for path in paths if path in PAGES or path.startswith(("/assets", "/trades"))
        ]
