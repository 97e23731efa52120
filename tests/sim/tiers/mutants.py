"""Seeded bugs between the tiers: one for each rule of docs/spec/regions.md, and of posters.

Those of contracts are changes of their text, those of M1 to M5 of the text of one function; those
of how frauds are judged (A1 to A6) stand in `audit_mutants.py`.
"""

from collections.abc import Mapping
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final

import msgspec

from consensus import checkpoint, light
from consensus.authorities import AuthoritySet
from consensus.light import LightClient, SignedHeader
from consensus.wal import WalRecord
from market import proofs
from market.client import Call
from market.vm import merkle
from node.regions import certifier
from node.regions.due import Proven, Standing
from tests.sim import keys
from tests.sim.tiers import audit_mutants
from tests.sim.tiers.grid import GridResult, run_grid
from tests.sim.tiers.machine import Change
from tests.sim.tiers.mutation import Contracts, Mutant, Patched, TierMutation, rewritten
from tests.sim.tiers.poster import Poster

if TYPE_CHECKING:
    from tests.sim.node import SimNode
    from tests.sim.tiers.chains import TierState
    from tests.sim.tiers.node import TierNode


def _anchor(old: str, new: str = "False") -> TierMutation:
    return Contracts(("anchor", old, new))


def _unchecked(old: str, new: str = "False") -> TierMutation:
    """`verify_checkpoint` without one of its conditions."""
    mutant = rewritten(checkpoint.verify_checkpoint, old, new)
    return Patched((certifier, "verify_checkpoint", partial(mutant, verifier=keys.verify)))


def _any_spelling(data: bytes) -> checkpoint.Checkpoint:
    return msgspec.msgpack.decode(data, type=checkpoint.Checkpoint)


def _any_signature(public: bytes, message: bytes, signature: bytes) -> bool:
    return True


def _any_next_set(signed: SignedHeader, authorities: AuthoritySet) -> AuthoritySet:
    return signed.next_authorities or authorities


# -- posters


class _NewestOnly(Poster):
    """Posts the newest, whatever is next."""

    def calls_on_main(self, node: "TierNode", standing: Standing) -> list[Call]:
        newest = max(node.database.checkpoints, default=0)
        ahead = standing._replace(anchored=max(standing.anchored, newest - 1))
        return super().calls_on_main(node, ahead)


class _ForgetsSets(Poster):
    """Posts records and no sets."""

    def calls_on_main(self, node: "TierNode", standing: Standing) -> list[Call]:
        calls = super().calls_on_main(node, standing)
        return [call for call in calls if call.entry != "rotate"]


class _GivesUp(Poster):
    """Posts what is due once, and never again."""

    def is_turn(self, node: "TierNode", tier: str, due: int) -> bool:
        known = node.due.get(tier)
        if known is not None and known[0] == due and known[2] is not None:
            return False
        return super().is_turn(node, tier, due)


class _OnlyTheFirst(Poster):
    """Leaves it all to one seat."""

    def is_turn(self, node: "TierNode", tier: str, due: int) -> bool:
        return node.slot == 0 and super().is_turn(node, tier, due)


class _NeverClaims(Poster):
    """Leaves its region in the dark about its offers."""

    def calls_in_region(self, node: "TierNode", proven: Proven, main: "TierState") -> list[Call]:
        return []


class _PosterMutation(TierMutation):
    def __init__(self, poster: type[Poster]) -> None:
        self.poster = poster


class _KeptInMemory(TierMutation):
    """Checkpoints are gone with the process that made them."""

    def opened(self, node: "SimNode", records: list[WalRecord]) -> None:
        super().opened(node, records)
        node.database.checkpoints = {}  # type: ignore[attr-defined]


def _of_captured(mutation: TierMutation, seeds: int = 60) -> Mutant:
    return Mutant(mutation, "captured,reorder", seeds)


def _of_forgers(mutation: TierMutation) -> Mutant:
    return Mutant(mutation, "forgery,epochs,reorder")


def _of_traders(*contracts: Change) -> Mutant:
    return Mutant(Contracts(*contracts), "forgery,reorder", 30, regions=2)


def _any_proof() -> TierMutation:
    """`vm.proven` believes every value."""
    believing = SimpleNamespace(**(vars(merkle) | {"verify": lambda *args: True}))
    return Patched((proofs, "merkle", believing))


MUTANTS: Final[Mapping[str, Mutant]] = {
    "M1 any spelling": _of_captured(Patched((checkpoint, "_decoded", _any_spelling))),
    "M2 any chain": _of_captured(
        _unchecked("(header.version, header.chain_id) != (PROTOCOL_VERSION, chain_id)")
    ),
    "M2 any region": _of_captured(_anchor('found["region"] != region')),
    "M3 any set": _of_captured(
        _unchecked(
            "(header.epoch, header.authorities_hash) != (authorities.epoch, authorities.hash)"
        )
    ),
    "M4 no signatures": _of_captured(
        _unchecked("verify_certificate(certificate, authorities, chain_id, verifier=verifier)", "0")
    ),
    "M4 any block": _of_captured(
        _unchecked(
            "certificate.height != header.height or certificate.block_hash != header_hash(header)"
        )
    ),
    "M5 any record": _of_captured(_unchecked("not prover(", "False and prover(")),
    "M5 any height": _of_captured(_unchecked("record.to_height != header.height")),
    "M6 number": _of_captured(_anchor('found["number"] != before["number"] + 1 or ', "")),
    "M6 height": _of_captured(_anchor('found["from_height"] != before["to_height"] + 1')),
    "M6 backwards": _of_captured(
        _anchor(
            'found["to_height"] < found["from_height"] or found["time_ms"] <= before["header_ms"]'
        )
    ),
    "M7 any past": _of_captured(_anchor('found["previous"] != before["record_hash"]')),
    "M8 after its epoch": _of_captured(
        _anchor('chain["last_height"] > 0 and found["to_height"] > chain["last_height"]')
    ),
    "M8 before its epoch": _of_captured(_anchor('found["to_height"] <= chain["begins_above"]')),
    "M9 known slots": _of_captured(_anchor("known[i] != None or ", "")),
    "M9 at once": _of_captured(_anchor("slot in seen or ", "")),
    "M10 energy": _of_captured(_anchor('row["import_wh"] - row["export_wh"] != legs_wh')),
    "M10 money": _of_captured(_anchor('row["net_micro"] != legs')),
    "M11 sums": _of_captured(_anchor("found[name] < before[name]")),
    "M11 heads": _of_captured(_anchor('found[name + "_head"] != before[name + "_head"]')),
    "M12 negative": _of_captured(_anchor('found["minted_micro"] < found["redeemed_micro"]')),
    "S2 any next set": _of_forgers(Patched((light, "_following_set", _any_next_set))),
    "F1 no signatures": _of_forgers(
        Patched((certifier, "LightClient", partial(LightClient, verifier=_any_signature)))
    ),
    "F1 old headers": _of_forgers(
        Contracts(
            (
                "export",
                'found["height"] <= main["height"] or found["time_ms"] <= main["time_ms"]',
                "False",
            )
        )
    ),
    "F2 any proof": _of_forgers(_any_proof()),
    "F3 any record": _of_captured(
        Contracts(
            (
                "export",
                'call("vm", "value_hash", {"key": record_key(number)}) != found["record_hash"]',
                "False",
            )
        )
    ),
    "M13 any trades": _of_captured(
        Contracts(
            ("exchange", "if not nothing and not known and slot_number >= first:", "if False:")
        )
    ),
    "X5 any escrow": Mutant(
        Contracts(
            ("exchange", "if wh * rate > left_micro * 1000:", "if False:"),
            ("regions", "if paid_micro > money[ESCROW]:", "if False:"),
        ),
        "captured,reorder",
        30,
        regions=2,
    ),
    "X7 claimed again": _of_traders(
        ("export", 'if entry["status"] == "claimed":', "if False:"),
    ),
    "X8 without a proof": _of_traders(
        ("export", 'call("vm", "absent", {"root": root, "key": key, "proof": absence})', "pass"),
    ),
    "conflict not frozen": _of_captured(
        Contracts(("regions", 'change_status(entry, "frozen", reason)', "pass"))
    ),
    "frozen still anchored": _of_captured(
        Contracts(("regions", 'entry["status"] not in ("live", "halted"):', "False:"))
    ),
    "bond kept": _of_captured(Contracts(("regions", "    money[BOND] = 0\n", "    pass\n"))),
    "posts out of order": Mutant(_PosterMutation(_NewestOnly), "cuts,reorder", 20),
    "forgets rotation": Mutant(_PosterMutation(_ForgetsSets), "epochs,reorder", 20),
    "gives up after refusal": Mutant(_PosterMutation(_GivesUp), "loss,halts,crashes,cuts", 20),
    "leaves it to one": Mutant(_PosterMutation(_OnlyTheFirst), "crashes,drops", 40),
    "never claims": Mutant(_PosterMutation(_NeverClaims), "reorder", 20, regions=2),
    "checkpoints in memory": Mutant(_KeptInMemory(), "halts,crashes,cuts", 40),
    **audit_mutants.MUTANTS,
}


def hunt(name: str) -> GridResult | None:
    """Run the seeds that should find a mutant; return the first run that does."""
    mutant = MUTANTS[name]
    for seed in range(1, mutant.seeds + 1):
        result = run_grid(seed, mutant.nodes, mutant.regions, mutant.mutation, mutant.kind)
        if result.violation:
            return result
    return None
