"""What a command of the simulator prints: how fast it is, what it has found, and what happened."""

# ruff: noqa: T201
import argparse
import sys
import time
from typing import Any

VIOLATIONS_SHOWN_MAX = 50
PROGRESS_S = 0.5
PROGRESS_LINE_S = 30.0


class Report:
    """Counts results as they come, shows progress, and says at the end what happened."""

    def __init__(self, options: argparse.Namespace, fields: tuple[str, ...]) -> None:
        self._options = options
        self._started = self._shown = time.perf_counter()
        self._is_tty = sys.stderr.isatty()
        self._totals = dict.fromkeys(fields, 0)
        self._runs = self.violations = 0

    def take(self, result: Any) -> None:
        """Count a run."""
        self._runs += 1
        for name in self._totals:
            self._totals[name] += getattr(result, name)
        if result.violation is not None:
            self.violations += 1
            if self.violations <= VIOLATIONS_SHOWN_MAX:
                self._show_violation(result)
        now = time.perf_counter()
        if now - self._shown >= (PROGRESS_S if self._is_tty else PROGRESS_LINE_S):
            self._shown = now
            self._show_progress()

    def _show_violation(self, result: Any) -> None:
        options = self._options
        again = f"--first-seed {result.seed} --seeds 1 --nodes {result.nodes}"
        again += f" --faults {options.faults}" if options.faults != "any" else ""
        again += f" --mutant '{options.mutant}'" if options.mutant else ""
        again += f" --tiers --regions {options.regions}" if options.tiers else ""
        self._clear()
        print(f"seed {result.seed} n={result.nodes}: {result.violation}")
        print(f"    again: uv run python -m tests.sim {again}", flush=True)

    def _show_progress(self) -> None:
        rate = self._runs / (time.perf_counter() - self._started)
        left_s = (self._options.seeds - self._runs) / rate
        line = (
            f"{self._runs} of {self._options.seeds} runs, {rate:.0f} runs/s, "
            f"{self.violations} violations, {left_s:.0f} s left"
        )
        self._clear()
        print(line, end="" if self._is_tty else "\n", file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if self._is_tty:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def show(self) -> None:
        """Print the summary."""
        self._clear()
        seconds = time.perf_counter() - self._started
        totals = self._totals
        simulated_s = totals["simulated_ms"] / 1000
        print(
            f"{self._runs} runs in {seconds:.0f} s, {self._runs / seconds:.1f} runs/s, "
            f"simulated/real time {simulated_s / seconds:.0f}\n{self._counts(totals)}\n"
            f"{self.violations} violations"
        )

    def _counts(self, totals: dict[str, int]) -> str:
        return (
            f"{totals['heights']} heights, {totals['messages']} messages, "
            f"{totals['committed']} transfers, {totals['questions']} questions of sync, "
            f"{totals['jumps']} snapshots taken over, {totals['liars_dropped']} liars dropped,\n"
            f"{totals['evidence']} double signatures found, {totals['convictions']} convictions"
        )


class TierReport(Report):
    """The same of runs of both tiers."""

    def __init__(self, options: argparse.Namespace, fields: tuple[str, ...]) -> None:
        super().__init__(options, fields)
        self._slowest_ms = 0

    def take(self, result: Any) -> None:
        """Count a run."""
        super().take(result)
        self._slowest_ms = max(self._slowest_ms, result.anchoring_ms)

    def _counts(self, totals: dict[str, int]) -> str:
        runs = max(self._runs, 1)
        return (
            f"{totals['heights']} heights, {totals['messages']} messages, "
            f"{totals['jumps']} snapshots taken over, {totals['convictions']} convictions,\n"
            f"{totals['closed']} records closed, {totals['anchored']} anchored with "
            f"{totals['slots']} slots, {totals['rotations']} sets shown, "
            f"{totals['refused']} transactions refused, {totals['traded_wh']} Wh traded,\n"
            f"{totals['audited']} records audited, {totals['redrawn']} auditors drawn anew, "
            f"{totals['accused']} accusations, {totals['proven']} frauds proven, "
            f"{totals['left']} homes and regions left,\n"
            f"{totals['halts']} regions halted, {totals['frozen']} frozen; all anchored and known "
            f"{totals['anchoring_ms'] / runs / 1000:.1f} s after healing, "
            f"{self._slowest_ms / 1000:.1f} s at most"
        )
