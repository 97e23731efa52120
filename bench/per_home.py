"""What a home costs, in a grid of 1 to 100 regions: `uv run python -m bench.per_home`.

Regions of 50 homes and their main chain in this process, with real certificates and proofs: in each
slot every home posts an order and its meter a reading, and what a slot leaves is offered to other
regions. Two regions at most are there in full: every transaction, block, clearing and settlement.
The others are a sample's shadow: of them there is what they sign for the main chain, as many
checkpoints, offers with as many steps, and audits as the regions in full have, proven by states as
large as theirs, and nothing inside.

Counted is what one node does and holds that keeps a chain: checking transactions, executing blocks,
verifying certificates, committing, and the blocks' and certificates' bytes. A region's chain
weighs on its own homes only; the main chain's work is divided by all homes of all regions, as it is
kept for them together: each of its blocks has one header and one certificate, however many regions'
checkpoints, offers and answers are in it, so that part falls. The grids live through their slots in
turns, so that what else the processor does weighs on all alike. The baseline is the grid of one
region.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from msgspec.structs import replace

from bench.figures import Said, command, figure
from consensus.authorities import verify_certificate
from consensus.checkpoint import Checkpoint, Record, record_key
from market import client
from market.client import Call, regions
from market.tiers import ExchangeRules, ExportRules, MainRules
from market.vm import merkle
from node.chain.epochs import set_of
from node.regions.exchange import Offer, ends_due, offers_due
from tests.regions.forge import Captured, slot_totals
from tests.regions.grid import (
    BLOCK_MS,
    MAIN_KEYS,
    SLOT,
    SLOT_MS,
    Certified,
    Chain,
    Main,
    Region,
    certify,
)
from wire.codec import Plain, encode
from wire.keys import SigningKey
from wire.transaction import CheckedTransaction, check

COUNTS: Final = "1,10,100"
HOMES: Final = 50
FULL_MAX: Final = 2
SLOTS: Final = 12
# Not counted: caches fill, and the tree of the state takes its shape.
WARM_UP: Final = 3
CALLS_PER_BLOCK: Final = 250
BALANCE_MICRO: Final = 10**9
GRID_WH: Final = 20
AUDITS_NEEDED: Final = MainRules().audits_needed
Calls = list[tuple[SigningKey, Call]]
# Of what a region's home costs there, and of its share of the main chain.
MAIN: Final = " for the main chain"
# A home's cost is promised to grow by no more than a tenth with the number of regions.
GROWTH_AIM: Final = 1.1
PARTS: Final[dict[str, Callable[[float, float], float]]] = {
    "": lambda own, main: own + main,
    " by its own region": lambda own, main: own,
    MAIN: lambda own, main: main,
}


class Cost(NamedTuple):
    """Of one slot. [s of the processor, bytes]

    `frame` is what of `size` is no transaction: headers, and certificates, of which each block has
    the last one's, too.
    """

    cpu_s: float
    size: int
    frame: int


class Metered(Chain):
    """A chain whose node is looked at: what blocks cost it, and how many bytes they have."""

    cpu_s = 0.0
    size = 0
    frame = 0

    def block(
        self, calls: Iterable[tuple[SigningKey, Call]] = (), at_ms: int | None = None
    ) -> Certified:
        """Decide a block as `Chain.block` does. A refused call ends the benchmark."""
        self.time_ms = self.time_ms + BLOCK_MS if at_ms is None else at_ms
        authorities = set_of(self.app.terms())
        raws = [self.call(*call).raw for call in calls]
        parent = self.head.header if self.head else self.first
        last = self.head.certificate if self.head else None
        began = time.process_time()
        checked = check(raws, self.chain_id, self.time_ms)
        txs = [tx for tx in checked if isinstance(tx, CheckedTransaction)]
        block, result = self.maker.build(parent, last, 0, self.time_ms, txs)
        cpu_s = time.process_time() - began
        signers = [self.keys[public] for public in authorities.publics[: authorities.quorum]]
        certificate = certify(block.header, signers, authorities)
        began = time.process_time()
        verify_certificate(certificate, authorities, self.chain_id)
        self.app.commit(result)
        self.cpu_s += cpu_s + time.process_time() - began
        size = len(encode(block)) + len(encode(certificate))
        self.size += size
        self.frame += size - sum(map(len, raws))
        wrong = [one for one in result.receipts if one.code != "ok"]
        if wrong or len(txs) != len(raws):
            raise SystemExit(f"{self.chain_id} refused what it should take: {wrong[:1]}")
        self.head = Certified(block, certificate, result)
        self.decided(self.head)
        return self.head

    def all_of(self, calls: Calls, at_ms: int | None = None) -> None:
        """Decide calls, as many blocks as they need."""
        for first in range(0, len(calls), CALLS_PER_BLOCK):
            self.block(calls[first : first + CALLS_PER_BLOCK], at_ms if first == 0 else None)

    def read(self) -> Cost:
        """Return what has been counted since the last reading."""
        found = Cost(self.cpu_s, self.size, self.frame)
        self.cpu_s, self.size, self.frame = 0.0, 0, 0
        return found


class FullRegion(Metered, Region):
    """A region with all that is in it."""


class MainChain(Metered, Main):
    """The main chain."""


class Shadow(Captured):
    """A region of which there is only what it signs for the main chain.

    Its state is `like`'s but for what it signs, so that its proofs are as long.
    """

    def __init__(self, number: int, like: FullRegion) -> None:
        super().__init__(number)
        self._like = like
        self.record: Record | None = None
        self.checkpoints: list[Checkpoint] = []
        self.offers: list[Offer] = []

    def state(self, record: Record) -> merkle.Tree:
        """The state that holds `record`."""
        own = {record_key(record.number): encode(record), **self.others}
        return merkle.update(self._like.app.loaded().tree, own)

    def _close(self, *slots: int, **changes: object) -> Record:
        totals = [slot_totals(slot) for slot in slots]
        if self.record is None:
            self.record = self.first(*totals, **changes)
        else:
            self.record = self.after(self.record, *totals, **changes)
        self.checkpoints.append(self.checkpoint(self.record))
        return self.record

    def offer(self, slot: int, steps: list[Plain]) -> None:
        """Close a record with an offer of these steps."""
        number = 1 if self.record is None else self.record.outbox_count + 1
        entry: Plain = ["out", self.number, number, slot, SLOT_MS, steps, "00" * 32]
        name = regions.outbox_key(number)
        self.others = {"other": b"\x01", name: encode(entry)}
        record = self._close(outbox_count=number, outbox_head=f"{number:064x}")
        proof = encode(merkle.prove(self.state(record), name))
        self.offers.append(Offer(self.number, record.number, number, slot, encode(entry), proof))

    def take_in(self) -> None:
        """Close a record of what came of the offer."""
        number = 1 if self.record is None else self.record.inbox_count + 1
        self._close(inbox_count=number, inbox_head=f"{number:064x}")

    def settle(self, slot: int) -> None:
        """Close a record of a settled slot."""
        self._close(slot)


class Grid:
    """Some regions, of which a sample is there in full, and their main chain."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.full = [
            FullRegion(number, HOMES, exports=ExportRules(), balance_micro=BALANCE_MICRO)
            for number in range(1, min(count, FULL_MAX) + 1)
        ]
        like = self.full[0]
        self.shadows = [Shadow(number, like) for number in range(len(self.full) + 1, count + 1)]
        self.regions: list[FullRegion | Shadow] = [*self.full, *self.shadows]
        sponsors = [region.sponsor for region in self.regions]
        self.main = MainChain(sponsors, exchange=ExchangeRules())
        self.main.all_of([(region.sponsor, region.registration) for region in self.regions])
        for one in MAIN_KEYS[:3]:
            self.main.all_of([(one, regions.approve(region.number)) for region in self.regions])
        seated = [one for region in self.regions for one in region.seated] + MAIN_KEYS
        self._accounts = {one.address: one for one in seated}
        self._posted = dict.fromkeys(range(1, count + 1), 0)

    def live(self, slot: int) -> None:
        """Let a slot be traded, delivered and settled, on all chains."""
        main = self.main
        for region in self.full:
            region.trade(slot, orders(slot))
        steps = len(self.full[0].query("export", "offered", {"slot": slot})["steps"])
        for shadow in self.shadows:
            shadow.offer(slot, ladder(shadow.number, slot, steps))
        self.post()
        offers = [
            (region.seated[0], call)
            for region in self.regions
            for call in offers_due(region.offers, main.app)
        ]
        if len(offers) != self.count:
            raise SystemExit(f"{len(offers)} of {self.count} regions offer something")
        main.all_of(offers)
        main.block(at_ms=slot * SLOT_MS)
        for region in self.full:
            self.show(region)
        for shadow in self.shadows:
            shadow.take_in()
        self.post()
        for region in self.full:
            region.meter(slot, readings(region, slot))
        for shadow in self.shadows:
            shadow.settle(slot)
        self.post()
        self.audit()
        for region in self.full:
            self.show(region)
            if client.slot_summary(region.query, slot).status != "settled":
                raise SystemExit(f"slot {slot} is not settled")

    def post(self) -> None:
        """Anchor what the regions have closed since."""
        main, calls = self.main, []
        for region in self.regions:
            main.time_ms = max(main.time_ms, getattr(region, "time_ms", 0))
            done = self._posted[region.number]
            calls += [region.post(one) for one in region.checkpoints[done:]]
            self._posted[region.number] = len(region.checkpoints)
        main.all_of(calls)

    def show(self, region: FullRegion) -> None:
        """Show a region what came of its offer, and which of its records is anchored."""
        main = self.main
        if main.head is None:
            raise SystemExit("the main chain has made no block")
        head = main.signed_header(main.head)
        calls = ends_due(region.app, main.app, head) or [regions.follow(head)]
        calls.append(main.anchored(region.number))
        region.all_of([(region.seated[0], call) for call in calls])

    def audit(self) -> None:
        """Have as many drawn auditors as are needed say that they are content."""
        main, calls = self.main, []
        main.block()
        for number in range(1, self.count + 1):
            duty = main.query("audit", "status", {"region": number})["duty"]
            call = regions.audit_ok(number, duty["number"])
            calls += [(self._accounts[one], call) for one in duty["drawn"][:AUDITS_NEEDED]]
        main.all_of(calls)

    def costs(self) -> tuple[Cost, Cost]:
        """Return what one home cost since the last time: its region, and its share of main."""
        found = [region.read() for region in self.full]
        main, homes = self.main.read(), HOMES * len(self.full)
        own = Cost(
            sum(one.cpu_s for one in found) / homes,
            sum(one.size for one in found) // homes,
            sum(one.frame for one in found) // homes,
        )
        homes = HOMES * self.count
        return own, Cost(main.cpu_s / homes, main.size // homes, main.frame // homes)


def orders(slot: int) -> list[tuple[int, str, int, int]]:
    """Return an order of each home; some of each side are left over."""
    random_ = random.Random(slot)
    return [
        (
            home,
            ("buy", "sell")[home % 2],
            random_.randrange(100, 400),
            1_000 * random_.randrange(90, 190),
        )
        for home in range(1, HOMES + 1)
    ]


def readings(region: FullRegion, slot: int) -> list[tuple[int, int]]:
    """Return what homes took and gave: what they have contracted, and a little of the grid's."""
    bought, sold = [0] * (HOMES + 1), [0] * (HOMES + 1)
    for trade in client.trades_of_slot(region.query, slot):
        if not trade.backstop:
            bought[trade.buyer] += trade.energy_wh
            sold[trade.seller] += trade.energy_wh
    for one in client.traded_elsewhere(region.query, slot):
        bought[one.home] += one.bought_wh
        sold[one.home] += one.sold_wh
    return [
        (bought[home] + (0 if sold[home] else GRID_WH), sold[home]) for home in range(1, HOMES + 1)
    ]


def ladder(number: int, slot: int, steps: int) -> list[Plain]:
    """Return so many steps of a region that sells or buys, at prices that suit others."""
    random_ = random.Random(f"{number}/{slot}")
    side = number % 2
    price = (180, 100)[side]
    return [
        [side, random_.randrange(200, 1_000), 1_000 * (price + random_.randrange(10))]
        for _ in range(steps)
    ]


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--regions", default=COUNTS)
    parser.add_argument("--slots", type=int, default=SLOTS)


def lived(counts: Iterable[int], slots: int) -> Iterator[tuple[Grid, list[tuple[Cost, Cost]]]]:
    """Let grids of so many regions live in turns; yield each with its homes' costs by slot."""
    grids = [Grid(count) for count in counts]
    seen: list[list[tuple[Cost, Cost]]] = [[] for _ in grids]
    for turn in range(WARM_UP + slots):
        for grid, costs in zip(grids, seen, strict=True):
            grid.live(SLOT + 2 * turn)
            costs.append(grid.costs())
    for grid, costs in zip(grids, seen, strict=True):
        yield grid, costs[WARM_UP:]


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Measure."""
    yield f"{HOMES} homes a region, {given.slots} slots; of a home and slot, in one node's work:"
    base = None
    for grid, counted in lived(map(int, given.regions.split(",")), given.slots):
        base = base or counted
        yield from of_grid(grid, counted, base)


def of_grid(
    grid: Grid, counted: list[tuple[Cost, Cost]], base: list[tuple[Cost, Cost]]
) -> Iterator[Said]:
    """Yield a grid's figures, beside those of the first."""
    name = f"{grid.count} regions" if grid.count > 1 else "one region"
    yield f"{name}, {len(grid.full)} in full"
    for title, unit, factor, part in (("CPU", "ms", 1e3, 0), ("stored", "bytes", 1, 1)):
        for of, of_slot in PARTS.items():
            found = [factor * of_slot(own[part], main[part]) for own, main in counted]
            first = [factor * of_slot(own[part], main[part]) for own, main in base]
            told = figure(f"{name}, {title}{of}", unit, found)
            if counted is not base:
                # Slot by slot, as the machine is not as fast at one time as at another.
                ratio = statistics.median(a / b for a, b in zip(found, first, strict=True))
                # The main chain's share may fall as far as it likes.
                aim = None if of == MAIN else GROWTH_AIM * statistics.median(first)
                told = figure(told.name, unit, found, over=("one region's", first), aim=aim)
                told = replace(told, ratio=ratio)
            yield told
    frames = [main.frame for _, main in counted]
    yield figure(f"{name}, of these in the main chain's headers and certificates", "bytes", frames)


if __name__ == "__main__":
    command(__doc__, options, figures)
