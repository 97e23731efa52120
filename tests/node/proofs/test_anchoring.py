"""What a node shows of anchored records is believed as far as it is proven, and no further."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

import cli
from consensus.checkpoint import SlotTotals
from consensus.messages import Header
from node.errors import ControlError, GenesisError, ProofError
from node.genesis import write_genesis
from node.proofs import light
from node.proofs.anchoring import AnchorProof, AnchorReader, NoAnchor, anchor_view
from tests.node.grid import make_genesis
from tests.regions.anchored import Server
from wire.codec import encode


@pytest.fixture(scope="module")
def server() -> Server:
    return Server()


async def test_a_record_is_proven_over_both_chains_epochs(server: Server) -> None:
    assert server.main.head is not None
    assert server.main.head.header.epoch > 0
    for number, finality in ((1, "anchored"), (2, "anchored"), (3, "regional")):
        proven = await AnchorReader(server.genesis).fetch(server, number)
        view = anchor_view(proven)
        assert (view["region"], view["number"], view["finality"]) == (1, number, finality)
        assert view["certificate"]["signatures"] == 3
        assert view["main"]["last_anchored"] == 2
    # The last one is of the region's next epoch.
    proven = await AnchorReader(server.genesis).fetch(server, 5)
    assert proven.checkpoint.header.epoch == 1


async def test_what_a_record_has_of_its_slots_is_printed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proven = await AnchorReader(server.genesis).fetch(server, 1)
    sums = dict(zip(SlotTotals.__struct_fields__, range(1, 16), strict=False))
    totals = SlotTotals(**sums | {"slot": 1_957_920, "net_micro": -47_661, "settlement_root": "0"})
    record = msgspec.structs.replace(proven.record, slots=(totals,))

    async def prove(*_: Any) -> Any:
        return proven._replace(record=record)

    monkeypatch.setattr(light, "prove_anchor", prove)
    file = tmp_path / "genesis.json"
    write_genesis(server.genesis, file)
    words = ["verify", "1", "--genesis", str(file), "--from", "/ip4/192.0.2.1/tcp/1/p2p/x"]
    said = await asyncio.to_thread(CliRunner().invoke, cli.app, words)
    assert "slot 1957920: 2 homes, 5 Wh from the grid, 6 Wh fed in, net -0.047661" in said.output
    told = await asyncio.to_thread(CliRunner().invoke, cli.app, [*words, "--json"])
    (row,) = json.loads(told.output)["slots"]
    assert (row["slot"], row["exported_wh"]) == (1_957_920, 12)


def altered(proof: AnchorProof, **changes: Any) -> AnchorProof:
    return msgspec.structs.replace(proof, **changes)


def other_header(header: Header) -> Header:
    return msgspec.structs.replace(header, state_root=bytes(32))


def cases(server: Server) -> list[tuple[AnchorProof, str]]:
    good = server.proof(1)
    checkpoint, main = good.checkpoint, good.main
    forged = msgspec.structs.replace(checkpoint, header=other_header(checkpoint.header))
    mixed = msgspec.structs.replace(checkpoint, proof=server.checkpoint(2).proof)
    last, root = good.entries
    later = server.proof(2).entries[1]
    swapped = msgspec.structs.replace(root, value=later.value)
    untrue = msgspec.structs.replace(main, header=other_header(main.header))
    return [
        (altered(good, checkpoint=server.checkpoint(2)), "it is checkpoint 2 of region 1"),
        (altered(good, checkpoint=forged), "no way is shown to the region's header"),
        (altered(good, checkpoint=mixed), "does not prove record 1"),
        (altered(good, main=untrue), "proves nothing"),
        (altered(good, entries=(last,)), "no proof is served of 'anchor/root"),
        (altered(good, entries=(root,)), "no proof is served of 'anchor/last"),
        (altered(good, entries=(last, swapped)), "is not proven by the state root"),
    ]


async def test_what_does_not_prove_it_is_refused(server: Server) -> None:
    for proof, words in cases(server):
        source = Shown(server, encode(proof))
        with pytest.raises(ProofError, match=words):
            await AnchorReader(server.genesis).fetch(source, 1)
    with pytest.raises(ProofError, match="malformed"):
        await AnchorReader(server.genesis).fetch(Shown(server, b"\x93"), 1)
    with pytest.raises(ControlError, match="keeps no such checkpoint"):
        await AnchorReader(server.genesis).fetch(Shown(server, encode(NoAnchor("unknown"))), 1)


def test_a_street_by_itself_has_nothing_anchored() -> None:
    with pytest.raises(GenesisError, match="is no region"):
        AnchorReader(make_genesis())


class Shown:
    """A node that shows this, whatever it is asked for."""

    def __init__(self, server: Server, data: bytes) -> None:
        self._data = data
        self.path = server.path
        self.main_path = server.main_path

    async def anchor(self, number: int) -> bytes:
        del number
        return self._data
