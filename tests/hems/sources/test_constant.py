"""Constant power, in steps of any length; and streets with homes of storage only."""

import pytest

from hems import civil
from hems.config import ConstantHome
from hems.devices import Battery
from hems.errors import ConfigError
from hems.neighbourhood import built_in, with_storage
from hems.sources.constant import ConstantSource

DAY = civil.DAY_MS


def test_steps_of_any_length_add_up_alike() -> None:
    source = ConstantSource(load_w=333, pv_w=1_000)
    for minutes in (5, 15, 60):
        window = source.window(0, DAY, minutes * civil.MINUTE_MS)
        assert int(window.load_wh.sum()) == 333 * 24
        assert set(window.pv_wh.tolist()) <= {1_000 * minutes // 60, 1_000 * minutes // 60 + 1}
        assert int(window.pv_wh.sum()) == 24_000
        assert window.known.all()
    assert not ConstantSource().window(0, DAY, DAY).load_wh.any()


def test_powers_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="load_w -1"):
        ConstantSource(load_w=-1)
    with pytest.raises(ConfigError, match="pv_w 1000001"):
        ConstantSource(pv_w=1_000_001)


def test_the_last_homes_of_a_street_are_storage() -> None:
    street = built_in(5, zone="Europe/Berlin")
    with_two = with_storage(street, 2)
    assert with_two.homes[:3] == street.homes[:3]
    for home in with_two.homes[3:]:
        assert (home.source, home.battery) == (ConstantHome(), Battery())
        assert (home.agent, home.zone) == ("hu_speculator", "Europe/Berlin")
    assert with_storage(street, 0) == street
    with pytest.raises(ConfigError, match="6 homes of storage: 0 to 5"):
        with_storage(street, 6)
