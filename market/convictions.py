"""What evidence proves, and whom it may still convict."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from market.invariants import MEMBER_PREFIX
from market.vm.journal import State
from wire.codec import decode_plain

OFFENCE_PREFIX: Final = "governance/offence/"


class Conviction(NamedTuple):
    """What evidence in a block proves: the offence's identity and height, and who committed it."""

    offence: bytes
    height: int
    offenders: tuple[str, ...]


def admissible(state: State, convictions: Iterable[Conviction]) -> list[bool]:
    """Tell of each, after those before it, whether it convicts anybody not convicted yet."""
    answers = []
    convicted: set[str] = set()
    for conviction in convictions:
        fresh = {
            address
            for address in conviction.offenders
            if address not in convicted and _may_be_convicted(state, address)
        }
        known = OFFENCE_PREFIX + conviction.offence.hex() in state.items
        answers.append(bool(fresh) and not known)
        if answers[-1]:
            convicted |= fresh
    return answers


def _may_be_convicted(state: State, address: str) -> bool:
    data = state.items.get(MEMBER_PREFIX + address)
    return data is not None and not decode_plain(data, len(data))["convicted"]
