"""Regions' carbon, worked out again from anchored records and the regulator's calls."""

from collections.abc import Iterable
from random import Random
from typing import TYPE_CHECKING, Any, Final

from consensus.checkpoint import SlotTotals
from market import client
from market.client import Call, regions
from market.receipts import Receipt
from tests.market.street import INTENSITY
from tests.sim.errors import Violation
from tests.sim.tiers import machine as machines
from tests.sim.tiers.chains import TierState
from tests.sim.tiers.views import KEY_BASE, entry
from wire.transaction import CheckedTransaction

if TYPE_CHECKING:
    from tests.sim.tiers.grid import Grid

TOTAL: Final = "footprint/total/"
PERIOD: Final = "footprint/period/"
PERIOD_SLOTS: Final = 3
# A row is [region, slots, grid energy, energy fed in, emitted, allotted].
Row = list[int]


class FootprintBooks:
    """What each region's anchored slots have emitted, since it came in and in each period."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self.emitted_mg = 0
        self._rows: dict[tuple[int, int], Row] = {}
        self._numbers = list(numbers)
        self._periods: list[tuple[int, int, int]] = []
        # From which slot on a Wh of the grid emits so much.
        self._intensities = [(0, INTENSITY)]

    def on_call(self, checked: CheckedTransaction, receipt: Receipt) -> None:
        """The regulator's calls count from where they stand in the block."""
        tx, args = checked.tx, checked.tx.args
        if receipt.code != "ok":
            return
        match tx.contract, tx.entry:
            case "footprint", "open_period":
                number = len(self._periods) + 1
                self._periods.append((number, args["first_slot"], args["end_slot"]))
            case "footprint", "allot":
                for region, amount_mg in args["rows"]:
                    self._row(args["period"], region)[5] += amount_mg
            case "tariff", "post_table":
                first = args["from_ms"] // machines.SLOT_MS
                kept = [row for row in self._intensities if row[0] < first]
                self._intensities = [*kept, (first, args["value"][0][1])]

    def on_anchored(self, region: int, slots: Iterable[SlotTotals]) -> None:
        """A record is taken."""
        for row in slots:
            intensity = [mg for first, mg in self._intensities if first <= row.slot][-1]
            places = [0, *(n for n, first, end in self._periods if first <= row.slot < end)]
            for place in places:
                account = self._row(place, region)
                added = (1, row.grid_wh, row.fed_in_wh, row.grid_wh * intensity)
                for column, amount in enumerate(added, 1):
                    account[column] += amount
            self.emitted_mg += row.grid_wh * intensity

    def _row(self, period: int, region: int) -> Row:
        return self._rows.setdefault((period, region), [region, 0, 0, 0, 0, 0])

    def check(self, state: TierState) -> None:
        """The contract has added up the same."""
        found: dict[tuple[int, int], Any] = {}
        for name in state.app.state.keys_under(TOTAL):
            found[0, int(name.removeprefix(TOTAL)) - KEY_BASE] = entry(state, name)
        for name in state.app.state.keys_under(PERIOD):
            period, region = (int(part) - KEY_BASE for part in name.split("/")[2:])
            found[period, region] = entry(state, name)
        if found != self._rows:
            wrong = [place for place in {*found, *self._rows}
                     if found.get(place) != self._rows.get(place)]  # fmt: skip
            shown = [(place, found.get(place), self._rows.get(place)) for place in sorted(wrong)]
            raise Violation(f"carbon: (period, region), as kept, as anchored: {shown}")


class Regulator:
    """Opens periods of slots to come, gives quotas, and dates another intensity."""

    def __init__(self, grid: "Grid", rng: Random) -> None:
        self._grid, self._rng = grid, rng
        self._nonce = 0

    def act(self) -> None:
        """Say something of slots to come; some of it too late, or of no period."""
        call = self._call()
        grid = self._grid
        self._nonce += 1
        checked = client.sign_call(
            call, machines.regulator_key(), machines.MAIN_ID, self._nonce,
            grid.now_ms + machines.VALID_MS,
        )  # fmt: skip
        grid.tell_main(0, ("call", checked))

    def _call(self) -> Call:
        rng, grid = self._rng, self._grid
        slot = grid.machine_of(0).clock.slot_at(grid.now_ms) + rng.randrange(3)
        choice = rng.randrange(3)
        if choice == 0:
            return regions.open_footprint_period(slot, slot + 1 + rng.randrange(PERIOD_SLOTS))
        if choice == 1:
            quota = (rng.randint(1, grid.regions), rng.randint(1, 9) * 1_000)
            return regions.allot_footprint(rng.randint(1, 3), [quota])
        intensity = rng.choice((100, 450, 900))
        return client.post_table("intensities", slot * machines.SLOT_MS, [[0, intensity]])
