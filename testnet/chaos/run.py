"""Runs a plan on a target: waits for the grid, strikes, heals, and gathers what was seen.

Every deed is in the journal before it is done where it would outlive this process. Whatever ends
the run (its own end, Ctrl-C, an error), the target puts everything back on its way out and the
journal undoes what is left.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final

import msgspec

from node.errors import NodeError
from testnet.chaos.anchoring import MainWatch
from testnet.chaos.audit import audit
from testnet.chaos.errors import PrivilegeError, TargetError
from testnet.chaos.plan import Plan, Strike, make_plan, wires
from testnet.chaos.scenario import (
    Burst,
    Byzantine,
    Clock,
    Cpu,
    Disconnect,
    Disk,
    Kill,
    Link,
    Partition,
    Restart,
    Scenario,
    Stop,
    Wipe,
)
from testnet.chaos.targets.base import Drive, Target, lies_told
from testnet.chaos.verdict import WAY_S, Seen, Struck, lagging, owed
from testnet.chaos.watch import Heads, Watch
from testnet.load import Load, LoadPlan
from testnet.telling import Telling, tell_for_ever

# Only a failure waits so long.
START_PATIENCE_S: Final = 600.0
LEVEL_PATIENCE_S: Final = 120.0
POLL_S: Final = 0.25


async def prepare(scenario: Scenario, target: Target) -> Plan:
    """Return the plan, once it is known that all of it can be done.

    Raises
    ------
    ScenarioError
        The scenario does not fit the grid.
    PrivilegeError
        Something cannot be done here. Nothing has been touched.
    """
    plan = make_plan(scenario, target.roster)
    lacking = await target.lacking(plan)
    if lacking:
        raise PrivilegeError(
            f"{scenario.name} on {target.name}: nothing was touched: {'; '.join(lacking)}"
        )
    return plan


async def run_plan(plan: Plan, target: Target, say: Callable[[str], None]) -> Seen:
    """Run a plan; return what was seen.

    Raises
    ------
    TargetError
        The grid cannot be started, or cannot be disturbed as planned.
    """
    async with _interruptible(), target:
        watch = Watch(target, say, plan.scenario.name)
        telling = Telling(target.ask, target.roster.names)
        told = tell_for_ever(telling, lambda: watch.diary.watched(watch.now_s))
        async with _beside(told), _beside(watch.run()) as watching:
            run = Runner(plan, target, watch, say)
            return await _first_of(watching, run.run())


class Runner:
    """One run of a plan on a grid that is up or coming up."""

    def __init__(
        self, plan: Plan, target: Target, watch: Watch, say: Callable[[str], None]
    ) -> None:
        self._plan = plan
        self._target = target
        self._watch = watch
        self._say = say
        self._struck: dict[Strike, Struck] = {}
        # Strikes whose links are disturbed at this moment.
        self._wired: set[Strike] = set()
        self._wiring = asyncio.Lock()
        self._drives: dict[str, Drive] = {}
        self._bursts: dict[Strike, Load] = {}
        self._bursting: dict[Strike, asyncio.Task[dict[str, Any]]] = {}
        self._told: list[dict[str, Any]] = []
        # Drawn strikes are one at a time; none is struck any more once somebody stays unwell.
        self._turn = asyncio.Lock()
        self._unwell = ""

    async def run(self) -> Seen:
        """Do all of it."""
        watch, scenario = self._watch, self._plan.scenario
        self._say(f"{scenario.name}: waiting until {len(watch.samples)} nodes are up")
        await self._until_up()
        if watch.main is not None and scenario.grid.regions > 1:
            await self._until_anchored(watch.main)
        await self._prepare_bursts()
        self._say(f"undisturbed for {scenario.run.warm_up_s:g} s")
        first_height = self._head()
        calm_s = watch.now_s
        await asyncio.sleep(scenario.run.warm_up_s)
        began_s = watch.now_s
        await self._strike_all(began_s)
        over_s = watch.now_s
        self._say(f"all is healed; {scenario.run.cool_down_s:g} s more")
        await asyncio.sleep(scenario.run.cool_down_s)
        level = await self._until_level(over_s)
        finished_s = watch.now_s
        self._say("comparing the nodes' books")
        books = await audit(
            self._target,
            watch.decided,
            self._plan.struck(Wipe),
            first_height,
            self._head(),
        )
        return Seen(
            self._plan,
            calm_s,
            began_s,
            over_s,
            finished_s,
            level,
            sorted(self._struck.values(), key=lambda struck: struck.began_s),
            watch.samples,
            watch.latencies,
            watch.problems,
            {
                height: (time_ms - watch.begun_ms) / 1000
                for height, time_ms in books.block_times_ms.items()
            },
            books,
            self._target.quiet_s,
            self._told,
            watch.main.seen if watch.main is not None else None,
            {name: lies_told(self._target, name) for name in self._plan.struck(Byzantine)},
        )

    async def _prepare_bursts(self) -> None:
        """Register the homes that will burst: who is registered when the gate closes is late."""
        street = self._target.street()
        for strike in self._plan.strikes:
            if not isinstance(strike.fault, Burst) or street is None:
                continue
            self._say(f"registering {strike.fault.homes} homes more")
            asked = LoadPlan(strike.fault.homes, 0, strike.fault.for_s, bursts=True)
            self._bursts[strike] = Load(street, asked)
            await self._bursts[strike].register()

    # -- waiting

    def _head(self) -> int:
        return max(self._watch.last(name).height for name in self._watch.samples)

    async def _until_up(self) -> None:
        """Wait until all answer, authorities vote, blocks come, and nobody is alone."""
        authorities = set(self._plan.roster.authorities)
        end_s = self._watch.now_s + START_PATIENCE_S
        while True:
            last = {name: self._watch.last(name) for name in self._watch.samples}
            missing = [
                name
                for name, sample in last.items()
                if sample.height < 1
                or not sample.peers
                or (name in authorities and not sample.voting)
            ]
            if not missing:
                return
            if self._watch.now_s > end_s:
                raise TargetError(
                    f"not all nodes were up after {START_PATIENCE_S:.0f} s: {missing[0]} is at "
                    f"height {last[missing[0]].height} with {last[missing[0]].peers} neighbours"
                )
            await asyncio.sleep(POLL_S)

    async def _until_anchored(self, main: MainWatch) -> None:
        """Wait until the region is let in, and its checkpoints come."""
        end_s = self._watch.now_s + START_PATIENCE_S
        while main.seen.at(self._watch.now_s).anchored < 1:
            if self._watch.now_s > end_s:
                raise TargetError(
                    f"the main chain has anchored nothing of the region in {START_PATIENCE_S:.0f} s"
                )
            await asyncio.sleep(POLL_S)

    async def _until_level(self, over_s: float) -> bool:
        """Wait until every node is where the furthest was a moment ago, on the main chain too, and
        what is due is anchored.

        Returns whether all nodes got there on the chain that is watched; the rest is judged later.
        """
        watch, level = self._watch, False
        end_s = watch.now_s + LEVEL_PATIENCE_S
        while watch.now_s < end_s:
            head = Heads(watch.samples).at(watch.now_s - WAY_S)
            level = level or all(watch.last(name).height >= head for name in watch.samples)
            if level and not self._waits_for_main(over_s):
                return True
            await asyncio.sleep(POLL_S)
        return level

    def _waits_for_main(self, over_s: float) -> bool:
        main = self._watch.main
        names = self._plan.roster.names
        return main is not None and (owed(main.seen, over_s) or lagging(main.seen, names, over_s))

    # -- striking

    async def _strike_all(self, began_s: float) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for strike in self._plan.strikes:
                    group.create_task(self._strike(strike, began_s))
        except* NodeError as several:
            # The first that failed is what a person can mend.
            failed = several.exceptions[0]
        else:
            return
        raise failed

    async def _strike(self, strike: Strike, began_s: float) -> None:
        await self._until(began_s + strike.begin_s)
        if strike.number <= len(self._plan.scenario.fault):
            await self._do(strike, began_s)
            return
        async with self._turn:
            if await self._all_well():
                await self._do(strike, self._watch.now_s - strike.begin_s)

    async def _all_well(self) -> bool:
        """Wait until the authorities vote: with two that lost their logs a street of four is over.

        Returns whether they do; who does not for `LEVEL_PATIENCE_S` is not waited for again.
        """
        end_s = self._watch.now_s + LEVEL_PATIENCE_S
        while not self._unwell:
            silent = [n for n in self._plan.roster.authorities if not self._watch.last(n).voting]
            if not silent:
                return True
            if self._watch.now_s > end_s:
                self._unwell = silent[0]
                self._say(
                    f"{silent[0]} has not voted for {LEVEL_PATIENCE_S:.0f} s: nobody else is struck"
                )
            await asyncio.sleep(POLL_S)
        return False

    async def _do(self, strike: Strike, began_s: float) -> None:
        self._say(f"{self._watch.now_s - began_s:6.1f} s  {strike.title}: begins")
        struck_s, diary = self._watch.now_s, self._watch.diary
        number = diary.begins(struck_s, strike.kind, strike.who, strike.nodes)
        for begin_s, end_s in strike.spans():
            await self._until(began_s + begin_s)
            await self._begin(strike)
            await self._until(began_s + end_s)
            await self._end(strike)
        ended_s = self._watch.now_s
        diary.ends(ended_s, number)
        self._struck[strike] = Struck(strike, struck_s, ended_s)
        self._say(f"{ended_s - began_s:6.1f} s  {strike.title}: undone")

    async def _until(self, moment_s: float) -> None:
        await asyncio.sleep(max(moment_s - self._watch.now_s, 0))

    async def _each(self, names: Sequence[str], do: Callable[[str], Awaitable[None]]) -> None:
        await asyncio.gather(*(do(name) for name in names))

    async def _begin(self, strike: Strike) -> None:
        target, names = self._target, strike.nodes
        match strike.fault:
            case Kill() | Wipe():
                await self._each(names, target.kill)
            case Restart():
                await self._each(names, target.stop)
            case Stop():
                await self._each(names, target.freeze)
            case Disconnect():
                await self._each(names, target.unplug)
            case Partition() | Link():
                await self._wire(strike, on=True)
            case Burst():
                self._bursting[strike] = asyncio.create_task(self._bursts[strike].run())
            case Cpu(percent=percent):
                await self._each(names, lambda name: target.limit_cpu(name, percent))
            case Clock(skew_ms=skew_ms):
                await self._each(names, lambda name: self._drive(name, "skew_ms", skew_ms))
            case Disk(delay_ms=delay_ms):
                await self._each(names, lambda name: self._drive(name, "fsync_ms", delay_ms))
            case Byzantine(behaviour=behaviour):
                await self._each(names, lambda name: self._drive(name, "behaviour", behaviour))

    async def _end(self, strike: Strike) -> None:
        target, names = self._target, strike.nodes
        match strike.fault:
            case Wipe():
                await self._each(names, target.wipe)
                await self._each(names, target.start)
            case Kill() | Restart():
                await self._each(names, target.start)
            case Stop():
                await self._each(names, target.thaw)
            case Disconnect():
                await self._each(names, target.plug)
            case Partition() | Link():
                await self._wire(strike, on=False)
            case Burst():
                self._told.append(await self._bursting.pop(strike))
            case Cpu():
                await self._each(names, lambda name: target.limit_cpu(name, None))
            case Clock():
                await self._each(names, lambda name: self._drive(name, "skew_ms", 0))
            case Disk():
                await self._each(names, lambda name: self._drive(name, "fsync_ms", 0))
            case Byzantine():
                await self._each(names, lambda name: self._drive(name, "behaviour", ""))

    async def _wire(self, strike: Strike, *, on: bool) -> None:
        async with self._wiring:
            (self._wired.add if on else self._wired.discard)(strike)
            await self._target.wire(wires(self._wired, self._plan.roster))

    async def _drive(self, name: str, what: str, value: int | str) -> None:
        drive = msgspec.structs.replace(self._drives.get(name, Drive()), **{what: value})
        self._drives[name] = drive
        await self._target.drive(name, drive)


@contextlib.asynccontextmanager
async def _interruptible() -> AsyncIterator[None]:
    """Let SIGTERM and a closed terminal end the run as Ctrl-C does."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    if task is None:
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _first_of(watching: asyncio.Task[None], work: Coroutine[Any, Any, Seen]) -> Seen:
    """Return what `work` does; should the watch end first, its error is raised."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait([watching, task], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            watching.result()
        return await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
