"""A home's bill, with its proof: what a node serves, and how a reader checks it trusting no node.

The reader needs the genesis file only. From its authorities a light client follows the certificates
of the epochs' last headers to the newest one; the state root in it proves the home's registration
(and so its number), the list of settled slots, and the bill. A node can serve old truths, which is
why height and time are part of the answer, but no false ones.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, NamedTuple

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
from node.chain import Chain
from node.errors import ControlError, ProofError
from node.genesis import Genesis
from node.sync import Sync
from wire.codec import Message, decode, encode
from wire.errors import DecodeError

ENTRIES_MAX: Final = 8
PROOF_BYTES_MAX: Final = 2 * 1_048_576
# Pages of the way from epoch to epoch, of up to `HEADERS_MAX` each.
PAGES_MAX: Final = 1_024
ATTEMPTS_MAX: Final = 20
ATTEMPT_PAUSE_S: Final = 0.05

Ask = Callable[..., Awaitable[Any]]


class ProvenEntry(Message, frozen=True, tag="entry"):
    """What the state holds at a key (None: nothing), with the proof."""

    key: str
    value: bytes | None
    proof: Proof


class BillProof(Message, frozen=True, tag="bill-proof"):
    """A certified header, and entries of the state after it."""

    signed: SignedHeader
    entries: Annotated[tuple[ProvenEntry, ...], Meta(max_length=ENTRIES_MAX)]


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
    """Serves bills and their proofs from one node's committed state."""

    def __init__(self, chain: Chain, app: Application, sync: Sync) -> None:
        self._chain = chain
        self._app = app
        self._sync = sync

    async def proof(self, address: str, slot: int | None) -> BillProof:
        """Return the proof of a home's bill, or of its absence, against the head.

        Raises
        ------
        ControlError
            There is no block yet, or one follows the other too fast to prove anything.
        """
        for _ in range(ATTEMPTS_MAX):
            header = self._chain.head.header
            if header.height == 0:
                raise ControlError("there is no block yet that could prove anything")
            entries = self._entries(address, slot)
            path = await self._sync.path(header.epoch, header.height)
            # The state may have moved on while it was read: then nothing fits.
            if path and all(
                merkle.verify(header.state_root, entry.key, entry.value, entry.proof)
                for entry in entries
            ):
                return BillProof(path[-1], entries)
            await asyncio.sleep(ATTEMPT_PAUSE_S)
        raise ControlError("the chain moves too fast just now; ask again")

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
    """Checks what a node serves against the genesis, and nothing else."""

    def __init__(self, genesis: Genesis) -> None:
        first = AuthoritySet(0, tuple(genesis.authorities))
        self._light = LightClient(genesis.chain_id, first)

    async def fetch(self, ask: Ask, address: str, slot: int | None) -> ProvenBill:
        """Ask a node for a bill with its proof, and check all of it.

        Parameters
        ----------
        ask : callable
            `await ask(name, **arguments)`: a question on a control socket.
        slot : int or None
            None: the last settled one.

        Raises
        ------
        ControlError
            The node does not answer, or refuses; or the address is proven to be no home.
        ProofError
            What it serves does not prove what it claims.
        """
        served = await ask("bill_proof", address=address, slot=slot)
        try:
            material = decode(_bytes(served), BillProof, PROOF_BYTES_MAX)
            await self._follow(ask, material.signed)
            return self._check(material, address, slot)
        except DecodeError as error:
            raise ProofError(f"what the node serves is malformed: {error}") from None
        except (HeaderRefused, ProofRefused) as error:
            raise ProofError(f"what the node serves proves nothing: {error}") from None

    async def _follow(self, ask: Ask, target: SignedHeader) -> None:
        """Follow the ends of epochs until the set that signed `target` is known, then accept it."""
        light, height = self._light, target.header.height
        for _ in range(PAGES_MAX):
            if target.header.epoch == light.authorities.epoch:
                light.accept(target)
                return
            served = await ask("path", epoch=light.authorities.epoch, height=height)
            answer = decode_answer(_bytes(served))
            if not isinstance(answer, Headers) or not answer.headers:
                raise HeaderRefused(f"no way is shown to header {height}")
            reached = light.height
            for signed in answer.headers:
                if signed.header.height < height:
                    light.accept(signed)
            if light.height == reached:
                raise HeaderRefused(
                    f"the way that is shown to header {height} ends in epoch "
                    f"{light.authorities.epoch}, the header is of epoch {target.header.epoch}"
                )
        raise HeaderRefused(f"the way to header {height} is longer than {PAGES_MAX} pages")

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


def _bytes(served: object) -> bytes:
    try:
        return bytes.fromhex(served) if isinstance(served, str) else b""
    except ValueError:
        return b""


def to_hex(message: BillProof | Headers) -> str:
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
