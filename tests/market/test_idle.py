"""Hooks that are passed over: when, and that nothing that is due ever is.

What is due is looked for in every test of the contracts (`conftest.py`). Here each moment and each
waking is taken out once, and that must be noticed.
"""

from collections.abc import Callable
from typing import Any, Final
from unittest.mock import patch

import pytest

from market import carbon, client, governance, idle
from market.app import Application
from market.client import sealed
from market.vm.journal import Journal, State
from tests.market.mutated import mutate
from tests.market.street import (
    GATE_MS,
    HOME_KEYS,
    REGULATOR,
    SLOT,
    SLOT_MS,
    START_MS,
    Street,
    params,
)
from tests.market.test_deployment import COUNTER, vote_in
from tests.market.test_governance import A1, EPOCH, Assembly
from tests.market.test_requests import END, START, close, market, ok
from wire.codec import Plain, decode_plain, encode

SHOWN: Final[dict[str, Plain]] = {"height": 10, "market_ms": 2_000, "time_ms": 3_000}


@pytest.mark.parametrize(
    ("mark", "idles"),
    [
        (None, False),
        ({}, True),
        ({"height": 11}, True),
        ({"height": 10}, False),
        ({"market_ms": 2_001, "time_ms": 3_001}, True),
        ({"market_ms": 2_001, "time_ms": 3_000}, False),
        ({"height": 9, "market_ms": 2_001}, False),
        # What is no mark keeps nothing from running.
        ({"slot": 99}, False),
        ({"height": "11"}, False),
        ({"height": True}, False),
        ({"height": 11, "other": 1}, False),
        ([11], False),
        (2**40, False),
        ("later", False),
        ({"height": 2**62, "market_ms": 2**62, "time_ms": 2**62}, True),
    ],
)
def test_a_hook_is_passed_over_until_one_of_its_moments(mark: Plain, idles: bool) -> None:
    journal = Journal(State())
    journal.put("any/idle_until", None if mark is None else encode(mark))
    assert idle.is_idle(journal, "any", SHOWN) is idles
    assert not idle.is_idle(journal, "other", SHOWN)


def test_bytes_that_are_no_value_keep_nothing_from_running() -> None:
    journal = Journal(State())
    for data in (b"", b"\xc1", b"\x80" + bytes(200), encode({"height": 2**40})[:-1]):
        journal.put("any/idle_until", data)
        assert not idle.is_idle(journal, "any", SHOWN)


def marks(app: Application) -> dict[str, Plain]:
    return {
        key.partition("/")[0]: decode_plain(data, len(data))
        for key, data in app.state_items()
        if key.endswith("/" + idle.IDLE_KEY)
    }


def entered(app: Application, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keep whose hooks are entered from now on."""
    found: list[str] = []
    run_hook = Application._run_hook

    def kept(self: Application, journal: Journal, name: str, *others: Any) -> Any:
        found.append(name)
        return run_hook(self, journal, name, *others)

    monkeypatch.setattr(Application, "_run_hook", kept)
    return found


def test_a_block_in_which_nothing_is_due_enters_no_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    street = Assembly()
    street.block()
    assert marks(street.app) == {
        "carbon": {},
        "governance": {"height": EPOCH},
        "market": {},
        "requests": {},
        "settlement": {},
    }
    found = entered(street.app, monkeypatch)
    street.block()
    assert found == []
    street.ok(A1, client.post_order(SLOT, "buy", 500, 150_000))
    street.block()
    assert found == ["market"]
    assert marks(street.app)["market"] == {"market_ms": SLOT * SLOT_MS - GATE_MS}
    street.to_gate()
    # What the market clears settlement has to watch from now on; and an epoch ends.
    assert found == ["market", "market", "settlement", "governance"]


def test_a_restart_passes_the_same_hooks_over() -> None:
    street = market()
    ok(street.home(1, client.post_request(START, END, 1_000)))
    street.block()
    other = Street(street.app.params)
    other.app.load(street.app.state_items(), street.height)
    other.height, other.time_ms = street.height, street.time_ms
    for one in (street, other):
        one.block()
        close(one)
        one.to_window_end()
    assert street.app.state_root == other.app.state_root
    assert client.request(street.query, 1).status == "closed"  # type: ignore[union-attr]


LIAR = """
EXPORTS = {"count": "query"}
def instantiate(args):
    kv_put("count", 0)
    kv_put("idle_until", {})
def on_block():
    kv_put("count", kv_get("count") + 1)
    kv_put("idle_until", {})
def count():
    return kv_get("count")
"""


def test_who_says_that_it_is_idle_stops_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    # It lies: its hook has work in every block.
    monkeypatch.setattr("tests.market.conftest.done_when_idle", lambda *_: [])
    street = Assembly()
    vote_in(street, "deploy", "liar", LIAR, {})
    street.block()
    assert street.query("liar", "count", {}) == 0
    slot = street.time_ms // SLOT_MS + 2
    street.ok(A1, client.post_order(slot, "buy", 500, 150_000))
    street.to_gate(slot)
    assert client.slot_summary(street.query, slot).status == "cleared"


def test_other_code_is_asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.market.conftest.done_when_idle", lambda *_: [])
    street = Assembly()
    vote_in(street, "deploy", "liar", LIAR, {})
    honest = LIAR.replace('    kv_put("idle_until", {})\n', "")
    vote_in(street, "upgrade", "liar", honest, {})
    assert "liar" not in marks(street.app)
    before = street.query("liar", "count", {})
    street.block()
    street.block()
    assert street.query("liar", "count", {}) == before + 2


def test_nobody_writes_what_another_is_idle_by() -> None:
    street = Assembly()
    thief = COUNTER.replace(
        'kv_put("value", kv_get("value") + n)', 'kv_put("/market/idle_until", {})'
    )
    vote_in(street, "deploy", "thief", thief, {"start": 0})
    receipt = street.send(A1, client.Call("thief", "add", {"n": 1}))
    assert (receipt.code, receipt.reason) == ("fault", "bad_key")


# -- each moment and each waking taken out


def ordered(**changes: Any) -> None:
    """An order's slot is cleared at its gate, and settled once all is read."""
    street = Street(params(**changes))
    street.block()
    assert street.home(1, client.post_order(SLOT, "sell", 500, 100_000)).code == "ok"
    assert street.home(2, client.post_order(SLOT + 1, "buy", 500, 150_000)).code == "ok"
    street.block()
    street.to_gate()
    street.block()
    street.to_gate(SLOT + 1)
    street.to_end()
    street.block()
    for number in range(1, 5):
        assert street.read(number, SLOT, 0, 0).code == "ok"
        street.block(at_ms=street.time_ms + 1 - START_MS)
    assert client.slot_summary(street.query, SLOT).status == "settled"
    street.to_window_end(SLOT + 1)
    assert client.slot_summary(street.query, SLOT + 1).status == "settled"


def unread() -> None:
    """A slot that nobody reads is settled at its window's end."""
    street = Street(params())
    street.block()
    assert street.home(1, client.post_order(SLOT, "sell", 500, 100_000)).code == "ok"
    street.to_gate()
    street.to_end()
    street.to_window_end()
    assert client.slot_summary(street.query, SLOT).status == "settled"


def rounds() -> None:
    """Rounds by date and by the clock, before the gate."""
    street = Street(params(intraday_every_ms=SLOT_MS // 3))
    street.block()
    dated = [(START_MS + 60_000, SLOT, 8)]
    assert street.send(REGULATOR, client.post_auctions(dated)).code == "ok"
    for step in range(1, 20):
        street.block(at_ms=street.time_ms + 30_000 - START_MS)
        if step == 3:
            assert street.home(1, client.post_order(SLOT + 4, "sell", 500, 100_000)).code == "ok"


def dated() -> None:
    """An auction that is dated while the hook rests."""
    street = Street(params())
    street.block()
    assert street.home(1, client.post_order(SLOT + 4, "sell", 500, 100_000)).code == "ok"
    street.block()
    call = client.post_auctions([(START_MS + 60_000, SLOT, 8)])
    assert street.send(REGULATOR, call).code == "ok"
    street.block()
    street.block(at_ms=60_000)


def quotas() -> None:
    """A period without emissions is closed after its end."""
    street = Street(params())
    street.block()
    assert street.send(REGULATOR, carbon.open_period(SLOT, SLOT + 2, 50_000)).code == "ok"
    street.block()
    street.block(at_ms=(SLOT + 6) * SLOT_MS - START_MS)
    street.block()
    assert carbon.periods(street.query)[0].status == "closed"


def expiries() -> None:
    """A proposal is void within the epoch that it was made in."""
    street = Assembly()
    street.to_epoch()
    street.block()
    street.ok(A1, governance.propose_set("heartbeat_ms", 20_000, 1))
    street.block()
    street.block()
    street.block()
    assert [one.status for one in governance.proposals(street.query)] == ["expired"]


def uploads() -> None:
    """An upload is forgotten within an epoch that is longer than it is kept."""
    with patch("tests.market.test_governance.EPOCH", 1_000):
        street = Assembly()
    street.block()
    street.ok(A1, governance.upload(COUNTER)[0])
    for _ in range(203):
        street.block()
    assert not [key for key, _ in street.app.state_items() if key.startswith("governance/part/")]


def commitments() -> None:
    """What nobody reveals costs its margin once the window is over."""
    street = Street(params(sealed=True))
    street.block()
    digest = sealed.digest_of(
        SLOT, HOME_KEYS[0].address, [sealed.SealedOrder("buy", 500, 150_000)], bytes(16)
    )
    assert street.home(1, sealed.commit_order(SLOT, digest, 100_000)).code == "ok"
    street.block()
    street.to_gate()
    street.block(at_ms=SLOT * SLOT_MS - GATE_MS + GATE_MS * 2 // 3 - START_MS)
    assert street.account(1).held_micro == 0


def requested() -> None:
    """A request's gate, its loads and itself, long after; and one that never had a gate."""
    street = market(keep_slots=4)
    street.block()
    ok(street.home(1, client.post_request(START, END, 1_000)))
    street.block()
    ok(street.home(2, client.post_offer(1, 400, 100_000)))
    street.block(at_ms=60_000)
    ok(street.home(4, client.post_request(START, END, 1_000)))
    for one in client.open_requests(street.query):
        street.block(at_ms=one.closes_ms - START_MS)
    assert client.open_requests(street.query) == []
    ok(street.home(3, client.post_request(START, END, 500, False)))
    for slot in range(SLOT, SLOT + 12):
        street.to_end(slot)
        street.block()


def served_by_the_grid() -> None:
    """A request without a gate is forgotten, too."""
    street = market(keep_slots=4)
    street.block()
    ok(street.home(3, client.post_request(START, END, 500, False)))
    for slot in range(SLOT, SLOT + 12):
        street.to_end(slot)


WAKING: Final = '    kv_del("idle_until")\n'
# Which contract, what stands there and what is put there, and what then shows that work is missed.
MUTANTS: Final[dict[str, tuple[str, str, str, Callable[[], None]]]] = {
    "market: a slot opens": ("market", "sorted(opened))\n" + WAKING, "sorted(opened))\n", ordered),
    "market: auctions are dated": (
        "market",
        "sorted(known + rows))\n" + WAKING,
        "sorted(known + rows))\n",
        dated,
    ),
    "market: the gate": ("market", "for slot in opened[:1]]", "for slot in opened[:0]]", ordered),
    "market: the wrong gate": (
        "market",
        "for slot in opened[:1]]",
        "for slot in opened[1:]]",
        ordered,
    ),
    "market: the gate's time": (
        "market",
        'rules["reveal_ms"] for slot in opened[:1]]',
        'rules["slot_ms"] for slot in opened[:1]]',
        ordered,
    ),
    "market: the next auction": (
        "market",
        'kv_get("auctions")[:1]]',
        'kv_get("auctions")[:0]]',
        dated,
    ),
    "market: the next tick": (
        "market",
        'rules["intraday_every_ms"] + 1) *',
        'rules["intraday_every_ms"] + 2) *',
        rounds,
    ),
    "settlement: a slot opens": (
        "settlement",
        "    if opened[0] == slot:\n        kv_del",
        "    if False:\n        kv_del",
        unread,
    ),
    "settlement: all is read": (
        "settlement",
        '+ [slot])\n        kv_del("idle_until")\n',
        "+ [slot])\n",
        ordered,
    ),
    "settlement: a window ends": (
        "settlement",
        "window_end_ms(rules, opened[0])}",
        "window_end_ms(rules, opened[0]) + 1}",
        ordered,
    ),
    "carbon: a period opens": ("carbon", WAKING, "", quotas),
    "carbon: its end": ("carbon", '{"market_ms": end_ms}', '{"market_ms": end_ms + 2000}', quotas),
    "governance: a proposal opens": (
        "governance",
        "[[number, expires]])\n" + WAKING,
        "[[number, expires]])\n",
        expiries,
    ),
    "governance: an upload begins": (
        "governance",
        "UPLOAD_BLOCKS]])\n    " + WAKING,
        "UPLOAD_BLOCKS]])\n",
        uploads,
    ),
    "governance: expiry": ("governance", "row[1] + 1 for row", "row[1] + 2 for row", expiries),
    "governance: the epoch's end": (
        "governance",
        '+ 1) * rules["epoch_blocks"]]',
        '+ 2) * rules["epoch_blocks"]]',
        expiries,
    ),
    "sealed: a slot opens": ("sealed", WAKING, "", commitments),
    "sealed: its window ends": (
        "sealed",
        'rules["reveal_ms"]} if left',
        'rules["slot_ms"]} if left',
        commitments,
    ),
    "requests: one with a gate": (
        "requests",
        'writes["idle_until"] = {"market_ms": closes_ms}',
        "pass",
        requested,
    ),
    "requests: one without": (
        "requests",
        'writes["idle_until"] = {"market_ms": closes_ms}',
        "pass",
        served_by_the_grid,
    ),
    "requests: the gate": (
        "requests",
        "opened[len(due):][:1]]",
        "opened[len(due):][:0]]",
        requested,
    ),
    "requests: loads": (
        "requests",
        "for row in loaded[over:][:1]]",
        "for row in loaded[over:][:0]]",
        requested,
    ),
    "requests: what is old": (
        "requests",
        "            moments.append(kept_until_ms)\n",
        "",
        requested,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_work_that_is_passed_over_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    contract, old, new, missed_by = MUTANTS[name]
    missed_by()
    mutate(monkeypatch, contract, old, new)
    with pytest.raises(AssertionError, match="passed over and had work"):
        missed_by()


@pytest.mark.slow
@pytest.mark.parametrize("name", idle.MOMENTS[:2])
def test_a_machine_that_forgets_a_moment_is_noticed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_idle = idle.is_idle

    def without(journal: Journal, contract: str, shown: dict[str, Plain]) -> bool:
        return is_idle(journal, contract, {**shown, name: -1})

    monkeypatch.setattr(idle, "is_idle", without)
    with pytest.raises(AssertionError, match="passed over and had work"):
        {"height": expiries, "market_ms": ordered}[name]()
