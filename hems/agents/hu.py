"""What Huang's agents share: a value that is moved step by step to where profit rises (Hu 3, 4).

`s` and `d` sum up the profits that steps up and steps down came with; negative profits count as
nothing. While profit does not change by more than ξ, a random step is taken, up with probability
`pol = s / (s + d)`, one half while both are 0; the same draw decides and scales it, as printed.
"""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from hems.errors import ConfigError

Mode = Literal["literal", "hill_climb"]
MODES: Final = ("literal", "hill_climb")
# Of Hu's experiment: 0.001 $/kWh and 1e-4 $.
STEP_MICRO_PER_KWH: Final = 1_000
XI_MICRO: Final = 100


class Climb(msgspec.Struct):
    """Memory of one value that climbs: profits of steps up and down, and the last direction."""

    up_micro: int = 0
    down_micro: int = 0
    direction: int = 1


class Profits(NamedTuple):
    """A cycle's profit, the one before, and what counts as no change. [micro]"""

    now_micro: int
    before_micro: int
    xi_micro: int

    @property
    def rose(self) -> bool:
        """More than ξ above the last."""
        return self.now_micro - self.before_micro > self.xi_micro

    @property
    def fell(self) -> bool:
        """More than ξ below the last."""
        return self.now_micro - self.before_micro < -self.xi_micro


def check(settings: msgspec.Struct, positive: Sequence[str], others: Sequence[str]) -> None:
    """Raise `ConfigError` unless settings are at least 1, and others, where given, at least 0."""
    for name in positive:
        if getattr(settings, name) < 1:
            raise ConfigError(f"{name} {getattr(settings, name)}: at least 1")
    for name in others:
        if (getattr(settings, name) or 0) < 0:
            raise ConfigError(f"{name} {getattr(settings, name)}: must not be negative")


def climbed(
    climb: Climb, step: int, profits: Profits, draw: float, mode: Mode
) -> tuple[int, Climb]:
    """Return by how much to change the value, and the memory afterwards.

    `literal` as printed: up when profit rose, down when it fell. A profit that fell because of a
    step down is then followed by another one down; `hill_climb` keeps the direction of the last
    step when profit rose, and turns round when it fell.
    """
    if not (profits.rose or profits.fell):
        up = draw < _share_up(climb)
        change = round(step * draw) * (1 if up else -1)
        direction = climb.direction if change == 0 else (1 if change > 0 else -1)
        return change, Climb(climb.up_micro, climb.down_micro, direction)
    if mode == "literal":
        direction = 1 if profits.rose else -1
    else:
        direction = climb.direction if profits.rose else -climb.direction
    gained = max(0, profits.now_micro)
    if direction > 0:
        return step, Climb(climb.up_micro + gained, climb.down_micro, direction)
    return -step, Climb(climb.up_micro, climb.down_micro + gained, direction)


def _share_up(climb: Climb) -> float:
    total = climb.up_micro + climb.down_micro
    return climb.up_micro / total if total else 0.5
