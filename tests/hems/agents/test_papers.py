"""The papers' agents, branch by branch, on vectors worked out by hand.

Prices in micro/kWh. Draws are those of the agents' own keys, so an expected price is computed from
the draw where a formula has one.
"""

import pytest

from hems.agents.base import Outcome, Prior, Situation
from hems.agents.ce import CeAgent, CeSettings
from hems.agents.draws import shuffled, uniform
from hems.agents.hu import Climb, Profits, climbed
from hems.agents.hu_consumer import HuConsumerAgent, HuConsumerMemory, HuConsumerSettings
from hems.agents.hu_producer import HuProducerAgent, HuProducerMemory, HuProducerSettings
from hems.agents.hu_prosumer import HuProsumerAgent
from hems.agents.hu_regulator import HuRegulatorAgent, HuRegulatorSettings
from hems.agents.hu_speculator import HuSpeculatorAgent, HuSpeculatorMemory, HuSpeculatorSettings
from hems.agents.zero_intelligence import ZeroIntelligenceAgent
from hems.bid import Band, Order, Segment, Suggested
from hems.errors import ConfigError

BAND = Band(10_000, 60_000)
SLOT_MS = 900_000


def at(number: int, **changes: object) -> Situation:
    told = Situation(number * SLOT_MS, SLOT_MS, BAND, Suggested(40_000, 30_000))
    return told._replace(export_room_wh=10_000)._replace(**changes)


def came(number: int, **changes: object) -> Outcome:
    return Outcome(number * SLOT_MS, BAND)._replace(**changes)


# -- CE ------------------------------------------------------------------------------------------


def test_ce_asks_the_suggested_price_times_a_seeded_factor() -> None:
    agent = CeAgent(CeSettings(seed=7))
    prices = []
    for number in range(200):
        (order,) = agent.orders(at(number, surplus_wh=500))
        assert (order.side, order.energy_wh) == ("ask", 500)
        factor = 1 + 0.1 * (2 * uniform(7, "ce", number * SLOT_MS) - 1)
        assert order.price_micro_per_kwh == round(40_000 * factor)
        prices.append(order.price_micro_per_kwh)
    # U(-0.1, 0.1): both ends are come near to, and neither is passed.
    assert 36_000 <= min(prices) < 36_400
    assert 43_600 < max(prices) <= 44_000
    assert CeAgent(CeSettings(seed=8)).orders(at(0, surplus_wh=500)) != agent.orders(
        at(0, surplus_wh=500)
    )


def test_ce_asks_within_the_band_and_for_no_more_than_may_go_out() -> None:
    agent = CeAgent(CeSettings(spread=0))
    high = at(0, surplus_wh=500, export_room_wh=300, suggested=Suggested(70_000, 0))
    assert agent.orders(high) == [Order("ask", 300, 60_000)]
    assert agent.orders(at(0, surplus_wh=500, suggested=None)) == [Order("ask", 500, 35_000)]


def test_ce_bids_for_all_its_need_at_the_tariff_and_else_for_nothing() -> None:
    assert CeAgent().orders(at(0, need_wh=321)) == [Order("bid", 321, 60_000)]
    assert CeAgent().orders(at(0)) == []
    with pytest.raises(ConfigError, match="spread"):
        CeSettings(spread=1.0)


def test_an_order_of_ones_own_is_the_same_however_things_come() -> None:
    orders = [shuffled(seed, range(1, 9)) for seed in range(40)]
    assert all(sorted(order) == list(range(1, 9)) for order in orders)
    assert shuffled(7, [3, 1, 2]) == shuffled(7, [2, 3, 1])
    assert len({order[0] for order in orders}) == 8


# -- Hu 3 and 4: the rule ------------------------------------------------------------------------


def profits(now: int, before: int) -> Profits:
    return Profits(now, before, 100)


@pytest.mark.parametrize("direction", [1, -1])
def test_printed_the_value_rises_with_profit_and_falls_with_it(direction: int) -> None:
    start = Climb(50, 70, direction)
    assert climbed(start, 1000, profits(901, 800), 0.9, "literal") == (1000, Climb(951, 70, 1))
    assert climbed(start, 1000, profits(799, 900), 0.9, "literal") == (-1000, Climb(50, 869, -1))


def test_a_change_of_exactly_xi_is_none() -> None:
    # pol = 30 / (30 + 10): a draw below it is a step up of that share, at or above it one down.
    start = Climb(30, 10)
    for now in (700, 900):
        up = climbed(start, 1000, profits(now, 800), 0.7499, "literal")
        assert up == (750, Climb(30, 10, 1))
        down = climbed(start, 1000, profits(now, 800), 0.75, "hill_climb")
        assert down == (-750, Climb(30, 10, -1))


def test_the_first_random_step_is_up_or_down_alike() -> None:
    assert climbed(Climb(), 1000, profits(0, 0), 0.499, "literal")[0] == 499
    assert climbed(Climb(), 1000, profits(0, 0), 0.5, "literal")[0] == -500


def test_losses_count_as_nothing() -> None:
    assert climbed(Climb(5, 6), 1000, profits(-500, -900), 0.1, "literal")[1] == Climb(5, 6, 1)
    assert climbed(Climb(5, 6), 1000, profits(-900, -500), 0.1, "literal")[1] == Climb(5, 6, -1)


def test_hill_climbing_goes_on_where_it_helped_and_turns_where_it_did_not() -> None:
    falling = Climb(0, 0, -1)
    # A step down that raised the profit is followed by another; as printed it would go up.
    assert climbed(falling, 1000, profits(900, 500), 0.1, "hill_climb") == (
        -1000,
        Climb(0, 900, -1),
    )
    assert climbed(falling, 1000, profits(500, 900), 0.1, "hill_climb") == (1000, Climb(500, 0, 1))


# -- Hu 1 to 4: the producer ---------------------------------------------------------------------


def producer(**settings: object) -> HuProducerAgent:
    usual = {"cost_micro_per_kwh": 16_000, **settings}
    return HuProducerAgent(HuProducerSettings(**usual))  # type: ignore[arg-type]


def cycle(agent: HuProducerAgent, number: int, sold_wh: int, most_wh: int = 1_000) -> Order:
    """Ask, then let so much be sold at the price asked; return the order."""
    (order,) = agent.orders(at(number, surplus_wh=most_wh))
    earned = sold_wh * order.price_micro_per_kwh // 1000
    agent.observe(came(number, sold_wh=sold_wh, earned_micro=earned))
    return order


def test_the_producer_begins_a_step_above_cost_with_all_it_has() -> None:
    assert producer().orders(at(0, surplus_wh=1_600)) == [Order("ask", 1_600, 17_000)]
    agent = HuProducerAgent()
    assert agent.orders(at(0, surplus_wh=900)) == [Order("ask", 900, 11_000)]
    agent = producer(price_micro_per_kwh=30_000)
    assert agent.orders(at(0, surplus_wh=900)) == [Order("ask", 900, 30_000)]
    assert agent.orders(at(1, need_wh=900)) == []


def test_the_producers_price_rises_with_its_profit() -> None:
    agent = producer()
    prices = [cycle(agent, number, 1_000).price_micro_per_kwh for number in range(4)]
    # Profits 1000, 2000, 3000: each more than 100 above the last.
    assert prices == [17_000, 18_000, 19_000, 20_000]
    assert agent.memory.price == Climb(1_000 + 2_000 + 3_000 + 4_000, 0, 1)


def test_the_producers_price_falls_with_its_profit() -> None:
    agent = producer()
    cycle(agent, 0, 1_000)
    cycle(agent, 1, 1_000)
    # 200 Wh at 19,000 - 16,000 is 600: 1400 less than before.
    assert cycle(agent, 2, 200).price_micro_per_kwh == 19_000
    assert agent.memory.price_micro_per_kwh == 18_000
    assert agent.memory.price == Climb(3_000, 600, -1)


def test_who_sells_nothing_has_a_loss_and_is_back_at_cost() -> None:
    agent = producer()
    cycle(agent, 0, 1_000)
    cycle(agent, 1, 0)
    assert agent.memory.profit_micro == -1_000
    assert agent.memory.price_micro_per_kwh == 16_000
    # As printed a loss is Hu 1's sigma, whatever it is.
    agent = producer(breakdown_micro=0)
    cycle(agent, 0, 1_000)
    cycle(agent, 1, 0)
    assert (agent.memory.profit_micro, agent.memory.price_micro_per_kwh) == (0, 17_000)


def test_an_unchanged_profit_takes_a_random_step() -> None:
    agent = producer(seed=3)
    agent.memory = HuProducerMemory(price_micro_per_kwh=20_000, profit_micro=4_000, cycles=5)
    cycle(agent, 0, 1_000)
    draw = uniform(3, "hu_producer", "price", 5)
    assert agent.memory.price_micro_per_kwh == 20_000 + round(1000 * draw) * (
        1 if draw < 0.5 else -1
    )


def test_the_quantity_moves_once_the_price_has_stalled() -> None:
    agent = producer(stall_rounds=2, step_wh=100)
    agent.memory = HuProducerMemory(price_micro_per_kwh=20_000, profit_micro=4_000)
    # Profits fall: 800 x 4000, then about 500 x 3000; only the second stall moves the quantity.
    assert cycle(agent, 0, 800).energy_wh == 1_000
    assert agent.memory.withheld_wh == 0
    assert cycle(agent, 1, 500).energy_wh == 1_000
    assert agent.memory.withheld_wh == 100
    assert agent.memory.quantity == Climb(0, agent.memory.profit_micro, -1)
    # Then it goes on, up to what there is, with the sums of its own.
    assert cycle(agent, 2, 900).energy_wh == 900
    assert agent.memory.withheld_wh == 0
    assert agent.memory.quantity.up_micro == agent.memory.profit_micro
    assert cycle(agent, 3, 1_000).energy_wh == 1_000
    assert agent.memory.withheld_wh == 0


def test_a_cycle_with_more_profit_ends_the_stall() -> None:
    agent = producer(stall_rounds=2, step_wh=100)
    agent.memory = HuProducerMemory(price_micro_per_kwh=20_000, profit_micro=4_000)
    # Less than before, then more, then less: never two in a row.
    for number, (sold_wh, stalled) in enumerate(((500, 1), (900, 0), (400, 1), (900, 0))):
        assert cycle(agent, number, sold_wh).energy_wh == 1_000
        assert agent.memory.stalled == stalled
    assert (agent.memory.withheld_wh, agent.memory.quantity) == (0, Climb())


def test_the_quantity_stays_between_nothing_and_what_there_is() -> None:
    agent = producer(stall_rounds=1, step_wh=5_000, breakdown_micro=500)
    agent.memory = HuProducerMemory(price_micro_per_kwh=20_000, profit_micro=4_000, stalled=1)
    cycle(agent, 0, 100)
    assert agent.memory.withheld_wh == 1_000
    # It offers nothing, and that is a cycle too: otherwise it would stay there for ever.
    assert agent.orders(at(1, surplus_wh=1_000)) == []
    agent.observe(came(1))
    assert (agent.memory.profit_micro, agent.memory.cycles) == (-500, 2)


def test_a_slot_without_surplus_or_not_cleared_at_the_gate_is_no_cycle() -> None:
    agent = producer()
    agent.orders(at(0))
    agent.observe(came(0))
    agent.orders(at(1, surplus_wh=500))
    agent.observe(came(1, sold_wh=500, earned_micro=8_500, final=False))
    assert agent.memory.cycles == 0
    agent.observe(came(1, sold_wh=500, earned_micro=8_500))
    agent.observe(came(1, sold_wh=500, earned_micro=8_500))
    assert agent.memory.cycles == 1


def test_slots_that_never_clear_are_forgotten() -> None:
    agent = producer()
    for number in range(300):
        agent.orders(at(number, surplus_wh=500))
    assert len(agent.memory.pending) == 128
    assert str(299 * SLOT_MS) in agent.memory.pending


# -- Hu 5: the consumer --------------------------------------------------------------------------


def consumer(price: int, profit: int = 0, **settings: object) -> HuConsumerAgent:
    usual = {"value_micro_per_kwh": 50_000, **settings}
    return HuConsumerAgent(
        HuConsumerSettings(**usual),  # type: ignore[arg-type]
        HuConsumerMemory(price_micro_per_kwh=price, profit_micro=profit),
    )


def buys(agent: HuConsumerAgent, number: int, got_wh: int, paid: int) -> int | None:
    """Bid for 1000 Wh; return the price afterwards."""
    (order,) = agent.orders(at(number, need_wh=1_000))
    assert (order.side, order.energy_wh) == ("bid", 1_000)
    agent.observe(came(number, bought_wh=got_wh, paid_micro=paid))
    return agent.memory.price_micro_per_kwh


def test_the_consumer_begins_a_step_below_value() -> None:
    assert HuConsumerAgent().orders(at(0, need_wh=70)) == [Order("bid", 70, 59_000)]
    agent = HuConsumerAgent(HuConsumerSettings(value_micro_per_kwh=48_000))
    assert agent.orders(at(0, need_wh=70)) == [Order("bid", 70, 47_000)]
    assert agent.orders(at(1, surplus_wh=70)) == []


def test_the_consumers_bid_rises_and_falls_with_its_profit() -> None:
    assert buys(consumer(40_000, profit=9_899), 0, 1_000, 40_000) == 41_000
    assert buys(consumer(40_000, profit=10_101), 0, 1_000, 40_000) == 39_000
    assert buys(consumer(50_000, profit=0), 0, 1_000, 40_000) == 50_000


def test_a_demand_that_is_not_met_is_a_loss_and_the_bid_is_back_at_value() -> None:
    agent = consumer(40_000, profit=9_000)
    assert buys(agent, 0, 999, 40_000) == 50_000
    assert agent.memory.profit_micro == -1_000
    assert buys(agent, 1, 0, 0) == 50_000
    # Met again that is more profit, and the value is the most.
    assert buys(agent, 2, 1_000, 40_000) == 50_000
    assert agent.memory.profit_micro == 10_000
    # As printed a loss is what is below 0.
    assert buys(consumer(40_000, profit=9_000, unmet_micro=0), 0, 0, 0) == 39_000


@pytest.mark.parametrize("before", [9_900, 10_000, 10_100])
def test_between_the_consumer_takes_a_random_step(before: int) -> None:
    agent = consumer(40_000, profit=before, seed=5)
    size, side = (uniform(5, "hu_consumer", key, 0) for key in ("size", "side"))
    expected = 40_000 + round(1_000 * size) * (1 if side < 0.5 else -1)
    assert buys(agent, 0, 1_000, 40_000) == expected


def test_a_consumer_that_pays_more_than_its_value_is_back_at_it() -> None:
    assert buys(consumer(40_000), 0, 1_000, 51_000) == 50_000


def test_the_consumers_value_is_the_tariff_of_each_slot() -> None:
    agent = consumer(59_000, value_micro_per_kwh=None)
    low = at(0, need_wh=100, band=Band(10_000, 30_000))
    assert agent.orders(low) == [Order("bid", 100, 30_000)]


def test_a_prosumer_is_one_or_the_other_with_prices_of_its_own() -> None:
    agent = HuProsumerAgent()
    assert agent.orders(at(0, surplus_wh=100)) == [Order("ask", 100, 11_000)]
    agent.observe(came(0, sold_wh=100, earned_micro=5_000))
    assert agent.orders(at(1, need_wh=100)) == [Order("bid", 100, 59_000)]
    agent.observe(came(1))
    assert agent.orders(at(2, surplus_wh=100)) == [Order("ask", 100, 12_000)]
    assert agent.orders(at(3, need_wh=100)) == [Order("bid", 100, 60_000)]


# -- speculator, regulator, zero intelligence ----------------------------------------------------


def speculator(prices: list[int], **settings: object) -> HuSpeculatorAgent:
    usual = {"window": 2, "buy_change": 0.1, "sell_change": 0.2, **settings}
    agent = HuSpeculatorAgent(HuSpeculatorSettings(**usual))  # type: ignore[arg-type]
    for number, price in enumerate(prices):
        agent.observe(came(number, low_micro_per_kwh=price - 50, high_micro_per_kwh=price + 50))
    return agent


STORAGE = at(
    9, prior=Prior(20_000, 25_000), charge_room_wh=600, discharge_room_wh=500, export_room_wh=400
)


def test_the_speculator_buys_at_its_threshold_of_falling_prices() -> None:
    assert speculator([40_000, 38_000, 36_000]).orders(STORAGE) == [Order("bid", 600, 25_000)]
    assert speculator([40_000, 38_000, 36_010]).orders(STORAGE) == []
    # The window is two slots: what came before does not count.
    assert speculator([90_000, 40_000, 38_000, 36_000]).change() == pytest.approx(-0.1)


def test_the_speculator_sells_at_its_threshold_of_rising_prices() -> None:
    assert speculator([40_000, 38_000, 48_000]).orders(STORAGE) == [Order("ask", 400, 20_000)]
    assert speculator([40_000, 38_000, 47_990]).orders(STORAGE) == []


def test_the_speculator_waits_for_a_window_and_does_not_count_slots_without_trades() -> None:
    agent = speculator([40_000, 20_000])
    assert agent.orders(STORAGE) == []
    agent.observe(came(2))
    assert agent.orders(STORAGE) == []
    agent.observe(came(3, low_micro_per_kwh=20_000, high_micro_per_kwh=20_000))
    assert agent.orders(STORAGE) == [Order("bid", 600, 25_000)]
    assert agent.orders(STORAGE._replace(prior=None)) == []
    assert agent.orders(STORAGE._replace(charge_room_wh=9)) == []


def test_the_speculator_asks_for_what_its_energy_has_cost() -> None:
    agent = speculator([40_000, 38_000, 48_000], loss=0.2)
    agent.memory = HuSpeculatorMemory(agent.memory.prices, 1_000, 24_000)
    # 24,000 for 1000 Wh, of which 800 come out again: 30,000.
    assert agent.orders(STORAGE) == [Order("ask", 400, 30_000)]
    agent.observe(came(5, sold_wh=400, earned_micro=12_000))
    assert (agent.memory.held_wh, agent.memory.cost_micro) == (500, 12_000)
    assert agent.orders(STORAGE) == [Order("ask", 400, 30_000)]
    # Where nobody would pay that, it keeps it.
    assert agent.orders(STORAGE._replace(band=Band(10_000, 30_000))) == []
    bold = HuSpeculatorSettings(window=2, buy_change=0.1, sell_change=0.2, sells_at_loss=True)
    assert HuSpeculatorAgent(bold, agent.memory).orders(STORAGE) == [Order("ask", 400, 20_000)]


def test_the_regulator_asks_its_price_for_all_it_can_give() -> None:
    agent = HuRegulatorAgent(HuRegulatorSettings(price_micro_per_kwh=56_000))
    assert agent.orders(at(0)) == [Order("ask", 10_000, 56_000)]
    assert agent.orders(at(1, need_wh=300)) == [Order("ask", 10_000, 56_000)]
    assert HuRegulatorAgent().orders(at(0)) == [Order("ask", 10_000, 60_000)]
    assert agent.orders(at(0, export_room_wh=0)) == []


def test_zero_intelligence_draws_evenly_from_what_is_no_loss() -> None:
    agent = ZeroIntelligenceAgent()
    curve = [Segment("bid", 100, 50_000), Segment("bid", 100.9, 20_000), Segment("ask", 50, 30_000)]
    dear, cheap, asked = [], [], []
    for number in range(300):
        first, second = agent.orders(at(number, curve=curve, need_wh=100))
        assert (first.side, first.energy_wh, second.energy_wh) == ("bid", 100, 100)
        dear.append(first.price_micro_per_kwh)
        cheap.append(second.price_micro_per_kwh)
        (ask,) = agent.orders(at(number, curve=curve))
        asked.append(ask.price_micro_per_kwh)
    for prices, low, high in ((dear, 10, 50), (cheap, 10, 20), (asked, 30, 60)):
        assert low * 1000 <= min(prices) <= (low + 0.05 * (high - low)) * 1000
        assert (high - 0.05 * (high - low)) * 1000 <= max(prices) <= high * 1000
        mean = sum(prices) / len(prices)
        assert mean == pytest.approx(500 * (low + high), abs=0.08 * 1000 * (high - low))


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        (HuProducerSettings, {"step_wh": 0}, "step_wh 0: at least 1"),
        (HuProducerSettings, {"cost_micro_per_kwh": -1}, "must not be negative"),
        (HuConsumerSettings, {"step_micro_per_kwh": 0}, "at least 1"),
        (HuConsumerSettings, {"xi_micro": -1}, "must not be negative"),
        (HuSpeculatorSettings, {"window": 0}, "1 to 1000 slots"),
        (HuSpeculatorSettings, {"buy_change": 1.0}, "no price falls by 1"),
        (HuSpeculatorSettings, {"loss": 1.0}, "below 1"),
        (HuRegulatorSettings, {"price_micro_per_kwh": 0}, "at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    kind: type, settings: dict[str, float], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        kind(**settings)
