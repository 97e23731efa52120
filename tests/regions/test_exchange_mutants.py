"""Each rule of trade across regions taken out once: the test that is about it notices."""

from collections.abc import Callable
from typing import Final

import pytest

from market.errors import InvariantError
from tests.market.mutated import mutate
from tests.regions import test_exchange as tests
from tests.regions.test_exchange_model import Run

GOOD: Final = tests.GOOD


def random_history() -> None:
    Run(2).go(6)


def crossed() -> None:
    steps = [[1, 500, 80_000], [0, 100, 80_000]]
    tests.test_a_captured_region_offers_nothing_that_is_no_offer(
        [*GOOD[:5], steps, GOOD[6]], "malformed"
    )


def of_another_length() -> None:
    entry = [*GOOD[:4], GOOD[4] * 2, *GOOD[5:]]
    tests.test_a_captured_region_offers_nothing_that_is_no_offer(entry, "wrong_slot")


def of_another_entry() -> None:
    tests.test_a_main_chain_that_lies_is_not_believed([[0, 500, 67_500, 10_000, 1]], 2, "fork")


def beyond_the_limit() -> None:
    tests.test_a_main_chain_that_lies_is_not_believed(
        [[0, 500, 90_001, 10_000, 1]], 1, "bad_result"
    )


def offered_twice() -> None:
    tests.test_a_captured_region_offers_nothing_that_is_no_offer(GOOD, "")


def learned_before() -> None:
    at_ms = tests.SLOT * tests.SLOT_MS - 60_000
    tests.test_what_was_learned_during_delivery_is_no_promise(at_ms, 300, [[False], [False]])


def learned_during() -> None:
    at_ms = tests.SLOT * tests.SLOT_MS + 60_000
    tests.test_what_was_learned_during_delivery_is_no_promise(at_ms, 300, [[True], []])


def short_at_home_too() -> None:
    at_ms = tests.SLOT * tests.SLOT_MS + 60_000
    tests.test_what_was_learned_during_delivery_is_no_promise(at_ms, 200, [[False], []])


# Which contract, what stands there, what is put there, and which test then fails.
MUTANTS: Final[dict[str, tuple[str, str, str, Callable[[], None]]]] = {
    "X1 the grid's part stays": (
        "residual",
        "if trade[1] == 0:",
        "if False:",
        tests.test_what_one_region_lacks_another_sells,
    ),
    "X1 partners and green leave": (
        "residual",
        "order[8] != 0 or order[9] != 0 or ",
        "",
        tests.test_nothing_is_offered_that_would_harm_its_owner,
    ),
    "X1 lines do not bind": (
        "market",
        'if rules["lines"] and rows:',
        "if False:",
        tests.test_lines_within_the_region_bound_what_leaves_it,
    ),
    "X2 a step at its best limit": (
        "residual",
        "steps[-1] = [row[3], steps[-1][1] + row[4], row[0]]",
        "steps[-1] = [row[3], steps[-1][1] + row[4], steps[-1][2]]",
        tests.test_many_prices_make_a_ladder_of_eight,
    ),
    "X3 crossed": ("exchange", "if dearest_bid >= cheapest_ask:", "if False:", crossed),
    "X3 other slots": (
        "exchange",
        'if entry[4] != rules["slot_ms"]:',
        "if False:",
        of_another_length,
    ),
    "X3 frozen at the clearing": (
        "exchange",
        "if escrows[i] == None:\n            continue",
        "if escrows[i] == None:\n            escrows[i] = 20000000",
        tests.test_who_is_frozen_or_gone_does_not_trade,
    ),
    "X4 too late": (
        "exchange",
        'if closes_ms <= now["market_ms"] or slot <= kv_get("window")[1]:',
        "if False:",
        tests.test_a_region_that_is_not_there_is_not_waited_for,
    ),
    "X4 twice": (
        "exchange",
        'if kv_get(key) != None:\n        revert("already_offered"',
        'if False:\n        revert("already_offered"',
        offered_twice,
    ),
    "X5 lines": (
        "exchange",
        "if capacity[near][far] < wh:",
        "if False:",
        tests.test_lines_and_escrow_bound_the_trade,
    ),
    "X5 escrow": (
        "exchange",
        "if wh * rate > left_micro * 1000:",
        "if False:",
        tests.test_lines_and_escrow_bound_the_trade,
    ),
    "X6 another entry": (
        "export",
        'if found["number"] != entry["number"]:',
        "if False:",
        of_another_entry,
    ),
    "X6 beyond the limit": (
        "export",
        '    check_result(entry["steps"], found["rows"])\n',
        "",
        beyond_the_limit,
    ),
    "X7 claimed twice": (
        "export",
        'if entry["status"] == "claimed":',
        "if False:",
        tests.test_each_result_is_shown_once_and_only_as_it_is,
    ),
    "X7 refunded twice": (
        "export",
        'if entry["status"] == "refunded":',
        "if False:",
        tests.test_a_region_that_is_not_there_is_not_waited_for,
    ),
    "X8 while it may be traded": (
        "export",
        "if slot > last:",
        "if False:",
        tests.test_each_result_is_shown_once_and_only_as_it_is,
    ),
    "X8 forgotten": (
        "export",
        "if slot < first:",
        "if False:",
        tests.test_results_are_forgotten_after_a_while_and_refunds_with_them,
    ),
    "X8 without a proof": (
        "export",
        'call("vm", "absent", {"root": root, "key": key, "proof": absence})',
        "pass",
        tests.test_each_result_is_shown_once_and_only_as_it_is,
    ),
    "X9 late ones are the homes'": (
        "export",
        'late = entry["status"] == "late"',
        "late = False",
        tests.test_what_is_shown_too_late_is_the_regulators,
    ),
    "X9 nothing is waited for": (
        "settlement",
        "if over or (s in ready and s not in awaited):",
        "if over or s in ready:",
        tests.test_what_is_shown_too_late_is_the_regulators,
    ),
    "X10 all is a promise": (
        "settlement",
        "sold_wh = contract[3] - unforeseen_wh",
        "sold_wh, unforeseen_wh = contract[3], 0",
        learned_during,
    ),
    "X10 nothing elsewhere is": (
        "export",
        'entry.get("shown_ms", 0) <= slot * kv_get("rules")["slot_ms"]',
        "False",
        learned_before,
    ),
    "X10 nothing at all is": (
        "settlement",
        '(bill_now["shortfall_wh"] - unforeseen_wh) * 100 > sold_wh',
        "unforeseen_wh == 0 and 100 > sold_wh",
        short_at_home_too,
    ),
    "M13": (
        "exchange",
        "if not nothing and not known and slot_number >= first:",
        "if False:",
        tests.test_a_slot_is_settled_with_what_the_exchange_made_of_it,
    ),
    "M13 nothing is released": (
        "exchange",
        '        let_go(region, slot_number)\n\ndef let_go',
        "\ndef let_go",
        tests.test_what_one_region_lacks_another_sells,
    ),
    "money: the seller's is not due": (
        "regions",
        "money[DUE] = money[DUE] + got_micro",
        "money[DUE] = money[DUE]",
        random_history,
    ),
    "money: fees are nobody's": (
        "ledger",
        "account[0] + fees_micro",
        "account[0]",
        random_history,
    ),
    "energy: the rest of a step twice": (
        "residual",
        "before_wh = after_wh",
        "before_wh = before_wh",
        tests.test_a_crowd_is_offered_claimed_and_settled_within_the_caps,
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_without_a_rule_its_test_fails(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    contract, old, new, noticed_by = MUTANTS[name]
    mutate(monkeypatch, contract, old, new)
    with pytest.raises((AssertionError, InvariantError)):
        noticed_by()
