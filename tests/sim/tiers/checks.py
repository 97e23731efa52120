"""What must hold between the tiers, at each block of either; and each chain's own properties.

Each `Violation` begins with the property's name; beside those of `tests.sim.checks`: anchoring,
tiers, frozen, escrow, finality, hooks, anchored, audit, carbon, leaving.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from consensus.authorities import verify_certificate
from consensus.checkpoint import (
    CHECKPOINT_BYTES_MAX,
    Checkpoint,
    Record,
    StateProof,
    record_key,
)
from consensus.errors import CertificateRefused
from consensus.messages import Block, Header, header_hash
from market.invariants import ACCOUNT_PREFIX, SUPPLY_KEY
from market.receipts import Receipt
from market.vm import merkle
from tests.sim import keys
from tests.sim.checks import Checker
from tests.sim.errors import Violation
from tests.sim.tiers.audited import AuditBooks
from tests.sim.tiers.chains import TierState
from tests.sim.tiers.emitted import FootprintBooks
from tests.sim.tiers.leaving import LeavingBooks, check_reclaimed, check_sponsor
from tests.sim.tiers.machine import BOND_MICRO
from tests.sim.tiers.trade import TradeBooks
from tests.sim.tiers.views import KEY_BASE, entry
from wire.codec import decode
from wire.errors import DecodeError
from wire.transaction import CheckedTransaction

if TYPE_CHECKING:
    from tests.sim.node import SimNode
    from tests.sim.tiers.grid import Grid

NO_HASH = "0" * 64
COUNTS = ("outbox_count", "inbox_count", "minted_micro", "redeemed_micro")


class TierChecker(Checker):
    """A chain's checker, which also keeps the books of both tiers."""

    books: "Books"
    number: int

    def _keep_books(self, node: "SimNode", block: Block) -> None:
        super()._keep_books(node, block)
        database, header = node.database, block.header
        hash_ = header_hash(header)
        after = node.world.truth(database.state, database.head.header, block, hash_)
        if isinstance(after, TierState):
            self.books.on_block(self.number, header, after)


class Anchored(NamedTuple):
    """A record that the main chain has taken, in the block of `main_height`."""

    record: Record
    header: Header
    main_height: int


class Books:
    """What each chain has decided, and what of it the main chain has anchored."""

    def __init__(self, grid: "Grid") -> None:
        self._grid = grid
        numbers = range(1, grid.regions + 1)
        self.closed: dict[int, dict[int, Record]] = {number: {} for number in numbers}
        self.anchored: dict[int, list[Anchored]] = {number: [] for number in numbers}
        self.frozen: set[int] = set()
        self.refused: dict[str, int] = {}
        self.rotations = self.halts = self.slots = self.known = 0
        self._slots: dict[int, set[int]] = {number: set() for number in numbers}
        self._roots: dict[int, bytes] = {}
        self._followed: dict[int, Any] = dict.fromkeys(numbers)
        self.trade = TradeBooks(numbers)
        self._waiting: list[tuple[int, int, bytes]] = []
        self._status: dict[int, str] = dict.fromkeys(numbers, "live")
        self.audit = AuditBooks(grid, self)
        self.carbon = FootprintBooks(numbers)
        self.leaving = LeavingBooks()
        # When regions have left, which have their money back, and what bonds were lost.
        self.left: dict[int, int] = {}
        self.reclaimed: set[int] = set()
        self._forfeited: dict[int, int] = dict.fromkeys(numbers, 0)

    def on_block(self, chain: int, header: Header, state: TierState) -> None:
        """The first honest node decides a block."""
        for checked, receipt in state.done or ():
            self._count(checked, receipt)
        if state.app.hook_failed:
            raise Violation(f"hooks: a hook failed in block {header.height} of chain {chain}")
        if chain:
            self._on_region_block(chain, header, state)
        else:
            self._on_main_block(header, state)

    def slots_of(self, region: int) -> set[int]:
        """The slots of a region that are anchored as settled."""
        return self._slots[region]

    def on_home_block(self, region: int, header: Header, state: TierState) -> None:
        """An honest home of a captured region makes a block of its own."""
        closed = entry(state, "export/closed")
        if closed["height"] == header.height:
            data = state.value(record_key(closed["number"]))
            self.closed[region][closed["number"]] = decode(data, Record, CHECKPOINT_BYTES_MAX)
        for checked, receipt in state.done or ():
            self._count(checked, receipt)
        self._on_known(region, state)

    def _count(self, checked: CheckedTransaction, receipt: Receipt) -> None:
        if receipt.code != "ok":
            name = f"{checked.tx.contract} {receipt.reason}"
            self.refused[name] = self.refused.get(name, 0) + 1

    # -- regions

    def _on_region_block(self, region: int, header: Header, state: TierState) -> None:
        closed = entry(state, "export/closed")
        if closed["height"] == header.height:
            number = closed["number"]
            data = state.value(record_key(number))
            if number in self.closed[region] or data is None:
                raise Violation(f"tiers: region {region} closes record {number} again")
            self.closed[region][number] = decode(data, Record, CHECKPOINT_BYTES_MAX)
            self._compare(region, number)
        self._on_followed(region, state)
        self._settle_claims()
        self._on_known(region, state)
        self.trade.on_region_block(region, state)
        self.audit.on_region_block(region, state)
        clock = self._grid.machine_of(region).clock
        self.leaving.on_region_block(region, header, state, clock.slot_at(header.time_ms))

    def _on_followed(self, region: int, state: TierState) -> None:
        """F1: headers that the main chain has decided, later ones only, by its own sets."""
        main, before = entry(state, "export/main"), self._followed[region]
        if main == before or not main["height"]:
            return
        if before is not None and main["height"] <= before["height"]:
            raise Violation(f"finality: region {region} goes back to header {main['height']}")
        self._followed[region] = main
        height, root = entry(state, "export/roots")[-1]
        self._waiting.append((region, height, bytes.fromhex(root)))
        known = self._grid.set_of(0, main["epoch"])
        if known is not None and [public.hex() for public in known.publics] != main["keys"]:
            raise Violation(f"finality: region {region} believes a set that never was")

    def _on_known(self, region: int, state: TierState) -> None:
        """F1 to F3: what a region believes to be anchored is, and is its own."""
        known = entry(state, "export/anchored")
        number = known["number"]
        if not number:
            return
        self.known = max(self.known, number)
        anchored = self.anchored[region]
        if len(anchored) < number or anchored[number - 1].main_height > known["main_height"]:
            raise Violation(f"finality: region {region} believes that record {number} is anchored")
        own = self.closed[region].get(number)
        if own is None or own != anchored[number - 1].record:
            raise Violation(f"finality: region {region} takes another record {number} for its own")

    def _settle_claims(self) -> None:
        """Hold the main chain's headers that regions follow against those that were decided."""
        later = []
        for region, height, root in self._waiting:
            decided = self._roots.get(height)
            if decided is None:
                later.append((region, height, root))
            elif decided != root:
                raise Violation(f"finality: region {region} follows a false header {height}")
        self._waiting = later

    # -- the main chain

    def _on_main_block(self, header: Header, state: TierState) -> None:
        self._roots[header.height] = state.root
        gone = self.frozen | self.left.keys()
        for checked, receipt in state.done or ():
            self.carbon.on_call(checked, receipt)
            if receipt.code == "ok":
                self._on_main_call(checked, header)
        for region, anchored in self.anchored.items():
            last = entry(state, f"anchor/last/{KEY_BASE + region}")
            number = last["number"] if last else 0
            if number != len(anchored) or (number and last["record_hash"] != anchored[-1][0].hash):
                raise Violation(f"anchored: record {number} of region {region} is the last")
            self._on_status(region, state)
        self.trade.on_main_block(state, gone, self.reclaimed)
        self.audit.on_main_block(header, state)
        self.carbon.check(state)
        self._check_money(state)
        self._settle_claims()

    def _on_main_call(self, checked: CheckedTransaction, header: Header) -> None:
        tx, args = checked.tx, checked.tx.args
        match tx.contract, tx.entry:
            case "anchor", "checkpoint":
                data = bytes.fromhex(args["data"])
                self._on_anchored(args["region"], self._decoded(data), header)
            case "regions", "rotate":
                self.rotations += 1
            case "regions", "leave":
                if args["region"] in self.left:
                    raise Violation(f"escrow: region {args['region']} leaves again")
                self.left[args["region"]] = header.time_ms
            case "regions", "reclaim":
                region = args["region"]
                check_reclaimed(region, header, self.left.get(region))
                if region in self.reclaimed | self.frozen:
                    raise Violation(f"escrow: region {region} has its money back already, or lost")
                self.reclaimed.add(region)

    def _on_status(self, region: int, state: TierState) -> None:
        status = entry(state, f"regions/region/{KEY_BASE + region}")["status"]
        if status == self._status[region]:
            return
        if self._status[region] == "frozen":
            raise Violation(f"frozen: region {region} was frozen and is {status}")
        if region in self.left and status not in ("left", "frozen"):
            raise Violation(f"leaving: region {region} has left and is {status}")
        self._status[region] = status
        self.halts += status == "halted"
        if status == "frozen":
            if region not in self._grid.dishonest:
                raise Violation(f"frozen: region {region} is, whose authorities are honest")
            self.frozen.add(region)
            self._forfeited[region] = 0 if region in self.reclaimed else BOND_MICRO

    def _check_money(self, state: TierState) -> None:
        """What the ledger holds is what the regions have put up."""
        funds = {
            region: entry(state, f"regions/money/{KEY_BASE + region}") for region in self.anchored
        }
        up = sum(map(sum, funds.values())) + self.audit.held_micro
        for region in funds:
            spent, lost = self.trade.spent_micro(region), self._forfeited[region]
            check_sponsor(region, state, spent, lost, region in self.reclaimed)
        self.audit.check_regulator(state, self.trade.fees_micro, sum(self._forfeited.values()))
        if any(funds[region][1] for region in self.frozen):
            raise Violation(f"escrow: a frozen region of {sorted(self.frozen)} has kept its bond")
        items = state.app.items
        accounts = [entry(state, name) for name in items if name.startswith(ACCOUNT_PREFIX)]
        held = sum(account[1] for account in accounts)
        total = held + sum(account[0] for account in accounts)
        minted, redeemed = entry(state, SUPPLY_KEY)
        if held != up or total != minted - redeemed or redeemed:
            raise Violation(
                f"escrow: {held} micro are held, the regions have put up {up}; "
                f"accounts have {total} of {minted - redeemed}"
            )

    # -- anchoring

    def _decoded(self, data: bytes) -> Checkpoint:
        """M1."""
        try:
            return decode(data, Checkpoint, CHECKPOINT_BYTES_MAX)
        except DecodeError as error:
            raise Violation(f"anchoring: what is no checkpoint: {error}") from None

    def _on_anchored(self, region: int, found: Checkpoint, main: Header) -> None:
        record = decode(found.record, Record, CHECKPOINT_BYTES_MAX)
        where = f"record {record.number} of region {region}"
        if region in self.frozen or region in self.left:
            raise Violation(f"frozen: {where} is anchored all the same")
        self._check_proof(region, found, record, where)
        self._check_order(region, found.header, record, where)
        self._check_sums(region, record, where)
        self.carbon.on_anchored(region, record.slots)
        self.anchored[region].append(Anchored(record, found.header, main.height))
        self._compare(region, record.number)

    def _check_proof(self, region: int, found: Checkpoint, record: Record, where: str) -> None:
        """M1 to M5: the region's own quorum says so."""
        header, proof = found.header, found.proof
        shown = merkle.Proof(proof.siblings, proof.leaf_key_hash, proof.leaf_value_hash)
        name = record_key(record.number)
        if not isinstance(proof, StateProof) or not merkle.verify(
            header.state_root, name, found.record, shown
        ):
            raise Violation(f"anchoring: {where} is not proven by the header")
        authorities = self._grid.set_of(region, header.epoch)
        if authorities is None or header.authorities_hash != authorities.hash:
            raise Violation(f"anchoring: {where} is of a set that never was")
        chain_id = self._grid.chain_id(region)
        try:
            verify_certificate(found.certificate, authorities, chain_id, verifier=keys.verify)
        except CertificateRefused as refused:
            raise Violation(f"anchoring: {where} is not certified: {refused}") from None
        if found.certificate.block_hash != header_hash(header) or header.chain_id != chain_id:
            raise Violation(f"anchoring: {where} is certified by another block")
        if self._grid.epoch_of(region, header.height) != header.epoch:
            raise Violation(f"anchoring: {where} is not of epoch {header.epoch}'s heights")

    def _check_order(self, region: int, header: Header, record: Record, where: str) -> None:
        """M6 to M8: one after the other, each once."""
        anchored = self.anchored[region]
        number, height, previous, time_ms = 0, 0, NO_HASH, 0
        if anchored:
            last = anchored[-1].record
            number, height, previous = last.number, last.to_height, last.hash
            time_ms = anchored[-1].header.time_ms
        if record.region != region or (record.number, record.from_height) != (
            number + 1, height + 1,
        ):  # fmt: skip
            raise Violation(f"anchoring: {where} from {record.from_height} follows {number}")
        if record.previous != previous:
            raise Violation(f"anchoring: {where} does not follow what is anchored")
        if record.to_height < record.from_height or record.to_height != header.height:
            raise Violation(f"anchoring: {where} ends at {record.to_height}")
        if header.time_ms <= time_ms:
            raise Violation(f"anchoring: {where} goes back in time")

    def _check_sums(self, region: int, record: Record, where: str) -> None:
        """M9 to M12: each slot once, energy and money from nowhere never."""
        slots = [row.slot for row in record.slots]
        known = self._slots[region]
        if len({*slots}) != len(slots) or known & {*slots}:
            raise Violation(f"settlement: {where} settles slots {slots} again")
        known.update(slots)
        self.slots += len(slots)
        for row in record.slots:
            self.trade.on_settled(region, row, where)
            legs = row.grid_micro + row.penalty_micro + row.fees_micro - row.feed_in_micro
            legs += row.paid_micro - row.got_micro
            legs_wh = row.grid_wh - row.fed_in_wh + row.imported_wh - row.exported_wh
            if row.import_wh - row.export_wh != legs_wh:
                raise Violation(f"anchoring: {where} has energy from nowhere")
            if row.net_micro != legs:
                raise Violation(f"anchoring: {where} has money from nowhere")
        if record.minted_micro < record.redeemed_micro:
            raise Violation(f"anchoring: {where} has a negative sum of money")
        if not self.anchored[region]:
            return
        last = self.anchored[region][-1].record
        for name in COUNTS:
            if getattr(record, name) < getattr(last, name):
                raise Violation(f"anchoring: {where} takes {name} back")
        for name in ("outbox", "inbox"):
            same = getattr(record, f"{name}_count") == getattr(last, f"{name}_count")
            if same and getattr(record, f"{name}_head") != getattr(last, f"{name}_head"):
                raise Violation(f"anchoring: {where} changes the {name} without an entry")

    def _compare(self, region: int, number: int) -> None:
        """What is anchored of an honest region is what that region has decided."""
        own, anchored = self.closed[region].get(number), self.anchored[region]
        if region in self._grid.captured or own is None or len(anchored) < number:
            return
        found = anchored[number - 1]
        decided = self._grid.chains[region].checker.decisions.get(found.header.height)
        if found.record != own or decided not in (None, header_hash(found.header)):
            raise Violation(f"tiers: record {number} of region {region} is anchored otherwise")

    def on_end(self) -> None:
        """Nothing that was anchored is lost; nothing was anchored that never was."""
        if self._waiting:
            raise Violation(f"finality: a header of the main chain that never was: {self._waiting}")
        self.trade.on_end(self._grid.dishonest)
        self.audit.on_end()
        for region, anchored in self.anchored.items():
            if region in self._grid.captured:
                continue
            if len(anchored) > len(self.closed[region]):
                raise Violation(f"tiers: more of region {region} is anchored than it has closed")
        for node in self._grid.main.living():
            state = node.database.state
            for region, anchored in self.anchored.items():
                last = entry(state, f"anchor/last/{KEY_BASE + region}")
                count = sum(found.main_height <= state.height for found in anchored)
                if count != (last["number"] if last else 0):
                    raise Violation(f"lost: an anchored record of region {region} at {node}")
