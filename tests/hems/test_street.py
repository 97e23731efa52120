"""A street over a day or two of bad weather: trading must not cost a home."""

import pytest

from bench.street import run
from hems import civil
from hems.devices import Battery
from hems.neighbourhood import built_in

# Before homes looked at the sky, and priced what they could not be sure of, the worst home of
# seed 2 lost 1.80 in a day of half hours and 3.10 in two days of quarter hours. Half hours are
# traded further ahead and may lose more.
HALF_HOURS_LOSS_MICRO_MAX = 200_000
QUARTER_HOURS_LOSS_MICRO_MAX = 100_000


def check(seed: int, battery: Battery | None, days: int, slot_minutes: int, loss: int) -> None:
    homes = built_in(12, seed=seed, battery=battery).homes
    totals = run(homes, days, slot_minutes * civil.MINUTE_MS)
    assert min(total.saved_micro for total in totals) >= -loss
    assert sum(total.saved_micro for total in totals) >= 500_000 * days
    traded_wh = sum(total.sold_wh for total in totals)
    assert traded_wh == sum(total.bought_wh for total in totals)
    # Days as dark as the ones before are forecast dark: about 3.5 kWh a day without batteries.
    assert traded_wh >= 3_000 * days
    # Caution is no use if nothing were sold, nor selling if a third of it did not come.
    assert sum(total.shortfall_wh for total in totals) <= traded_wh / 3


@pytest.mark.slow
def test_on_overcast_days_no_home_loses_by_trading() -> None:
    check(2, Battery(), 1, 30, HALF_HOURS_LOSS_MICRO_MAX)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2])
@pytest.mark.parametrize("battery", [Battery(), None], ids=["battery", "none"])
def test_no_home_loses_in_quarter_hours(seed: int, battery: Battery | None) -> None:
    check(seed, battery, 2, 15, QUARTER_HOURS_LOSS_MICRO_MAX)
