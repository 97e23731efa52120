"""Who decides a block, and by which parameters: as governance keeps it in the state."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from market.vm.journal import Journal, State
from wire.codec import decode_plain
from wire.errors import WireError
from wire.keys import PUBLIC_KEY_BYTES

EPOCH_PREFIX: Final = "governance/epoch/"
CHAIN_PARAMS_KEY: Final = "governance/params"
# So that keys sort as numbers do; `governance.star`: KEY_BASE.
_EPOCH_BASE: Final = 1_000_000_000


class Terms(NamedTuple):
    """Who decides a block, in order of index, and by which parameters of the chain."""

    epoch: int
    authorities: tuple[bytes, ...]
    chain: Mapping[str, int]


def epoch_key(epoch: int) -> str:
    """Return the key at which the state holds an epoch's set."""
    return f"{EPOCH_PREFIX}{_EPOCH_BASE + epoch}"


def authorities(data: bytes | None) -> tuple[bytes, ...] | None:
    """Return the public keys of a set as the state holds it, None if it does not."""
    if data is None:
        return None
    return tuple(bytes.fromhex(public) for public, _ in decode_plain(data, len(data)))


def read(journal: Journal, epoch: int) -> Terms:
    """Return an epoch's terms; without authorities if nobody governs."""
    params = journal.get(CHAIN_PARAMS_KEY)
    chain = {} if params is None else decode_plain(params, len(params))
    return Terms(epoch, authorities(journal.get(epoch_key(epoch))) or (), chain)


def are_sound(journal: Journal, epoch: int, names: Sequence[str]) -> bool:
    """Tell whether the state holds an epoch's terms: a set of keys, and these parameters."""
    try:
        found = read(journal, epoch)
        return (
            bool(found.authorities)
            and all(len(public) == PUBLIC_KEY_BYTES for public in found.authorities)
            and len(set(found.authorities)) == len(found.authorities)
            and set(found.chain) == set(names)
            and all(type(value) is int for value in found.chain.values())
        )
    except (TypeError, ValueError, LookupError, AttributeError, WireError):
        return False


def keep(journal: Journal, state: State, epoch: int, next_epoch: int) -> None:
    """Let the next epoch have the set of this one, and the parameters that are committed."""
    journal.put(CHAIN_PARAMS_KEY, state.items[CHAIN_PARAMS_KEY])
    journal.put(epoch_key(next_epoch), state.items[epoch_key(epoch)])
