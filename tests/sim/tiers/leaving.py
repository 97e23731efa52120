"""Sponsors that take regions out, homes that leave; and that each has all back that is its own."""

from random import Random
from typing import TYPE_CHECKING, Any, Final

from consensus.messages import Header
from market import client
from market.client import Call, regions
from tests.sim.errors import Violation
from tests.sim.tiers import machine as machines
from tests.sim.tiers.chains import TierState
from tests.sim.tiers.machine import HOLD_MS, SPONSOR_MICRO
from tests.sim.tiers.views import KEY_BASE, entry

if TYPE_CHECKING:
    from tests.sim.tiers.grid import Grid

NOTHING: Final = [0, 0, 0]


class Sponsor:
    """Takes its region out and its money back, impatiently."""

    def __init__(self, grid: "Grid", region: int, rng: Random) -> None:
        self._grid, self._region, self._rng = grid, region, rng
        self._key = machines.sponsor_key(region)
        self._nonce = 1_000

    def act(self) -> None:
        """Ask for what is next, or already had."""
        call = regions.reclaim(self._region)
        if self._grid.books.left.get(self._region) is None or self._rng.random() < 0.1:
            call = regions.leave(self._region)
        self._send(call)

    def _send(self, call: Call) -> None:
        grid = self._grid
        self._nonce += 1
        valid_ms = grid.now_ms + machines.VALID_MS
        checked = client.sign_call(call, self._key, machines.MAIN_ID, self._nonce, valid_ms)
        grid.tell_main(self._region, ("call", checked))


class LeavingBooks:
    """Which homes have left their region, and until when they are bound."""

    def __init__(self) -> None:
        self.homes: dict[tuple[int, int], int] = {}
        self._addresses: dict[tuple[int, int], str] = {}

    def on_region_block(self, region: int, header: Header, state: TierState, slot: int) -> None:
        """A home that has left owes nothing and is owed nothing from its last slot on."""
        for _, receipt in state.done or ():
            for event in receipt.events:
                if (event.contract, event.name) == ("registry", "home_left"):
                    self._on_left(region, event.data)
        for (other, home), until_slot in self.homes.items():
            if other == region:
                self._check(region, home, until_slot, slot, state)

    def _on_left(self, region: int, data: dict[str, Any]) -> None:
        place = (region, data["home"])
        if place in self.homes:
            raise Violation(f"leaving: home {data['home']} of region {region} leaves again")
        self.homes[place] = data["until_slot"]
        self._addresses[place] = data["address"]

    def _check(self, region: int, home: int, until_slot: int, slot: int, state: TierState) -> None:
        where = f"home {home} of region {region}, which has left by slot {until_slot},"
        for billed in range(until_slot, slot + 1):
            if state.value(client.bill_key(billed, home)) is not None:
                raise Violation(f"leaving: {where} has a bill for slot {billed}")
        window = machines.SETTLE_WINDOW_MS // machines.SLOT_MS
        account = entry(state, f"ledger/account/{self._addresses[region, home]}")
        if slot > until_slot + window + 1 and account[1]:
            raise Violation(f"leaving: {where} has {account[1]} micro held in slot {slot}")


def check_sponsor(
    region: int, state: TierState, spent_micro: int, forfeited_micro: int, is_reclaimed: bool
) -> None:
    """What a sponsor has and what is held of it is what it began with, less what was lost."""
    account = entry(state, f"ledger/account/{machines.sponsor_key(region).address}")
    money = entry(state, f"regions/money/{KEY_BASE + region}")
    left = SPONSOR_MICRO - spent_micro - forfeited_micro
    if account[0] + account[1] != left or account[1] != sum(money):
        raise Violation(
            f"escrow: the sponsor of region {region} has {account}, {money} is put up; it began "
            f"with {SPONSOR_MICRO} micro, {spent_micro} were spent, {forfeited_micro} forfeited"
        )
    if is_reclaimed and money != NOTHING:
        raise Violation(f"escrow: {money} of region {region} is held, and was paid back")


def check_reclaimed(region: int, header: Header, left_ms: int | None) -> None:
    """Bond and escrow are held for a while after a region has left."""
    if left_ms is None or header.time_ms < left_ms + HOLD_MS:
        raise Violation(f"escrow: region {region} left at {left_ms}, reclaims at {header.time_ms}")
