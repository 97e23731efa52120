"""A street's course as lines of text: where there is no screen to draw on, and at the end."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from testnet.report import PROMISES, Observations, is_sound

MICRO: Final = 1_000_000
BROKEN: Final = {
    "money_conserved": "money is not conserved",
    "state_roots_equal": "homes disagree on the state",
    "energy_balanced": "a slot's energy does not balance",
    "bills_add_up": "bills do not add up",
}


class Lines:
    """Says once what happens: how many homes are up, the first blocks, each settled slot.

    Parameters
    ----------
    say : callable
        Takes a line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._up = -1
        self._told: set[tuple[int, int]] = set()
        self._begun: set[int] = set()

    def show(self, observed: Sequence[Observations]) -> None:
        """Say what is new since the last call, of each region."""
        count, up = (sum(len(seen.names) for seen in observed), sum(len(s.up) for s in observed))
        if up > self._up:
            self._say(f"{up} of {count} homes are up")
            self._up = up
        for number, seen in enumerate(observed, 1):
            of = f"region {number}, " if len(observed) > 1 else ""
            if seen.first_block_s is not None and number not in self._begun:
                self._begun.add(number)
                self._say(f"{of}first block after {seen.first_block_s:.0f} s")
            for slot in sorted(seen.slots):
                if (number, slot) not in self._told:
                    self._told.add((number, slot))
                    self._say(f"{of}{slot_line(seen.slots[slot])}")


def slot_line(slot: dict[str, Any]) -> str:
    """Return what a settled slot came to."""
    prices = ""
    if slot["trades"]:
        low, high = (slot[f"{end}_micro_per_kwh"] / MICRO for end in ("low", "high"))
        prices = f" at {low:.3f}" if low == high else f" at {low:.3f} to {high:.3f}"
    traded, grid, fed_in = (slot[f"{name}_wh"] / 1000 for name in ("traded", "grid", "fed_in"))
    return (
        f"slot {slot['slot']}: {slot['trades']} trades, {traded:.2f} kWh{prices}; "
        f"from the grid {grid:.2f} kWh, fed in {fed_in:.2f}"
    )


def end_line(report: dict[str, Any]) -> str:
    """Return what a whole run came to, and what it broke."""
    saved = report["savings_percent"]
    found = (
        f"{report['slots']} slots, {report['trades']} trades, {report['traded_wh'] / 1000:.2f} kWh"
        f"{'' if saved is None else f', {saved:.1f} % saved against the grid alone'}; "
    )
    if "regions" in report:
        found += (
            f"{len(report['regions'])} regions, {report['anchored']} checkpoints anchored, "
            f"{report['audited']} audited, {report['offers']} offers between regions, "
            f"{report['exported_wh'] / 1000:.2f} kWh sold; "
        )
    if is_sound(report):
        return found + "all homes agree, money and energy add up"
    broken = [BROKEN[name] for name in PROMISES if not report[name]]
    return found + "; ".join(broken or ["the main chain's keepers disagree on its state"])
