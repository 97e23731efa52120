"""The keys of one home: its node's, its account's, its meter's.

All begin as one, `node.key`, the meter's derived from it. A key that takes the place of the
account's or the meter's (`commonwatt key rotate`) has a file of its own beside it:

    node.key       who this node is on the network and, for an authority, what it votes with
    account.key    what speaks for the home's account, once that is not node.key any more
    meter.key      what signs its readings, once that is not derived from node.key any more
"""

from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from node.config import Config
from node.setup import passphrase_file_of, read_key
from wire.keys import SigningKey

Purpose: TypeAlias = Literal["account", "meter"]
METER: Final = "meter"


class HomeKeys(NamedTuple):
    """What a home signs with, and the address that names it."""

    account: SigningKey
    meter: SigningKey
    address: str

    @classmethod
    def of(cls, key: SigningKey) -> "HomeKeys":
        """Return the keys of a home of which none was replaced."""
        return cls(key, key.derive(METER), key.address)


def key_file(config: Config, purpose: Purpose) -> Path:
    """Return where the key of an account or a meter is, once it is one of its own."""
    name = config.node.account_key if purpose == "account" else config.node.meter_key
    return config.path(name)


def home_keys(config: Config, node: SigningKey) -> HomeKeys:
    """Return the keys of the home with these settings, `node` being its node's.

    Raises `ConfigError` as `node.setup.read_key`.
    """
    account = _own(config, "account") or node
    named = config.node.account or node.address
    return HomeKeys(account, _own(config, METER) or node.derive(METER), named)


def account_signer(config: Config) -> SigningKey:
    """Return what signs for this home's account. Raises `ConfigError` as `read_key`."""
    found = _own(config, "account")
    return found or read_key(config.path(config.node.key), passphrase_file_of(config))


def _own(config: Config, purpose: Purpose) -> SigningKey | None:
    file = key_file(config, purpose)
    return read_key(file, passphrase_file_of(config)) if file.exists() else None
