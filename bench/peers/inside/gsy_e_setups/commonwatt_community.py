"""The community of `bench.peers.gsy_e` as gsy-e takes one: loads, roofs, batteries, the grid."""

import json
import os

from gsy_e.models.area import Area
from gsy_e.models.strategy.infinite_bus import InfiniteBusStrategy
from gsy_e.models.strategy.predefined_load import DefinedLoadStrategy
from gsy_e.models.strategy.predefined_pv import PVUserProfileStrategy
from gsy_e.models.strategy.storage import StorageStrategy
from gsy_framework.constants_limits import ConstSettings

TWO_SIDED = 2


def by_hour(values):
    """Return a profile as gsy-e takes it: hour of the day to watts."""
    return dict(enumerate(values))


def get_setup(config):
    """Return the grid's area."""
    with open(os.environ["COMMONWATT_COMMUNITY"]) as file:
        asked = json.load(file)
    ConstSettings.MASettings.MARKET_TYPE = TWO_SIDED
    tariff, feed_in = asked["tariff_cents"], asked["feed_in_cents"]
    homes = []
    for number, home in enumerate(asked["homes"], start=1):
        load = DefinedLoadStrategy(
            daily_load_profile=by_hour(home["load_w"]), final_buying_rate=tariff
        )
        devices = [Area(f"H{number} Load", strategy=load)]
        if home["pv_w"]:
            sun = PVUserProfileStrategy(
                power_profile=by_hour(home["pv_w"]), panel_count=1,
                initial_selling_rate=tariff, final_selling_rate=feed_in,
            )  # fmt: skip
            store = StorageStrategy(initial_soc=10, battery_capacity_kWh=home["battery_kwh"])
            devices += [
                Area(f"H{number} PV", strategy=sun),
                Area(f"H{number} Battery", strategy=store),
            ]
        homes.append(Area(f"House {number}", devices))
    grid = InfiniteBusStrategy(energy_buy_rate=feed_in, energy_sell_rate=tariff)
    return Area("Grid", [*homes, Area("Market Maker", strategy=grid)], config=config)
