"""Each rule of sealed orders (docs/spec/market.md, E1 to E14) taken out once: its test notices."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from market.errors import InvariantError
from tests.market import test_sealed as tests
from tests.market.mutated import mutate

SPEC: Final = Path(__file__).parents[2] / "docs" / "spec" / "market.md"
refused = tests.test_refused
unfit = tests.test_orders_that_do_not_fit_are_refused_and_cost_the_margin

# Which contract, what stands there, what is put there, and which test then fails.
MUTANTS: Final[dict[str, tuple[str, str, str, Callable[[], None]]]] = {
    "E1 orders in the open": (
        "market",
        '    if rules["sealed"]:\n        revert("sealed_market", "orders are sealed here',
        '    if False:\n        revert("sealed_market", "orders are sealed here',
        partial(refused, "an open order"),
    ),
    "E1 rounds before the gate": (
        "market",
        'if kv_get("rules")["sealed"]:',
        "if False:",
        tests.test_no_round_is_dated_before_the_gate,
    ),
    "E2 after the gate": (
        "market",
        '    need_sealed()\n    now = env()\n    rules = kv_get("rules")\n'
        "    check_gate(rules, now, slot)",
        '    need_sealed()\n    now = env()\n    rules = kv_get("rules")',
        partial(refused, "past the gate"),
    ),
    "E2 by anybody": (
        "sealed",
        "def commit_order(slot, digest, margin_micro):\n"
        '    now = env()\n    rules = kv_get("rules")\n'
        '    home = call("registry", "trader", {"address": now["sender"]})',
        "def commit_order(slot, digest, margin_micro):\n"
        '    now = env()\n    rules = kv_get("rules")\n'
        '    home = {"number": 1}',
        tests.test_strangers_and_meters_commit_to_nothing,
    ),
    "E2 with a bad record": (
        "market",
        "    check_gate(rules, now, slot)\n"
        '    audit_record(rules, now, kv_get("home/" + str(home)))\n'
        '    if kv_get("slot/" + str(slot)) == None:',
        "    check_gate(rules, now, slot)\n"
        '    if kv_get("slot/" + str(slot)) == None:',
        tests.test_who_has_too_much_unsettled_commits_to_nothing,
    ),
    "E3": (
        "sealed",
        "if kv_get(key) != None:",
        "if False:",
        partial(refused, "twice"),
    ),
    "E4": (
        "sealed",
        'if (counts[0] + 1) * rules["orders_per_home_max"] > rules["orders_per_slot_max"]:',
        "if False:",
        tests.test_a_slot_has_room_for_all_that_is_committed_to,
    ),
    "E5": (
        "sealed",
        'call("ledger", "lock", {"address": now["sender"], "amount_micro": margin_micro})',
        "pass",
        partial(refused, "more than there is"),
    ),
    "E6 after the gate": (
        "sealed",
        'if gate_ms(rules, slot) <= now["market_ms"]:',
        "if False:",
        partial(refused, "withdraw too late"),
    ),
    "E6 the margin stays": (
        "sealed",
        'call("ledger", "unlock", {"address": found[1], "amount_micro": found[3]})',
        "pass",
        tests.test_before_the_gate_it_is_taken_back_and_committed_anew,
    ),
    "E6 what is taken back is waited for": (
        "sealed",
        "    if counts[0] == 1:\n        forget(slot)\n    else:\n"
        '        kv_put("slot/" + str(slot), [counts[0] - 1, counts[1]])',
        "    if counts[0] == 1:\n        forget(slot)",
        tests.test_what_one_takes_back_the_others_do_not_wait_for,
    ),
    "E7": (
        "sealed",
        'if now["market_ms"] < closes_ms:',
        "if False:",
        partial(refused, "reveal too early"),
    ),
    "E8": (
        "sealed",
        'if now["market_ms"] >= closes_ms + rules["reveal_ms"]:',
        "if False:",
        partial(refused, "reveal too late"),
    ),
    "E9 any orders": (
        "sealed",
        'if base64url(sha256(preimage(slot, now["sender"], orders, salt))) != found[2]:',
        "if False:",
        partial(refused, "another price"),
    ),
    "E9 any account": (
        "sealed",
        '"/" + address + "/" + salt',
        '"/" + salt',
        tests.test_the_digest_is_that_of_the_page,
    ),
    "E9 any slot": (
        "sealed",
        'DOMAIN + "/" + str(slot) + "/"',
        'DOMAIN + "/"',
        tests.test_the_digest_is_that_of_the_page,
    ),
    "E9 any salt": (
        "sealed",
        '+ "/" + address + "/" + salt',
        '+ "/" + address',
        tests.test_the_digest_is_that_of_the_page,
    ),
    "E9 any price": (
        "sealed",
        '" " + str(energy_wh) + " " + str(price)',
        '" " + str(energy_wh)',
        tests.test_the_digest_is_that_of_the_page,
    ),
    "E9 any terms": (
        "sealed",
        '" " + str(green) + " "',
        '" "',
        tests.test_terms_are_sealed_with_the_rest,
    ),
    "E9 two lists, one text": (
        "sealed",
        '        if order[0] not in ("buy", "sell"):\n'
        '            revert("bad_argument", "side must be buy or sell")\n',
        "",
        partial(refused, "a side that says more"),
    ),
    "E9 a salt that says more": (
        "sealed",
        'expect_base64url("salt", salt, SALT_CHARS)',
        "pass",
        partial(refused, "no salt"),
    ),
    "E10 more than put aside": (
        "sealed",
        "if needed > found[3]:",
        "if False:",
        partial(unfit, "more than the margin"),
    ),
    "E10 nothing returns": (
        "sealed",
        'call("ledger", "unlock", {"address": now["sender"], "amount_micro": found[3] - needed})',
        "pass",
        tests.test_a_slot_is_cleared_in_the_block_of_the_last_reveal,
    ),
    "E11 unaudited": (
        "market",
        "    audit(rules, home, side, energy_wh, own, round_now)\n    margin =",
        "    margin =",
        partial(unfit, "over the capability"),
    ),
    "E11 of a consumer": (
        "market",
        'if side == "sell" and home["role"] == "consumer":\n'
        '        revert("wrong_role", "a consumer only buys; prosumers',
        'if False:\n        revert("wrong_role", "a consumer only buys; prosumers',
        tests.test_a_consumer_cannot_reveal_a_sale,
    ),
    "E12 not with the last": (
        "sealed",
        "if counts[0] == counts[1]:",
        "if False:",
        tests.test_a_slot_is_cleared_in_the_block_of_the_last_reveal,
    ),
    "E12 with the first": (
        "sealed",
        "if counts[0] == counts[1]:",
        "if counts[1] > 0:",
        tests.test_a_slot_is_cleared_in_the_block_of_the_last_reveal,
    ),
    "E12 with nobody": (
        "sealed",
        'over = [slot for slot in opened if gate_ms(rules, slot) + rules["reveal_ms"] '
        "<= market_ms]",
        "over = []",
        tests.test_what_is_not_revealed_is_the_communitys,
    ),
    "E13": (
        "sealed",
        'call("ledger", "forfeit", {"address": address, "amount_micro": margin_micro})',
        'call("ledger", "unlock", {"address": address, "amount_micro": margin_micro})',
        tests.test_what_is_not_revealed_is_the_communitys,
    ),
    "E14 revealed again": (
        "sealed",
        "    kv_del(key)\n    emit(\"orders_revealed\"",
        "    emit(\"orders_revealed\"",
        partial(refused, "reveal twice"),
    ),
    "E15 what is open stays": (
        "market",
        '        call("sealed", "leave", {"home": home})',
        "        pass",
        tests.test_who_leaves_takes_back_what_is_open_and_still_reveals_the_rest,
    ),
    "E15 what is closed goes, too": (
        "sealed",
        "if found != None and gate_ms(rules, slot) > market_ms:",
        "if found != None:",
        tests.test_who_leaves_takes_back_what_is_open_and_still_reveals_the_rest,
    ),
    "E16 anybody reveals": (
        "market",
        'if caller() != "sealed":',
        "if False:",
        tests.test_only_contracts_reveal_and_take_leave,
    ),
    "E16 anybody takes leave": (
        "sealed",
        'if caller() != "market":',
        "if False:",
        tests.test_only_contracts_reveal_and_take_leave,
    ),
}  # fmt: skip


def test_each_rule_of_the_page_has_a_mutant() -> None:
    stated = re.findall(r"^\| (E\d+) \|", SPEC.read_text("utf-8"), re.MULTILINE)
    assert stated == [f"E{number}" for number in range(1, len(stated) + 1)]
    assert set(stated) == {name.split()[0] for name in MUTANTS}


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_without_a_rule_its_test_fails(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    contract, old, new, noticed_by = MUTANTS[name]
    noticed_by()
    mutate(monkeypatch, contract, old, new)
    with pytest.raises((AssertionError, InvariantError)):
        noticed_by()
