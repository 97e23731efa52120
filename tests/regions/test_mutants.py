"""Each rule of anchoring taken out once: what it alone refuses is then accepted."""

import pytest

from market import contracts
from tests.regions.forge import Captured, slot_totals
from tests.regions.grid import Main
from tests.regions.test_anchor import SLOT, WRONG, WRONG_SLOTS

# What stands in anchor.star, what is put there, and which wrong checkpoints then pass.
MUTANTS: dict[str, tuple[str, str, set[str]]] = {
    "M2": ('found["region"] != region', "False", {"of another region"}),
    "M6 number": ('found["number"] != before["number"] + 1 or ', "", {"a number left out"}),
    "M6 height": (
        'found["from_height"] != before["to_height"] + 1',
        "False",
        {"a height left out", "a height twice"},
    ),
    "M6 backwards": (
        'found["to_height"] < found["from_height"] or found["time_ms"] <= before["header_ms"]',
        "False",
        {"backwards"},
    ),
    "M7": ('found["previous"] != before["record_hash"]', "False", {"on another past"}),
    "M9 known": ("known[i] != None or ", "", {"settled before"}),
    "M9 window": (
        ' or slot <= before["newest_slot"] - SLOTS_KEPT',
        "",
        {"settled long before"},
    ),
    "M9 at once": ("slot in seen or ", "", {"twice at once"}),
    "M10 energy": (
        'row["import_wh"] - row["export_wh"] != legs_wh',
        "False",
        {"energy from nowhere", "energy to nowhere"},
    ),
    "M10 money": ('row["net_micro"] != legs', "False", {"money from nowhere", "a fee kept"}),
    "M11 sums": (
        "found[name] < before[name]",
        "False",
        {"mail undone", "claims undone", "money unminted", "money back"},
    ),
    "M11 heads": (
        'found[name + "_head"] != before[name + "_head"]',
        "False",
        {"another outbox", "another inbox"},
    ),
    "M12": ('found["minted_micro"] < found["redeemed_micro"]', "False", {"a negative balance"}),
}


def accepted() -> set[str]:
    """Return which of the wrong checkpoints a main chain takes, each after the same first one."""
    passed = set()
    cases = {name: (changes, ()) for name, (changes, _) in WRONG.items()}
    cases |= {name: ({}, rows) for name, (rows, _) in WRONG_SLOTS.items()}
    region = Captured(1)
    main = Main([region.sponsor])
    main.admit(region)
    full = {"outbox_count": 3, "inbox_count": 2}
    first = region.first(slot_totals(SLOT), slot_totals(8_005), **full)
    assert main.anchor(region, region.checkpoint(first)).code == "ok"
    for name, (changes, rows) in cases.items():
        record = region.after(first, *(slot_totals(**row) for row in rows), **changes)
        # Each on its own: the block is executed and not committed.
        tx = main.call(*region.post(region.checkpoint(record)))
        env = main.env()
        if main.app.execute(env, [tx]).receipts[0].code == "ok":
            passed.add(name)
    return passed


def test_nothing_wrong_passes_the_contract_as_it_is() -> None:
    assert accepted() == set()


def accepted_without(name: str) -> set[str]:
    """Return which wrong checkpoints pass without a rule."""
    old, new, _ = MUTANTS[name]
    source = contracts.source
    assert source("anchor").count(old) == 1, old

    def mutated(wanted: str) -> str:
        text = source(wanted)
        return text.replace(old, new) if wanted == "anchor" else text

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contracts, "source", mutated)
        return accepted()


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_without_a_rule_what_it_refuses_passes(name: str) -> None:
    assert accepted_without(name) == MUTANTS[name][2]
