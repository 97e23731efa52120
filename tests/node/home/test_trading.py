"""A household in a market of contracts: what it posts, hears and changes from round to round.

One home's household over the application alone: no network, no clock, blocks where a test puts
them. Its neighbours' orders are posted by hand.
"""

from pathlib import Path
from typing import Any

import pytest

from hems.bid import BidSettings
from hems.config import CommunityHome, HomeConfig
from hems.errors import AgentError
from hems.home import HomeEnergyManager, MarketView, SlotPlan
from hems.sources.checked import CheckedSource
from market import client
from market.app import BlockResult
from market.client import Call
from node.home import trading
from node.home.household import Household
from node.home.trading import (
    AUCTION_SLOTS_MAX,
    EARLY_SLOTS_MAX,
    REVISIONS_PER_SLOT_MAX,
    OpenSlots,
    early_slots,
)
from node.keys.homekeys import HomeKeys
from node.status import Finality
from tests.hems.test_home import Fixed
from tests.market.street import GATE_MS, HOME_KEYS, SLOT, SLOT_MS, START_MS, Street, params
from wire.transaction import CheckedTransaction, Refused

TICK_MS = 60_000


class Lane:
    """A market, and home 1's household in it."""

    def __init__(self, memory: Path, agent: str = "mpc", **market: Any) -> None:
        self.street = Street(params(4, **market))
        self.memory = memory
        self.agent = agent
        self.load_wh = 200
        self.said: list[CheckedTransaction] = []
        self.household = self.wake_up()

    def wake_up(self) -> Household:
        """Begin the household, or begin it again from what it has kept."""
        settings: dict[str, int | float | str | bool] = {} if self.agent == "mpc" else {"seed": 1}
        household = Household(
            HomeConfig(
                source=CommunityHome(home=0),
                # Truthful: suggested prices move with every trade.
                bidding=BidSettings(shading=0),
                agent=self.agent,
                agent_settings=settings,
            ),
            self.street.app.params,
            self.street.query,
            self.street.app.nonce,
            self._submit,
            Finality(),
            HomeKeys.of(HOME_KEYS[0]),
            self.memory,
            lambda: self.street.time_ms,
            lambda: 0,
        )
        self.household = household
        self.needs(self.load_wh)
        return household

    def _submit(self, raw: bytes) -> CheckedTransaction:
        (signed,) = [s for s in self.household.outbox.undecided if s.raw == raw]
        self.said.append(signed)
        return signed

    def needs(self, load_wh: int, pv_wh: int = 0) -> None:
        """Let the home's load and production be these in every slot, past ones too."""
        self.load_wh = load_wh
        before = self.household.manager
        source = CheckedSource(Fixed(load_wh, pv_wh))
        self.household.manager = HomeEnergyManager(before.config, before.state, source)

    async def think(self) -> list[CheckedTransaction]:
        """Let the household trade as its clock and its events say; return what it says."""
        self.said = []
        await self.household._trade_due()
        return self.said

    def block(self, *calls: tuple[int, Call], at_ms: int | None = None) -> BlockResult:
        """Put what the household has said, and neighbours' calls, in a block."""
        txs = [*self.said, *(self.street.sign(HOME_KEYS[n - 1], call) for n, call in calls)]
        self.said = []
        result = self.street.block(txs, at_ms)
        for receipt in result.receipts:
            assert receipt.code == "ok", receipt.message
        self.household.applied(None, None, result)  # type: ignore[arg-type]
        return result

    async def round(self, *calls: tuple[int, Call]) -> list[CheckedTransaction]:
        """Hold the next tick's round, over neighbours' calls too; return what is said of it."""
        self.block(*calls)
        self.block(at_ms=(self.street.time_ms - START_MS) // TICK_MS * TICK_MS + TICK_MS)
        return await self.think()

    def mine(self, slot: int) -> list[client.Order]:
        return client.orders_of(self.street.query, slot, 1)


def entries(said: list[CheckedTransaction]) -> list[tuple[str, int]]:
    return [(signed.tx.entry, signed.tx.args["slot"]) for signed in said]


async def test_without_early_rounds_only_the_next_gates_slot_is_traded(tmp_path: Path) -> None:
    lane = Lane(tmp_path / "home")
    assert entries(await lane.think()) == [("post_order", SLOT)]
    lane.block()
    assert await lane.think() == []
    (order,) = lane.mine(SLOT)
    assert (order.side, order.energy_wh) == ("buy", 200)


async def test_with_intraday_rounds_the_following_slots_are_traded_too(tmp_path: Path) -> None:
    lane = Lane(tmp_path / "home", intraday_every_ms=TICK_MS)
    slots = [slot for _, slot in entries(await lane.think())]
    assert slots == list(range(SLOT, SLOT + 1 + EARLY_SLOTS_MAX))
    lane.block()
    assert all(len(lane.mine(slot)) == 1 for slot in slots)


async def test_a_slot_the_agent_fails_at_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lane = Lane(tmp_path / "home", intraday_every_ms=TICK_MS)
    plan = HomeEnergyManager.plan_slot

    def failing(
        home: HomeEnergyManager, slot_start_ms: int, slot_ms: int, market: MarketView
    ) -> SlotPlan:
        if slot_start_ms == (SLOT + 1) * SLOT_MS:
            raise AgentError("it divided by nothing")
        return plan(home, slot_start_ms, slot_ms, market)

    def deaf(home: HomeEnergyManager, outcomes: object) -> None:
        raise AgentError("it does not listen")

    monkeypatch.setattr(HomeEnergyManager, "plan_slot", failing)
    monkeypatch.setattr(HomeEnergyManager, "observe", deaf)
    slots = [slot for _, slot in entries(await lane.think())]
    assert slots == [SLOT, *range(SLOT + 2, SLOT + 1 + EARLY_SLOTS_MAX)]
    assert f"slot {SLOT + 1} is left to the grid: it divided by nothing" in caplog.text
    assert "it does not listen" in caplog.text


async def test_what_a_round_has_brought_is_not_asked_for_again(tmp_path: Path) -> None:
    lane = Lane(tmp_path / "home", intraday_every_ms=TICK_MS)
    await lane.think()
    said = await lane.round((2, client.post_order(SLOT + 3, "sell", 120, 80_000)))
    assert lane.household.manager.state.committed_wh == {(SLOT + 3) * SLOT_MS: 120}
    # The other 80 Wh stand already, at a price that is still right.
    assert said == []
    (order,) = lane.mine(SLOT + 3)
    assert (order.energy_wh, order.residual_wh) == (200, 80)


async def test_after_a_round_what_is_wrong_is_withdrawn_and_posted_anew(tmp_path: Path) -> None:
    lane = Lane(tmp_path / "home", intraday_every_ms=TICK_MS)
    await lane.think()
    lane.block()
    old = {slot: lane.mine(slot)[0].order_id for slot in range(SLOT, SLOT + 9)}
    lane.needs(500)
    # Without a round nothing is looked at again; with one all that is open is.
    assert await lane.think() == []
    said = await lane.round((2, client.post_order(SLOT + 3, "sell", 120, 80_000)))
    for slot in range(SLOT, SLOT + 9):
        withdrawn = [s.tx.args for s in said if s.tx.entry == "withdraw_order"]
        assert {"slot": slot, "order_id": old[slot]} in withdrawn
    lane.block()
    assert [(o.energy_wh, o.residual_wh) for o in lane.mine(SLOT)] == [(500, 500)]
    # What was bought stays bought; of the rest the home now wants more.
    assert [(o.energy_wh, o.residual_wh) for o in lane.mine(SLOT + 3)] == [(120, 0), (380, 380)]


async def test_a_home_that_is_told_not_to_trade_takes_back_what_stands(tmp_path: Path) -> None:
    lane = Lane(tmp_path / "home", intraday_every_ms=TICK_MS)
    await lane.think()
    lane.block()
    lane.household.trade(False)
    said = entries(await lane.think())
    assert said == [("withdraw_order", slot) for slot in range(SLOT, SLOT + 9)]
    lane.block()
    assert not any(order.residual_wh for slot in range(SLOT, SLOT + 9) for order in lane.mine(slot))
    assert await lane.round() == []
    lane.household.trade(True)
    assert {entry for entry, _ in entries(await lane.round())} == {"post_order"}
    # A restart does not change its mind.
    lane.household.trade(False)
    assert not lane.wake_up().trades


async def test_the_changes_of_a_slot_are_bounded(tmp_path: Path) -> None:
    lane = Lane(tmp_path / "home", intraday_every_ms=TICK_MS)
    await lane.think()
    said = []
    for number in range(REVISIONS_PER_SLOT_MAX + 3):
        lane.needs(500 if number % 2 else 900)
        neighbour = 2 + number % 2
        said += await lane.round((neighbour, client.post_order(SLOT + 1, "sell", 10, 80_000)))
    posted = [slot for entry, slot in entries(said) if entry == "post_order"]
    assert posted.count(SLOT + 2) == REVISIONS_PER_SLOT_MAX


async def test_while_an_order_is_undecided_its_slot_is_left_alone(tmp_path: Path) -> None:
    lane = Lane(tmp_path / "home", intraday_every_ms=TICK_MS)
    undecided = await lane.think()
    lane.said = []
    lane.needs(500)
    assert await lane.round((2, client.post_order(SLOT + 3, "sell", 120, 80_000))) == []
    assert await lane.round((3, client.post_order(SLOT + 3, "buy", 120, 90_000))) == []
    lane.said = undecided
    lane.block()
    assert ("withdraw_order", SLOT) in entries(await lane.think())


async def test_ahead_of_an_auction_its_slots_are_traded(tmp_path: Path) -> None:
    at_ms = START_MS + 20 * 60_000
    lane = Lane(tmp_path / "home", auctions=((at_ms, SLOT + 20, 4),))
    assert entries(await lane.think()) == [("post_order", SLOT)]
    lane.block()
    lane.block(at_ms=SLOT * SLOT_MS - GATE_MS - START_MS)
    slots = [slot for _, slot in entries(await lane.think())]
    assert slots == [SLOT + 1, *range(SLOT + 20, SLOT + 24)]
    lane.block((2, client.post_order(SLOT + 21, "sell", 150, 80_000)))
    lane.block(at_ms=at_ms - START_MS)
    await lane.think()
    assert lane.household.manager.state.committed_wh == {(SLOT + 21) * SLOT_MS: 150}
    assert lane.mine(SLOT + 21)[0].residual_wh == 50


async def test_what_is_too_much_at_once_is_traded_after_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trading, "CALLS_AT_ONCE_MAX", 3)
    lane = Lane(tmp_path / "home", intraday_every_ms=TICK_MS)
    slots: list[int] = []
    while said := entries(await lane.think()):
        assert len(said) <= 3
        slots += [slot for _, slot in said]
        lane.block()
    assert slots == list(range(SLOT, SLOT + 1 + EARLY_SLOTS_MAX))


async def test_a_restart_posts_nothing_twice_and_keeps_the_agents_memory(tmp_path: Path) -> None:
    lane = Lane(tmp_path / "home", "hu_consumer")
    (first,) = await lane.think()
    assert first.tx.args["price_micro_per_kwh"] == 199_000
    lane.wake_up()
    # It is in the outbox and not decided: wait for that.
    assert await lane.think() == []
    lane.said = [first]
    lane.block()
    lane.wake_up()
    assert await lane.think() == []
    lane.block(at_ms=SLOT * SLOT_MS - GATE_MS - START_MS)
    # Nobody sold: it bids a step more in the next slot, and has heard of the first slot once.
    (second,) = await lane.think()
    assert second.tx.args["slot"] == SLOT + 1
    assert second.tx.args["price_micro_per_kwh"] == 200_000
    memory = lane.household.manager.state.agent["memory"]
    assert (memory["cycles"], list(memory["pending"])) == (1, [str((SLOT + 1) * SLOT_MS)])


async def test_what_was_undecided_at_a_start_is_looked_at_once_it_is_decided(
    tmp_path: Path,
) -> None:
    lane = Lane(tmp_path / "home")
    (first,) = await lane.think()
    lane.wake_up()
    lane.needs(700)
    assert await lane.think() == []
    lane.said = [first]
    lane.block()
    assert entries(await lane.think()) == [("withdraw_order", SLOT), ("post_order", SLOT)]


async def test_shortly_before_the_gate_nothing_is_withdrawn(tmp_path: Path) -> None:
    lane = Lane(tmp_path / "home", intraday_every_ms=TICK_MS)
    await lane.think()
    lane.block((2, client.post_order(SLOT + 1, "sell", 10, 80_000)))
    gate_ms = SLOT * SLOT_MS - GATE_MS - START_MS
    lane.block(at_ms=gate_ms - 2_000)
    lane.needs(900)
    slots = {slot for _, slot in entries(await lane.think())}
    assert slots == set(range(SLOT + 1, SLOT + 1 + EARLY_SLOTS_MAX))


async def test_the_agent_hears_what_was_paid(tmp_path: Path) -> None:
    fees = ((0, (1_000, 0, ())),)
    lane = Lane(tmp_path / "home", "hu_consumer", fees=fees)
    await lane.think()
    lane.block((2, client.post_order(SLOT, "sell", 200, 100_000)))
    lane.block(at_ms=SLOT * SLOT_MS - GATE_MS - START_MS)
    await lane.think()
    # 200 Wh, worth 40,000 at the tariff, cost 20,000 and 200 of fees: a rise, so it bids more, but
    # no more than it is worth.
    memory = lane.household.manager.state.agent["memory"]
    assert memory["profit_micro"] == 40_000 - 20_200
    assert memory["price_micro_per_kwh"] == 200_000


async def test_energy_of_the_grid_is_no_purchase_to_the_agent(tmp_path: Path) -> None:
    lane = Lane(tmp_path / "home", "ce")
    await lane.think()
    lane.block()
    lane.block(at_ms=SLOT * SLOT_MS - GATE_MS - START_MS)
    (trade,) = client.trades_of_slot(lane.street.query, SLOT)
    assert trade.backstop
    await lane.think()
    assert lane.household.manager.state.committed_wh == {}


def test_early_slots_are_those_an_early_round_will_clear() -> None:
    now = 1_000 * SLOT_MS
    assert early_slots(1_001, now, SLOT_MS, False, []) == []
    soon = [(now + SLOT_MS, 1_000, 4), (now + SLOT_MS + 1, 1_010, 4), (now, 1_020, 4)]
    assert early_slots(1_001, now, SLOT_MS, False, soon) == [1_002, 1_003]
    far = early_slots(1_001, now, SLOT_MS, True, [(now + 1, 1_040, 1_000)])
    assert far[:EARLY_SLOTS_MAX] == list(range(1_002, 1_002 + EARLY_SLOTS_MAX))
    assert far[EARLY_SLOTS_MAX:] == list(range(1_040, 1_001 + AUCTION_SLOTS_MAX + 1))


def test_open_slots_are_forgotten_at_their_gate() -> None:
    slots = OpenSlots()
    for slot in (5, 6):
        slots.looked_at(slot)
    assert slots.stale() == []
    slots.moved()
    assert slots.stale() == [5, 6]
    slots.looked_at(5)
    assert slots.stale() == [6]
    slots.put_off(5)
    slots.close(6)
    assert (slots.stale(), slots.known(), 5 in slots) == ([6], [6], False)


@pytest.mark.parametrize("mechanism", ["request_offer", "sharing"])
async def test_markets_without_orders_have_nothing_to_revise(
    tmp_path: Path, mechanism: str
) -> None:
    lane = Lane(tmp_path / "home", mechanism=mechanism)
    posted = {s.tx.entry for s in await lane.think()}
    assert posted == ({"post_request"} if mechanism == "request_offer" else set())
    lane.block()
    assert await lane.think() == []


async def test_a_restart_asks_its_neighbours_for_nothing_twice(tmp_path: Path) -> None:
    lane = Lane(tmp_path / "home", mechanism="request_offer")
    (first,) = await lane.think()
    assert first.tx.args["energy_wh"] == 200
    # First it is in the outbox and not decided, then it takes offers.
    for _ in range(2):
        lane.wake_up()
        assert await lane.think() == []
        lane.said = [first]
        if not client.open_requests(lane.street.query):
            lane.block()


async def test_a_restart_offers_nothing_twice(tmp_path: Path) -> None:
    lane = Lane(tmp_path / "home", mechanism="request_offer")
    start_ms = SLOT * SLOT_MS
    lane.block((2, client.post_request(start_ms, start_ms + SLOT_MS, 500)))

    async def offered() -> list[CheckedTransaction]:
        lane.needs(0, pv_wh=200)
        assert await lane.think() == []
        lane.household._offer_due()
        return lane.said

    offers = await offered()
    assert {s.tx.entry for s in offers} == {"post_offer"}
    for _ in range(2):
        lane.wake_up()
        assert await offered() == []
        lane.said = offers
        if not client.offers(lane.street.query, 1):
            lane.block()


async def test_a_reading_that_finds_no_room_is_signed_again(tmp_path: Path) -> None:
    lane = Lane(tmp_path / "home")
    household = lane.household
    lane.needs(200)

    def full(raw: bytes) -> CheckedTransaction:
        raise Refused("mempool_full", "too much is waiting for a block; try again later")

    household.outbox._submit, submit = full, household.outbox._submit
    await lane.think()
    slot = (household.manager.state.next_slot_ms or 0) // SLOT_MS
    lane.street.to_end(slot)
    await household._deliver_due()
    # The order is let go.
    (unheard,) = household.outbox.undecided
    assert unheard.tx.entry == "post_reading"
    assert household.outbox.refused == {"mempool_full": 2}
    # Nor is it lost by a restart into a node that is still full.
    household.outbox.say_again()
    assert list(household.outbox.undecided) == [unheard]
    household.outbox._submit = submit
    lane.street.to_end(slot + 1)
    await household._deliver_due()
    lane.block()
    household.outbox.say_anew()
    (anew,) = lane.said
    lane.block()
    assert anew.tx.args["slot"] == unheard.tx.args["slot"] == slot
    assert not household.outbox.undecided


async def test_an_order_that_was_overtaken_is_let_go(tmp_path: Path) -> None:
    lane = Lane(tmp_path / "home")
    early, late = (
        lane.household.outbox.sign(
            client.post_order(SLOT, "buy", energy_wh, 200_000), START_MS + GATE_MS
        )
        for energy_wh in (100, 150)
    )
    lane.said = [late]
    lane.block()
    lane.household.outbox.say_anew()
    assert lane.said == []
    assert early not in lane.household.outbox.undecided
    assert [order.energy_wh for order in lane.mine(SLOT)] == [150]
