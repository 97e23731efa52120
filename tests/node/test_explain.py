"""What became of a transaction: decided, waiting, refused or unknown, each with what helps."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

import cli
from market import client
from market.app import Application, BlockEnv, BlockResult
from market.refusals import accepted
from node.api.control import ControlServer
from node.api.explain import Explainer
from node.api.views import Views
from node.chain.store import Store, StoredBlock
from node.errors import ControlError
from node.pool import mempool as mempool_module
from node.pool.mempool import Mempool
from node.pool.verifier import TransactionVerifier
from tests.consensus.ready import ready_chain
from tests.node.grid import REGULATOR, key_of, make_genesis
from wire.codec import encode
from wire.keys import SigningKey
from wire.transaction import CheckedTransaction, Refused

GENESIS = make_genesis()
START_MS = GENESIS.market.genesis_ms
SLOT = GENESIS.market.market_start_ms // GENESIS.market.clock().slot_ms + 1
STRANGER = SigningKey(bytes([77]) * 32)


class Place:
    """What a node needs to explain: a market, its mempool and its store, and a clock."""

    def __init__(self, store: Store) -> None:
        self.app = Application(GENESIS.market)
        self.app.commit(self.app.genesis())
        self.store = store
        self.now_ms = START_MS
        self.pool = Mempool(
            TransactionVerifier("grid"), self.app.check, _publish, lambda: self.now_ms, lambda: None
        )
        self.explainer = Explainer(self.pool, store, self.app, Views(self.app))
        self._nonce = 0

    def sign(self, key: SigningKey, call: client.Call, nonce: int | None = None) -> Any:
        self._nonce += 1
        nonce = self._nonce if nonce is None else nonce
        return client.sign_call(call, key, "grid", nonce, self.now_ms + 60_000)

    async def decide(self, *txs: CheckedTransaction) -> None:
        """Make a block of transactions, as the chain would."""
        self.apply(await self.keep(*txs), *txs)

    def apply(self, result: BlockResult, *txs: CheckedTransaction) -> None:
        self.app.commit(result)
        self.pool.decided([tx.tx_id for tx in txs])

    async def keep(self, *txs: CheckedTransaction) -> BlockResult:
        """Make a block that is in the store, and in no state yet."""
        height = self.app.height + 1
        self.now_ms += 1_000
        result = self.app.execute(BlockEnv(height, self.now_ms), txs)
        ready = ready_chain().blocks[3]
        header = msgspec.structs.replace(ready.header, height=height, time_ms=self.now_ms)
        block = msgspec.structs.replace(ready, header=header, txs=tuple(tx.raw for tx in txs))
        receipts = encode(result.receipts)
        stored = StoredBlock(height, bytes(32), encode(block), b"", receipts)
        await self.store.commit(stored, [tx.tx_id for tx in txs], result.writes)
        return result

    async def explain(self, tx: CheckedTransaction) -> dict[str, Any]:
        answer = await self.explainer.transaction({"id": tx.tx_id.hex()})
        found: dict[str, Any] = json.loads(msgspec.json.encode(answer))
        return found


async def _publish(batch: bytes) -> None:
    del batch


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    store = await Store.open(tmp_path / "chain.db", bytes(32))
    try:
        yield Place(store)
    finally:
        await store.close()


def order(side: str = "buy", energy_wh: int = 100, slot: int = SLOT) -> client.Call:
    return client.post_order(slot, side, energy_wh, 200_000)


async def test_from_waiting_to_decided(place: Place) -> None:
    tx = place.sign(key_of(0), order())
    assert (await place.explain(tx))["status"] == "unknown"
    place.pool.submit(tx.raw)
    waiting = await place.explain(tx)
    assert (waiting["status"], waiting["height"]) == ("pending", None)
    assert waiting["asked"]["sender_name"] == "home-0"
    assert waiting["asked"]["args"]["energy_wh"] == 100
    await place.decide(tx)
    found = await place.explain(tx)
    assert (found["status"], found["height"], found["code"]) == ("decided", 1, "ok")
    assert (found["reason"], found["accepted"]) == ("", "")
    assert found["asked"] == waiting["asked"]
    assert found["time_ms"] == place.now_ms
    assert [name for _, name, _ in found["events"]] == ["order_posted"]


async def test_it_is_decided_when_the_state_has_it(place: Place) -> None:
    tx = place.sign(key_of(0), order())
    result = await place.keep(tx)
    found = await place.explain(tx)
    assert (found["status"], found["height"]) == ("pending", None)
    assert found["asked"]["sender_name"] == "home-0"
    assert "block 1 holds it" in found["message"]
    place.apply(result, tx)
    assert (await place.explain(tx))["status"] == "decided"


async def test_an_order_says_what_has_been_traded_of_it(place: Place) -> None:
    bid = place.sign(key_of(0), order("buy", 100))
    ask = place.sign(key_of(1), order("sell", 60))
    await place.decide(bid, ask)
    found = await place.explain(bid)
    assert (found["order"]["status"], found["order"]["residual_wh"]) == ("open", 100)
    place.now_ms = place.app.clock.gate_close_real_ms(SLOT)
    await place.decide()
    found = await place.explain(bid)
    assert (found["order"]["status"], found["order"]["residual_wh"]) == ("cleared", 40)
    (trade,) = found["order"]["trades"]
    assert (trade["buyer_name"], trade["seller_name"], trade["energy_wh"]) == (
        "home-0", "home-1", 60,
    )  # fmt: skip


async def test_a_withdrawn_order_is_no_more(place: Place) -> None:
    posted = place.sign(key_of(0), order())
    await place.decide(posted)
    await place.decide(place.sign(key_of(0), client.withdraw_order(f"{SLOT}-1")))
    assert (await place.explain(posted))["order"] is None


async def test_each_transaction_of_a_block_has_its_own_receipt(place: Place) -> None:
    txs = [
        place.sign(key_of(0), client.transfer(key_of(1).address, 5)),
        place.sign(key_of(1), order(slot=SLOT - 1)),
        place.sign(REGULATOR, client.mint(key_of(2).address, 7)),
        place.sign(key_of(2), client.mint(key_of(2).address, 7)),
        place.sign(key_of(2), client.transfer(key_of(1).address, 2), nonce=1),
    ]
    await place.decide(*txs)
    found = [await place.explain(tx) for tx in txs]
    assert [row["code"] for row in found] == ["ok", "revert", "ok", "revert", "rejected"]
    assert [row["reason"] for row in found] == ["", "gate_closed", "", "not_regulator", "bad_nonce"]
    assert [row["asked"]["entry"] for row in found] == [tx.tx.entry for tx in txs]
    assert found[2]["asked"]["sender_name"] == "regulator"
    for row, tx in zip(found, txs, strict=True):
        assert row["accepted"] == (accepted(row["reason"], tx.tx.contract) if row["reason"] else "")
    assert "the first open slot is" in found[1]["message"]


@pytest.mark.parametrize(
    ("reason", "key", "call"),
    [
        ("stranger", STRANGER, order()),
        ("unknown_contract", key_of(0), client.Call("bank", "rob", {})),
        ("unknown_entry", key_of(0), client.Call("market", "rob", {})),
        ("bad_arguments", key_of(0), client.Call("market", "withdraw_order", {"slot": 1})),
    ],
)
async def test_what_is_let_into_no_block_is_explained(
    place: Place, reason: str, key: SigningKey, call: client.Call
) -> None:
    tx = place.sign(key, call)
    with pytest.raises(Refused):
        place.pool.submit(tx.raw)
    found = await place.explain(tx)
    assert (found["status"], found["code"], found["reason"]) == ("refused", "rejected", reason)
    assert found["message"]
    assert found["accepted"] == accepted(reason)


async def test_what_no_block_took_in_time_is_explained(place: Place) -> None:
    tx = place.sign(key_of(0), order())
    place.pool.submit(tx.raw)
    place.now_ms += 60_001
    await place.decide()
    found = await place.explain(tx)
    assert (found["status"], found["reason"]) == ("refused", "expired")
    assert "signed anew" in found["accepted"]


async def test_a_decided_transaction_stays_decided_when_it_is_said_again(place: Place) -> None:
    tx = place.sign(key_of(0), client.transfer(key_of(1).address, 5))
    await place.decide(tx)
    with pytest.raises(Refused, match="bad_nonce"):
        place.pool.submit(tx.raw)
    assert (await place.explain(tx))["code"] == "ok"


async def test_what_a_skipped_block_may_hold_is_not_called_refused(place: Place) -> None:
    left, held = place.sign(key_of(0), order()), place.sign(key_of(1), order())
    for tx in (left, held):
        place.pool.submit(tx.raw)
    # As after a snapshot: the state has moved on, and the block is not here.
    place.app.commit(place.app.execute(BlockEnv(1, place.now_ms + 1_000), [held]))
    place.pool.skipped()
    assert [(await place.explain(tx))["status"] for tx in (left, held)] == ["pending", "unknown"]
    assert place.pool.refused == {}


async def test_refusals_are_kept_within_a_bound(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mempool_module, "REFUSALS_KEPT_MAX", 2)
    txs = [place.sign(STRANGER, order()) for _ in range(3)]
    for tx in txs:
        with pytest.raises(Refused):
            place.pool.submit(tx.raw)
    assert [(await place.explain(tx))["status"] for tx in txs] == ["unknown", "refused", "refused"]


@pytest.mark.parametrize("text", ["", "xyz", "ab" * 3, "z" * 64, "0" * 65, None, 5])
async def test_what_is_no_id(place: Place, text: object) -> None:
    with pytest.raises(ControlError, match="64 hexadecimal digits; 8 are enough"):
        await place.explainer.transaction({"id": text})


async def test_own_transactions_by_their_first_digits(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mempool_module, "OWN_KEPT_MAX", 3)
    forgotten, good, bad = (place.sign(key_of(n), order()) for n in range(3))
    stranger = place.sign(STRANGER, order())
    for tx in (forgotten, good, bad):
        place.pool.submit(tx.raw)
    with pytest.raises(Refused):
        place.pool.submit(stranger.raw)
    place.pool.submit(good.raw)  # said again, it keeps its place
    listed = await place.explainer.transactions({"count": 50})
    assert [row["id"] for row in listed] == [tx.tx_id.hex() for tx in (stranger, bad, good)]
    assert [row["status"] for row in listed] == ["refused", "pending", "pending"]
    assert [row["id"] for row in await place.explainer.transactions({"count": 1})] == [
        stranger.tx_id.hex()
    ]
    found = await place.explainer.transaction({"id": good.tx_id.hex()[:8].upper()})
    assert found["id"] == good.tx_id.hex()
    with pytest.raises(ControlError, match=r"^0 of the last 3 transactions .* give all 64 digits"):
        await place.explainer.transaction({"id": forgotten.tx_id.hex()[:8]})
    for count in (0, 51, "1", None):
        with pytest.raises(ControlError, match="from 1 to 50"):
            await place.explainer.transactions({"count": count})


async def typed(directory: Path, place: Place, *more: str) -> Result:
    explainer = place.explainer
    server = ControlServer(
        directory, {"transaction": explainer.transaction, "transactions": explainer.transactions}
    )
    await server.start()
    line = ["market", "explain", "--node", str(directory), *more]
    try:
        return await asyncio.to_thread(CliRunner().invoke, cli.app, line)
    finally:
        await server.stop()


async def test_explained_in_print(place: Place, tmp_path: Path) -> None:
    good, bad = place.sign(key_of(0), order()), place.sign(key_of(1), order(slot=SLOT + 10**6))
    assert (await typed(tmp_path, place, good.tx_id.hex())).exit_code == cli.EXIT_FAILED
    place.pool.submit(good.raw)
    assert "pending" in (await typed(tmp_path, place, good.tx_id.hex())).output
    await place.decide(good, bad)
    printed = (await typed(tmp_path, place, good.tx_id.hex())).output
    assert "asked    home-0: market.post_order(energy_wh=100, " in printed
    assert "decided  block 1, " in printed
    assert f"order    {SLOT}-1, " in printed
    assert "0 of 100 Wh traded" in printed
    printed = (await typed(tmp_path, place, bad.tx_id.hex())).output
    assert "refused  slot_too_far: orders are taken up to slot " in printed
    assert "accepted would be: a slot within the horizon that is named" in printed
    result = await typed(tmp_path, place, bad.tx_id.hex(), "--json")
    assert result.exit_code == 0
    assert json.loads(result.output)["reason"] == "slot_too_far"
    listed = (await typed(tmp_path, place)).output
    assert f"{good.tx_id.hex()[:12]}  market.post_order      1  ok" in listed
    assert bad.tx_id.hex()[:12] not in listed
