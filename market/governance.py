"""Typed transactions and queries of `contracts/governance.star`; as `market/client.py`."""

import hashlib
from typing import Any, Final, TypeVar

import msgspec

from market.client import Call, Query

# As in `governance.star`; a part with its transaction around it fits the largest one.
PARTS_MAX: Final = 16
PART_BYTES_MAX: Final = 6_000


class Proposal(msgspec.Struct, frozen=True):
    """What an authority proposed, and how it stands.

    `kind` is add or remove (`subject` is an address), set (`subject` is a parameter, `value` its
    new value), or deploy, upgrade or library (`subject` is a name; `text_hash`, `code_hash` and
    `args` say what of). `status` is open; passed: it waits for the next epoch; in_force, rejected,
    expired; void: it had become impossible when its epoch came; or failed: code that did not come
    into force, `reason` says why. `yes` and `no` are addresses.
    """

    number: int
    kind: str
    subject: str
    value: int
    text_hash: str
    code_hash: str
    args: dict[str, Any]
    reason: str
    by: str
    height: int
    expires_height: int
    status: str
    yes: list[str]
    no: list[str]


class Epoch(msgspec.Struct, frozen=True):
    """The epoch of the next block, and who decides its blocks, in order of index."""

    epoch: int
    first_height: int
    last_height: int
    addresses: list[str]
    public_keys: list[str]
    quorum: int


class Member(msgspec.Struct, frozen=True):
    """An account with a bond. `seat` is candidate, seated, or left at `until_height`."""

    address: str
    public_key: str
    seat: str
    bond_micro: int
    until_height: int
    convicted: bool


class Parameter(msgspec.Struct, frozen=True):
    """A parameter of the chain, and the hard bounds of what a vote may set it to."""

    name: str
    value: int
    low: int
    high: int


def stand() -> Call:
    """Put up the bond and stand for a seat, with the sender's key."""
    return Call("governance", "stand", {})


def step_down() -> Call:
    """Stand for a seat no longer."""
    return Call("governance", "step_down", {})


def propose_add(address: str, expiry_blocks: int) -> Call:
    """Propose that a candidate gets a seat."""
    return _propose("add", address, 0, expiry_blocks)


def propose_remove(address: str, expiry_blocks: int) -> Call:
    """Propose that an authority loses its seat."""
    return _propose("remove", address, 0, expiry_blocks)


def propose_set(parameter: str, value: int, expiry_blocks: int) -> Call:
    """Propose another value of a parameter of the chain."""
    return _propose("set", parameter, value, expiry_blocks)


def _propose(kind: str, subject: str, value: int, expiry_blocks: int) -> Call:
    args: dict[str, Any] = {
        "kind": kind,
        "subject": subject,
        "value": value,
        "expiry_blocks": expiry_blocks,
    }
    return Call("governance", "propose", args)


def upload(source: str) -> list[Call]:
    """Bring a text in as many parts as it takes, to be sent in order; for `propose_code`.

    Raises
    ------
    ValueError
        It is longer than the parts there may be.
    """
    parts: list[str] = []
    part, size = "", 0
    for sign in source:
        width = len(sign.encode())
        if size + width > PART_BYTES_MAX:
            parts.append(part)
            part, size = "", 0
        part, size = part + sign, size + width
    parts.append(part)
    if len(parts) > PARTS_MAX:
        raise ValueError(f"a text has at most {PARTS_MAX} parts of {PART_BYTES_MAX} bytes")
    return [
        Call("governance", "upload", {"index": index, "count": len(parts), "text": text})
        for index, text in enumerate(parts)
    ]


def propose_code(
    kind: str, name: str, source: str, args: dict[str, Any], expiry_blocks: int
) -> Call:
    """Propose the code last uploaded: to deploy, upgrade or library (`market/deployment.py`)."""
    return Call(
        "governance",
        "propose_code",
        {
            "kind": kind,
            "name": name,
            "text_hash": hashlib.sha256(source.encode()).hexdigest(),
            "args": args,
            "expiry_blocks": expiry_blocks,
        },
    )


def vote(proposal: int, approve: bool) -> Call:
    """Vote on a proposal, once."""
    return Call("governance", "vote", {"proposal": proposal, "approve": approve})


S = TypeVar("S")


def _many(query: Query, entry: str, kind: type[S]) -> list[S]:
    return msgspec.convert(query("governance", entry, {}), list[kind])  # type: ignore[valid-type]


def proposals(query: Query) -> list[Proposal]:
    """Return what is open or waits for its epoch, and the last finished ones, by number."""
    return _many(query, "proposals", Proposal)


def epoch(query: Query) -> Epoch:
    """Return the epoch of the next block."""
    return msgspec.convert(query("governance", "authorities", {}), Epoch)


def members(query: Query) -> list[Member]:
    """Return all accounts with a bond, and those that lost theirs, by address."""
    return _many(query, "members", Member)


def parameters(query: Query) -> list[Parameter]:
    """Return the chain's parameters as they are in force for the next block."""
    return _many(query, "parameters", Parameter)
