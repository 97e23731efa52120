"""The live view of a street in the terminal: homes, the last slots, the chain."""

import io
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from zoneinfo import ZoneInfo

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console, ConsoleDimensions, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from testnet.main import MainObservations
from testnet.processes import HomeProcess
from testnet.report import Observations
from testnet.street import Street

SLOTS_SHOWN: Final = 8
FLOWS_SHOWN: Final = 12
PICTURE_COLUMNS: Final = 108
BAR_CHARS: Final = 10
# On a screen of fewer columns a battery's bar has half as many characters.
WIDE_COLUMNS: Final = 100
# A screen of few lines has so many slots and homes at least, however many there are.
SLOTS_LEAST: Final = 3
HOMES_LEAST: Final = 1
SPARKS: Final = "▁▂▃▄▅▆▇█"
MICRO: Final = 1_000_000


class LiveView:
    """A screen that is drawn again at each poll. Does nothing if it is not enabled.

    Parameters
    ----------
    street : Street
    enabled : bool
    address : str or None
        Where a home's dashboard is.
    """

    def __init__(self, street: Street, enabled: bool, address: str | None = None) -> None:
        self._street = street
        self._address = address
        self._zone = ZoneInfo(street.plan.zone)
        self._live = Live(console=Console(), auto_refresh=False) if enabled else None

    def __enter__(self) -> "LiveView":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(
        self,
        observed: Sequence[Observations],
        tiers: MainObservations | None,
        processes: list[HomeProcess],
    ) -> None:
        """Draw what has been seen of each region, and of the main chain if there is one."""
        if self._live is not None:
            size = self._live.console.size
            self._live.update(self.render(observed, tiers, processes, size), refresh=True)

    def save(
        self,
        observed: Sequence[Observations],
        tiers: MainObservations | None,
        processes: list[HomeProcess],
        file: Path,
    ) -> None:
        """Save the screen as an SVG picture."""
        console = Console(record=True, width=PICTURE_COLUMNS, file=io.StringIO())
        console.print(self.render(observed, tiers, processes))
        # Rich's template names a font on the web; the reader's own will do.
        template = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
        console.save_svg(str(file), title="commonwatt testnet up", code_format=template)

    def render(
        self,
        observed: Sequence[Observations],
        tiers: MainObservations | None,
        processes: list[HomeProcess],
        size: ConsoleDimensions | None = None,
    ) -> Group:
        """Return the screen; no larger than `size`, if homes and slots can be left out for that."""
        console = Console(width=size.width if size else PICTURE_COLUMNS, file=io.StringIO())
        bar = BAR_CHARS if console.width >= WIDE_COLUMNS else BAR_CHARS // 2

        def lines(part: RenderableType) -> int:
            return len(console.render_lines(part))

        head: list[RenderableType] = [self._headline(observed)]
        if tiers is not None:
            head.append(_regions(observed, tiers))
        foot = self._foot()
        slots = homes = None
        if size is not None:
            # A terminal puts the cursor below the last line.
            room = size.height - 1 - lines(foot) - sum(lines(part) for part in head)
            most = max(len(seen.names) for seen in observed)
            slots, homes = _fitting(
                room, most, len(observed), len(observed[0].slots) if tiers is None else None
            )
        body: list[RenderableType] = [self._homes(seen, processes, bar, homes) for seen in observed]
        # Of several regions there is no room for the slots of each.
        body += [self._slots(seen, slots) for seen in observed[:1] if tiers is None]
        return Group(*head, *body, foot)

    def _headline(self, observed: Sequence[Observations]) -> Panel:
        alive = [seen.status[name] for seen in observed for name in seen.alive()]
        if not alive or any(seen.first_block_s is None for seen in observed):
            count = sum(len(seen.names) for seen in observed)
            return Panel(f"starting: {len(alive)} of {count} homes are up", title="Commonwatt")
        best = max(alive, key=lambda status: status["height"])
        market_ms = max(s["home"]["market_ms"] for s in alive if s["home"])
        moment = datetime.fromtimestamp(market_ms / 1000, UTC).astimezone(self._zone)
        slots = [slot for seen in observed for slot in seen.slots.values()]
        traded = sum(slot["traded_wh"] for slot in slots) / 1000
        saved = sum(s["home"]["saved_micro"] for s in alive if s["home"]) / MICRO
        p95 = [s["finality_ms"]["p95"] for s in alive if s["finality_ms"]["p95"]]
        text = Text()
        text.append(f"{moment:%a %d %b %H:%M}", "bold")
        text.append(f"  ×{self._street.plan.time_lapse}   ")
        text.append(f"height {best['height']}   {len(slots)} slots   {traded:.2f} kWh traded   ")
        text.append(f"saved {saved:.2f}", "green")
        if p95:
            text.append(f"   final in {max(p95) / 1000:.1f} s (p95)")
        chain_ids = dict.fromkeys(status["chain_id"] for status in alive)
        return Panel(text, title="Commonwatt", subtitle=", ".join(chain_ids))

    def _homes(
        self, seen: Observations, processes: list[HomeProcess], bar: int, shown: int | None
    ) -> Table:
        table = Table(
            expand=True,
            box=None,
            pad_edge=False,
            header_style="dim",
            padding=(0, 1) if bar == BAR_CHARS else (0, 1, 0, 0),
        )
        for name, justify in (
            ("home", "left"),
            ("height", "right"),
            ("peers", "right"),
            ("load", "right"),
            ("sun", "right"),
            ("battery", "left"),
            ("bought", "right"),
            ("sold", "right"),
            ("bill", "right"),
            ("saved", "right"),
            ("MiB", "right"),
        ):
            table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
        restarts = {process.name: process.restarts for process in processes}
        for name in seen.names[:shown]:
            status = seen.status.get(name)
            if status is None or status["home"] is None:
                table.add_row(Text(name, "dim"), Text("starting", "dim"))
                continue
            table.add_row(*_home_row(name, status, name in seen.up, restarts.get(name, 0), bar))
        if shown is not None and shown < len(seen.names):
            table.caption = f"and {len(seen.names) - shown} homes more"
            table.caption_justify = "left"
        return table

    def _slots(self, seen: Observations, shown: int | None) -> Table:
        table = Table(expand=True, box=None, pad_edge=False, header_style="dim")
        for title in ("slot", "bids", "asks", "trades", "kWh", "price", "grid", "tariff"):
            table.add_column(title, justify="right", no_wrap=True)
        numbers = sorted(seen.slots)
        width = self._street.plan.slot_minutes * 60
        for number in numbers[-(SLOTS_SHOWN if shown is None else shown) :]:
            slot = seen.slots[number]
            at = datetime.fromtimestamp(number * width, UTC).astimezone(self._zone)
            low, high = slot["low_micro_per_kwh"] / MICRO, slot["high_micro_per_kwh"] / MICRO
            price = f"{low:.3f}–{high:.3f}" if slot["trades"] else "–"
            table.add_row(
                f"{at:%H:%M}",
                str(slot["bids"]),
                str(slot["asks"]),
                str(slot["trades"]),
                f"{slot['traded_wh'] / 1000:.2f}",
                price,
                f"{(slot['grid_wh'] - slot['fed_in_wh']) / 1000:+.2f}",
                f"{slot['tariff_micro_per_kwh'] / MICRO:.3f}",
            )
        table.caption = "traded " + _spark([seen.slots[n]["traded_wh"] for n in numbers[-48:]])
        table.caption_justify = "left"
        return table

    def _foot(self) -> Text:
        where = f"dashboard {self._address}   " if self._address else ""
        return Text(f"{where}{self._street.directory}   Ctrl-C stops the street", "dim")


def _fitting(room: int, homes: int, tables: int, slots: int | None) -> tuple[int, int | None]:
    """Return how many slots and how many homes of each table fit into the lines there are.

    None: all homes. Slots give way first, down to `SLOTS_LEAST`; None of them: they are not shown.
    """
    known = 0 if slots is None else min(slots, SLOTS_SHOWN)
    # A title above each table, and below that of the slots how much was traded.
    room -= tables + (0 if slots is None else 2)
    over = room - tables * homes
    if over >= 0:
        return min(known, over), None
    known = min(known, SLOTS_LEAST)
    # A line of each table says how many are left out.
    return known, max(HOMES_LEAST, (room - known) // tables - 1)


def _regions(observed: Sequence[Observations], tiers: MainObservations) -> Table:
    """Return how the regions stand with the main chain."""
    table = Table(expand=True, box=None, pad_edge=False, header_style="dim")
    table.add_column("region")
    for title in (
        "status",
        "height",
        "slots",
        "kWh",
        "to others",
        "from others",
        "closed",
        "anchored",
        "audited",
    ):
        table.add_column(title, justify="right")
    for group, seen in zip(tiers.groups, observed, strict=True):
        known, last = tiers.regions.get(group.number, {}), tiers.lasts.get(group.number, {})
        inside = tiers.inside.get(group.number, {})
        status = known.get("status", "–")
        heights = [seen.status[name]["height"] for name in seen.alive()]
        table.add_row(
            f"{group.number}  {group.names[0]} … {group.names[-1]}",
            Text(status, {"live": "green", "proposed": "dim"}.get(status, "red")),
            str(max(heights, default=0)),
            str(len(seen.slots)),
            f"{sum(slot['traded_wh'] for slot in seen.slots.values()) / 1000:.2f}",
            f"{inside.get('exported_wh', 0) / 1000:.2f}",
            f"{inside.get('imported_wh', 0) / 1000:.2f}",
            str(inside.get("closed", "–")),
            str(last.get("number", "–")),
            str(tiers.audits.get(group.number, {}).get("number", "–")),
        )
    if tiers.status is not None:
        lines = [f"{tiers.status['chain_id']}: height {tiers.status['height']}"]
        if tiers.flows:
            lines.append(f"sold between regions, kWh: {_flows(tiers.flows)}")
        table.caption = "\n".join(lines)
        table.caption_justify = "left"
    return table


def _flows(flows: Mapping[tuple[int, int], int]) -> str:
    """Return the largest flows between regions, by seller and buyer."""
    largest = sorted(flows.items(), key=lambda row: (-row[1], row[0]))
    shown = [f"{seller} → {buyer} {wh / 1000:.2f}" for (seller, buyer), wh in largest[:FLOWS_SHOWN]]
    return ", ".join(shown) + (" …" if len(largest) > FLOWS_SHOWN else "")


def _home_row(
    name: str, status: dict[str, Any], up: bool, restarts: int, bar: int
) -> list[Text | str]:
    home = status["home"]
    title = Text(name, "bold" if status["authority"] is not None else "")
    if status["authority"] is not None:
        title.append(" ★" if status["voting"] else " ☆", "yellow")
    if not up:
        title.append(" away", "red")
    elif restarts:
        title.append(f" ↻{restarts}", "dim")
    saved = home["saved_micro"] / MICRO
    behind = f" (−{status['behind']})" if status["behind"] else ""
    return [
        title,
        f"{status['height']}{behind}",
        str(len(status["peers"])),
        f"{home['load_wh']}",
        f"{home['pv_wh']}" if home["pv_wh"] else "",
        _battery(home["stored_wh"], home["battery_wh"], bar),
        f"{home['bought_wh'] / 1000:.2f}",
        f"{home['sold_wh'] / 1000:.2f}",
        f"{home['total_micro'] / MICRO:.2f}",
        Text(f"{saved:.2f}", "green" if saved > 0 else ""),
        f"{status['rss_mib']:.0f}",
    ]


def _battery(stored_wh: int, capacity_wh: int, bar: int) -> Text:
    if not capacity_wh:
        return Text("")
    share = min(max(stored_wh / capacity_wh, 0.0), 1.0)
    full = round(share * bar)
    text = Text("█" * full, "green" if share > 0.25 else "yellow")
    text.append("░" * (bar - full), "dim")
    return text.append(f" {share * 100:3.0f} %")


def _spark(values: list[int]) -> str:
    highest = max(values, default=0)
    if not highest:
        return "–"
    return "".join(SPARKS[value * (len(SPARKS) - 1) // highest] for value in values)
