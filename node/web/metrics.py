"""What a node counts and measures, as Prometheus reads it (text format 0.0.4).

Everything is read at the scrape from what the parts keep anyway; nothing is counted for this only.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from market import client
from market.errors import QueryError
from node.home.household import Household
from node.process import cpu_s, rss_mib
from node.status import version
from node.tiers import Tier

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
MICRO: Final = 1_000_000
MIB: Final = 1_048_576
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Sample(NamedTuple):
    """One value with its labels; `suffix` stands behind the family's name."""

    value: float
    labels: Mapping[str, str] = {}
    suffix: str = ""


def family(name: str, kind: str, meaning: str, samples: Iterable[Sample]) -> list[str]:
    """Return a metric's lines; none if there are no samples."""
    lines = [_line(name, sample) for sample in samples]
    if not lines:
        return []
    return [f"# HELP commonwatt_{name} {meaning}", f"# TYPE commonwatt_{name} {kind}", *lines]


def _line(name: str, sample: Sample) -> str:
    labels = ",".join(
        f'{label}="{value.translate(_ESCAPES)}"' for label, value in sample.labels.items()
    )
    place = f"{{{labels}}}" if labels else ""
    return f"commonwatt_{name}{sample.suffix}{place} {sample.value:.15g}"


class Metrics:
    """Renders the metrics of one node.

    Parameters
    ----------
    tiers : sequence of Tier
        The chains it keeps, its own first.
    household : Household or None
    """

    def __init__(self, tiers: Sequence[Tier], household: Household | None) -> None:
        self._tiers = tiers
        self._household = household

    def render(self) -> str:
        """Return all metrics as they are now."""
        lines = [*self._process(), *self._chains(), *self._latencies(), *self._home()]
        return "\n".join(lines) + "\n"

    def _process(self) -> list[str]:
        name = self._tiers[0].name
        return [
            *family(
                "build_info",
                "gauge",
                "Always 1; the program's version.",
                [Sample(1, {"version": version(), "node": name})],
            ),
            *family(
                "resident_memory_bytes",
                "gauge",
                "Memory of the process.",
                [Sample(round(rss_mib() * MIB))],
            ),
            *family(
                "cpu_seconds_total",
                "counter",
                "CPU time of the process, user and system.",
                [Sample(round(cpu_s(), 3))],
            ),
        ]

    def _chains(self) -> list[str]:
        rows = [(tier, {"chain": tier.genesis.chain_id}) for tier in self._tiers]
        lines: list[str] = []
        for name, meaning, read in (
            ("height", "Height of the last block that was applied.", lambda t: t.chain.height),
            ("round", "Round of the height in progress, -1 before one.", lambda t: t.chain.round),
            ("epoch", "Epoch of the authorities.", lambda t: t.chain.authorities.epoch),
            ("blocks_behind", "Blocks that are known to be missing.", lambda t: t.sync.behind),
            ("peers", "Connected neighbours.", lambda t: len(t.network.peers())),
            ("mempool_transactions", "Transactions that wait.", lambda t: len(t.mempool)),
            ("voting", "1 if it has a seat and uses it.", lambda t: int(t.chain.voting)),
            (
                "block_time_seconds",
                "Time of the last block, since 1970.",
                lambda t: t.chain.head.header.time_ms / 1_000,
            ),
        ):
            lines += family(
                name, "gauge", meaning, [Sample(read(tier), labels) for tier, labels in rows]
            )
        lines += family(
            "events_total",
            "counter",
            "What the parts of a chain have counted since the start.",
            [
                Sample(count, labels | {"event": event})
                for tier, labels in rows
                for event, count in {**tier.chain.counts, **tier.network.counters()}.items()
            ],
        )
        supplies = [(client.money(tier.app.query), labels) for tier, labels in rows]
        for kind in ("minted", "redeemed"):
            samples = [
                Sample(getattr(supply, f"{kind}_micro") / MICRO, labels)
                for supply, labels in supplies
            ]
            lines += family(f"money_{kind}_units", "gauge", f"Money {kind} in all.", samples)
        return lines + family(
            "refused_transactions_total",
            "counter",
            "Transactions that this node has refused since the start, by reason.",
            [
                Sample(count, labels | {"reason": reason})
                for tier, labels in rows
                for reason, count in tier.mempool.refused.items()
            ],
        )

    def _latencies(self) -> list[str]:
        samples = []
        for tier in self._tiers:
            labels = {"chain": tier.genesis.chain_id}
            ordered = sorted(tier.finality.latencies_ms)
            for quantile in (0.5, 0.95) if ordered else ():
                place = min(len(ordered) - 1, int(quantile * len(ordered)))
                seconds = ordered[place] / 1_000
                samples.append(Sample(seconds, labels | {"quantile": str(quantile)}))
        meaning = "From handing in to decision, of the last transactions handed in here."
        return family("finality_seconds", "gauge", meaning, samples)

    def _home(self) -> list[str]:
        if self._household is None:
            return []
        try:
            home = self._household.snapshot()
        except QueryError:
            # Not registered yet: there is nothing to tell.
            return []
        lines: list[str] = []
        for name, unit, meaning, field, scale in _HOME:
            lines += family(f"home_{name}_{unit}", "gauge", meaning, [Sample(home[field] / scale)])
        capacity_wh = home["battery_wh"]
        soc = [Sample(home["stored_wh"] / capacity_wh)] if capacity_wh else []
        lines += family("home_battery_soc_ratio", "gauge", "State of charge of all batteries.", soc)
        return lines + _refused(home["refused"])


_HOME: Final[tuple[tuple[str, str, str, str, int], ...]] = (
    ("bought", "wh", "Energy bought from neighbours.", "bought_wh", 1),
    ("sold", "wh", "Energy sold to neighbours.", "sold_wh", 1),
    ("load", "wh", "Load in the last slot.", "load_wh", 1),
    ("pv", "wh", "Production in the last slot.", "pv_wh", 1),
    ("battery", "wh", "What the batteries hold.", "stored_wh", 1),
    ("balance", "units", "Money on the account.", "balance_micro", MICRO),
    ("held", "units", "Money held for orders and bonds.", "held_micro", MICRO),
    ("billed", "units", "Sum of all bills.", "total_micro", MICRO),
    ("grid_only", "units", "What the grid alone would have cost.", "grid_only_micro", MICRO),
    ("saved", "units", "What trading has saved.", "saved_micro", MICRO),
)


def _refused(refused: Mapping[str, Any]) -> list[str]:
    return family(
        "home_refused_total",
        "counter",
        "Transactions of the home that were refused, by reason.",
        [Sample(count, {"reason": reason}) for reason, count in refused.items()],
    )
