"""An authority's duties as an auditor of other regions: fetch, execute, say what came of it.

The main chain draws auditors among the authorities of all regions. What an audited region shows
(`node/regions/showing.py`) must end in the very block that is anchored
(`node/regions/auditor.py`). Whoever proves a block that does not follow accuses the region, part by
part, until the main chain has judged.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from consensus.authorities import AuthoritySet
from consensus.errors import ConsensusError
from consensus.snapshot import pairs_of
from consensus.sync_messages import Status
from market.app import Application
from market.client import Call, regions
from market.errors import MarketError, QueryError, Revert
from node.errors import BadBlock, BadSnapshot, PeerError
from node.network.base import Network
from node.regions.auditor import Duty, Finding, Follower, audit
from node.regions.certifier import natives
from node.regions.replay import PROOF_BYTES_MAX, FraudProof, digest_of, judge
from node.regions.showing import RegionPeer
from wire.codec import encode
from wire.keys import peer_id_of

log = logging.getLogger("commonwatt.audits")

# Regions whose state is kept for the next audit of them.
FOLLOWED_MAX: Final = 2
# Said again if it stands in no block by then.
PATIENCE_S: Final = 20.0
IDLE_S: Final = 2.0
# Parts of a proof that are on their way at a time.
PARTS_AT_ONCE_MAX: Final = 16
_KEY_BASE: Final = 1_000_000_000


class Auditor:
    """What one authority owes the main chain as an auditor, and does.

    Parameters
    ----------
    address : str
        The authority's account.
    app : Application
        The main chain's.
    network : Network
        The main chain's.
    hand_in : callable
        Signs calls by the authority and hands them to the main chain's mempool.
    now_ms : callable
        Real time, UTC. [ms]
    """

    def __init__(
        self,
        address: str,
        app: Application,
        network: Network,
        hand_in: Callable[[Sequence[Call]], object],
        now_ms: Callable[[], int],
    ) -> None:
        self._address = address
        self._app = app
        self._network = network
        self._hand_in = hand_in
        self._now_ms = now_ms
        self._followers: dict[int, Follower] = {}
        # When something was said last, by what it is about. [s, monotonic]
        self._said: dict[object, float] = {}
        self._case: tuple[Duty, FraudProof, bytes] | None = None
        self._wake = asyncio.Event()
        self.counts = {"audited": 0, "failed": 0, "accused": 0}

    def wake(self, *_: object) -> None:
        """Look at the duties soon: the main chain has gone on."""
        self._wake.set()

    async def run(self) -> None:
        """Do one's duties, for ever. Whatever escapes from here must stop the node."""
        while True:
            self._wake.clear()
            await self.step()
            try:
                async with asyncio.timeout(IDLE_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def step(self) -> None:
        """Do what is due now."""
        if self._case is not None:
            self._press(*self._case)
        for duty in self.duties():
            key = (duty.region, duty.number)
            if self._now_ms() > duty.answer_by_ms or not self._may_say(key):
                continue
            if self._case is not None and self._case[0].region == duty.region:
                continue
            self._say(key)
            finding = await self._audited(duty)
            if finding.proof is not None:
                # One case at a time: another region's fraud is found again when this one is over.
                if self._case is None:
                    await self._open_case(duty, finding.proof)
                return
            if finding.problem:
                self.counts["failed"] += 1
                log.warning("region %d is not audited: %s", duty.region, finding.problem)
                continue
            self.counts["audited"] += 1
            self._hand_in([regions.audit_ok(duty.region, duty.number)])

    def duties(self) -> list[Duty]:
        """Return what this authority is drawn for and has not answered."""
        try:
            rows = self._app.query("audit", "duties", {"address": self._address})
        except QueryError as error:
            log.warning("the main chain does not say what is to be audited: %s", error)
            return []
        return [Duty(**{name: row[name] for name in Duty._fields}) for row in rows]

    def _may_say(self, key: object) -> bool:
        return time.monotonic() >= self._said.get(key, 0.0) + PATIENCE_S or key not in self._said

    def _say(self, key: object) -> None:
        now_s = time.monotonic()
        fresh = {one: at_s for one, at_s in self._said.items() if now_s < at_s + PATIENCE_S}
        self._said = {**fresh, key: now_s}

    # -- what is found

    async def _audited(self, duty: Duty) -> Finding:
        """Audit by whichever of the region's authorities shows it."""
        problems = []
        try:
            peers = self._peers_of(duty)
        except QueryError as error:
            # Others have done it meanwhile, and the set is forgotten.
            return Finding(None, f"{error.code}: {error.message}")
        for peer in peers:
            try:
                return await self._audited_by(duty, peer)
            except (PeerError, BadBlock, BadSnapshot, ConsensusError) as error:
                problems.append(str(error))
            except Exception as error:
                # A captured region's state may break its execution anywhere: its affair, not ours.
                if isinstance(error, MemoryError | OSError):
                    raise
                problems.append(f"{peer.peer_id}: {type(error).__name__}: {error}")
            # What was executed on the way may be of no use.
            self._followers.pop(duty.region, None)
        return Finding(None, "; ".join(problems) or "none of its authorities is connected here")

    def _peers_of(self, duty: Duty) -> list[RegionPeer]:
        connected = {peer.peer_id for peer in self._network.peers()}
        there = [peer_id_of(public) for public in self._set_of(duty.region, duty.epoch).publics]
        # Not all auditors begin with the same one; this one does again after a restart, and so
        # comes to the same proof, to the byte.
        turn = _number_of(f"{self._address}/{duty.number}") % max(len(there), 1)
        found = [peer for peer in there[turn:] + there[:turn] if peer in connected]
        return [RegionPeer(self._network, peer_id) for peer_id in found]

    def _set_of(self, region: int, epoch: int) -> AuthoritySet:
        keys = self._app.query("regions", "authorities", {"region": region, "epoch": epoch})
        return AuthoritySet(epoch, tuple(bytes.fromhex(public) for public in keys))

    async def _audited_by(self, duty: Duty, peer: RegionPeer) -> Finding:
        follower = await self._follower(duty, peer)
        while follower.height < duty.to_height:
            blocks = await peer.blocks(follower.height + 1, duty.to_height)
            finding = await asyncio.to_thread(audit, follower, blocks, duty)
            if finding.proof is not None or follower.height >= duty.to_height:
                return finding
        return await asyncio.to_thread(audit, follower, (), duty)

    async def _follower(self, duty: Duty, peer: RegionPeer) -> Follower:
        """Return the region's chain at a height from which the duty can be done."""
        known = self._followers.pop(duty.region, None)
        registered = self._app.query("regions", "show", {"region": duty.region})["genesis_hash"]
        if known is not None and known.genesis.hash.hex() != registered:
            # Another chain has taken the region's place.
            known = None
        if known is None or known.height > duty.to_height:
            genesis = await peer.genesis(registered)
            inherited: list[bytes] = []
            if genesis.market.succeeds is not None:
                inherited = await peer.inherited()
            known = await asyncio.to_thread(lambda: Follower(genesis, pairs_of(inherited)))
        status = await peer.status()
        if known.height < status.snapshot_height < duty.from_height:
            await self._jump(known, status, peer)
        while len(self._followers) >= FOLLOWED_MAX:
            self._followers.pop(next(iter(self._followers)))
        self._followers[duty.region] = known
        return known

    async def _jump(self, follower: Follower, status: Status, peer: RegionPeer) -> None:
        """Take over a snapshot, if it can be proven and held in memory."""
        shown = await peer.snapshot(follower.genesis, status.snapshot_id)
        if shown is not None:
            header, chunks = shown
            await asyncio.to_thread(lambda: follower.jump(header, pairs_of(chunks)))

    # -- accusing

    async def _open_case(self, duty: Duty, proof: FraudProof) -> None:
        """Make a case of a proof, if it convinces a judge who knows what the main chain does."""
        header, data = proof.block.header, encode(proof)
        if len(data) > PROOF_BYTES_MAX:
            log.error("the proof against region %d has %d bytes: too many", duty.region, len(data))
            return
        try:
            authorities = self._set_of(duty.region, header.epoch)
            # It takes as long as a block, for which votes do not wait.
            verdict = await asyncio.to_thread(
                judge, data, authorities, header.chain_id, header.height, natives()
            )
        except (Revert, QueryError) as refused:
            log.error("block %d of region %d: %s", header.height, duty.region, refused)
            return
        if not verdict.fraud:
            log.error("block %d of region %d: %s", header.height, duty.region, verdict.reason)
            return
        log.error(
            "region %d has certified block %d, which does not follow: %s",
            *(duty.region, header.height, verdict.reason),
        )
        self.counts["accused"] += 1
        self._followers.pop(duty.region, None)
        self._case = (duty, proof, data)
        self._press(*self._case)

    def _press(self, duty: Duty, proof: FraudProof, data: bytes) -> None:
        """Do the next thing of a case: open it, show what is missing, have it judged."""
        try:
            status = self._app.query("regions", "show", {"region": duty.region})["status"]
            funds = self._app.query("regions", "funds", {"region": duty.region})
            case = self._app.query("audit", "case_of", {"address": self._address})
        except MarketError as error:
            log.warning("the case against region %d: %s", duty.region, error)
            return
        # A region does not save its bond by leaving.
        if status not in ("live", "halted") and not (status == "left" and any(funds.values())):
            log.warning("region %d is %s: the case is over", duty.region, status)
            self._case = None
            return
        header = proof.block.header
        if case is None:
            if not self._knows_set(duty.region, header.epoch):
                log.error("block %d of region %d is too old to accuse", header.height, duty.region)
                self._case = None
                return
            self._hand_in_once(
                ("accuse", header.height),
                [regions.accuse(duty.region, header.epoch, header.height, data)],
            )
            return
        if case["digest"] != digest_of(data):
            # Of a life before this one, by another certificate of the block: it has to run out.
            return
        parts = regions.evidence(data)
        folder = f"audit/part/{self._address}/"
        missing = [
            n for n in range(len(parts)) if self._app.value(f"{folder}{_KEY_BASE + n}") is None
        ]
        for index in missing[:PARTS_AT_ONCE_MAX]:
            self._hand_in_once(("part", index), [parts[index]])
        if not missing:
            self._hand_in_once("judge", [regions.judge()])

    def _knows_set(self, region: int, epoch: int) -> bool:
        """Tell whether the main chain still knows who decided an epoch of a region."""
        try:
            self._set_of(region, epoch)
        except QueryError:
            return False
        return True

    def _hand_in_once(self, key: object, calls: Sequence[Call]) -> None:
        if self._may_say(key):
            self._say(key)
            self._hand_in(calls)


def _number_of(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
