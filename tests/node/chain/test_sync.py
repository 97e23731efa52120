"""Catching up from neighbours of whom some lie; notices of which some are false."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

import consensus.sync
import node.chain.announcer
from consensus.light import SignedHeader
from consensus.messages import Block, Certificate, header_hash
from consensus.sync_messages import (
    Answer,
    Blocks,
    Chunk,
    GetBlocks,
    GetChunk,
    GetHeaders,
    GetManifest,
    GetPath,
    GetStatus,
    Headers,
    Nothing,
    Question,
    Status,
    decode_answer,
    decode_question,
)
from node.chain.announcer import STAGGER_S
from node.chain.messages import DecidedNotice
from node.genesis import Genesis
from node.network.base import GOSSIP_BYTES_MAX, NetworkError
from node.network.memory import MemoryNetwork
from node.setup import WAL_NAME
from node.tiers import topics
from tests.node.grid import (
    PATIENCE_S,
    Grid,
    Member,
    SpyNetwork,
    at_height,
    make_genesis,
    running,
    until,
)
from wire.codec import decode, encode

HEIGHTS = 6
# None: the honest answer.
Serve = Callable[[Question], Awaitable[bytes | None]]
Pairs = list[tuple[bytes, bytes]]

# One street's genesis and its first blocks with their certificates, made by the first test.
_recorded: list[tuple[Genesis, Pairs]] = []


@pytest.fixture
async def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator["Chain"]:
    """A street of which some blocks are known, and no home has started."""
    monkeypatch.setattr(consensus.sync, "POLL_MS", 50)
    if not _recorded:
        _recorded.append(await record(tmp_path / "recorded"))
    genesis, pairs = _recorded[0]
    made = Chain(Grid(tmp_path, genesis), pairs)
    yield made
    await made.stop()


async def record(directory: Path) -> tuple[Genesis, Pairs]:
    grid = Grid(directory, make_genesis(5, time_lapse=3_000, slot_minutes=5))
    async with running(grid, range(4)) as members:
        await at_height(members, HEIGHTS)
        blocks = await members[0].node.sync._store.blocks(0, HEIGHTS + 1, 10**9)
        return grid.genesis, [(stored.block, stored.certificate) for stored in blocks]


class Chain:
    """Neighbours on a hub that are no homes, and a home that has them only."""

    def __init__(self, grid: Grid, pairs: Pairs) -> None:
        self.grid = grid
        self.pairs = pairs
        self.asked = 0
        self._networks: list[MemoryNetwork] = []

    async def neighbour(
        self, name: str, serve: Serve | None = None, claims: int = HEIGHTS
    ) -> MemoryNetwork:
        """Start a neighbour that claims a height and answers as told; by default honestly."""
        network = MemoryNetwork(name, self.grid.hub)
        network.on_gossip(self.topic, lambda peer, data: None)

        async def answer(peer: str, data: bytes) -> bytes:
            question = decode_question(data)
            if isinstance(question, GetStatus):
                return encode(Status(claims, bytes(32)))
            self.asked += 1
            lie = await serve(question) if serve is not None else None
            return lie if lie is not None else encode(self.honest(question))

        network.on_request("sync", answer)
        await network.start()
        self._networks.append(network)
        return network

    def honest(self, question: Question) -> Answer:
        """Answer with one header or block, as an honest neighbour may."""
        match question:
            case GetHeaders(first):
                return Headers(tuple(self.signed(n) for n in [first] if n <= HEIGHTS))
            case GetBlocks(first):
                return Blocks(tuple(self.pairs[n][0] for n in [first] if n <= HEIGHTS))
            case _:
                return Nothing()

    def signed(self, height: int) -> SignedHeader:
        raw_block, raw_certificate = self.pairs[height]
        certificate = decode(raw_certificate, Certificate, len(raw_certificate))
        return SignedHeader(decode(raw_block, Block, len(raw_block)).header, certificate)

    @property
    def topic(self) -> str:
        return topics(self.grid.genesis)[1]

    async def home(self, *neighbours: str, number: int = 4) -> Member:
        """Start a home with these neighbours."""
        addresses = [f"/memory/1/p2p/{name}" for name in neighbours]
        return await self.grid.members[number].start(addresses)

    async def stop(self) -> None:
        await self.grid.stop()
        for network in self._networks:
            await network.stop()


def spied(member: Member) -> SpyNetwork:
    assert member.network is not None
    return member.network


def other_body(raw: bytes) -> bytes:
    block = decode(raw, Block, len(raw))
    return encode(msgspec.structs.replace(block, txs=(b"more",)))


def false_root(raw: bytes) -> bytes:
    block = decode(raw, Block, len(raw))
    header = msgspec.structs.replace(block.header, state_root=b"\x66" * 32)
    return encode(msgspec.structs.replace(block, header=header))


def two_signatures(raw: bytes) -> bytes:
    certificate = decode(raw, Certificate, len(raw))
    kept = sorted(place for place in range(4) if certificate.bitmap >> place & 1)[:2]
    bitmap = sum(1 << place for place in kept)
    signatures = certificate.signatures[:2]
    return encode(msgspec.structs.replace(certificate, bitmap=bitmap, signatures=signatures))


def wrong_signature(raw: bytes) -> bytes:
    certificate = decode(raw, Certificate, len(raw))
    signatures = (bytes(64), *certificate.signatures[1:])
    return encode(msgspec.structs.replace(certificate, signatures=signatures))


def with_certificate(chain: "Chain", raw: bytes) -> bytes:
    certificate = decode(raw, Certificate, len(raw))
    return encode(Headers((msgspec.structs.replace(chain.signed(1), certificate=certificate),)))


def with_root(chain: "Chain") -> bytes:
    signed = chain.signed(1)
    header = msgspec.structs.replace(signed.header, state_root=b"\x66" * 32)
    return encode(Headers((msgspec.structs.replace(signed, header=header),)))


HEADER_LIES: dict[str, Callable[["Chain"], bytes]] = {
    "garbage": lambda c: b"\xc1garbage",
    "another answer": lambda c: encode(Chunk(b"?")),
    "a later header": lambda c: encode(Headers((c.signed(2),))),
    "a gap": lambda c: encode(Headers((c.signed(1), c.signed(3)))),
    "too many": lambda c: encode(Headers(tuple(map(c.signed, [1, 2, 3, 4, 5, 6, 6])))),
    "another's certificate": lambda c: with_certificate(c, c.pairs[2][1]),
    "another root": with_root,
    "two signatures": lambda c: with_certificate(c, two_signatures(c.pairs[1][1])),
    "a wrong signature": lambda c: with_certificate(c, wrong_signature(c.pairs[1][1])),
}
BLOCK_LIES: dict[str, Callable[["Chain"], bytes]] = {
    "garbled block": lambda c: encode(Blocks((b"junk",))),
    "a later block": lambda c: encode(Blocks((c.pairs[2][0],))),
    "another body": lambda c: encode(Blocks((other_body(c.pairs[1][0]),))),
    "another header": lambda c: encode(Blocks((false_root(c.pairs[1][0]),))),
}


@pytest.mark.parametrize("lie", [*HEADER_LIES, *BLOCK_LIES])
async def test_who_serves_what_is_no_block_is_blamed_and_another_is_asked(
    chain: Chain, lie: str
) -> None:
    async def serve(question: Question) -> bytes | None:
        if lie in HEADER_LIES:
            return HEADER_LIES[lie](chain)
        return BLOCK_LIES[lie](chain) if isinstance(question, GetBlocks) else None

    await chain.neighbour("liar", serve, claims=6 if lie == "too many" else 1_000_000)
    late = await chain.home("liar")
    await until(lambda: len(spied(late).penalties) > 0, "blame")
    assert late.height == 0
    await chain.neighbour("honest")
    spied(late).want("/memory/1/p2p/honest")
    await at_height([late], HEIGHTS)
    await until(lambda: late.node.sync.behind == 0, "it is level")
    # It is blamed once, and not asked again.
    assert [peer for peer, _ in spied(late).penalties] == ["liar"]


@pytest.mark.parametrize("silent", [True, False], ids=["never answers", "has nothing"])
async def test_a_claim_that_is_not_shown_stops_counting(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    monkeypatch.setattr(consensus.sync, "ANSWER_TIMEOUT_MS", 200)

    async def serve(question: Question) -> bytes:
        if silent:
            await asyncio.Event().wait()
        return encode(Headers(()))

    await chain.neighbour("liar", serve, claims=1_000_000)
    late = await chain.home("liar")
    await until(lambda: chain.asked > 1, "it is asked again")
    # Asked again and again, and still not believed: this home may trade.
    for _ in range(20):
        await asyncio.sleep(0.02)
        assert late.node.sync.behind == 0
    await until(lambda: chain.asked > 2, "and again")


async def test_what_a_neighbour_shows_is_taken_run_by_run(chain: Chain) -> None:
    await chain.neighbour("honest")
    late = await chain.home("honest")
    await at_height([late], HEIGHTS)
    assert spied(late).penalties == []
    block = decode(chain.pairs[HEIGHTS][0], Block, 10**6)
    assert late.node.chain.head.hash == header_hash(block.header)
    await until(lambda: late.node.chain.state_root == block.header.state_root, "its state is there")
    assert chain.asked == 2 * HEIGHTS


async def test_questions_out_of_range_are_refused_and_the_others_bounded(chain: Chain) -> None:
    asker = await chain.neighbour("asker")
    home = await chain.home("asker")
    await at_height([home], HEIGHTS)

    async def ask(question: object) -> Answer:
        return decode_answer(
            await asker.request(home.peer_id, "sync", encode(question), PATIENCE_S)
        )

    blocks = [raw for raw, _ in chain.pairs]
    assert await ask(GetBlocks(0, 3)) == Blocks(())
    assert await ask(GetBlocks(1, 3)) == Blocks(tuple(blocks[1:4]))
    assert await ask(GetBlocks(HEIGHTS - 1, 64)) == Blocks(tuple(blocks[HEIGHTS - 1 :]))
    assert await ask(GetBlocks(2**63 - 1, 64)) == Blocks(())
    everything = Headers(tuple(map(chain.signed, range(1, HEIGHTS + 1))))
    assert await ask(GetHeaders(1, 128)) == everything
    assert await ask(GetHeaders(2**63 - 1, 128)) == Headers(())
    assert await ask(GetPath(0, 3)) == Headers((chain.signed(3),))
    assert await ask(GetPath(0, 0)) == await ask(GetPath(0, HEIGHTS + 9)) == Headers(())
    assert await ask(GetManifest(bytes(32))) == await ask(GetChunk(bytes(32), 0)) == Nothing()
    assert spied(home).penalties == []
    for bad in (GetBlocks(-1, 3), GetBlocks(1, 0), GetBlocks(1, 65), GetBlocks(2**63, 1), "junk"):
        with pytest.raises(NetworkError, match="does not answer"):
            await ask(bad)
    assert len(spied(home).penalties) == 5


async def test_a_notice_brings_its_block_and_a_false_one_blames_its_sender(chain: Chain) -> None:
    teller = await chain.neighbour("teller", claims=0)
    late = await chain.home("teller")
    await until(lambda: len(teller.peers()) > 0, "a link")
    block, certificate = chain.pairs[1]
    false = [
        b"junk",
        encode(DecidedNotice(2, certificate, block)),
        encode(DecidedNotice(1, chain.pairs[2][1], block)),
        encode(DecidedNotice(1, certificate, chain.pairs[2][0])),
        encode(DecidedNotice(1, certificate, other_body(block))),
        encode(DecidedNotice(1, two_signatures(certificate), block)),
        encode(DecidedNotice(1, wrong_signature(certificate), b"")),
    ]
    for count, notice in enumerate(false, 1):
        await teller.publish(chain.topic, notice)
        await until(lambda: len(spied(late).penalties) >= count, "blame")  # noqa: B023
    assert late.height == 0
    assert late.node.sync.behind == 0
    assert spied(late).counters()["gossip_invalid"] == len(false)
    await teller.publish(chain.topic, encode(DecidedNotice(1, certificate, block)))
    await at_height([late], 1)
    # One far ahead proves that this home is behind, whoever says so.
    await teller.publish(chain.topic, encode(DecidedNotice(5, chain.pairs[5][1], b"")))
    await until(lambda: late.node.sync.behind == 4, "it knows")
    await chain.neighbour("honest")
    spied(late).want("/memory/1/p2p/honest")
    await at_height([late], HEIGHTS)
    await until(lambda: late.node.sync.behind == 0, "it is level")
    assert len(spied(late).penalties) == len(false)


async def test_old_notices_are_neither_passed_on_nor_blamed(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node.chain.announcer, "NOTICE_BEHIND_MAX", 2)
    teller = await chain.neighbour("teller")
    hearer = await chain.neighbour("hearer")
    heard: list[int] = []
    hearer._gossip[chain.topic] = (
        lambda peer, data: heard.append(decode(data, DecidedNotice, GOSSIP_BYTES_MAX).height),
        None,
    )
    late = await chain.home("teller", "hearer")
    await at_height([late], HEIGHTS)
    chain.grid.hub.disconnect("teller", "hearer")
    for height in (1, HEIGHTS - 3, HEIGHTS - 2, HEIGHTS - 1, HEIGHTS):
        block, certificate = chain.pairs[height]
        await teller.publish(chain.topic, encode(DecidedNotice(height, certificate, block)))
    await until(lambda: HEIGHTS in heard, "the news is passed on")
    assert heard == [HEIGHTS - 2, HEIGHTS - 1, HEIGHTS]
    assert spied(late).counters()["gossip_ignored"] == 2
    assert spied(late).penalties == []


async def test_more_notices_that_cannot_be_judged_than_are_passed_on_blame_nobody(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node.chain.announcer, "UNPROVEN_MAX", 1)
    teller = await chain.neighbour("teller", claims=0)
    late = await chain.home("teller")
    await until(lambda: len(teller.peers()) > 0, "a link")
    far = decode(chain.pairs[1][1], Certificate, 10**6)
    for height in (10**6, 10**6 + 1):
        unknown = encode(msgspec.structs.replace(far, height=height))
        await teller.publish(chain.topic, encode(DecidedNotice(height, unknown, b"")))
    await until(lambda: spied(late).counters()["gossip_ignored"] == 1, "one is not passed on")
    assert spied(late).counters()["gossip_in"] == 1
    assert spied(late).penalties == []


async def test_who_catches_up_does_not_announce_old_blocks(chain: Chain) -> None:
    # An authority with neither database nor log: every block of its own turn is new to it.
    one = chain.grid.members[1]
    (one.data / WAL_NAME).unlink()
    await chain.neighbour("honest")
    await chain.home("honest", number=1)
    await at_height([one], HEIGHTS)
    await asyncio.sleep(2 * STAGGER_S)
    assert spied(one).counters()["gossip_out"] == 0
