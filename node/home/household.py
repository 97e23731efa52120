"""The household: between the home's energy management and the market.

Before a slot's gate closes it plans and posts orders; after a round it notes what is contracted,
tells its agent, and changes what stands in slots that are still open; when the slot has been
delivered its meter signs and posts the reading. Everything
happens on the market's clock; what the home must remember, and what it says, is on disk before it
acts on it (`node/home/memory.py`).

The delivery is simulated here from the home's source (a replayed or synthetic home); a home with
real devices replaces `HomeEnergyManager.deliver` by what its meter says.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from consensus.messages import Block, Certificate
from hems.bid import Order
from hems.config import HomeConfig
from hems.delivery import Delivery
from hems.errors import AgentError, HemsError
from hems.home import CATCH_UP_SLOTS_MAX, HomeEnergyManager, MarketView
from hems.sources.checked import CheckedSource
from hems.sources.live import LiveSource
from market import client
from market.app import BlockResult
from market.errors import QueryError
from market.genesis import MECHANISMS_WITH_ORDERS, MarketParams
from node.errors import StoreError
from node.home import trading
from node.home.battery import OwnersBattery
from node.home.detail import DetailBook, detail_of
from node.home.devices import LiveDevices
from node.home.memory import HomeMemory
from node.home.outbox import Outbox
from node.home.requests import Requests, spoken
from node.home.sealing import Sealing
from node.home.view import market_view
from node.keys.homekeys import HomeKeys
from node.status import Finality
from wire.codec import Plain
from wire.transaction import CheckedTransaction

log = logging.getLogger("commonwatt.household")

MICRO: Final = 1_000_000
# Trading waits while this node is so far behind: what it sees is not what the market is.
BEHIND_MAX: Final = 2
# After a gate closes its clearing is awaited for this share of a slot, then trading goes on.
CLEARING_PATIENCE: Final = 0.3
DELIVERIES_KEPT: Final = 96
IDLE_S: Final = 30.0
READING_VALID_MS: Final = 3_600_000
ORDER_GRACE_MS: Final = 2_000
OFFER_VALID_MS: Final = 60_000
# Orders are not changed any more so shortly before their gate closes.
REVISION_LEAD_MS: Final = 2_000
# An order for a slot far ahead may wait for its turn this long.
ORDER_VALID_MS: Final = 3_600_000
# After a start, the agent is told of so many slots that were cleared before.
OUTCOMES_TOLD_MAX: Final = 4


class Household:
    """One home's agent.

    Parameters
    ----------
    config, params : the home, and the market it is in
    query : callable
        Asks a contract at the committed state.
    last_nonce : callable
        The last nonce of an address there.
    submit : callable
        Hands in a signed transaction; raises `Refused`.
    finality : Finality
        Told of every transaction submitted.
    keys : HomeKeys
    memory : Path
        File of what the home must remember.
    now_ms, behind : callables
        Real time [ms], and how many blocks this node lacks.
    live, detail : the home's meters, if it has real ones; where what it does not tell is kept
    """

    def __init__(
        self,
        config: HomeConfig,
        params: MarketParams,
        query: Callable[[str, str, dict[str, Plain]], Plain],
        last_nonce: Callable[[str], int],
        submit: Callable[[bytes], CheckedTransaction],
        finality: Finality,
        keys: HomeKeys,
        memory: Path,
        now_ms: Callable[[], int],
        behind: Callable[[], int],
        live: LiveSource | None = None,
        detail: DetailBook | None = None,
    ) -> None:
        self._params = params
        self._clock = params.clock()
        self._query = query
        self._address = keys.address
        self._memory = HomeMemory(memory, params.chain_id, now_ms())
        self._now_ms = now_ms
        self._behind = behind
        self._wake = asyncio.Event()
        self._requests: Requests | None = None
        self._sealing: Sealing | None = None
        if params.sealed:
            self._sealing = Sealing(params, query, self._memory, self._address)
        self._traded_slot = 0
        self._cleared_slot = 0
        self._told_slot = 0
        self._open = trading.OpenSlots()
        self.deliveries: list[Delivery] = []
        self._live = live
        self._detail = detail
        source = None if live is None else CheckedSource(live, live.faults)
        self.manager = HomeEnergyManager(
            config,
            self._memory.state,
            source,
            None if live is None or config.battery is None else live.battery_wh,
            None if live is None else live.taken_wh,
        )
        self.devices = LiveDevices(self.manager, live)
        self.battery = OwnersBattery(
            config.battery,
            self.manager,
            self._memory,
            self._remember,
            live,
            lambda: self._clock.market_ms(self._now_ms()),
        )
        self.outbox = Outbox(
            params.chain_id,
            keys,
            self._memory,
            self._remember,
            last_nonce,
            submit,
            finality,
            now_ms,
        )

    def snapshot(self) -> dict[str, Any]:
        """Return what there is to tell of this home, as a plain map."""
        state = self.manager.state
        slot = self._clock.slot_at(self._now_ms())
        number = client.home(self._query, self._address).number
        account = client.account(self._query, self._address)
        total = client.total(self._query, number)
        last = self.deliveries[-1] if self.deliveries else None
        return {
            "number": number,
            "slot": slot,
            "market_ms": self._clock.market_ms(self._now_ms()),
            "battery_wh": sum(one.capacity_wh for one in self.manager.config.batteries),
            "stored_wh": (state.stored_uwh + sum(state.batteries.values())) // MICRO,
            "load_wh": last.load_wh if last else 0,
            "pv_wh": last.pv_wh if last else 0,
            "balance_micro": account.balance_micro,
            "held_micro": account.held_micro,
            "bought_wh": total.bought_wh,
            "sold_wh": total.sold_wh,
            "total_micro": total.total_micro,
            "grid_only_micro": total.grid_only_micro,
            "saved_micro": total.saved_micro,
            "refused": dict(self.outbox.refused),
            "sensors": self.manager.source.faults.told(),
            "trades": self.trades,
        }

    @property
    def trades(self) -> bool:
        """Whether it takes part in the market; its meter is read and billed all the same."""
        return not self._memory.is_paused

    def trade(self, is_on: bool) -> None:
        """Take part in the market from the next gate on, or leave it: open orders are withdrawn.

        What is contracted stays so, and the choice outlives the daemon.
        """
        if is_on == self.trades:
            return
        self._memory.is_paused = not is_on
        self._remember()
        self._open.moved()
        self._wake.set()

    def price_now(self) -> client.Prices:
        """Return the prices of the slot that is traded next."""
        return client.prices(self._query, self._clock.next_gate_slot(self._now_ms()))

    # -- events ------------------------------------------------------------------------------

    def applied(self, block: Block, certificate: Certificate, result: BlockResult) -> None:
        """Take note of an applied block: clearings, and how this home's transactions ended."""
        del block, certificate
        for event in result.events:
            if event.contract == "market" and event.name == "slot_cleared":
                self._cleared_slot = max(self._cleared_slot, int(event.data["slot"]))
                self._open.moved()
                self._wake.set()
            elif event.contract == "market" and event.name == "round_held":
                self._open.moved()
                self._wake.set()
            elif event.contract == "requests" and self._requests is not None:
                known = client.decode_event(event)
                if isinstance(known, client.OfferAnswered):
                    self._requests.answered(known)
                self._wake.set()
        self._reveal_due()
        answered = [receipt for receipt in result.receipts if self.outbox.decided(receipt)]
        if answered and (self._open.stale() or self.outbox.overtaken()):
            self._wake.set()

    # -- the day's course --------------------------------------------------------------------

    async def run(self) -> None:
        """Trade and deliver, slot by slot; first say again what may not have been heard."""
        self.outbox.say_again()
        self._reveal_due()
        while True:
            self._wake.clear()
            self.outbox.say_anew()
            try:
                await self._deliver_due()
                if self._until_slot() is None:
                    await self._trade_due()
                    self._offer_due()
            except (HemsError, QueryError) as error:
                # One slot is lost, the next may do; the grid serves this one. A home that is not
                # registered yet has said so (`node.membership.joining`).
                waits = isinstance(error, QueryError) and error.code == "not_a_home"
                log.log(
                    logging.DEBUG if waits else logging.WARNING,
                    "this slot is left to the grid: %s",
                    error,
                )
            try:
                # Not `wait_for`: it swallows a cancellation that comes with the event.
                async with asyncio.timeout(self._pause_s()):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _pause_s(self) -> float:
        """Return the time to the next thing the clock asks for. [s]"""
        now_ms = self._now_ms()
        clock = self._clock
        moments = [clock.slot_end_real_ms(clock.slot_at(now_ms))]
        target = clock.next_gate_slot(now_ms)
        moments.append(clock.gate_close_real_ms(target))
        if target > self._traded_slot:
            moments.append(self._patience_ends_ms(target))
        later = [moment - now_ms for moment in moments if moment > now_ms]
        return min([*later, IDLE_S * 1000]) / 1000 + 0.002

    def _patience_ends_ms(self, target: int) -> int:
        slot_real_ms = self._clock.slot_ms / self._clock.time_lapse
        closed_ms = self._clock.gate_close_real_ms(target - 1)
        return closed_ms + int(CLEARING_PATIENCE * slot_real_ms)

    # -- before the slot ---------------------------------------------------------------------

    async def _trade_due(self) -> None:
        now_ms = self._now_ms()
        target = self._clock.next_gate_slot(now_ms)
        self._open.close(target)
        if self._behind() > BEHIND_MAX:
            return
        if target <= self._traded_slot:
            await self._revise_due(now_ms, target)
            return
        waiting = self._cleared_slot < target - 1 and now_ms < self._patience_ends_ms(target)
        if waiting and client.slot_summary(self._query, target - 1).status == "open":
            return
        self._traded_slot = target
        self._prepare(now_ms, target)
        slots = [target]
        if self._has_orders:
            auctions = client.auctions(self._query)
            market_ms, slot_ms = self._clock.market_ms(now_ms), self._params.slot_ms
            intraday = self._params.intraday_every_ms > 0
            slots += trading.early_slots(target, market_ms, slot_ms, intraday, auctions)
            slots += [slot for slot in self._open.stale() if slot not in slots]
        await self._trade(slots)

    async def _revise_due(self, now_ms: int, target: int) -> None:
        """Look again at the slots that are open, once a round was held."""
        # What is withdrawn just before the gate could not be posted again.
        last_ms = now_ms + REVISION_LEAD_MS
        in_time = [s for s in self._open.stale() if self._clock.gate_close_real_ms(s) > last_ms]
        stale = [slot for slot in in_time if not self._waits(slot)]
        if stale and self._has_orders:
            self._prepare(now_ms, target)
            await self._trade(stale)

    def _prepare(self, now_ms: int, target: int) -> None:
        """Take note of all that rounds have brought, before anything is planned."""
        self._note_contracts(range(self._clock.slot_at(now_ms), target))
        self._note_contracts(self._open.known())
        self._begin_at(now_ms)
        if not self.deliveries:
            # What it was thought to hold before anything was delivered.
            self.battery.take_soc()
        self.devices.take(self._clock.market_ms(now_ms), is_slot_over=False)
        try:
            self._tell_outcomes(target)
        except AgentError as error:
            # It may trade all the same; its orders are made by another part of it.
            log.warning("the home's agent did not take in what rounds have brought: %s", error)
        finally:
            self._remember()

    async def _trade(self, slots: list[int]) -> None:
        """Make the orders of some slots what they should be, the first slot's first."""
        left = trading.CALLS_AT_ONCE_MAX
        for place, slot in enumerate(slots):
            if self._waits(slot):
                self._open.later(slot)
                continue
            self._open.looked_at(slot)
            try:
                calls = await self._calls_for(slot)
            except HemsError as error:
                # What the home's mind makes of one slot is no reason to lose another.
                log.warning("slot %d is left to the grid: %s", slot, error)
                continue
            if len(calls) > left:
                self._open.put_off(slot)
                for other in slots[place + 1 :]:
                    self._open.later(other)
                break
            left -= len(calls)
            gate_ms = self._clock.gate_close_real_ms(slot) + ORDER_GRACE_MS
            valid_ms = min(gate_ms, self._now_ms() + ORDER_VALID_MS)
            self.outbox.say_all([self.outbox.sign(call, valid_ms) for call in calls])

    async def _calls_for(self, slot: int) -> list[client.Call]:
        view = self._market_view(slot)
        start_ms, slot_ms = self._clock.slot_start_market_ms(slot), self._params.slot_ms
        stands = []
        if self._sealing is not None:
            return await self._sealed_calls(self._sealing, slot, view)
        if self._has_orders:
            number = client.home(self._query, self._address).number
            stands = trading.standing(self._query, slot, number)
        if not self.trades:
            left = [item.order_id for item in stands if item.order.energy_wh]
            return [client.withdraw_order(order_id) for order_id in left]
        if stands:
            revision = await asyncio.to_thread(
                self.manager.revise_slot, start_ms, slot_ms, view, stands
            )
            return trading.calls_of(slot, revision)
        planned = await asyncio.to_thread(self.manager.plan_slot, start_ms, slot_ms, view)
        return self._calls(slot, planned.orders)

    async def _sealed_calls(
        self, sealing: Sealing, slot: int, view: MarketView
    ) -> list[client.Call]:
        if not self.trades:
            return sealing.withdrawals(slot)
        if sealing.knows(slot):
            return []
        start_ms, slot_ms = self._clock.slot_start_market_ms(slot), self._params.slot_ms
        planned = await asyncio.to_thread(self.manager.plan_slot, start_ms, slot_ms, view)
        return sealing.calls(slot, self._calls(slot, planned.orders))

    def _reveal_due(self) -> None:
        """Reveal what is sealed, at once: the window is short, and planning may take its time."""
        if self._sealing is None:
            return
        overtaken = self.outbox.overtaken()
        said = [signed for signed in self.outbox.undecided if signed not in overtaken]
        try:
            due = self._sealing.due(self._now_ms(), said)
        except QueryError as error:
            log.warning("what is sealed cannot be revealed: %s", error)
            return
        if due:
            self.outbox.say_all([self.outbox.sign(call, valid_ms) for call, valid_ms in due])

    @property
    def _has_orders(self) -> bool:
        return self._params.mechanism in MECHANISMS_WITH_ORDERS

    def _waits(self, slot: int) -> bool:
        return trading.waiting(self.outbox.undecided, slot)

    def _tell_outcomes(self, target: int) -> None:
        """Tell the agent what rounds have brought: those at gates once, and those before."""
        number = client.home(self._query, self._address).number
        told = max(self._told_slot, target - 1 - OUTCOMES_TOLD_MAX)
        outcomes = []
        for slot in [*range(told + 1, target), *self._open.known()]:
            start_ms = self._clock.slot_start_market_ms(slot)
            found = trading.outcome(self._query, slot, start_ms, number)
            if slot < target and not found.final:
                # Its clearing is late: it is told with the next.
                break
            self._told_slot = max(self._told_slot, min(slot, target - 1))
            outcomes.append(found._replace(final=slot < target))
        self.manager.observe(outcomes)

    def _calls(self, target: int, orders: list[Order]) -> list[client.Call]:
        """Return what the market's mechanism wants to hear of a plan for a slot."""
        if self._params.mechanism == "sharing":
            return []
        if self._params.mechanism != "request_offer":
            return [trading.call_of(order, target) for order in orders]
        if self._requests is None:
            number = client.home(self._query, self._address).number
            slot_ms, outbox = self._params.slot_ms, self.outbox.undecided
            self._requests = Requests(self._query, number, slot_ms)
            # By a life before this one: this slot's energy would be asked or offered for twice.
            if spoken(self._query, number, target * slot_ms, slot_ms, outbox):
                return []
        return self._requests.plan(target, orders)

    def _offer_due(self) -> None:
        """Offer what is to spare to the neighbours' requests."""
        if self._requests is None or not self.trades or self._behind() > BEHIND_MAX:
            return
        valid_ms = self._now_ms() + OFFER_VALID_MS
        calls = self._requests.offers()
        if calls:
            self.outbox.say_all([self.outbox.sign(call, valid_ms) for call in calls])

    def _begin_at(self, now_ms: int) -> None:
        """A home without a past, or with too long a gap, begins with the slot after this one."""
        state = self.manager.state
        next_ms = self._clock.slot_start_market_ms(self._clock.slot_at(now_ms) + 1)
        gap_ms = next_ms - (state.next_slot_ms or 0)
        if state.next_slot_ms is None or gap_ms > CATCH_UP_SLOTS_MAX * self._params.slot_ms:
            self.manager.state = msgspec.structs.replace(
                state, next_slot_ms=next_ms, committed_wh={}
            )

    def _note_contracts(self, slots: Iterable[int]) -> None:
        """Tell the manager what is contracted in slots that are not delivered."""
        number = client.home(self._query, self._address).number
        for slot in slots:
            start_ms = self._clock.slot_start_market_ms(slot)
            if start_ms < (self.manager.state.next_slot_ms or 0):
                continue
            net_wh = trading.contracted_wh(self._query, self._params, slot, number)
            if net_wh:
                self.manager.commit(start_ms, net_wh)

    def _market_view(self, slot: int) -> MarketView:
        return market_view(self._query, self._params, slot, self._address)

    # -- after the slot ----------------------------------------------------------------------

    async def _deliver_due(self) -> None:
        now_ms = self._now_ms()
        state = self.manager.state
        if state.next_slot_ms is None:
            return
        self._begin_at(now_ms)
        slot = (self.manager.state.next_slot_ms or 0) // self._params.slot_ms
        last = self._clock.slot_at(now_ms) - 1
        until = self._until_slot()
        if until is not None:
            last = min(last, until - 1)
        while slot <= last:
            if now_ms >= self._clock.window_end_real_ms(slot):
                # Nobody takes its reading any more; the manager makes it up with the next slot.
                slot += 1
                continue
            if self._awaits_meter(slot, now_ms):
                return
            self._note_contracts([slot])
            delivery = await asyncio.to_thread(
                self.manager.deliver,
                self._clock.slot_start_market_ms(slot),
                self._params.slot_ms,
                self._market_view(slot),
            )
            self.deliveries = [*self.deliveries, delivery][-DELIVERIES_KEPT:]
            self._keep_detail(slot, delivery)
            self.battery.take_soc()
            self.devices.take(self._clock.market_ms(self._now_ms()), is_slot_over=True)
            energies = delivery.import_wh, delivery.export_wh
            meter = self.outbox.meter
            call = client.post_reading(slot, *energies, self.outbox.next_nonce(meter))
            valid_ms = min(now_ms + READING_VALID_MS, self._clock.window_end_real_ms(slot))
            self.outbox.say_all([self.outbox.sign(call, valid_ms, meter)])
            slot += 1

    def _keep_detail(self, slot: int, delivery: Delivery) -> None:
        if self._detail is None:
            return
        try:
            self._detail.keep(detail_of(slot, delivery, self._live))
        except StoreError as error:
            # Nothing is settled by it: the home goes on.
            log.warning("slot %d cannot be disclosed: %s", slot, error)

    def _awaits_meter(self, slot: int, now_ms: int) -> bool:
        """Tell whether a register is yet to say what the end of a slot took."""
        end_ms = self._clock.slot_start_market_ms(slot + 1)
        return self._live is not None and self._live.awaits(end_ms, self._clock.market_ms(now_ms))

    # -- small helpers -----------------------------------------------------------------------

    def _until_slot(self) -> int | None:
        """Return the first slot without this home, once it leaves."""
        return client.home(self._query, self._address).until_slot

    def _remember(self) -> None:
        self._memory.save(self.manager.state, self._now_ms())
