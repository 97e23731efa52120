"""When a contract's `on_block` has nothing to do: the contract says until when, in its own state.

Most blocks come between two gates, and find nothing due. Under `CONTRACT/idle_until` a contract may
keep a map with any of `height`, `market_ms` and `time_ms`: as long as the block has reached none of
them, its `on_block` is not entered. Without any of the three it is not entered before the contract
itself has changed or deleted the map, as a transaction does that brings something due earlier.
Whatever else stands there means nothing: the hook runs in every block, as it does without.

Only the contract can write there, so it keeps nobody's hook from running but its own: as if that
returned at once. The machine forgets what code that is replaced has said, and what was said on a
chain that another succeeds.
"""

import functools
from collections.abc import Iterable, Mapping
from typing import Final

from market.vm.journal import Journal
from wire.codec import Plain, decode_plain
from wire.errors import DecodeError

IDLE_KEY: Final = "idle_until"
MOMENTS: Final = ("height", "market_ms", "time_ms")
_MARK_BYTES_MAX: Final = 128
_MARKS_KEPT_MAX: Final = 1_024

# What each of MOMENTS must have reached, None where it wakes nobody.
Mark = tuple[int | None, ...]


def key_of(contract: str) -> str:
    """Return where a contract's mark stands."""
    return f"{contract}/{IDLE_KEY}"


@functools.lru_cache(maxsize=_MARKS_KEPT_MAX)
def _mark(data: bytes) -> Mark | None:
    """Return a mark as the state holds it, None if it is none."""
    try:
        found = decode_plain(data, _MARK_BYTES_MAX)
    except DecodeError:
        return None
    if not isinstance(found, dict) or not found.keys() <= set(MOMENTS):
        return None
    if any(type(moment) is not int for moment in found.values()):
        return None
    return tuple(found.get(name) for name in MOMENTS)


def is_idle(journal: Journal, contract: str, shown: Mapping[str, Plain]) -> bool:
    """Tell whether a contract says that its `on_block` does nothing in a block.

    Parameters
    ----------
    journal : Journal
        As it stands when the hook's turn comes.
    contract : str
    shown : mapping of str to Plain
        What contracts are shown of the block.
    """
    data = journal.get(key_of(contract))
    mark = None if data is None else _mark(data)
    if mark is None:
        return False
    return all(
        moment is None or int(shown[name]) < moment
        for name, moment in zip(MOMENTS, mark, strict=True)
    )


def wake(journal: Journal, contracts: Iterable[str]) -> None:
    """Forget until when contracts are idle: what they said it by holds no more."""
    for contract in contracts:
        if journal.get(key_of(contract)) is not None:
            journal.put(key_of(contract), None)
