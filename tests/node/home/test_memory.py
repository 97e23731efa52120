"""What a home remembers: state and outbox as one file, bounded, and refused when damaged."""

import json
from pathlib import Path

import pytest

from hems.devices.progress import STORED_UWH_MAX
from hems.state import HomeState
from market import client
from node.errors import StoreError
from node.home.memory import MEMORY_BYTES_MAX, OUTBOX_MAX, HomeMemory
from wire.keys import SigningKey
from wire.transaction import VALIDITY_MS_MAX, CheckedTransaction

KEY = SigningKey(bytes(range(32)))
NOW_MS = 1_000_000
STATE = HomeState(5_000, 900_000, {900_000: -40})


def signed(nonce: int, valid_ms: int = NOW_MS + 1, chain_id: str = "here") -> CheckedTransaction:
    return client.sign_call(client.post_reading(1, 2, 3, 4), KEY, chain_id, nonce, valid_ms)


def opened(path: Path, now_ms: int = NOW_MS) -> HomeMemory:
    return HomeMemory(path, "here", now_ms)


def test_a_new_home_remembers_nothing(tmp_path: Path) -> None:
    memory = opened(tmp_path / "home.json")
    assert memory.state is None
    assert memory.outbox == {}


def test_state_and_outbox_come_back_together_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "home.json"
    memory = opened(path)
    said = [signed(nonce) for nonce in (3, 1, 2)]
    for each in said:
        memory.keep(each)
    assert opened(path).outbox == {}
    memory.save(STATE, NOW_MS)
    again = opened(path)
    assert again.state == STATE
    assert list(again.outbox.values()) == said
    assert again.drop(said[0].tx_id)
    assert not again.drop(said[0].tx_id)
    assert len(opened(path).outbox) == 3
    again.save(STATE, NOW_MS)
    assert list(opened(path).outbox.values()) == said[1:]


def test_what_has_expired_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "home.json"
    memory = opened(path)
    memory.keep(signed(1, NOW_MS + 10))
    memory.keep(signed(2, NOW_MS + 20))
    memory.save(STATE, NOW_MS + 10)
    assert [each.tx.nonce for each in opened(path, NOW_MS).outbox.values()] == [1, 2]
    assert [each.tx.nonce for each in opened(path, NOW_MS + 11).outbox.values()] == [2]
    memory.save(STATE, NOW_MS + 11)
    assert [each.tx.nonce for each in opened(path, NOW_MS).outbox.values()] == [2]


def test_what_a_wrong_clock_signed_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "home.json"
    memory = opened(path)
    memory.keep(signed(1, NOW_MS + VALIDITY_MS_MAX))
    memory.keep(signed(2))
    memory.save(STATE, NOW_MS)
    assert [each.tx.nonce for each in opened(path, NOW_MS - 1).outbox.values()] == [2]


def test_the_outbox_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "home.json"
    memory = opened(path)
    for nonce in range(1, OUTBOX_MAX + 6):
        memory.keep(signed(nonce))
    memory.save(STATE, NOW_MS)
    nonces = [each.tx.nonce for each in opened(path).outbox.values()]
    assert nonces == list(range(6, OUTBOX_MAX + 6))


def test_a_file_without_an_outbox_is_read(tmp_path: Path) -> None:
    path = tmp_path / "home.json"
    path.write_text(json.dumps(STATE.to_plain()))
    memory = opened(path)
    assert memory.state == STATE
    assert memory.outbox == {}


def _damaged(path: Path) -> list[bytes]:
    memory = opened(path)
    memory.keep(signed(1))
    memory.save(STATE, NOW_MS)
    whole = path.read_bytes()
    content = json.loads(whole)
    raw = content["outbox"][0]
    spoilt = raw[:-2] + ("00" if raw[-2:] != "00" else "01")
    return [
        b"",
        whole[:-5],
        b"[]",
        json.dumps({**content, "stored_uwh": -1}).encode(),
        json.dumps({**content, "outbox": 7}).encode(),
        json.dumps({**content, "outbox": ["xy"]}).encode(),
        json.dumps({**content, "outbox": [raw[:-2]]}).encode(),
        json.dumps({**content, "outbox": [spoilt]}).encode(),
        json.dumps({**content, "outbox": [signed(1, chain_id="there").raw.hex()]}).encode(),
        b'{"stored_uwh": ' + b"[" * 100_000,
        b'{"stored_uwh": ' + b"9" * 5_000 + b"}",
        json.dumps({**content, "stored_uwh": STORED_UWH_MAX + 1}).encode(),
        json.dumps({**content, "next_slot_ms": 2**60}).encode(),
        json.dumps({**content, "committed_wh": {str(2**60): 1}}).encode(),
        json.dumps({**content, "committed_wh": {"1": -(2**60)}}).encode(),
        whole + b" " * MEMORY_BYTES_MAX,
    ]


@pytest.mark.parametrize("case", range(16))
def test_a_damaged_file_is_refused_with_a_remedy(tmp_path: Path, case: int) -> None:
    path = tmp_path / "home.json"
    path.write_bytes(_damaged(path)[case])
    with pytest.raises(StoreError, match="move it away") as caught:
        opened(path)
    assert "\n" not in str(caught.value)
