"""Tariffs with holes."""

import numpy as np
import pytest

from hems.errors import ConfigError
from hems.prices import tariff_over

STARTS = np.arange(5, dtype=np.int64) * 900_000


@pytest.mark.parametrize(
    ("named", "prices"),
    [
        ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]),
        ([1, None, None, 4, None], [1, 1, 1, 4, 4]),
        ([None, None, 3, None, 5], [3, 3, 3, 3, 5]),
    ],
)
def test_the_price_before_stands_in(named: list[int | None], prices: list[int]) -> None:
    found, is_hole = tariff_over(lambda at_ms: named[at_ms // 900_000], STARTS)
    assert found.tolist() == prices
    assert is_hole.tolist() == [price is None for price in named]


def test_no_price_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="no price for any of 5 slots from 0 on"):
        tariff_over(lambda _: None, STARTS)
