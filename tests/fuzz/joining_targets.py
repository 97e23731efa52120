"""Decoders of what newcomers and neighbours say to each other, and of joining addresses."""

from pathlib import Path
from typing import Any, Final

import msgspec

from hems.config import ConstantHome, HomeConfig
from market.client import accept_invite, sign_call
from node.config import Config, NetworkSection
from node.errors import ConfigError, GenesisError, PeerError
from node.membership.invitations import Invitation, make_invitation, read_invitation
from node.membership.joining import (
    Acceptance,
    AcceptanceState,
    Application,
    ApplicationState,
    GetGenesis,
    ShownGenesis,
    application_of,
    decode_acceptance,
    decode_question,
    decode_state,
    read_joining_address,
    read_shown,
)
from node.setup import network_key
from tests.fuzz.file_targets import from_file
from tests.fuzz.judge import Target
from tests.node.grid import REGULATOR, make_genesis
from wire.codec import encode
from wire.errors import DecodeError
from wire.keys import SigningKey


def join_question() -> Target:
    """What a newcomer asks: for the genesis, or to be registered, by two signatures."""
    key = SigningKey(bytes(32))
    applied = application_of("street", "attic", HomeConfig(source=ConstantHome(load_w=9)), key)

    def asked(data: bytes) -> Any:
        question = decode_question(data)
        if isinstance(question, Application) and not question.is_genuine():
            raise DecodeError("not signed")
        return question

    used = sign_call(accept_invite(key.address), key, "street", 1, 2)
    good = (encode(GetGenesis()), encode(applied), encode(Acceptance(used.raw)))
    return Target("join-question", asked, (DecodeError,), good, encode=encode)


def application_state() -> Target:
    good = tuple(encode(ApplicationState(state)) for state in ("waiting", "registered", "full"))
    return Target("application-state", decode_state, (DecodeError,), good)


def acceptance_state() -> Target:
    good = tuple(encode(AcceptanceState(code)) for code in ("ok", "key_retired"))
    return Target("acceptance-state", decode_acceptance, (PeerError,), good)


def invitation_file() -> Target:
    genesis = make_genesis()
    made = make_invitation(genesis, (f"/ip4/1.2.3.4/tcp/1/p2p/{REGULATOR.peer_id}",), bytes(32),
                           10**13, REGULATOR)  # fmt: skip
    good = (msgspec.json.encode(made),)

    def check(found: Invitation, data: bytes) -> str | None:
        del data
        return None if found == made else "another is believed to be the regulator's"

    return Target(
        "invitation-file", from_file("invite", read_invitation), (ConfigError,), good, kind="text",
        check=check, words=(b"commonwatt-invitation", b"door", b"psk", b"until_ms", b"signature"),
    )  # fmt: skip


def network_key_file() -> Target:
    def read(path: Path) -> bytes | None:
        settings = NetworkSection(psk_file=path.name)
        return network_key(Config(network=settings, directory=path.parent))

    return Target(
        "network-key-file", from_file("network.key", read), (ConfigError,),
        ((bytes(range(32)).hex() + "\n").encode(),), kind="text",
    )  # fmt: skip


def shown_genesis() -> Target:
    true = make_genesis()

    def shown(data: bytes) -> Any:
        return read_shown(data, true.hash)

    good = (encode(ShownGenesis(encode(true))),)
    return Target("shown-genesis", shown, (PeerError, GenesisError), good)


def joining_address() -> Target:
    good = (f"/ip4/127.0.0.1/tcp/4600/p2p/{SigningKey(bytes(32)).peer_id}#{'a1' * 32}",)

    def read(data: bytes) -> Any:
        return read_joining_address(data.decode())

    texts = tuple(text.encode() for text in good)
    return Target("joining-address", read, (ConfigError, UnicodeDecodeError), texts, kind="text")


TARGETS: Final = (
    join_question,
    application_state,
    acceptance_state,
    invitation_file,
    network_key_file,
    shown_genesis,
    joining_address,
)
