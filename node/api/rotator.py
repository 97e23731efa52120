"""Replaces the key of a home's account or meter, on chain and then in its file.

    account.next.key    made first, in the same way encrypted as node.key is
    offer_key           by the present key, unless the regulator has offered the place already
    take_key            by the new one: the old one is refused from this block on
    account.key         the file has its lasting name; the node uses it from its next start on

Interrupted anywhere it goes on from there when it is begun again.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

from market.client import offer_key, take_key
from node.api.control import ask
from node.api.governor import decide_as
from node.config import Config
from node.durable import create_file
from node.errors import ConfigError, ControlError
from node.keys.homekeys import HomeKeys, Purpose, home_keys, key_file
from node.keys.keyfile import load, text_of
from node.keys.passphrase import passphrase_for
from node.setup import own_address, own_key, passphrase_file_of, read_key
from wire.keys import SigningKey


class Rotated(NamedTuple):
    """A key that was replaced: whose, by which, in which file, since which block (None: before)."""

    address: str
    purpose: Purpose
    key: str
    file: Path
    height: int | None


def prepare(config: Config, purpose: Purpose) -> tuple[SigningKey, Path]:
    """Return the key that shall take the place, and its file; it is made if there is none.

    A home that goes on with a new node, by `[node] account`, takes its account's place with the
    node's own key.

    Raises
    ------
    ConfigError
        It cannot be read or written, or its passphrase is missing.
    """
    lasting, node_file = key_file(config, purpose), config.path(config.node.key)
    if purpose == "account" and config.node.account and not lasting.exists():
        return own_key(config), node_file
    file = _next(lasting)
    if file.exists():
        return read_key(file, passphrase_file_of(config)), file
    key, stored, passphrase = SigningKey.generate(), load(node_file), None
    if stored.is_encrypted:
        passphrase = passphrase_for(node_file, stored.address, passphrase_file_of(config))
        # One that is mistyped here would lock the new key away.
        stored.open(passphrase)
    line = text_of(key, passphrase) + "\n"
    try:
        create_file(file, line.encode())
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written ({error.strerror})") from None
    return key, file


def _next(lasting: Path) -> Path:
    return lasting.with_suffix(".next" + lasting.suffix)


async def rotate(config: Config, purpose: Purpose) -> Rotated:
    """Replace the key of this home's account or meter, through its running node.

    Raises
    ------
    ConfigError
        A key file cannot be read or written.
    ControlError
        The node does not answer, the home holds a seat, or the contract refuses.
    """
    data = config.path(config.node.data)
    status = await ask(data, "status")
    if status["authority"] is not None and purpose == "account":
        raise ControlError(
            "seated: an authority's seat is its key's; it steps down first (`commonwatt gov`)"
        )
    address = own_address(config)
    new, file = prepare(config, purpose)
    home = await ask(data, "query", contract="registry", entry="home", args={"address": address})
    height = None
    if _holder(home, purpose) != new.address:
        if home.get("offers", {}).get(purpose) != new.address:
            keys: HomeKeys = home_keys(config, own_key(config))
            old = keys.account if purpose == "account" else keys.meter
            await decide_as(old, offer_key(address, purpose, new.address), data)
        height = (await decide_as(new, take_key(), data))["height"]
    lasting = file
    if file == _next(key_file(config, purpose)):
        lasting = key_file(config, purpose)
        try:
            os.replace(file, lasting)
        except OSError as error:
            raise ConfigError(f"{lasting}: cannot be written ({error.strerror})") from None
    return Rotated(address, purpose, new.address, lasting, height)


def _holder(home: dict[str, Any], purpose: Purpose) -> str:
    """Return the address of the key that has the place, by the registry."""
    found = home["meter"] if purpose == "meter" else home.get("key", home["address"])
    return str(found)
