"""What a home keeps of its own slots beyond what it tells the chain.

The chain holds a slot's import and export, which settlement needs. What they come of, load,
production, battery, movable loads and the five-minute course of a live home's meters, stays in a
file of the home's own, `detail.db`, for its owner, who may disclose it (`node/home/disclosure.py`).
"""

import contextlib
import sqlite3
from pathlib import Path
from typing import Final

from hems.delivery import Delivery
from hems.errors import HemsError
from hems.sources.live import BIN_MS, LiveSource
from node.errors import StoreError
from wire.codec import Message, decode, encode
from wire.errors import DecodeError

# A year of quarter hours, and the month in which it is asked for.
DETAIL_SLOTS_MAX: Final = 38_400
DETAIL_BYTES_MAX: Final = 8_192
DEVICES_MAX: Final = 64
COURSE_STEPS_MAX: Final = 288
ENERGY_MAX_WH: Final = 10**9

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS detail (slot INTEGER PRIMARY KEY, data BLOB NOT NULL)
"""


class SlotDetail(Message, frozen=True, tag="detail"):
    """What happened behind a home's meter in a slot. [Wh]

    `import_wh` and `export_wh` are the reading. `known` is False where nothing was measured and the
    forecast stands in. `load_wh` includes `devices`, what each movable load took. `course` is load
    and production per five minutes, oldest first, as a live home's meters said it, None where they
    said too little; empty for other homes.
    """

    slot: int
    load_wh: int
    pv_wh: int
    charge_wh: int
    discharge_wh: int
    curtail_wh: int
    import_wh: int
    export_wh: int
    stored_wh: int
    known: bool
    devices: dict[str, int]
    course: tuple[tuple[int, int] | None, ...]


def detail_of(slot: int, delivery: Delivery, live: LiveSource | None) -> SlotDetail:
    """Return what is kept of a delivered slot."""
    return SlotDetail(
        slot,
        delivery.load_wh,
        delivery.pv_wh,
        delivery.charge_wh,
        delivery.discharge_wh,
        delivery.curtail_wh,
        delivery.import_wh,
        delivery.export_wh,
        delivery.stored_wh,
        delivery.known,
        dict(delivery.device_wh),
        () if live is None else _course(delivery, live),
    )


def decode_detail(data: bytes) -> SlotDetail:
    """Decode a slot's detail. Raises `DecodeError` if it is malformed or out of bounds."""
    found = decode(data, SlotDetail, DETAIL_BYTES_MAX)
    flows = [wh for step in found.course if step is not None for wh in step]
    flows += [
        *(found.load_wh, found.pv_wh, found.charge_wh, found.discharge_wh, found.curtail_wh),
        *(found.import_wh, found.export_wh, found.stored_wh, *found.devices.values()),
    ]
    if len(found.devices) > DEVICES_MAX or len(found.course) > COURSE_STEPS_MAX:
        raise DecodeError(
            f"at most {DEVICES_MAX} devices and {COURSE_STEPS_MAX} steps are told of a slot"
        )
    if not 0 <= found.slot < 2**53 or not all(0 <= wh <= ENERGY_MAX_WH for wh in flows):
        raise DecodeError(f"a slot is a number from 0 on, its energies are 0 to {ENERGY_MAX_WH} Wh")
    return found


def _course(delivery: Delivery, live: LiveSource) -> tuple[tuple[int, int] | None, ...]:
    start_ms = delivery.slot_start_ms
    try:
        found = live.window(start_ms, start_ms + delivery.slot_ms, BIN_MS)
    except HemsError:
        # Slots that are no whole number of five minutes have no course.
        return ()
    rows = zip(found.load_wh.tolist(), found.pv_wh.tolist(), found.known.tolist(), strict=True)
    return tuple((load, pv) if known else None for load, pv, known in rows)


class DetailBook:
    """The file of a home's detail, the newest `DETAIL_SLOTS_MAX` slots of it.

    Parameters
    ----------
    path : Path
        Made if there is none.

    Raises
    ------
    StoreError
        It cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            path.chmod(0o600)
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = NORMAL")
            self._file.execute(_SCHEMA)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{path}: cannot hold this home's detail ({error})") from None

    def keep(self, detail: SlotDetail) -> None:
        """Keep a slot, and let go of the oldest ones. Raises `StoreError`."""
        try:
            self._file.execute(
                "INSERT OR REPLACE INTO detail VALUES (?, ?)", (detail.slot, encode(detail))
            )
            self._file.execute(
                "DELETE FROM detail WHERE slot <= "
                "(SELECT slot FROM detail ORDER BY slot DESC LIMIT 1 OFFSET ?)",
                (DETAIL_SLOTS_MAX,),
            )
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: cannot keep a slot's detail ({error})") from None

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def read_details(path: Path) -> list[SlotDetail]:
    """Return what a file keeps, oldest slot first.

    The file is not changed; a daemon may be writing it.

    Raises
    ------
    StoreError
        There is no such file, or it is damaged.
    """
    if not path.is_file():
        raise StoreError(f"{path}: this home has kept no detail; it does while its node runs")
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        ) as file:
            rows = file.execute(
                "SELECT data FROM detail ORDER BY slot LIMIT ?", (DETAIL_SLOTS_MAX,)
            ).fetchall()
        return [decode_detail(bytes(data)) for (data,) in rows]
    except (sqlite3.Error, DecodeError, TypeError) as error:
        text = " ".join(str(error).split())
        raise StoreError(f"{path}: this home's detail cannot be read ({text})") from None
