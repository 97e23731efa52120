"""What a home sees of the market: how near it is to being turned away."""

from market import client
from node.home.view import strain as strain_of
from tests.market.street import params


def test_strain_is_the_share_of_the_defaults_that_the_audit_allows() -> None:
    rules = params(2, history_slots=10, history_min=4, default_rate_max_percent=50)

    def strain(*kept: bool, slot: int = 8) -> float:
        history = list(enumerate(kept, start=1))
        return strain_of(client.Record(0, history), slot, rules)

    assert strain() == 0.0
    assert strain(True, True, True) == 0.0
    # Of four at least, two may be broken.
    assert strain(False) == 0.5
    assert strain(*[False] * 4) == 1.0
    assert strain(*[True, False] * 3) == 1.0
    assert strain(*[True] * 6, False, False) == 0.5
    # What is older than the contract looks back does not count.
    assert strain(False, False, slot=12) == 0.0
    strict = params(2, default_rate_max_percent=0)
    assert strain_of(client.Record(0, [(7, False)]), 8, strict) == 1.0
    assert strain_of(client.Record(0, [(7, True)]), 8, strict) == 0.0
