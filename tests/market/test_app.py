"""The application: admission, receipts, determinism, restart, proofs, queries."""

import gc
import threading

import msgspec
import pytest

from market import client
from market.app import BLOCK_ID, Application, BlockEnv, Event, Receipt
from market.client import Call
from market.errors import ContractError, InvariantError, QueryError, StateError
from market.genesis import MarketParams
from market.vm import merkle
from market.vm.journal import Journal
from tests.market.street import HOME_KEYS, REGULATOR, SLOT, START_MS, Street, params
from tests.market.vm.cpython import CPythonEngine
from wire.codec import decode, decode_plain, encode
from wire.keys import SigningKey
from wire.transaction import Refused, Transaction, sign

H1 = HOME_KEYS[0]
BUY = client.post_order(SLOT, "buy", 100, 150_000)


def test_genesis_is_the_same_on_every_node() -> None:
    first, second = Application(params()).genesis(), Application(params()).genesis()
    assert first.state_root == second.state_root
    assert first.writes == second.writes
    assert Application(params(margin_percent=11)).genesis().state_root != first.state_root


def test_execute_is_repeatable_and_leaves_the_state_alone() -> None:
    street = Street(params())
    txs = [street.sign(H1, BUY), street.sign(HOME_KEYS[1], client.transfer(H1.address, 5))]
    env = BlockEnv(1, START_MS + 1_000)
    before, items = street.app.state_root, street.app.state_items()
    first, second = street.app.execute(env, txs), street.app.execute(env, txs)
    assert first == second
    assert (street.app.state_root, street.app.state_items()) == (before, items)
    street.app.commit(first)
    assert street.app.state_root == first.state_root
    with pytest.raises(InvariantError, match="another state"):
        street.app.commit(second)
    with pytest.raises(InvariantError):
        street.app.genesis()


def test_order_of_transactions_matters_and_shows_in_the_root() -> None:
    street = Street(params())
    txs = [street.sign(key, BUY) for key in HOME_KEYS[:2]]
    env = BlockEnv(1, START_MS + 1_000)
    forth, back = street.app.execute(env, txs), street.app.execute(env, txs[::-1])
    assert forth.state_root != back.state_root
    assert forth.receipts_root != back.receipts_root


def test_restart_gives_the_same_root_and_goes_on_alike() -> None:
    street = Street(params())
    street.home(1, BUY)
    street.home(2, client.post_order(SLOT, "sell", 60, 100_000))
    again = Application(params())
    again.load(street.app.state_items(), street.height)
    assert again.state_root == street.app.state_root
    assert again.nonce(H1.address) == 1
    txs = [street.sign(H1, client.transfer(REGULATOR.address, 77))]
    env = BlockEnv(street.height + 1, SLOT * 900_000)
    assert again.execute(env, txs) == street.app.execute(env, txs)
    assert again.next_deadline_ms(0) == street.app.next_deadline_ms(0)


def test_load_refuses_what_is_not_this_chains() -> None:
    street = Street(params())
    items = street.app.state_items()
    with pytest.raises(StateError, match="another genesis"):
        Application(params(margin_percent=11)).load(items, 0)
    with pytest.raises(StateError, match="height 0, not 5"):
        Application(params()).load(items, 5)
    with pytest.raises(StateError, match="engine"):
        Application(params(), CPythonEngine()).load(items, 0)
    with pytest.raises(StateError):
        Application(params()).load([], 0)
    with pytest.raises(StateError, match="no block"):
        Application(params()).load([(k, v) for k, v in items if k != "chain/block"], 0)
    account = f"ledger/account/{H1.address}"
    stolen = [(k, encode([1, 0, 0]) if k == account else v) for k, v in items]
    with pytest.raises(InvariantError, match="micro"):
        Application(params()).load(stolen, 0)
    fewer = [(k, v) for k, v in items if k != "registry/counts"]
    other = Application(params())
    other.load(fewer, 0)
    assert other.state_root != street.app.state_root


ADMISSION = {
    "unknown_contract": Call("bank", "rob", {}),
    "unknown_entry": Call("market", "rob", {}),
    "bad_arguments": Call("market", "post_order", {"slot": 1}),
}


@pytest.mark.parametrize("code", ADMISSION)
def test_admission(code: str) -> None:
    street = Street(params())
    tx = street.sign(H1, ADMISSION[code])
    with pytest.raises(Refused) as caught:
        street.app.check(tx)
    assert caught.value.code == code
    receipt = street.block([tx]).receipts[0]
    assert (receipt.code, receipt.reason, receipt.gas) == ("rejected", code, 0)
    assert street.app.nonce(H1.address) == 0


def test_strangers_are_refused() -> None:
    street = Street(params())
    stranger = SigningKey(bytes([99]) * 32)
    tx = street.sign(stranger, BUY)
    with pytest.raises(Refused) as caught:
        street.app.check(tx)
    assert caught.value.code == "stranger"
    assert street.block([tx]).receipts[0].reason == "stranger"
    street.app.check(street.sign(REGULATOR, client.mint(H1.address, 1)))
    street.app.check(street.sign(HOME_KEYS[0].derive("meter"), client.post_reading(SLOT, 1, 1, 1)))


def test_nonces() -> None:
    street = Street(params())
    tx = street.sign(H1, client.transfer(REGULATOR.address, 1), nonce=5)
    lower = street.sign(H1, client.transfer(REGULATOR.address, 2), nonce=4)
    failing = street.sign(H1, client.transfer("nobody", 2), nonce=7)
    result = street.block([tx, tx, lower, failing])
    assert [r.code for r in result.receipts] == ["ok", "rejected", "rejected", "revert"]
    assert result.receipts[1].reason == result.receipts[2].reason == "bad_nonce"
    # A failed transaction uses its nonce up, too.
    assert street.app.nonce(H1.address) == 7
    with pytest.raises(Refused) as caught:
        street.app.check(failing)
    assert caught.value.code == "bad_nonce"


def test_expired_and_foreign_transactions_are_rejected_in_a_block() -> None:
    street = Street(params())
    late = street.sign(H1, BUY, nonce=1, valid_ms=999)
    street.time_ms -= 1_000
    exact = street.sign(H1, BUY, nonce=2, valid_ms=2_000)
    street.time_ms += 1_000
    foreign_tx = Transaction("other", H1.public, 3, START_MS + 10**6, *BUY)
    result = street.block([late, exact, sign(foreign_tx, H1)])
    assert [r.reason for r in result.receipts] == ["expired", "", "wrong_chain"]


def test_receipts_and_events_go_over_the_wire() -> None:
    street = Street(params())
    receipt = street.home(1, BUY)
    assert decode(encode(receipt), Receipt, 65_536) == receipt
    assert decode(encode(receipt.events[0]), Event, 65_536) == receipt.events[0]
    tree = merkle.update(None, {"0": encode(receipt)})
    assert street.app.execute(BlockEnv(9, street.time_ms + 1), []).receipts_root == bytes(32)
    assert merkle.root_of(tree) == merkle.list_root([encode(receipt)])


def test_what_hooks_say_stands_under_the_receipts_root() -> None:
    street = Street(params())
    street.home(2, BUY)
    result = street.to_gate()
    assert [event.name for event in result.events] == ["slot_cleared"]
    (own,) = result.rooted
    assert (own.tx_id, own.events) == (BLOCK_ID, result.events)
    assert result.receipts_root == merkle.list_root([encode(own)])
    # With transactions it comes after theirs, whose places stay.
    street.to_end()
    tx = street.sign(H1, client.transfer(HOME_KEYS[1].address, 5))
    for number in range(1, 5):
        street.read(number, SLOT, 0, 0)
    both = street.block([tx])
    assert [part.tx_id for part in both.rooted] == [tx.tx_id, BLOCK_ID]
    texts = [encode(part) for part in both.rooted]
    proof = merkle.prove_item(texts, 0)
    assert merkle.verify(both.receipts_root, "0", encode(both.receipts[0]), proof)


def test_proofs_of_what_the_state_holds() -> None:
    street = Street(params())
    street.home(1, BUY)
    app = street.app
    for key in (f"ledger/account/{H1.address}", f"market/orders/{SLOT}/1", "market/nothing"):
        value = app.value(key)
        assert merkle.verify(app.state_root, key, value, app.prove(key))
        assert not merkle.verify(app.state_root, key, b"other", app.prove(key))
    assert app.value("market/nothing") is None


def test_queries_change_nothing_and_refuse_with_a_code() -> None:
    street = Street(params())
    root = street.app.state_root
    for contract, entry, args, code in (
        ("bank", "x", {}, "unknown_contract"),
        ("ledger", "transfer", {"address": "", "amount_micro": 1}, "unknown_entry"),
        ("ledger", "settle", {"rows": [], "minted": 1, "redeemed": 0}, "unknown_entry"),
        ("ledger", "balance", {}, "bad_arguments"),
        ("ledger", "balance", {"address": "cw1"}, "unknown_account"),
        ("market", "prices", {"slot": "x"}, "bad_argument"),
        ("market", "book", {"slot": [1]}, "contract_fault"),
        ("settlement", "settled", {"count": 10**6}, "bad_argument"),
    ):
        with pytest.raises(QueryError) as caught:
            street.query(contract, entry, args)
        assert caught.value.code == code
    assert street.app.state_root == root


def test_a_failing_hook_moves_nothing_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    street = Street(params())
    street.home(1, BUY)
    state = street.app._state
    broken = dict(msgspec.msgpack.decode(state.items[f"market/slot/{SLOT}"]))
    del broken["tariff_micro_per_kwh"]
    state.apply({f"market/slot/{SLOT}": encode(broken)})
    result = street.to_gate()
    assert [(e.contract, e.name) for e in result.events] == [("market", "hook_failed")]
    assert client.decode_event(result.events[0]) == client.HookFailed(
        "market", "fault", "contract_fault"
    )
    assert set(result.writes) == {"chain/block"}
    # The failed hook is no reason to make blocks without end.
    assert street.app.next_deadline_ms(street.time_ms) > street.time_ms + 1


def test_a_broken_law_stops_the_node() -> None:
    street = Street(params())
    app, env = street.app, BlockEnv(1, START_MS + 1)
    account = f"ledger/account/{H1.address}"
    bill = {
        "slot": 1, "home": 1, "bought_wh": 0, "sold_wh": 0, "import_wh": 5, "export_wh": 0,
        "trades_cost_micro": 0, "trades_income_micro": 0, "grid_wh": 5, "grid_cost_micro": 1,
        "fed_in_wh": 0, "feed_in_income_micro": 0, "penalty_micro": 0, "total_micro": 1,
        "green_bought_wh": 0, "green_sold_wh": 0, "fees_micro": 0,
    }  # fmt: skip
    key = "settlement/bill/1/100001"
    quota = "carbon/account/100001/100001"
    for writes, words in (
        ({account: [10_000_001, 0, 0]}, "issued are"),
        ({account: [10_000_001, -1, 0]}, "negative"),
        ({account: [9_000_000, 0, 0]}, "issued are"),
        ({key: bill | {"total_micro": 2}}, "sum of its parts"),
        ({key: bill | {"grid_wh": 4}}, "does not balance"),
        ({key: bill | {"grid_wh": -5, "import_wh": -5}}, "negative energy"),
        ({key: bill | {"bought_wh": 1, "grid_wh": 4}}, "bought exceeds sold"),
        ({key: bill | {"green_sold_wh": 1}}, "-1 Wh of certificates"),
        ({quota: [1, 5, 1, 0, 0, 9, 0, 0, 0, 0, 0]}, "1 mg of quota bought but not sold"),
        ({quota: [1, 5, 0, 4, 2, 9, 0, 0, 0, 0, 0]}, "more is sold or offered"),
    ):
        journal = Journal(app._state)
        for name, value in writes.items():
            journal.put(name, encode(value))
        with pytest.raises(InvariantError, match=words):
            app._result(env, journal, (), [])
    journal = Journal(app._state)
    journal.put(key, encode(bill))
    app.commit(app._result(env, journal, (), []))
    journal = Journal(app._state)
    journal.put(key, encode(bill | {"grid_cost_micro": 2, "total_micro": 2}))
    with pytest.raises(InvariantError, match="second time"):
        app._result(BlockEnv(2, START_MS + 2), journal, (), [])


def test_a_forgotten_slot_is_not_settled_again() -> None:
    street = settled_street(params(keep_slots=3))
    kept = client.settled_slots(street.query, 100)
    assert len(kept) < 8
    data = street.app.value(client.bill_key(kept[-1], 1)) or b""
    bill = decode_plain(data, 4_096)
    app, env = street.app, BlockEnv(street.app.height + 1, street.time_ms + 1)
    forgotten = "settlement/forgotten"
    for writes, words in (
        ({client.bill_key(kept[0] - 1, 1): bill | {"slot": kept[0] - 1}}, "second time"),
        ({client.bill_key(kept[-1], 1): None}, "could be settled again"),
        ({client.bill_key(kept[-1], 1): None, forgotten: kept[-1]}, "could be settled again"),
        ({forgotten: kept[0] - 1}, "are forgotten, not only"),
    ):
        journal = Journal(app._state)
        for name, value in writes.items():
            journal.put(name, None if value is None else encode(value))
        with pytest.raises(InvariantError, match=words):
            app._result(env, journal, (), [])


def settled_street(market: MarketParams) -> Street:
    """A street in which eight slots have been read and settled, one after the other."""
    street = Street(market)
    for slot in range(SLOT, SLOT + 8):
        street.to_end(slot)
        for number in range(1, 5):
            street.read(number, slot, 0, 0)
        street.block()
    return street


def test_queries_beside_execution() -> None:
    """Queries in another thread see whole blocks only, and disturb nothing."""
    street = Street(params())
    failures: list[BaseException] = []
    done = threading.Event()

    def ask() -> None:
        try:
            while not done.is_set():
                money = client.money(street.query)
                accounts = [
                    client.account(street.query, key.address) for key in (REGULATOR, *HOME_KEYS[:4])
                ]
                if money.minted_micro != 4 * 10_000_000:
                    raise AssertionError(money)
                if any(a.balance_micro < 0 for a in accounts):
                    raise AssertionError(accounts)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    expected = Street(params())
    for step in range(30):
        call = client.transfer(HOME_KEYS[1].address, step + 1)
        assert street.home(1, call).code == expected.home(1, call).code == "ok"
    done.set()
    thread.join()
    assert failures == []
    assert street.app.state_root == expected.app.state_root


def test_a_refused_call_leaves_no_exception_behind() -> None:
    """The engine keeps exceptions of host functions: they must not keep the call's frames."""
    street = Street(params())

    def refusals() -> int:
        gc.collect()
        return sum(isinstance(item, ContractError) for item in gc.get_objects())

    assert street.home(1, client.post_order(SLOT, "buy", 0, 1)).code == "revert"
    before = refusals()
    for _ in range(20):
        assert street.home(1, client.post_order(SLOT, "buy", 0, 1)).code == "revert"
    assert refusals() <= before
