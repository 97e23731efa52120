"""An invitation into a closed community: a file from the regulator for one newcomer, once.

    regulator                      chain                        newcomer
    makes a key, the door ───────▶ invite(door, until)
    signs FILE: genesis' hash, addresses, network key, door's seed, until ──── by hand ──▶ FILE
                                                                genesis, as the door's holder
                                   accept_invite(home) ◀─────── signed by the door, used up by it
                                   (home is a guest) ─────────▶ comes in with its own key, asks to
                                                                be registered like anybody

The file is a secret of whoever carries it: who has it comes in, and once. The regulator can take it
back; after `until` it is nothing.
"""

import contextlib
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from market.time import CALENDAR_END_MS
from node.durable import create_file
from node.errors import ConfigError, PeerError
from node.genesis import GENESIS_HASH_BYTES, Genesis
from node.keys.secret import read_owned
from node.setup import PSK_BYTES
from wire.keys import (
    PUBLIC_KEY_BYTES,
    SEED_BYTES,
    SIGNATURE_BYTES,
    SigningKey,
    address_of,
    verify,
)

FILE_BYTES_MAX: Final = 8_192
ADDRESSES_MAX: Final = 16
ADDRESS_CHARS_MAX: Final = 256
DAYS_MAX: Final = 90
DAY_MS: Final = 86_400_000
_DOMAIN: Final = b"commonwatt/invitation/1\0"


def _hex_of(count: int) -> Meta:
    return Meta(pattern=f"^[0-9a-f]{{{2 * count}}}$")


class Invitation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the file says. Bytes are hexadecimal; `psk` is empty where there is none."""

    version: Literal[1] = msgspec.field(name="commonwatt-invitation")
    chain_id: Annotated[str, Meta(max_length=64)]
    genesis_hash: Annotated[str, _hex_of(GENESIS_HASH_BYTES)]
    addresses: Annotated[
        tuple[Annotated[str, Meta(max_length=ADDRESS_CHARS_MAX)], ...],
        Meta(min_length=1, max_length=ADDRESSES_MAX),
    ]
    psk: Annotated[str, Meta(pattern=f"^([0-9a-f]{{{2 * PSK_BYTES}}})?$")]
    door: Annotated[str, _hex_of(SEED_BYTES)]
    until_ms: Annotated[int, Meta(ge=0, le=CALENDAR_END_MS)]
    regulator: Annotated[str, _hex_of(PUBLIC_KEY_BYTES)]
    signature: Annotated[str, _hex_of(SIGNATURE_BYTES)]

    def __repr__(self) -> str:
        return f"Invitation({self.chain_id}, {self.door_key.address})"

    @property
    def signed_bytes(self) -> bytes:
        """What the regulator signs."""
        values = [getattr(self, name) for name in self.__struct_fields__[:-1]]
        return _DOMAIN + msgspec.json.encode(values)

    @property
    def door_key(self) -> SigningKey:
        """The key that is let in once."""
        return SigningKey(bytes.fromhex(self.door))

    @property
    def network_key(self) -> bytes | None:
        """The community's pre-shared key, None where there is none."""
        return bytes.fromhex(self.psk) if self.psk else None

    @property
    def until_text(self) -> str:
        """Until when it is good, for people."""
        return f"{datetime.fromtimestamp(self.until_ms / 1_000, UTC):%Y-%m-%d %H:%M} UTC"


def make_invitation(
    genesis: Genesis,
    addresses: tuple[str, ...],
    psk: bytes | None,
    until_ms: int,
    regulator: SigningKey,
) -> Invitation:
    """Make an invitation of a new key, signed; the chain has to be told of it (`client.invite`).

    Raises
    ------
    ConfigError
        The key is not the regulator's, or there is no address to come to, or are too many.
    """
    if regulator.address != genesis.market.regulator:
        raise ConfigError(
            f"the key is that of {regulator.address}; invitations are signed by the regulator, "
            f"{genesis.market.regulator}"
        )
    if not 0 < len(addresses) <= ADDRESSES_MAX:
        raise ConfigError(
            f"an invitation names 1 to {ADDRESSES_MAX} addresses that a newcomer can reach, not "
            f"{len(addresses)}: give them by --address"
        )
    blank = Invitation(
        version=1,
        chain_id=genesis.chain_id,
        genesis_hash=genesis.hash.hex(),
        addresses=addresses,
        psk="" if psk is None else psk.hex(),
        door=secrets.token_bytes(SEED_BYTES).hex(),
        until_ms=until_ms,
        regulator=regulator.public.hex(),
        signature="",
    )
    return replace(blank, signature=regulator.sign(blank.signed_bytes).hex())


def write_invitation(invitation: Invitation, path: Path) -> None:
    """Write it, readable by its owner only. Raises `ConfigError` if there is a file already."""
    try:
        create_file(path, msgspec.json.format(msgspec.json.encode(invitation), indent=1) + b"\n")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from None


def read_invitation(path: Path) -> Invitation:
    """Read an invitation and check its signature; whose that is: `check_regulator`.

    Raises
    ------
    ConfigError
        It is none, was changed, or is open to others. The message shows nothing of it.
    """
    data = read_owned(path, "invitation", FILE_BYTES_MAX + 1)
    found = None
    if len(data) <= FILE_BYTES_MAX:
        with contextlib.suppress(msgspec.MsgspecError, ValueError, RecursionError):
            found = msgspec.json.decode(data, type=Invitation)
    if found is None or not verify(
        bytes.fromhex(found.regulator), found.signed_bytes, bytes.fromhex(found.signature)
    ):
        raise ConfigError(
            f"{path}: not a whole invitation; it was cut off or changed on its way. Ask for the "
            "file once more"
        )
    return found


def check_until(invitation: Invitation, now_ms: int) -> None:
    """Raise `ConfigError` if it has run out."""
    if invitation.until_ms < now_ms:
        raise ConfigError(
            f"the invitation was good until {invitation.until_text}; ask the regulator for a new "
            "one (or set this machine's clock, if that is wrong)"
        )


def check_regulator(invitation: Invitation, genesis: Genesis) -> None:
    """Raise `PeerError` unless the regulator of this genesis has signed it."""
    signer = address_of(bytes.fromhex(invitation.regulator))
    if signer != genesis.market.regulator or invitation.chain_id != genesis.chain_id:
        raise PeerError(
            f"the invitation is signed by {signer}, which is not the regulator of "
            f"{genesis.chain_id}: it is not to be trusted"
        )
