"""The mechanisms: cases worked by hand, among them Huang's figure 4 and tables 2 and 3."""

import ast

import pytest

from market import contracts
from tests.market.matching_probe import Matching, fee_map
from tests.market.matching_reference import GRID, STANDING, Feeder, Fees, Order

FREE = Fees()


@pytest.fixture(scope="module")
def matching() -> Matching:
    return Matching()


def orders(*rows: tuple[int, int, int]) -> list[Order]:
    """Orders of rows (home, price, energy), numbered in order of time."""
    return [Order(number, home, price, wh) for number, (home, price, wh) in enumerate(rows, 1)]


def huang_consumers() -> list[Order]:
    """Hu table 3: initial prices, and the portions (which sum to 1.02) of 5.1 kWh."""
    table = [
        (10, 47_000), (16, 51_000), (30, 55_000), (8, 52_000), (6, 45_000), (20, 50_000),
        (12, 51_000),
    ]  # fmt: skip
    return [
        Order(number, 10 + number, price, 5_100 * portion // 102)
        for number, (portion, price) in enumerate(table, 1)
    ]


def huang_producers() -> list[Order]:
    """Hu table 2: supplies and initial prices."""
    table = [
        (1_600, 17_000), (400, 18_000), (600, 19_000), (400, 25_000), (1_000, 29_000),
        (3_000, 22_000), (200, 24_000),
    ]  # fmt: skip
    return [Order(20 + n, n, price, supply) for n, (supply, price) in enumerate(table, 1)]


def test_huang_tables_2_and_3(matching: Matching) -> None:
    """The first round, worked by hand: the dearest consumer meets the cheapest producer."""
    rows = matching.high_low(huang_consumers(), huang_producers(), "ask", FREE)["trades"]
    assert [[row[0] - 10, row[1], row[4], row[5]] for row in rows] == [
        [3, 1, 1_500, 17_000],
        [4, 1, 100, 17_000],
        [4, 2, 300, 18_000],
        [2, 2, 100, 18_000],  # 2 and 7 bid the same: 2 came first
        [2, 3, 600, 19_000],
        [2, 6, 100, 22_000],
        [7, 6, 600, 22_000],
        [6, 6, 1_000, 22_000],
        [1, 6, 500, 22_000],
        [5, 6, 300, 22_000],
    ]
    assert sum(row[4] for row in rows) == 5_100
    assert rows[0][6] == 25_500
    one = matching.uniform(huang_consumers(), huang_producers(), "ask", FREE)
    assert one["price_micro_per_kwh"] == 22_000
    assert [row[:5] for row in one["trades"]] == [row[:5] for row in rows]
    middle = matching.uniform(huang_consumers(), huang_producers(), "mid", FREE)
    assert middle["price_micro_per_kwh"] == (22_000 + 45_000) // 2


def huang_figure_4() -> tuple[list[Order], list[Order]]:
    """C1 to C8, P1 to P5 and the regulator's limit, as figure 4 lays them out: both lists sorted,
    equal prices by time, the regulator's ask among the producers' with no end."""
    consumers = [(90, 4), (70, 3), (70, 6), (65, 5), (60, 4), (55, 4), (50, 3), (40, 6)]
    producers = [(30, 5), (45, 4), (45, 7), (52, 3), (58, 5)]
    bids = [Order(n, 10 + n, p * 1_000, wh) for n, (p, wh) in enumerate(consumers, 1)]
    asks = [Order(20 + n, n, p * 1_000, wh) for n, (p, wh) in enumerate(producers, 1)]
    return bids, [*asks, Order(STANDING, GRID, 54_000, 0)]


def test_huang_figure_4(matching: Matching) -> None:
    """The rules of figure 4, one after the other, by hand."""
    bids, asks = huang_figure_4()
    result = matching.high_low(bids, asks, "ask", FREE)
    assert [[row[0] - 10, row[1], row[4], row[5]] for row in result["trades"]] == [
        [1, 1, 4, 30_000],  # the smaller is filled, P1 stays at the head with 1
        [2, 1, 1, 30_000],  # C2 before C3, by time
        [2, 2, 2, 45_000],
        [3, 2, 2, 45_000],  # P2 before P3, by time
        [3, 3, 4, 45_000],
        [4, 3, 3, 45_000],
        [4, 4, 2, 52_000],
        [5, 4, 1, 52_000],
        [5, 0, 3, 54_000],  # the regulator stands before P5, which asks more: P5 sells nothing
        [6, 0, 4, 54_000],  # and C7 and C8 bid less than anybody left asks
    ]
    # What remains stays: C7 and C8 whole, P5 whole.
    assert result["limits"][-1] == [60_000, 52_000]


def test_a_uniform_price_is_the_marginal_ask_between_homes(matching: Matching) -> None:
    bids, asks = huang_figure_4()
    result = matching.uniform(bids, asks, "ask", FREE)
    assert result["price_micro_per_kwh"] == 52_000
    assert {row[5] for row in result["trades"]} == {52_000, 54_000}
    middle = matching.uniform(bids, asks, "mid", FREE)
    assert middle["price_micro_per_kwh"] == (52_000 + 60_000) // 2


@pytest.mark.parametrize(
    ("rule", "price", "cost", "fee"),
    [
        # net = (150,000 - 3,000 - 2,000) * 10,000 // 11,000
        ("ask", 100_000, 50_000, 2_500 + 5_000),
        ("bid", 131_818, 65_909, 2_500 + 6_590),
        ("mid", 115_909, 57_954, 2_500 + 5_795),
    ],
)
def test_fees_by_hand(matching: Matching, rule: str, price: int, cost: int, fee: int) -> None:
    fees = Fees(3_000, 1_000, [[0, 2_000], [9_000, 0]], [0, 1, 0])
    [row] = matching.high_low([Order(1, 2, 150_000, 500)], [Order(2, 1, 100_000, 800)], rule, fees)[
        "trades"
    ]
    assert row == [2, 1, 1, 2, 500, price, cost, fee]
    assert row[6] + row[7] <= 75_000


def test_the_fee_decides_whether_the_grid_is_nearer(matching: Matching) -> None:
    """95 and a fee of 6 cost more than the grid's 100; with a fee of 5 the home sells."""
    bids, grid = [Order(1, 2, 120_000, 10)], Order(STANDING, GRID, 100_000, 0)
    for constant, seller in ((5_000, 1), (5_001, GRID)):
        rows = matching.high_low(bids, [Order(2, 1, 95_000, 10), grid], "ask", Fees(constant))[
            "trades"
        ]
        assert [row[1] for row in rows] == [seller]


def test_a_bid_below_the_tariff_gets_nothing_from_the_grid_by_rounding(matching: Matching) -> None:
    """Nets of 99,999 and 100,000 round to the same; only one of the bids is at the tariff."""
    fees = Fees(0, 9_999)
    assert fees.net(2, 1, 99_999) == fees.net(2, 1, 100_000) == 50_002
    grid = [Order(STANDING, GRID, 100_000, 0)]
    for price, served in ((100_000, 1), (99_999, 0)):
        rows = matching.high_low([Order(1, 2, price, 10)], grid, "ask", fees)["trades"]
        assert len(rows) == served


def test_distance_sends_each_bid_to_its_own_cluster(matching: Matching) -> None:
    clusters = [0, 0, 0, 1, 1]
    fees = Fees(0, 0, [[0, 10_000], [10_000, 0]], clusters)
    bids = [Order(1, 2, 100_000, 5), Order(2, 4, 99_000, 5)]
    asks = [Order(3, 1, 60_000, 5), Order(4, 3, 55_000, 5)]
    # Home 2 pays 60 in its cluster, 65 across; by price alone it would have taken home 3's.
    rows = matching.high_low(bids, asks, "ask", fees)["trades"]
    assert [[row[0], row[1], row[7]] for row in rows] == [[2, 1, 0], [4, 3, 0]]


def test_who_cannot_bear_the_uniform_price_is_dropped_or_lifted(matching: Matching) -> None:
    """Home 4 may only buy green, and takes the dear ask; home 6's net is then below that price."""
    bids = [Order(1, 4, 98_000, 5, green=1), Order(2, 6, 70_000, 5)]
    asks = [Order(3, 1, 60_000, 5), Order(4, 3, 90_000, 5, green=1)]
    result = matching.uniform(bids, asks, "ask", FREE)
    assert result["price_micro_per_kwh"] == 90_000
    assert [row[:5] for row in result["trades"]] == [[4, 3, 1, 4, 5]]
    grid = Order(STANDING, GRID, 70_000, 0)
    lifted = matching.uniform(bids, [*asks, grid], "ask", FREE)["trades"]
    assert [row[:2] + row[4:6] for row in lifted] == [[4, 0, 5, 70_000], [6, 1, 5, 60_000]]


def test_preferences(matching: Matching) -> None:
    asks = [
        Order(11, 1, 50_000, 5),
        Order(12, 3, 60_000, 5, green=1),
        Order(13, 5, 40_000, 5, partner=4),
    ]
    cases = [
        (Order(1, 2, 99_000, 20), [(1, 5), (3, 5)]),
        (Order(1, 2, 99_000, 20, green=1), [(3, 5)]),
        (Order(1, 2, 99_000, 20, partner=3), [(3, 5)]),
        (Order(1, 2, 99_000, 20, green=1, partner=1), []),
        (Order(1, 4, 99_000, 20), [(5, 5), (1, 5), (3, 5)]),
        (Order(1, 4, 99_000, 20, partner=5), [(5, 5)]),
    ]
    for bid, expected in cases:
        rows = matching.high_low([bid], asks, "ask", FREE)["trades"]
        assert [(row[1], row[4]) for row in rows] == expected
        taken = matching.request_offer(bid, asks, FREE)["trades"]
        assert [(row[1], row[4]) for row in taken] == expected


def test_a_request_takes_offers_in_order_and_answers_all_of_them(matching: Matching) -> None:
    """CE figure 2: 10 Wh asked for; the dear offer and the one above the tariff get nothing."""
    offers = orders((1, 90_000, 4), (3, 80_000, 5), (5, 95_000, 9), (7, 80_000, 3), (1, 100_001, 2))
    result = matching.request_offer(Order(50, 2, 100_000, 10), offers, FREE)
    assert [[row[1], row[3], row[4], row[5]] for row in result["trades"]] == [
        [3, 2, 5, 80_000],
        [7, 4, 3, 80_000],
        [1, 1, 2, 90_000],
    ]
    assert result["unmet_wh"] == 0
    assert result["feedback"] == [[1, 2], [2, 5], [3, 0], [4, 3], [5, 0]]
    short = matching.request_offer(Order(50, 2, 100_000, 30), offers, FREE)
    assert (short["unmet_wh"], short["feedback"][-1]) == (30 - 21, [5, 0])


def test_sharing_by_hand(matching: Matching) -> None:
    """10 Wh for three: fixed shares of a half, a quarter and a quarter, home 4 lacks only 2."""
    surplus, demand = [[1, 10]], [[4, 2, 500_000], [6, 8, 250_000], [8, 9, 250_000]]

    def taken(key: str) -> list[int]:
        return [row[4] for row in matching.share(surplus, demand, key, 50_000, FREE)]

    assert taken("static") == [2, 4, 4]
    # 5, 2.5 and 2.5: the watt-hour left over goes to the lower home; home 4 can use 2 of its 5.
    assert taken("static_once") == [2, 3, 2]
    # 20/19, 80/19 and 90/19: 1, 4, 4, and one to the largest remainder.
    assert taken("by_consumption") == [1, 4, 5]


def test_sharing_in_more_rounds_than_one(matching: Matching) -> None:
    """Each round fills one more home: 1, then 2 of the rest, ... until all is shared."""
    demand = [[home, home, 1] for home in range(2, 60, 2)]
    surplus = [[1, sum(row[1] for row in demand) - 1]]
    rows = matching.share(surplus, demand, "static", 1_000, FREE)
    assert [row[4] for row in rows] == [row[1] for row in demand[:-1]] + [demand[-1][1] - 1]


STREET = Feeder([0, 0, 1, 1], [0, 10, 6, 6], [0, 2, 3, 2, 1])


def trade(buyer: int, seller: int, energy: int) -> list[int]:
    return [buyer, seller, 1, 2, energy, 50_000, energy * 50, 0]


def test_lines_by_hand(matching: Matching) -> None:
    """Lines 2 and 3 branch off line 1; homes 1 and 3 sit on line 2, 2 on line 3, 4 on line 1."""

    def secure(*trades: list[int]) -> tuple[list[int], list[list[int]], list[int]]:
        result = matching.secure(list(trades), STREET, [0, 0, 0, 0], FREE)
        return [row[4] for row in result["trades"]], result["curtailed"], result["flows"]

    # Neighbours on one line use none; across, both branches and not the trunk.
    assert secure(trade(3, 1, 500)) == ([500], [], [0, 0, 0, 0])
    assert secure(trade(2, 1, 8)) == ([6], [[2, 2]], [0, 0, 6, -6])
    # From the substation down: the trunk binds the second.
    assert secure(trade(2, 0, 6), trade(3, 0, 6)) == ([6, 4], [[1, 2]], [0, -10, -4, -6])
    # A trade the other way makes room: the second pass gives the first what it lacked.
    assert secure(trade(2, 1, 8), trade(1, 2, 5)) == ([8, 5], [], [0, 0, 3, -3])
    # Nothing fits: the trade is gone, and its line is named.
    assert secure(trade(2, 0, 6), trade(2, 0, 3)) == ([6], [[3, 3]], [0, -6, 0, -6])


def test_a_cut_trade_is_costed_anew(matching: Matching) -> None:
    fees = Fees(1_000, 500)
    whole = fees.row(Order(1, 2, 0, 0), Order(2, 1, 0, 0), 7, 90_001)
    result = matching.secure([whole], STREET, [0, 0, 0, 0], fees)
    assert result["trades"] == [[2, 1, 1, 2, 6, 90_001, 540, 6 + 27]]


def test_lines_carry_what_earlier_rounds_left(matching: Matching) -> None:
    result = matching.secure([trade(2, 1, 6)], STREET, [0, 0, 4, 0], FREE)
    assert (result["trades"][0][4], result["curtailed"]) == (2, [[2, 4]])
    # Over the rating already (a rating was lowered): nothing more that way, all of it back.
    over = matching.secure([trade(2, 1, 1), trade(1, 2, 9)], STREET, [0, 0, 8, 0], FREE)
    assert [[*row[0:2], row[4]] for row in over["trades"]] == [[2, 1, 1], [1, 2, 7]]


@pytest.mark.parametrize(
    ("lines", "homes", "words"),
    [
        ([[2, 0, 5]], [0], "row 1 is line 2"),
        ([[1, 1, 5]], [0], "line 1 must hang on a line with a lower number"),
        ([[1, 0, 5], [2, -1, 5]], [0], "line 2 must hang"),
        ([[1, 0, 0]], [0], "line 1 needs a rating"),
        ([[1, 0, 5]], [], "place 0"),
        ([[1, 0, 5]], [1], "place 0"),
        ([[1, 0, 5]], [0, 2], "home 1 is on line 2, there are 1"),
        ([[n + 1, n, 5] for n in range(1_025)], [0], "at most 1024 lines"),
        ([[1, 0, 5], [2, 1, 5]], [0, 2, 0], ""),
    ],
)
def test_what_is_wrong_with_a_feeder(
    matching: Matching, lines: list[list[int]], homes: list[int], words: str
) -> None:
    said = matching.call("fault", feeder={"lines": lines, "homes": homes})
    assert words in said
    assert bool(said) == bool(words)


@pytest.mark.parametrize(
    ("fees", "words"),
    [
        (Fees(), ""),
        (Fees(5, 10_000, [[0, 1], [2, 3]], [0, 1, 1]), ""),
        (Fees(-1), "from 0 to 1000000000 micro per kWh"),
        (Fees(0, 10_001), "from 0 to 10000 basis points"),
        (Fees(0, -1), "basis points"),
        (Fees(0, 0, [[0, 1]], [0, 0, 0]), "as many columns as it has rows: 1"),
        (Fees(0, 0, [[0, -1], [0, 0]], [0, 0, 0]), "micro per kWh"),
        (Fees(0, 0, [[0] * 17] * 17, [0, 0, 0]), "at most 16 clusters"),
        (Fees(0, 0, [[0]], [0, 0]), "each number from 0 to 2"),
        (Fees(0, 0, [[0]], [0, 1, 0]), "home 1 is in cluster 1, there are 1"),
    ],
)
def test_what_is_wrong_with_fees(matching: Matching, fees: Fees, words: str) -> None:
    said = matching.call("fee_fault", fees=fee_map(fees), homes=2)
    assert words in said
    assert bool(said) == bool(words)


@pytest.mark.parametrize("name", contracts.LIBRARIES)
def test_a_library_reads_no_state_and_at_most_refuses(name: str) -> None:
    tree = ast.parse(contracts.source(name))
    called = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    hosts = {"env", "caller", "call", "emit", "sha256", "verify_signature"}
    assert not [name for name in called if name in hosts or name.startswith("kv_")]
