"""`commonwatt gov` against running nodes: what it prints, and what it says of refusals."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import cli
from market.client import Call
from node.api import governor
from node.config import Config, settings_text
from node.errors import ControlError
from tests.node.grid import REGULATOR, Member, at_height, level, running, until
from tests.node.test_governance import EPOCH, changing_grid
from wire.codec import decode
from wire.transaction import TRANSACTION_BYTES_MAX, SignedTransaction, Transaction, id_of


async def gov(member: Member, *arguments: str) -> str:
    """Run the command in a thread, beside the nodes; return what it prints, or raise its error."""
    settings = member.directory / "outside.toml"  # the twin's addresses are no settings
    settings.write_text(settings_text(Config(node=member.config.node)))
    config = ["--config", str(settings)]
    result = await asyncio.to_thread(
        CliRunner().invoke, cli.app, ["gov", *arguments, *config], catch_exceptions=True
    )
    if isinstance(result.exception, ControlError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


async def test_a_seat_by_the_command_line(tmp_path: Path) -> None:
    grid = changing_grid(tmp_path, homes=5)
    async with running(grid, range(5)) as members:
        candidate = members[4]
        with pytest.raises(ControlError, match=r"^not_authority: cw[0-9a-f]{40} has no seat"):
            await gov(candidate, "propose", "set", "vote_ms", "800")
        with pytest.raises(ControlError, match=r"^not_candidate: .* sends governance.stand first"):
            await gov(members[0], "propose", "add", candidate.key.address)
        with pytest.raises(ControlError, match=r"^bad_argument: vote_ms must be from 50 to 60000"):
            await gov(members[0], "propose", "set", "vote_ms", "1")
        with pytest.raises(ControlError, match=r"^bad_argument: set vote_ms to which value"):
            await gov(members[0], "propose", "set", "vote_ms")
        with pytest.raises(ControlError, match=r"^bad_argument: add takes an address"):
            await gov(members[0], "propose", "add", candidate.key.address, "7")
        with pytest.raises(ControlError, match=r"^unknown_proposal: there is no proposal 1"):
            await gov(members[1], "vote", "1")
        assert "this home stands for a seat" in await gov(candidate, "stand")
        await level(members)
        opened = await gov(members[0], "propose", "add", candidate.key.address, "--blocks", "900")
        assert "proposal 1 is open" in opened
        await level(members)
        assert "still open" in await gov(members[1], "vote", "1", "--yes")
        await level(members)
        done = json.loads(await gov(members[2], "vote", "1", "--json"))
        await level(members)
        assert [name for _, name, _ in done["events"]] == ["voted", "passed"]
        with pytest.raises(ControlError, match=r"^closed: proposal 1 is (passed|in_force)"):
            await gov(members[3], "vote", "1", "--no")
        await at_height(members, done["height"] + EPOCH)
        await until(lambda: candidate.node.chain.voting, "the candidate has its seat")
        await at_height(members, candidate.height + 3)
        shown = await gov(candidate, "list")
        assert "4 of 5 authorities decide" in shown
        rows = re.findall(r" seated .* signed (\d+) of the last (\d+) blocks$", shown, re.MULTILINE)
        signed, (blocks, *others) = [int(row[0]) for row in rows], [int(row[1]) for row in rows]
        # Whoever is late with a block is not in its certificate, but four of five are.
        assert others == [blocks] * 4
        assert 4 * blocks <= sum(signed) <= 5 * blocks
        assert blocks > 0
        assert f"add {candidate.key.address}: in_force, 3 for, 0 against" in shown
        found = json.loads(await gov(members[3], "list", "--json"))
        assert found["epoch"]["addresses"][4] == candidate.key.address
        assert {"name": "vote_ms", "value": 200, "low": 50, "high": 60000} in found["parameters"]


async def test_gov_without_a_node_says_so(tmp_path: Path) -> None:
    grid = changing_grid(tmp_path, homes=4)
    with pytest.raises(ControlError, match="no node is running"):
        await gov(grid.members[0], "list")
    with pytest.raises(ControlError, match="no node is running"):
        await gov(grid.members[0], "stand")


class Overtaking:
    """Stands for a node at which somebody else signs with the same key, too."""

    def __init__(self, overtaken: dict[str, str]) -> None:
        self.overtaken = overtaken
        self.last = 0
        self.tried: list[Transaction] = []
        self._by_id: dict[str, Transaction] = {}

    async def ask(self, data: Path, question: str, **arguments: Any) -> Any:
        if question == "status":
            return {"chain_id": "grid"}
        if question == "nonce":
            return self.last
        if question == "submit_many":
            refused = []
            for place, text in enumerate(arguments["transactions"]):
                raw = bytes.fromhex(text)
                tx = decode(raw, SignedTransaction, TRANSACTION_BYTES_MAX).tx
                self.tried.append(tx)
                self._by_id[id_of(tx).hex()] = tx
                if self.overtaken.get(tx.entry) == "at once":
                    del self.overtaken[tx.entry]
                    refused.append([place, "bad_nonce", "too low"])
            self.last = max(self.last, *(tx.nonce for tx in self.tried)) + 100
            return {"refused": refused}
        assert question == "transaction"
        tx = self._by_id[arguments["id"]]
        if self.overtaken.get(tx.entry) == "later":
            del self.overtaken[tx.entry]
            return {"height": None, "status": "refused", "reason": "bad_nonce", "message": "now"}
        if tx.entry == "d":
            return {"height": 7, "code": "rejected", "reason": "bad_argument", "message": "no"}
        return {"height": 7, "code": "ok", "entry": tx.entry}


async def test_calls_that_another_overtakes_are_signed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Overtaking({"b": "at once", "c": "later"})
    monkeypatch.setattr(governor, "ask", node.ask)
    calls = [Call("registry", entry, {}) for entry in "abcde"]
    ends = await governor.decide_each(REGULATOR, calls, tmp_path)
    assert [str(end) if isinstance(end, ControlError) else end["entry"] for end in ends] == [
        *"abc",
        "bad_argument: no",
        "e",
    ]
    assert [tx.entry for tx in node.tried] == [*"abcde", *"bc"]
    nonces = [tx.nonce for tx in node.tried]
    assert nonces == sorted(set(nonces))
    assert nonces[5] > node.tried[4].nonce


async def test_an_account_has_only_so_many_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Overtaking({})
    asked: list[int] = []

    async def ask(data: Path, question: str, **arguments: Any) -> Any:
        if question == "submit_many":
            asked.append(len(arguments["transactions"]))
        return await node.ask(data, question, **arguments)

    monkeypatch.setattr(governor, "ask", ask)
    calls = [Call("registry", f"e{number}", {}) for number in range(100)]
    ends = await governor.decide_each(REGULATOR, calls, tmp_path)
    assert [end["entry"] for end in ends if isinstance(end, dict)] == [c.entry for c in calls]
    assert asked == [48, 48, 4]
