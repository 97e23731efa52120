"""One simulated node: a driver as `consensus.events` asks for, around the real core.

It follows `node/chain/driver.py`: effects in order, the log synced before anything leaves the
house, one database transaction per block, the log shortened when it is bulky. Where a crash may
come, `burns` is asked.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from consensus import events
from consensus.core import Core
from consensus.errors import BlockRefused, EvidenceRefused, InvariantError
from consensus.messages import (
    Block,
    Certificate,
    ConsensusMessage,
    Decided,
    Evidence,
    Proposal,
    Vote,
    header_hash,
)
from consensus.wal import LockRecord, VoteRecord, WalRecord
from tests.sim import keys
from tests.sim.app import Note, State, Transfer, transactions_due
from tests.sim.disk import Database, Log
from tests.sim.errors import Violation
from tests.sim.liar import false_evidence, signed_lies, twist
from tests.sim.spoiler import Spoiler
from tests.sim.syncer import Syncer
from wire.codec import encode

if TYPE_CHECKING:
    from tests.sim.world import World

LIES_SHARE = 0.1
SIGNED_LIES_SHARE = 0.1
BAD_BLOCKS_SHARE = 0.3
SNAPSHOTS_KEPT = 2
MEMPOOL_PER_ACCOUNT_MAX = 4
POLL_MS = 1_000
POLLS_PER_REPEAT = 10


class SimNode:
    """An authority's process. Twins are two nodes with one key and different `salt`."""

    def __init__(self, world: "World", slot: int, public: bytes, salt: int) -> None:
        self.world = world
        self.slot = slot
        self.public = public
        self.salt = salt
        self.log = Log()
        self.database: Database = world.mutation.database(world.genesis, world.first_state)
        # Heights and block hashes of the snapshots on offer, the newest last.
        self.snapshots: list[tuple[int, bytes]] = []
        self.up = False
        self.generation = 0
        self.fuse: int | None = None
        self.skew_ms = 0
        self.speed = 1.0
        self.restarts = -1
        self.lies = self.is_honest = self.is_frail = False
        self.core: Core
        self.syncer: Syncer
        self._last_vote: Vote | None = None
        self._mempool: dict[int, dict[bytes, Transfer]] = {}
        self._polls = 0
        self._spoiler = Spoiler(self)
        self._effects: dict[type, Callable[[Any], None]] = {
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

    @property
    def height(self) -> int:
        """Height of the last applied block."""
        return self.database.height

    @property
    def now_ms(self) -> int:
        """This node's clock."""
        return self.world.now_ms + self.skew_ms

    # -- life

    def boot(self) -> None:
        """Start the process with what the disk holds."""
        world = self.world
        self.up = True
        self.generation += 1
        self.restarts += 1
        self.fuse = None
        records, _ = self.log.read()
        world.mutation.opened(self, records)
        world.checker.on_open(self)
        self._last_vote = None
        for record in records:
            self._note_signed(record)
        self.core = world.make_core(self)
        self.core.recover(world.mutation.recovered(records))
        self.syncer = Syncer(self)
        self._mempool = {}
        certificate = self.database.certificate
        self.enter((self.database.head, certificate) if certificate is not None else None)
        world.schedule(self, POLL_MS, ("poll",))

    def crash(self) -> None:
        """Lose all that is not on the disk, and perhaps more of what was on its way there."""
        faults = self.world.network.faults
        self.up = False
        self.generation += 1
        self.fuse = None
        self.log.crash(self.world.rng, faults.torn, faults.torn and self.is_frail)

    def wipe(self) -> None:
        """Lose the directory: the node knows only genesis and that it was there before."""
        self.log.lose()
        self.database.wipe()
        self.snapshots = []
        self.world.checker.on_wipe(self)

    def burns(self) -> bool:
        """Come one step nearer to the next crash; tell whether this is it."""
        if self.fuse is None:
            return False
        self.fuse -= 1
        if self.fuse >= 0:
            return False
        self.world.crashed(self)
        return True

    # -- events

    def receive(self, message: ConsensusMessage, sender: "SimNode") -> None:
        """A message of another authority has come."""
        core = self.core
        index = core.authorities.index_of(sender.public)
        if index is None:
            return
        watched = (
            type(message) is Vote
            and self.is_honest
            and len(self.world.faulty_slots) > 0
            and self._would_keep(message)
        )
        self._handle(events.Received(message, index, self.now_ms))
        if sender.lies:
            self.world.checker.on_lie(self)
        if watched:
            self.world.checker.on_hear(self, message)  # type: ignore[arg-type]

    def serve(self, service: tuple[Any, ...], sender: "SimNode") -> None:
        """Anything else has come: gossip, a question of sync, an answer."""
        match service:
            case ("question", number, generation, data):
                self.syncer.asked(sender.slot, number, generation, data)
            case ("answer", number, generation, data):
                self.syncer.answered(number, generation, data)
            case ("notice", certificate):
                self.syncer.heard(sender.slot, certificate)
            case ("evidence", evidence):
                self.take_evidence(evidence)
            case ("transfer", transfer):
                self._take_transfer(transfer)

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

    def fire(self, what: tuple[Any, ...]) -> None:
        """Something this node scheduled has come."""
        match what:
            case ("timer", timer):
                self._handle(events.TimerFired(timer))
            case ("begin", height):
                self._handle(events.BeginRounds(height))
            case ("build", height, round_):
                self._build(height, round_)
            case ("check", block, block_hash):
                self._check(block, block_hash)
            case ("apply", block, certificate):
                self._apply(block, certificate)
            case ("poll",):
                self.poll()
            case ("sync", event):
                self.syncer.feed(event)
            case ("foreign", block, certificate):
                self.syncer.take_foreign(block, certificate)
            case ("load", effect):
                self.syncer.take_snapshot(effect)

    def _handle(self, event: events.Event) -> None:
        effects = self.core.handle(event)
        if effects:
            self._carry_out(effects)

    def _carry_out(self, effects: list[events.Effect]) -> None:
        log, mutation = self.log, self.world.mutation
        for effect in mutation.reordered(effects):
            if self.fuse is not None and self.burns():
                return
            if type(effect) is events.Persist:
                log.append(effect.record)
                self._note_signed(effect.record)
                continue
            if log.is_dirty and mutation.syncs:
                log.sync()
                if self.fuse is not None and self.burns():
                    return
            self._effects[type(effect)](effect)
        if log.is_dirty and mutation.syncs:
            log.sync()

    def _note_signed(self, record: WalRecord) -> None:
        match record:
            case VoteRecord(vote) | LockRecord(precommit=vote):
                self._last_vote = vote

    # -- effects

    def _broadcast(self, effect: events.Broadcast) -> None:
        message = effect.message
        if self.is_honest and type(message) in (Vote, Proposal):
            self.world.checker.on_say(self, message)  # type: ignore[arg-type]
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
                self._lie_to(other.slot, message)

    def _lie_to(self, slot: int, message: ConsensusMessage) -> None:
        world = self.world
        # Where evidence ages soon, liars keep what convicts them for when it is too old.
        may_sign = not world.has_short_window
        if may_sign and isinstance(message, Vote) and world.rng.random() < SIGNED_LIES_SHARE:
            signer = keys.signer_of(self.public)
            for vote in signed_lies(message, world.rng, world.chain_id, signer):
                world.network.send(self.slot, slot, vote, lie=True)
        else:
            lie = twist(message, world.rng, world.n)
            world.network.send(self.slot, slot, lie, lie=True)

    def gossip(self, service: tuple[Any, ...]) -> None:
        """Tell all others of this chain."""
        for other in self.world.nodes:
            if other is not self:
                self.world.network.send(self.slot, other.slot, service)

    def _set_timer(self, effect: events.SetTimer) -> None:
        self.world.schedule(self, int(effect.delay_ms * self.speed), ("timer", effect.timer))

    def _ask_build(self, effect: events.BuildBlock) -> None:
        what = ("build", effect.height, effect.round)
        self.world.schedule(self, self.world.work_ms(), what)

    def _ask_check(self, effect: events.CheckBlock) -> None:
        what = ("check", effect.block, effect.block_hash)
        self.world.schedule(self, self.world.work_ms(), what)

    def _accuse(self, effect: events.Misbehaved) -> None:
        accused = self.core.authorities.publics[effect.sender]
        if accused in self.world.checker.honest:
            raise Violation(f"accountability: {self} accuses an honest peer: {effect}")

    def _decide(self, effect: events.Decide) -> None:
        block, certificate = effect.block, effect.certificate
        self.world.checker.on_decide(self, block, certificate, self.core.authorities)
        self.world.schedule(self, self.world.work_ms(), ("apply", block, certificate))

    # -- applying

    def execute(self, block: Block, hash_: bytes) -> State | None:
        """Return the state after the next block; None if it may not follow."""
        database = self.database
        return self.world.execute(database.state, database.head.header, block, hash_)

    def _apply(self, block: Block, certificate: Certificate) -> None:
        if block.header.height != self.height + 1:
            return
        state = self.execute(block, header_hash(block.header))
        if state is None:
            raise InvariantError(f"block {block.header.height} is decided and cannot be applied")
        if not self.commit(block, certificate, state):
            return
        self._announce(block, certificate)
        self.enter(None)

    def commit(self, block: Block, certificate: Certificate, state: State) -> bool:
        """Apply a block in one transaction; False if a crash comes before it, within or after."""
        for _ in self.world.mutation.commit(self.database, block, certificate, state):
            if self.burns():
                return False
        self.world.checker.on_apply(self, block, state)
        if self.burns():
            return False
        if not self.is_honest and block.evidence:
            self._spoiler.remember(block.evidence)
        self._drop_known_evidence()
        every = self.world.snapshot_every
        if every and state.height % every == 0:
            self.offer_snapshot(state)
        self.syncer.head_moved()
        return True

    def offer_snapshot(self, state: State) -> None:
        """Have a snapshot of the state after the head for who asks."""
        tip_hash = self.database.tip_hash
        self.world.keep_state(tip_hash, self.database.head.header, state)
        self.snapshots = [*self.snapshots, (state.height, tip_hash)][-SNAPSHOTS_KEPT:]

    def _announce(self, block: Block, certificate: Certificate) -> None:
        """One or two of those who decided say so to all."""
        index = self.core.index
        if index is None:
            return
        place = (index - block.header.proposer) % self.core.n
        if place == 0 or (place <= self.core.f and self.world.rng.random() < 0.2):
            self.gossip(("notice", certificate))

    def enter(self, parent: tuple[Block, Certificate] | None) -> None:
        """Begin work on the height after the head; `parent` if the core does not know it yet."""
        world, database = self.world, self.database
        height = database.height + 1
        known = Decided(*parent) if parent is not None else None
        entered = events.EnterHeight(
            height, database.state.seats, known, behind=not self.syncer.is_level()
        )
        generation = self.generation
        self._carry_out(self.core.handle(entered))
        if self.generation != generation:
            return
        if self.log.size >= world.bulky_bytes:
            # As the driver shortens its log: the last vote stays, see `Chain._shorten_log`.
            last = [VoteRecord(self._last_vote)] if self._last_vote is not None else []
            if self.burns():
                return
            self.log.replace([*last, *self.core.wal_records()])
            if self.burns():
                return
        interval_ms = world.begin_delay_ms(self)
        if interval_ms is not None:
            world.schedule(self, interval_ms, ("begin", height))

    # -- evidence

    def _report(self, effect: events.ReportEvidence) -> None:
        self.world.checker.on_evidence(self, effect.evidence, self.core.authorities)
        if self.take_evidence(effect.evidence):
            self.gossip(("evidence", effect.evidence))

    def take_evidence(self, evidence: Evidence) -> bool:
        """Keep evidence that is good and news, durably."""
        rules, state, pool = self.world.rules, self.database.state, self.database.pool
        try:
            conviction = rules.convicts(state, evidence)
            known = [o for item in pool.values() for o in rules.convicts(state, item).offenders]
        except EvidenceRefused:
            return False
        is_news = conviction.offence not in pool and rules.is_news(state, known, conviction)
        if is_news:
            pool[conviction.offence] = evidence
        return is_news

    def _drop_known_evidence(self) -> None:
        pool, rules, state = self.database.pool, self.world.rules, self.database.state
        for offence, evidence in list(pool.items()):
            conviction = rules.convicts(state, evidence)
            is_old = evidence.first.height < state.height + 1 - rules.window
            if is_old or not rules.is_news(state, (), conviction):
                del pool[offence]

    # -- blocks

    def _build(self, height: int, round_: int) -> None:
        if height != self.height + 1 or self.core.index is None:
            return
        world, database = self.world, self.database
        state, parent = database.state, database.head.header
        evidence = world.rules.admitted(state, database.pool.values())
        note = b"%d %d %d %d %d" % (height, round_, self.slot, self.salt, self.restarts)
        waiting = (tx for by_raw in self._mempool.values() for tx in by_raw.values())
        time_ms = max(self.now_ms, parent.time_ms + 1)
        txs = [encode(Note(note)), *transactions_due(state, waiting)]
        txs += self.more_transactions(time_ms)
        spoils = self.lies and world.rng.random() < BAD_BLOCKS_SHARE
        if spoils:
            txs, evidence = self._spoiler.body(txs, evidence)
        certificate = database.certificate
        try:
            header = world.rules.header(
                state, parent, txs, evidence, time_ms, self.core.index, certificate
            )
        except BlockRefused:
            # A liar does not mind that it cannot be executed.
            header = world.rules.header(
                state, parent, (), (), time_ms, self.core.index, certificate
            )
            header = world.rules.with_body(header, txs, evidence)
        if spoils:
            header = self._spoiler.header(header, parent)
        block = Block(header, tuple(txs), certificate, tuple(evidence))
        self._handle(events.BlockBuilt(height, round_, block))

    def more_transactions(self, time_ms: int) -> list[bytes]:
        """Return what else an honest builder takes into a block of this time."""
        return []

    def _check(self, block: Block, hash_: bytes) -> None:
        if block.header.height == self.height + 1:
            valid = self.execute(block, hash_) is not None
            self._handle(events.BlockChecked(block.header.height, hash_, valid))

    # -- once a second

    def poll(self) -> None:
        """What a process does once a second."""
        world = self.world
        world.schedule(self, POLL_MS, ("poll",))
        self._polls += 1
        if self._polls % POLLS_PER_REPEAT == 0:
            for evidence in self.database.pool.values():
                self.gossip(("evidence", evidence))
        if self.lies and world.rng.random() < LIES_SHARE:
            false = false_evidence(self.core.authorities, max(self.height, 1), world.rng)
            self.gossip(("evidence", false))
        if self.is_honest:
            self._submit_transfer()
        self.syncer.poll()

    def _submit_transfer(self) -> None:
        """A person at this home pays somebody, once the payment before is through."""
        ledger = self.database.state.ledger
        account, accounts = self.slot, len(ledger.balances)
        nonce = ledger.nonces[account]
        waiting = self._mempool.get(account, {}).values()
        if any(transfer.nonce == nonce for transfer in waiting):
            return
        rng = self.world.rng
        transfer = Transfer(account, nonce, rng.randrange(accounts), 1 + rng.randrange(20))
        self._take_transfer(transfer)
        self.gossip(("transfer", transfer))

    def _take_transfer(self, transfer: Transfer) -> None:
        nonce = self.database.state.ledger.nonces[transfer.account]
        waiting = self._mempool.setdefault(transfer.account, {})
        for raw, other in list(waiting.items()):
            if other.nonce < nonce:
                del waiting[raw]
        if transfer.nonce >= nonce and len(waiting) < MEMPOOL_PER_ACCOUNT_MAX:
            waiting[encode(transfer)] = transfer
