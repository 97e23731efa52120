"""An auditor asks another region's authorities over the network, and tells the main chain."""

import contextlib
import hashlib
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from consensus.authorities import AuthoritySet
from consensus.light import SignedHeader, ends_epoch
from consensus.snapshot import chunks_of, manifest_of
from consensus.sync_messages import (
    Answer,
    Blocks,
    Chunk,
    GetBlocks,
    GetChunk,
    GetHeaders,
    GetManifest,
    GetPath,
    Headers,
    Nothing,
    Question,
    Status,
)
from market.client import Call, regions
from market.errors import QueryError
from node.chain.epochs import set_of
from node.network.base import NetworkError
from node.network.memory import Hub, MemoryNetwork
from node.regions import audits
from node.regions.auditor import Duty, Finding
from node.regions.audits import Auditor
from node.regions.replay import Verdict, judge
from node.regions.showing import PROTOCOL, RegionServer
from tests.node.network.homes import until
from tests.regions.cheat import CHEATS, Cheating
from tests.regions.grid import HALT_MS, SLOT, Certified, Main, Region, certify, key
from tests.regions.test_fraud import trade
from tests.regions.test_override import override
from tests.regions.test_two_tiers import record_of
from wire.codec import encode
from wire.keys import SigningKey

AUDITOR = key("region 2/authority 0")


class Shown:
    """What an authority shows of its region: all of it, or what `bend` makes of it."""

    def __init__(self, region: Region, snapshot_at: int = 0) -> None:
        self.region = region
        self.asked: list[Question] = []
        self.bend: Callable[[Question, Answer], Answer] = lambda _, answer: answer
        self._chunks: list[bytes] = []
        self._manifest = None
        if snapshot_at:
            self._snapshot(snapshot_at)

    def _snapshot(self, height: int) -> None:
        replay = Region(
            self.region.number, epoch_blocks=self.region.genesis.governance.epoch_blocks
        )
        for block in self.region.blocks[:height]:
            parent = replay.head.header if replay.head else replay.first
            replay.app.commit(replay.maker.execute(block.block, parent))
            replay.head = block
        self._chunks = list(chunks_of(replay.app.state_items()))
        hashes = [hashlib.sha256(chunk).digest() for chunk in self._chunks]
        size = sum(map(len, self._chunks))
        self._manifest = manifest_of(self.region.blocks[height - 1].header, hashes, size)

    def signed(self, block: Certified) -> SignedHeader:
        following = set_of(block.result.next) if ends_epoch(block.header) else None
        return SignedHeader(block.header, block.certificate, following)

    async def answer_to(self, question: Question) -> Answer:
        self.asked.append(question)
        return self.bend(question, self._answer(question))

    def _answer(self, question: Question) -> Answer:
        blocks, manifest = self.region.blocks, self._manifest
        match question:
            case GetHeaders(first, count):
                return Headers(tuple(map(self.signed, blocks[first - 1 : first - 1 + count])))
            case GetBlocks(first, count):
                found = blocks[first - 1 : first - 1 + count]
                return Blocks(tuple(encode(block.block) for block in found))
            case GetPath(epoch, height):
                ends = [block for block in blocks[: height - 1] if ends_epoch(block.header)]
                way = [block for block in ends if block.header.epoch >= epoch]
                return Headers(tuple(map(self.signed, [*way, blocks[height - 1]])))
            case GetManifest():
                return manifest or Nothing()
            case GetChunk(_, index):
                return Chunk(self._chunks[index])
            case _:
                head = blocks[-1]
                height = manifest.height if manifest else 0
                id_ = manifest.id if manifest else b""
                return Status(head.header.height, head.certificate.block_hash, 0, height, id_)


class World:
    """A main chain with two regions; the second's first authority is drawn for the first."""

    def __init__(self, region: Region) -> None:
        self.region, self.other = region, Region(2)
        seats = len(self.other.seated)
        sponsors = [region.sponsor, self.other.sponsor]
        self.main = Main(sponsors, auditors=seats, audits_needed=1, audit_ms=10**9)
        self.main.admit(region)
        self.main.admit(self.other)
        self.hub = Hub()
        self.inherited = Path("nothing is inherited")
        self.now_ms = 0
        self._shown = 0
        self.auditor: Auditor
        self.waiting: list[Call] = []

    def anchor(self) -> None:
        """Anchor in one block whatever the region has closed since, and its sets."""
        region = self.region
        closed = {found.header.height: found for found in region.checkpoints}
        calls = []
        for block in region.blocks[self._shown :]:
            if block.header.height in closed:
                calls.append(region.post(closed[block.header.height]))
            if ends_epoch(block.header):
                rotation = regions.rotate(1, region.signed_header(block))
                calls.append((region.seated[1], rotation))
        self._shown = len(region.blocks)
        receipts = self.main.block(calls).result.receipts
        assert {receipt.code for receipt in receipts} == {"ok"}, receipts
        self.main.block()

    @contextlib.asynccontextmanager
    async def shown_by(self, *shown: Shown | None) -> AsyncIterator[None]:
        """Let the region's authorities show what they do, None if one is away."""
        here = MemoryNetwork(AUDITOR.peer_id, self.hub)
        networks = [here]
        for one, what in zip(self.region.seated, shown, strict=False):
            if what is not None:
                networks.append(self._network(one, what))
                here.want(f"/memory/1/p2p/{one.peer_id}")
        self.auditor = Auditor(
            AUDITOR.address, self.main.app, here, self.waiting.extend, lambda: self.now_ms
        )
        for network in networks:
            await network.start()
        try:
            await until(lambda: len(here.peers()) == len(networks) - 1)
            yield
        finally:
            for network in networks:
                await network.stop()

    def _network(self, one: SigningKey, what: Shown) -> MemoryNetwork:
        network = MemoryNetwork(one.peer_id, self.hub)
        RegionServer(self.region.genesis, what, network, self.inherited)
        return network

    async def step(self) -> list[str]:
        """Let the auditor look at its duties, and the main chain take what it says."""
        await self.auditor.step()
        calls: Sequence[Call] = list(self.waiting)
        self.waiting.clear()
        for call in calls:
            self.main.ok(AUDITOR, call)
        return [call.entry for call in calls]

    def audited(self) -> int:
        number: int = self.main.query("audit", "status", {"region": 1})["number"]
        return number


async def test_an_honest_region_is_audited_and_followed_from_there() -> None:
    world = World(Region(1))
    trade(world.region)
    world.anchor()
    shown = Shown(world.region)
    async with world.shown_by(shown):
        assert await world.step() == ["audit_ok"]
        assert world.audited() == len(world.region.checkpoints)
        assert await world.step() == []
        # The next audit goes on from there.
        trade(world.region, SLOT + 2)
        world.anchor()
        before = world.region.checkpoints[world.audited() - 1].header.height
        shown.asked.clear()
        assert await world.step() == ["audit_ok"]
        assert world.audited() == len(world.region.checkpoints)
        firsts = [question.first for question in shown.asked if isinstance(question, GetBlocks)]
        assert min(firsts) == before + 1
        assert world.auditor.counts == {"audited": 2, "failed": 0, "accused": 0}


async def test_a_successor_is_audited_from_what_it_began_with(tmp_path: Path) -> None:
    world = World(Region(1))
    trade(world.region)
    world.anchor()
    async with world.shown_by(Shown(world.region)):
        assert await world.step() == ["audit_ok"]
    main, before = world.main, world.region
    main.block(at_ms=main.time_ms + HALT_MS + 1_000)
    successor = override(main, before)
    # The other region is heard of again, so that its authorities are drawn.
    world.other.block()
    assert main.anchor(world.other, world.other.checkpoints[-1]).code == "ok"
    world.region, world._shown, successor.checkpoints = successor, 0, []
    world.inherited = tmp_path / "inherited"
    world.inherited.write_bytes(b"".join(chunks_of(successor.inherited)))
    successor.block(at_ms=successor.time_ms + 60_000)
    world.anchor()
    async with world.shown_by(Shown(successor)):
        assert await world.step() == ["audit_ok"]
    assert world.audited() == record_of(successor.checkpoints[-1]).number
    # Who shows another beginning shows nothing.
    successor.block(at_ms=successor.time_ms + 60_000)
    world.anchor()
    world.inherited.write_bytes(b"".join(chunks_of(successor.app.state_items())))
    async with world.shown_by(Shown(successor)):
        assert await world.step() == []
    assert world.auditor.counts["failed"] == 1


async def test_a_snapshot_spares_what_is_audited_already() -> None:
    world = World(Region(1, epoch_blocks=4))
    trade(world.region)
    trade(world.region, SLOT + 2)
    world.anchor()
    async with world.shown_by(Shown(world.region)):
        assert await world.step() == ["audit_ok"]
    height = world.region.height
    trade(world.region, SLOT + 4)
    world.anchor()
    # Another auditor, which has followed nothing yet.
    late = Shown(world.region, snapshot_at=height - 1)
    async with world.shown_by(late):
        assert await world.step() == ["audit_ok"]
        firsts = [question.first for question in late.asked if isinstance(question, GetBlocks)]
        assert firsts == [height]
        assert any(isinstance(question, GetPath) for question in late.asked)
    assert world.audited() == len(world.region.checkpoints)


def captured() -> tuple[Cheating, World]:
    """Return a region that bills wrongly, and the world in which it is anchored."""
    region = Cheating(1)
    world = World(region)
    region.cheat(CHEATS["a wrong bill"])
    trade(region)
    world.anchor()
    return region, world


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_captured_region_is_accused_and_convicted(leaves: bool) -> None:
    region, world = captured()
    async with world.shown_by(None, Shown(region)):
        assert await world.step() == ["accuse"]
        if leaves:
            world.main.ok(region.sponsor, regions.leave(1))
        said = []
        while world.main.query("regions", "show", {"region": 1})["status"] != "frozen":
            said += await world.step()
            assert world.auditor._case is not None, "the auditor has given up"
        assert set(said[:-1]) == {"evidence"}
        assert said[-1] == "judge"
        assert await world.step() == []
        assert await world.step() == []
    assert world.audited() == 0
    assert world.main.query("audit", "case_of", {"address": AUDITOR.address}) is None


async def test_votes_do_not_wait_for_the_judgement(monkeypatch: pytest.MonkeyPatch) -> None:
    region, world = captured()
    where: list[threading.Thread] = []

    def judged(*given: Any) -> Verdict:
        where.append(threading.current_thread())
        return judge(*given)

    monkeypatch.setattr(audits, "judge", judged)
    async with world.shown_by(Shown(region)):
        assert await world.step() == ["accuse"]
    assert where
    assert threading.current_thread() not in where


async def accusing(world: World) -> None:
    """Let the auditor accuse its region; the main chain has not heard of it yet."""
    await world.auditor.step()
    assert [call.entry for call in world.waiting] == ["accuse"]


async def test_an_open_case_keeps_an_auditor_from_no_other_duty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    region, world = captured()
    async with world.shown_by(Shown(region)):
        await accusing(world)
        (duty,) = world.auditor.duties()
        other = duty._replace(region=2, number=7)
        newer = duty._replace(number=duty.number + 1)
        looked: list[Duty] = []

        async def audited(one: Duty) -> Finding:
            looked.append(one)
            return Finding(None, "")

        monkeypatch.setattr(world.auditor, "duties", lambda: [newer, other])
        monkeypatch.setattr(world.auditor, "_audited", audited)
        await world.auditor.step()
    assert looked == [other]
    assert world.waiting[1:] == [regions.audit_ok(2, 7)]


async def test_a_case_that_nobody_can_judge_any_more_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    region, world = captured()
    async with world.shown_by(Shown(region)):
        await accusing(world)
        known = world.auditor._set_of

        def forgotten(region: int, epoch: int) -> AuthoritySet:
            raise QueryError("stale_set", "no set of that epoch is kept")

        monkeypatch.setattr(world.auditor, "_set_of", forgotten)
        monkeypatch.setattr(world.auditor, "duties", list)
        world.waiting.clear()
        await world.auditor.step()
        monkeypatch.setattr(world.auditor, "_set_of", known)
        await world.auditor.step()
    assert world.waiting == []


async def test_a_case_of_a_life_before_is_left_to_run_out() -> None:
    """Its parts are those of another certificate, and would never make up the proof named."""
    region, world = captured()
    async with world.shown_by(Shown(region)):
        assert await world.step() == ["accuse"]
    case = world.main.query("audit", "case_of", {"address": AUDITOR.address})
    liar = Shown(region)
    seated = AuthoritySet(0, tuple(region.genesis.authorities))

    def other(question: Question, answer: Answer) -> Answer:
        if not isinstance(answer, Headers):
            return answer
        certified = [certify(signed.header, region.seated, seated, 1) for signed in answer.headers]
        return Headers(
            tuple(
                msgspec.structs.replace(signed, certificate=one)
                for signed, one in zip(answer.headers, certified, strict=True)
            )
        )

    liar.bend = other
    async with world.shown_by(liar):
        assert await world.step() == []
        assert await world.step() == []
        assert world.auditor.counts["accused"] == 1
    assert world.main.query("audit", "case_of", {"address": AUDITOR.address}) == case


async def test_lies_of_one_authority_convict_nobody_and_another_is_asked() -> None:
    """Data that are not the certified ones are their shower's fault, not the region's."""
    region = Region(1)
    trade(region)
    other = Region(3)
    trade(other)

    def foreign(question: Question, answer: Answer) -> Answer:
        return Shown(other)._answer(question) if isinstance(question, GetBlocks) else answer

    def bodies(question: Question, answer: Answer) -> Answer:
        if not isinstance(answer, Blocks):
            return answer
        first = msgspec.structs.replace(region.blocks[0].block, txs=(b"another",))
        return Blocks((encode(first), *answer.blocks[1:]))

    def few(question: Question, answer: Answer) -> Answer:
        if not isinstance(answer, Headers):
            return answer
        first = answer.headers[0]
        certificate = msgspec.structs.replace(
            first.certificate, bitmap=3, signatures=first.certificate.signatures[:2]
        )
        signed = msgspec.structs.replace(first, certificate=certificate)
        return Headers((signed, *answer.headers[1:]))

    def nothing(question: Question, answer: Answer) -> Answer:
        return Blocks(()) if isinstance(question, GetBlocks) else answer

    def silent(question: Question, answer: Answer) -> Answer:
        return Nothing()

    for bend in (foreign, bodies, few, nothing, silent):
        world = World(region)
        world.anchor()
        liars = [Shown(region) for _ in range(3)]
        for liar in liars:
            liar.bend = bend
        async with world.shown_by(*liars):
            assert await world.step() == [], bend
            assert world.auditor.counts == {"audited": 0, "failed": 1, "accused": 0}
        async with world.shown_by(*liars, Shown(region)):
            assert await world.step() == ["audit_ok"], bend


async def test_another_genesis_than_the_registered_one_is_not_followed() -> None:
    region, other = Region(1), Region(1, penalty_micro_per_kwh=1)
    trade(region)
    trade(other)
    world = World(region)
    world.anchor()
    world.region = other
    async with world.shown_by(Shown(other)):
        assert await world.step() == []
        assert world.auditor.counts["failed"] == 1


async def test_a_question_that_is_none_gets_no_answer() -> None:
    region = Region(1)
    trade(region)
    world = World(region)
    async with world.shown_by(Shown(region)):
        here = world.auditor._network
        for data in (b"", b"\x00" * 10, b"\x91\xa7unknown"):
            with pytest.raises(NetworkError):
                await here.request(region.seated[0].peer_id, PROTOCOL, data, 5.0)
