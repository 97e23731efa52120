"""Random trade across regions that halt, are late, and are told all twice: nothing is lost."""

import random

import pytest

from market import client
from market.client import Call, regions
from market.tiers import ExchangeRules
from market.vm.engine import Engine
from tests.market.vm.cpython import CPythonEngine
from tests.regions.grid import SLOT, SLOT_MS, Region
from tests.regions.trading import UNRESOLVED, World
from wire.codec import encode
from wire.keys import SigningKey

REGIONS = 3
RULES = ExchangeRules(
    zones=(0, 1, 2),
    fees=((0, 15_000, 30_000), (15_000, 0, 5_000), (30_000, 5_000, 0)),
    capacities_w=((9_000, 2_500, 9_000), (2_500, 9_000, 1_000), (9_000, 400, 9_000)),
)
REASONS = {
    "claim": {"already_claimed", "already_refunded", "not_proven", "unknown_header"},
    "refund": {"already_claimed", "already_refunded", "not_proven", "unknown_header", "too_early"},
    "offer": {"already_offered", "too_late", "unknown_checkpoint", "wrong_status"},
}


class Run:
    """One random history, and how often what happened in it."""

    def __init__(self, seed: int, twin: type[Engine] | None = None) -> None:
        self.random = random.Random(seed)
        self.world = World(REGIONS, exchange=RULES, twin=twin, history_min=256)
        self.seen: dict[str, int] = {}
        self.told: dict[int, list[Call]] = {region.number: [] for region in self.world.regions}

    def count(self, what: str) -> None:
        self.seen[what] = self.seen.get(what, 0) + 1

    def go(self, slots: int) -> None:
        world, random_ = self.world, self.random
        for slot in range(SLOT, SLOT + 4 * slots, 4):
            away = {region.number for region in world.regions if random_.random() < 0.15}
            there = [region for region in world.regions if region.number not in away]
            for region in there:
                region.trade(slot, self.orders())
            world.check()
            main_runs = random_.random() < 0.85
            if main_runs:
                for region in there:
                    if random_.random() < 0.85:
                        world.anchor(region)
                self.interfere()
                world.close(slot)
                world.check()
            for region in there:
                if main_runs and random_.random() < 0.7:
                    self.tell(region)
            for region in there:
                self.settle(region, slot)
                world.check()
            self.interfere()
            world.check()
        self.heal(slot)

    def orders(self) -> list[tuple[int, str, int, int]]:
        """One home each is in the market; regions differ in how much sun they have."""
        sunny = self.random.random()
        found = []
        for home in range(1, 5):
            side = "sell" if self.random.random() < sunny else "buy"
            price = self.random.randrange(60_000, 240_000)
            found.append((home, side, self.random.randrange(1, 900), price))
        return found

    def settle(self, region: Region, slot: int) -> None:
        readings = []
        for _ in range(4):
            energy_wh = self.random.randrange(900)
            readings.append((energy_wh, 0) if self.random.random() < 0.5 else (0, energy_wh))
        region.meter(slot, readings)
        if self.random.random() < 0.3:
            region.block(at_ms=max((slot + 3) * SLOT_MS, region.time_ms + 1_000))

    def tell(self, region: Region) -> None:
        for sender, call in self.world.due(region):
            slot = call.args.get("slot", 0)
            late = slot and self.world.status(region, slot) == "late"
            region.ok(sender, call)
            self.told[region.number].append(call)
            self.count(f"late {call.entry}" if late else call.entry)
            self.world.check()

    def interfere(self) -> None:
        """Say again what was said, and say what is not so: refused, and nothing is changed."""
        world = self.world
        for region in world.regions:
            region.block()
            again = [call for call in self.told[region.number] if call.entry != "follow"]
            calls = self.random.sample(again, min(2, len(again))) + self.untrue(region)
            for call in calls:
                self.refused(region, region.home_keys[1], call)
            for offer in region.offers[-2:]:
                pending = world.main.app.value(regions.pending_offer_key(region.number, offer.slot))
                args = {"region": region.number, "slot": offer.slot}
                done = world.main.query("exchange", "result", args)
                if pending is not None or done is not None:
                    world.main.block()
                    receipt = world.main.refusal(region.seated[1], offer.call())
                    assert receipt.reason in REASONS["offer"], receipt
                    self.count(receipt.reason)

    def refused(self, region: Region, sender: SigningKey, call: Call) -> None:
        receipt = region.refusal(sender, call)
        assert receipt.reason in REASONS[call.entry], receipt
        self.count(receipt.reason)

    def untrue(self, region: Region) -> list[Call]:
        """Return refunds of what was traded, with the best proofs there are."""
        main = self.world.main
        window = main.app.value(regions.WINDOW_KEY)
        assert window is not None
        calls = []
        for offer in region.offers[-2:]:
            key = regions.result_key(region.number, offer.slot)
            if main.app.value(key) is not None:
                height = region.query("export", "main_head", {})["height"] or 1
                proofs = [encode(main.app.prove(name)) for name in (regions.WINDOW_KEY, key)]
                calls.append(regions.refund(height, offer.slot, window, *proofs))
        return calls

    def heal(self, slot: int) -> None:
        """All that is to be shown is shown: every offer has one end."""
        world = self.world
        for region in world.regions:
            world.anchor(region)
        world.close(slot + 1)
        for region in world.regions:
            self.tell(region)
            region.block(at_ms=max((slot + 4) * SLOT_MS, region.time_ms + 1_000))
            world.anchor(region)
            statuses = [world.status(region, offer.slot) for offer in region.offers]
            assert not set(statuses) & set(UNRESOLVED)
            for status in statuses:
                self.count(status)
            funds = world.main.query("regions", "funds", {"region": region.number})
            assert funds["due_micro"] == 0
            assert client.settled_slots(region.query, 1) or not region.offers
            results = world.results(region).values()
            self.seen["wh"] = self.seen.get("wh", 0) + sum(one["imported_wh"] for one in results)
        world.check()


def test_nothing_is_lost_between_regions() -> None:
    run = Run(1, CPythonEngine)
    run.go(2)
    assert run.seen["wh"] > 100
    assert run.seen["claimed"] > 2
    assert run.seen["already_claimed"] > 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
def test_nothing_is_lost_between_regions_ever(seed: int) -> None:
    run = Run(seed)
    run.go(16)
    assert run.seen["wh"] > 300
    for what in ("claimed", "refunded", "already_claimed", "already_refunded", "not_proven"):
        assert run.seen.get(what, 0) > 0, (what, run.seen)
    assert run.seen.get("late claim", 0) + run.seen.get("late refund", 0) > 0, run.seen
