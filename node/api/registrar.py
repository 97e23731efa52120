"""What the regulator does for newcomers: see who asks, register them, give them first money.

Goes through the control socket of any node of the community; the regulator's key stays in the
process that was given it.
"""

from typing import Any, NamedTuple

from market.client import Call, mint, transfer
from node.api.control import ask
from node.api.governor import decide
from node.config import Config
from node.errors import ControlError
from node.genesis import read_genesis
from node.setup import own_address
from wire.keys import SigningKey


class Admitted(NamedTuple):
    """A home that was taken in: its account, its name, the block, and what it was given. [micro]"""

    address: str
    name: str
    height: int
    balance_micro: int


async def applications(config: Config) -> list[dict[str, Any]]:
    """Return what the homes that ask at this node would be registered as, in order of arrival.

    Raises
    ------
    ControlError
        The node does not answer.
    """
    found: list[dict[str, Any]] = await ask(config.path(config.node.data), "applications")
    return found


async def admit(
    config: Config, wanted: dict[str, Any], key: SigningKey, balance_micro: int
) -> Admitted:
    """Register one of `applications`, and bring in its first money.

    Done again after an interruption, it does what is lacking.

    Raises
    ------
    ControlError
        The node does not answer, or the contract refuses: its code and its sentence.
    """
    height = 0
    try:
        height = (await decide(config, Call("registry", "register", wanted), key=key))["height"]
    except ControlError as error:
        if not str(error).startswith("duplicate_home"):
            raise
    given = 0
    if balance_micro and not await _has_account(config, wanted["address"]):
        done = await decide(config, mint(wanted["address"], balance_micro), key=key)
        height, given = done["height"], balance_micro
    return Admitted(wanted["address"], wanted["name"], height, given)


async def pay_out(config: Config, amount_micro: int | None) -> dict[str, Any]:
    """Send money of the node's own account to the regulator; all that is free of it if None.

    Raises
    ------
    ControlError
        The node does not answer, there is nothing, or the contract refuses.
    """
    regulator = read_genesis(config.path(config.node.genesis)).market.regulator
    if amount_micro is None:
        own = own_address(config)
        amount_micro = (await _balance(config, own))["balance_micro"]
        if amount_micro == 0:
            raise ControlError("no_money: the account is empty, but for what is held")
    return await decide(config, transfer(regulator, amount_micro))


async def _balance(config: Config, address: str) -> dict[str, int]:
    found: dict[str, int] = await ask(
        config.path(config.node.data),
        "query",
        contract="ledger",
        entry="balance",
        args={"address": address},
    )
    return found


async def _has_account(config: Config, address: str) -> bool:
    try:
        await _balance(config, address)
    except ControlError as error:
        if str(error).startswith("unknown_account"):
            return False
        raise
    return True
