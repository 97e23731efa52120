"""An AC power flow over a radial feeder, for `test_security.py`: run in an environment of its own.

Standard input: {"lines": [[line, parent, rating_w]], "homes": [line], "cases": [[w by home]]};
a home's power is what it feeds in. Low-voltage lines of 60 m of NAYY 4x50 each, unity power factor,
400 V at the substation. Standard output, for each case: by line, the loading in percent of the
current that `rating_w` is at 400 V, and the power that leaves its far end upwards, in W.
"""

import json
import math
import sys

import pandapower

VOLTAGE_KV = 0.4
LENGTH_KM = 0.06


def main() -> None:
    asked = json.load(sys.stdin)
    json.dump([flow(asked["lines"], asked["homes"], case) for case in asked["cases"]], sys.stdout)


def flow(lines: list[list[int]], homes: list[int], power_w: list[float]) -> list[list[float]]:
    net = pandapower.create_empty_network()
    buses = [pandapower.create_bus(net, vn_kv=VOLTAGE_KV) for _ in range(len(lines) + 1)]
    pandapower.create_ext_grid(net, buses[0], vm_pu=1.0)
    for line, parent, rating_w in lines:
        pandapower.create_line_from_parameters(
            net,
            from_bus=buses[line],
            to_bus=buses[parent],
            length_km=LENGTH_KM,
            r_ohm_per_km=0.642,
            x_ohm_per_km=0.083,
            c_nf_per_km=210,
            max_i_ka=rating_w / (math.sqrt(3) * VOLTAGE_KV * 1e6),
        )
    for home, watt in enumerate(power_w):
        if watt and homes[home]:
            pandapower.create_sgen(net, buses[homes[home]], p_mw=watt / 1e6, q_mvar=0.0)
    pandapower.runpp(net, numba=False)
    result = net.res_line
    return [[row.loading_percent, row.p_from_mw * 1e6] for row in result.itertuples()]


main()
