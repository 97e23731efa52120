"""That a region's record is anchored: what a node serves, and how who trusts no node checks it.

The reader needs the region's genesis only: it names the region's first authorities and the main
chain's. Two light clients follow the certificates of both chains' epochs. The region's proves the
header of the checkpoint, whose state root proves the record; the main chain's proves its own newest
header, whose state root proves which record of that number it has anchored.
"""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, NamedTuple, Protocol

import msgspec
from msgspec import Meta

from consensus.authorities import AuthoritySet
from consensus.checkpoint import RECORD_BYTES_MAX, Checkpoint, Record, record_key
from consensus.errors import HeaderRefused, ProofRefused
from consensus.light import LightClient, SignedHeader
from consensus.messages import header_hash
from consensus.sync_messages import GetPath, Headers, decode_answer, decode_question
from market.app import Application
from market.client import regions
from market.vm import merkle
from node.chain.driver import Chain
from node.chain.sync import Sync
from node.errors import ControlError, GenesisError, ProofError
from node.genesis import Genesis
from node.network.base import Network
from node.proofs.bill import ENTRIES_MAX, PathSource, ProvenEntry, follow
from node.regions.certifier import proves
from node.regions.shelf import Shelf
from wire.codec import Message, decode, decode_plain, encode
from wire.errors import DecodeError

PROTOCOL: Final = "prove-checkpoint"
MAIN_PATH_PROTOCOL: Final = "main-path"
QUESTION_BYTES_MAX: Final = 64
PROOF_BYTES_MAX: Final = 65_536
NUMBER_MAX: Final = 10**9
PROVING_MAX: Final = 8
ATTEMPTS_MAX: Final = 20
ATTEMPT_PAUSE_S: Final = 0.05
_VALUE_BYTES_MAX: Final = 4_096

_REASONS: Final = {
    "unknown": "the node keeps no such checkpoint: it is not closed yet, or long since anchored",
    "no_main": "the node keeps the main chain only from its next block on; ask again",
    "moving": "its main chain moves too fast just now; ask again",
    "busy": "too many ask it at once; ask again",
}


class ProveCheckpoint(Message, frozen=True, tag="prove-checkpoint"):
    """Prove what has become of your region's checkpoint of this number, please."""

    number: Annotated[int, Meta(ge=1, le=NUMBER_MAX)]


class NoAnchor(Message, frozen=True, tag="no-anchor"):
    """There is no proof to be had."""

    reason: Literal["unknown", "no_main", "moving", "busy"]


class AnchorProof(Message, frozen=True, tag="anchor-proof"):
    """A checkpoint, a certified header of the main chain, and entries of the state after that."""

    checkpoint: Checkpoint
    main: SignedHeader
    entries: Annotated[tuple[ProvenEntry, ...], Meta(max_length=ENTRIES_MAX)]


_AnchorAnswer: Any = AnchorProof | NoAnchor


class AnchorSource(PathSource, Protocol):
    """A node of a region that keeps the main chain too, and is trusted in nothing."""

    async def anchor(self, number: int) -> bytes:
        """Return an encoded `AnchorProof` or `NoAnchor`; errors as `path`."""

    async def main_path(self, epoch: int, height: int) -> bytes:
        """Return encoded `Headers` of the main chain; errors as `path`."""


class ProvenAnchor(NamedTuple):
    """A record that a region's quorum has certified, and how the main chain has it.

    `anchored` is the last number that is; `main` is None for a record that is not anchored yet.
    """

    record: Record
    checkpoint: Checkpoint
    signatures: int
    anchored: int
    main: SignedHeader


class Anchors:
    """Serves what has become of a region's checkpoints, to whoever asks.

    Parameters
    ----------
    region, shelf, network : the region's number, its checkpoints, its network before the start
    chain, app, sync : of the main chain
    """

    def __init__(
        self,
        region: int,
        shelf: Shelf,
        network: Network,
        chain: Chain,
        app: Application,
        sync: Sync,
    ) -> None:
        self._region = region
        self._shelf = shelf
        self._chain = chain
        self._app = app
        self._sync = sync
        self._proving = 0
        network.on_request(PROTOCOL, self._answer)
        network.on_request(MAIN_PATH_PROTOCOL, self._answer_path)

    async def _answer(self, peer: str, data: bytes) -> bytes:
        del peer
        return encode(await self.proof(decode(data, ProveCheckpoint, QUESTION_BYTES_MAX).number))

    async def _answer_path(self, peer: str, data: bytes) -> bytes:
        del peer
        question = decode_question(data)
        if not isinstance(question, GetPath):
            raise DecodeError("it is no question for a path")
        return encode(await self.path(question.epoch, question.height))

    async def path(self, epoch: int, height: int) -> Headers:
        """Return the main chain's way from an epoch to a height; see `Sync.path`."""
        return Headers(await self._sync.path(epoch, height))

    async def proof(self, number: int) -> AnchorProof | NoAnchor:
        """Return the proof of how the main chain has a checkpoint."""
        if self._proving >= PROVING_MAX:
            return NoAnchor("busy")
        self._proving += 1
        try:
            return await self._proof(number)
        finally:
            self._proving -= 1

    async def _proof(self, number: int) -> AnchorProof | NoAnchor:
        checkpoint = await self._shelf.get(number)
        if checkpoint is None:
            return NoAnchor("unknown")
        for _ in range(ATTEMPTS_MAX):
            header = self._chain.head.header
            if header.height == 0:
                return NoAnchor("no_main")
            keys = (regions.anchored_key(self._region), regions.root_key(self._region, number))
            app = self._app
            entries = tuple(ProvenEntry(key, app.value(key), app.prove(key)) for key in keys)
            path = await self._sync.path(header.epoch, header.height)
            # The state may have moved on while it was read: then nothing fits.
            if path and all(
                merkle.verify(header.state_root, entry.key, entry.value, entry.proof)
                for entry in entries
            ):
                return AnchorProof(checkpoint, path[-1], entries)
            await asyncio.sleep(ATTEMPT_PAUSE_S)
        return NoAnchor("moving")


class _MainPath:
    """The main chain's way, as a source of the region serves it."""

    def __init__(self, source: AnchorSource) -> None:
        self._source = source

    async def path(self, epoch: int, height: int) -> bytes:
        return await self._source.main_path(epoch, height)


class AnchorReader:
    """Checks what a node serves against a region's genesis, and nothing else.

    Raises
    ------
    GenesisError
        The genesis is none of a region.
    """

    def __init__(self, genesis: Genesis) -> None:
        member = genesis.market.region
        if member is None:
            raise GenesisError(f"chain {genesis.chain_id} is no region: nothing of it is anchored")
        self._region = member.region
        first = AuthoritySet(0, tuple(genesis.authorities))
        self._own = LightClient(genesis.chain_id, first)
        mains = AuthoritySet(0, member.main_authorities)
        self._main = LightClient(member.main_chain_id, mains)

    async def fetch(self, source: AnchorSource, number: int) -> ProvenAnchor:
        """Ask a node for a checkpoint and what has become of it, and check all of it.

        Raises
        ------
        ControlError, PeerError
            The node does not answer, or keeps no such checkpoint.
        ProofError
            What it serves does not prove what it claims; also if the main chain has anchored
            another record of that number.
        """
        served = await source.anchor(number)
        try:
            material = decode(served, _AnchorAnswer, PROOF_BYTES_MAX)
            if isinstance(material, NoAnchor):
                raise ControlError(f"no proof is served: {_REASONS[material.reason]}")
            record = await self._certified(source, material.checkpoint, number)
            await follow(self._main, _MainPath(source), material.main)
            anchored = self._anchored(material, number)
        except DecodeError as error:
            raise ProofError(f"what the node serves is malformed: {error}") from None
        except (HeaderRefused, ProofRefused) as error:
            raise ProofError(f"what the node serves proves nothing: {error}") from None
        signatures = len(material.checkpoint.certificate.signatures)
        return ProvenAnchor(record, material.checkpoint, signatures, anchored, material.main)

    async def _certified(self, source: AnchorSource, checkpoint: Checkpoint, number: int) -> Record:
        """Follow the region's epochs to the checkpoint's header; return the record it proves."""
        header = checkpoint.header
        answer = decode_answer(await source.path(header.epoch, header.height))
        shown = answer.headers[-1] if isinstance(answer, Headers) and answer.headers else None
        if shown is None or header_hash(shown.header) != header_hash(header):
            raise HeaderRefused(f"no way is shown to the region's header {header.height}")
        # The checkpoint's own certificate; from the way only the set that an epoch's end brings.
        target = SignedHeader(header, checkpoint.certificate, shown.next_authorities)
        await follow(self._own, source, target)
        record = decode(checkpoint.record, Record, RECORD_BYTES_MAX)
        if (record.region, record.number) != (self._region, number):
            raise ProofRefused(f"it is checkpoint {record.number} of region {record.region}")
        key = record_key(number)
        if record.to_height != header.height or not proves(
            header.state_root, key, checkpoint.record, checkpoint.proof
        ):
            raise ProofRefused(f"header {header.height} does not prove record {number}")
        return record

    def _anchored(self, material: AnchorProof, number: int) -> int:
        """Return the last anchored number, having seen that a record of `number` is this one."""
        found = {entry.key: entry for entry in material.entries}
        last = self._value(found, regions.anchored_key(self._region))
        anchored = 0 if last is None else int(decode_plain(last, _VALUE_BYTES_MAX)["number"])
        if anchored < number:
            return anchored
        root = self._value(found, regions.root_key(self._region, number))
        if root is None:
            raise ControlError(
                f"checkpoint {number} was anchored too long ago: the main chain keeps what proves "
                f"it of the last {regions.ROOTS_KEPT}, up to {anchored}"
            )
        header = material.checkpoint.header
        shown = [header.state_root.hex(), header.time_ms, header.height]
        if decode_plain(root, _VALUE_BYTES_MAX) != shown:
            raise ProofRefused(f"the main chain has anchored another record {number}")
        return anchored

    def _value(self, found: dict[str, ProvenEntry], key: str) -> bytes | None:
        entry = found.get(key)
        if entry is None:
            raise ProofRefused(f"no proof is served of {key!r}")
        self._main.check_state(key, entry.value, entry.proof, merkle.verify)
        return entry.value


def anchor_view(proven: ProvenAnchor) -> dict[str, Any]:
    """Return a proven record as a plain map for people's programs."""
    record, header = proven.record, proven.checkpoint.header
    main = proven.main
    return {
        "region": record.region,
        "number": record.number,
        "from_height": record.from_height,
        "to_height": record.to_height,
        # They are encoded as lists, and told with their names.
        "slots": [msgspec.structs.asdict(slot) for slot in record.slots],
        "record_hash": record.hash,
        "finality": "anchored" if proven.anchored >= record.number else "regional",
        "certificate": {
            "chain_id": header.chain_id,
            "height": header.height,
            "time_ms": header.time_ms,
            "block_hash": header_hash(header).hex(),
            "epoch": header.epoch,
            "signatures": proven.signatures,
        },
        "main": {
            "chain_id": main.header.chain_id,
            "height": main.header.height,
            "time_ms": main.header.time_ms,
            "time": f"{datetime.fromtimestamp(main.header.time_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}",
            "block_hash": main.certificate.block_hash.hex(),
            "epoch": main.header.epoch,
            "signatures": len(main.certificate.signatures),
            "last_anchored": proven.anchored,
        },
    }
