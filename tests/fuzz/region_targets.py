"""Decoders of what the two tiers show each other, as their contracts call them."""

from functools import lru_cache
from typing import Any, Final

from consensus.authorities import AuthoritySet
from consensus.checkpoint import Checkpoint, Record, verify_checkpoint
from consensus.errors import CheckpointRefused
from consensus.messages import Header
from consensus.sync_messages import (
    GetBlocks,
    GetChunk,
    GetHeaders,
    GetManifest,
    GetPath,
    GetStatus,
)
from market import proofs
from market.errors import Revert, WitnessRefused
from market.vm import merkle, witness
from market.vm.executor import Executor
from market.vm.gas import HOOK_CAPS, Meter
from market.vm.host import Host
from market.vm.journal import Journal, State, load
from market.vm.starlark import StarlarkEngine
from node.regions import certifier, replay
from node.regions.replay import FraudProof
from node.regions.showing import GetGenesis, GetInherited, decode_region_question
from tests.fuzz.chain_targets import encoded, known
from tests.fuzz.judge import Target
from tests.regions.forge import Captured, slot_totals
from tests.regions.grid import Region
from wire.codec import encode
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


def state_witness() -> Target:
    """Part of a state: all that it shows must be of the state whose root is known."""
    state = load((key, value) for key, value in VALUES.items() if value is not None)
    folders = state.folder_counts()
    tree = merkle.update(None, state.items | folders)
    touched: tuple[set[str], ...] = ({"k/3"}, {"k/1", "k/none", "/k/"}, {*VALUES, *folders})
    shown = tuple(witness.write(state, tree, keys, {}) for keys in touched)
    true = {*state.items.items(), *folders.items()}

    def accepted(data: bytes) -> Any:
        return witness.read(data, merkle.root_of(tree), {})[0]

    def problem(found: Any, data: bytes) -> str | None:
        false = {*dict.items(found.items)} - true
        return f"shows {min(false)[0]}, which the state does not hold so" if false else None

    return Target(
        "state-witness", accepted, (WitnessRefused,), shown, kind="bytes", check=problem
    )  # fmt: skip


def fraud_proof() -> Target:
    """What an accuser shows, as far as it is looked at before the block is executed."""
    region = Region(1, homes=1)
    block = region.block()
    authorities = AuthoritySet(0, tuple(region.keys))
    proof = FraudProof(region.genesis, region.first, block.block, block.certificate, b"\0")
    other = FraudProof(region.genesis, region.first, block.block, block.certificate, b"\1" * 33)

    def accepted(data: bytes) -> Any:
        return replay.checked(data, authorities, region.chain_id, block.header.height)

    return Target(
        "fraud-proof", accepted, (Revert,), encoded([proof, other]), encode=encode,
        check=known([encode(block.block)], lambda found: encode(found.block)),
    )  # fmt: skip


def region_question() -> Target:
    """What an auditor asks of a region's authority."""
    asked: list[Any] = [GetGenesis(), GetInherited(3), GetStatus(), GetHeaders(1, 5), GetPath(0, 9)]
    asked += [GetBlocks(3, 2), GetManifest(b"\x05" * 32), GetChunk(b"\x05" * 32, 7)]
    return Target(
        "region-question", decode_region_question, (DecodeError,), encoded(asked), encode=encode
    )


TARGETS: Final = (
    *(checkpoint, conflict_report, shown_value, hexadecimal, set_of_keys),
    *(state_witness, fraud_proof, region_question),
)
