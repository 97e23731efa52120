"""What contract execution costs, and the caps that bound it.

Compute is counted in ticks: one per loop iteration, comprehension iteration or function call. The
engine reports them by the thousand, at the same point on every machine. Host calls cost a flat
amount and an amount by size. Storage, the bytes a call leaves in the state, has a cap of its own:
a cheap loop must not be able to buy a large state with compute it did not use.

The table is part of a chain's identity: `fingerprint()` stands in the genesis state.
"""

import hashlib
from typing import Final, NamedTuple

from market.errors import OutOfGas
from wire.codec import encode

TICKS_PER_CALLBACK: Final = 1_000
CALLSTACK_MAX: Final = 48

COST: Final[dict[str, int]] = {
    "enter": 500,  # one entry of one contract, from a transaction, a hook or another contract
    "kv_get": 100,
    "kv_put": 200,
    "kv_del": 100,
    "kv_scan": 200,
    "kv_row": 10,  # each further row of a scan or a batched write
    "emit": 100,
    "env": 20,
    "sha256": 100,
    "verify_signature": 5_000,
    "code_check": 20_000,  # a text through gate, type check and rehearsal
    "bytes_per_gas": 4,
}


class Caps(NamedTuple):
    """The most one top-level call may use."""

    compute: int  # [gas]
    storage_bytes: int
    events: int


TRANSACTION_CAPS: Final = Caps(compute=200_000, storage_bytes=65_536, events=64)
HOOK_CAPS: Final = Caps(compute=400_000_000, storage_bytes=256 * 1_048_576, events=65_536)
QUERY_CAPS: Final = Caps(compute=20_000_000, storage_bytes=1_048_576, events=64)
DEPLOY_CAPS: Final = Caps(compute=20_000_000, storage_bytes=16 * 1_048_576, events=64)
# What a vote puts in force: instantiate, migrate, and a rehearsal of on_block.
CHANGE_CAPS: Final = Caps(compute=10_000_000, storage_bytes=16 * 1_048_576, events=64)


class Meter:
    """Counts what one top-level call, with all calls inside it, has used."""

    __slots__ = ("caps", "compute", "storage_bytes")

    def __init__(self, caps: Caps) -> None:
        self.caps = caps
        self.compute = 0
        self.storage_bytes = 0

    def charge(self, gas: int) -> None:
        """Use compute. Raises `OutOfGas` at the cap."""
        self.compute += gas
        if self.compute > self.caps.compute:
            self.compute = self.caps.compute
            raise OutOfGas("compute", f"the call needs more than {self.caps.compute} gas")

    def charge_bytes(self, what: str, size: int) -> None:
        """Use compute for a host call that moves `size` bytes."""
        self.charge(COST[what] + size // COST["bytes_per_gas"])

    def store(self, size: int) -> None:
        """Use storage. Raises `OutOfGas` at the cap."""
        self.storage_bytes += size
        if self.storage_bytes > self.caps.storage_bytes:
            limit = self.caps.storage_bytes
            raise OutOfGas("storage", f"the call writes more than {limit} bytes of state")


def fingerprint() -> str:
    """Hash of the cost table and the caps."""
    every = (TRANSACTION_CAPS, HOOK_CAPS, QUERY_CAPS, DEPLOY_CAPS, CHANGE_CAPS)
    caps = [list(caps) for caps in every]
    return hashlib.sha256(encode([COST, caps, TICKS_PER_CALLBACK, CALLSTACK_MAX])).hexdigest()
