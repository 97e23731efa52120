"""What a run of a street has shown, gathered from the homes and checked by itself.

Nothing here is taken on trust from one sum: trades, bills and readings of every settled slot are
fetched and added up again, and what the homes hold is compared at one height.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from node.api.control import ask
from node.errors import ControlError
from node.setup import DATA_NAME
from node.status import summary_ms
from testnet.street import Street

# Of a report: each must be true, or something is broken.
PROMISES: Final = ("money_conserved", "state_roots_equal", "energy_balanced", "bills_add_up")

# Asked once, when all is over: one late answer would lose the whole report.
ANSWER_TIMEOUT_S: Final = 30.0


class Observations:
    """What has been seen of the homes so far."""

    def __init__(self, names: list[str], begun: float, first_slot: int) -> None:
        self.names = names
        self.begun = begun
        self.first_slot = first_slot
        self.status: dict[str, dict[str, Any]] = {}
        self.up: set[str] = set()
        self.slots: dict[int, dict[str, Any]] = {}
        self.first_block_s: float | None = None
        self.all_connected_s: float | None = None

    def take_status(self, name: str, status: dict[str, Any]) -> None:
        """Note what a home says of itself."""
        self.status[name] = status
        self.up.add(name)
        if self.first_block_s is None and status["height"] > 0:
            self.first_block_s = time.monotonic() - self.begun
        connected = [self.status[n]["peers"] for n in self.up]
        if (
            self.all_connected_s is None
            and len(self.up) == len(self.names)
            and all(len(peers) >= min(2, len(self.names) - 1) for peers in connected)
        ):
            self.all_connected_s = time.monotonic() - self.begun

    def lost(self, name: str) -> None:
        """Note that a home does not answer."""
        self.up.discard(name)

    def take_slots(self, slots: list[dict[str, Any]]) -> None:
        """Note settled slots. Those delivered before this run do not count for it."""
        for slot in slots:
            if slot["slot"] >= self.first_slot:
                self.slots[slot["slot"]] = slot

    def alive(self) -> list[str]:
        """Return the homes that answer, in order."""
        return [name for name in self.names if name in self.up]

    @property
    def slots_settled(self) -> int:
        """How many slots have been settled in this run."""
        return len(self.slots)


class Gathered(NamedTuple):
    """What the homes of one chain have said at the end.

    `books` are those of the settled slots; `at` is each home's (height, state root) at one height.
    """

    seen: Observations
    settled: list[int]
    books: list[dict[str, Any]]
    money: dict[str, int]
    at: dict[str, tuple[int, str]]
    latencies_ms: list[float]


async def gather(street: Street, seen: Observations, slots_asked: int | None) -> Gathered:
    """Ask the homes of one chain once more."""
    settled = sorted(seen.slots)[:slots_asked]
    at = await _same_height(street, seen)
    first = seen.alive()[0]
    books = [await _ask(street, first, "slot", slot=number) for number in settled]
    money = await _ask(street, first, "money")
    latencies_ms: list[float] = []
    for name in at:
        latencies_ms += await _ask(street, name, "latencies")
    return Gathered(seen, settled, books, money, at, latencies_ms)


async def final_report(
    street: Street,
    observed: Sequence[Observations],
    restarts: dict[str, int],
    slots_asked: int | None,
) -> dict[str, Any]:
    """Ask the homes once more, check what they say against each other, and return the report.

    Parameters
    ----------
    observed : sequence of Observations
        Of each region; of the one chain there is in a street by itself.
    """
    found = [await gather(street, seen, slots_asked) for seen in observed]
    books = [book for chain in found for book in chain.books]
    slots = [book["summary"] for book in books]
    regions = [number for number, chain in enumerate(found, 1) for _ in chain.books]
    bills = [bill for book in books for bill in book["bills"]]
    total_micro = sum(bill["total_micro"] for bill in bills)
    grid_only_micro = sum(bill["grid_only_micro"] for bill in bills)
    at = {name: place for chain in found for name, place in chain.at.items()}
    status = {name: said for seen in observed for name, said in seen.status.items()}
    return {
        "homes": len(street.names),
        "slots": min(len(chain.settled) for chain in found),
        "trades": sum(slot["trades"] for slot in slots),
        "traded_wh": sum(slot["traded_wh"] for slot in slots),
        "grid_wh": sum(slot["grid_wh"] for slot in slots),
        "fed_in_wh": sum(slot["fed_in_wh"] for slot in slots),
        "money_conserved": all(money_conserved(chain.money) for chain in found),
        "state_roots_equal": all(
            len({root for _, root in chain.at.values()}) == 1 for chain in found
        ),
        "energy_balanced": all(energy_balanced(book) for book in books),
        "bills_add_up": all(bills_add_up(book) for book in books),
        "height": min(height for height, _ in at.values()),
        "finality_ms": summary_ms([took for chain in found for took in chain.latencies_ms]),
        "savings_percent": (
            round(100 * (grid_only_micro - total_micro) / abs(grid_only_micro), 2)
            if grid_only_micro
            else None
        ),
        "all_connected_s": _last_s([seen.all_connected_s for seen in observed]),
        "first_block_s": _last_s([seen.first_block_s for seen in observed]),
        "per_slot": [
            ({"region": region} if len(found) > 1 else {})
            | {
                name: slot[name]
                for name in (
                    "slot",
                    "bids",
                    "asks",
                    "trades",
                    "traded_wh",
                    "low_micro_per_kwh",
                    "high_micro_per_kwh",
                    "readings",
                    "grid_wh",
                    "fed_in_wh",
                )
            }
            for region, slot in zip(regions, slots, strict=True)
        ],
        "nodes": [node_row(name, status.get(name), at, restarts) for name in street.names],
    }


def is_sound(report: dict[str, Any]) -> bool:
    """Tell whether a report shows no broken promise, of the regions or of their main chain."""
    promises = [report[name] for name in PROMISES]
    main = report.get("main")
    if main is not None:
        promises.append(main["state_roots_equal"])
    return all(promises)


def node_row(
    name: str,
    status: dict[str, Any] | None,
    at: dict[str, tuple[int, str]],
    restarts: dict[str, int],
) -> dict[str, Any]:
    """Return what a node has said of itself last, and at the common height."""
    height, root = at.get(name, (None, None))
    told = status or {}
    home = told.get("home") or {}
    return {
        "id": name,
        "height": height,
        "state_root": root,
        "rss_mib": told.get("rss_mib"),
        "cpu_s": told.get("cpu_s"),
        "uptime_s": told.get("uptime_s"),
        "peers": len(told["peers"]) if told else None,
        "restarts": restarts.get(name, 0),
        # Since the home began; None for a node without one.
        "bought_wh": home.get("bought_wh"),
        "sold_wh": home.get("sold_wh"),
        "saved_micro": home.get("saved_micro"),
    }


def money_conserved(money: dict[str, int]) -> bool:
    """All accounts together hold what was minted and not redeemed, to the micro-unit."""
    held = money["balances_micro"] + money["held_micro"]
    return held == money["minted_micro"] - money["redeemed_micro"]


def energy_balanced(book: dict[str, Any]) -> bool:
    """In a slot, homes' imports − exports = grid energy − fed-in energy + net from other regions.

    What homes sold each other, and to other regions, is what they bought, there and of others.
    """
    slot, bills = book["summary"], book["bills"]
    peer_wh = sum(trade["energy_wh"] for trade in book["trades"] if trade["seller"])
    imported = sum(bill["import_wh"] for bill in bills)
    exported = sum(bill["export_wh"] for bill in bills)
    return bool(
        imported - exported
        == slot["grid_wh"] - slot["fed_in_wh"] + slot["imported_wh"] - slot["exported_wh"]
        and imported == slot["import_wh"]
        and exported == slot["export_wh"]
        and peer_wh
        == slot["traded_wh"]
        == sum(bill["bought_wh"] for bill in bills) - slot["imported_wh"]
        == sum(bill["sold_wh"] for bill in bills) - slot["exported_wh"]
    )


def bills_add_up(book: dict[str, Any]) -> bool:
    """Each bill is the sum of its home's trades and its grid legs at the slot's prices.

    What a home paid or got beyond its trades in the region is what was traded with others; of all
    homes together it is what the slot's sums say.
    """
    slot = book["summary"]
    tariff, feed_in = slot["tariff_micro_per_kwh"], slot["feed_in_micro_per_kwh"]
    peer = [trade for trade in book["trades"] if trade["seller"]]
    paid, got = [], []
    for bill in book["bills"]:
        cost = sum(trade["cost_micro"] for trade in peer if trade["buyer"] == bill["home"])
        income = sum(trade["cost_micro"] for trade in peer if trade["seller"] == bill["home"])
        paid.append(bill["trades_cost_micro"] - cost)
        got.append(bill["trades_income_micro"] - income)
        grid = bill["grid_wh"] * tariff // 1000
        fed_in = bill["fed_in_wh"] * feed_in // 1000
        trades_micro = bill["trades_cost_micro"] - bill["trades_income_micro"]
        legs_micro = grid - fed_in + bill["penalty_micro"] + bill["fees_micro"]
        if bill["total_micro"] != trades_micro + legs_micro:
            return False
    if min([*paid, *got, 0]) < 0:
        return False
    if book["bills"] and (sum(paid), sum(got)) != (slot["paid_micro"], slot["got_micro"]):
        return False
    return all(
        trade["cost_micro"] == trade["energy_wh"] * trade["price_micro_per_kwh"] // 1000
        for trade in peer
    )


async def _same_height(street: Street, seen: Observations) -> dict[str, tuple[int, str]]:
    """Return every living home's (height, state root) at one height that all have reached.

    The root is the one each home has computed and stored with its own block.
    """
    names = seen.alive()
    for name, status in zip(
        names, await asyncio.gather(*(_status(street, name) for name in names)), strict=True
    ):
        if status is None:
            seen.lost(name)
        else:
            seen.take_status(name, status)
    alive = seen.alive()
    if not alive:
        raise ControlError(
            f"no report: of {len(seen.names)} homes from {seen.names[0]} on none answers any more; "
            "what they have is on their disks"
        )
    height = min(seen.status[name]["height"] for name in alive)
    blocks = await asyncio.gather(*(_ask(street, n, "block", height=height) for n in alive))
    return {name: (height, block["state_root"]) for name, block in zip(alive, blocks, strict=True)}


async def _status(street: Street, name: str) -> dict[str, Any] | None:
    try:
        status: dict[str, Any] = await _ask(street, name, "status")
    except ControlError:
        return None
    return status


async def _ask(street: Street, name: str, question: str, **arguments: Any) -> Any:
    return await ask(
        street.home(name) / DATA_NAME, question, timeout_s=ANSWER_TIMEOUT_S, **arguments
    )


def _last_s(moments_s: Sequence[float | None]) -> float | None:
    """Return when the last of several came about; None if one has not."""
    reached = [moment for moment in moments_s if moment is not None]
    return round(max(reached), 1) if len(reached) == len(moments_s) else None
