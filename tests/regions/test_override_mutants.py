"""Each rule of override, and of trade without the main chain, taken out once: a test notices."""

from collections.abc import Callable
from typing import Final

import pytest

from consensus.errors import AuthoritySetError
from market.errors import QueryError
from tests.market.mutated import mutate
from tests.regions import test_override as override
from tests.regions import test_unanchored as unanchored

whole = override.test_only_a_halted_region_is_overridden_and_only_whole
refused = override.test_what_proposes_or_approves_nothing_is_refused
goes_on = override.test_a_region_goes_on_with_other_authorities
lost = override.test_the_lost_set_has_no_say_any_more
away = unanchored.test_a_region_trades_for_so_long_without_the_main_chain_and_returns
alone = unanchored.test_who_is_never_let_in_trades_for_so_long_too

# Which contract, what stands there, what is put there, and which test then fails.
MUTANTS: Final[dict[str, tuple[str, str, str, Callable[[], None]]]] = {
    "O1 live ones too": ("override", 'if entry["status"] != "halted":', "if False:", whole),
    "O1 of any halt": (
        "override",
        'if stop != None and stop["since_ms"] != entry["since_ms"]:',
        "if False:",
        whole,
    ),
    "O2 an earlier stop": ("override", 'if found["height"] < least:', "if False:", whole),
    "O2 the proposal stays": (
        "override",
        '    kv_del(key_of("proposal/", region))\n    emit("region_stopped"',
        '    emit("region_stopped"',
        refused,
    ),
    "O3 records left": ("override", 'if last["number"] != stop["number"]:', "if False:", whole),
    "O3 unaudited": ("override", 'if audited["number"] != stop["number"]:', "if False:", whole),
    "O3 accused": ("override", 'if audited["accused"]:', "if False:", whole),
    "O4 anybody": (
        "override",
        'if now["sender"] != entry["sponsor"] and now["sender"] not in seats["addresses"]:',
        "if False:",
        refused,
    ),
    "O4 of another stop": ("override", 'if height != stop["height"]:', "if False:", refused),
    "O4 any chain": (
        "regions",
        "    need_free_chain(chain_id)\n    check_keys(keys, proofs, possession_digest(chain_id",
        "    check_keys(keys, proofs, possession_digest(chain_id",
        refused,
    ),
    "O4 without possession": (
        "regions",
        "if not verify_signature(key, digest, proofs[i]):",
        "if False:",
        refused,
    ),
    "O5 any voter": (
        "override",
        'if now["sender"] not in seats["addresses"]:\n        revert("not_authority"',
        'if False:\n        revert("not_authority"',
        refused,
    ),
    "O5 votes twice": ("override", 'if now["sender"] in found["votes"]:', "if False:", refused),
    "O5 another genesis": (
        "override",
        'if found["genesis_hash"] != genesis_hash:',
        "if False:",
        refused,
    ),
    "O5 one is enough": (
        "override",
        'if len(counted) < seats["quorum"]:',
        "if len(counted) < 1:",
        refused,
    ),
    "the old set stays": (
        "regions",
        '    kv_put(set_key(region, 0), {"keys": keys, "last_height": 0})\n'
        '    kv_put(number_key("epochs/"',
        '    kv_put(number_key("epochs/"',
        goes_on,
    ),
    "heights go on on the main chain": (
        "anchor",
        '    entry["to_height"] = 0\n',
        "",
        goes_on,
    ),
    "heights go on in the region": (
        "export",
        '    last["height"] = 0\n',
        "",
        goes_on,
    ),
    "audits go on from the old chain": (
        "audit",
        '    through["to_height"] = 0\n',
        "",
        goes_on,
    ),
    "the old chain comes in again": (
        "regions",
        '    kv_put("chain/" + sha256(entry["chain_id"]), region)\n    kv_del(number_key("votes/"',
        '    kv_del(number_key("votes/"',
        lost,
    ),
    "the lost seats stay": (
        "governance",
        '    kv_put("epoch/" + str(KEY_BASE), seats)\n\n# ---- offences',
        '    kv_put("epoch/" + str(KEY_BASE), seats[:0])\n\n# ---- offences',
        goes_on,
    ),
    "trades for ever": (
        "homes",
        '    if rules["suspended"]:\n        revert("unanchored"',
        '    if False:\n        revert("unanchored"',
        away,
    ),
    "offers for ever": (
        "market",
        'if rules["exports"] and not rules["suspended"]:',
        'if rules["exports"]:',
        away,
    ),
    "never returns": ("export", 'if late != kv_get("suspended"):', "if late:", away),
    "waits for nobody": (
        "export",
        '"main_height": 0, "time_ms": env()["time_ms"]}',
        '"main_height": 0, "time_ms": 9000000000000000}',
        alone,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_rule_left_out_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    contract, there, instead, noticing = MUTANTS[name]
    mutate(monkeypatch, contract, there, instead)
    with pytest.raises((AssertionError, QueryError, AuthoritySetError)):
        noticing()
