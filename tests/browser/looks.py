"""Every page in every look: nothing said, nothing over the edge, nothing that axe finds.

The same eyes for the answers of the tests and for a street that runs. By hand, of the latter:

    uv run --extra test python -m tests.browser.looks http://127.0.0.1:4680 docs/images

writes the pictures of docs/dashboard.md.
"""

import argparse
import asyncio
import importlib.util
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.browser.chromium import Page, chromium, found

WIDTHS: Final = {"wide": (1_280, 900), "narrow": (390, 844)}
SCHEMES: Final = {"light": False, "dark": True}
PATHS: Final = {
    "home": "/",
    "community": "/community",
    "market": "/market",
    "chain": "/chain",
    "testnet": "/testnet",
}
# Everything axe knows but what is a matter of taste.
AXE: Final = """axe.run(document, {resultTypes: ['violations'],
  runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']}).then(
  (found) => found.violations.map((one) => one.id + ': ' +
    one.nodes.map((node) => node.target + ' ' + node.failureSummary).slice(0, 3).join('; ')))"""
# Of the trades on a page the last one, which is the oldest, and furthest on its way.
OLDEST_TRADE: Final = """[...document.querySelectorAll("a.row[href^='/trades/']")]
  .map((one) => one.getAttribute('href')).at(-1) ?? null"""


def axe_source() -> str:
    """Return axe-core's script, as its package has it."""
    spec = importlib.util.find_spec("axe_core_python")
    assert spec is not None, "axe-core-python is in the extra `test`"
    assert spec.origin is not None
    return (Path(spec.origin).parent / "axe.min.js").read_text()


async def look_at(page: Page, url: str, paths: Mapping[str, str], out: Path | None) -> list[str]:
    """Open each page in each look; see `look` for `out` and what is returned."""
    wrong: list[str] = []
    for width in WIDTHS:
        for scheme in SCHEMES:
            for name, path in paths.items():
                file = None if out is None else out / f"{name}-{width}-{scheme}.png"
                wrong += await look(page, url + path, width, scheme, file)
    return wrong


async def look(
    page: Page, url: str, width: str, scheme: str, out: Path | None, whole: bool = True
) -> list[str]:
    """Open one page in one look, and keep a picture of it as `out`, whole or its first screen.

    Returns
    -------
    list of str
        What is wrong, each with the page and the look.
    """
    page.complaints.clear()
    await page.call("Page.setBypassCSP", enabled=True)
    await page.look(*WIDTHS[width], SCHEMES[scheme])
    await page.open(url)
    await page.evaluate(axe_source())
    wrong = list(await page.evaluate(AXE))
    over = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
    if over > 0:
        wrong.append(f"it reaches {over} px over the edge of the screen")
    if out is not None:
        await page.picture(out, whole)
    return [f"{url}, {width}, {scheme}: {one}" for one in [*wrong, *page.complaints]]


async def draw(url: str, out: Path) -> list[str]:
    """Write the documentation's pictures of the street at this address."""
    with tempfile.TemporaryDirectory() as scratch:
        async with chromium(Path(scratch) / "profile") as browser:
            page = await browser.page()
            await page.open(url + PATHS["home"])
            trade = await page.evaluate(OLDEST_TRADE)
            shown = await page.evaluate(
                "[...document.querySelectorAll('nav.pages a')].map((a) => a.getAttribute('href'))"
            )
            missing = [name for name, path in PATHS.items() if path not in shown]
            if trade is None or missing:
                return [f"the street has no {one} yet" for one in [*missing, "trade of its own"]]
            wrong: list[str] = []
            # The market as it was for that trade: its slot's curves have met.
            paths = PATHS | {"trade": trade, "market": f"/market?slot={trade.split('/')[2]}"}
            for name, path in paths.items():
                for scheme in SCHEMES:
                    file = out / f"dashboard-{name}-{scheme}.png"
                    wrong += await look(page, url + path, "wide", scheme, file)
            for scheme in SCHEMES:
                file = out / f"dashboard-phone-{scheme}.png"
                wrong += await look(page, url + PATHS["home"], "narrow", scheme, file, False)
    return wrong


def main() -> None:
    """Parse the command line; the exit code says whether all was well."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url", help="of a home's dashboard, such as http://127.0.0.1:4680")
    parser.add_argument("out", type=Path, help="the directory for the pictures")
    args = parser.parse_args()
    if found() is None:
        sys.exit("no Chromium is installed")
    wrong = asyncio.run(draw(args.url.rstrip("/"), args.out))
    sys.exit("\n".join(wrong) or None)


if __name__ == "__main__":
    main()
