"""Decoders of what newcomers and neighbours say to each other, and of joining addresses."""

from typing import Any, Final

from hems.config import ConstantHome, HomeConfig
from node.errors import ConfigError, GenesisError, PeerError
from node.joining import (
    Application,
    ApplicationState,
    GetGenesis,
    ShownGenesis,
    application_of,
    decode_question,
    decode_state,
    read_joining_address,
    read_shown,
)
from tests.fuzz.judge import Target
from tests.node.grid import make_genesis
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

    good = (encode(GetGenesis()), encode(applied))
    return Target("join-question", asked, (DecodeError,), good, encode=encode)


def application_state() -> Target:
    good = tuple(encode(ApplicationState(state)) for state in ("waiting", "registered", "full"))
    return Target("application-state", decode_state, (DecodeError,), good)


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


TARGETS: Final = (join_question, application_state, shown_genesis, joining_address)
