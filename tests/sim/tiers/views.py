"""What one tier's state says about the other, read as a poster reads it."""

from typing import TYPE_CHECKING, Any, Final

from consensus.light import SignedHeader
from market.client import regions
from market.vm import merkle
from node.regions.due import Proven, Shown, Standing
from wire.codec import decode_plain, encode

if TYPE_CHECKING:
    from tests.sim.tiers.chains import TierState

KEY_BASE: Final = 1_000_000_000
VALUE_BYTES_MAX: Final = 65_536


def entry(state: "TierState", name: str) -> Any:
    """What a state holds at a key; None if nothing."""
    data = state.value(name)
    return None if data is None else decode_plain(data, VALUE_BYTES_MAX)


def standing_of(state: "TierState", region: int) -> Standing:
    """How the main chain's state knows a region."""
    oldest, newest = entry(state, f"regions/epochs/{KEY_BASE + region}")
    last = entry(state, regions.anchored_key(region))
    status = entry(state, f"regions/region/{KEY_BASE + region}")["status"]
    return Standing(status, last["number"] if last else 0, oldest, newest)


def shown_of(state: "TierState") -> Shown:
    """What a region's state knows of the main chain."""
    main, anchored = entry(state, "export/main"), entry(state, "export/anchored")
    return Shown(main["epoch"], main["height"], anchored["number"])


def proven_of(state: "TierState", region: int, head: SignedHeader) -> Proven | None:
    """What the main chain's state proves of a region; None before its first checkpoint."""
    name = regions.anchored_key(region)
    value = state.value(name)
    if value is None:
        return Proven(head, 0, b"", b"")
    number = decode_plain(value, VALUE_BYTES_MAX)["number"]
    return Proven(head, number, value, encode(merkle.prove(state.tree, name)))
