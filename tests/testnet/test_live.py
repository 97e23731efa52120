"""The live view fits the terminal it is shown in, and says most where there is most room."""

import io
from pathlib import Path

import pytest
from rich.console import Console, ConsoleDimensions

from testnet.live import LiveView
from testnet.main import MainObservations
from testnet.processes import HomeProcess
from testnet.report import Observations
from testnet.street import Street, StreetPlan, home_names

FIRST = 1_957_917


def street(homes: int) -> Street:
    plan = StreetPlan(homes=homes)
    return Street(Path("street"), plan, home_names(homes), [])


def seen(names: list[str], slots: int) -> Observations:
    """A street on a long afternoon: every home with a battery, sums of some digits."""
    found = Observations(list(names), 0.0, FIRST)
    for number, name in enumerate(names):
        home = {
            "market_ms": 1_762_130_000_000,
            "saved_micro": 12_340_000 * (number % 2),
            "load_wh": 1_204,
            "pv_wh": 2_310,
            "stored_wh": 500 * number,
            "battery_wh": 10_000,
            "bought_wh": 123_450,
            "sold_wh": 98_760,
            "total_micro": -31_250_000,
        }
        status = {
            "height": 12_345,
            "peers": ["peer"] * 11,
            "behind": 0,
            "authority": 1 if number < 4 else None,
            "voting": number < 3,
            "chain_id": "street-afb6eb0d",
            "rss_mib": 178.2,
            "finality_ms": {"p95": 1_044.0},
            "home": home,
        }
        found.take_status(name, status)
    for number in range(FIRST, FIRST + slots):
        found.slots[number] = {
            "bids": 15,
            "asks": 21,
            "trades": 11,
            "traded_wh": 100 * (number - FIRST),
            "low_micro_per_kwh": 153_700,
            "high_micro_per_kwh": 153_900,
            "grid_wh": 5,
            "fed_in_wh": 0,
            "tariff_micro_per_kwh": 277_100,
        }
    return found


def shown(homes: int, slots: int, size: ConsoleDimensions | None) -> list[str]:
    """The lines of the screen."""
    view = LiveView(street(homes), enabled=False, address="http://127.0.0.1:4680/")
    processes = [HomeProcess(name, Path("street") / name) for name in home_names(homes)]
    processes[1].restarts = 2
    out = io.StringIO()
    console = Console(file=out, width=size.width if size else 108)
    console.print(view.render([seen(home_names(homes), slots)], None, processes, size))
    return out.getvalue().splitlines()


@pytest.mark.parametrize(
    ("columns", "lines", "homes", "slots_shown", "homes_shown"),
    [
        (80, 24, 12, 3, 12),
        (80, 40, 12, 8, 12),
        (80, 24, 4, 8, 4),
        (120, 30, 24, 3, 18),
        (80, 24, 60, 3, 11),
    ],
)
def test_it_fits_the_terminal(
    columns: int, lines: int, homes: int, slots_shown: int, homes_shown: int
) -> None:
    screen = shown(homes, 30, ConsoleDimensions(columns, lines))
    assert len(screen) < lines
    assert max(map(len, screen)) <= columns
    text = "\n".join(screen)
    # What a newcomer is told to look for.
    assert "http://127.0.0.1:4680/" in screen[-1]
    assert "traded ▁" in text
    assert "…" not in text
    assert sum(line.startswith("home-") for line in screen) == homes_shown
    assert text.count("0.154–0.154") == slots_shown
    left_off = homes - homes_shown
    assert (f"and {left_off} homes more" in text) == bool(left_off)


def test_a_picture_has_room_for_all() -> None:
    screen = shown(60, 30, None)
    assert sum(line.startswith("home-") for line in screen) == 60


def test_a_tiny_terminal_is_no_error() -> None:
    assert shown(12, 30, ConsoleDimensions(40, 5))


def test_nothing_is_known_at_first() -> None:
    view = LiveView(street(4), enabled=False)
    fresh = Observations(home_names(4), 0.0, FIRST)
    tiers: MainObservations | None = None
    out = io.StringIO()
    Console(file=out, width=80).print(view.render([fresh], tiers, [], ConsoleDimensions(80, 24)))
    assert "0 of 4 homes are up" in out.getvalue()
    assert out.getvalue().count("starting") == 5
