"""How a new home comes into a community: it is shown the genesis, and asks to be registered.

A joining address is a neighbour's multiaddress and the hash of the community's genesis,
`/ip4/192.0.2.7/tcp/4600/p2p/PEER_ID#HASH`. The hash opens the door, because the community's key is
made from it, and it pins what is shown behind: nobody can show another genesis.

    newcomer                          neighbour                    regulator
    GetGenesis ─────────────────────▶ ShownGenesis
    (syncs like everybody)
    Application, every half minute ─▶ kept, at most 64
                                      applications ◀────────────── commonwatt community admit
    sees itself in the registry ◀──── a block ◀─────────────────── registry.register, ledger.mint

An application is signed by the home's key and by its meter's, so that nobody is registered with a
meter that is somebody else's. It changes nothing by itself: the regulator's signature does.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from typing import Annotated, Final, Literal, NamedTuple, TypeAlias

from msgspec import Meta
from msgspec.structs import replace

from hems.config import CommunityHome, ConstantHome, HomeConfig, SyntheticHome
from market import client
from market.errors import QueryError
from node.errors import ConfigError, PeerError
from node.genesis import GENESIS_BYTES_MAX, GENESIS_HASH_BYTES, Genesis
from node.network.base import Network, NetworkError
from wire.codec import Message, Plain, decode, encode
from wire.errors import DecodeError, WireError
from wire.keys import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, SigningKey, address_of, verify
from wire.transaction import Refused, SignedTransaction

log = logging.getLogger("commonwatt.joining")

PROTOCOL: Final = "join"
QUESTION_BYTES_MAX: Final = 1_024
ACCEPTANCE_BYTES_MAX: Final = 900
ANSWER_BYTES_MAX: Final = GENESIS_BYTES_MAX + 64
NAME_CHARS_MAX: Final = 64
POWER_W_MAX: Final = 1_000_000_000
# What waits for the regulator, at one node; and of one neighbour, who may pass on nobody else's.
WAITING_MAX: Final = 64
WAITING_PER_PEER_MAX: Final = 4
# A newcomer that stopped asking is forgotten.
FORGOTTEN_AFTER_S: Final = 300.0
ASK_EVERY_S: Final = 30.0
ASK_FIRST_S: Final = 1.0
ASKED_AT_ONCE_MAX: Final = 3
REQUEST_TIMEOUT_S: Final = 20.0
_DOMAIN: Final = b"commonwatt/application/1\0"

# Of a home that does not say otherwise: three phases of 22 A, and what an inverter on them gives.
IMPORT_CAP_W: Final = 15_000
EXPORT_CAP_W: Final = 10_000

_Power = Annotated[int, Meta(ge=0, le=POWER_W_MAX)]
_Key = Annotated[bytes, Meta(min_length=PUBLIC_KEY_BYTES, max_length=PUBLIC_KEY_BYTES)]
_Signature = Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]


class GetGenesis(Message, frozen=True, tag="get-genesis"):
    """Show me the genesis, please."""


class ShownGenesis(Message, frozen=True, tag="shown-genesis"):
    """The genesis, in its canonical encoding."""

    genesis: Annotated[bytes, Meta(max_length=GENESIS_BYTES_MAX)]


class Application(Message, frozen=True, tag="application"):
    """A home asks to be registered: who it is, and what its connection can do. [W, Wh]"""

    chain_id: Annotated[str, Meta(max_length=64)]
    account: _Key
    meter: _Key
    name: Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX)]
    role: Literal["consumer", "prosumer", "producer", "speculator"]
    import_cap_w: _Power
    export_cap_w: _Power
    battery_wh: _Power
    pv_w: _Power
    green: bool
    account_signature: _Signature = bytes(SIGNATURE_BYTES)
    meter_signature: _Signature = bytes(SIGNATURE_BYTES)

    @property
    def address(self) -> str:
        """The home's account."""
        return address_of(self.account)

    def signed_bytes(self) -> bytes:
        """Return what both keys sign."""
        fields = (getattr(self, name) for name in self.__struct_fields__[:-2])
        return _DOMAIN + encode(list(fields))

    def is_genuine(self) -> bool:
        """Tell whether both keys have signed it, and are two."""
        signed = self.signed_bytes()
        return (
            self.account != self.meter
            and verify(self.account, signed, self.account_signature)
            and verify(self.meter, signed, self.meter_signature)
        )

    def registration(self) -> client.Call:
        """Return the call by which the regulator takes the home in."""
        return client.register_home(
            self.address,
            address_of(self.meter),
            self.name,
            self.role,
            self.import_cap_w,
            self.export_cap_w,
            self.battery_wh,
            self.pv_w,
            green=self.green,
        )


class Acceptance(Message, frozen=True, tag="acceptance"):
    """Pass on that an invitation is used: a transaction `registry.accept_invite`, signed by it."""

    transaction: Annotated[bytes, Meta(max_length=ACCEPTANCE_BYTES_MAX)]


class AcceptanceState(Message, frozen=True, tag="acceptance-state"):
    """What became of it here: "ok", it waits for a block; else why it was refused."""

    code: Annotated[str, Meta(max_length=64)]


def decode_acceptance(data: bytes) -> AcceptanceState:
    """Decode what a neighbour says of an acceptance. Raises `PeerError`."""
    try:
        return decode(data, AcceptanceState, QUESTION_BYTES_MAX)
    except DecodeError as error:
        raise PeerError(f"the neighbour gives no answer of this version: {error}") from None


JoinQuestion: TypeAlias = GetGenesis | Application | Acceptance


def decode_question(data: bytes) -> JoinQuestion:
    """Decode what a newcomer asks. Raises `DecodeError`."""
    return decode(data, JoinQuestion, QUESTION_BYTES_MAX)  # type: ignore[arg-type]


ApplicationOutcome: TypeAlias = Literal["waiting", "registered", "full", "refused"]


class ApplicationState(Message, frozen=True, tag="application-state"):
    """What became of an application here."""

    state: ApplicationOutcome


def decode_state(data: bytes) -> ApplicationOutcome:
    """Decode what a neighbour says of an application. Raises `DecodeError`."""
    return decode(data, ApplicationState, QUESTION_BYTES_MAX).state


class Capability(NamedTuple):
    """What a home's connection can do, as the registry holds it. [W, Wh]"""

    role: Literal["consumer", "prosumer", "speculator"]
    import_cap_w: int
    export_cap_w: int
    battery_wh: int
    pv_w: int
    green: bool


def capability(home: HomeConfig) -> Capability:
    """Return what the registry is told of a home with these settings."""
    source = home.source
    pv_w = source.pv_peak_w if isinstance(source, CommunityHome | SyntheticHome) else 0
    sells = home.battery is not None or pv_w > 0
    role: Literal["consumer", "prosumer", "speculator"] = "prosumer" if sells else "consumer"
    if sells and source == ConstantHome():
        role = "speculator"
    return Capability(
        role=role,
        import_cap_w=home.import_cap_w or IMPORT_CAP_W,
        export_cap_w=(home.export_cap_w or EXPORT_CAP_W) if sells else 0,
        battery_wh=sum(battery.capacity_wh for battery in home.batteries),
        pv_w=pv_w,
        # A battery may be charged from the grid.
        green=pv_w > 0 and home.battery is None,
    )


def application_of(chain_id: str, name: str, home: HomeConfig, key: SigningKey) -> Application:
    """Return a home's application, signed by its key and its meter's."""
    meter = key.derive("meter")
    can = capability(home)
    unsigned = Application(
        chain_id, key.public, meter.public, name[:NAME_CHARS_MAX], **can._asdict()
    )
    signed = unsigned.signed_bytes()
    return replace(unsigned, account_signature=key.sign(signed), meter_signature=meter.sign(signed))


# -- the neighbour's side


class _Waiting(NamedTuple):
    application: Application
    peer: str
    at_s: float


class Doorkeeper:
    """Shows newcomers the genesis, and keeps what they ask until the regulator looks.

    Parameters
    ----------
    genesis : Genesis
    query : callable
        Asks a contract at the committed state.
    network : Network
        Not started yet.
    clock : callable
        Monotonic time. [s]
    submit : callable, optional
        Takes in a transaction; raises `Refused`. Without it no invitation is passed on.
    """

    def __init__(
        self,
        genesis: Genesis,
        query: Callable[[str, str, dict[str, Plain]], Plain],
        network: Network,
        clock: Callable[[], float] = time.monotonic,
        submit: Callable[[bytes], object] | None = None,
    ) -> None:
        self._submit = submit
        self._genesis = genesis
        self._shown = encode(ShownGenesis(encode(genesis)))
        self._query = query
        self._clock = clock
        self._waiting: dict[str, _Waiting] = {}
        network.on_request(PROTOCOL, self._answer)

    async def _answer(self, peer: str, data: bytes) -> bytes:
        question = decode_question(data)
        if isinstance(question, GetGenesis):
            return self._shown
        if isinstance(question, Acceptance):
            return encode(AcceptanceState(self._accept(question)))
        return encode(ApplicationState(self._receive(peer, question)))

    def _accept(self, asked: Acceptance) -> str:
        """Hand in the use of an invitation; nothing else is passed on this way."""
        try:
            tx = decode(asked.transaction, SignedTransaction, ACCEPTANCE_BYTES_MAX).tx
        except DecodeError:
            return "malformed"
        if self._submit is None or (tx.contract, tx.entry) != ("registry", "accept_invite"):
            return "unknown_entry"
        try:
            self._submit(asked.transaction)
        except Refused as refused:
            return refused.code
        return "ok"

    def _receive(self, peer: str, asked: Application) -> ApplicationOutcome:
        market = self._genesis.market
        # A main chain has no homes.
        if market.main is not None or asked.chain_id != market.chain_id or not asked.is_genuine():
            return "refused"
        address = asked.address
        self._forget()
        if registered(self._query, address):
            return "registered"
        others = [one for held, one in self._waiting.items() if held != address]
        if len(others) >= WAITING_MAX:
            return "full"
        if sum(one.peer == peer for one in others) >= WAITING_PER_PEER_MAX:
            return "full"
        if address not in self._waiting:
            log.info("%s (%s) asks to be registered", asked.name, address)
        self._waiting[address] = _Waiting(asked, peer, self._clock())
        return "waiting"

    def _forget(self) -> None:
        oldest_s = self._clock() - FORGOTTEN_AFTER_S
        self._waiting = {
            address: one
            for address, one in self._waiting.items()
            if one.at_s >= oldest_s and not _taken_in(self._query, address)
        }

    def waiting(self) -> list[Application]:
        """Return what waits for the regulator, in order of arrival."""
        self._forget()
        return [one.application for one in self._waiting.values()]


def registered(query: Callable[[str, str, dict[str, Plain]], Plain], address: str) -> bool:
    """Tell whether an account is a home of the region, at the committed state."""
    try:
        client.home(query, address)
    except QueryError:
        return False
    return True


def _taken_in(query: Callable[[str, str, dict[str, Plain]], Plain], address: str) -> bool:
    """Tell whether nothing is left to be done for a home: it is registered and has its account.

    A regulator that was interrupted between the two sees it again.
    """
    if not registered(query, address):
        return False
    try:
        client.account(query, address)
    except QueryError:
        return False
    return True


# -- the newcomer's side


class Applicant:
    """Asks the neighbours to be registered until the home is.

    Parameters
    ----------
    application : Application
    query, network : as `Doorkeeper`
    first : collection of str
        Peer ids of those to ask before others: who let this home in.
    """

    def __init__(
        self,
        application: Application,
        query: Callable[[str, str, dict[str, Plain]], Plain],
        network: Network,
        first: Collection[str] = (),
    ) -> None:
        self._first = first
        self._application = application
        self._query = query
        self._network = network
        self._said = ""

    async def run(self) -> None:
        """Ask, again and again, until the home is registered, which it can be from the start."""
        pause_s = ASK_FIRST_S
        while True:
            if not registered(self._query, self._application.address):
                await self._ask()
            elif self._said:
                log.info("registered: this home trades from the next slot on")
                self._said = ""
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, ASK_EVERY_S)

    async def _ask(self) -> None:
        data = encode(self._application)
        there = [peer.peer_id for peer in self._network.peers()]
        there.sort(key=lambda peer_id: peer_id not in self._first)
        for peer_id in there[:ASKED_AT_ONCE_MAX]:
            try:
                answer = await self._network.request(peer_id, PROTOCOL, data, REQUEST_TIMEOUT_S)
                state = decode_state(answer)
            except (NetworkError, DecodeError) as error:
                log.debug("%s took no application: %s", peer_id, error)
                continue
            if state != self._said:
                self._said = state
                log.info("this home has asked to be registered: %s", _STATES[state])


_STATES: Final = {
    "waiting": "it waits for the regulator",
    "registered": "it is, as soon as its block has come here",
    "full": "too many wait there already; asking again",
    "refused": "refused, it is an application for another community",
}


class JoiningAddress(NamedTuple):
    """Where a community is entered, and which one it is."""

    address: str
    genesis_hash: bytes

    def __str__(self) -> str:
        return f"{self.address}#{self.genesis_hash.hex()}"


def read_joining_address(text: str) -> JoiningAddress:
    """Read `/ip4/…/p2p/PEER_ID#HASH`. Raises `ConfigError`."""
    address, _, digits = text.strip().partition("#")
    try:
        genesis_hash = bytes.fromhex(digits)
    except ValueError:
        genesis_hash = b""
    if "/p2p/" not in address or len(genesis_hash) != GENESIS_HASH_BYTES:
        raise ConfigError(
            f"{text!r} is no joining address: /ip4/…/tcp/…/p2p/PEER_ID#HASH, as "
            "'commonwatt status' of a neighbour's node prints it, with the # and 64 digits after it"
        )
    return JoiningAddress(address, genesis_hash)


def read_shown(answer: bytes, genesis_hash: bytes) -> Genesis:
    """Return the genesis that a neighbour shows, if it is the one of this hash.

    Raises
    ------
    PeerError
        It is another, or none.
    GenesisError
        This program cannot use it.
    """
    try:
        shown = decode(answer, ShownGenesis, ANSWER_BYTES_MAX).genesis
        genesis = decode(shown, Genesis, GENESIS_BYTES_MAX)
    except WireError as error:
        raise PeerError(f"the neighbour shows no genesis of this version: {error}") from None
    if genesis.hash != genesis_hash:
        raise PeerError(
            f"the neighbour shows another genesis ({genesis.hash.hex()[:16]}…) than the address "
            f"names ({genesis_hash.hex()[:16]}…)"
        )
    genesis.check()
    return genesis
