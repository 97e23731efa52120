"""What `commonwatt gov` asks and tells a running node, signed by the node's own key.

Nothing here decides anything: transactions go through the control socket like any other, and what
the contract refuses comes back as its code and sentence.
"""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from market import governance
from market.client import Call, sign_call
from node.api.control import ask, lots_of
from node.config import Config
from node.errors import ControlError
from node.keys.homekeys import account_signer
from wire.keys import SigningKey

VALID_MS: Final = 60_000
POLL_S: Final = 0.1
# The household signs with the same key, by the same clock.
ATTEMPTS: Final = 3
# An account may have 64 transactions waiting; some are left to whoever signs with the same key.
AT_ONCE_MAX: Final = 48
# Of so many blocks `overview` says who has signed them.
BLOCKS_SHOWN: Final = 20


def proposal(action: str, subject: str, value: int | None, blocks: int) -> Call:
    """Return the call that proposes to `add` or `remove` an address, or to `set` a parameter.

    Raises
    ------
    ControlError
        A value is missing or too much.
    """
    if action == "set":
        if value is None:
            raise ControlError(f"bad_argument: set {subject} to which value?")
        return governance.propose_set(subject, value, blocks)
    if value is not None:
        raise ControlError(f"bad_argument: {action} takes an address and nothing more")
    if action == "add":
        return governance.propose_add(subject, blocks)
    return governance.propose_remove(subject, blocks)


def vote(number: int, approve: bool) -> Call:
    """Return the call that votes on a proposal."""
    return governance.vote(number, approve)


def stand() -> Call:
    """Return the call that puts up a bond and stands for a seat."""
    return governance.stand()


def step_down() -> Call:
    """Return the call that stands for a seat no longer."""
    return governance.step_down()


async def decide(
    config: Config, call: Call, data: Path | None = None, key: SigningKey | None = None
) -> dict[str, Any]:
    """Sign a call with the node's key, hand it in and wait for the block that holds it.

    Parameters
    ----------
    data : Path, optional
        Hand it in at the node of this data directory instead of one's own.
    key : SigningKey, optional
        Sign with this key instead, such as the regulator's.

    Returns
    -------
    dict
        Of the decided transaction: `id`, `height`, `code`, `reason`, `message`, `events`.

    Raises
    ------
    ControlError
        The node does not answer, or the call is refused: its code and its sentence.
    """
    data = data or config.path(config.node.data)
    return await decide_as(key or account_signer(config), call, data)


async def decide_as(key: SigningKey, call: Call, data: Path) -> dict[str, Any]:
    """Do as `decide` does with this key, at the node of this data directory."""
    (end,) = await decide_each(key, [call], data)
    if isinstance(end, ControlError):
        raise end
    return end


async def decide_each(
    key: SigningKey, calls: Sequence[Call], data: Path
) -> list[dict[str, Any] | ControlError]:
    """Sign calls with one key, hand them in together and wait for the blocks that hold them.

    They are decided in their order, all in one block where there is room; none depends on how one
    before it ended.

    Returns
    -------
    list
        Of each call what `decide` returns, or the error that it would raise.

    Raises
    ------
    ControlError
        The node does not answer.
    """
    ends: dict[int, dict[str, Any] | ControlError] = {}
    for begin in range(0, len(calls), AT_ONCE_MAX):
        places = list(range(begin, min(begin + AT_ONCE_MAX, len(calls))))
        for _ in range(ATTEMPTS):
            some = await _decide_once(key, [calls[place] for place in places], data)
            ends.update(zip(places, some, strict=True))
            places = [place for place in places if str(ends[place]).startswith("bad_nonce")]
            if not places:
                break
    return [ends[place] for place in range(len(calls))]


async def _decide_once(
    key: SigningKey, calls: Sequence[Call], data: Path
) -> list[dict[str, Any] | ControlError]:
    status = await ask(data, "status")
    last = await ask(data, "nonce", address=key.address)
    now_ms = time.time_ns() // 1_000_000
    valid_ms = now_ms + VALID_MS
    first = max(last + 1, now_ms)
    signed = [
        sign_call(call, key, status["chain_id"], nonce, valid_ms)
        for nonce, call in enumerate(calls, start=first)
    ]
    refused: dict[bytes, ControlError] = {}
    for lot in lots_of(signed):
        answer = await ask(data, "submit_many", transactions=[item.raw.hex() for item in lot])
        for place, code, message in answer["refused"]:
            refused[lot[place].tx_id] = ControlError(f"{code}: {message}")
    return [refused.get(item.tx_id) or await _end_of(item.tx_id, data, valid_ms) for item in signed]


async def _end_of(tx_id: bytes, data: Path, valid_ms: int) -> dict[str, Any] | ControlError:
    """Wait for how a transaction ends that this node has taken."""
    while True:
        found: dict[str, Any] = await ask(data, "transaction", id=tx_id.hex())
        if found["height"] is not None:
            if found["code"] == "ok":
                return found
            return ControlError(f"{found['reason']}: {found['message']}")
        if found["status"] == "refused" and found["reason"] != "expired":
            return ControlError(f"{found['reason']}: {found['message']}")
        if time.time_ns() // 1_000_000 > valid_ms:
            waited_s = VALID_MS // 1000
            return ControlError(f"expired: no block took it within {waited_s} s; do blocks come?")
        await asyncio.sleep(POLL_S)


async def overview(data: Path) -> dict[str, Any]:
    """Return the present epoch, all who have a bond, parameters and proposals, as plain maps.

    They are those of the chain of the node whose data directory this is.

    Raises
    ------
    ControlError
        The node does not answer.
    """
    found = {}
    for name, entry in (
        ("epoch", "authorities"),
        ("members", "members"),
        ("parameters", "parameters"),
        ("proposals", "proposals"),
    ):
        found[name] = await ask(data, "query", contract="governance", entry=entry)
    names = await _names(data)
    shown, signed = await _signed(data, found["epoch"])
    found["blocks_shown"] = shown
    for member in found["members"]:
        member["name"] = names.get(member["address"])
        member["signed"] = signed.get(member["address"])
    return found


async def _names(data: Path) -> dict[str, str]:
    """Return what homes are called, by their addresses; a main chain has none."""
    try:
        rows = await ask(data, "homes")
    except ControlError:
        return {}
    return {row["home"]["address"]: row["home"]["name"] for row in rows}


async def _signed(data: Path, epoch: dict[str, Any]) -> tuple[int, dict[str, int]]:
    """Return how many of the epoch's last blocks were looked at, and how many each has signed."""
    found = await ask(data, "blocks", count=BLOCKS_SHOWN)
    # Signers are places in their epoch's set. Nobody signs the genesis.
    blocks = [b for b in found["blocks"] if b["epoch"] == epoch["epoch"] and b["height"]]
    return len(blocks), {
        address: sum(place in block["signers"] for block in blocks)
        for place, address in enumerate(epoch["addresses"])
    }
