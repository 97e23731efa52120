"""Decoders of checkpoints that authorities show each other, and of proofs of their anchoring."""

from types import SimpleNamespace
from typing import Any, Final

from consensus.sync_messages import Nothing
from node.errors import ConfigError, ControlError, ProofError
from node.proofs.anchoring import AnchorReader, ProveCheckpoint, anchor_view
from node.regions.poster import QUESTION_BYTES_MAX, GetCheckpoint, read_checkpoint
from node.regions.registration import keys_of, proofs_of
from tests.fuzz.chain_targets import encoded
from tests.fuzz.judge import Target
from tests.fuzz.node_targets import finished
from tests.regions.anchored import Server
from tests.regions.forge import Captured, slot_totals
from wire.codec import decode, encode
from wire.errors import DecodeError


def get_checkpoint() -> Target:
    questions = (GetCheckpoint(1), GetCheckpoint(10**9))

    def asked(data: bytes) -> GetCheckpoint:
        return decode(data, GetCheckpoint, QUESTION_BYTES_MAX)

    return Target(
        "get-checkpoint", asked, (DecodeError,), tuple(map(encode, questions)), encode=encode
    )


def shown_checkpoint() -> Target:
    """What an authority answers who was asked for a checkpoint; it is verified like any other."""
    region = Captured(1)
    there = [region.checkpoint(region.first(slot_totals(2_000))), Nothing()]
    return Target(
        "shown-checkpoint", read_checkpoint, (DecodeError,), encoded(there), encode=encode
    )


def prove_checkpoint() -> Target:
    questions = (ProveCheckpoint(1), ProveCheckpoint(10**9))

    def asked(data: bytes) -> ProveCheckpoint:
        return decode(data, ProveCheckpoint, QUESTION_BYTES_MAX)

    return Target(
        "prove-checkpoint", asked, (DecodeError,), tuple(map(encode, questions)), encode=encode
    )


def anchor_proof() -> Target:
    server = Server()
    reader = AnchorReader(server.genesis)
    true = anchor_view(finished(reader.fetch(server, 2)))

    def proven(data: bytes) -> Any:
        async def anchor(number: int) -> bytes:
            return data

        source: Any = SimpleNamespace(anchor=anchor, path=server.path, main_path=server.main_path)
        return anchor_view(finished(AnchorReader(server.genesis).fetch(source, 2)))

    def same(found: Any, data: bytes) -> str | None:
        # Another quorum of the same set may have signed; nothing else can differ.
        del data
        told = found | {
            chain: found[chain] | {"signatures": true[chain]["signatures"]}
            for chain in ("certificate", "main")
        }
        return None if told == true else f"proves {found}"

    good = encode(server.proof(2))
    # Two chains' certificates are checked, of five headers.
    return Target(
        "anchor-proof", proven, (ProofError, ControlError), (good,), check=same, cpu_s_max=0.02
    )


def possession_proof() -> Target:
    """An authority's proof, or its key, as text, for whoever registers its region."""
    true = {bytes(range(32)): bytes(64)}
    good = "=".join(part.hex() for part in next(iter(true.items())))

    def read(data: bytes) -> dict[bytes, bytes] | list[bytes]:
        text = data.decode("latin-1")
        return proofs_of([text]) if "=" in text else keys_of([text])

    seeds = (good.encode(), good[:64].encode())
    return Target("possession-proof", read, (ConfigError,), seeds, kind="text")


TARGETS: Final = (
    get_checkpoint,
    shown_checkpoint,
    prove_checkpoint,
    anchor_proof,
    possession_proof,
)
