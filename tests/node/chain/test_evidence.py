"""Evidence on its way into a block: what is kept, passed on, refused, and committed once."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.authorities import build_certificate
from consensus.errors import BlockRefused
from consensus.evidence import conflicting_certificates, duplicate_proposal, duplicate_vote
from consensus.messages import (
    EVIDENCE_MAX,
    PRECOMMIT,
    PREVOTE,
    Block,
    Certificate,
    Evidence,
    Header,
    ProposalClaim,
    Vote,
    evidence_root,
    header_hash,
    proposal_signed_bytes,
    vote_signed_bytes,
)
from market import governance
from market.app import Application, BlockResult
from market.genesis import GovernanceParams
from node.chain.blocks import BlockMaker
from node.chain.epochs import Epochs
from node.chain.evidence import (
    EARLY_BLOCKS_MAX,
    EARLY_MAX,
    PER_BLOCK_MAX,
    EvidenceNotice,
    EvidencePool,
)
from node.pool.verifier import TransactionVerifier
from tests.node.grid import key_of, make_genesis, until
from wire.codec import encode

EPOCH = 6
SEATS = 7
A, B = b"\x01" * 32, b"\x02" * 32
CHAIN_ID = "grid"


class MiniChain:
    """A chain without nodes: blocks are built, signed by all and applied at once."""

    def __init__(self, directory: Path, evidence_blocks: int = 10_000) -> None:
        genesis = make_genesis(homes=SEATS, authorities=SEATS)
        rules = GovernanceParams(epoch_blocks=EPOCH)
        self.genesis = msgspec.structs.replace(genesis, governance=rules)
        founding = msgspec.structs.replace(self.genesis.founding(), evidence_blocks=evidence_blocks)
        self.app = Application(self.genesis.market, founding=founding)
        self.epochs = Epochs(self.genesis, self.app)
        self.maker = BlockMaker(self.genesis, self.epochs, self.app, TransactionVerifier(CHAIN_ID))
        result = self.app.genesis()
        self.head: Header = self.maker.genesis_block(result).header
        self.certificate: Certificate | None = None
        self.app.commit(result)
        self.published: list[bytes] = []
        self.arrivals = 0
        self.path = directory / "evidence"
        self.pool = self.make_pool()

    def make_pool(self) -> EvidencePool:
        async def publish(data: bytes) -> None:
            self.published.append(data)

        def arrived() -> None:
            self.arrivals += 1

        return EvidencePool(CHAIN_ID, self.epochs, self.app, self.path, publish, arrived)

    def build(self, evidence: Sequence[Evidence] = ()) -> tuple[Block, BlockResult]:
        time_ms = self.head.time_ms + 1_000
        return self.maker.build(self.head, self.certificate, 0, time_ms, [], evidence)

    def advance(self, count: int = 1) -> Block:
        """Make blocks of whatever the pool holds."""
        for _ in range(count):
            block, result = self.build(self.pool.due(self.head.height + 1))
            # What is built here is good for everybody.
            assert self.maker.execute(block, self.head).state_root == result.state_root
            self.apply(block, result)
        return block

    def apply(self, block: Block, result: BlockResult) -> None:
        authorities = self.epochs.of_height(block.header.height)
        assert authorities is not None
        block_hash = header_hash(block.header)
        place = (authorities.epoch, block.header.height, 0, block_hash)
        votes = {
            index: vote(index, PRECOMMIT, *place, public=public)
            for index, public in enumerate(authorities.publics)
        }
        self.certificate = build_certificate(CHAIN_ID, *place, votes)
        self.app.commit(result)
        self.head = block.header
        self.pool.applied(block, self.certificate, result)


KEYS = {key_of(number).public: key_of(number) for number in range(SEATS)}


def vote(
    index: int,
    kind: int,
    epoch: int,
    height: int,
    round_: int,
    value: bytes,
    public: bytes | None = None,
) -> Vote:
    key = KEYS[public] if public else key_of(index)
    signed = vote_signed_bytes(kind, CHAIN_ID, epoch, height, round_, value)
    return Vote(kind, epoch, height, round_, value, index, key.sign(signed))


def two_votes(index: int = 1, height: int = 1, round_: int = 0, epoch: int = 0) -> Evidence:
    place = (PREVOTE, epoch, height, round_)
    return duplicate_vote(vote(index, *place, A), vote(index, *place, B))


def two_proposals(index: int = 1, height: int = 1) -> Evidence:
    def claim(value: bytes) -> ProposalClaim:
        signed = proposal_signed_bytes(CHAIN_ID, 0, height, 0, value, -1)
        return ProposalClaim(0, height, 0, value, -1, index, key_of(index).sign(signed))

    return duplicate_proposal(claim(A), claim(B))


def two_certificates(round_: int) -> Evidence:
    """Two blocks that are final at height 1; in one round, seats 2 to 4 have signed both."""

    def certificate(voters: range, round_: int, value: bytes) -> Certificate:
        votes = {index: vote(index, PRECOMMIT, 0, 1, round_, value) for index in voters}
        return build_certificate(CHAIN_ID, 0, 1, round_, value, votes)

    return conflicting_certificates(
        certificate(range(5), 0, A), certificate(range(2, 7), round_, B)
    )


@pytest.fixture
def chain(tmp_path: Path) -> MiniChain:
    made = MiniChain(tmp_path)
    made.advance(2)
    return made


def convicted(chain: MiniChain) -> list[str]:
    return [member.address for member in governance.members(chain.app.query) if member.convicted]


def addresses(*numbers: int) -> list[str]:
    return sorted(key_of(number).address for number in numbers)


GOOD: dict[str, tuple[Callable[[], Evidence], list[str]]] = {
    "two votes": (two_votes, addresses(1)),
    "two proposals": (two_proposals, addresses(1)),
    "two certificates of one round": (lambda: two_certificates(0), addresses(2, 3, 4)),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_evidence_is_committed_once(chain: MiniChain, name: str) -> None:
    make, offenders = GOOD[name]
    evidence = make()
    notice = encode(EvidenceNotice(1, evidence))
    assert chain.pool.gossip_check("peer", notice)
    chain.pool.receive("peer", notice)
    chain.pool.receive("peer", notice)
    assert chain.arrivals == 1
    block = chain.advance()
    assert block.evidence == (evidence,)
    assert block.header.evidence_root == evidence_root([evidence])
    assert convicted(chain) == offenders
    assert len(chain.pool) == 0
    # No block takes it again, and nobody keeps it; to say it again is no offence.
    chain.pool.receive("peer", notice)
    assert len(chain.pool) == 0
    assert chain.pool.gossip_check("peer", notice)
    assert chain.build([evidence])[0].evidence == ()
    assert chain.advance(EPOCH).evidence == ()
    assert len(chain.app.terms().authorities) == SEATS - min(len(offenders), 2)
    chain.advance(EPOCH)
    assert len(chain.app.terms().authorities) == SEATS - len(offenders)


BAD: dict[str, Callable[[], Evidence]] = {
    "signed by another": lambda: msgspec.structs.replace(
        two_votes(), first=msgspec.structs.replace(vote(2, PREVOTE, 0, 1, 0, A), voter=1)
    ),
    "one vote twice": lambda: msgspec.structs.replace(
        two_votes(), second=vote(1, PREVOTE, 0, 1, 0, A)
    ),
    "of two rounds": lambda: msgspec.structs.replace(
        two_votes(), second=vote(1, PREVOTE, 0, 1, 1, B)
    ),
    "a wrong epoch, rightly signed": lambda: two_votes(epoch=1),
    "a height of another epoch": lambda: two_votes(height=EPOCH + 1, epoch=0),
    "far ahead": lambda: two_votes(height=2 + EARLY_BLOCKS_MAX + 1, epoch=3),
    "no authority": lambda: duplicate_vote(
        *(
            msgspec.structs.replace(vote(1, PREVOTE, 0, 1, 0, value), voter=SEATS)
            for value in (A, B)
        )
    ),
    "certificates that convict nobody": lambda: two_certificates(1),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_evidence_is_neither_kept_nor_passed_on(chain: MiniChain, name: str) -> None:
    evidence = BAD[name]()
    notice = encode(EvidenceNotice(1, evidence))
    assert not chain.pool.gossip_check("peer", notice)
    chain.pool.receive("peer", notice)
    assert len(chain.pool) == 0


@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 255))
def test_spoilt_notices_are_refused(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, place: int, byte: int
) -> None:
    chain = _shared(tmp_path_factory)
    assert not chain.pool.gossip_check("peer", junk)
    good = encode(EvidenceNotice(1, two_votes()))
    spoilt = bytearray(good)
    spoilt[place % len(spoilt)] = byte
    # The sequence number is nobody's claim: any value of it will do.
    if bytes(spoilt) != good and spoilt[-100:] != good[-100:]:
        assert not chain.pool.gossip_check("peer", bytes(spoilt))


_chains: list[MiniChain] = []


def _shared(tmp_path_factory: pytest.TempPathFactory) -> MiniChain:
    if not _chains:
        _chains.append(MiniChain(tmp_path_factory.mktemp("spoilt")))
        _chains[0].advance(2)
    return _chains[0]


def with_evidence(block: Block, *evidence: Evidence) -> Block:
    header = msgspec.structs.replace(block.header, evidence_root=evidence_root(evidence))
    return msgspec.structs.replace(block, header=header, evidence=evidence)


def refusal(chain: MiniChain, *evidence: Evidence) -> str:
    block, _ = chain.build()
    with pytest.raises(BlockRefused) as caught:
        chain.maker.execute(with_evidence(block, *evidence), chain.head)
    return caught.value.code


def test_blocks_with_bad_evidence_are_refused(chain: MiniChain) -> None:
    for make in BAD.values():
        assert refusal(chain, make()) == "evidence"
    assert refusal(chain, two_votes(), two_votes()) == "evidence"
    # Another offence of the same authority: one is enough to convict it.
    assert refusal(chain, two_votes(), two_proposals()) == "evidence"
    assert refusal(chain, two_votes(height=3)) == "evidence"
    # Good evidence that the state does not show to be executed.
    assert refusal(chain, two_votes()) == "roots"


def test_evidence_of_the_present_height_waits_for_the_next_block(chain: MiniChain) -> None:
    chain.pool.report(two_votes(height=3))
    assert len(chain.pool) == 1
    assert chain.advance().evidence == ()
    assert len(chain.advance().evidence) == 1


def test_evidence_of_an_epoch_to_come_is_judged_when_it_has_come(chain: MiniChain) -> None:
    chain.advance(EPOCH - 3)
    assert chain.head.height == EPOCH - 1
    good, bad = two_votes(1, EPOCH + 1, epoch=1), two_votes(2, EPOCH + 1, epoch=1)
    bad = msgspec.structs.replace(bad, first=vote(3, PREVOTE, 1, EPOCH + 1, 0, A))
    for evidence in (good, bad, good):
        notice = encode(EvidenceNotice(1, evidence))
        assert chain.pool.gossip_check("peer", notice)
        chain.pool.receive("peer", notice)
    assert len(chain.pool) == 0
    chain.advance()
    assert len(chain.pool) == 1
    for number in range(2 * EARLY_MAX):
        chain.pool.receive("peer", encode(EvidenceNotice(1, two_votes(2, 14, number, 2))))
    assert len(chain.pool._early) == EARLY_MAX


def test_evidence_gets_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    window = 8
    monkeypatch.setattr("node.chain.evidence.EVIDENCE_HEIGHTS_MAX", window)
    monkeypatch.setattr("consensus.validate.EVIDENCE_HEIGHTS_MAX", window)
    chain = MiniChain(tmp_path, evidence_blocks=window)
    chain.advance(window)
    evidence = two_votes()
    assert chain.pool.gossip_check("peer", encode(EvidenceNotice(1, evidence)))
    assert chain.build([evidence])[0].evidence == (evidence,)
    chain.pool.report(evidence)
    assert len(chain.pool) == 1
    held = chain.pool
    chain.pool = chain.make_pool()  # whose blocks do not hold it
    chain.advance()
    held.applied()
    assert len(held) == 0
    chain.pool.report(evidence)
    assert len(chain.pool) == 0
    chain.advance(EARLY_BLOCKS_MAX + 1)
    assert not chain.pool.gossip_check("peer", encode(EvidenceNotice(1, evidence)))


def test_the_pool_is_read_back_and_a_damaged_file_is_left(chain: MiniChain) -> None:
    chain.pool.report(two_votes(1))
    chain.pool.report(two_votes(3))
    again = chain.make_pool()
    again.load()
    assert again.due(3) == chain.pool.due(3)
    assert len(again) == 2
    for damage in (b"", b"\x00" * 40, chain.path.read_bytes()[:-3], b"x" * 3_000_000):
        chain.path.write_bytes(damage)
        spoilt = chain.make_pool()
        spoilt.load()
        assert len(spoilt) == 0


def test_one_authority_has_one_place_and_a_block_holds_few(chain: MiniChain) -> None:
    for round_ in range(50):
        chain.pool.report(two_votes(1, 1, round_))
    assert len(chain.pool) == 1
    for index in range(SEATS):
        chain.pool.report(two_votes(index))
    assert len(chain.pool) == SEATS
    assert PER_BLOCK_MAX <= EVIDENCE_MAX
    assert len(chain.advance().evidence) == PER_BLOCK_MAX
    assert len(chain.advance().evidence) == SEATS - PER_BLOCK_MAX
    assert len(convicted(chain)) == SEATS
    # All are convicted, and somebody must go on: the last seat stays.
    chain.advance(6 * EPOCH)
    assert len(chain.app.terms().authorities) == 1


async def test_what_is_found_is_said_and_said_again(
    chain: MiniChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.chain.evidence.REPEAT_S", 0.01)
    running = asyncio.create_task(chain.pool.run())
    chain.pool.report(two_votes())
    await until(lambda: len(chain.published) >= 3, "it is said three times")
    running.cancel()
    # Each time anew: gossip forwards the same bytes once only.
    assert len(set(chain.published)) == len(chain.published)
    assert all(chain.pool.gossip_check("peer", data) for data in chain.published)


def test_a_broken_chain_is_known_to_be_even_where_nobody_is_convicted(chain: MiniChain) -> None:
    assert chain.pool.conflict is None
    chain.pool.report(two_votes())
    assert chain.pool.conflict is None
    broken = two_certificates(round_=1)
    chain.pool.report(broken)
    assert chain.pool.conflict == broken
    assert len(chain.pool) == 1
