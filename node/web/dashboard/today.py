"""Cards of this node's home: what its day has come to, and when its movable loads run next."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from node.web.dashboard import texts
from node.web.dashboard.flows import Flow, Row
from node.web.dashboard.html import Html, el
from node.web.dashboard.parts import badge, card, facts, meter, rows
from node.web.dashboard.words import HOUR_MS, Local, energy, percent

DEVICES_SHOWN: Final = 12
# What a plan lets a load take for rounding's sake is no run of it.
RUN_WH_MIN: Final = 1


def today_card(past: Sequence[Flow], market_ms: int, local: Local) -> Html | None:
    """Return what was used, made and traded since midnight; None if nothing was delivered yet."""
    day = local.moment(market_ms).date()
    flows = [flow for flow in past if local.moment(flow.start_ms).date() == day]
    if not flows:
        return None

    def sum_wh(power_w: Callable[[Flow], float]) -> float:
        return sum(power_w(flow) * flow.length_ms / HOUR_MS for flow in flows)

    used_wh = sum_wh(lambda flow: flow.load_w)
    bought_wh = sum_wh(lambda flow: flow.from_street_w)
    grid_wh = sum_wh(lambda flow: flow.from_grid_w)
    # What charged the battery from outside is no use of the house's own.
    own = max(0.0, used_wh - bought_wh - grid_wh) / used_wh if used_wh else 0.0
    return card(
        texts.TODAY,
        facts(
            [
                (texts.HOUSE, energy(used_wh)),
                (texts.SUN, energy(sum_wh(lambda flow: flow.sun_w))),
                (texts.FROM_STREET, energy(bought_wh)),
                (texts.FROM_GRID, energy(grid_wh)),
                (texts.TO_STREET, energy(sum_wh(lambda flow: flow.to_street_w))),
                (texts.TO_GRID, energy(sum_wh(lambda flow: flow.to_grid_w))),
            ]
        ),
        meter(own, "battery"),
        el("p", texts.OWN_SHARE.format(share=percent(own)), class_="why"),
        why=texts.TODAY_SINCE.format(clock=local.clock(flows[0].start_ms)),
    )


def devices_card(
    devices: Row | None, plan: Row | None, market_ms: int, local: Local
) -> Html | None:
    """Return when each movable load runs next by the plan; None for a home without any."""
    if devices is None or not devices["devices"]:
        return None
    return card(
        texts.DEVICES,
        rows(_device(one, plan, market_ms, local) for one in devices["devices"][:DEVICES_SHOWN]),
        why=texts.DEVICES_WHY,
    )


def _device(device: Row, plan: Row | None, market_ms: int, local: Local) -> Html:
    run = next(_runs(plan, device["name"], market_ms), None)
    when = texts.NOT_PLANNED
    if run is not None:
        begins_ms, ends_ms, _ = run
        begin = texts.NOW_MARK if begins_ms <= market_ms else local.clock(begins_ms)
        when = f"{begin}–{local.clock(ends_ms)}"
        if local.moment(begins_ms).date() > local.moment(market_ms).date():
            when = texts.TOMORROW.format(when=when)
    return el(
        "li",
        el("span", device["name"].replace("_", " "), class_="grow"),
        badge(texts.NOT_PLUGGED) if device["plugged"] is False else None,
        el("b", energy(run[2])) if run is not None else None,
        el("span", when, class_="dim line"),
        class_="wrap",
    )


def _runs(plan: Row | None, name: str, market_ms: int) -> Iterator[tuple[int, int, int]]:
    """Yield when a plan lets a load run, and what it takes then: (from, to, Wh), in order."""
    if plan is None:
        return
    taken: Sequence[int] = plan["device_wh"].get(name, ())
    begins_ms, ends_ms, wh = 0, 0, 0
    for start_ms, length_ms, step_wh in zip(
        plan["starts_ms"], plan["lengths_ms"], taken, strict=False
    ):
        if step_wh >= RUN_WH_MIN and start_ms + length_ms > market_ms:
            begins_ms, wh = (start_ms, step_wh) if not wh else (begins_ms, wh + step_wh)
            ends_ms = start_ms + length_ms
        elif wh:
            yield begins_ms, ends_ms, wh
            wh = 0
    if wh:
        yield begins_ms, ends_ms, wh
