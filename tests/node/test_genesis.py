"""The genesis file: read back whole, refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.params import Params
from market import governance
from market.app import Application
from node.errors import GenesisError
from node.genesis import (
    ChainParams,
    Genesis,
    chain_of,
    community_key,
    read_genesis,
    values_of,
    write_genesis,
)
from tests.node.grid import key_of, make_genesis

Change = Callable[[dict[str, Any]], object]


def tree_of(genesis: Genesis, directory: Path) -> dict[str, Any]:
    file = directory / "genesis.json"
    write_genesis(genesis, file)
    tree = json.loads(file.read_text())
    assert isinstance(tree, dict)
    return tree


def refused(directory: Path, content: object) -> str:
    file = directory / "genesis.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(GenesisError) as caught:
        read_genesis(file)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(str(file))
    return line


def test_a_genesis_reads_back(tmp_path: Path) -> None:
    genesis = make_genesis(homes=6, gate_lead_ms=60_000)
    write_genesis(genesis, tmp_path / "g")
    back = read_genesis(tmp_path / "g")
    assert back == genesis
    assert back.hash == genesis.hash
    assert isinstance(back.market.tariffs[0][1], tuple)
    assert community_key(back.hash) == community_key(genesis.hash)


def test_the_hash_is_of_the_content_not_of_its_spelling(tmp_path: Path) -> None:
    genesis = make_genesis()

    def backwards(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: backwards(value[key]) for key in reversed(value)}
        return [backwards(item) for item in value] if isinstance(value, list) else value

    file = tmp_path / "g"
    file.write_text(json.dumps(backwards(tree_of(genesis, tmp_path)), indent=7))
    assert read_genesis(file).hash == genesis.hash


def test_the_hash_covers_every_part() -> None:
    genesis = make_genesis()
    faster = msgspec.structs.replace(genesis.chain, block_interval_ms=101)
    timers = msgspec.structs.replace(genesis.chain, consensus=Params(vote_ms=201))
    market = msgspec.structs.replace(genesis.market, margin_percent=11)
    governance = msgspec.structs.replace(genesis.governance, bond_micro=11)
    changed = [
        msgspec.structs.replace(genesis, chain=faster),
        msgspec.structs.replace(genesis, chain=timers),
        msgspec.structs.replace(genesis, market=market),
        msgspec.structs.replace(genesis, governance=governance),
        msgspec.structs.replace(genesis, authorities=genesis.authorities[::-1]),
    ]
    assert len({genesis.hash, *(other.hash for other in changed)}) == 6
    assert len({community_key(one.hash) for one in (genesis, *changed)}) == 6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.update(extra=1), ["genesis.extra is unknown", "version, authorities"]),
        (lambda t: t["chain"].update(x=1), ["genesis.chain.x is unknown", "heartbeat_ms"]),
        (lambda t: t["market"].pop("homes"), ["genesis.market.homes is missing"]),
        (lambda t: t.pop("market"), ["genesis.market is missing"]),
        (lambda t: t.update(version="1"), ["genesis.version", "Expected `int`"]),
        (lambda t: t.update(version=2), ["version is 2, this program reads 1"]),
        (lambda t: t.update(market=[]), ["genesis.market is an object, not list"]),
        (lambda t: t.update(authorities="x"), ["genesis.authorities"]),
        (lambda t: t["authorities"].pop(), ["authorities: 3 given, 4 to 32"]),
        (
            lambda t: t["authorities"].append(t["authorities"][0]),
            ["the same key stands there twice"],
        ),
        (lambda t: t["authorities"].append("00"), ["each is a public key of 32 bytes"]),
        (lambda t: t["authorities"].append("zz"), ["genesis.authorities[4] is hexadecimal"]),
        (lambda t: t["authorities"].append(7), ["genesis.authorities[4] is hexadecimal"]),
        (lambda t: t["chain"].update(block_interval_ms=5), ["chain.block_interval_ms is 5", "100"]),
        (lambda t: t["chain"].update(block_bytes_max=2**21), ["chain.block_bytes_max"]),
        (lambda t: t["chain"].update(heartbeat_ms=1.5), ["genesis.chain.heartbeat_ms"]),
        (lambda t: t["chain"]["consensus"].update(vote_ms=0), ["chain.consensus.vote_ms is 0"]),
        (lambda t: t["chain"]["consensus"].update(summary_ms=-1), ["consensus.summary_ms is -1"]),
        (lambda t: t["market"].update(slot_minutes=7), ["market: slot_minutes must divide 60"]),
        (lambda t: t["market"].update(time_lapse="x"), ["genesis.market.time_lapse"]),
        (lambda t: t["market"].update(margin_percent=2**70), ["genesis.market.margin_percent"]),
        (lambda t: t["market"].update(feed_in=[[0, 1, 2]]), ["genesis.market.feed_in[0] has 3"]),
        (lambda t: t["market"].update(feed_in=[[0, "x"]]), ["genesis.market.feed_in[0][1]"]),
        (lambda t: t["market"].update(tariffs=[[0, [[0, None]]]]), ["tariffs[0][1][0][1]"]),
        (lambda t: t["market"].update(regulator="cw12"), ["market: regulator"]),
        (lambda t: t["market"]["homes"][2].update(role="king"), ["homes[2]", "role", "prosumer"]),
        (lambda t: t["governance"].update(epoch_blocks=3), ["governance.epoch_blocks", "4 to"]),
        (lambda t: t["governance"].update(bond=3), ["genesis.governance.bond is unknown"]),
        (lambda t: t["market"]["homes"][1].update(name=5), ["genesis.market.homes[1].name"]),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: Change, words: list[str]) -> None:
    tree = tree_of(make_genesis(), tmp_path)
    change(tree)
    line = refused(tmp_path, tree)
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    "text",
    ["", "{", "[" * 100_000, "\ud800", "1" * 5_000, '{"version": ' + "1" * 5_000 + "}"],
    ids=["empty", "cut", "deep", "surrogate", "long number", "long number inside"],
)
def test_what_is_no_json_is_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "genesis.json"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(GenesisError, match="not JSON"):
        read_genesis(file)


def test_a_missing_or_huge_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GenesisError, match=r"absent: cannot be read \(No such file"):
        read_genesis(tmp_path / "absent")
    assert "more than the" in refused(tmp_path, "x" * (4 * 1_048_576 + 1))


@settings(max_examples=25, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists))
def test_any_json_is_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, value: object
) -> None:
    line = refused(tmp_path_factory.getbasetemp(), json.dumps(value))
    assert "genesis is an object" in line


def test_the_default_chain_is_within_its_bounds() -> None:
    ChainParams().check()
    assert key_of(0).public in make_genesis().authorities


def test_parameters_have_one_name_each_and_a_vote_stays_within_their_bounds() -> None:
    genesis = make_genesis()
    assert chain_of(values_of(genesis.chain)) == genesis.chain
    app = Application(genesis.market, founding=genesis.founding())
    app.commit(app.genesis())
    parameters = governance.parameters(app.query)
    assert {item.name: item.value for item in parameters} == values_of(genesis.chain)
    assert values_of(ChainParams()).keys() == {item.name for item in parameters}
    for item in parameters:
        assert item.low <= values_of(ChainParams())[item.name] <= item.high
        for value in (item.low, item.high):
            chain_of(values_of(ChainParams()) | {item.name: value}).check()
