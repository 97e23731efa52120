"""A region in the hands of its own authorities: whatever they sign, their certificates are sound.

All that the main chain knows of such a region is what it is shown, so its records are made up: each
the right successor of what is anchored, or that with one rule broken. One home of it is honest and
executes blocks of its own with the real contracts; it must not believe that others' records are its
own.
"""

import hashlib
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from consensus.authorities import AuthoritySet, build_certificate
from consensus.checkpoint import Checkpoint, Record, SlotTotals, StateProof, record_key
from consensus.light import SignedHeader
from consensus.messages import (
    PRECOMMIT,
    ZERO_HASH,
    Certificate,
    ConflictingCertificates,
    Header,
    Vote,
    header_hash,
    vote_signed_bytes,
)
from market.client import Call, regions, sign_call
from market.vm import merkle
from node.regions.due import due_in_region
from node.regions.exchange import Offer
from tests.sim import keys
from tests.sim.app import Carried, Note, genesis_block
from tests.sim.tiers import machine as machines
from tests.sim.tiers.chains import TIER_EPOCH_BLOCKS, TierRules, TierState, first_tier_state
from tests.sim.tiers.views import proven_of, shown_of, standing_of
from wire.codec import decode_plain, encode

if TYPE_CHECKING:
    from tests.sim.tiers.grid import Grid

NO_HASH: Final = "0" * 64
# Among those that the exchange keeps: of older ones it knows nothing (M13).
FIRST_SLOT: Final = machines.START_MS // machines.SLOT_MS - 600
BLOCKS_PER_RECORD_MAX: Final = 5
FORGED_SHARE: Final = 0.6
CONFLICT_SHARE: Final = 0.02
SILENT_SHARE: Final = 0.02
SILENCE_MS: Final = 60_000
OFFER_SHARE: Final = 0.5
OFFERS_KEPT: Final = 16
FOREIGN_CHAIN: Final = "region-elsewhere"


def slot_totals(slot: int, rng: Random) -> SlotTotals:
    """A slot that adds up."""
    grid_wh, fed_in_wh, export_wh = rng.randrange(500), rng.randrange(500), rng.randrange(2_000)
    grid_micro, feed_in_micro = grid_wh * 200, fed_in_wh * 80
    penalty_micro, fees_micro = rng.randrange(900), rng.randrange(900)
    return SlotTotals(
        slot=slot,
        homes=4,
        import_wh=export_wh + grid_wh - fed_in_wh + 500,
        export_wh=export_wh + 500,
        grid_wh=grid_wh,
        fed_in_wh=fed_in_wh,
        grid_micro=grid_micro,
        feed_in_micro=feed_in_micro,
        penalty_micro=penalty_micro,
        fees_micro=fees_micro,
        imported_wh=0,
        exported_wh=0,
        paid_micro=0,
        got_micro=0,
        net_micro=grid_micro - feed_in_micro + penalty_micro + fees_micro,
        settlement_root=hashlib.sha256(b"%d" % slot).hexdigest(),
    )


def _sums(name: str, by: int) -> Callable[[Record, Random], Record]:
    return lambda record, rng: replace(record, **{name: max(0, getattr(record, name) + by)})


def _row(**by: int) -> Callable[[Record, Random], Record]:
    def change(record: Record, rng: Random) -> Record:
        row = record.slots[0]
        row = replace(row, **{name: getattr(row, name) + step for name, step in by.items()})
        return replace(record, slots=(row, *record.slots[1:]))

    return change


def _head(name: str) -> Callable[[Record, Random], Record]:
    return lambda record, rng: replace(record, **{f"{name}_head": rng.randbytes(32).hex()})


def _twice(record: Record, rng: Random) -> Record:
    return replace(record, slots=(record.slots[0], record.slots[0]))


# What is wrong with the record itself, by the rule that refuses it.
WRONG_RECORDS: Final[dict[str, Callable[[Record, Random], Record]]] = {
    "M2 region": lambda record, rng: replace(record, region=record.region % 900 + 1),
    "M6 number": _sums("number", 1),
    "M6 height": lambda record, rng: replace(record, from_height=record.from_height + 1),
    "M7": lambda record, rng: replace(record, previous=rng.randbytes(32).hex()),
    "M9 twice": _twice,
    "M10 energy": _row(grid_wh=1),
    "M10 energy, fed in": _row(fed_in_wh=1),
    "M10 money": _row(net_micro=-1),
    "M10 fees": _row(fees_micro=1),
    "M13 imported": _row(imported_wh=100, import_wh=100, paid_micro=50, net_micro=50),
    "M13 sold": _row(exported_wh=100, export_wh=100, got_micro=50, net_micro=-50),
    "M11 minted": _sums("minted_micro", -3_000_000),
    "M11 outbox": _head("outbox"),
    "M11 inbox": _head("inbox"),
    "M11 count": _sums("outbox_count", -5),
    "M12": lambda record, rng: replace(record, redeemed_micro=record.minted_micro + 1),
}


class Captured:
    """What such a region posts, from time to time."""

    def __init__(self, grid: "Grid", number: int) -> None:
        self.grid = grid
        self.number = number
        self.n = grid.n
        self.rng = Random(f"captured {grid.seed} {number}")
        self.chain_id = machines.chain_id_of(number)
        self.publics = machines.publics_of(number, self.n)
        self.epoch_blocks = TIER_EPOCH_BLOCKS if self.rng.random() < 0.5 else 0
        self.home = HonestHome(self)
        # Heights at which two blocks are certified, and whether somebody has said so.
        self.conflict_ms: int | None = None
        self._silent_until_ms = 0
        self._nonce = 0
        self._offered: list[Offer] = []

    def epoch_of(self, height: int) -> int:
        return max(height - 1, 0) // self.epoch_blocks if self.epoch_blocks else 0

    def set_of(self, epoch: int) -> AuthoritySet:
        """The set of an epoch: its order turns."""
        turn = epoch % self.n
        return AuthoritySet(epoch, (*self.publics[turn:], *self.publics[:turn]))

    # -- acting

    def act(self) -> None:
        """Post something, right or wrong."""
        grid, rng = self.grid, self.rng
        self.home.act()
        if rng.random() < SILENT_SHARE:
            self._silent_until_ms = grid.now_ms + SILENCE_MS
        if grid.now_ms < self._silent_until_ms:
            return
        if self._offered and rng.random() < OFFER_SHARE:
            # Also before it is anchored, and again.
            self.send(rng.choice(self._offered[-4:]).call())
        if self.conflict_ms is None and rng.random() < CONFLICT_SHARE and not grid.healed:
            self.conflict_ms = grid.now_ms
        elif rng.random() < FORGED_SHARE:
            self.post(*self.forged())
        else:
            self.post(*self.due())

    def post(self, epoch: int, data: bytes) -> None:
        self.send(regions.checkpoint(self.number, epoch, data.hex()))

    def send(self, call: Call) -> None:
        """Hand a call to all of the main chain, by one of the authorities."""
        grid = self.grid
        self._nonce = max(grid.now_ms * 64, self._nonce + 1)
        key = machines.authority_key(self.number, 0)
        valid_ms = grid.now_ms + machines.VALID_MS
        checked = sign_call(call, key, machines.MAIN_ID, self._nonce, valid_ms)
        grid.tell_main(self.number, ("call", checked))

    def report(self) -> None:
        """Somebody has seen two certified blocks, and says so with a main authority's key."""
        data = encode(self.conflict()).hex()
        standing = standing_of(self.grid.main_state(), self.number)
        epoch = standing.oldest_epoch
        node = self.grid.main.nodes[0]
        node.send_call(node.account, regions.report_conflict(self.number, epoch, data), True)

    def conflict(self) -> ConflictingCertificates:
        """Two certified headers of the oldest epoch that the main chain still knows."""
        standing = standing_of(self.grid.main_state(), self.number)
        epoch = standing.oldest_epoch
        height = epoch * self.epoch_blocks + 1
        heads = [self.header(height, bytes([root]) * 32) for root in (1, 2)]
        heads.sort(key=header_hash)
        first, second = (self.certify(head) for head in heads)
        return ConflictingCertificates(first, second)

    # -- records

    def last(self) -> Record | None:
        anchored = self.grid.books.anchored[self.number]
        return anchored[-1].record if anchored else None

    def next(self) -> Record:
        """A right successor of what is anchored; it shows the sets that it needs first."""
        rng, last = self.rng, self.last()
        slots = self.grid.books.slots_of(self.number)
        fresh = [FIRST_SLOT + place for place in range(len(slots), len(slots) + 3)]
        rows = [slot_totals(slot, rng) for slot in fresh if slot not in slots]
        rows = rows[: rng.choice((1, 1, 2))]
        step = rng.randint(1, BLOCKS_PER_RECORD_MAX)
        if last is None:
            return Record(
                region=self.number, number=1, from_height=1, to_height=step, previous=NO_HASH,
                slots=tuple(rows), outbox_count=0, outbox_head=NO_HASH, inbox_count=0,
                inbox_head=NO_HASH, minted_micro=5_000_000, redeemed_micro=1_000_000,
            )  # fmt: skip
        grown = {}
        for name, share in (("outbox", 0.7), ("inbox", 0.3)):
            if rng.random() < share:
                grown[f"{name}_count"] = getattr(last, f"{name}_count") + rng.randint(1, 3)
                grown[f"{name}_head"] = rng.randbytes(32).hex()
        return replace(
            last,
            number=last.number + 1,
            from_height=last.to_height + 1,
            to_height=last.to_height + step,
            previous=last.hash,
            slots=tuple(rows),
            minted_micro=last.minted_micro + rng.randrange(3) * 1_000,
            **grown,
        )

    def due(self) -> tuple[int, bytes]:
        """A right checkpoint, after the rotations that it needs."""
        record = self.next()
        self.rotate_to(self.epoch_of(record.to_height))
        return self.proven(record)

    def rotate_to(self, epoch: int) -> None:
        """Show the main chain each set up to this epoch's."""
        newest = standing_of(self.grid.main_state(), self.number).newest_epoch
        for ending in range(newest, epoch):
            height = (ending + 1) * self.epoch_blocks
            following = self.set_of(ending + 1)
            head = self.header(height, b"\x07" * 32, next_authorities_hash=following.hash)
            signed = SignedHeader(head, self.certify(head), following)
            self.send(regions.rotate(self.number, encode(signed).hex()))

    def header(self, height: int, root: bytes, **changes: Any) -> Header:
        epoch = self.epoch_of(height)
        authorities = self.set_of(epoch)
        genesis = self.home.genesis.header
        time_ms = machines.START_MS + 1 + 10 * height
        base = replace(
            genesis, epoch=epoch, height=height, time_ms=time_ms, state_root=root,
            authorities_hash=authorities.hash, next_authorities_hash=authorities.hash,
        )  # fmt: skip
        return replace(base, **changes)

    def certify(
        self, header: Header, chain_id: str | None = None, short: int = 0, liars: bool = False
    ) -> Certificate:
        """Have all but `short` of a quorum sign; or others than they are, as `liars`."""
        authorities = self.set_of(header.epoch)
        digest, chain_id = header_hash(header), chain_id or self.chain_id
        signed = vote_signed_bytes(PRECOMMIT, chain_id, header.epoch, header.height, 0, digest)
        votes = {}
        for voter, public in enumerate(authorities.publics[: authorities.quorum - short]):
            signer = machines.key("liar").public if liars else public
            signature = keys.signer_of(signer)(signed)
            votes[voter] = Vote(PRECOMMIT, header.epoch, header.height, 0, digest, voter, signature)
        return build_certificate(chain_id, header.epoch, header.height, 0, digest, votes)

    def proven(self, record: Record, **changes: Any) -> tuple[int, bytes]:
        """Epoch and bytes of a checkpoint whose header's state holds this record."""
        found = self.checkpoint(record, **changes)
        return found.header.epoch, encode(found)

    def checkpoint(self, record: Record, **changes: Any) -> Checkpoint:
        name, data = record_key(record.number), encode(record)
        outbox = self._outbox(record)
        tree = merkle.update(None, {name: data, "other": b"\x01", **outbox})
        self._keep_offers(record, outbox, tree)
        shown = merkle.prove(tree, name)
        head = self.header(record.to_height, merkle.root_of(tree), **changes)
        proof = StateProof(shown.siblings, shown.leaf_key_hash, shown.leaf_value_hash)
        return Checkpoint(data, head, self.certify(head), proof)

    def _outbox(self, record: Record) -> dict[str, bytes]:
        """An offer that no home stands behind: all that the escrow buys, or what nobody has."""
        rng, number = self.rng, record.outbox_count
        slot = self._slot() + rng.randrange(3)
        step = rng.choice(([0, 10**6, 10**8], [0, 5_000, 300_000], [1, 5_000, 0]))
        parts = ["out", self.number, number, slot, machines.SLOT_MS, [step], NO_HASH]
        return {regions.outbox_key(number): encode(parts)} if number else {}

    def _keep_offers(self, record: Record, outbox: dict[str, bytes], tree: merkle.Tree) -> None:
        for name, value in outbox.items():
            proof = encode(merkle.prove(tree, name))
            number, slot = decode_plain(value, 1_024)[2:4]
            offer = Offer(self.number, record.number, number, slot, value, proof)
            self._offered = [*self._offered, offer][-OFFERS_KEPT:]

    def _slot(self) -> int:
        return self.grid.machine_of(0).clock.slot_at(self.grid.now_ms)

    # -- and wrong ones

    def forged(self) -> tuple[int, bytes]:
        """A checkpoint with one thing wrong."""
        rng = self.rng
        record = self.next()
        self.rotate_to(self.epoch_of(record.to_height))
        name = rng.choice(FORGERIES)
        if name in WRONG_RECORDS and (record.slots or not name.startswith(("M9", "M10", "M13"))):
            return self.proven(WRONG_RECORDS[name](record, rng))
        return self._forged_otherwise(name, record)

    def _forged_otherwise(self, name: str, record: Record) -> tuple[int, bytes]:
        rng = self.rng
        found = self.checkpoint(record)
        head, epoch = found.header, found.header.epoch
        match name:
            case "M1":
                # Five elements in the longer of two spellings.
                data = encode(found)
                return epoch, b"\xdc\x00" + bytes([data[0] & 0x0F]) + data[1:]
            case "M2 chain":
                return self.proven(record, chain_id=FOREIGN_CHAIN)
            case "M3":
                return self.proven(record, authorities_hash=rng.randbytes(32))
            case "M4 few":
                found = replace(found, certificate=self.certify(head, short=1))
            case "M4 others":
                found = replace(found, certificate=self.certify(head, liars=True))
            case "M4 other":
                found = replace(found, header=replace(head, tx_root=rng.randbytes(32)))
            case "M5 record":
                richer = replace(record, minted_micro=record.minted_micro + 1)
                found = replace(found, record=encode(richer))
            case "M5 height":
                longer = replace(record, to_height=record.to_height + 1)
                return self._of_other_height(longer, record.to_height)
            case "M6 again" | "M9 again":
                return self._again(name, record)
            case "M6 time":
                return self.proven(record, time_ms=1)
            case "M6 backwards":
                return self.proven(replace(record, to_height=max(1, record.from_height - 1)))
            case "M8":
                return self._of_old_set(record)
        return epoch, encode(found)

    def _of_other_height(self, record: Record, height: int) -> tuple[int, bytes]:
        name, data = record_key(record.number), encode(record)
        tree = merkle.update(None, {name: data, "other": b"\x01"})
        shown = merkle.prove(tree, name)
        head = self.header(height, merkle.root_of(tree))
        proof = StateProof(shown.siblings, shown.leaf_key_hash, shown.leaf_value_hash)
        return head.epoch, encode(Checkpoint(data, head, self.certify(head), proof))

    def _again(self, name: str, record: Record) -> tuple[int, bytes]:
        last = self.last()
        if last is None:
            return self.proven(record)
        if name == "M6 again":
            return self.proven(last)
        known = self.rng.choice(sorted(self.grid.books.slots_of(self.number)) or [FIRST_SLOT])
        return self.proven(replace(record, slots=(slot_totals(known, self.rng),)))

    def _of_old_set(self, record: Record) -> tuple[int, bytes]:
        """Signed by the set of an epoch that is over, or has not begun, at that height."""
        epoch = self.epoch_of(record.to_height) + self.rng.choice((-1, 1))
        if epoch < 0 or not self.epoch_blocks:
            return self.proven(record)
        self.rotate_to(epoch)
        authorities = self.set_of(epoch)
        return self.proven(
            record,
            epoch=epoch,
            authorities_hash=authorities.hash,
            next_authorities_hash=authorities.hash,
        )


FORGERIES: Final = (
    *WRONG_RECORDS, "M1", "M2 chain", "M3", "M4 few", "M4 others", "M4 other", "M5 record",
    "M5 height", "M6 again", "M6 time", "M6 backwards", "M8", "M9 again",
)  # fmt: skip


class HonestHome:
    """A home of a captured region: its blocks are certified, too, and are not what is anchored."""

    def __init__(self, region: Captured) -> None:
        self._region = region
        grid = region.grid
        machine = grid.machine_of(region.number)
        self.state = first_tier_state(region.publics, machine)
        self.genesis = genesis_block(region.chain_id, self.state.seats, self.state.root)
        self._head = self.genesis.header
        bound = type("Bound", (TierRules,), {"machine": machine})
        self._rules = bound(region.chain_id, region.epoch_blocks, 64)
        self._nonce = 0

    def act(self) -> None:
        """Make a block; say in it what is known of the main chain."""
        region, grid = self._region, self._region.grid
        head = grid.main_head()
        calls: list[Call] = []
        if head is not None:
            node, signed = head
            proven = proven_of(node.state, region.number, signed)
            if proven is not None:
                calls = due_in_region(shown_of(self.state), proven, node.database.epoch_ends.get)
        time_ms = max(grid.now_ms, self._head.time_ms + 1)
        txs = [encode(Note(b"home")), *(encode(Carried(self._sign(call))) for call in calls)]
        args = (self.state, self._head, txs, (), time_ms)
        header = self._rules.header(*args, 0, None)
        after = self._rules.after(*args[:4], time_ms)
        self._head = replace(header, last_certificate_hash=ZERO_HASH)
        if isinstance(after, TierState):
            self.state = after
            grid.books.on_home_block(region.number, header, after)

    def _sign(self, call: Call) -> bytes:
        region = self._region
        self._nonce += 1
        key = machines.home_key(region.number, 0)
        valid_ms = region.grid.now_ms + machines.VALID_MS
        return sign_call(call, key, region.chain_id, self._nonce, valid_ms).raw
