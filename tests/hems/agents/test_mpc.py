"""The default agent: orders from the curve, and what it changes of them after a round."""

from hems.agents.base import ORDERS_PER_SLOT_MAX, Revision, Situation, Standing
from hems.agents.mpc import MpcAgent, changes
from hems.bid import Band, BidSettings, Order, Segment, one_side

SETTINGS = BidSettings(shading=0.0, revise_micro_per_kwh_min=5_000, revise_wh_min=50)
CURVE = (
    Segment("bid", 400, 250_000),
    Segment("bid", 400, 200_000),
    Segment("ask", 300, 260_000),
)
LACKS = Situation(0, 900_000, Band(100_000, 300_000), curve=CURVE, need_wh=500)
BIDS = [Order("bid", 400, 250_000), Order("bid", 400, 200_000)]


def standing(*orders: Order) -> list[Standing]:
    return [Standing(f"8-{number}", order) for number, order in enumerate(orders)]


def test_the_curve_becomes_orders_of_the_side_the_plan_is_on() -> None:
    agent = MpcAgent(SETTINGS)
    assert agent.orders(LACKS) == BIDS
    assert agent.orders(LACKS._replace(need_wh=0)) == [Order("ask", 300, 260_000)]
    assert agent.orders(LACKS._replace(need_wh=0, curve=CURVE[:2])) == BIDS


def test_one_side_prefers_what_the_plan_does() -> None:
    ask = Order("ask", 1, 1)
    assert one_side([*BIDS, ask], 0.1) == BIDS
    assert one_side([*BIDS, ask], 0) == [ask]
    assert one_side([ask], 0.1) == [ask]
    assert one_side([], 0.1) == []


def test_orders_that_are_still_right_are_left_alone() -> None:
    agent = MpcAgent(SETTINGS)
    assert agent.revise(LACKS, standing(*BIDS)) == Revision()
    about = standing(Order("bid", 350, 245_000), Order("bid", 450, 205_000))
    assert agent.revise(LACKS, about) == Revision()


def test_orders_that_are_wrong_by_enough_are_replaced() -> None:
    agent = MpcAgent(SETTINGS)
    for wrong in (
        Order("bid", 349, 250_000),
        Order("bid", 400, 255_001),
        Order("ask", 400, 250_000),
    ):
        found = agent.revise(LACKS, standing(wrong, BIDS[1]))
        assert found == Revision(("8-0",), (BIDS[0],))


def test_a_tenth_of_a_large_order_is_not_worth_a_message() -> None:
    large = [Order("bid", 2_000, 250_000)]
    assert changes(standing(Order("bid", 1_800, 250_000)), large, SETTINGS) == Revision()
    assert changes(standing(Order("bid", 1_799, 250_000)), large, SETTINGS).withdraw == ("8-0",)


def test_the_nearest_price_is_the_one_that_stands() -> None:
    wanted = [Order("bid", 400, 204_000), Order("bid", 400, 200_000)]
    found = changes(standing(Order("bid", 400, 200_500)), wanted, SETTINGS)
    assert found == Revision((), (wanted[0],))


def test_who_has_bought_in_a_slot_goes_on_buying() -> None:
    agent = MpcAgent(SETTINGS)
    sells = LACKS._replace(need_wh=0)
    assert agent.revise(sells, []).post == (Order("ask", 300, 260_000),)
    assert agent.revise(sells._replace(contracted_wh=5), []).post == tuple(BIDS)
    filled = [Standing("8-1", Order("bid", 0, 250_000), filled_wh=30)]
    assert agent.revise(sells, filled).post == tuple(BIDS)
    sold = LACKS._replace(contracted_wh=-5)
    assert agent.revise(sold, []).post == (Order("ask", 300, 260_000),)


def test_filled_orders_stay_and_count_towards_what_the_market_takes() -> None:
    filled = [Standing(f"8-{n}", Order("bid", 0, 9), 100) for n in range(5)]
    part = Standing("8-9", Order("bid", 70, 100_000), 30)
    wanted = [Order("bid", 400, 150_000 + 10_000 * n) for n in range(4)]
    found = changes([*filled, part], wanted, SETTINGS)
    assert found.withdraw == ("8-9",)
    assert len(found.post) == ORDERS_PER_SLOT_MAX - 6
