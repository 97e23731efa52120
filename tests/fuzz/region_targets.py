"""Decoders of what the two tiers show each other, as their contracts call them."""

from functools import lru_cache
from types import SimpleNamespace
from typing import Any, Final

from consensus.checkpoint import Checkpoint, Record, verify_checkpoint
from consensus.errors import CheckpointRefused
from consensus.messages import Header
from consensus.sync_messages import Nothing
from market import proofs
from market.errors import Revert
from market.vm import merkle
from market.vm.executor import Executor
from market.vm.gas import HOOK_CAPS, Meter
from market.vm.host import Host
from market.vm.journal import Journal, State
from market.vm.starlark import StarlarkEngine
from node import certifier
from node.anchoring import AnchorReader, ProveCheckpoint, anchor_view
from node.errors import ControlError, ProofError
from node.poster import QUESTION_BYTES_MAX, GetCheckpoint, read_checkpoint
from tests.fuzz.chain_targets import encoded, known
from tests.fuzz.judge import Target
from tests.fuzz.node_targets import finished
from tests.regions.anchored import Server
from tests.regions.forge import Captured, slot_totals
from wire.codec import decode, encode
from wire.errors import DecodeError

VALUES: Final[dict[str, bytes | None]] = {f"k/{n}": encode({"n": n}) for n in range(20)}


@lru_cache(maxsize=1)
def executor() -> Executor:
    return Executor(StarlarkEngine())


def host() -> Host:
    return Host(Journal(State()), Meter(HOOK_CAPS), executor(), {})


def checkpoint() -> Target:
    region = Captured(1)
    first = region.first(slot_totals(2_000))
    there: list[Checkpoint] = [
        region.checkpoint(first),
        region.checkpoint(region.after(first)),
        region.checkpoint(region.after(first, slot_totals(2_001), slot_totals(2_002))),
    ]

    def accepted(data: bytes) -> tuple[Record, Header]:
        return verify_checkpoint(data, region.set, region.chain_id, certifier.proves)

    return Target(
        "checkpoint", accepted, (CheckpointRefused,), encoded(there),
        check=known([(one.record, one.header) for one in there], _named),
    )  # fmt: skip


def _named(found: tuple[Record, Header]) -> object:
    return encode(found[0]), found[1]


def conflict_report() -> Target:
    region = Captured(1)
    keys = [public.hex() for public in region.set.publics]
    reports = [bytes.fromhex(region.conflict(height)) for height in (5, 6)]

    def accepted(data: bytes) -> Any:
        asked = {"data": data.hex(), "keys": keys, "epoch": 0, "chain_id": region.chain_id}
        return certifier.conflict(host(), "regions", asked)["height"]

    return Target(
        "conflict-report", accepted, (Revert,), tuple(reports), check=known([5, 6], lambda one: one)
    )


def shown_value() -> Target:
    """A value of another chain's state, with the proof behind it."""
    tree = merkle.update(None, VALUES)
    names = ("k/3", "k/17")
    shown = [encode(merkle.prove(tree, name)) for name in names]

    def accepted(data: bytes) -> Any:
        found = []
        for name in names:
            asked = {
                "root": merkle.root_of(tree).hex(),
                "key": name,
                "value": (VALUES[name] or b"").hex(),
                "proof": data.hex(),
            }
            try:
                found.append(proofs.proven(host(), "export", asked))
            except Revert as refused:
                last = refused
        if not found:
            raise last
        return found[0]["n"]

    return Target(
        "shown-value", accepted, (Revert,), tuple(shown), check=known([3, 17], lambda one: one)
    )


def hexadecimal() -> Target:
    """Bytes as transactions carry them: one text for each."""

    def accepted(data: bytes) -> bytes:
        return proofs.bytes_of({"data": data.decode("latin-1")}, "data")

    return Target(
        "hexadecimal", accepted, (Revert,), (b"", b"00ff", b"ab" * 40), kind="text",
        encode=lambda found: found.hex().encode(),
    )  # fmt: skip


def set_of_keys() -> Target:
    """The keys of a set, as a region is registered with: texts in a list, one a line here."""
    region = Captured(1)
    lines = "\n".join(public.hex() for public in region.set.publics)

    def accepted(data: bytes) -> Any:
        asked = {"keys": data.decode("latin-1").split("\n"), "epoch": 0}
        return certifier.set_hash(host(), "regions", asked)

    return Target("set-of-keys", accepted, (Revert,), (lines.encode(),), kind="text")


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


TARGETS: Final = (
    checkpoint,
    conflict_report,
    shown_value,
    hexadecimal,
    set_of_keys,
    get_checkpoint,
    shown_checkpoint,
    prove_checkpoint,
    anchor_proof,
)
