"""What `commonwatt gov` asks and tells a running node, signed by the node's own key.

Nothing here decides anything: transactions go through the control socket like any other, and what
the contract refuses comes back as its code and sentence.
"""

import asyncio
import time
from pathlib import Path
from typing import Any, Final

from market import governance
from market.client import Call, sign_call
from node.api.control import ask
from node.config import Config
from node.errors import ControlError
from node.homekeys import account_signer
from wire.keys import SigningKey

VALID_MS: Final = 60_000
POLL_S: Final = 0.1
# The household signs with the same key, by the same clock.
ATTEMPTS: Final = 3


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
    for _ in range(ATTEMPTS - 1):
        try:
            return await _decide_once(key, call, data)
        except ControlError as error:
            if not str(error).startswith("bad_nonce"):
                raise
    return await _decide_once(key, call, data)


async def _decide_once(key: SigningKey, call: Call, data: Path) -> dict[str, Any]:
    status = await ask(data, "status")
    last = await ask(data, "nonce", address=key.address)
    now_ms = time.time_ns() // 1_000_000
    signed = sign_call(call, key, status["chain_id"], max(last + 1, now_ms), now_ms + VALID_MS)
    answer = await ask(data, "submit", transaction=signed.raw.hex())
    while time.time_ns() // 1_000_000 <= now_ms + VALID_MS:
        found = await ask(data, "transaction", id=answer["id"])
        if found["height"] is None:
            await asyncio.sleep(POLL_S)
        elif found["code"] == "ok":
            return {"id": answer["id"], **found}
        else:
            raise ControlError(f"{found['reason']}: {found['message']}")
    raise ControlError(f"expired: no block took it within {VALID_MS // 1000} s; do blocks come?")


async def overview(config: Config) -> dict[str, Any]:
    """Return the present epoch, all who have a bond, parameters and proposals, as plain maps.

    Raises
    ------
    ControlError
        The node does not answer.
    """
    data = config.path(config.node.data)
    found = {}
    for name, entry in (
        ("epoch", "authorities"),
        ("members", "members"),
        ("parameters", "parameters"),
        ("proposals", "proposals"),
    ):
        found[name] = await ask(data, "query", contract="governance", entry=entry)
    return found
