"""The regulator's look at the feeder: its head meter's file against the readings on the chain."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from market import client
from node.errors import MeteringError
from node.feeder.meters import SLOTS_MAX, FeederSettings, find_alarms

HEAD_BYTES_MAX: Final = 64 << 20
HEAD_COLUMNS: Final = ("slot", "import_wh", "export_wh")
DAY_MS: Final = 24 * 3_600_000


def read_head(path: Path) -> dict[int, int]:
    """Return what a head meter's CSV says of each slot, import less export. [Wh]

    Its columns are `slot` (the number, as `commonwatt export slots` writes it), `import_wh` and
    `export_wh`; others are left alone.

    Raises
    ------
    MeteringError
        Naming file, line and what would be right.
    """
    try:
        if path.stat().st_size > HEAD_BYTES_MAX:
            raise MeteringError(f"{path}: larger than {HEAD_BYTES_MAX} bytes")
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            lacking = [name for name in HEAD_COLUMNS if name not in (rows.fieldnames or ())]
            if lacking:
                raise MeteringError(
                    f"{path}: no column {lacking[0]}; a head meter's file has the columns "
                    f"{','.join(HEAD_COLUMNS)}"
                )
            found: dict[int, int] = {}
            for row in rows:
                slot, taken, given = (_whole(path, rows.line_num, row, n) for n in HEAD_COLUMNS)
                if slot in found:
                    raise MeteringError(f"{path}, line {rows.line_num}: slot {slot} a second time")
                found[slot] = taken - given
            return found
    except OSError as error:
        raise MeteringError(f"{path}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise MeteringError(f"{path}: cannot be read as CSV ({error})") from None


def _whole(path: Path, line: int, row: Mapping[str, str | None], name: str) -> int:
    text = (row[name] or "").strip()
    if not text.isascii() or not text.isdecimal() or len(text) > len(str(2**53)):
        raise MeteringError(
            f"{path}, line {line}: {name} must be a whole number, 0 or more, not {text!r}"
        )
    return int(text)


def feeder_alarms(
    readings: Iterable[client.ReadingAccepted],
    head_wh: Mapping[int, int],
    slot_ms: int,
    settings: FeederSettings,
) -> list[dict[str, Any]]:
    """Return the alarms of a feeder, homes by their numbers, as plain maps.

    Parameters
    ----------
    readings : of all homes that hang on it.
    head_wh : of its head meter, by slot.
    slot_ms : length of a slot. [ms of market time]

    Raises
    ------
    MeteringError
        There is not enough of either.
    """
    told: dict[int, dict[int, int]] = {}
    for one in readings:
        told.setdefault(one.home, {})[one.slot] = one.import_wh - one.export_wh
    if not told or not head_wh:
        raise MeteringError("there are no readings, or the head meter's file has none")
    # A home is on the feeder before it is in the community: until then nothing adds up.
    first = max([min(head_wh), *(min(slots) for slots in told.values())])
    last = max(max(slots) for slots in told.values())
    count = min(last, max(head_wh)) + 1 - first
    days = settings.trusted_days + settings.window_days
    if count < days * (DAY_MS // slot_ms):
        raise MeteringError(
            f"{max(count, 0)} slots have both the head's and all homes' readings: at least "
            f"{days} days are needed, {days * (DAY_MS // slot_ms)} slots"
        )
    if count > SLOTS_MAX:
        raise MeteringError(f"{count} slots: at most {SLOTS_MAX} at a time; leave out old ones")
    numbers = sorted(told)
    places = range(first, first + count)
    matrix = np.array([[told[n].get(slot, np.nan) for slot in places] for n in numbers], float)
    head = np.array([head_wh.get(slot, np.nan) for slot in places], float)
    return [
        {
            "first_slot": first + alarm.first,
            "last_slot": first + alarm.last - 1,
            "missing_wh": alarm.missing_wh,
            "moved_wh": alarm.moved_wh,
            "head_wh": alarm.head_wh,
            "suspects": [
                {
                    "home": numbers[suspect.home],
                    "way": suspect.way,
                    "explained_percent": round(100 * suspect.explained),
                }
                for suspect in alarm.suspects
            ],
        }
        for alarm in find_alarms(matrix, head, DAY_MS // slot_ms, settings)
    ]
