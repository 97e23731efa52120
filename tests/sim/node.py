"""One simulated node: a driver as `consensus.events` asks for, around the real core."""

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from consensus import events
from consensus.authorities import AuthoritySet, verify_certificate
from consensus.core import Core
from consensus.errors import BlockRefused, CertificateRefused
from consensus.messages import (
    PROTOCOL_VERSION,
    ZERO_HASH,
    Block,
    Certificate,
    ConsensusMessage,
    Decided,
    Header,
    Proposal,
    Vote,
    certificate_hash,
    evidence_root,
    header_hash,
    tx_root,
)
from consensus.validate import check_block
from tests.sim import keys
from tests.sim.checks import Violation
from tests.sim.disk import Disk
from tests.sim.liar import twist

if TYPE_CHECKING:
    from tests.sim.world import World

LIES_SHARE = 0.1
BAD_BLOCKS_SHARE = 0.3
FAR_FUTURE_MS = 60_000
NO_EVIDENCE_ROOT = evidence_root(())
SYNC_BLOCKS_MAX = 32


class SimNode:
    """An authority's process. Twins are two nodes with one key and different `salt`."""

    def __init__(self, world: "World", slot: int, public: bytes, salt: int) -> None:
        self.world = world
        self.slot = slot
        self.public = public
        self.salt = salt
        self.disk = Disk()
        # Applied blocks with their certificates; the durable store. Genesis is chain[0].
        self.chain: list[tuple[Block, Certificate | None]] = [(world.genesis, None)]
        self.tip_hash = header_hash(world.genesis.header)
        self.up = False
        self.generation = 0
        self.fuse: int | None = None
        self.lost_memory = False
        self.skew_ms = 0
        self.speed = 1.0
        self.restarts = -1
        self.lies = False
        self.is_honest = False
        self.core: Core
        self._effects: dict[type, Callable[[Any], None]] = {
            events.Persist: self._persist,
            events.Broadcast: self._broadcast,
            events.Send: self._send,
            events.SetTimer: self._set_timer,
            events.BuildBlock: self._ask_build,
            events.CheckBlock: self._ask_check,
            events.Decide: self._decide,
            events.ReportEvidence: self._report,
            events.Misbehaved: self._accuse,
        }

    def __repr__(self) -> str:
        return f"node {self.slot}" + (f" (twin {self.salt})" if self.salt else "")

    # -- life

    def boot(self) -> None:
        """Start the process with what the disk holds."""
        world = self.world
        self.up = True
        self.generation += 1
        self.restarts += 1
        self.fuse = None
        scan = self.disk.read()
        damaged = scan.damage is not None or self.lost_memory
        self.lost_memory = False
        self.core = world.make_core(self)
        self.core.recover(world.recovered(scan.records), damaged)
        self._enter(damaged)
        world.schedule(self, 1_000, ("poll",))

    def crash(self) -> None:
        """Lose all that is not on the disk."""
        self.up = False
        self.generation += 1
        self.fuse = None

    def wipe(self) -> None:
        """Lose the directory: the node knows only genesis and that it was there before."""
        self.disk.replace([])
        self.lost_memory = True
        self.chain = self.chain[:1]
        self.tip_hash = header_hash(self.world.genesis.header)

    @property
    def now_ms(self) -> int:
        """This node's clock."""
        return self.world.now_ms + self.skew_ms

    # -- events

    def receive(self, message: ConsensusMessage, sender: bytes) -> None:
        core = self.core
        index = core.authorities.index_of(sender)
        if index is None:
            return
        watched = type(message) is Vote and self.is_honest and self._would_keep(message)
        self._handle(events.Received(message, index, self.now_ms))
        if watched:
            self.world.checker.on_hear(self, message)  # type: ignore[arg-type]

    def _would_keep(self, vote: Vote) -> bool:
        """Whether the core must take in this vote, so that it must notice a contradiction."""
        core = self.core
        if core.decided or vote.height != core.height or vote.voter >= core.n:
            return False
        if vote.epoch != core.epoch or not -4 <= vote.round - core.round <= 4:
            return False
        voter = core.authorities.publics[vote.voter]
        return voter not in self.world.checker.honest and keys.verify(
            voter, core._vote_bytes(vote), vote.signature
        )

    def fire(self, what: tuple) -> None:  # type: ignore[type-arg]
        """Something this node scheduled has come."""
        kind = what[0]
        if kind == "timer":
            self._handle(events.TimerFired(what[1]))
        elif kind == "begin":
            self._handle(events.BeginRounds(what[1]))
        elif kind == "build":
            self._build(what[1], what[2])
        elif kind == "check":
            self._check(what[1], what[2])
        elif kind == "apply":
            self._apply(what[1], what[2])
        elif kind == "poll":
            self._poll()

    def _handle(self, event: events.Event) -> None:
        effects = self.core.handle(event)
        if effects:
            self._carry_out(effects)

    def _carry_out(self, effects: list[events.Effect]) -> None:
        world = self.world
        for effect in world.reordered(effects):
            if self.fuse is not None:
                self.fuse -= 1
                if self.fuse < 0:
                    if isinstance(effect, events.Persist) and world.network.faults.torn:
                        self.disk.tear(effect.record, world.rng)
                    world.crashed(self)
                    return
            self._effects[type(effect)](effect)

    def _persist(self, effect: events.Persist) -> None:
        self.disk.append(effect.record)

    def _broadcast(self, effect: events.Broadcast) -> None:
        message = effect.message
        if self.is_honest and type(message) in (Vote, Proposal):
            self.world.checker.on_say(self, message)
        self._send_to(message, None)

    def _send(self, effect: events.Send) -> None:
        self._send_to(effect.message, self.core.authorities.publics[effect.to])

    def _send_to(self, message: ConsensusMessage, to: bytes | None) -> None:
        world = self.world
        for other in world.nodes:
            if other is self or (to is not None and other.public != to):
                continue
            world.network.send(self.slot, other.slot, message)
            if self.lies and world.rng.random() < LIES_SHARE:
                lie = twist(message, world.rng, world.n)
                world.network.send(self.slot, other.slot, lie, lie=True)

    def _set_timer(self, effect: events.SetTimer) -> None:
        self.world.schedule(self, int(effect.delay_ms * self.speed), ("timer", effect.timer))

    def _ask_build(self, effect: events.BuildBlock) -> None:
        what = ("build", effect.height, effect.round)
        self.world.schedule(self, self.world.work_ms(), what)

    def _ask_check(self, effect: events.CheckBlock) -> None:
        what = ("check", effect.block, effect.block_hash)
        self.world.schedule(self, self.world.work_ms(), what)

    def _report(self, effect: events.ReportEvidence) -> None:
        self.world.checker.on_evidence(self, effect.evidence, self.core.authorities)

    def _accuse(self, effect: events.Misbehaved) -> None:
        accused = self.core.authorities.publics[effect.sender]
        if accused in self.world.checker.honest:
            raise Violation(f"{self} accuses an honest peer: {effect}")

    def _decide(self, effect: events.Decide) -> None:
        block, certificate = effect.block, effect.certificate
        authorities = self.core.authorities
        self.world.checker.on_decide(self, block, certificate, authorities)
        self.world.schedule(self, self.world.work_ms(), ("apply", block, certificate))

    def _apply(self, block: Block, certificate: Certificate) -> None:
        if block.header.height != len(self.chain):
            return
        self._append(block, certificate)
        self._enter()

    def _append(self, block: Block, certificate: Certificate) -> None:
        self.chain.append((block, certificate))
        self.tip_hash = header_hash(block.header)

    def _enter(self, replace_wal: bool = True) -> None:
        world = self.world
        height = len(self.chain)
        block, certificate = self.chain[-1]
        parent = Decided(block, certificate) if certificate is not None else None
        effects = self.core.handle(events.EnterHeight(height, world.authorities(height), parent))
        if replace_wal:
            self.disk.replace(self.core.wal_records())
        interval_ms = world.begin_delay_ms(self)
        if interval_ms is not None:
            world.schedule(self, interval_ms, ("begin", height))
        self._carry_out(effects)

    # -- the application

    def _build(self, height: int, round_: int) -> None:
        if height != len(self.chain):
            return
        parent, certificate = self.chain[-1]
        world = self.world
        tx = b"%d %d %d %d %d" % (height, round_, self.slot, self.salt, self.restarts)
        txs = (tx,)
        authorities = world.authorities(height)
        header = world.header_after(
            parent.header,
            time_ms=max(self.now_ms, parent.header.time_ms + 1),
            last_certificate_hash=certificate_hash(certificate),
            proposer=authorities.index_of(self.public) or 0,
            tx_root=tx_root(txs),
        )
        if self.lies and world.rng.random() < BAD_BLOCKS_SHARE:
            header = self._spoiled(header)
        block = Block(header, txs, certificate)
        self._handle(events.BlockBuilt(height, round_, block))

    def _spoiled(self, header: Header) -> Header:
        choice = self.world.rng.randrange(3)
        if choice == 0:
            return replace(header, state_root=header.parent_hash)
        if choice == 1:
            return replace(header, time_ms=max(0, header.time_ms - FAR_FUTURE_MS))
        return replace(header, time_ms=header.time_ms + FAR_FUTURE_MS)

    def _check(self, block: Block, hash_: bytes) -> None:
        if block.header.height == len(self.chain):
            valid = self.world.is_valid(block, hash_, self.chain[-1][0].header)
            self._handle(events.BlockChecked(block.header.height, hash_, valid))

    def _poll(self) -> None:
        """Block sync: when f+1 peers are further, fetch what they have applied."""
        world = self.world
        world.schedule(self, 1_000, ("poll",))
        height = len(self.chain)
        if self.core.seen_height <= height + 1 or self.core.height != height:
            return
        peer = world.nodes[world.rng.randrange(len(world.nodes))]
        if peer is self or not peer.up or not world.network.connected(self.slot, peer.slot):
            return
        fetched = peer.chain[height : height + SYNC_BLOCKS_MAX]
        for block, certificate in fetched:
            if certificate is None or not self._is_final(block, certificate):
                return
            world.checker.on_decide(
                self, block, certificate, world.authorities(block.header.height)
            )
            self._append(block, certificate)
        if fetched:
            self._enter()

    def _is_final(self, block: Block, certificate: Certificate) -> bool:
        authorities = self.world.authorities(block.header.height)
        try:
            verify_certificate(certificate, authorities, self.world.chain_id, verifier=keys.verify)
        except CertificateRefused:
            return False
        return certificate.block_hash == header_hash(block.header)


def genesis_block(chain_id: str, authorities: AuthoritySet, first: AuthoritySet) -> Block:
    """Make the block all nodes start from."""
    zero = ZERO_HASH
    header = Header(
        version=PROTOCOL_VERSION,
        chain_id=chain_id,
        epoch=authorities.epoch,
        height=0,
        time_ms=0,
        parent_hash=zero,
        last_certificate_hash=zero,
        proposer=0,
        tx_root=tx_root(()),
        receipts_root=zero,
        state_root=zero,
        authorities_hash=authorities.hash,
        next_authorities_hash=first.hash,
        params_hash=zero,
        evidence_root=NO_EVIDENCE_ROOT,
        inbox_root=zero,
        outbox_root=zero,
        anchor_height=0,
        anchor_hash=zero,
    )
    return Block(header, (), None)


def state_after(parent: Header, txs_root: bytes) -> bytes:
    """The simulated application: its state is the hash of all transactions so far."""
    return hashlib.sha256(parent.state_root + txs_root).digest()


def is_valid(
    block: Block, parent: Header, authorities: AuthoritySet, earlier: dict[int, AuthoritySet]
) -> bool:
    """Check and execute, as a driver does."""
    try:
        check_block(block, parent, authorities, earlier, keys.verify)
    except BlockRefused:
        return False
    return block.header.state_root == state_after(parent, block.header.tx_root)
