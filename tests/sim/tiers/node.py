"""A node of a chain of two tiers: signed transactions, homes that trade, authorities that post."""

from typing import TYPE_CHECKING, Any, Final, cast

from consensus.checkpoint import Checkpoint
from consensus.messages import Block, Certificate
from market import client
from market.admission import NONCE_PREFIX, nonce_of
from market.client import Call, sign_call
from node.regions.checkpoints import make_checkpoint
from node.regions.due import Shown
from node.regions.exchange import Offer, make_offers
from tests.sim.app import Carried, State
from tests.sim.disk import Database
from tests.sim.node import SimNode
from tests.sim.tiers import machine as machines
from tests.sim.tiers.auditors import SimAuditor, shown
from tests.sim.tiers.chains import Chain, TierState
from tests.sim.tiers.views import proven_of, shown_of
from wire import transaction
from wire.codec import decode_plain, encode
from wire.keys import SigningKey
from wire.transaction import CheckedTransaction

if TYPE_CHECKING:
    from tests.sim.world import World

VALUE_BYTES_MAX: Final = 8_192
CALLS_HELD_MAX: Final = 256
CALLS_PER_BLOCK_MAX: Final = 48
CHECKPOINTS_KEPT: Final = 256
OFFERS_KEPT: Final = 128
VALIDITY_MARGIN_MS: Final = 5_000
POLLS_PER_CALLS: Final = 4
ORDER_SHARE: Final = 0.7
LEAVE_SHARE: Final = 0.1


class TierDatabase(Database):
    """The database of a node, with the checkpoints that its blocks have closed."""

    def wipe(self) -> None:
        """Only genesis is left."""
        super().wipe()
        self.checkpoints: dict[int, Checkpoint] = {}
        self.offers: list[Offer] = []

    def _put(self, block: Block, certificate: Certificate, state: State) -> None:
        super()._put(block, certificate, state)
        app = cast(Any, state)
        self.offers = [*self.offers, *make_offers(app, block.header)][-OFFERS_KEPT:]
        found = make_checkpoint(app, block.header, certificate)
        if found is not None:
            self.checkpoints[number_of(found)] = found
            self.checkpoints.pop(number_of(found) - CHECKPOINTS_KEPT, None)


def number_of(checkpoint: Checkpoint) -> int:
    """The number of a checkpoint's record."""
    return cast(int, decode_plain(checkpoint.record, VALUE_BYTES_MAX)[2])


class TierNode(SimNode):
    """An authority of one chain, which audits where it is drawn.

    Of a region, it also has a home, and posts for its region.
    """

    world: Chain  # type: ignore[assignment]
    database: TierDatabase

    def __init__(self, world: "World", slot: int, public: bytes, salt: int) -> None:
        super().__init__(world, slot, public, salt)
        self.account: SigningKey = machines.authority_key(self.world.number, slot % world.n)
        self._calls: dict[bytes, CheckedTransaction] = {}
        self._own: dict[bytes, bytes] = {}
        self._last_nonce = 0

    @property
    def state(self) -> TierState:
        """The state after the head."""
        return cast(TierState, self.database.state)

    @property
    def shown(self) -> Shown:
        """What this node's region knows of the main chain."""
        return shown_of(self.state)

    def boot(self) -> None:
        """Start; what was not in a block is forgotten."""
        self._calls, self._own = {}, {}
        # By tier: what is due, since when it is seen to be, and when it was last posted.
        self.due: dict[str, tuple[int, int, int | None]] = {}
        self._ordered = self._read = 0
        self.auditor = SimAuditor(self, self.world.grid.audits_by(self))
        super().boot()

    # -- transactions

    def send_call(self, key: SigningKey, call: Call, to_main: bool) -> None:
        """Sign a call and hand it to all of this chain, or of the main chain."""
        world = self.world
        grid = world.grid
        self._last_nonce = max(grid.now_ms * 64, self._last_nonce + 1)
        chain_id = machines.MAIN_ID if to_main else world.chain_id
        valid_ms = grid.now_ms + machines.VALID_MS
        checked = sign_call(call, key, chain_id, self._last_nonce, valid_ms)
        if to_main:
            for other in grid.main.nodes:
                grid.send(self, other, ("call", checked))
            return
        self._own[checked.tx_id] = checked.raw
        self._take_call(checked)

    def _take_call(self, checked: CheckedTransaction) -> None:
        if checked.tx_id in self._calls or len(self._calls) >= CALLS_HELD_MAX:
            return
        self._calls[checked.tx_id] = checked
        self.gossip(("call", checked))

    def _is_open(self, checked: CheckedTransaction, time_ms: int) -> bool:
        used = nonce_of(self.state.value(NONCE_PREFIX + checked.sender))
        ahead_ms = checked.tx.valid_until_ms - time_ms
        return checked.tx.nonce > used and 0 <= ahead_ms <= transaction.VALIDITY_MS_MAX

    def more_transactions(self, time_ms: int) -> list[bytes]:
        """Return the calls that wait, each sender's in their order."""
        waiting = [call for call in self._calls.values() if self._is_open(call, time_ms)]
        waiting.sort(key=lambda call: call.tx.nonce)
        return [encode(Carried(call.raw)) for call in waiting[:CALLS_PER_BLOCK_MAX]]

    def _forget_calls(self) -> None:
        now_ms = self.world.now_ms
        self._calls = {k: call for k, call in self._calls.items() if self._is_open(call, now_ms)}
        self._own = {k: raw for k, raw in self._own.items() if k in self._calls}

    # -- between the tiers

    def serve(self, service: tuple[Any, ...], sender: SimNode) -> None:
        """Also what is for the contracts, and what one tier asks of the other."""
        match service:
            case ("call", checked):
                self._take_call(checked)
            case ("ask-main", main_epoch):
                self._answer_main(cast(TierNode, sender), main_epoch)
            case ("main-view", proven, ends, state):
                self.world.grid.poster.hear(self, proven, ends, state)
                self.auditor.look(state)
            case ("region-question", number, generation, data):
                self._show_region(cast(TierNode, sender), number, generation, data)
            case ("region-answer", number, generation, data) if generation == self.generation:
                self.auditor.answered(number, data)
            case ("region-answer", *_):
                pass
            case _:
                super().serve(service, sender)

    def _answer_main(self, asker: "TierNode", main_epoch: int) -> None:
        database, region = self.database, asker.world.number
        if database.certificate is None:
            return
        head = database.signed(database.height)
        found = database.epoch_ends.items()
        ends = {epoch: end for epoch, end in found if main_epoch <= epoch < head.header.epoch}
        proven = proven_of(self.state, region, head)
        self.world.grid.send(self, asker, ("main-view", proven, ends, self.state))

    def _show_region(self, asker: "TierNode", number: int, generation: int, data: bytes) -> None:
        grid = self.world.grid
        if not grid.withholds(self):
            answer = shown(self, data, grid.audit_rng)
            if answer is not None:
                grid.ask(self, asker, ("region-answer", number, generation, answer))

    def fire(self, what: tuple[Any, ...]) -> None:
        """Also: an auditor has waited long enough."""
        if what[0] == "audit-late":
            self.auditor.timed_out(what[1])
        else:
            super().fire(what)

    # -- once a second

    def poll(self) -> None:
        """Also: read the meter, trade, post."""
        super().poll()
        world = self.world
        if self._calls:
            self._forget_calls()
        if self._polls % POLLS_PER_CALLS == 0:
            for tx_id in self._own:
                self.gossip(("call", self._calls[tx_id]))
        if not world.number:
            self.auditor.look(self.state)
            return
        if self.is_honest:
            self._live()
        world.grid.poster.poll(self)

    def _live(self) -> None:
        """A home orders for the next open slot, and reports what its meter read in the last one."""
        world, rng = self.world, self.world.rng
        clock = world.machine.clock
        time_ms = max(self.state.app.time_ms, 1)
        owner = machines.home_key(world.number, self.slot % world.n)
        slot = clock.next_gate_slot(time_ms)
        if slot > self._ordered and rng.random() < ORDER_SHARE:
            self._ordered = slot
            # Regions differ in how much sun they have.
            side = "sell" if rng.random() < (0.2, 0.8)[world.number % 2] else "buy"
            price = rng.randrange(90, 180) * 1_000
            order = client.post_order(slot, side, 100 + rng.randrange(900), price)
            self.send_call(owner, order, to_main=False)
        leaves_ms = world.grid.leavers.get((world.number, self.slot))
        if leaves_ms is not None and world.now_ms >= leaves_ms and rng.random() < LEAVE_SHARE:
            self.send_call(owner, client.leave(), to_main=False)
        over = clock.slot_at(time_ms) - 1
        if over > self._read and clock.slot_end_real_ms(over) <= time_ms:
            self._read = over
            import_wh, export_wh = rng.randrange(800), rng.randrange(500)
            reading = client.post_reading(over, import_wh, export_wh, over)
            self.send_call(owner.derive("meter"), reading, to_main=False)
