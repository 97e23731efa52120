"""One memory of good signatures, which never remembers more than that."""

import threading

import pytest

import node.pool.verifier
import wire.transaction
from market import client
from node.pool.verifier import TransactionVerifier
from tests.node.grid import key_of
from wire.transaction import VALIDITY_MS_MAX, CheckedTransaction, Refused

NOW_MS = 1_000_000_000
CALL = client.transfer(key_of(1).address, 5)


def signed(nonce: int = 1, valid_until_ms: int = NOW_MS + 1_000) -> CheckedTransaction:
    return client.sign_call(CALL, key_of(0), "grid", nonce, valid_until_ms)


def codes(results: list[CheckedTransaction | Refused]) -> list[str]:
    return [result.code if isinstance(result, Refused) else "ok" for result in results]


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts of signatures really checked, call by call."""
    counts: list[int] = []
    real = wire.transaction.verify_many

    def counting(items: list[tuple[bytes, bytes, bytes]]) -> list[bool]:
        counts.append(len(items))
        return real(items)

    monkeypatch.setattr(wire.transaction, "verify_many", counting)
    return counts


def test_a_signature_is_checked_once(verified: list[int]) -> None:
    verifier = TransactionVerifier("grid")
    transactions = [signed(nonce) for nonce in range(1, 6)]
    raws = [checked.raw for checked in transactions]
    assert verifier.check(raws[:3], NOW_MS) == transactions[:3]
    assert verifier.check(raws, NOW_MS) == transactions
    assert verifier.check(raws, NOW_MS) == transactions
    assert [count for count in verified if count] == [3, 2]


def test_results_stand_where_their_inputs_stood() -> None:
    verifier = TransactionVerifier("grid")
    good = signed()
    bad = good.raw[:-1] + bytes([good.raw[-1] ^ 1])
    stranger = client.sign_call(CALL, key_of(0), "other", 1, NOW_MS + 1_000)
    raws = [bad, good.raw, b"junk", stranger.raw, good.raw, b""]
    for _ in range(2):
        assert codes(verifier.check(raws, NOW_MS)) == [
            *("bad_signature", "ok", "malformed", "wrong_chain", "ok", "malformed")
        ]


def test_what_is_known_still_expires() -> None:
    verifier = TransactionVerifier("grid")
    raw = signed(valid_until_ms=NOW_MS + 10).raw
    assert codes(verifier.check([raw], NOW_MS)) == ["ok"]
    assert codes(verifier.check([raw], NOW_MS + 10)) == ["ok"]
    assert codes(verifier.check([raw], NOW_MS + 11)) == ["expired"]
    assert codes(verifier.check([raw], NOW_MS - VALIDITY_MS_MAX)) == ["valid_too_long"]


def test_a_bad_signature_is_never_remembered_as_good(verified: list[int]) -> None:
    verifier = TransactionVerifier("grid")
    good = signed()
    bad = good.raw[:-1] + bytes([good.raw[-1] ^ 1])
    for _ in range(3):
        assert codes(verifier.check([bad], NOW_MS)) == ["bad_signature"]
    assert codes(verifier.check([good.raw], NOW_MS)) == ["ok"]
    assert verified == [1, 1, 1, 1]


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, verified: list[int]) -> None:
    monkeypatch.setattr(node.pool.verifier, "REMEMBERED_MAX", 3)
    verifier = TransactionVerifier("grid")
    raws = [signed(nonce).raw for nonce in range(1, 6)]
    verifier.check(raws, NOW_MS)
    verified.clear()
    assert codes(verifier.check(raws, NOW_MS)) == ["ok"] * 5
    assert verified == [2]


def test_what_has_expired_is_let_go(monkeypatch: pytest.MonkeyPatch, verified: list[int]) -> None:
    monkeypatch.setattr(node.pool.verifier, "SWEPT_MIN", 8)
    verifier = TransactionVerifier("grid")
    lasting = [signed(nonce, NOW_MS + VALIDITY_MS_MAX).raw for nonce in range(1, 4)]
    verifier.check(lasting, NOW_MS)
    for passed_ms in range(0, 200, 2):
        now_ms = NOW_MS + passed_ms
        verifier.check([signed(100 + passed_ms, now_ms + 1).raw], now_ms)
        # Of those that have not expired there are four.
        assert len(verifier) <= 8
    verified.clear()
    assert codes(verifier.check(lasting, NOW_MS + 200)) == ["ok"] * 3
    assert not any(verified)


def test_what_is_valid_is_kept_however_much_comes(
    monkeypatch: pytest.MonkeyPatch, verified: list[int]
) -> None:
    monkeypatch.setattr(node.pool.verifier, "SWEPT_MIN", 4)
    verifier = TransactionVerifier("grid")
    raws = [signed(nonce).raw for nonce in range(1, 40)]
    for raw in raws:
        verifier.check([raw], NOW_MS)
    verified.clear()
    assert codes(verifier.check(raws, NOW_MS)) == ["ok"] * len(raws)
    assert not any(verified)


def test_threads_share_it() -> None:
    verifier = TransactionVerifier("grid")
    transactions = [signed(nonce) for nonce in range(1, 40)]
    raws = [checked.raw for checked in transactions]
    wrong: list[object] = []

    def work() -> None:
        for _ in range(5):
            if verifier.check(raws, NOW_MS) != transactions:
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
