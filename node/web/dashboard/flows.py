"""A home's energy slot by slot, as it was delivered and as it is planned."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

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
    is_planned: bool

    @property
    def end_ms(self) -> int:
        """Where the next one begins."""
        return self.start_ms + self.length_ms


def delivered(rows: Sequence[dict[str, Any]]) -> list[Flow]:
    """Return what was delivered (`node.api.outlook`: deliveries)."""
    return [_delivered(row) for row in rows]


def _delivered(row: dict[str, Any]) -> Flow:
    bought_wh = min(max(row["traded_wh"], 0), row["import_wh"])
    sold_wh = min(max(-row["traded_wh"], 0), row["export_wh"])
    return _flow(
        row | {"start_ms": row["slot_start_ms"], "length_ms": row["slot_ms"]},
        load_wh=row["load_wh"],
        bought_wh=bought_wh,
        sold_wh=sold_wh,
        from_grid_wh=row["import_wh"] - bought_wh,
        to_grid_wh=row["export_wh"] - sold_wh,
        is_planned=False,
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
        row = {name: plan[name][place] for name in _PLANNED}
        row |= {"start_ms": start_ms, "length_ms": plan["lengths_ms"][place]}
        found.append(
            _flow(
                row,
                load_wh=row["load_wh"] + (taken[place] if taken else 0),
                bought_wh=max(row["traded_wh"], 0),
                sold_wh=max(-row["traded_wh"], 0),
                # A plan's are beside what is traded; a meter's have it in them.
                from_grid_wh=row["import_wh"],
                to_grid_wh=row["export_wh"],
                is_planned=True,
            )
        )
    return found


def _flow(
    row: dict[str, Any],
    *,
    load_wh: int,
    bought_wh: int,
    sold_wh: int,
    from_grid_wh: int,
    to_grid_wh: int,
    is_planned: bool,
) -> Flow:
    length_ms = int(row["length_ms"])
    return Flow(
        start_ms=int(row["start_ms"]),
        length_ms=length_ms,
        load_w=mean_power_w(load_wh, length_ms),
        sun_w=mean_power_w(row["pv_wh"] - row["curtail_wh"], length_ms),
        from_battery_w=mean_power_w(row["discharge_wh"], length_ms),
        from_street_w=mean_power_w(bought_wh, length_ms),
        from_grid_w=mean_power_w(from_grid_wh, length_ms),
        to_battery_w=mean_power_w(row["charge_wh"], length_ms),
        to_street_w=mean_power_w(sold_wh, length_ms),
        to_grid_w=mean_power_w(to_grid_wh, length_ms),
        stored_wh=int(row["stored_wh"]),
        is_planned=is_planned,
    )


_PLANNED: Final = (
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
