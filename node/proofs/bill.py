"""A home's bill, with its proof: what a node serves, and how a reader checks it trusting no node.

The reader needs the genesis file only. From its authorities a light client follows the certificates
of the epochs' last headers to the newest one; the state root in it proves the home's registration
(and so its number), the list of settled slots, and the bill. A node can serve old truths, which is
why the reader takes none before a given time, but no false ones. How the reader comes to a node is
`node.proofs.light`'s.
"""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, NamedTuple, Protocol

import msgspec
from msgspec import Meta

from consensus.authorities import AuthoritySet
from consensus.errors import HeaderRefused, ProofRefused
from consensus.light import LightClient, SignedHeader
from consensus.sync_messages import Headers, decode_answer
from market import client
from market.app import Application
from market.vm import merkle
from market.vm.merkle import Proof
from node.chain.driver import Chain
from node.chain.sync import Sync
from node.errors import ControlError, ProofError
from node.genesis import Genesis
from node.network.base import Network
from wire.codec import Message, decode, encode
from wire.errors import DecodeError
from wire.keys import is_address

PROTOCOL: Final = "prove"
QUESTION_BYTES_MAX: Final = 128
SLOT_MAX: Final = 10**9
ENTRIES_MAX: Final = 8
PROOF_BYTES_MAX: Final = 2 * 1_048_576
# Proofs being made at once, whoever asks; each reads some keys and a block's header.
PROVING_MAX: Final = 16
# Pages of the way from epoch to epoch, of up to `HEADERS_MAX` each.
PAGES_MAX: Final = 1_024
ATTEMPTS_MAX: Final = 20
ATTEMPT_PAUSE_S: Final = 0.05

_REASONS: Final = {
    "no_block": "it has no block yet that could prove anything",
    "moving": "its chain moves too fast just now; ask again",
    "busy": "too many ask it at once; ask again",
}


class ProveBill(Message, frozen=True, tag="prove-bill"):
    """Prove a home's bill, please; `slot` None: of the last settled slot. Asked of a neighbour."""

    address: str
    slot: Annotated[int, Meta(ge=0, le=SLOT_MAX)] | None

    def __post_init__(self) -> None:
        if not is_address(self.address):
            raise ValueError("not an account address: cw and 40 hexadecimal digits")


class Unproven(Message, frozen=True, tag="unproven"):
    """There is no proof to be had just now."""

    reason: Literal["no_block", "moving", "busy"]


class ProvenEntry(Message, frozen=True, tag="entry"):
    """What the state holds at a key (None: nothing), with the proof."""

    key: str
    value: bytes | None
    proof: Proof


class BillProof(Message, frozen=True, tag="bill-proof"):
    """A certified header, and entries of the state after it."""

    signed: SignedHeader
    entries: Annotated[tuple[ProvenEntry, ...], Meta(max_length=ENTRIES_MAX)]


_ProofAnswer: Any = BillProof | Unproven


class PathSource(Protocol):
    """A node that is asked for the way to a header, and trusted in nothing."""

    async def path(self, epoch: int, height: int) -> bytes:
        """Return encoded `Headers` from an epoch to a height, by the node's word.

        Raises `ControlError` or `PeerError` if there is no answer.
        """


class Source(PathSource, Protocol):
    """A node that is asked for bills."""

    async def proof(self, address: str, slot: int | None) -> bytes:
        """Return an encoded `BillProof` or `Unproven`; errors as `path`."""


class ProvenBill(NamedTuple):
    """A bill as of a block; `slot` and `bill` are None where no slot has been settled."""

    home: client.Home
    slot: int | None
    bill: client.Bill | None
    height: int
    time_ms: int
    block_hash: bytes
    epoch: int
    signatures: int


# -- serving


class Bills:
    """Serves bills and their proofs from one node's committed state, to whoever asks.

    Who asks over the network need not be known; as every peer's, its requests have a budget.
    """

    def __init__(self, chain: Chain, app: Application, sync: Sync, network: Network) -> None:
        self._chain = chain
        self._app = app
        self._sync = sync
        self._proving = 0
        network.on_request(PROTOCOL, self._answer)

    async def _answer(self, peer: str, data: bytes) -> bytes:
        del peer
        question = decode(data, ProveBill, QUESTION_BYTES_MAX)
        return encode(await self.proof(question.address, question.slot))

    async def proof(self, address: str, slot: int | None) -> BillProof | Unproven:
        """Return the proof of a home's bill, or of its absence, against the head."""
        if self._proving >= PROVING_MAX:
            return Unproven("busy")
        self._proving += 1
        try:
            return await self._proof(address, slot)
        finally:
            self._proving -= 1

    async def _proof(self, address: str, slot: int | None) -> BillProof | Unproven:
        for _ in range(ATTEMPTS_MAX):
            header = self._chain.head.header
            if header.height == 0:
                return Unproven("no_block")
            entries = self._entries(address, slot)
            path = await self._sync.path(header.epoch, header.height)
            # The state may have moved on while it was read: then nothing fits.
            if path and all(
                merkle.verify(header.state_root, entry.key, entry.value, entry.proof)
                for entry in entries
            ):
                return BillProof(path[-1], entries)
            await asyncio.sleep(ATTEMPT_PAUSE_S)
        return Unproven("moving")

    async def path(self, epoch: int, height: int) -> Headers:
        """Return the way from an epoch to a height; see `Sync.path`."""
        return Headers(await self._sync.path(epoch, height))

    def _entries(self, address: str, slot: int | None) -> tuple[ProvenEntry, ...]:
        home = self._entry(client.home_key(address))
        settled = self._entry(client.SETTLED_KEY)
        if home.value is None or settled.value is None:
            return home, settled
        if slot is None:
            slots = client.read_settled(settled.value)
            if not slots:
                return home, settled
            slot = slots[-1]
        number = client.read_home(home.value).number
        return home, settled, self._entry(client.bill_key(slot, number))

    def _entry(self, key: str) -> ProvenEntry:
        return ProvenEntry(key, self._app.value(key), self._app.prove(key))


# -- checking


class BillReader:
    """Checks what a node serves against the genesis, and nothing else.

    Parameters
    ----------
    genesis : Genesis
    not_before_ms : int
        A proof by a block before this is refused, however true it was. [ms, UTC]
    """

    def __init__(self, genesis: Genesis, not_before_ms: int = 0) -> None:
        first = AuthoritySet(0, tuple(genesis.authorities))
        self._light = LightClient(genesis.chain_id, first)
        self._not_before_ms = not_before_ms

    async def fetch(self, source: Source, address: str, slot: int | None) -> ProvenBill:
        """Ask a node for a bill with its proof, and check all of it.

        Parameters
        ----------
        source : Source
        address : str
            The home's account.
        slot : int or None
            None: the last settled one.

        Raises
        ------
        ControlError, PeerError
            The node does not answer, or cannot; or the address is proven to be no home.
        ProofError
            What it serves does not prove what it claims, or is too old.
        """
        served = await source.proof(address, slot)
        try:
            material = decode(served, _ProofAnswer, PROOF_BYTES_MAX)
            if isinstance(material, Unproven):
                raise ControlError(f"no proof is served: {_REASONS[material.reason]}")
            await follow(self._light, source, material.signed)
            self._check_age()
            return self._check(material, address, slot)
        except DecodeError as error:
            raise ProofError(f"what the node serves is malformed: {error}") from None
        except (HeaderRefused, ProofRefused) as error:
            raise ProofError(f"what the node serves proves nothing: {error}") from None

    def _check_age(self) -> None:
        head = self._light.head
        if head is None or head.time_ms >= self._not_before_ms:
            return
        shown, wanted = (
            f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
            for time_ms in (head.time_ms, self._not_before_ms)
        )
        raise ProofError(
            f"what the node serves is too old: block {head.height} of {shown}, wanted is one of "
            f"{wanted} or later; the node is behind or hides what is newer, or the chain rests"
        )

    def _check(self, material: BillProof, address: str, slot: int | None) -> ProvenBill:
        head = self._light.head
        if head is None:
            raise HeaderRefused("no header is certified")
        found = {entry.key: entry for entry in material.entries}
        registration = self._value(found, client.home_key(address))
        if registration is None:
            raise ControlError(f"{address} is no home of this chain, as of block {head.height}")
        certificate = material.signed.certificate
        try:
            home = client.read_home(registration)
            settled = client.read_settled(self._value(found, client.SETTLED_KEY) or b"")
            if slot is None and settled:
                slot = settled[-1]
            bill = None
            if slot is not None:
                value = self._value(found, client.bill_key(slot, home.number))
                bill = client.read_bill(value) if value is not None else None
        except msgspec.ValidationError as error:
            raise ProofError(
                f"the certified state cannot be read by this version: {error}"
            ) from None
        return ProvenBill(
            home,
            slot,
            bill,
            head.height,
            head.time_ms,
            certificate.block_hash,
            head.epoch,
            len(certificate.signatures),
        )

    def _value(self, found: dict[str, ProvenEntry], key: str) -> bytes | None:
        entry = found.get(key)
        if entry is None:
            raise ProofRefused(f"no proof is served of {key!r}")
        self._light.check_state(key, entry.value, entry.proof, merkle.verify)
        return entry.value


async def follow(light: LightClient, source: PathSource, target: SignedHeader) -> None:
    """Follow the ends of epochs until the set that signed `target` is known, then accept it.

    Raises
    ------
    ControlError, PeerError
        The node does not answer.
    HeaderRefused
        It shows no way.
    """
    height = target.header.height
    for _ in range(PAGES_MAX):
        epoch = light.authorities.epoch
        if target.header.epoch == epoch:
            light.accept(target)
            return
        answer = decode_answer(await source.path(epoch, height))
        if isinstance(answer, Headers):
            for signed in answer.headers:
                if signed.header.height < height:
                    light.accept(signed)
        if light.authorities.epoch == epoch:
            raise HeaderRefused(f"no way is shown from epoch {epoch} to header {height}")
    raise HeaderRefused(f"the way to header {height} is longer than {PAGES_MAX} pages")


def to_hex(message: Message) -> str:
    """Return a message as a control socket's answer carries it."""
    return encode(message).hex()


def bill_view(proven: ProvenBill) -> dict[str, Any]:
    """Return a proven bill as the plain map that the question `bill` answers, with its proof."""
    return {
        "home": msgspec.to_builtins(proven.home),
        "slot": proven.slot,
        "bill": msgspec.to_builtins(proven.bill),
        "proof": {
            "height": proven.height,
            "time_ms": proven.time_ms,
            "block_hash": proven.block_hash.hex(),
            "epoch": proven.epoch,
            "signatures": proven.signatures,
        },
    }
