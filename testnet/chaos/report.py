"""What a run has shown, told: as a table for the terminal, as JSON; `page` draws it."""

from collections.abc import Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from testnet.chaos.verdict import Phase, Recovery, Seen, Verdict
from testnet.chaos.watch import Sample

REPORT_VERSION: Final = 1
POINTS_MAX: Final = 400
STRIKES_SHOWN: Final = 30


def as_json(seen: Seen, verdict: Verdict, target: str) -> dict[str, Any]:
    """Return the report as plain data."""
    scenario = seen.plan.scenario
    return {
        "version": REPORT_VERSION,
        "scenario": scenario.name,
        "about": scenario.about,
        "target": target,
        "seed": scenario.run.seed,
        "nodes": list(seen.plan.roster.names),
        "authorities": list(seen.plan.roster.authorities),
        "passed": verdict.passed,
        "checks": [
            {"name": check.name, "passed": check.passed, "said": check.said}
            for check in verdict.checks
        ],
        "strikes": [_strike(recovery) for recovery in verdict.recoveries],
        "phases": [_phase(phase) for phase in verdict.phases],
        "loads": {name: load._asdict() for name, load in verdict.loads.items()},
        "growths": {
            name: {field: round(value, 2) for field, value in growth._asdict().items()}
            for name, growth in verdict.growths.items()
        },
        "blocks": len(seen.blocks_s),
        "bursts": list(seen.bursts),
        "problems": list(seen.problems),
        "checkpoints": _checkpoints(seen),
        "heights": {
            name: [[round(s.at_s, 1), s.height] for s in thinned(samples)]
            for name, samples in seen.samples.items()
        },
        "began_s": round(seen.began_s, 1),
        "over_s": round(seen.over_s, 1),
        "finished_s": round(seen.finished_s, 1),
        # None where it did not answer.
        "rss_mib": {
            name: [
                [round(s.at_s, 1), round(s.rss_mib, 2) if s.up else None] for s in thinned(samples)
            ]
            for name, samples in seen.samples.items()
        },
    }


def _checkpoints(seen: Seen) -> list[list[float]]:
    """Return [seconds, last closed, last anchored] whenever one of them has changed."""
    found: list[list[float]] = []
    for one in seen.main.checkpoints if seen.main is not None else ():
        row = [round(one.at_s, 1), one.closed, one.anchored]
        if not found or found[-1][1:] != row[1:]:
            found.append(row)
    return found


def _strike(recovery: Recovery) -> dict[str, Any]:
    struck = recovery.struck
    return {
        "kind": struck.strike.kind,
        "nodes": list(struck.strike.nodes),
        "sides": [list(side) for side in struck.strike.sides],
        "began_s": round(struck.began_s, 2),
        "ended_s": round(struck.ended_s, 2),
        "up_s": None if recovery.up_s is None else round(recovery.up_s, 2),
        "recovery_s": None if recovery.took_s is None else round(recovery.took_s, 2),
        "allowed_s": recovery.allowed_s,
    }


def _phase(phase: Phase) -> dict[str, Any]:
    return {
        "name": phase.name,
        "seconds": round(phase.end_s - phase.begin_s, 1),
        "blocks": phase.blocks,
        "blocks_per_s": round(phase.rate, 3),
        "longest_gap_s": round(phase.gap_s, 2),
        "finality_ms": phase.finality_ms,
    }


def thinned(samples: Sequence[Sample]) -> list[Sample]:
    """Return at most `POINTS_MAX` samples, the last of each stretch; one that is down is kept."""
    step = max(len(samples) // POINTS_MAX, 1)
    kept = []
    for begin in range(0, len(samples), step):
        stretch = samples[begin : begin + step]
        kept.append(next((sample for sample in stretch if not sample.up), stretch[-1]))
    return kept


# -- for the terminal


def show(report: dict[str, Any], console: Console) -> None:
    """Print the report's checks, strikes, phases and loads."""
    word, style = ("PASSED", "green") if report["passed"] else ("FAILED", "red")
    title = Text(f"{report['scenario']} on {report['target']}: ").append(word, f"bold {style}")
    console.print(title)
    checks = _table("", "check", "figures")
    for check in report["checks"]:
        mark = Text("✓", "green") if check["passed"] else Text("✗", "bold red")
        checks.add_row(mark, check["name"], check["said"])
    console.print(checks)
    phases = _table("phase", "seconds", "blocks", "blocks/s", "longest gap", "final p50", "p95")
    for phase in report["phases"]:
        final = phase["finality_ms"]
        phases.add_row(
            phase["name"],
            f"{phase['seconds']:.0f}",
            str(phase["blocks"]),
            f"{phase['blocks_per_s']:.2f}",
            f"{phase['longest_gap_s']:.1f} s",
            in_ms(final["p50"]),
            in_ms(final["p95"]),
        )
    console.print(phases)
    strikes = _table("fault", "nodes", "from", "to", "answers after", "then at the head after")
    for strike in report["strikes"][:STRIKES_SHOWN]:
        strikes.add_row(
            strike["kind"],
            who(strike),
            f"{strike['began_s']:.1f} s",
            f"{strike['ended_s']:.1f} s",
            in_s(strike["up_s"]),
            in_s(strike["recovery_s"]),
        )
    if len(report["strikes"]) > STRIKES_SHOWN:
        strikes.caption = f"and {len(report['strikes']) - STRIKES_SHOWN} more"
    console.print(strikes)
    loads = report["loads"].values()
    console.print(
        f"memory per node at most {max(load['rss_max_mib'] for load in loads):.0f} MiB, "
        f"CPU per node at most {max(load['cpu_percent'] for load in loads):.0f} % of a core"
    )


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column)
    return table


def in_s(value: float | None) -> str:
    """Return seconds for a table."""
    return "never" if value is None else f"{value:.1f} s"


def in_ms(value: float | None) -> str:
    """Return milliseconds for a table."""
    return "–" if value is None else f"{value:.0f} ms"


def who(strike: dict[str, Any]) -> str:
    """Return a strike's nodes, or sides, in short."""
    sides = strike["sides"] or [strike["nodes"]]
    return " | ".join(
        ", ".join(side) if len(side) <= 4 else f"{side[0]} and {len(side) - 1} more"
        for side in sides
    )
