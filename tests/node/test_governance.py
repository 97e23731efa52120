"""Whole nodes whose authorities and parameters change, and who is convicted by the others."""

import hashlib
import math
from pathlib import Path

import msgspec
import pytest

from consensus.authorities import AuthoritySet, voters_of
from consensus.events import ReportEvidence
from consensus.evidence import duplicate_vote
from consensus.messages import (
    NIL,
    PREVOTE,
    Block,
    Certificate,
    DuplicateVote,
    Vote,
    vote_signed_bytes,
)
from market import client, governance
from market.client import Call
from market.genesis import GovernanceParams
from node.chain.blocks import stored_block
from node.chain.inbox import PROTOCOL
from node.chain.messages import DecidedNotice
from node.config import SyncSection
from node.genesis import ChainParams, Genesis
from node.network.memory import MemoryNetwork
from node.proofs.light import prove_bill
from tests.node.grid import (
    BALANCE_MICRO,
    QUICK,
    REGULATOR,
    Grid,
    Member,
    address_of,
    at_height,
    double_votes,
    key_of,
    make_genesis,
    now_ms,
    one_snapshot_loaded,
    running,
    same_snapshot,
    until,
)
from wire.codec import decode, encode

EPOCH = 6
BOND = 10_000_000


def changing_grid(directory: Path, homes: int = 6, authorities: int = 4) -> Grid:
    """Epochs of six blocks, and gates that close ten times a second."""
    genesis = make_genesis(homes, authorities, time_lapse=3_000, slot_minutes=5)
    return Grid(directory, with_epochs(genesis))


def with_epochs(genesis: Genesis, blocks: int = EPOCH) -> Genesis:
    rules = GovernanceParams(epoch_blocks=blocks, bond_micro=BOND)
    return msgspec.structs.replace(genesis, governance=rules)


async def sent(member: Member, call: Call) -> int:
    """Send a call and wait until it is in a block, without a refusal; return the height."""
    tx = member.sign(call)
    found: list[tuple[int, str, str]] = []
    member.node.chain.on_applied(
        lambda block, certificate, result: found.extend(
            (block.header.height, receipt.code, receipt.message)
            for receipt in result.receipts
            if receipt.tx_id == tx.tx_id
        )
    )
    await member.ask("submit", transaction=tx.raw.hex())
    await until(lambda: bool(found), f"{call.entry} is in a block")
    height, code, message = found[0]
    assert code == "ok", message
    return height


async def agreed(call: Call, members: list[Member]) -> int:
    """Have the first propose and the others approve; return the height of the last vote."""
    height = await sent(members[0], call)
    number = governance.proposals(members[0].node.app.query)[-1].number
    for member in members[1:]:
        await until(lambda one=member, at=height: one.height >= at, "it has the proposal")
        height = await sent(member, governance.vote(number, True))
    return height


def after_vote(height: int) -> int:
    """Return the first height decided as the votes up to `height` want it.

    Votes in an epoch's last block come too late for the next one.
    """
    return (height // EPOCH + 1) * EPOCH + 1


def after_conviction(height: int) -> int:
    """Return the first height decided without whom the block at `height` convicts."""
    return ((height - 1) // EPOCH + 1) * EPOCH + 1


async def decided(member: Member, height: int) -> tuple[Block, Certificate]:
    stored = await member.node.sync._store.block(height)
    assert stored is not None
    return stored_block(stored), decode(stored.certificate, Certificate, len(stored.certificate))


async def has_voted_since(member: Member, witness: Member, height: int) -> bool:
    """Whether the member is among the signers of a block from `height` on, at its index."""
    for at in range(height, witness.height + 1):
        block, certificate = await decided(witness, at)
        authorities = witness.node.chain.epochs.of_epoch(block.header.epoch)
        assert authorities is not None
        index = authorities.index_of(member.key.public)
        if index is not None and index in voters_of(certificate.bitmap):
            return True
    return False


async def same_root(members: list[Member]) -> bool:
    height = min(member.height for member in members)
    headers = [(await decided(member, height))[0].header for member in members]
    return all(header == headers[0] for header in headers)


async def test_seats_are_gained_and_lost_by_vote(tmp_path: Path) -> None:
    grid = changing_grid(tmp_path, homes=7)
    late = grid.members[6]
    async with running(grid, range(6)) as members:
        candidate, leaver, watcher = members[4], members[0], members[5]
        await sent(candidate, governance.stand())
        assert candidate.node.chain.index is None
        passed = await agreed(governance.propose_add(candidate.key.address, 100), members[:3])
        first = after_vote(passed)
        await at_height(members, first - 1)
        assert not [vote for vote in candidate.votes if vote.height < first]
        await at_height(members, first + 2)
        assert candidate.node.chain.index == 4
        assert candidate.node.chain.voting
        await until(lambda: bool(candidate.votes), "the new authority votes")
        # It is needed for the quorum once another is away.
        await members[1].stop()
        await at_height([candidate, watcher], candidate.height + 3)
        assert await has_voted_since(candidate, watcher, first)
        await members[1].start()
        # It keeps its seat over a restart, and contradicts itself never.
        await candidate.stop()
        await candidate.start()
        await until(lambda: candidate.node.chain.index == 4, "the seat is found again")

        passed = await agreed(
            governance.propose_remove(leaver.key.address, 100), [members[1], *members[2:5]]
        )
        first = after_vote(passed)
        await at_height(members, first + 3)
        assert leaver.node.chain.index is None
        assert not leaver.node.chain.voting
        assert watcher.node.chain.authorities.publics == tuple(
            key_of(number).public for number in (1, 2, 3, 4)
        )
        assert not [
            message
            for message in leaver.spoken
            if isinstance(message, Vote) and message.height >= first
        ]
        # Who joins from the first block on follows both changes.
        await late.start()
        await at_height([late], first + 3)
        assert await same_root([*members, late])
        for member in (*members, late):
            assert member.network is not None
            assert not member.network.penalties
        votes = [m for member in members for m in member.spoken if isinstance(m, Vote)]
        assert not double_votes(votes)


async def test_a_parameter_changes_at_the_epoch(tmp_path: Path) -> None:
    grid = changing_grid(tmp_path, homes=5)
    async with running(grid, range(5)) as members:
        passed = await agreed(governance.propose_set("propose_ms", 900, 100), members[:3])
        passed = max(
            passed,
            await agreed(governance.propose_set("block_interval_ms", 150, 100), members[1:4]),
        )
        first = after_vote(passed)
        await at_height(members, first + 1)
        hashes = [(await decided(members[4], at))[0].header.params_hash for at in (1, first)]
        changed = ChainParams(
            block_interval_ms=150,
            heartbeat_ms=1_000,
            consensus=msgspec.structs.replace(QUICK, propose_ms=900),
        )
        assert hashes == [
            hashlib.sha256(encode(params)).digest() for params in (grid.genesis.chain, changed)
        ]
        for member in members:
            core = member.node.chain._core
            assert core is not None
            assert core.params == changed.consensus
            assert member.node.chain._params == changed
        # It is in force after a restart as well.
        await members[3].stop()
        await members[3].start()
        assert members[3].node.chain._params == changed


def equivocate(member: Member) -> None:
    """From now on each of its prevotes is followed by one that contradicts it."""
    network = member.network
    assert network is not None
    honest = network.send

    def send(peer_id: str, protocol: str, data: bytes) -> bool:
        done = honest(peer_id, protocol, data)
        last = member.spoken[-1] if protocol == PROTOCOL else None
        if isinstance(last, Vote) and last.kind == PREVOTE and last.voter == member.number:
            value = b"\x77" * 32
            place = (last.kind, grid_chain(member), last.epoch, last.height, last.round)
            signature = member.key.sign(vote_signed_bytes(*place, value))
            other = msgspec.structs.replace(last, block_hash=value, signature=signature)
            honest(peer_id, protocol, encode(other))
            member.spoken.pop()
        return done

    network.send = send  # type: ignore[method-assign]


def grid_chain(member: Member) -> str:
    return member.grid.genesis.chain_id


async def evidence_in(member: Member) -> list[tuple[int, DuplicateVote]]:
    """Return all evidence in the blocks a home has, with their heights."""
    found = []
    for height in range(1, member.height + 1):
        block, _ = await decided(member, height)
        found += [(height, item) for item in block.evidence if isinstance(item, DuplicateVote)]
    return found


async def test_who_votes_twice_is_found_and_put_out(tmp_path: Path) -> None:
    grid = changing_grid(tmp_path, homes=6, authorities=5)
    late = grid.members[5]
    async with running(grid, range(5)) as members:
        honest, liar = members[:4], members[4]
        await at_height(members, 2)
        equivocate(liar)
        await until(
            lambda: any(
                member.convicted for member in governance.members(honest[0].node.app.query)
            ),
            "the offence is in a block",
        )
        convicted_at = honest[0].height
        await honest[1].stop()
        await honest[1].start()
        await at_height(honest, after_conviction(convicted_at) + EPOCH)
        await late.start()
        await at_height([late], honest[0].height)
        # One piece, in one block, and everybody knows the same.
        found = await evidence_in(honest[0])
        assert len(found) == 1
        assert found == await evidence_in(late)
        assert found[0][1].first.voter == 4
        first = after_conviction(found[0][0])
        for height, seats in ((first - 1, 5), (first, 4)):
            publics = tuple(key_of(number).public for number in range(seats))
            expected = AuthoritySet(first // EPOCH - (seats == 5), publics)
            header = (await decided(late, height))[0].header
            assert header.authorities_hash == expected.hash
        for member in (*honest, late):
            query = member.node.app.query
            standing = {m.address: m for m in governance.members(query)}
            assert [a for a, m in standing.items() if m.convicted] == [liar.key.address]
            account = client.account(query, liar.key.address)
            assert (account.held_micro, account.balance_micro) == (0, BALANCE_MICRO)
            assert client.account(query, REGULATOR.address).balance_micro == BOND
            await until(lambda pool=member.node.evidence: not len(pool), "nothing is pending")
        money = await honest[0].ask("money")
        assert (
            money["balances_micro"] + money["held_micro"]
            == money["minted_micro"] - money["redeemed_micro"]
        )


async def test_evidence_survives_a_restart_until_a_block_takes_it(tmp_path: Path) -> None:
    """Found by one node while no block can be made; it restarts, and the proof is still there."""
    grid = changing_grid(tmp_path, homes=5)
    async with running(grid, range(3)) as members:
        await at_height(members, 3)
        await members[1].stop()
        await members[2].stop()
        finder, height = members[0], members[0].height
        place = (PREVOTE, grid.genesis.chain_id, finder.node.chain.authorities.epoch, 2, 0)
        votes = [
            Vote(
                PREVOTE,
                place[2],
                2,
                0,
                value,
                3,
                key_of(3).sign(vote_signed_bytes(*place, value)),
            )
            for value in (b"\x01" * 32, b"\x02" * 32)
        ]
        await finder.node.chain._do(ReportEvidence(duplicate_vote(*votes)))
        assert len(finder.node.evidence) == 1
        await finder.stop()
        await finder.start()
        assert len(finder.node.evidence) == 1
        await members[1].start()
        await members[2].start()
        await at_height(members, height + 3)
        await until(
            lambda: not any(len(member.node.evidence) for member in members), "a block took it"
        )
        assert len(await evidence_in(finder)) == 1


def prevote(number: int, chain_id: str, epoch: int, height: int) -> bytes:
    signed = vote_signed_bytes(PREVOTE, chain_id, epoch, height, 0, NIL)
    return encode(Vote(PREVOTE, epoch, height, 0, NIL, 0, key_of(number).sign(signed)))


async def test_who_may_have_a_seat_that_is_not_known_here_is_no_stranger(tmp_path: Path) -> None:
    blocks = 4
    chain = ChainParams(block_interval_ms=100, heartbeat_ms=300, consensus=QUICK)
    grid = Grid(tmp_path, with_epochs(make_genesis(6, time_lapse=1, chain=chain), blocks))
    async with running(grid, range(6)) as members:
        hearer, follower = members[0], members[5]
        assert hearer.network is not None
        penalties = hearer.network.penalties
        await until(lambda: hearer.height % blocks == blocks - 1, "the last but one of an epoch")
        coming = hearer.height // blocks + 1
        for epoch in (coming + 9, coming):
            data = prevote(5, grid.genesis.chain_id, epoch, epoch * blocks + 1)
            hearer.node.chain._inbox._hear(follower.peer_id, data)
        assert not penalties
        assert len(hearer.node.chain._inbox._early) == 1
        # When the epoch has come, it turns out that there is no such seat.
        await at_height([hearer], coming * blocks + 1)
        await until(lambda: not hearer.node.chain._inbox._early, "what came early is judged")
        for epoch, height in ((coming, coming * blocks + 1), (0, 1), (0, 3)):
            data = prevote(5, grid.genesis.chain_id, epoch, height)
            hearer.node.chain._inbox._hear(follower.peer_id, data)
        assert penalties == [(follower.peer_id, "consensus messages are for authorities")] * 3
        hearer.node.chain._inbox._hear(follower.peer_id, b"junk")
        assert len(penalties) == 4


async def test_a_notice_of_an_unknown_epoch_is_asked_about_and_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.chain.announcer.UNPROVEN_MAX", 3)
    grid = changing_grid(tmp_path, homes=5)
    async with running(grid, range(5)) as members:
        await at_height(members, 2)
        announcer = members[4].node.tier.announcer
        _, certificate = await decided(members[0], 1)
        far = msgspec.structs.replace(certificate, epoch=99, height=99 * EPOCH + 1)
        notice = encode(DecidedNotice(far.height, encode(far), b""))
        peer = members[0].peer_id
        # A member that lagged behind an epoch's end has already passed some on in this window.
        announcer._unproven_since = -math.inf
        assert [announcer._check(peer, notice) for _ in range(5)] == [True] * 3 + [None] * 2
        announcer._receive(peer, notice)
        assert members[4].node.sync.behind < 90 * EPOCH
        # Of an epoch that is known, a false certificate is an offence.
        near = msgspec.structs.replace(certificate, height=2)
        spoilt = encode(DecidedNotice(2, encode(near), b""))
        assert not announcer._check(peer, spoilt)
        announcer._receive(peer, spoilt)
        assert members[4].network is not None
        assert [name for name, _ in members[4].network.penalties] == [peer]


async def test_a_snapshot_and_a_bill_are_proven_over_changed_sets(tmp_path: Path) -> None:
    genesis = with_epochs(make_genesis(6, time_lapse=3_000, slot_minutes=5))
    grid = Grid(tmp_path, genesis, sync=SyncSection(snapshot_every=5, snapshot_behind=5))
    async with running(grid, range(5)) as members:
        candidate, joiner = members[4], grid.members[5]
        await sent(candidate, governance.stand())
        passed = await agreed(governance.propose_add(candidate.key.address, 100), members[:3])
        await at_height(members, after_vote(passed) + 8)
        await same_snapshot(members, members[0].height - 5)
        await joiner.start()
        await at_height([joiner], members[0].height)
        await one_snapshot_loaded(joiner)
        assert joiner.node.chain.authorities.n == 5
        # It follows the sets that come, and can offer the proofs of those it has jumped over.
        await at_height([joiner], joiner.height + EPOCH)
        assert await same_root([*members, joiner])
        # A stranger asks it over the network, and follows them too.
        home, stranger = members[1].key.address, MemoryNetwork(key_of(90).peer_id, grid.hub)
        proven = await prove_bill(
            grid.genesis, address_of(joiner.number), home, None, now_ms() - 60_000, stranger
        )
        assert proven.epoch > 1
        assert not joiner.network or not joiner.network.penalties
