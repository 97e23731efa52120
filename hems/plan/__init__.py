"""Plans: a home's least-cost day. `planner` finds it, `rule` is what is done without."""

from hems.plan.given import (
    STEPS_MAX,
    BatteryPlan,
    Limits,
    Plan,
    PlanInput,
    grid_room_wh,
    left_over_micro_per_kwh,
    storable_wh,
)
from hems.plan.planner import Planner
from hems.plan.rule import rule_plan

__all__ = [
    "STEPS_MAX",
    "BatteryPlan",
    "Limits",
    "Plan",
    "PlanInput",
    "Planner",
    "grid_room_wh",
    "left_over_micro_per_kwh",
    "rule_plan",
    "storable_wh",
]
