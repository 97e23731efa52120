"""How a transaction ended is proven to who has the genesis file; any lie about it is called one."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

import cli
from market import client
from node.errors import ConfigError, ControlError, ProofError
from node.genesis import write_genesis
from node.network.memory import MemoryNetwork
from node.proofs.light import ControlSource, names_of, prove_receipt
from node.proofs.receipts import (
    PROOF_BYTES_MAX,
    NoReceipt,
    ReceiptProof,
    ReceiptReader,
    receipt_view,
)
from tests.node.grid import (
    BALANCE_MICRO,
    Member,
    address_of,
    at_height,
    key_of,
    running,
    until,
)
from tests.node.test_governance import EPOCH, changing_grid
from wire.codec import decode, encode
from wire.transaction import CheckedTransaction

replace = msgspec.structs.replace


async def decided(member: Member, call: client.Call) -> tuple[CheckedTransaction, int]:
    """Send a call and wait for its block, however it ends; return it with the height."""
    tx = member.sign(call)
    heights: list[int] = []
    member.node.chain.on_applied(
        lambda block, certificate, result: heights.extend(
            block.header.height for receipt in result.receipts if receipt.tx_id == tx.tx_id
        )
    )
    member.node.mempool.submit(tx.raw)
    await until(lambda: bool(heights), "the transaction is in a block")
    return tx, heights[0]


class Liar(ControlSource):
    """A node's answers, with the receipt's proof altered on the way."""

    def __init__(self, data: Path, alter: Callable[[ReceiptProof], ReceiptProof]) -> None:
        super().__init__(data)
        self._alter = alter

    async def receipt(self, tx_id: bytes) -> bytes:
        true = decode(await super().receipt(tx_id), ReceiptProof, PROOF_BYTES_MAX)
        return encode(self._alter(true))


OTHER = client.sign_call(client.transfer(key_of(3).address, 1), key_of(0), "grid", 1, 2)
LIES: dict[str, Callable[[ReceiptProof], ReceiptProof]] = {
    "another end": lambda p: replace(p, receipt=replace(p.receipt, code="revert", reason="no")),
    "no events": lambda p: replace(p, receipt=replace(p.receipt, events=())),
    "less gas": lambda p: replace(p, receipt=replace(p.receipt, gas=p.receipt.gas - 1)),
    "another place": lambda p: replace(p, index=p.index + 1),
    "another transaction": lambda p: replace(p, receipt=replace(p.receipt, tx_id=bytes(32))),
    "another question": lambda p: replace(p, transaction=OTHER.raw),
    "no question": lambda p: replace(p, transaction=b""),
    "another root": lambda p: replace(
        p,
        signed=replace(p.signed, header=replace(p.signed.header, receipts_root=bytes([1]) * 32)),
    ),
    "another state": lambda p: replace(p, proof=replace(p.proof, leaf_value_hash=bytes(32))),
}


async def test_a_receipt_is_proven_over_epochs_and_lies_are_called(tmp_path: Path) -> None:
    grid = changing_grid(tmp_path, homes=5)
    async with running(grid, range(4)) as members:
        sender, asked = members[0], members[2]
        await at_height(members, EPOCH + 1)
        good, height = await decided(sender, client.transfer(key_of(1).address, 700))
        bad, _ = await decided(sender, client.transfer(key_of(1).address, 9 * BALANCE_MICRO))
        await at_height(members, height + EPOCH)
        data = asked.data
        proven = await prove_receipt(grid.genesis, data, good.tx_id)
        assert (proven.height, proven.receipt.code) == (height, "ok")
        assert proven.epoch == (height - 1) // EPOCH
        assert proven.signatures >= 3
        assert [event.name for event in proven.receipt.events] == ["transferred"]
        stranger = MemoryNetwork(key_of(90).peer_id, grid.hub)
        assert await prove_receipt(grid.genesis, address_of(2), good.tx_id, stranger) == proven
        assert proven.tx == good.tx
        view = receipt_view(proven, names_of(grid.genesis))
        assert (view["id"], view["proof"]["height"]) == (good.tx_id.hex(), height)
        assert (view["asked"]["sender_name"], view["asked"]["args"]) == ("home-0", good.tx.args)
        refused = await prove_receipt(grid.genesis, data, bad.tx_id)
        assert (refused.receipt.code, refused.receipt.reason) == ("revert", "no_money")
        for lie in LIES.values():
            with pytest.raises(ProofError, match=r"proves nothing|malformed"):
                await ReceiptReader(grid.genesis).fetch(Liar(data, lie), good.tx_id)
        with pytest.raises(ControlError, match="knows of no block"):
            await prove_receipt(grid.genesis, data, bytes(32))
        with pytest.raises(ControlError, match="knows of no block"):
            await prove_receipt(grid.genesis, data, b"short")
        others = replace(grid.genesis, authorities=grid.genesis.authorities[::-1])
        with pytest.raises(ProofError, match="proves nothing"):
            await prove_receipt(others, data, good.tx_id)


async def test_explained_with_its_proof(tmp_path: Path) -> None:
    grid = changing_grid(tmp_path, homes=5)
    async with running(grid, range(4)) as members:
        bad, height = await decided(members[0], client.transfer(key_of(1).address, 2**49))
        genesis = tmp_path / "genesis.json"
        write_genesis(grid.genesis, genesis)
        line = ["market", "explain", bad.tx_id.hex(), "--node", str(members[0].data)]
        line += ["--verify", "--genesis", str(genesis)]
        shown = await asyncio.to_thread(CliRunner().invoke, cli.app, line)
        assert shown.exit_code == 0, shown.output
        assert "refused  no_money: the balance is" in shown.output
        assert "accepted would be: an amount that the balance covers" in shown.output
        assert f"authorities of epoch {(height - 1) // EPOCH}: block {height}, " in shown.output
        line[2] = "ab" * 32
        assert (await asyncio.to_thread(CliRunner().invoke, cli.app, line)).exit_code == 1


def test_there_is_no_other_answer() -> None:
    assert decode(encode(NoReceipt("busy")), NoReceipt, 64) == NoReceipt("busy")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ab" * 32], "give --verify with --from"),
        (["ab" * 32, "--verify", "--node", "x"], "either --from ADDRESS or --node DIRECTORY"),
        (["abcdef12", "--verify"], "all 64 hexadecimal digits"),
        (["--verify"], "all 64 hexadecimal digits"),
        (["ab" * 32, "--verify"], "--genesis FILE"),
    ],
)
def test_what_cannot_be_asked_of_a_neighbour_is_said(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.app, ["market", "explain", *words, "--from", "/x"])
    assert isinstance(done.exception, ConfigError)
    assert said in str(done.exception)
