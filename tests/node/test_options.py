"""What is typed at a command is understood, or refused in one line."""

import pytest

from node.cli.options import micro_of
from node.errors import ConfigError


def test_an_amount_is_taken_to_the_micro() -> None:
    assert micro_of(0.0, "AMOUNT") == 0
    assert micro_of(12.345678, "AMOUNT") == 12_345_678
    assert micro_of(1e9, "AMOUNT") == 10**15


@pytest.mark.parametrize("amount", [-0.5, float("nan"), float("inf"), 1.1e9, 1e300])
def test_what_is_no_amount_is_refused(amount: float) -> None:
    with pytest.raises(ConfigError, match=r"--escrow .*: an amount is 0 to 1e\+09"):
        micro_of(amount, "--escrow")
