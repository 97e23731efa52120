"""A stranger asks one neighbour for a proven bill: believed when true, refused for each lie."""

import asyncio
import json
import types
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

import cli
import node.proofs.light
from consensus.sync_messages import GetPath, decode_question
from market import client
from market.vm import merkle
from node.errors import ConfigError, NodeError, PeerError, ProofError
from node.genesis import Genesis, community_key, write_genesis
from node.network.base import Network
from node.network.libp2p import Libp2pNetwork
from node.network.memory import Hub, MemoryNetwork
from node.proofs.bill import PROOF_BYTES_MAX, ProveBill, ProvenBill, ProvenEntry
from node.proofs.light import ControlSource, account_of, prove_bill, visit
from tests.node.grid import key_of, make_genesis
from tests.node.network.homes import LOOPBACK, on_side, until
from tests.node.proofs.test_bill import (
    EPOCH_ENDS,
    HEAD,
    HOME,
    SLOT,
    Server,
    bill_of,
    header_at,
    set_of,
)
from tests.node.proofs.test_bill import sign as certify
from wire.codec import decode, encode

SERVER = key_of(70)
STRANGER = key_of(71)
ADDRESS = f"/memory/1/p2p/{SERVER.peer_id}"


def serve(server: Server, network: Network) -> None:
    """Let a network answer what a node answers, with what the server says."""

    async def prove(peer: str, data: bytes) -> bytes:
        question = decode(data, ProveBill, len(data))
        return await server.proof(question.address, question.slot)

    async def path(peer: str, data: bytes) -> bytes:
        question = decode_question(data)
        assert isinstance(question, GetPath)
        return await server.path(question.epoch, question.height)

    network.on_request("prove", prove)
    network.on_request("sync", path)


async def ask(server: Server, slot: int | None = None, not_before_ms: int = 0) -> ProvenBill:
    """Ask a server as a stranger, over the network's twin."""
    hub = Hub()
    network = MemoryNetwork(SERVER.peer_id, hub)
    serve(server, network)
    await network.start()
    try:
        stranger = MemoryNetwork(STRANGER.peer_id, hub)
        return await prove_bill(server.genesis, ADDRESS, HOME, slot, not_before_ms, stranger)
    finally:
        await network.stop()


async def test_a_stranger_proves_a_bill_over_sets_that_changed() -> None:
    proven = await ask(Server())
    assert proven.bill == client.Bill(**bill_of(2))
    assert (proven.height, proven.epoch, proven.signatures) == (HEAD, len(EPOCH_ENDS), 3)
    assert await ask(Server(), SLOT) == proven


# -- each lie, and how it is called


def another_amount(server: Server) -> None:
    server.state[client.bill_key(SLOT, 2)] = encode(bill_of(2, total_micro=4))


def another_homes_bill(server: Server) -> None:
    server.keys[2] = client.bill_key(SLOT, 3)


def another_homes_bill_under_its_name(server: Server) -> None:
    true = server.material()
    key = client.bill_key(SLOT, 3)
    posing = ProvenEntry(
        client.bill_key(SLOT, 2), server.state[key], merkle.prove(server.tree, key)
    )
    entries = (*true.entries[:2], posing)
    server.material = lambda: replace(true, entries=entries)  # type: ignore[method-assign]


def another_home(server: Server) -> None:
    """It claims that the home has another's number."""
    other = dict.fromkeys(client.Home.__struct_fields__, 0) | {"number": 3, "address": HOME}
    other |= {"meter": "m", "name": "two", "role": "prosumer"}
    other |= {"until_slot": None, "key": None, "offers": {}}
    server.state[client.home_key(HOME)] = encode(other)
    server.keys[2] = client.bill_key(SLOT, 3)


def no_bill_at_all(server: Server) -> None:
    true = server.material()
    absent = replace(true.entries[2], value=None)
    entries = (*true.entries[:2], absent)
    server.material = lambda: replace(true, entries=entries)  # type: ignore[method-assign]


def state_of_another_block(server: Server) -> None:
    """The header is the newest, the state one from before the bill changed."""
    server.head = certify(header_at(HEAD, bytes([1]) * 32, server.genesis.chain_id), 2)


def too_few_signatures(server: Server) -> None:
    server.head = certify(server.head.header, 2, (0, 1))


def signatures_of_an_old_set(server: Server) -> None:
    server.head = certify(server.head.header, 1)


def signatures_of_nobody(server: Server) -> None:
    """A certificate of the right form whose signatures are noise."""
    certificate = server.head.certificate
    noise = tuple(bytes([place + 1]) * 64 for place in range(len(certificate.signatures)))
    server.head = replace(server.head, certificate=replace(certificate, signatures=noise))


def certificate_of_another_header(server: Server) -> None:
    server.head = replace(server.head, header=replace(server.head.header, time_ms=99_000))


def header_of_another_chain(server: Server) -> None:
    server.head = certify(header_at(HEAD, merkle.root_of(server.tree), "another"), 2)


def a_set_of_its_own(server: Server) -> None:
    mine = replace(set_of(1), publics=tuple(key_of(90 + place).public for place in range(4)))
    server.ends[0] = replace(server.ends[0], next_authorities=mine)


def a_set_left_out(server: Server) -> None:
    del server.ends[0]


def no_way(server: Server) -> None:
    server.ends = []


def truncated(answer: Callable[..., Awaitable[bytes]], size: int) -> Callable[..., Any]:
    async def cut(*arguments: Any) -> bytes:
        return (await answer(*arguments))[:size]

    return cut


def proof_cut_short(server: Server) -> None:
    server.proof = truncated(server.proof, -1)  # type: ignore[method-assign]


def way_cut_short(server: Server) -> None:
    server.path = truncated(server.path, -1)  # type: ignore[method-assign]


def nothing_in_it(server: Server) -> None:
    server.proof = truncated(server.proof, 0)  # type: ignore[method-assign]


def entry_left_out(server: Server) -> None:
    del server.keys[1]


def another_slot(server: Server) -> None:
    server.keys[2] = client.bill_key(SLOT - 1, 2)


def too_much(server: Server) -> None:
    async def endless(address: str, slot: int | None) -> bytes:
        return bytes(PROOF_BYTES_MAX + 1)

    server.proof = endless  # type: ignore[method-assign]


def blocks_for_a_way(server: Server) -> None:
    async def other(epoch: int, height: int) -> bytes:
        return encode(["blocks", []])

    server.path = other  # type: ignore[method-assign]


LIES: dict[Callable[[Server], None], str] = {
    another_amount: "proves nothing: .*is not proven by the state root of block 25",
    another_homes_bill: "proves nothing: no proof is served of",
    another_homes_bill_under_its_name: "is not proven by the state root of block 25",
    another_home: "is not proven by the state root of block 25",
    no_bill_at_all: "is not proven by the state root of block 25",
    state_of_another_block: "is not proven by the state root of block 25",
    too_few_signatures: "proves nothing: the certificate of header 25: .*quorum",
    signatures_of_an_old_set: "proves nothing: the certificate of header 25: .*epoch",
    signatures_of_nobody: "proves nothing: the certificate of header 25: .*signature",
    certificate_of_another_header: "proves nothing: the certificate is not that of header 25",
    header_of_another_chain: "proves nothing: version 1 of chain 'another'",
    a_set_of_its_own: "the set shown is not the one that header 10 announces",
    a_set_left_out: "header 20 is of epoch 1, the trusted set is that of epoch 0",
    no_way: "no way is shown from epoch 0 to header 25",
    proof_cut_short: "malformed",
    way_cut_short: "malformed",
    nothing_in_it: "malformed",
    entry_left_out: "no proof is served of 'settlement/settled'",
    another_slot: "no proof is served of",
    too_much: "malformed: .* at most",
    blocks_for_a_way: "no way is shown from epoch 0 to header 25",
}


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
async def test_a_lying_peer_is_refused_with_a_reason(lie: Callable[[Server], None]) -> None:
    server = Server()
    lie(server)
    with pytest.raises(ProofError, match=LIES[lie]):
        await ask(server)


async def test_an_old_truth_is_refused() -> None:
    time_ms = Server().head.header.time_ms
    assert (await ask(Server(), not_before_ms=time_ms)).height == HEAD
    with pytest.raises(ProofError, match="too old: block 25"):
        await ask(Server(), not_before_ms=time_ms + 1)


# -- peers that are no help


async def test_a_peer_that_is_silent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node.proofs.light, "REQUEST_TIMEOUT_S", 0.1)
    server = Server()

    async def silent(address: str, slot: int | None) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    server.proof = silent  # type: ignore[method-assign]
    with pytest.raises(PeerError, match=f"{SERVER.peer_id} did not answer prove in 0.1 s"):
        await ask(server)


async def test_a_peer_that_knows_no_proofs_is_named() -> None:
    hub, server = Hub(), Server()
    network = MemoryNetwork(SERVER.peer_id, hub)
    await network.start()
    stranger = MemoryNetwork(STRANGER.peer_id, hub)
    with pytest.raises(PeerError, match="does not answer prove"):
        await prove_bill(server.genesis, ADDRESS, HOME, None, 0, stranger)
    await network.stop()


async def test_a_peer_that_goes_away_is_named() -> None:
    hub, server = Hub(), Server()
    network = MemoryNetwork(SERVER.peer_id, hub)

    async def leave(address: str, slot: int | None) -> bytes:
        hub.disconnect(SERVER.peer_id, STRANGER.peer_id)
        await asyncio.Event().wait()
        raise AssertionError

    server.proof = leave  # type: ignore[method-assign]
    serve(server, network)
    await network.start()
    stranger = MemoryNetwork(STRANGER.peer_id, hub)
    with pytest.raises(PeerError, match="went away"):
        await prove_bill(server.genesis, ADDRESS, HOME, None, 0, stranger)
    await network.stop()


async def test_an_address_where_nobody_is_ends_the_visit() -> None:
    stranger = MemoryNetwork(STRANGER.peer_id, Hub())
    with pytest.raises(PeerError, match=r"within 0\.1 s: .* community is closed"):
        async with visit(make_genesis(), ADDRESS, stranger, connect_timeout_s=0.1):
            raise AssertionError


@pytest.mark.parametrize(
    "address", ["", "home-02", "/ip4/127.0.0.1/tcp/4600", "/ip4/x/tcp/1/p2p/Q"]
)
async def test_what_is_no_address_is_said(address: str) -> None:
    with pytest.raises(ConfigError, match="/ip4/HOST/tcp/PORT/p2p/PEER_ID"):
        async with visit(make_genesis(), address):
            raise AssertionError


async def test_a_control_sockets_nonsense_is_malformed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for nonsense in ("zz", 5, None, ["00"]):

        async def told(data: Path, name: str, said: object = nonsense, **rest: Any) -> object:
            return said

        monkeypatch.setattr(node.proofs.light, "ask", told)
        assert await ControlSource(tmp_path).proof(HOME, None) == b""
        with pytest.raises(ProofError, match="malformed"):
            await prove_bill(make_genesis(), tmp_path, HOME, None, 0)


# -- who is asked about


def test_a_home_is_named_by_name_or_account() -> None:
    genesis = make_genesis(homes=10)
    assert account_of("home-1", genesis) == HOME
    assert account_of(key_of(99).address, genesis) == key_of(99).address
    with pytest.raises(ConfigError, match=r"called 'nobody'; there are home-0, .*home-7, \.\.\.;"):
        account_of("nobody", genesis)
    entries = tuple(replace(home, name="same") for home in genesis.market.homes)
    twice = replace(genesis, market=replace(genesis.market, homes=entries))
    with pytest.raises(ConfigError, match="10 homes are called 'same'"):
        account_of("same", twice)


# -- over libp2p, by the command


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, ["bill", "--verify", *arguments])


async def real_peer(server: Server, genesis: Genesis) -> Libp2pNetwork:
    network = Libp2pNetwork(SERVER, LOOPBACK, community_key(genesis.hash))
    serve(server, network)
    await network.start()
    return network


async def test_the_command_asks_a_real_peer_and_leaves_no_trace(tmp_path: Path) -> None:
    server = Server()
    genesis_file = tmp_path / "genesis.json"
    write_genesis(server.genesis, genesis_file)
    network = await real_peer(server, server.genesis)
    try:
        (address,) = network.listen_addresses()
        line = ["--from", address, "--genesis", str(genesis_file), "--home", "home-1", "--last"]
        # The server's blocks are of 1970.
        patient = [*line, "--max-age", str(10**10)]
        done = await asyncio.to_thread(invoke, *patient, "--json")
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)
        assert told["bill"] == bill_of(2)
        assert (told["proof"]["height"], told["proof"]["epoch"]) == (HEAD, 2)
        done = await asyncio.to_thread(invoke, *line)
        assert isinstance(done.exception, ProofError)
        assert "too old" in str(done.exception)
        another_amount(server)
        done = await asyncio.to_thread(invoke, *patient)
        assert isinstance(done.exception, ProofError)
        assert "is not proven by the state root" in str(done.exception)
        # Each visit ended, and nobody will ever try to call the visitors back.
        await until(lambda: not network.peers())

        async def known(side: Any) -> tuple[list[str], list[str]]:
            return list(side._book.peer_ids()), list(side._dialer._targets)

        seen = await on_side(types.SimpleNamespace(network=network), known)  # type: ignore[arg-type]
        assert seen == ([], [])
        assert network.counters()["requests_in"] >= 6
        assert network.counters()["offences"] == network.counters()["hostile"] == 0
    finally:
        await network.stop()


async def test_a_stranger_of_another_genesis_is_not_let_in() -> None:
    server = Server()
    network = await real_peer(server, make_genesis(homes=6))
    (address,) = network.listen_addresses()

    async def knock() -> None:
        async with visit(server.genesis, address, connect_timeout_s=60):
            raise AssertionError

    knocking = asyncio.create_task(knock())
    try:
        await until(lambda: network.counters()["hostile"] >= 1)
        assert not network.peers()
        assert not knocking.done()
    finally:
        knocking.cancel()
        await asyncio.gather(knocking, return_exceptions=True)
        await network.stop()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--from", "/x"], "give either --slot NUMBER or --last"),
        (["--last", "--from", "/x", "--node", "d"], "either --from ADDRESS or --node DIRECTORY"),
        (["--last", "--from", "/x"], "--genesis FILE and --home NAME"),
        (["--last", "--from", "/x", "--home", "home-1"], "--genesis FILE and --home NAME"),
    ],
)
def test_options_that_do_not_fit_are_said(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = invoke(*arguments)
    assert isinstance(done.exception, NodeError)
    assert words in str(done.exception)


def test_a_neighbours_word_alone_is_not_asked_for() -> None:
    done = CliRunner().invoke(cli.app, ["bill", "--last", "--from", "/x"])
    assert "give --verify with --from" in str(done.exception)
