"""What the regulator does for newcomers: invite, see who asks, register, give first money.

Goes through the control socket of any node of the community; the regulator's key stays in the
process that was given it.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from market import client
from market.client import Call, mint, transfer
from node.api.control import ask
from node.api.governor import decide, decide_each
from node.config import Config
from node.errors import ControlError
from node.genesis import read_genesis
from node.membership.invitations import DAY_MS, Invitation, make_invitation, write_invitation
from node.setup import network_key, own_address
from wire.keys import SigningKey

# Addresses that say nothing to somebody elsewhere.
UNSPECIFIED: Final = ("/ip4/0.0.0.0/", "/ip6/::/")


class Admitted(NamedTuple):
    """A home that was taken in: its account, its name, the block, and what it was given. [micro]"""

    address: str
    name: str
    height: int
    balance_micro: int


class Turned(NamedTuple):
    """A home that was not taken in: its account, its name, and the contract's code and sentence."""

    address: str
    name: str
    error: ControlError


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
    done, refused = await admit_all(config, [wanted], key, balance_micro)
    if refused:
        raise refused[0].error
    return done[0]


async def admit_all(
    config: Config, wanted: Sequence[dict[str, Any]], key: SigningKey, balance_micro: int
) -> tuple[list[Admitted], list[Turned]]:
    """Do as `admit` for many at once: in two blocks, where these have room.

    Returns
    -------
    tuple
        Who is a home now, in order; and who is not, or has no money yet, and why.

    Raises
    ------
    ControlError
        The node does not answer.
    """
    data = config.path(config.node.data)
    done: list[Admitted] = []
    turned: list[Turned] = []
    calls = [Call("registry", "register", one) for one in wanted]
    for one, end in zip(wanted, await decide_each(key, calls, data), strict=True):
        if not isinstance(end, ControlError):
            done.append(Admitted(one["address"], one["name"], end["height"], 0))
        elif str(end).startswith("duplicate_home") and await _is_home(config, one["address"]):
            done.append(Admitted(one["address"], one["name"], 0, 0))
        else:
            turned.append(Turned(one["address"], one["name"], end))
    # Only now: nobody has first money who is no home.
    poor = [
        place
        for place, one in enumerate(done)
        if balance_micro and not await _has_account(config, one.address)
    ]
    calls = [mint(done[place].address, balance_micro) for place in poor]
    for place, end in zip(poor, await decide_each(key, calls, data), strict=True):
        if isinstance(end, ControlError):
            turned.append(Turned(done[place].address, done[place].name, end))
        else:
            done[place] = done[place]._replace(height=end["height"], balance_micro=balance_micro)
    moneyless = {one.address for one in turned}
    return [one for one in done if one.address not in moneyless], turned


async def invite(
    config: Config, file: Path, regulator: SigningKey, days: int, addresses: Sequence[str]
) -> tuple[Invitation, int]:
    """Write an invitation and have the chain know it; return it, and the block that does.

    Parameters
    ----------
    addresses : sequence of str
        Where the newcomer finds a home; none: where the node listens.

    Raises
    ------
    ConfigError
        The file is there already, the key is not the regulator's, or nobody could be reached.
    ControlError
        The node does not answer, or the contract refuses. No file is left.
    """
    if not addresses:
        status = await ask(config.path(config.node.data), "status")
        addresses = [one for one in status["listens"] if not one.startswith(UNSPECIFIED)]
    until_ms = time.time_ns() // 1_000_000 + days * DAY_MS
    genesis = read_genesis(config.path(config.node.genesis))
    made = make_invitation(genesis, tuple(addresses), network_key(config), until_ms, regulator)
    # First: what cannot be handed over need not be on chain.
    write_invitation(made, file)
    try:
        done = await decide(config, client.invite(made.door_key.address, until_ms), key=regulator)
    except BaseException:
        _forget(file)
        raise
    return made, done["height"]


def _forget(file: Path) -> None:
    file.unlink(missing_ok=True)


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


async def _is_home(config: Config, address: str) -> bool:
    """Tell whether an account is a home; its meter may be registered with another."""
    return await _there(config, "registry", "home", address, "not_a_home")


async def _has_account(config: Config, address: str) -> bool:
    return await _there(config, "ledger", "balance", address, "unknown_account")


async def _there(config: Config, contract: str, entry: str, address: str, unknown: str) -> bool:
    data = config.path(config.node.data)
    try:
        await ask(data, "query", contract=contract, entry=entry, args={"address": address})
    except ControlError as error:
        if str(error).startswith(unknown):
            return False
        raise
    return True
