"""A street of authorities as processes, disturbed at random, and checked after every disturbance.

    uv run python -m tests.e2e.perturb --count 100 [--seed S] [--authorities 7] [--json FILE]
        [--snapshots N]

One seed makes one sequence of perturbations. After each, every home must be at the street's head
within ten seconds; at the end all chains, all orders that were reported as decided, all that the
authorities have signed, and the money are compared. A violation ends the run with exit code 1 and
leaves the street's directory with the homes' logs.

With `--snapshots N` the homes make a snapshot every N blocks and take one when twice as far behind;
a wiped home then has no blocks from before, and those it has are compared.
"""

# ruff: noqa: T201 - a command

import argparse
import asyncio
import contextlib
import json
import os
import random
import secrets
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.machine import describe
from market import client
from node.api.control import ask
from node.config import SyncSection
from node.errors import ControlError
from node.genesis import read_genesis
from node.setup import DATA_NAME, GENESIS_NAME, KEY_NAME, read_key
from testnet.processes import HomeProcess, start_all, stop_all
from testnet.report import money_conserved
from testnet.street import Street, StreetPlan, create_street
from tests.e2e.chains import Signed, order_problems, read_chain, root_problems
from tests.e2e.relays import Relays

TIME_LAPSE: Final = 180
SETTLED_IN_S: Final = 120.0
RECOVERY_MAX_S: Final = 10.0
# When to stop waiting for a home that has missed the aim, and for the votes of all.
PATIENCE_S: Final = 90.0
POLL_S: Final = 0.25
POLL_TIMEOUT_S: Final = 2.0
STOPPED_S: Final = 10.0
LATER_S: Final = (1.0, 5.0)
CUT_S: Final = (3.0, 8.0)
PAUSE_S: Final = (0.5, 1.5)
# A block may be on its way into the house when the wire goes silent.
SILENT_BLOCKS_MAX: Final = 2
ORDER_S: Final = 0.8
ORDER_VALID_MS: Final = 60_000
ORDER_SLOTS: Final = 4
# Below what the grid pays: such bids find no seller, so that nobody is in their debt.
ORDER_PRICES_MICRO: Final = (1_000, 50_000)

KINDS: Final = ("kill", "kill, later", "stop", "cut", "silence", "restart", "wipe")
TWO: Final = "two at once"


class Strike(NamedTuple):
    """What happens to one home; `seconds` as far as the kind has a length."""

    kind: str
    name: str
    seconds: float


class Perturbation(NamedTuple):
    """One or two strikes at once."""

    strikes: tuple[Strike, ...]
    pause_s: float

    @property
    def kind(self) -> str:
        """The row of the final table."""
        return self.strikes[0].kind if len(self.strikes) == 1 else TWO

    def __str__(self) -> str:
        return " + ".join(f"{strike.kind} {strike.name}" for strike in self.strikes)


class Outcome(NamedTuple):
    """How one perturbation ended. [s]

    `up_s`: from the start of a killed home's new process until it answers, which ends the
    perturbation. From there until all homes are at the street's head, and until all vote and are
    connected with all others.
    """

    kind: str
    up_s: float
    recovery_s: float
    whole_s: float


def sequence(seed: int, count: int, names: list[str], at_once_max: int) -> list[Perturbation]:
    """Return the seed's perturbations; any eight in a row from the start show every kind."""
    draw = random.Random(seed)
    deck: list[str] = []
    found = []
    for _ in range(count):
        if not deck:
            deck = [*KINDS, TWO] if at_once_max >= 2 else list(KINDS)
            draw.shuffle(deck)
        kind = deck.pop()
        kinds = [draw.choice(KINDS) for _ in range(2)] if kind == TWO else [kind]
        victims = draw.sample(names, len(kinds))
        strikes = tuple(
            Strike(each, victim, _seconds(draw, each))
            for each, victim in zip(kinds, victims, strict=True)
        )
        found.append(Perturbation(strikes, draw.uniform(*PAUSE_S)))
    return found


def _seconds(draw: random.Random, kind: str) -> float:
    if kind == "stop":
        return STOPPED_S
    if kind in ("cut", "silence"):
        return draw.uniform(*CUT_S)
    return draw.uniform(*LATER_S) if kind == "kill, later" else 0.0


class Trial:
    """A street under perturbation; `violations` are sentences, in order."""

    def __init__(
        self,
        directory: Path,
        authorities: int,
        say: Callable[[str], None],
        recovery_max_s: float = RECOVERY_MAX_S,
        sync: SyncSection = SyncSection(),  # noqa: B008 - immutable
    ) -> None:
        # One home more than there are processes: its key signs the orders.
        plan = StreetPlan(
            homes=authorities + 1, authorities=authorities, time_lapse=TIME_LAPSE, slot_minutes=15
        )
        self.street: Street = create_street(directory / "street", plan)
        self.names = self.street.names[:authorities]
        self.faulty_max = (authorities - 1) // 3
        self.violations: list[str] = []
        self.outcomes: list[Outcome] = []
        self.orders = Orders(self)
        self.signed = Signed()
        self._say = say
        self._recovery_max_s = recovery_max_s
        self._sync = sync
        self.snapshots_taken = 0
        self._homes = {name: HomeProcess(name, self.street.home(name)) for name in self.names}
        self._relays = Relays(self.pids)
        self._stopped: set[str] = set()
        self._roots: dict[int, dict[str, str]] = {}

    def pids(self) -> dict[str, int]:
        """Return the process ids of the homes that run."""
        return {name: home.pid for name, home in self._homes.items() if home.pid is not None}

    def violated(self, what: str) -> None:
        """Note what must not be."""
        self.violations.append(what)
        self._say(f"  VIOLATION: {what}")

    def data(self, name: str) -> Path:
        """Return a home's data directory."""
        return self.street.home(name) / DATA_NAME

    # -- the run

    async def run(self, perturbations: list[Perturbation]) -> None:
        """Start the street, disturb it, stop it, and compare what is left."""
        await self._relays.open(self.street, self.names, self._sync)
        posting = None
        try:
            await start_all(list(self._homes.values()))
            await self._until_whole(SETTLED_IN_S)
            posting = asyncio.create_task(self.orders.run())
            for number, perturbation in enumerate(perturbations, 1):
                await self._disturb(number, len(perturbations), perturbation)
            posting.cancel()
            (ended,) = await asyncio.gather(posting, return_exceptions=True)
            if not isinstance(ended, asyncio.CancelledError):
                self.violated(f"no orders were posted any more: {ended!r}")
            await self._compare_running()
        finally:
            if posting is not None:
                posting.cancel()
            for name in list(self._stopped):
                self._continue(name)
            for name in self.names:
                self._relays.heal(name)
            await stop_all(list(self._homes.values()))
            await self._relays.close()
        await asyncio.to_thread(self._compare_stopped)

    async def _disturb(self, number: int, count: int, perturbation: Perturbation) -> None:
        up_s = max(await asyncio.gather(*(self._strike(strike) for strike in perturbation.strikes)))
        begun = time.monotonic()
        recovery_s = await self._until_level(begun)
        whole_s = await self._until_whole(PATIENCE_S, begun)
        self.outcomes.append(Outcome(perturbation.kind, up_s, recovery_s, whole_s))
        height = max(self._roots, default=0)
        self._say(
            f"{number:3d}/{count}  {perturbation!s:42s} "
            f"up in {up_s:4.1f} s, level after {recovery_s:4.1f} s, "
            f"voting and connected {whole_s:4.1f} s; height {height}, "
            f"{len(self.orders.decided)} orders decided"
        )
        if recovery_s > self._recovery_max_s:
            self.violated(f"{perturbation}: level after {recovery_s:.1f} s")
        for name in self.names:
            await self._read_log(name)
        for name, home in self._homes.items():
            if home.restarts or home.failure:
                self.violated(f"{name} ended by itself: {home.last_words()}")
                home.restarts, home.failure = 0, None
        await asyncio.sleep(perturbation.pause_s)

    # -- strikes: each returns at the perturbation's end

    async def _strike(self, strike: Strike) -> float:
        """Do it; return how long a new process took until it answered. [s]"""
        name, home = strike.name, self._homes[strike.name]
        match strike.kind:
            case "kill" | "kill, later":
                await home.kill()
                await asyncio.sleep(strike.seconds)
                return await self._start(name)
            case "restart":
                await home.stop()
                return await self._start(name)
            case "wipe":
                await home.kill()
                # What it has signed is the run's to remember: the home itself forgets it.
                await self._read_log(name)
                await asyncio.to_thread(_empty, self.data(name))
                return await self._start(name)
            case "stop":
                os.kill(self.pids()[name], signal.SIGSTOP)
                self._stopped.add(name)
                await asyncio.sleep(strike.seconds)
                self._continue(name)
            case "cut":
                self._relays.cut(name)
                await self._alone(name, strike.seconds)
                self._relays.heal(name)
            case "silence":
                self._relays.silence(name)
                before = await self._height(name)
                await asyncio.sleep(strike.seconds)
                after = await self._height(name)
                if before is not None and after is not None and after > before + SILENT_BLOCKS_MAX:
                    self.violated(f"{name} went from {before} to {after} without a wire")
                self._relays.heal(name)
        return 0.0

    async def _start(self, name: str) -> float:
        begun = time.monotonic()
        await self._homes[name].start()
        while await self.status(name) is None:
            if time.monotonic() - begun > PATIENCE_S:
                self.violated(f"{name} did not start within {PATIENCE_S:.0f} s")
                break
            await asyncio.sleep(POLL_S)
        return time.monotonic() - begun

    def _continue(self, name: str) -> None:
        self._stopped.discard(name)
        with contextlib.suppress(ProcessLookupError, KeyError):
            os.kill(self.pids()[name], signal.SIGCONT)

    async def _alone(self, name: str, seconds: float) -> None:
        """Wait, and see that a home which is cut off has no neighbours."""
        end = time.monotonic() + seconds
        alone = False
        while time.monotonic() < end:
            status = await self.status(name)
            alone = alone or (status is not None and not status["peers"])
            await asyncio.sleep(POLL_S)
        if not alone:
            self.violated(f"{name} was cut off for {seconds:.1f} s and kept neighbours")

    async def _height(self, name: str) -> int | None:
        status = await self.status(name)
        return None if status is None else int(status["height"])

    # -- what the homes say

    async def status(self, name: str) -> dict[str, Any] | None:
        """Return a home's status, None if it does not answer; its root is compared."""
        try:
            found: dict[str, Any] = await ask(self.data(name), "status", timeout_s=POLL_TIMEOUT_S)
        except ControlError:
            return None
        roots = self._roots.setdefault(found["height"], {})
        if roots.setdefault(name, found["state_root"]) != found["state_root"]:
            self.violated(f"{name} has changed its state at height {found['height']}")
        if len(set(roots.values())) > 1:
            self.violated(f"different states at height {found['height']}: {roots}")
        return found

    async def _statuses(self) -> list[dict[str, Any]] | None:
        found = await asyncio.gather(*(self.status(name) for name in self.names))
        answered = [status for status in found if status is not None]
        return answered if len(answered) == len(self.names) else None

    async def _until_level(self, begun: float) -> float:
        """Wait until every home is where the furthest was a moment ago; return how long. [s]"""
        head = 0
        while True:
            statuses = await self._statuses()
            took_s = time.monotonic() - begun
            if statuses is not None:
                heights = [status["height"] for status in statuses]
                if head and min(heights) >= head:
                    return took_s
                head = max(heights)
            if took_s > PATIENCE_S:
                self.violated(f"not level after {took_s:.0f} s: {_in_short(statuses)}")
                return took_s
            await asyncio.sleep(POLL_S)

    async def _until_whole(self, patience_s: float, begun: float | None = None) -> float:
        """Wait until all vote and see all others: only then may the next f be disturbed."""
        begun = time.monotonic() if begun is None else begun
        while True:
            statuses = await self._statuses()
            took_s = time.monotonic() - begun
            if statuses is not None and all(
                status["voting"] and status["height"] and len(status["peers"]) == len(statuses) - 1
                for status in statuses
            ):
                return took_s
            if took_s > patience_s:
                self.violated(f"not whole after {took_s:.0f} s: {_in_short(statuses)}")
                return took_s
            await asyncio.sleep(POLL_S)

    async def _read_log(self, name: str) -> None:
        for problem in await asyncio.to_thread(self.signed.read, name, self.data(name)):
            self.violated(problem)

    # -- the end

    async def _compare_running(self) -> None:
        for name in self.names:
            try:
                money = await ask(self.data(name), "money")
            except ControlError as error:
                self.violated(f"{name} does not answer at the end: {error}")
                continue
            if not money_conserved(money):
                self.violated(f"{name}: money is not conserved: {money}")
            await self.orders.look(name)

    def _compare_stopped(self) -> None:
        chains = {name: read_chain(self.data(name)) for name in self.names}
        self.snapshots_taken = sum(chain.first > 0 for chain in chains.values())
        for problem in [*root_problems(chains), *order_problems(chains, self.orders.decided)]:
            self.violated(problem)
        for name in self.names:
            for problem in self.signed.read(name, self.data(name)):
                self.violated(problem)

    def report(self, seed: int) -> dict[str, Any]:
        """Return the run as a plain map."""
        rows = []
        for kind in (*KINDS, TWO):
            mine = [outcome for outcome in self.outcomes if outcome.kind == kind]
            if mine:
                recovery = [outcome.recovery_s for outcome in mine]
                rows.append(
                    {
                        "kind": kind,
                        "count": len(mine),
                        "up_max_s": round(max(outcome.up_s for outcome in mine), 1),
                        "recovery_median_s": round(statistics.median(recovery), 1),
                        "recovery_max_s": round(max(recovery), 1),
                        "whole_max_s": round(max(outcome.whole_s for outcome in mine), 1),
                    }
                )
        return {
            "seed": seed,
            "authorities": len(self.names),
            "perturbations": len(self.outcomes),
            "height": max(self._roots, default=0),
            "roots_compared": sum(len(roots) > 1 for roots in self._roots.values()),
            "homes_begun_by_snapshot": self.snapshots_taken,
            "orders_decided": len(self.orders.decided),
            "orders_ok": self.orders.ok,
            "values_signed": len(self.signed),
            "rows": rows,
            "violations": self.violations,
        }


class Orders:
    """Posts orders to random homes, and notes which of them are reported as decided, where."""

    def __init__(self, trial: Trial) -> None:
        home = trial.street.home(trial.street.names[-1])
        self._trial = trial
        self._key = read_key(home / KEY_NAME)
        self._params = read_genesis(home / GENESIS_NAME).market
        self._waiting: dict[str, int] = {}
        self._draw = random.Random()
        # Height and hash of the block, by transaction id.
        self.decided: dict[str, tuple[int, str]] = {}
        self.ok = 0

    async def run(self) -> None:
        """Post for ever."""
        while True:
            name = self._draw.choice(list(self._trial.pids()))
            with contextlib.suppress(ControlError):
                await self._post(name)
            await self.look(self._draw.choice(list(self._trial.pids())))
            await asyncio.sleep(ORDER_S)

    async def _post(self, name: str) -> None:
        now_ms = time.time_ns() // 1_000_000
        slot = self._params.clock().next_gate_slot(now_ms) + self._draw.randrange(ORDER_SLOTS)
        energy_wh, price = self._draw.randint(10, 50), self._draw.randint(*ORDER_PRICES_MICRO)
        call = client.post_order(slot, "buy", energy_wh, price)
        valid_ms = now_ms + ORDER_VALID_MS
        signed = client.sign_call(call, self._key, self._params.chain_id, now_ms, valid_ms)
        self._waiting[signed.tx_id.hex()] = valid_ms
        await self._ask(name, "submit", transaction=signed.raw.hex())

    async def look(self, name: str) -> None:
        """Ask a home which of the waiting orders are decided."""
        for tx_id, valid_ms in list(self._waiting.items()):
            try:
                found = await self._ask(name, "transaction", id=tx_id)
                if found["height"] is not None:
                    block = await self._ask(name, "block", height=found["height"])
                    self.decided[tx_id] = (found["height"], block["hash"])
                    self.ok += found["code"] == "ok"
                    del self._waiting[tx_id]
                elif valid_ms + ORDER_VALID_MS < time.time_ns() // 1_000_000:
                    del self._waiting[tx_id]
            except ControlError:
                return

    def _ask(self, name: str, question: str, **arguments: Any) -> Awaitable[Any]:
        data = self._trial.data(name)
        return ask(data, question, timeout_s=POLL_TIMEOUT_S, **arguments)


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _in_short(statuses: list[dict[str, Any]] | None) -> str:
    if statuses is None:
        return "not all answer"
    return ", ".join(
        f"{status['name']} at {status['height']}, {len(status['peers'])} peers"
        + ("" if status["voting"] else ", not voting")
        for status in statuses
    )


def table(report: dict[str, Any]) -> str:
    """Return the report's rows as Markdown."""
    lines = [
        "| perturbation | count | new process answers: max | then all at the head: median | max "
        "| all vote and are connected: max |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['kind']} | {row['count']} | {row['up_max_s']} s | {row['recovery_median_s']} s "
        f"| {row['recovery_max_s']} s | {row['whole_max_s']} s |"
        for row in report["rows"]
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.perturb")
    parser.add_argument("--count", type=int, default=100, help="perturbations")
    parser.add_argument("--seed", type=int, default=None, help="of their sequence; random if left")
    parser.add_argument("--authorities", type=int, default=7)
    parser.add_argument("--snapshots", type=int, default=0, metavar="N", help="one every N blocks")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="for the report")
    options = parser.parse_args(arguments)
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    print(f"seed {seed}: {options.count} perturbations of {options.authorities} authorities")
    directory = Path(tempfile.mkdtemp(prefix="commonwatt-perturb-"))
    sync = SyncSection()
    if options.snapshots:
        sync = SyncSection(snapshot_every=options.snapshots, snapshot_behind=2 * options.snapshots)
    trial = Trial(directory, options.authorities, lambda line: print(line, flush=True), sync=sync)
    begun = time.monotonic()
    asyncio.run(trial.run(sequence(seed, options.count, trial.names, trial.faulty_max)))
    report = {**trial.report(seed), "took_s": round(time.monotonic() - begun)}
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\n{table(report)}\n")
    print(describe())
    print(
        f"{report['took_s']} s, height {report['height']}, {report['orders_decided']} orders "
        f"decided, {report['values_signed']} signed values, states compared at "
        f"{report['roots_compared']} heights: {len(trial.violations)} violations"
    )
    if trial.violations:
        print(f"the street and its logs are in {directory}")
        return 1
    shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
