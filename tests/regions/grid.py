"""Regions and a main chain in one process: real applications, real certificates, no network."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from consensus.authorities import AuthoritySet, build_certificate
from consensus.checkpoint import Checkpoint
from consensus.light import SignedHeader, ends_epoch
from consensus.messages import (
    PRECOMMIT,
    Block,
    Certificate,
    Header,
    Vote,
    header_hash,
    vote_signed_bytes,
)
from market import client
from market.app import Application, BlockEnv, BlockResult, Receipt
from market.client import Call, regions
from market.genesis import GovernanceParams, HomeEntry, MarketParams
from market.invariants import count_money
from market.tiers import ExportRules, MainRules, Membership
from market.vm.engine import Engine
from node.chain.blocks import BlockMaker
from node.chain.epochs import Epochs, set_of
from node.genesis import GENESIS_VERSION, ChainParams, Genesis
from node.pool.verifier import TransactionVerifier
from node.regions.certifier import natives
from node.regions.checkpoints import make_checkpoint, posted
from node.regions.exchange import Offer, make_offers
from tests.market.street import REGULATOR, SLOT, SLOT_MS, START_MS, TARIFF, params
from tests.market.test_differential import comparable
from wire.codec import encode
from wire.keys import SigningKey
from wire.transaction import TRANSACTION_BYTES_MAX

EPOCH_BLOCKS = 1_000
BOND = 5_000_000
ESCROW = 20_000_000
SPONSOR_BALANCE = 100_000_000
MAIN_ID = "main"
BLOCK_MS = 1_000
HALT_MS = 30 * 60_000


def key(purpose: str) -> SigningKey:
    return SigningKey(hashlib.sha256(purpose.encode()).digest())


MAIN_KEYS = [key(f"main/{number}") for number in range(4)]


class Certified(NamedTuple):
    """A block that a chain has decided."""

    block: Block
    certificate: Certificate
    result: BlockResult

    @property
    def header(self) -> Header:
        return self.block.header


def certify(
    header: Header, keys: Sequence[SigningKey], authorities: AuthoritySet, round_: int = 0
) -> Certificate:
    """Have `keys`, which must be of the set, sign a header."""
    digest = header_hash(header)
    signed = vote_signed_bytes(
        PRECOMMIT, header.chain_id, header.epoch, header.height, round_, digest
    )
    votes = {}
    for one in keys:
        voter = authorities.publics.index(one.public)
        args = (PRECOMMIT, header.epoch, header.height, round_, digest, voter, one.sign(signed))
        votes[voter] = Vote(*args)
    return build_certificate(header.chain_id, header.epoch, header.height, round_, digest, votes)


def genesis_of(market: MarketParams, keys: Sequence[SigningKey], epoch_blocks: int) -> Genesis:
    """Return the genesis of a chain that `keys` decide; its authorities have no bonds."""
    governance = GovernanceParams(epoch_blocks=epoch_blocks, bond_micro=0)
    seated = tuple(one.public for one in keys)
    return Genesis(GENESIS_VERSION, seated, ChainParams(), market, governance)


def registration(
    number: int,
    chain_id: str,
    seated: Sequence[SigningKey],
    escrow_micro: int = ESCROW,
    genesis_hash: str = "",
) -> Call:
    """Return how a sponsor registers a region with these authorities, all of whom agree."""
    genesis_hash = genesis_hash or hashlib.sha256(chain_id.encode()).hexdigest()
    text = regions.possession_text(chain_id, genesis_hash)
    digest = hashlib.sha256(text.encode()).digest()
    keys = [one.public for one in seated]
    proofs = [one.sign(digest) for one in seated]
    name = f"Region {number}"
    return regions.register(number, name, chain_id, genesis_hash, keys, proofs, escrow_micro)


class Chain:
    """An application, its authorities, and the headers and certificates of its blocks."""

    application: type[Application] = Application

    def __init__(
        self,
        market: MarketParams,
        keys: Sequence[SigningKey],
        epoch_blocks: int = EPOCH_BLOCKS,
        twin: Engine | None = None,
        inherited: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        self.genesis = genesis_of(market, keys, epoch_blocks)
        founding = self.genesis.founding()
        self.chain_id = market.chain_id
        self.keys = {one.public: one for one in keys}
        self.app = self.application(market, None, founding, natives())
        self.query = self.app.query
        founded = self.app.genesis(inherited)
        verifier = TransactionVerifier(self.chain_id)
        self.maker = BlockMaker(self.genesis, Epochs(self.genesis, self.app), self.app, verifier)
        self.first = self.maker.genesis_block(founded).header
        self.app.commit(founded)
        self.twin = None if twin is None else Application(market, twin, founding, natives())
        if self.twin is not None:
            self.twin.commit(self.twin.genesis(inherited))
        self.time_ms = market.begins_ms
        self.head: Certified | None = None
        self.blocks: list[Certified] = []
        self._nonces: dict[str, int] = {}

    @property
    def height(self) -> int:
        return self.app.height

    def call(self, one: SigningKey, call: Call) -> client.calls.CheckedTransaction:
        nonce = self._nonces[one.address] = self._nonces.get(one.address, 0) + 1
        tx = client.sign_call(call, one, self.chain_id, nonce, self.time_ms + 3_600_000)
        assert len(tx.raw) <= TRANSACTION_BYTES_MAX
        return tx

    def env(self) -> BlockEnv:
        """Return what a block a second after the last one would be executed with."""
        parent = self.head.header if self.head else self.first
        return BlockEnv(self.height + 1, self.time_ms + BLOCK_MS, header_hash(parent))

    def block(
        self, calls: Iterable[tuple[SigningKey, Call]] = (), at_ms: int | None = None
    ) -> Certified:
        """Decide a block at `at_ms`, a second after the last one by default."""
        self.time_ms = self.time_ms + BLOCK_MS if at_ms is None else at_ms
        authorities = set_of(self.app.terms())
        txs = [self.call(*call) for call in calls]
        parent = self.head.header if self.head else self.first
        last = self.head.certificate if self.head else None
        proposer = (self.height + 1) % authorities.n
        block, result = self.maker.build(parent, last, proposer, self.time_ms, txs)
        if self.twin is not None:
            env = BlockEnv(self.height + 1, self.time_ms, header_hash(parent))
            theirs = self.twin.execute(env, txs)
            assert comparable(theirs) == comparable(result)
            self.twin.commit(theirs)
        header = block.header
        signers = [self.keys[public] for public in authorities.publics[: authorities.quorum]]
        self.head = Certified(block, certify(header, signers, authorities), result)
        self.app.commit(result)
        self.blocks.append(self.head)
        failed = [event for event in result.events if event.name == "hook_failed"]
        assert not failed, failed
        count_money(self.app._state)
        self.decided(self.head)
        return self.head

    def decided(self, block: Certified) -> None:
        """Look at a block that was just committed."""

    def send(self, one: SigningKey, call: Call) -> Receipt:
        return self.block([(one, call)]).result.receipts[0]

    def ok(self, one: SigningKey, call: Call) -> Receipt:
        receipt = self.send(one, call)
        assert receipt.code == "ok", receipt
        return receipt

    def refusal(self, one: SigningKey, call: Call) -> Receipt:
        """Send what must be refused: nothing but the nonce has changed that else had not."""
        quiet = self.app.execute(self.env(), []).writes
        before = dict(self.app.state_items())
        expected = {**before, **quiet}
        receipt = self.send(one, call)
        assert receipt.code == "revert", receipt
        assert len(receipt.message.split()) > 3
        after = dict(self.app.state_items())
        changed = {name for name in expected | after if expected.get(name) != after.get(name)}
        assert changed <= {"chain/block", f"chain/nonce/{one.address}"}, changed
        return receipt

    def signed_header(self, block: Certified) -> str:
        """Return a header as the other tier takes it, with the next set where it ends an epoch."""
        following = None
        if ends_epoch(block.header):
            following = set_of(block.result.next)
        return encode(SignedHeader(block.header, block.certificate, following)).hex()


class Registered(Protocol):
    """What the main chain sees of a region."""

    number: int
    sponsor: SigningKey
    registration: Call

    def post(self, checkpoint: Checkpoint) -> tuple[SigningKey, Call]:
        """Return the transaction that posts a checkpoint."""


class Region(Chain):
    """A region with homes of its own; it keeps every checkpoint and offer that it makes."""

    def __init__(
        self,
        number: int,
        homes: int = 4,
        seats: int = 4,
        epoch_blocks: int = EPOCH_BLOCKS,
        twin: Engine | None = None,
        exports: ExportRules | None = None,
        line_of: Sequence[int] = (),
        balance_micro: int = 10_000_000,
        unanchored_max_ms: int = 24 * 3_600_000,
        **changes: object,
    ) -> None:
        self.number = number
        self.home_keys = [key(f"region {number}/home {home}") for home in range(1, homes + 1)]
        self.meters = [one.derive("meter") for one in self.home_keys]
        entries = tuple(
            HomeEntry(one.address, meter.address, f"home {place}", "prosumer", 10_000, 10_000,
                      balance_micro=balance_micro, line=line_of[place - 1] if line_of else 0)
            for place, (one, meter) in enumerate(zip(self.home_keys, self.meters, strict=True), 1)
        )  # fmt: skip
        mains = tuple(one.public for one in MAIN_KEYS)
        membership = Membership(
            number, MAIN_ID, mains, exports=exports, unanchored_max_ms=unanchored_max_ms
        )
        market = params(homes=entries, chain_id=f"region-{number}", region=membership, **changes)
        seated = [key(f"region {number}/authority {seat}") for seat in range(seats)]
        self.seated = seated
        self.sponsor = key(f"region {number}/sponsor")
        self.checkpoints: list[Checkpoint] = []
        self.offers: list[Offer] = []
        super().__init__(market, seated, epoch_blocks, twin)
        genesis_hash = self.genesis.hash.hex()
        self.registration = registration(number, market.chain_id, seated, genesis_hash=genesis_hash)

    def decided(self, block: Certified) -> None:
        found = make_checkpoint(self.app, block.header, block.certificate)
        if found is not None:
            self.checkpoints.append(found)
        self.offers += make_offers(self.app, block.header)

    def post(self, checkpoint: Checkpoint) -> tuple[SigningKey, Call]:
        """Return the transaction that posts a checkpoint, by one of the region's authorities."""
        epoch = checkpoint.header.epoch
        return self.seated[0], regions.checkpoint(self.number, epoch, posted(checkpoint))

    def trade(self, slot: int, orders: Sequence[tuple[int, str, int, int]]) -> None:
        """Post orders (home, side, energy [Wh], price) and go on to the slot's gate."""
        calls = [
            (self.home_keys[home - 1], client.post_order(slot, side, energy_wh, price))
            for home, side, energy_wh, price in orders
        ]
        assert all(r.code == "ok" for r in self.block(calls).result.receipts)
        self.block(at_ms=slot * SLOT_MS - SLOT_MS // 3)

    def meter(self, slot: int, readings: Sequence[tuple[int, int]]) -> None:
        """Let all meters read (import, export) after the slot, and settle it."""
        end_ms = (slot + 1) * SLOT_MS
        calls = [
            (meter, client.post_reading(slot, import_wh, export_wh, slot))
            for meter, (import_wh, export_wh) in zip(self.meters, readings, strict=True)
        ]
        block = self.block(calls, at_ms=max(end_ms, self.time_ms + BLOCK_MS))
        assert all(r.code == "ok" for r in block.result.receipts), block.result.receipts
        self.block()


class Main(Chain):
    """The main chain."""

    def __init__(
        self,
        sponsors: Sequence[SigningKey],
        twin: Engine | None = None,
        epoch_blocks: int = EPOCH_BLOCKS,
        **rules: object,
    ) -> None:
        base = MainRules(
            bond_micro=BOND,
            hold_ms=60_000,
            halt_ms=HALT_MS,
            sponsors=tuple((one.address, SPONSOR_BALANCE) for one in sponsors),
        )
        market = params(homes=(), chain_id=MAIN_ID, main=msgspec.structs.replace(base, **rules))
        super().__init__(market, MAIN_KEYS, epoch_blocks, twin)

    def admit(self, region: Registered) -> None:
        """Register a region and let it in."""
        self.ok(region.sponsor, region.registration)
        for one in MAIN_KEYS[:3]:
            self.ok(one, regions.approve(region.number))

    def anchored(self, region: int) -> Call:
        """Return what shows a region, by the last block here, which of its records is anchored."""
        name = regions.anchored_key(region)
        value = self.app.value(name)
        assert value is not None
        return regions.confirm(self.height, value.hex(), encode(self.app.prove(name)).hex())

    def anchor(self, region: Registered, checkpoint: Checkpoint) -> Receipt:
        return self.send(*region.post(checkpoint))


__all__ = ["REGULATOR", "SLOT", "SLOT_MS", "START_MS", "TARIFF", "Chain", "Main", "Region"]
