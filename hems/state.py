"""What a home must remember, and in what bounds: one small explicit state, saved as plain data."""

from typing import Any, Final

import msgspec

from hems.config import BATTERIES_MAX, DEVICES_MAX
from hems.devices.progress import NUMBER_MAX, STORED_UWH_MAX, DeviceState
from hems.errors import ConfigError

# How far ahead of the next undelivered slot one may be traded.
LEAD_SLOTS_MAX: Final = 96
COMMITMENTS_MAX: Final = 2 * LEAD_SLOTS_MAX


class HomeState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a home must remember.

    `stored_uwh` is in the battery [micro-Wh]; `next_slot_ms` is the first slot not delivered
    (None before the first); `committed_wh` is what is contracted by slot start, bought positive;
    `agent` is the memory of the home's agent (`hems.agents.desk`). `batteries` is what further
    batteries hold [micro-Wh], `devices` the progress of movable loads, both by name.
    """

    stored_uwh: int = 0
    next_slot_ms: int | None = None
    committed_wh: dict[int, int] = {}
    agent: dict[str, Any] = {}
    batteries: dict[str, int] = {}
    devices: dict[str, DeviceState] = {}

    def __post_init__(self) -> None:
        for stored_uwh in (self.stored_uwh, *self.batteries.values()):
            if not 0 <= stored_uwh <= STORED_UWH_MAX:
                raise ConfigError(f"a home stores 0 to {STORED_UWH_MAX} micro-Wh, not {stored_uwh}")
        if len(self.batteries) > BATTERIES_MAX or len(self.devices) > DEVICES_MAX:
            raise ConfigError(
                f"a home has at most {BATTERIES_MAX} batteries and {DEVICES_MAX} devices, not "
                f"{len(self.batteries)} and {len(self.devices)}"
            )
        if len(self.committed_wh) > COMMITMENTS_MAX:
            raise ConfigError(
                f"a home is contracted in at most {COMMITMENTS_MAX} slots, "
                f"not {len(self.committed_wh)}"
            )
        numbers = (self.next_slot_ms or 0, *self.committed_wh, *self.committed_wh.values())
        if any(abs(number) > NUMBER_MAX for number in numbers):
            raise ConfigError(f"a time or an energy beyond {NUMBER_MAX}")

    def to_plain(self) -> dict[str, Any]:
        """Return it as a map of plain data with text keys."""
        plain: dict[str, Any] = {
            "stored_uwh": self.stored_uwh,
            "next_slot_ms": self.next_slot_ms,
            "committed_wh": {str(slot): wh for slot, wh in sorted(self.committed_wh.items())},
        }
        if self.agent:
            plain["agent"] = self.agent
        if self.batteries:
            plain["batteries"] = dict(self.batteries)
        if self.devices:
            plain["devices"] = msgspec.to_builtins(self.devices)
        return plain

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "HomeState":
        """Make it again. Raises `ConfigError`."""
        try:
            return msgspec.convert(plain, cls, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigError(f"not a home's state: {error}") from None
