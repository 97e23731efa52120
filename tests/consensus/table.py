"""A table of authorities: one is the core under test, the others say what a test wants."""

from typing import Any, TypeVar

from msgspec.structs import replace

from consensus import events
from consensus.authorities import AuthoritySet, build_certificate
from consensus.core import Core
from consensus.events import TIMER_PRECOMMIT
from consensus.messages import (
    NIL,
    NO_ROUND,
    PRECOMMIT,
    PREVOTE,
    ZERO_HASH,
    Block,
    Certificate,
    ConsensusMessage,
    Decided,
    Header,
    Proposal,
    Vote,
    header_hash,
    proposal_signed_bytes,
    tx_root,
    vote_signed_bytes,
)
from consensus.params import Params
from consensus.wal import WalRecord
from tests.sim import keys
from tests.sim.app import genesis_block

CHAIN_ID = "table"
NOW_MS = 1_000_000
E = TypeVar("E")


class Table:
    """`core` is authority `me` of `n` at `height`; with height 1 and n 4, authority 1 proposes."""

    def __init__(self, n: int = 4, me: int = 0, height: int = 1, **options: Any) -> None:
        self.publics = tuple(keys.public_of(index) for index in range(n))
        self.authorities = AuthoritySet(0, self.publics)
        self.height = height
        self.me = me
        self.params = options.pop("params", Params())
        self.genesis = genesis_block(CHAIN_ID, self.authorities, ZERO_HASH)
        self.parent = replace(self.genesis.header, height=height - 1)
        self.core = self.new_core(me)
        if options.pop("enter", True):
            self.effects = self.core.handle(events.EnterHeight(height, self.authorities, **options))

    def new_core(self, me: int) -> Core:
        public = keys.public_of(me)
        return Core(CHAIN_ID, public, keys.signer_of(public), keys.verify, self.params)

    # -- what others say

    def block(self, proposer: int = 1, time_ms: int = NOW_MS, **changes: Any) -> Block:
        txs = changes.pop("txs", (b"tx",))
        root = tx_root(txs)
        header = replace(
            self.parent,
            height=self.height,
            parent_hash=header_hash(self.parent),
            time_ms=time_ms,
            proposer=proposer,
            tx_root=root,
            state_root=root,
            **changes,
        )
        return Block(header, txs, None)

    def proposal(
        self,
        block: Block,
        round_: int = 0,
        valid_round: int = NO_ROUND,
        pol: Certificate | None = None,
        proposer: int | None = None,
    ) -> Proposal:
        if proposer is None:
            proposer = self.authorities.proposer(self.height, round_)
        hash_ = header_hash(block.header)
        signed = proposal_signed_bytes(CHAIN_ID, 0, self.height, round_, hash_, valid_round)
        signature = keys.signer_of(self.publics[proposer])(signed)
        return Proposal(0, self.height, round_, block, valid_round, pol, proposer, signature)

    def vote(self, kind: int, voter: int, value: bytes = NIL, round_: int = 0) -> Vote:
        signed = vote_signed_bytes(kind, CHAIN_ID, 0, self.height, round_, value)
        signature = keys.signer_of(self.publics[voter])(signed)
        return Vote(kind, 0, self.height, round_, value, voter, signature)

    def certificate(
        self, kind: int, value: bytes, round_: int = 0, voters: tuple[int, ...] = (1, 2, 3)
    ) -> Certificate:
        votes = {voter: self.vote(kind, voter, value, round_) for voter in voters}
        return build_certificate(CHAIN_ID, 0, self.height, round_, value, votes)

    def decided(self, block: Block, round_: int = 0) -> Decided:
        return Decided(block, self.certificate(PRECOMMIT, hash_of(block), round_))

    # -- what the core hears

    def handle(self, event: events.Event) -> list[events.Effect]:
        self.effects = self.core.handle(event)
        return self.effects

    def hear(
        self, message: ConsensusMessage, sender: int | None = None, now_ms: int = NOW_MS
    ) -> list[events.Effect]:
        if sender is None:
            sender = next(index for index in range(len(self.publics)) if index != self.me)
        return self.handle(events.Received(message, sender, now_ms))

    def hear_votes(
        self, kind: int, value: bytes, round_: int = 0, voters: tuple[int, ...] = (1, 2, 3)
    ) -> list[events.Effect]:
        effects: list[events.Effect] = []
        for voter in voters:
            effects += self.hear(self.vote(kind, voter, value, round_), voter)
        self.effects = effects
        return effects

    def check(self, block: Block, valid: bool = True) -> list[events.Effect]:
        return self.handle(events.BlockChecked(self.height, hash_of(block), valid))

    def hear_proposal(self, block: Block, round_: int = 0, **options: Any) -> list[events.Effect]:
        """The proposal arrives and its block is found valid."""
        effects = self.hear(self.proposal(block, round_, **options))
        effects += self.check(block)
        self.effects = effects
        return effects

    def fire(self, kind: int, round_: int = 0) -> list[events.Effect]:
        return self.handle(events.TimerFired(events.Timer(kind, self.height, round_)))

    def tick(self) -> list[events.Effect]:
        return self.handle(events.TimerFired(events.Timer(events.TIMER_SUMMARY, 0, 0)))

    def lock(self, block: Block, round_: int = 0) -> list[events.Effect]:
        """Make the core lock the block: it is proposed, and the others prevote it."""
        self.hear_proposal(block, round_)
        return self.hear_votes(PREVOTE, hash_of(block), round_)

    def restart(self, records: list[WalRecord], damaged: bool = False) -> list[events.Effect]:
        """Start a new core on these records, at the same height."""
        self.core = self.new_core(self.me)
        self.core.recover(records, damaged)
        return self.handle(events.EnterHeight(self.height, self.authorities))


def hash_of(block: Block) -> bytes:
    return header_hash(block.header)


def header_of(table: Table) -> Header:
    return table.block().header


def only(effects: list[events.Effect], kind: type[E]) -> list[E]:
    """The effects of one kind."""
    return [effect for effect in effects if isinstance(effect, kind)]


def said(effects: list[events.Effect], kind: type[E]) -> list[E]:
    """The messages of one kind that were broadcast."""
    return [
        effect.message
        for effect in effects
        if isinstance(effect, events.Broadcast) and isinstance(effect.message, kind)
    ]


def votes_said(effects: list[events.Effect]) -> list[tuple[int, int, bytes]]:
    """(kind, round, value) of each vote broadcast."""
    return [(vote.kind, vote.round, vote.block_hash) for vote in said(effects, Vote)]


def persisted(effects: list[events.Effect]) -> list[WalRecord]:
    return [effect.record for effect in only(effects, events.Persist)]


def begin(table: Table) -> list[events.Effect]:
    return table.handle(events.BeginRounds(table.height))


def to_round(table: Table, number: int) -> None:
    for earlier in range(number):
        table.hear_votes(PRECOMMIT, NIL, earlier)
        table.fire(TIMER_PRECOMMIT, earlier)
