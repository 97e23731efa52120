"""What a home must remember, in one file: its state, what it has said that is undecided, and what
it has sealed.

Both are replaced together, so that a reading and the battery's state after the slot it tells of are
kept or lost as one. A transaction is kept before it is said; should the daemon die meanwhile it
is said again, as it was signed: by its nonce the market takes it once at most.
"""

import json
from pathlib import Path
from typing import Final

import msgspec

from hems.state import HomeState
from market.client.sealed import SealedOrder
from node.durable import replace_file
from node.errors import StoreError
from wire.transaction import CheckedTransaction, check

# Of an outbox of the largest transactions, in hexadecimal, and a state.
MEMORY_BYTES_MAX: Final = 6 * 1_048_576
# A home says a few orders and one reading per slot; what it forgets first is the oldest.
OUTBOX_MAX: Final = 256
# Commitments that are not revealed yet; a home has one in a slot, and trades the next slot only.
SEALED_MAX: Final = 64
_OUTBOX: Final = "outbox"
_SEALED: Final = "sealed"
_PAUSED: Final = "paused"
_RESERVE: Final = "reserve"


class SealedBid(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The orders that a home has committed to in a slot, and their salt."""

    orders: list[SealedOrder]
    salt: bytes


class HomeMemory:
    """The file of one home. `state` is None if there is none yet; `is_paused`: it does not trade.

    `reserve` is what its owner wants kept in the battery, a fraction; None: nothing was said.
    `sealed` is by slot.

    Parameters
    ----------
    path : Path
    chain_id : str
    now_ms : int
        Real time. What has expired by then is forgotten. [ms]

    Raises
    ------
    StoreError
        The file is damaged.
    """

    def __init__(self, path: Path, chain_id: str, now_ms: int) -> None:
        self._path = path
        self.state: HomeState | None = None
        self.is_paused = False
        self.reserve: float | None = None
        # By id, in the order in which they were signed.
        self.outbox: dict[bytes, CheckedTransaction] = {}
        self.sealed: dict[int, SealedBid] = {}
        try:
            self._read(chain_id, now_ms)
        except FileNotFoundError:
            return
        except (OSError, ValueError, RecursionError, msgspec.MsgspecError) as error:
            raise StoreError(
                f"{path}: what this home remembers cannot be read ({error}); "
                "move it away to begin anew with the battery at its lowest wish"
            ) from None

    def _read(self, chain_id: str, now_ms: int) -> None:
        with self._path.open("rb") as file:
            data = file.read(MEMORY_BYTES_MAX + 1)
        if len(data) > MEMORY_BYTES_MAX:
            raise ValueError(f"more than {MEMORY_BYTES_MAX} bytes")
        content = msgspec.json.decode(data, type=dict[str, object])
        raws = msgspec.convert(content.pop(_OUTBOX, []), list[str])
        self.is_paused = msgspec.convert(content.pop(_PAUSED, False), bool)
        self.reserve = msgspec.convert(content.pop(_RESERVE, None), float | None)
        sealed = msgspec.convert(content.pop(_SEALED, {}), dict[int, SealedBid], strict=False)
        self.state = HomeState.from_plain(content)
        self.sealed = sealed
        for checked in check(map(bytes.fromhex, raws[-OUTBOX_MAX:]), chain_id, now_ms):
            if isinstance(checked, CheckedTransaction):
                self.outbox[checked.tx_id] = checked
            elif checked.code not in ("expired", "valid_too_long"):
                # Those are late, or were signed by a clock that has been set right since.
                raise ValueError(f"a transaction of its own: {checked}")

    def keep(self, signed: CheckedTransaction) -> None:
        """Put a transaction of this home in the outbox; durable with the next `save`."""
        self.outbox[signed.tx_id] = signed
        while len(self.outbox) > OUTBOX_MAX:
            self.outbox.pop(next(iter(self.outbox)))

    def drop(self, tx_id: bytes) -> CheckedTransaction | None:
        """Take a transaction out of the outbox; return it if it was there."""
        return self.outbox.pop(tx_id, None)

    def save(self, state: HomeState, now_ms: int) -> None:
        """Make this state and the outbox durable, without what has expired."""
        for tx_id, signed in list(self.outbox.items()):
            if signed.tx.valid_until_ms < now_ms:
                del self.outbox[tx_id]
        content = state.to_plain()
        if self.is_paused:
            content[_PAUSED] = True
        if self.reserve is not None:
            content[_RESERVE] = self.reserve
        if self.sealed:
            latest = sorted(self.sealed)[-SEALED_MAX:]
            content[_SEALED] = msgspec.to_builtins({slot: self.sealed[slot] for slot in latest})
        content[_OUTBOX] = [signed.raw.hex() for signed in self.outbox.values()]
        replace_file(self._path, json.dumps(content).encode())
