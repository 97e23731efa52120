"""What must hold of audits, added up at each block of the main chain.

Duties are followed by the events that draw them, answers by the transactions that give them, so
that nothing is taken from the state that is to be judged by it.
"""

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from consensus.messages import Header
from market.receipts import Event
from tests.market.street import REGULATOR
from tests.sim.errors import Violation
from tests.sim.tiers import machine as machines
from tests.sim.tiers.chains import TierState
from tests.sim.tiers.machine import ACCUSER_BOND_MICRO
from tests.sim.tiers.views import KEY_BASE, entry
from wire.transaction import CheckedTransaction

if TYPE_CHECKING:
    from tests.sim.tiers.checks import Books
    from tests.sim.tiers.grid import Grid

AUDITORS: Final = 3
AUDITS_NEEDED: Final = 2
OPEN: Final = ("live", "halted")
FOLLOWS_NOT: Final = "does not follow: "
MISSED: Final = "audit/missed/"


class Drawn(NamedTuple):
    """Who is to audit a record, until when, and who has said that it follows."""

    number: int
    to_height: int
    addresses: list[str]
    until_ms: int
    content: set[str]


class AuditBooks:
    """Who was drawn, who has answered what, and what became of accusers' bonds."""

    def __init__(self, grid: "Grid", books: "Books") -> None:
        self._grid, self._books = grid, books
        numbers = range(1, grid.regions + 1)
        self.audited: dict[int, int] = dict.fromkeys(numbers, 0)
        self.redrawn = self.accused = self.refused = 0
        # The first height of a region whose block does not follow, once it is decided.
        self.cheated_at: dict[int, int] = {}
        self._drawn: dict[int, Drawn] = {}
        self._missed: Counter[str] = Counter()
        self._parts: dict[str, dict[int, str]] = {}
        self._cases: dict[str, dict[str, Any]] = {}
        self._lost_micro = 0
        self._status: dict[int, str] = dict.fromkeys(numbers, "live")
        self._chain_of = {
            machines.authority_key(chain, seat).address: chain
            for chain in range(grid.regions + 1)
            for seat in range(grid.n)
        }

    def on_region_block(self, region: int, state: TierState) -> None:
        """A region's authorities may have begun to cheat."""
        at = state.cheated_at
        if at is not None:
            self.cheated_at[region] = min(at, self.cheated_at.get(region, at))

    # -- the main chain

    def on_main_block(self, header: Header, state: TierState) -> None:
        """Hooks have come before transactions: those too late first, then draws, then answers."""
        self._expire(header.time_ms)
        for event in state.events:
            self._on_event(event)
        for checked, receipt in state.done or ():
            if receipt.code == "ok":
                self._on_call(checked)
                for event in receipt.events:
                    self._on_event(event)
        for region in self.audited:
            self._on_through(region, state)
        self._on_cases(state)
        self._check_missed(state)

    def _expire(self, now_ms: int) -> None:
        for region, drawn in list(self._drawn.items()):
            if drawn.until_ms < now_ms:
                self.redrawn += 1
                self._missed.update(one for one in drawn.addresses if one not in drawn.content)
                del self._drawn[region]

    def _on_event(self, event: Event) -> None:
        data = event.data
        match event.contract, event.name:
            case "audit", "auditors_drawn":
                self._on_drawn(data)
            case "audit", "accused":
                self.accused += 1
                self._check_bond(data)
            case "audit", "accusation_refused":
                self.refused += 1
                self._on_refused(data)
            case "regions", "region_status":
                self._status[data["region"]] = data["status"]
                if FOLLOWS_NOT in data["reason"]:
                    self._drawn.pop(data["region"], None)

    def _on_refused(self, data: dict[str, Any]) -> None:
        """The bond is lost, unless the region has stopped for another reason meanwhile."""
        region, drawn = data["region"], self._drawn.get(data["region"])
        if data["code"] != "not_shown":
            self._lost_micro += data["bond_micro"]
            if drawn is not None:
                others = [one for one in drawn.addresses if one != data["by"]]
                self._drawn[region] = drawn._replace(addresses=others)
        elif self._status[region] in OPEN:
            self._lost_micro += data["bond_micro"]

    def _on_drawn(self, data: dict[str, Any]) -> None:
        region, number, addresses = data["region"], data["number"], data["addresses"]
        anchored = self._books.anchored[region]
        if number > len(anchored):
            raise Violation(f"audit: record {number} of region {region} is not anchored")
        if self._status[region] not in OPEN:
            status = self._status[region]
            raise Violation(f"frozen: region {region} is {status} and to be audited all the same")
        chains = {self._chain_of.get(address) for address in addresses}
        if None in chains or region in chains or len({*addresses}) != len(addresses):
            raise Violation(f"audit: {addresses} are drawn for region {region}")
        live = {one for one, status in self._status.items() if status == "live"} - {region}
        if chains - (live or {0}):
            raise Violation(f"audit: those drawn for region {region} are of chains {chains}")
        if not AUDITS_NEEDED <= len(addresses) <= AUDITORS:
            raise Violation(f"audit: {len(addresses)} are drawn for region {region}")
        to_height = anchored[number - 1].record.to_height
        self._drawn[region] = Drawn(number, to_height, addresses, data["answer_by_ms"], set())

    def _on_call(self, checked: CheckedTransaction) -> None:
        tx = checked.tx
        if (tx.contract, tx.entry) == ("audit", "evidence"):
            parts = self._parts.setdefault(checked.sender, {})
            parts[tx.args["index"]] = tx.args["data"]
        elif (tx.contract, tx.entry) == ("audit", "judge"):
            self._check_shown(checked.sender)
        elif (tx.contract, tx.entry) == ("audit", "audit_ok"):
            self._on_content(checked)

    def _check_shown(self, address: str) -> None:
        """A1: what is judged is what was named when the accusation began."""
        case, parts = self._cases[address], self._parts.pop(address, {})
        shown = bytes.fromhex("".join(parts[index] for index in sorted(parts)))
        if (case["digest"], case["size"]) != (hashlib.sha256(shown).hexdigest(), len(shown)):
            raise Violation(f"audit: {address} has another proof judged than the one it named")

    def _on_content(self, checked: CheckedTransaction) -> None:
        tx = checked.tx
        region, number = tx.args["region"], tx.args["number"]
        drawn = self._drawn.get(region)
        where = f"{checked.sender} on record {number} of region {region}"
        if drawn is None or checked.sender not in drawn.addresses or number != drawn.number:
            raise Violation(f"audit: {where} was not asked")
        if checked.sender in drawn.content:
            raise Violation(f"audit: {where} is heard twice")
        drawn.content.add(checked.sender)

    def _on_through(self, region: int, state: TierState) -> None:
        """A record is audited if enough of those who were drawn for it say so."""
        through = entry(state, f"audit/through/{KEY_BASE + region}")
        number = through["number"] if through else 0
        if number == self.audited[region]:
            return
        drawn = self._drawn.pop(region, None)
        where = f"record {number} of region {region}"
        if drawn is None or number != drawn.number or number <= self.audited[region]:
            raise Violation(f"audit: {where} is audited, and nobody was asked")
        if len(drawn.content) < min(AUDITS_NEEDED, len(drawn.addresses)):
            raise Violation(f"audit: {where} is audited by {len(drawn.content)}")
        if through["to_height"] != drawn.to_height:
            raise Violation(f"audit: {where} is audited to height {through['to_height']}")
        if region in self._grid.captured:
            raise Violation(f"audit: {where} is audited, whose blocks nobody has seen")
        cheated_at = self.cheated_at.get(region)
        if cheated_at is not None and drawn.to_height >= cheated_at:
            raise Violation(f"audit: {where} is audited, block {cheated_at} does not follow")
        self.audited[region] = number

    # -- accusers

    def _check_bond(self, data: dict[str, Any]) -> None:
        drawn = self._drawn.get(data["region"])
        is_drawn = drawn is not None and data["by"] in drawn.addresses
        if data["bond_micro"] != (0 if is_drawn else ACCUSER_BOND_MICRO):
            raise Violation(f"audit: {data['by']} accuses with a bond of {data['bond_micro']}")

    def _on_cases(self, state: TierState) -> None:
        """What is kept of a proof is a case's, and is gone with it."""
        self._cases = {
            one: entry(state, f"audit/case/{one}") for one in entry(state, "audit/cases")
        }
        self._parts = {one: parts for one, parts in self._parts.items() if one in self._cases}
        parts = {name.split("/")[2] for name in state.app.state.keys_under("audit/part/")}
        if not parts <= self._cases.keys():
            raise Violation(f"audit: parts of proofs are kept without a case: {parts}")

    @property
    def held_micro(self) -> int:
        """What accusers have put up."""
        return sum(case["bond_micro"] for case in self._cases.values())

    def check_regulator(self, state: TierState, fees_micro: int, forfeited_micro: int) -> None:
        """The regulator has what regions and accusers have lost, and the fees; nothing else."""
        account = entry(state, f"ledger/account/{REGULATOR.address}") or [0, 0]
        lost = fees_micro + forfeited_micro + self._lost_micro
        if account[0] != lost:
            raise Violation(f"audit: the regulator has {account[0]} micro, others have lost {lost}")

    def _check_missed(self, state: TierState) -> None:
        found = {
            name.removeprefix(MISSED): entry(state, name)
            for name in state.app.state.keys_under(MISSED)
        }
        if found != dict(self._missed):
            raise Violation(f"audit: {found} have not answered, it was {dict(self._missed)}")

    # -- at the end

    def is_proven(self, anchored: dict[int, int]) -> bool:
        """Whether what was anchored so far is audited, and each fraud among it proven.

        `anchored` : how many records of each region.
        """
        grid, books = self._grid, self._books
        for region, count in anchored.items():
            if region in books.left:
                continue
            cheated_at = self.cheated_at.get(region)
            is_fraud = cheated_at is not None and any(
                found.record.to_height >= cheated_at for found in books.anchored[region][:count]
            )
            if is_fraud and region not in books.frozen and region not in grid.hidden_for_good:
                return False
            # A region that is frozen for a later record is audited no further, nor can one be that
            # shows its blocks to nobody.
            is_over = region in books.frozen or region in grid.hidden_for_good
            if not is_fraud and not is_over and not grid.captured and self.audited[region] < count:
                return False
        return True

    def on_end(self) -> None:
        """Nobody is convicted whose data nobody has seen."""
        for region in self._grid.hidden_for_good & self._books.frozen:
            raise Violation(f"frozen: region {region} is, and has shown its blocks to nobody")
