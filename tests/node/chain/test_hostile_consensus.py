"""What a hostile authority, or a stranger, sends to a home: refused, counted against it, without
effect on the chain; who goes on is cut off for a while. By the node's own path of messages."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec.structs import replace

import node.network._limits
from consensus.authorities import AuthoritySet, build_certificate
from consensus.evidence import duplicate_vote
from consensus.messages import (
    MESSAGE_BYTES_MAX,
    NIL,
    NO_ROUND,
    PRECOMMIT,
    PREVOTE,
    Block,
    Certificate,
    ConsensusMessage,
    Decided,
    Proposal,
    Vote,
    certificate_hash,
    evidence_root,
    header_hash,
    proposal_signed_bytes,
    tx_root,
    vote_signed_bytes,
)
from consensus.params import ROUNDS_AHEAD_MAX
from market import client
from market.genesis import GovernanceParams
from node.chain.inbox import PROTOCOL
from node.genesis import ChainParams, Genesis
from node.network.memory import MemoryNetwork
from node.setup import DATABASE_NAME, WAL_NAME
from tests.node.grid import (
    QUICK,
    REGULATOR,
    Grid,
    Member,
    SpyNetwork,
    address_of,
    at_height,
    key_of,
    make_genesis,
    running,
    until,
)
from wire.codec import encode

STRANGER = 9
SMALL_BLOCKS = ChainParams(
    block_interval_ms=100,
    heartbeat_ms=1_000,
    block_bytes_max=65_536,
    block_transactions_max=16,
    consensus=QUICK,
)
EPOCH = 4
OFFENCES_MAX = node.network._limits.Limits().offences_max

# A street's genesis, the height in its second epoch that a home has got to, and that home's
# database; made once.
_recorded: list[tuple[Genesis, int, bytes]] = []


async def record(directory: Path) -> tuple[Genesis, int, bytes]:
    rules = GovernanceParams(epoch_blocks=EPOCH)
    street = make_genesis(5, chain=SMALL_BLOCKS, time_lapse=900, slot_minutes=5)
    grid = Grid(directory, replace(street, governance=rules))
    async with running(grid, range(4)) as members:
        await at_height(members, EPOCH + 1)
        chain = members[0].node.chain
    return grid.genesis, chain.height, (members[0].data / DATABASE_NAME).read_bytes()


class Stage:
    """A home that is alone with those who harm it: without a quorum nothing can be decided."""

    def __init__(self, home: Member) -> None:
        self.home = home
        self.grid = home.grid
        self.chain_id = self.grid.genesis.chain_id
        self.networks: list[MemoryNetwork] = []
        # Who has the turn, and two others; the home itself is the fourth.
        self.proposer = self.authorities.proposer(self.height, 0)
        self.second, self.third = (self.proposer + 1) % 4, (self.proposer + 3) % 4
        assert home.number == (self.proposer + 2) % 4
        self.before = self.state()

    @property
    def chain(self):  # type: ignore[no-untyped-def]
        return self.home.node.chain

    @property
    def core(self):  # type: ignore[no-untyped-def]
        core = self.chain._core
        assert core is not None
        return core

    @property
    def height(self) -> int:
        """The height to be decided."""
        return int(self.chain.height) + 1

    @property
    def authorities(self) -> AuthoritySet:
        authorities: AuthoritySet = self.chain.authorities
        return authorities

    def state(self) -> tuple[object, ...]:
        chain = self.chain
        return (
            chain.head,
            chain.state_root,
            chain.authorities,
            chain._replica._store.height,
            chain.counts["blocks"],
            self.core.height,
            self.core.locked_round,
            self.core.valid_round,
            self.core.decided,
        )

    async def join(self, number: int) -> MemoryNetwork:
        """Connect a peer with this key, which says only what it is told to."""
        network = MemoryNetwork(key_of(number).peer_id, self.grid.hub)
        await network.start()
        self.networks.append(network)
        network.want(address_of(self.home.number))
        await until(lambda: self.is_here(network.peer_id), "the peer is connected")
        return network

    def is_here(self, peer_id: str) -> bool:
        return peer_id in {peer.peer_id for peer in spied(self.home).peers()}

    # -- what can be said

    def vote(self, kind: int, voter: int, value: bytes = NIL, **changes: object) -> Vote:
        unsigned = Vote(kind, self.authorities.epoch, self.height, 0, value, voter % 4, bytes(64))
        unsigned = replace(unsigned, **changes)
        signed = vote_signed_bytes(
            unsigned.kind,
            self.chain_id,
            unsigned.epoch,
            unsigned.height,
            unsigned.round,
            unsigned.block_hash,
        )
        return replace(unsigned, signature=key_of(voter).sign(signed))

    async def block(self) -> Block:
        """Make a good block for the next height, of the authority that has the turn."""
        chain = self.chain
        head = chain.head
        moves = [self.home.sign(client.transfer(REGULATOR.address, 1 + n)) for n in range(2)]
        block, _ = await chain._replica._in_worker(
            lambda: chain._replica._maker.build(
                head.header, head.certificate, self.proposer, chain._now_ms(), moves
            )
        )
        made: Block = block
        return made

    def proposal(self, block: Block, **changes: object) -> Proposal:
        unsigned = Proposal(
            self.authorities.epoch,
            self.height,
            0,
            block,
            NO_ROUND,
            None,
            self.proposer,
            bytes(64),
        )
        unsigned = replace(unsigned, **changes)
        signed = proposal_signed_bytes(
            self.chain_id,
            unsigned.epoch,
            unsigned.height,
            unsigned.round,
            header_hash(unsigned.block.header),
            unsigned.valid_round,
        )
        return replace(unsigned, signature=key_of(unsigned.proposer).sign(signed))

    def certificate(
        self, kind: int, block: Block, voters: tuple[int, ...] = (0, 1, 2, 3)
    ) -> Certificate:
        hash_ = header_hash(block.header)
        votes = {voter: self.vote(kind, voter, hash_) for voter in voters}
        return build_certificate(
            self.chain_id, self.authorities.epoch, self.height, 0, hash_, votes
        )


def spied(member: Member) -> SpyNetwork:
    assert member.network is not None
    return member.network


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """A home at a height of the second epoch, and nobody else."""
    if not _recorded:
        _recorded.append(await record(tmp_path / "recorded"))
    genesis, height, database = _recorded[0]
    grid = Grid(tmp_path, genesis)
    home = grid.members[(height + 1 + 2) % 4]
    (home.data / DATABASE_NAME).write_bytes(database)
    await home.start(())
    await until(lambda: home.node.chain._core.height == height + 1, "its core is awake")  # type: ignore[union-attr]
    made = Stage(home)
    yield made
    for network in made.networks:
        await network.stop()
    await grid.stop()


# -- what is refused as it is, each time it comes


class Case(NamedTuple):
    reason: str
    make: Callable[[Stage, Block], ConsensusMessage | bytes]
    sender: int | None = None


def rebodied(block: Block, **changes: object) -> Block:
    """Change a block's body, and its header accordingly."""
    block = replace(block, **changes)
    header = replace(
        block.header,
        tx_root=tx_root(block.txs),
        last_certificate_hash=certificate_hash(block.last_certificate),
        evidence_root=evidence_root(block.evidence),
    )
    return replace(block, header=header)


def reheaded(block: Block, **changes: object) -> Block:
    return replace(block, header=replace(block.header, **changes))


def with_proof(stage: Stage, block: Block, pol: Certificate) -> Proposal:
    return stage.proposal(block, round=1, valid_round=0, pol=pol, proposer=stage.second)


REFUSED: dict[str, Case] = {
    "a stranger's own vote": Case(
        "are for authorities", lambda s, b: s.vote(PREVOTE, STRANGER), STRANGER
    ),
    "an authority's vote from a stranger": Case(
        "are for authorities", lambda s, b: s.vote(PREVOTE, s.second), STRANGER
    ),
    "a vote of nobody's seat": Case(
        "of no authority", lambda s, b: replace(s.vote(PREVOTE, s.second), voter=7)
    ),
    "a vote that another signed": Case(
        "wrong signature", lambda s, b: replace(s.vote(PREVOTE, s.second), voter=s.third)
    ),
    "a vote of an old epoch": Case(
        "another epoch", lambda s, b: s.vote(PREVOTE, s.second, epoch=0)
    ),
    "a vote of an epoch to come": Case(
        "another epoch", lambda s, b: s.vote(PREVOTE, s.second, epoch=9)
    ),
    "a vote far ahead": Case(
        "far ahead",
        lambda s, b: s.vote(PREVOTE, s.second, round=s.core.round + ROUNDS_AHEAD_MAX + 50),
    ),
    "a vote of round 2^40": Case(
        "malformed", lambda s, b: replace(s.vote(PREVOTE, s.second), round=2**40)
    ),
    "garbage": Case("malformed", lambda s, b: b"\xc1" * 100),
    "more than any message": Case("malformed", lambda s, b: bytes(MESSAGE_BYTES_MAX + 1)),
    "a block of more bytes than any": Case(
        "malformed",
        lambda s, b: s.proposal(
            rebodied(b, txs=tuple(n.to_bytes(2, "big") * 4_000 for n in range(270)))
        ),
    ),
    "a proposal of who has not the turn": Case(
        "whose turn it is not", lambda s, b: s.proposal(b, proposer=s.second)
    ),
    "a proposal of an old epoch": Case("turn", lambda s, b: s.proposal(b, epoch=0)),
    "a proposal that another signed": Case(
        "wrong signature", lambda s, b: replace(s.proposal(b), signature=bytes(64))
    ),
    "a proposal of another's block": Case(
        "another built",
        lambda s, b: s.proposal(reheaded(b, proposer=s.second)),
    ),
    "a block of another chain": Case(
        "another chain", lambda s, b: s.proposal(reheaded(b, chain_id="elsewhere"))
    ),
    "a block of another height": Case(
        "another chain, epoch or height",
        lambda s, b: s.proposal(reheaded(b, height=s.height + 1)),
    ),
    "a wrong transaction root": Case(
        "not its own", lambda s, b: s.proposal(reheaded(b, tx_root=bytes(32)))
    ),
    "another body": Case("not its own", lambda s, b: s.proposal(replace(b, txs=b.txs[:1]))),
    "a proof of lock without a quorum": Case(
        "proves nothing", lambda s, b: with_proof(s, b, s.certificate(PREVOTE, b, (1, 2)))
    ),
    "a proof of lock of precommits": Case(
        "proves nothing", lambda s, b: with_proof(s, b, s.certificate(PRECOMMIT, b))
    ),
    "a decided block without a quorum": Case(
        "proves nothing", lambda s, b: Decided(b, s.certificate(PRECOMMIT, b, (1, 2)))
    ),
    "a decided block with prevotes": Case(
        "proves nothing", lambda s, b: Decided(b, s.certificate(PREVOTE, b))
    ),
    "another decided block than the certificate's": Case(
        "not its certificate's",
        lambda s, b: Decided(reheaded(b, time_ms=1), s.certificate(PRECOMMIT, b)),
    ),
    "a decided block with another body": Case(
        "not its own", lambda s, b: Decided(replace(b, txs=()), s.certificate(PRECOMMIT, b))
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_it_is_refused_counted_and_in_the_end_its_sender_is_cut_off(
    stage: Stage, name: str
) -> None:
    case = REFUSED[name]
    sender = stage.proposer if case.sender is None else case.sender
    hostile = await stage.join(sender)
    honest = await stage.join(stage.third)
    message = case.make(stage, await stage.block())
    data = message if isinstance(message, bytes) else encode(message)
    home = spied(stage.home)

    for times in range(1, OFFENCES_MAX + 1):
        assert stage.is_here(hostile.peer_id)
        hostile.send(home.peer_id, PROTOCOL, data)
        await until(lambda: len(home.penalties) >= times, f"offence {times} is counted")  # noqa: B023
    await until(lambda: not stage.is_here(hostile.peer_id), "the peer is cut off")
    assert {peer for peer, _ in home.penalties} == {hostile.peer_id}
    assert all(case.reason in reason for _, reason in home.penalties), home.penalties[0]
    assert home.counters()["offences"] == OFFENCES_MAX
    assert home.counters()["bans"] == 1
    # It dials again and again.
    refused = home.counters()["refused"]
    await until(lambda: home.counters()["refused"] > refused, "the peer is not let in")
    # Nothing has moved, and another is heard as before.
    vote = stage.vote(PREVOTE, stage.third)
    honest.send(home.peer_id, PROTOCOL, encode(vote))
    await until(lambda: has_vote(stage, vote), "an honest vote is taken in")
    assert stage.state() == stage.before
    assert not has_vote_for_any_block(stage)


def has_vote(stage: Stage, vote: Vote) -> bool:
    slot = stage.core.rounds.get(vote.round)
    return slot is not None and vote.voter in slot.prevotes.votes_for(vote.block_hash)


def has_vote_for_any_block(stage: Stage) -> bool:
    return any(vote.block_hash != NIL for vote in stage.home.votes)


# -- blocks that only their execution, or their parent, shows to be bad


def signed_move(stage: Stage, amount: int) -> bytes:
    return stage.home.sign(client.transfer(REGULATOR.address, amount)).raw


def certificate_of_two(block: Block) -> Certificate:
    certificate = block.last_certificate
    assert certificate is not None
    kept = [place for place in range(4) if certificate.bitmap >> place & 1][:2]
    return replace(
        certificate,
        bitmap=sum(1 << place for place in kept),
        signatures=certificate.signatures[:2],
    )


def sound_evidence(stage: Stage, **changes: object) -> tuple[object, ...]:
    first = stage.vote(PREVOTE, stage.second, NIL, **changes)
    second = stage.vote(PREVOTE, stage.second, bytes([1] * 32), **changes)
    return (duplicate_vote(first, second),)


INVALID: dict[str, Callable[[Stage, Block], Block]] = {
    "on another parent": lambda s, b: reheaded(b, parent_hash=bytes([1] * 32)),
    "not later than its parent": lambda s, b: reheaded(b, time_ms=s.chain.head.header.time_ms),
    "of another version": lambda s, b: reheaded(b, version=99),
    "of another set": lambda s, b: reheaded(b, authorities_hash=bytes([2] * 32)),
    "with another state root": lambda s, b: reheaded(b, state_root=bytes([3] * 32)),
    "with other receipts": lambda s, b: reheaded(b, receipts_root=bytes([4] * 32)),
    "that announces its own set": lambda s, b: reheaded(b, next_authorities_hash=bytes([5] * 32)),
    "with other parameters": lambda s, b: reheaded(b, params_hash=bytes([6] * 32)),
    "with one transaction twice": lambda s, b: rebodied(b, txs=b.txs + b.txs[:1]),
    "with what is no transaction": lambda s, b: rebodied(b, txs=(*b.txs, b"junk")),
    "with a transaction nobody signed": lambda s, b: rebodied(
        b, txs=(*b.txs, signed_move(s, 5)[:-1] + b"\x00")
    ),
    "with too many transactions": lambda s, b: rebodied(
        b, txs=tuple(signed_move(s, n + 1) for n in range(17))
    ),
    "with too many bytes": lambda s, b: rebodied(
        b, txs=tuple(n.to_bytes(2, "big") * 4_000 for n in range(9))
    ),
    "without its parent's certificate": lambda s, b: rebodied(b, last_certificate=None),
    "with a certificate of two": lambda s, b: rebodied(b, last_certificate=certificate_of_two(b)),
    "with a forged certificate": lambda s, b: rebodied(
        b,
        last_certificate=replace(
            b.last_certificate,  # type: ignore[type-var]
            signatures=(bytes(64), *b.last_certificate.signatures[1:]),  # type: ignore[union-attr]
        ),
    ),
    "with evidence of its own height": lambda s, b: rebodied(b, evidence=sound_evidence(s)),
}


@pytest.mark.parametrize("name", INVALID)
async def test_a_block_that_may_not_follow_gets_no_vote_and_is_its_proposers_offence(
    stage: Stage, name: str
) -> None:
    await stage.join(stage.proposer)
    # A peer that passes it on is not to blame.
    carrier = await stage.join(stage.second)
    block = INVALID[name](stage, await stage.block())
    home = spied(stage.home)
    carrier.send(home.peer_id, PROTOCOL, encode(stage.proposal(block)))
    await until(lambda: stage.chain.counts["refused_blocks"] == 1, "the block is refused")
    await until(lambda: bool(home.penalties), "it is counted")
    assert [peer for peer, _ in home.penalties] == [key_of(stage.proposer).peer_id]
    assert stage.state() == stage.before
    await until(lambda: bool(stage.home.votes), "this home votes all the same")
    assert not has_vote_for_any_block(stage)


async def test_old_votes_played_to_who_lost_its_memory_do_not_end_its_silence(
    tmp_path: Path,
) -> None:
    """R22: the heights are decided by votes that this home sees, but they are not news."""
    grid = Grid(tmp_path, make_genesis(4, time_lapse=900, slot_minutes=5))
    one, liar, *others = (grid.members[number] for number in (2, 3, 0, 1))
    async with running(grid, range(4)) as members:
        await at_height(members, 2)
        await one.stop()
        signed = max(vote.height for vote in one.votes)
        await at_height([liar, *others], signed + 4)
        old = [
            message
            for member in (liar, *others)
            for message in member.spoken
            if isinstance(message, Proposal)
            or (isinstance(message, Vote) and message.kind == PRECOMMIT)
        ]
        await liar.stop()
        (one.data / WAL_NAME).unlink()
        said = len(one.votes)
        grid.hub.partition([one.peer_id, liar.peer_id])
        player = MemoryNetwork(liar.peer_id, grid.hub)
        await player.start()
        await one.start([address_of(3)])
        await until(lambda: bool(player.peers()), "they are connected")
        for height in range(one.height + 1, signed + 4):
            for message in dict.fromkeys(old):
                if message.height == height:
                    player.send(one.peer_id, PROTOCOL, encode(message))
            await until(lambda: one.height >= height, f"votes decide {height}")  # noqa: B023
            assert one.node.chain.decided_height == height
        assert not one.node.chain.voting
        assert one.votes[said:] == []
        await player.stop()
        grid.hub.heal()
        await liar.start()
        for other in others:
            spied(one).want(address_of(other.number))
        await until(lambda: one.node.chain.voting, "it votes again")
        level = max(other.height for other in others)
        await until(lambda: len(one.votes) > said, "it is heard again")
        assert min(vote.height for vote in one.votes[said:]) > signed + 4
        await at_height(grid.members, level + 2)


async def test_the_good_block_itself_gets_a_vote(stage: Stage) -> None:
    """Without which nothing here would show anything."""
    proposer = await stage.join(stage.proposer)
    block = await stage.block()
    proposer.send(spied(stage.home).peer_id, PROTOCOL, encode(stage.proposal(block)))
    hash_ = header_hash(block.header)
    await until(lambda: any(v.block_hash == hash_ for v in stage.home.votes), "it is voted for")
    assert spied(stage.home).penalties == []
    assert stage.chain.counts["refused_blocks"] == 0
