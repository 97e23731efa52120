"""A home's energy slot by slot, as it was delivered and as it is planned."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from node.web.dashboard.words import mean_power_w

Row = Mapping[str, Any]


class Flow(NamedTuple):
    """Mean powers over a time [W]; what comes in equals what goes out and what is used."""

    start_ms: int
    length_ms: int
    load_w: float
    sun_w: float
    from_battery_w: float
    from_street_w: float
    from_grid_w: float
    to_battery_w: float
    to_street_w: float
    to_grid_w: float
    stored_wh: int
    is_planned: bool = False

    @property
    def end_ms(self) -> int:
        """Where the next one begins."""
        return self.start_ms + self.length_ms


def delivered(rows: Sequence[Row]) -> list[Flow]:
    """Return what was delivered (`node.api.outlook`: deliveries)."""
    return [_delivered(row) for row in rows]


def _delivered(row: Row) -> Flow:
    length_ms = int(row["slot_ms"])
    bought = min(max(row["traded_wh"], 0), row["import_wh"])
    sold = min(max(-row["traded_wh"], 0), row["export_wh"])
    return Flow(
        int(row["slot_start_ms"]),
        length_ms,
        *(
            mean_power_w(wh, length_ms)
            for wh in (
                row["load_wh"],
                row["pv_wh"] - row["curtail_wh"],
                row["discharge_wh"],
                bought,
                row["import_wh"] - bought,
                row["charge_wh"],
                sold,
                row["export_wh"] - sold,
            )
        ),
        int(row["stored_wh"]),
    )


def planned(plan: Row | None, from_ms: int) -> list[Flow]:
    """Return what the last plan means to do from a time on (`node.api.outlook`: plan)."""
    if plan is None:
        return []
    found = []
    taken = [sum(column) for column in zip(*plan["device_wh"].values(), strict=True)]
    for place, start_ms in enumerate(plan["starts_ms"]):
        if start_ms < from_ms:
            continue
        length_ms = plan["lengths_ms"][place]
        row = {name: plan[name][place] for name in _PLANNED}
        traded = row["traded_wh"]
        load = row["load_wh"] + (taken[place] if taken else 0)
        amounts = (
            load,
            row["pv_wh"] - row["curtail_wh"],
            row["discharge_wh"],
            max(traded, 0),
            row["import_wh"],
            row["charge_wh"],
            max(-traded, 0),
            row["export_wh"],
        )
        powers = (mean_power_w(wh, length_ms) for wh in amounts)
        found.append(Flow(start_ms, length_ms, *powers, row["stored_wh"], True))
    return found


_PLANNED = (
    *("load_wh", "pv_wh", "curtail_wh", "discharge_wh", "traded_wh"),
    *("import_wh", "charge_wh", "export_wh", "stored_wh"),
)


def runs(flows: Sequence[Flow]) -> Iterator[list[Flow]]:
    """Yield stretches without a gap."""
    run: list[Flow] = list(flows[:1])
    for one, after in pairwise(flows):
        if after.start_ms != one.end_ms:
            yield run
            run = []
        run.append(after)
    if run:
        yield run


def edges_of(run: Sequence[Flow]) -> list[float]:
    """Return where each begins, and where the last ends. [ms]"""
    return [*(float(flow.start_ms) for flow in run), float(run[-1].end_ms)] if run else []
