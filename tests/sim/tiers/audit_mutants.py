"""Seeded bugs of audits, of regions' carbon, and of who leaves (docs/spec/regions.md)."""

from collections.abc import Mapping
from typing import Final

from market.vm import witness
from market.vm.journal import State
from market.vm.witness import WitnessState
from node import auditor, certifier, replay
from tests.sim.tiers.machine import Change
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


def _of_yes(old: str, new: str) -> Mutant:
    """Somebody is content with everything."""
    return Mutant(_audit(old, new), SLANDER, 20, regions=2)


def _of_silence(old: str, new: str) -> Mutant:
    return Mutant(_audit(old, new), "silence,reorder", 20, regions=2)


def _of_fraud(mutation: TierMutation, *others: str) -> Mutant:
    return Mutant(mutation, ",".join(("fraud", "reorder", *others)), 20, regions=2)


def _of_leaving(*contracts: Change) -> Mutant:
    return Mutant(Contracts(*contracts), "leaving,reorder", 30, regions=2)


def _nothing_absent(*_: object) -> None:
    """Whatever is not shown is taken for absent."""


_CONTENT = 'if sender not in duty["drawn"]:'

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
    "A5 folders unproven": _of_slander(
        Patched((WitnessState, "keys_under", State.keys_under)), "A5 listed"
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
    # -- who audits
    "audit: of its own": _of_silence(
        "    others = [number for number in live if number != region]\n", "    others = live\n"
    ),
    "audit: who did not answer": _of_silence("            count_missed(duty)\n", ""),
    "audit: nobody else is asked": _of_silence("if until_ms < now_ms:", "if False:"),
    "audit: anybody": _of_yes(_CONTENT, "if False:"),
    "audit: twice": _of_yes('if sender in duty["content"]:', "if False:"),
    "audit: any record": _of_yes('if number != duty["number"]:', "if False:"),
    "audit: one is enough": _of_yes(
        'if len(duty["content"]) < min(kv_get("rules")["audits_needed"], len(duty["drawn"])):',
        'if len(duty["content"]) < 1:',
    ),
    "audit: nothing is executed": _of_fraud(
        Patched((auditor, "executed", lambda maker, block, parent: maker.believed(block, parent)))
    ),
    # -- what becomes of it
    "fraud is not frozen": _of_fraud(
        _audit('        call("regions", "convict", ', '        emit("convict", ')
    ),
    "fraud keeps its bond": _of_fraud(
        Contracts(("regions", "    money[BOND] = 0\n", "    pass\n"))
    ),
    "fraud once left is free": Mutant(
        Contracts(("regions", 'answers = entry["status"] == "left" and', "answers = False and")),
        "fraud,leaving,reorder",
        30,
    ),
    "accusers need no bond": _of_slander(
        _audit('bond_micro = kv_get("rules")["accuser_bond_micro"]', "bond_micro = 0"),
        "A6 follows",
    ),
    "accusers keep their bond": _of_slander(
        _audit("close_case(sender, case, False)", "close_case(sender, case, True)"), "A6 follows"
    ),
    "accusers wait for their bond": _of_slander(
        _audit("close_case(address, case, not open)", "close_case(address, case, True)"),
        "A1 garbage",
    ),
    "a slanderer stays": _of_slander(
        _audit(
            'duty["drawn"] = [address for address in duty["drawn"] if address != sender]', "pass"
        ),
        "A6 follows",
    ),
    # -- carbon
    "carbon: fed in counts": _of_leaving(
        ("footprint", "emitted_mg = grid_wh *", "emitted_mg = (grid_wh - fed_in_wh) *")
    ),
    "carbon: a slot too many": _of_leaving(("footprint", "slot < p[2]", "slot <= p[2]")),
    "carbon: a slot too few": _of_leaving(("footprint", "p[1] <= slot", "p[1] < slot")),
    "carbon: quotas are forgotten": _of_leaving(
        (
            "footprint",
            "account[ALLOTTED] = account[ALLOTTED] + row[1]",
            "account[ALLOTTED] = row[1]",
        )
    ),
    # -- leaving
    "left and back too early": _of_leaving(
        (
            "regions",
            'if env()["time_ms"] < entry["since_ms"] + kv_get("rules")["hold_ms"]:',
            "if False:",
        )
    ),
    "left and paid twice": _of_leaving(
        ("regions", 'kv_put(number_key("money/", region), [0, 0, 0])', "pass")
    ),
    "left and still anchored": _of_leaving(
        (
            "regions",
            'entry["status"] not in ("live", "halted"):\n        revert("wrong_status", '
            '"region " + str(region) + " is " + entry["status"] + ": no checkpoint',
            'entry["status"] == "frozen":\n        revert("wrong_status", '
            '"region " + str(region) + " is " + entry["status"] + ": no checkpoint',
        )
    ),
    "left and still trades": _of_leaving(
        (
            "regions",
            'if entry != None and entry["status"] == "live" else None',
            "if entry != None else None",
        )
    ),
    "a home leaves and is billed": _of_leaving(("registry", "if until_slot <= slot]", "if False]")),
}
