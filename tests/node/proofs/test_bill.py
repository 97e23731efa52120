"""A bill that proves itself: true as served, refused when anything in it is not."""

import asyncio
import contextlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

import cli
from consensus.authorities import AuthoritySet, build_certificate
from consensus.light import SignedHeader
from consensus.messages import PRECOMMIT, Header, Vote, header_hash, vote_signed_bytes
from consensus.sync_messages import Headers
from market import client
from market.vm import merkle
from node.config import Config, settings_text
from node.errors import ControlError, ProofError
from node.genesis import Genesis, write_genesis
from node.network.base import NetworkError
from node.network.memory import MemoryNetwork
from node.proofs import bill as node_bill
from node.proofs.bill import (
    QUESTION_BYTES_MAX,
    BillProof,
    BillReader,
    ProveBill,
    ProvenEntry,
    Unproven,
    bill_view,
)
from node.proofs.light import prove_bill, visit
from node.setup import GENESIS_NAME
from tests.consensus.ready import ready_chain
from tests.node.grid import Grid, Member, address_of, key_of, make_genesis, now_ms, running, until
from wire.codec import decode, encode
from wire.errors import DecodeError
from wire.keys import SigningKey, is_address
from wire.transaction import Refused

SLOT = 1_960_000
HOME = key_of(1).address
EPOCH_ENDS = (10, 20)
HEAD = 25


def keys_of(epoch: int) -> list[SigningKey]:
    """Each epoch has authorities of its own."""
    return [key_of(10 * epoch + place) for place in range(4)]


def set_of(epoch: int) -> AuthoritySet:
    return AuthoritySet(epoch, tuple(key.public for key in keys_of(epoch)))


def sign(header: Header, epoch: int, voters: tuple[int, ...] = (0, 1, 3)) -> SignedHeader:
    """Certify a header by the authorities of an epoch."""
    hash_, height, votes = header_hash(header), header.height, {}
    signed = vote_signed_bytes(PRECOMMIT, header.chain_id, epoch, height, 0, hash_)
    for voter in voters:
        signature = keys_of(epoch)[voter].sign(signed)
        votes[voter] = Vote(PRECOMMIT, epoch, height, 0, hash_, voter, signature)
    certificate = build_certificate(header.chain_id, epoch, height, 0, hash_, votes)
    ends = header.next_authorities_hash != header.authorities_hash
    return SignedHeader(header, certificate, set_of(epoch + 1) if ends else None)


def header_at(height: int, state_root: bytes, chain_id: str) -> Header:
    epoch = sum(height > end for end in EPOCH_ENDS)
    following = epoch + (height in EPOCH_ENDS)
    return replace(
        ready_chain().blocks[3].header,
        chain_id=chain_id,
        epoch=epoch,
        height=height,
        time_ms=height * 1_000,
        state_root=state_root,
        authorities_hash=set_of(epoch).hash,
        next_authorities_hash=set_of(following).hash,
    )


def bill_of(number: int, total_micro: int = 5) -> dict[str, Any]:
    bill: dict[str, Any] = dict.fromkeys(client.Bill.__struct_fields__, 0)
    return bill | {"slot": SLOT, "home": number, "read": True, "total_micro": total_micro}


class Server:
    """A node that serves what it likes."""

    def __init__(self) -> None:
        self.genesis: Genesis = make_genesis()
        home: dict[str, Any] = dict.fromkeys(client.Home.__struct_fields__, 0)
        home |= {"place": [0, 0, False], "until_slot": None, "key": None, "offers": {}}
        home["lost"] = False
        home |= {"number": 2, "address": HOME, "meter": "m", "name": "two", "role": "prosumer"}
        self.state = {
            client.home_key(HOME): encode(home),
            client.SETTLED_KEY: encode([SLOT - 1, SLOT]),
            client.bill_key(SLOT, 2): encode(bill_of(2)),
            client.bill_key(SLOT, 3): encode(bill_of(3, 1)),
            "other": b"\x01",
        }
        chain_id = self.genesis.chain_id
        self.head = sign(header_at(HEAD, merkle.root_of(self.tree), chain_id), 2)
        self.ends = [
            sign(header_at(end, bytes(32), chain_id), epoch) for epoch, end in enumerate(EPOCH_ENDS)
        ]
        self.keys = [client.home_key(HOME), client.SETTLED_KEY, client.bill_key(SLOT, 2)]

    @property
    def tree(self) -> merkle.Tree:
        return merkle.update(None, self.state)

    def material(self) -> BillProof:
        tree = self.tree
        entries = [
            ProvenEntry(key, self.state.get(key), merkle.prove(tree, key)) for key in self.keys
        ]
        return BillProof(self.head, tuple(entries))

    async def proof(self, address: str, slot: int | None) -> bytes:
        return encode(self.material())

    async def path(self, epoch: int, height: int) -> bytes:
        ends = [end for end in self.ends if end.header.epoch >= epoch]
        return encode(Headers((*ends, self.head)))

    def read(self, slot: int | None = None, not_before_ms: int = 0) -> Any:
        return asyncio.run(BillReader(self.genesis, not_before_ms).fetch(self, HOME, slot))

    def refused(self, slot: int | None = None) -> str:
        with pytest.raises(ProofError) as caught:
            self.read(slot)
        return str(caught.value)


def test_a_true_bill_is_proven_across_set_changes() -> None:
    proven = Server().read()
    assert proven.bill == client.Bill(**bill_of(2))
    assert (proven.slot, proven.height, proven.epoch, proven.signatures) == (SLOT, HEAD, 2, 3)
    assert proven.home.number == 2
    assert Server().read(SLOT) == proven


def test_a_missing_bill_is_proven_to_be_missing() -> None:
    server = Server()
    server.keys[2] = client.bill_key(7, 2)
    assert server.read(7).bill is None
    other = key_of(4).address
    server.keys[0] = client.home_key(other)
    with pytest.raises(ControlError, match="no home of this chain"):
        asyncio.run(BillReader(server.genesis).fetch(server, other, None))


def test_another_value_is_refused() -> None:
    server = Server()
    true = server.material()
    server.state[client.bill_key(SLOT, 2)] = encode(bill_of(2, total_micro=4))
    assert "not proven by the state root" in server.refused()
    entries = list(true.entries)
    entries[2] = replace(entries[2], value=None)
    server.material = lambda: replace(true, entries=tuple(entries))  # type: ignore[method-assign]
    assert "not proven by the state root" in server.refused()


def test_another_homes_bill_or_slot_is_refused() -> None:
    server = Server()
    server.keys[2] = client.bill_key(SLOT, 3)
    assert "no proof is served" in server.refused()
    true = Server().material()
    other = server.material().entries[2]
    posing = replace(other, key=client.bill_key(SLOT, 2))
    server.material = lambda: replace(true, entries=(*true.entries[:2], posing))  # type: ignore[method-assign]
    assert "not proven by the state root" in server.refused()
    server = Server()
    assert "no proof is served" in server.refused(SLOT - 1)


@pytest.mark.parametrize("missing", range(3))
def test_what_is_not_served_is_missed(missing: int) -> None:
    server = Server()
    del server.keys[missing]
    assert "no proof is served" in server.refused()


def test_headers_that_others_signed_are_refused() -> None:
    for epoch, voters, word in (
        (0, (0, 1, 3), "epoch"),
        (2, (0, 1), "quorum"),
        (3, (0, 1, 2), "epoch"),
    ):
        server = Server()
        server.head = sign(server.head.header, epoch, voters)
        assert word in server.refused()
    server = Server()
    server.head = replace(server.head, header=replace(server.head.header, time_ms=99_000))
    assert "certificate" in server.refused()


def test_a_set_that_was_never_announced_is_refused() -> None:
    server = Server()
    mine = AuthoritySet(1, tuple(key_of(90 + place).public for place in range(4)))
    server.ends[0] = replace(server.ends[0], next_authorities=mine)
    assert "not the one" in server.refused()
    server = Server()
    del server.ends[0]
    assert "epoch" in server.refused()
    server = Server()
    server.ends = []
    assert "no way is shown from epoch 0 to header 25" in server.refused()


def test_another_genesis_proves_nothing() -> None:
    server = Server()
    server.genesis = replace(server.genesis, authorities=set_of(1).publics)
    assert "proves nothing" in server.refused()


def test_an_old_proof_is_refused_however_true() -> None:
    server = Server()
    time_ms = server.head.header.time_ms
    assert server.read(not_before_ms=time_ms) == server.read()
    with pytest.raises(ProofError, match=r"too old: block 25 of 1970-01-01 00:00:25 UTC"):
        server.read(not_before_ms=time_ms + 1)


def test_a_way_that_leads_nowhere_ends() -> None:
    server = Server()
    pages = 0

    async def nowhere(epoch: int, height: int) -> bytes:
        nonlocal pages
        pages += 1
        return encode(Headers((server.head,)))

    server.path = nowhere  # type: ignore[method-assign]
    assert "no way is shown" in server.refused()
    assert pages == 1


@pytest.mark.parametrize(
    ("reason", "words"),
    [("no_block", "no block yet"), ("moving", "too fast"), ("busy", "too many ask")],
)
def test_no_proof_just_now_is_said(reason: Any, words: str) -> None:
    server = Server()

    async def unproven(address: str, slot: int | None) -> bytes:
        return encode(Unproven(reason))

    server.proof = unproven  # type: ignore[method-assign]
    with pytest.raises(ControlError, match=words):
        server.read()


def test_any_flipped_byte_is_noticed() -> None:
    server = Server()
    true = encode(server.material())
    rng = random.Random(1)

    async def flipped(address: str, slot: int | None) -> bytes:
        return data

    server.proof = flipped  # type: ignore[method-assign]
    # Every third byte: `tests.fuzz` tries a million proofs more.
    for place in range(rng.randrange(3), len(true), 3):
        data = true[:place] + bytes([true[place] ^ 1 << rng.randrange(8)]) + true[place + 1 :]
        server.refused()
    for size in (0, 1, 100, len(true) - 1):
        data = true[:size]
        assert "malformed" in server.refused()


async def settle_a_slot(members: list[Member], genesis: Genesis) -> int:
    """Two homes trade; wait until their slot is settled everywhere; return it."""
    clock = genesis.market.clock()
    query = members[0].node.app.query

    def now() -> int:
        return clock.market_ms(now_ms()) // clock.slot_ms

    def booked(slot: int) -> bool:
        return len(client.order_book(query, slot)) == 2

    slot = 0
    while not booked(slot):
        # A busy machine may miss a gate: then the next one.
        slot = now() + 3
        for member, side in ((members[0], "sell"), (members[1], "buy")):
            call = client.post_order(slot, side, 500, 300_000)
            with contextlib.suppress(Refused):
                member.node.mempool.submit(member.sign(call).raw)
        await until(lambda at=slot: booked(at) or now() > at, "both orders are in, or it began")
    await until(
        lambda: all(slot in client.settled_slots(m.node.app.query, 9) for m in members),
        "the slot is settled",
    )
    return slot


async def test_the_command_proves_a_bill_that_a_neighbour_serves(tmp_path: Path) -> None:
    genesis = make_genesis(time_lapse=2_400, slot_minutes=15, settle_window_ms=900_000)
    grid = Grid(tmp_path, genesis)
    for member in grid.members[:2]:
        write_genesis(genesis, member.directory / GENESIS_NAME)
        # The grid's addresses are none that a settings file takes.
        (member.directory / "node.toml").write_text(settings_text(Config()))
    async with running(grid, range(4)) as members:
        slot = await settle_a_slot(members, genesis)
        config = str(members[1].directory / "node.toml")

        def run(*arguments: str) -> tuple[int, Any]:
            line = ["bill", "--config", config, "--json", *arguments]
            result = CliRunner().invoke(cli.app, line)
            assert result.output, result.exception
            return result.exit_code, json.loads(result.output)

        asked = asyncio.to_thread
        told = (await asked(run, "--slot", str(slot)))[1]
        code, proven = await asked(run, "--slot", str(slot), "--verify")
        assert code == 0
        assert proven["bill"] == told["bill"]
        assert (proven["bill"]["home"], proven["bill"]["slot"]) == (2, slot)
        assert proven["proof"]["signatures"] >= 3
        served = await asked(run, "--last", "--verify", "--node", str(members[2].data))
        assert served[1]["bill"]["home"] == 2
        assert (await asked(run, "--slot", "5", "--verify"))[0] == cli.EXIT_FAILED
        # A stranger, whom nobody knows, asks over the network.
        stranger = MemoryNetwork(key_of(90).peer_id, grid.hub)
        asked_at_ms = now_ms()
        seen = await prove_bill(
            genesis, address_of(2), members[1].key.address, slot, asked_at_ms - 60_000, stranger
        )
        assert bill_view(seen)["bill"] == proven["bill"]
        assert seen.signatures >= 3
        assert key_of(90).peer_id not in {peer.peer_id for peer in members[2].node.network.peers()}
        # The genesis of other authorities: nothing that is served counts.
        others = replace(genesis, authorities=tuple(key_of(50 + n).public for n in range(4)))
        write_genesis(others, members[1].directory / GENESIS_NAME)
        line = ["bill", "--config", config, "--last", "--verify"]
        refused = await asked(CliRunner().invoke, cli.app, line)
        assert isinstance(refused.exception, ProofError)


def test_a_mutated_question_is_understood_or_malformed() -> None:
    rng = random.Random(2)
    true = encode(ProveBill(HOME, SLOT))
    assert len(true) <= QUESTION_BYTES_MAX
    assert decode(true, ProveBill, QUESTION_BYTES_MAX) == ProveBill(HOME, SLOT)
    refused = 0
    for _ in range(5_000):
        data = bytearray(true)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        data = data[: rng.randrange(1, len(data) + 1)] if rng.random() < 0.2 else data
        try:
            question = decode(bytes(data), ProveBill, QUESTION_BYTES_MAX)
        except DecodeError:
            refused += 1
        else:
            assert encode(question) == bytes(data)
            assert is_address(question.address)
    assert 0 < refused < 5_000
    for slot in (-1, 10**9 + 1, True, "3"):
        with pytest.raises(DecodeError):
            decode(encode(["prove-bill", HOME, slot]), ProveBill, QUESTION_BYTES_MAX)


async def test_a_node_refuses_a_strangers_nonsense_and_too_many_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = Grid(tmp_path, make_genesis())
    async with running(grid, range(4)) as members:
        node, address = members[0].node, members[1].key.address
        await until(lambda: node.chain.height > 0, "a block")
        assert members[0].network is not None
        penalties = members[0].network.penalties
        stranger = MemoryNetwork(key_of(90).peer_id, grid.hub)
        async with visit(grid.genesis, address_of(0), stranger):
            for place, question in enumerate(
                (b"", b"\x00", encode(["prove-bill", "cw", None]), encode([address, None])), 1
            ):
                with pytest.raises(NetworkError, match="does not answer"):
                    await stranger.request(members[0].peer_id, "prove", question)
                assert len(penalties) == place
            assert all(peer == stranger.peer_id for peer, _ in penalties)
        # One proof hangs, as if the disk were slow; the next one is told so.
        monkeypatch.setattr(node_bill, "PROVING_MAX", 1)
        gate, path = asyncio.Event(), node.sync.path

        async def slow_path(epoch: int, height: int) -> Any:
            await gate.wait()
            return await path(epoch, height)

        node.sync.path = slow_path  # type: ignore[method-assign]
        first = asyncio.create_task(members[0].ask("bill_proof", address=address, slot=None))
        second = visit(grid.genesis, address_of(0), MemoryNetwork(key_of(91).peer_id, grid.hub))
        async with second as source:
            # The hanging one may be the stranger's own: whichever comes second is refused.
            other = asyncio.create_task(source.proof(address, None))
            done, _ = await asyncio.wait({first, other}, return_when=asyncio.FIRST_COMPLETED)
            busy = encode(Unproven("busy"))
            assert [task.result() in (busy, busy.hex()) for task in done] == [True]
            gate.set()
            answers = [await first, (await other).hex()]
            assert sorted(answer == busy.hex() for answer in answers) == [False, True]
            assert await source.proof(address, None) != busy


def test_either_a_slot_or_the_last(tmp_path: Path) -> None:
    for arguments in ([], ["--slot", "3", "--last"]):
        result = CliRunner().invoke(cli.app, ["bill", *arguments])
        assert "either --slot NUMBER or --last" in str(result.exception)
