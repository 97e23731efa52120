"""Which faults a grid has: those of each chain, and those between the chains."""

from random import Random
from typing import Final

from tests.sim.faults import NAMES as CHAIN_NAMES
from tests.sim.faults import Faults

FIRST_NAMES: Final = ("cuts", "halts", "loss", "captured", "forgery")
LATER_NAMES: Final = ("fraud", "slander", "silence", "withheld", "leaving")
NAMES: Final = (*FIRST_NAMES, *LATER_NAMES)
KINDS: Final = ("any",)
# What takes long to work out is not in every other run.
SHARES: Final = {"fraud": 0.3, "slander": 0.25, "leaving": 0.3}


class GridFaults:
    """The faults of a run, drawn from `rng`; or those named, as strong as it draws.

    cuts : regions are cut off from the main chain.
    halts : more than f authorities of a chain die at once, for a while.
    loss : what goes from tier to tier is lost or late.
    captured : a region is in the hands of its authorities, who sign what they like.
    forgery : somebody without a quorum posts what is not true.
    fraud : a region's authorities certify blocks that do not follow.
    slander : somebody accuses what is right, and a drawn auditor is content with everything.
    silence : a seat of each region answers for no audit.
    withheld : regions show auditors nothing, for a while; one seat of each never does.
    leaving : sponsors take regions out, homes leave.
    """

    def __init__(self, rng: Random, names: list[str] | None = None) -> None:
        self._seed = rng.random()
        self._names = names
        more = Random(f"{self._seed} audits")
        drawn = [name for name in FIRST_NAMES if rng.random() < 0.5]
        drawn += [name for name in LATER_NAMES if more.random() < SHARES.get(name, 0.5)]
        wanted = drawn if names is None else names
        self.cuts, self.halts = "cuts" in wanted, "halts" in wanted
        self.captured, self.forgery = "captured" in wanted, "forgery" in wanted
        self.fraud, self.slander = "fraud" in wanted, "slander" in wanted
        self.silence, self.withheld = "silence" in wanted, "withheld" in wanted
        self.leaving = "leaving" in wanted
        self.drop = rng.choice((0.02, 0.1, 0.3)) if "loss" in wanted else 0.0
        self.slow = rng.choice((0.1, 0.3)) if "loss" in wanted else 0.0

    def chain(self, number: int) -> Faults:
        """Return the faults within a chain."""
        rng = Random(f"{self._seed} {number}")
        if self._names is None:
            faults = Faults(rng, "chaos")
            # A chain with all of it makes hardly a block: some are left alone.
            return faults if rng.random() < 0.6 else Faults.only(("reorder", "epochs"), rng)
        return Faults.only([name for name in self._names if name in CHAIN_NAMES], rng)


def grid_faults_of(wanted: str, seed: int) -> GridFaults:
    """Return the faults for `--faults`: `any`, or names with commas.

    Raises
    ------
    ValueError
        A name that is none; the text lists the right ones.
    """
    rng = Random(f"faults {seed}")
    if wanted == "any":
        return GridFaults(rng)
    names = [name.strip() for name in wanted.split(",")]
    for name in names:
        if name not in NAMES and name not in CHAIN_NAMES:
            known = ", ".join((*NAMES, *CHAIN_NAMES))
            raise ValueError(f"{name!r} is no fault; it must be any alone, or one of {known}")
    return GridFaults(rng, names)
