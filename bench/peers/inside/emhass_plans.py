"""EMHASS plans the days it is given, for `bench.peers.emhass_plans`.

Asked: the gap, the battery, and the days' load and production [W] and prices [per kWh], one value
per half hour, and the state of charge to begin with. Answered: each day's cost (grid and wear) and
state of charge at the end, and its CPU milliseconds. `costfun="profit"`, since `cost` leaves out
what export pays; the same solver object plans all days, as its server does.
"""

import json
import logging
import sys
import time
from importlib.metadata import version

import pandas as pd
from emhass.optimization import Optimization

STEP = pd.to_timedelta(30, "minutes")


def optimization(battery: dict, gap: float, steps: int) -> Optimization:
    """Return EMHASS's planner for a home with PV and this battery."""
    hass = {
        "optimization_time_step": STEP,
        "time_zone": "UTC",
        "sensor_power_photovoltaics": "pv",
        "sensor_power_load_no_var_loads": "load",
    }
    optim = {
        "set_use_battery": True,
        "number_of_deferrable_loads": 0,
        "nominal_power_of_deferrable_loads": [],
        "operating_hours_of_each_deferrable_load": [],
        "start_timesteps_of_each_deferrable_load": [],
        "end_timesteps_of_each_deferrable_load": [],
        "treat_deferrable_load_as_semi_cont": [],
        "set_deferrable_load_single_constant": [],
        "set_deferrable_startup_penalty": [],
        "set_deferrable_max_startups": [],
        "set_total_pv_sell": False,
        "set_nocharge_from_grid": False,
        "set_nodischarge_to_grid": False,
        "set_battery_dynamic": False,
        "weight_battery_discharge": battery["wear"],
        "weight_battery_charge": 0.0,
        "num_threads": 1,
        "lp_solver": "Highs",
        "lp_solver_timeout": 120,
        "lp_solver_mip_rel_gap": gap,
        "delta_forecast_daily": steps / 48,
    }
    plant = {
        "inverter_is_hybrid": False,
        "compute_curtailment": False,
        "maximum_power_from_grid": 50_000,
        "maximum_power_to_grid": 50_000,
        # Its limits are the battery's own, ours the home's side.
        "battery_discharge_power_max": battery["power_w"] / battery["discharge_efficiency"],
        "battery_charge_power_max": battery["power_w"] * battery["charge_efficiency"],
        "battery_discharge_efficiency": battery["discharge_efficiency"],
        "battery_charge_efficiency": battery["charge_efficiency"],
        "battery_nominal_energy_capacity": battery["capacity_wh"],
        "battery_minimum_state_of_charge": battery["soc_min"],
        "battery_maximum_state_of_charge": battery["soc_max"],
        "battery_target_state_of_charge": battery["soc_end"],
    }
    silent = logging.getLogger("emhass")
    silent.setLevel(logging.CRITICAL)
    return Optimization(
        hass, optim, plant, "unit_load_cost", "unit_prod_price", "profit", {}, silent
    )


def main() -> None:
    """Plan each day."""
    with open(sys.argv[1]) as file:
        asked = json.load(file)
    battery, days = asked["battery"], asked["days"]
    planner = optimization(battery, asked["gap"], len(days[0]["load_w"]))
    found = []
    for day in days:
        index = pd.date_range("2026-11-20", periods=len(day["load_w"]), freq=STEP, tz="UTC")
        prices = pd.DataFrame(
            {"unit_load_cost": day["import"], "unit_prod_price": day["export"]}, index=index
        )
        load, pv = pd.Series(day["load_w"], index=index), pd.Series(day["pv_w"], index=index)
        begin = time.process_time()
        result = planner.perform_dayahead_forecast_optim(
            prices, pv, load, soc_init=day["soc"], soc_final=battery["soc_end"]
        )
        spent_ms = 1000 * (time.process_time() - begin)
        imported, exported = result["P_grid_pos"].to_numpy(), -result["P_grid_neg"].to_numpy()
        discharged = result["P_batt"].clip(lower=0).to_numpy()
        cost = imported @ day["import"] - exported @ day["export"]
        cost += discharged.sum() * battery["wear"]
        found.append(
            {
                "cost": float(cost) / 2000,
                "soc_end": float(result["SOC_opt"].iloc[-1]),
                "cpu_ms": spent_ms,
                "status": str(planner.optim_status),
            }
        )
    with open(sys.argv[2], "w") as file:
        json.dump({"version": version("emhass"), "days": found}, file)


if __name__ == "__main__":
    main()
