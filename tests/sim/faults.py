"""Which faults a run has: drawn from its seed, all off, or those that somebody names."""

from collections.abc import Callable, Iterable
from random import Random
from typing import Final

# Heights of a duel in whose first rounds messages are lost by link.
DUEL_HEIGHTS: Final = 1
DUELS_SHARE: Final = 0.7
KINDS: Final = ("any", "chaos", "duel")


class Faults:
    """The faults of a run; drawn from `rng`, or all off.

    Two kinds of runs. *Chaos*: anything may happen at any time over many heights. *Duel*: in the
    first rounds of the first heights each kind of message is lost by link, and little else goes
    wrong; that is where locks and proofs of lock must hold, and a run is short.
    """

    def __init__(self, rng: Random | None = None, kind: str = "any") -> None:
        self.drop = self.duplicate = self.replay = self.slow = self.drift = 0.0
        self.partitions = self.crashes = self.rot = self.wipe = self.torn = False
        self.reorder = self.lazy = self.twins = self.lies = self.epochs = False
        self.duel_rounds = self.skew_ms = self.faulty_min = 0
        if rng is None:
            return
        self.reorder = rng.random() < 0.8
        self.torn = rng.random() < 0.5
        self.lazy = self.twins = self.lies = True
        self.epochs = rng.random() < 0.5
        if kind == "duel" or (kind == "any" and rng.random() < DUELS_SHARE):
            self._draw_duel(rng)
        else:
            self._draw_chaos(rng)

    def _draw_duel(self, rng: Random) -> None:
        self.duel_rounds = rng.randint(1, 7)
        self.crashes = rng.random() < 0.4
        self.rot = self.crashes and rng.random() < 0.4

    def _draw_chaos(self, rng: Random) -> None:
        # Swarm testing: each run has some faults, not all, so that they cannot mask each other.
        self.drop = rng.choice((0.0, 0.0, 0.02, 0.1, 0.3))
        self.duplicate = rng.choice((0.0, 0.0, 0.05, 0.2))
        self.replay = rng.choice((0.0, 0.0, 0.05))
        self.slow = rng.choice((0.0, 0.0, 0.1, 0.3))
        self.partitions = rng.random() < 0.4
        self.crashes = rng.random() < 0.5
        self.rot = rng.random() < 0.3
        self.wipe = rng.random() < 0.2
        self.skew_ms = rng.choice((0, 0, 100, 400, 3_000))
        self.drift = rng.choice((0.0, 0.02, 0.2))

    @classmethod
    def only(cls, names: Iterable[str], rng: Random) -> "Faults":
        """Return faults of which the named are on, as strong as `rng` draws, and the others off.

        Raises
        ------
        ValueError
            A name that is not among `NAMES`.
        """
        faults = cls()
        for name in names:
            switch = _SWITCHES.get(name)
            if switch is None:
                raise ValueError(
                    f"{name!r} is no fault; it must be one of {', '.join(NAMES)}, "
                    f"or one of {', '.join(KINDS)} alone"
                )
            switch(faults, rng)
        return faults


def _set(name: str, *choices: float) -> Callable[[Faults, Random], None]:
    return lambda faults, rng: setattr(faults, name, rng.choice(choices) if choices else True)


def _skew(faults: Faults, rng: Random) -> None:
    faults.skew_ms = rng.choice((100, 400, 3_000))
    faults.drift = rng.choice((0.0, 0.02, 0.2))


def _faulty(name: str) -> Callable[[Faults, Random], None]:
    """Whoever asks for faulty authorities gets at least one, if one may be."""

    def switch(faults: Faults, rng: Random) -> None:
        setattr(faults, name, True)
        faults.faulty_min = 1

    return switch


def _torn(faults: Faults, rng: Random) -> None:
    faults.torn = faults.crashes = True


_SWITCHES: Final[dict[str, Callable[[Faults, Random], None]]] = {
    "drops": _set("drop", 0.02, 0.1, 0.3),
    "delay": _set("slow", 0.1, 0.3),
    "reorder": _set("reorder"),
    "duplicates": _set("duplicate", 0.05, 0.2),
    "replay": _set("replay", 0.05),
    "omission": _set("duel_rounds", 1, 2, 3, 4, 5, 6, 7),
    "partitions": _set("partitions"),
    "crashes": _set("crashes"),
    "torn": _torn,
    "rot": _set("rot"),
    "wipe": _set("wipe"),
    "skew": _skew,
    "twins": _faulty("twins"),
    "lies": _faulty("lies"),
    "lazy": _set("lazy"),
    "epochs": _set("epochs"),
}
NAMES: Final = tuple(_SWITCHES)


def faults_of(wanted: str, seed: int) -> Faults | None:
    """Return the faults for `--faults`: a kind, or names with commas; None: let the run draw.

    Raises
    ------
    ValueError
        A name that is none; the text lists the right ones.
    """
    if wanted == "any":
        return None
    rng = Random(f"faults {seed}")
    if wanted in KINDS:
        return Faults(rng, wanted)
    return Faults.only([name.strip() for name in wanted.split(",")], rng)
