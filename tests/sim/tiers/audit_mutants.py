"""Seeded bugs of how frauds are judged: rules A1 to A6 (docs/spec/regions.md)."""

from collections.abc import Mapping
from typing import Final

from market.vm import witness
from node.regions import certifier, replay
from tests.sim.tiers.mutation import Contracts, Mutant, Patched, TierMutation, rewritten

SLANDER: Final = "slander,reorder"


def _of_slander(mutation: TierMutation, *lies: str) -> Mutant:
    """Somebody accuses what is right, always in the same way."""
    mutation.lies = lies
    return Mutant(mutation, SLANDER, 20, regions=2)


def _audit(old: str, new: str) -> Contracts:
    return Contracts(("audit", old, new))


def _judging(old: str, new: str) -> Patched:
    """What is checked of a proof before anything is executed, without one of its conditions."""
    return Patched((replay, "checked", rewritten(replay.checked, old, new)))


def _nothing_absent(*_: object) -> None:
    """Whatever is not shown is taken for absent."""


MUTANTS: Final[Mapping[str, Mutant]] = {
    # -- what is shown
    "A1 another proof": _of_slander(
        Patched(
            (
                certifier,
                "_joined",
                rewritten(
                    certifier._joined,
                    '(len(data), digest_of(data)) != (int_of(args, "size"), '
                    'text_of(args, "digest"))',
                    "False",
                ),
            )
        ),
        "A1 other",
    ),
    "A1 parts are kept": _of_slander(
        _audit('    for key in kv_keys("part/" + address + "/"):\n        kv_del(key)\n', ""),
        "A6 follows",
    ),
    "A2 no signatures": _of_slander(
        _judging("verify_certificate(certificate, authorities, chain_id)", "0"), "A2 few signed"
    ),
    "A2 any block": _of_slander(
        _judging(
            "(certificate.height, certificate.block_hash) != (height, header_hash(header))", "False"
        ),
        "A2 nobody signed",
    ),
    "A3 any body": _of_slander(_judging("    if problem:", "    if False:"), "A3 body"),
    "A3 any parent": _of_slander(
        _judging(
            "header.parent_hash != header_hash(parent) or parent.height != height - 1", "False"
        ),
        "A3 parent",
    ),
    "A4 any state": _of_slander(
        Patched(
            (witness, "read", rewritten(witness.read, "merkle.root_of(tree) != root", "False"))
        ),
        "A4 state",
    ),
    "A5 absence unproven": _of_slander(
        Patched((witness, "_check_absent", _nothing_absent)), "A5 hidden"
    ),
    "A6 all is fraud": _of_slander(
        Patched(
            (
                replay,
                "_replay",
                rewritten(
                    replay._replay,
                    'return Verdict(False, "follows"',
                    'return Verdict(True, "follows"',
                ),
            )
        ),
        "A6 follows",
    ),
}
