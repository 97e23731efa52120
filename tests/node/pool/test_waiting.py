"""Whose turn it is among what waits, and who makes room."""

from market import client
from node.pool.waiting import USE_BLOCKS_MAX, Waiting
from tests.node.grid import key_of
from wire.transaction import CheckedTransaction

CALL = client.transfer(key_of(9).address, 5)


def signed(nonce: int, sender: int = 0) -> CheckedTransaction:
    return client.sign_call(CALL, key_of(sender), "grid", nonce, 60_000)


def turns(waiting: Waiting) -> list[tuple[int, int]]:
    senders = {key_of(number).address: number for number in range(10)}
    return [(senders[item.sender], item.tx.nonce) for item in waiting.in_turn()]


def test_each_has_its_turn_by_arrival_and_its_own_by_nonce() -> None:
    waiting = Waiting()
    for nonce, sender in ((7, 0), (5, 0), (6, 0), (2, 1), (1, 2), (1, 1)):
        waiting.add(signed(nonce, sender))
    assert turns(waiting) == [(0, 5), (1, 1), (2, 1), (0, 6), (1, 2), (0, 7)]
    assert waiting.bytes == sum(len(item.raw) for item in waiting)


def test_who_had_much_of_the_last_blocks_waits_until_it_is_forgotten() -> None:
    waiting = Waiting()
    for nonce in range(1, 5):
        waiting.add(signed(nonce))
    for nonce in (1, 2):
        waiting.drop(signed(nonce).tx_id, used=True)
    waiting.block_passed()
    waiting.add(signed(1, 1))
    waiting.add(signed(2, 1))
    assert turns(waiting) == [(1, 1), (1, 2), (0, 3), (0, 4)]
    for _ in range(2 * USE_BLOCKS_MAX):
        waiting.block_passed()
    assert turns(waiting) == [(0, 3), (1, 1), (0, 4), (1, 2)]
    assert not waiting._used


def test_a_thousand_busy_accounts_cannot_keep_one_waiting() -> None:
    waiting = Waiting()
    busy, nonce = range(1, 10), 0
    for _ in range(20):
        for _ in range(3):
            nonce += 1
            for sender in busy:
                waiting.add(signed(nonce, sender))
        for item in waiting.in_turn()[:9]:
            waiting.drop(item.tx_id, used=True)
        waiting.block_passed()
    waiting.add(signed(1, 0))
    assert turns(waiting)[0] == (0, 1)


def test_what_is_dropped_unused_does_not_count_as_a_turn() -> None:
    waiting = Waiting()
    waiting.add(signed(1))
    assert waiting.drop(signed(1).tx_id) is not None
    assert waiting.drop(signed(1).tx_id) is None
    waiting.add(signed(2))
    waiting.add(signed(1, 1))
    assert turns(waiting) == [(0, 2), (1, 1)]


def test_who_has_most_is_known_whatever_comes_and_goes() -> None:
    waiting = Waiting()
    assert waiting.most_of(0) is None
    for nonce in range(1, 4):
        waiting.add(signed(nonce))
    waiting.add(signed(1, 1))
    assert waiting.most_of(3) is None
    crowding = waiting.most_of(2)
    assert crowding is not None
    assert (crowding.sender, crowding.tx.nonce) == (key_of(0).address, 3)
    for nonce in (3, 1, 2):
        waiting.drop(signed(nonce).tx_id)
    last = waiting.most_of(0)
    assert last is not None
    assert last.sender == key_of(1).address
    waiting.drop(last.tx_id)
    assert waiting.most_of(0) is None
    assert (len(waiting), waiting.bytes, waiting.count(key_of(0).address)) == (0, 0, 0)
