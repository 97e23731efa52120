"""Made-up homes say what they should, and what cannot be asked of a street is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from node.api.control import QUESTION_BYTES_MAX
from node.errors import ControlError
from testnet import load as loads
from testnet.load import Load, LoadError, LoadPlan, as_text, load
from testnet.street import StreetPlan, create_street
from wire.codec import decode
from wire.transaction import TRANSACTION_BYTES_MAX, SignedTransaction


class Node:
    """Stands for the nodes of a street: takes what it is given, and decides it at once."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.taken: list[Any] = []
        self.refuse = ""

    async def ask(self, data: Path, question: str, *, timeout_s: float, **arguments: Any) -> Any:
        assert len(json.dumps({"ask": question, **arguments})) <= QUESTION_BYTES_MAX
        match question:
            case "homes":
                return [{"home": {"address": address}} for address in self.known]
            case "submit_many":
                if self.refuse == "away":
                    raise ControlError("away")
                raws = map(bytes.fromhex, arguments["transactions"])
                some = [decode(raw, SignedTransaction, TRANSACTION_BYTES_MAX) for raw in raws]
                if self.refuse:
                    return {"refused": [[0, self.refuse, "no"]], "accepted": len(some) - 1}
                self.taken += some
                return {"refused": [], "accepted": len(some)}
            case "transaction":
                return {"height": 3, "status": "decided", "code": "ok", "reason": ""}
        assert question == "latencies"
        return [100.0, 200.0]

    def entries(self) -> list[str]:
        return [item.tx.entry for item in self.taken]


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    found = Node()
    monkeypatch.setattr(loads, "ask", found.ask)
    monkeypatch.setattr(loads, "TURN_S", 0.02)
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    plan = StreetPlan(homes=4, time_lapse=180)
    return create_street(tmp_path_factory.mktemp("load") / "street", plan)


async def test_homes_are_registered_once(made: Any, node: Node) -> None:
    one = Load(made, LoadPlan(30, 10, 1, bursts=False))
    await one.register()
    assert one.registered == 30
    assert node.entries() == ["register", "mint"] * 30
    node.known = {item.tx.args["address"] for item in node.taken}
    # A later run has the same homes.
    later = Load(made, LoadPlan(31, 10, 1, bursts=False))
    await later.register()
    assert later.registered == 1


async def test_orders_come_at_their_pace_and_are_told(made: Any, node: Node) -> None:
    told = await Load(made, LoadPlan(5, 60, 0.2, bursts=False)).run()
    assert told["accepted"] == told["committed"] == node.entries().count("post_order") == 12
    senders = {item.tx.sender for item in node.taken if item.tx.entry == "post_order"}
    assert len(senders) == 5
    assert told["finality_ms"]["count"] == 8
    assert f"orders committed  {told['committed']}\n" in as_text(told)


async def test_a_burst_is_one_order_of_each(
    made: Any, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The next gate is always near enough.
    monkeypatch.setattr(loads, "BURST_MS", 10**9)
    await Load(made, LoadPlan(50, 1, 0.1, bursts=True)).run()
    assert node.entries().count("post_order") == 50


async def test_what_nodes_refuse_is_counted(made: Any, node: Node) -> None:
    node.refuse = "full"
    told = await Load(made, LoadPlan(5, 60, 0.1, bursts=False)).run()
    assert told["refused"]["full"] > 0
    node.refuse = "away"
    told = await Load(made, LoadPlan(5, 60, 0.1, bursts=False)).run()
    assert told["accepted"] == 0
    assert "no answer" in as_text(told)


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (LoadPlan(0, 1, 1, bursts=False), "--homes 0: 1 to"),
        (LoadPlan(1, 0, 1, bursts=False), "--rate 0: up to"),
        (LoadPlan(1, 1, 0, bursts=True), "--seconds 0: up to"),
        (LoadPlan(1, 5_000, 5_000, bursts=False), "more than 200000 orders"),
    ],
)
def test_what_cannot_be_asked_is_refused(made: Any, plan: LoadPlan, words: str) -> None:
    with pytest.raises(LoadError, match=words):
        Load(made, plan)


async def test_a_street_is_needed(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="no street here; start one"):
        await load(tmp_path, LoadPlan(1, 1, 1, bursts=False))
