"""`commonwatt testnet up`: a street on this machine, from nothing to trading, and its report."""

import asyncio
import contextlib
import json
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from node.api.control import ask
from node.config import WebSection, load_config
from node.errors import ControlError
from node.genesis import read_genesis
from node.lock import held_by
from node.setup import CONFIG_NAME, DATA_NAME, GENESIS_NAME
from testnet.lines import Lines, end_line
from testnet.live import LiveView
from testnet.main import MainObservations
from testnet.processes import GridError, HomeProcess, start_all, stop_all
from testnet.regions import admit, create, neutral_names, regions_of
from testnet.report import Observations, final_report, is_sound
from testnet.street import Street, StreetError, StreetPlan, free_ports, open_street
from testnet.telling import Diary, Telling

POLL_S: Final = 1.0
POLL_TIMEOUT_S: Final = 5.0
# A street that has not made its first block by then never will.
START_TIMEOUT_S: Final = 180.0
EXIT_OK: Final = 0
EXIT_BROKEN: Final = 1


class Options(NamedTuple):
    """What was typed; None where nothing was."""

    homes: int | None
    authorities: int | None
    slot_minutes: int | None
    time_lapse: int | None
    mechanism: str | None
    slots: int | None
    data: Path | None
    synthetic: bool
    directory: Path | None
    as_json: bool
    picture: Path | None = None
    agents: tuple[str, ...] = ()
    speculators: int | None = None
    flexible: bool = False
    intraday_minutes: int | None = None
    sealed: bool = False
    rules: dict[str, Any] | None = None
    regions: int | None = None
    dashboard: bool = True


async def up(options: Options) -> int:
    """Run a street until it is stopped or has settled enough slots; return the exit code.

    Raises
    ------
    StreetError
        It cannot be made, or does not fit what is in the directory.
    GridError
        A home cannot run.
    """
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        directory = options.directory
        if directory is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="commonwatt-")))
        street = _prepare(options, directory)
        refuse_running(street)
        for note in street.notes:
            say(note)
        names = [*street.names, *neutral_names(street.plan)]
        processes = [HomeProcess(name, street.home(name)) for name in names]
        address = serve_dashboard(processes[0]) if options.dashboard else None
        if address is not None:
            say(f"the dashboard is at {address}")
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        try:
            await start_all(processes)
            report = await _watch(street, processes, options, stop, begun, address)
        finally:
            await stop_all(processes)
    if report is not None:
        # The report is the command's output, the line is for who watches.
        if options.as_json:
            print(json.dumps(report, indent=1))  # noqa: T201 - the command's output
        say(end_line(report))
    return EXIT_OK if report is None or is_sound(report) else EXIT_BROKEN


def say(line: str) -> None:
    """Tell a person something that is not the command's output."""
    print(f"commonwatt: {line}", file=sys.stderr, flush=True)  # noqa: T201 - for a person


def serve_dashboard(process: HomeProcess) -> str:
    """Let a home that is about to be started serve its dashboard; return the address.

    At the usual port, or at any that is free. What its own settings say of an address holds.
    """
    web = load_config(process.directory / CONFIG_NAME, {}).web
    process.settings["COMMONWATT_WEB_DASHBOARD"] = "true"
    listen = (web or WebSection()).listen
    if web is None and not is_free(listen):
        listen = f"127.0.0.1:{free_ports(1)[0]}"
    process.settings["COMMONWATT_WEB_LISTEN"] = listen
    return f"http://{listen}/"


def is_free(listen: str) -> bool:
    """Tell whether an address can be listened on now."""
    try:
        socket.create_server(WebSection(listen=listen).address).close()
    except OSError:
        return False
    return True


def refuse_running(street: Street) -> None:
    """Raise `StreetError` if a home of the street runs: two streets would answer as one."""
    for name in (*street.names, *neutral_names(street.plan)):
        holder = held_by(street.home(name) / DATA_NAME)
        if holder is not None:
            raise StreetError(
                f"{street.directory} runs already ({name} is process {holder}). Stop it first, by "
                "Ctrl-C where it was started, or give this one another directory by --dir"
            )


def _prepare(options: Options, directory: Path) -> Street:
    """Open the directory's street, or make one."""
    asked = {
        name: value
        for name, value in (
            ("homes", options.homes),
            ("authorities", options.authorities),
            ("slot_minutes", options.slot_minutes),
            ("time_lapse", options.time_lapse),
            ("mechanism", options.mechanism),
            ("intraday_minutes", options.intraday_minutes),
            ("data", str(options.data.resolve()) if options.data else None),
            ("synthetic", options.synthetic or None),
            ("speculators", options.speculators),
            *agents_asked(options.agents).items(),
            ("flexible", options.flexible or None),
            ("sealed", options.sealed or None),
            ("rules", options.rules),
            ("regions", options.regions),
        )
        if value is not None
    }
    street = open_street(directory)
    if street is None:
        return create(directory, msgspec.convert(asked, StreetPlan))
    for name, value in asked.items():
        kept = getattr(street.plan, name)
        if kept != value:
            raise StreetError(
                f"{directory} holds a street with {name} = {kept}; it cannot become {value}. "
                "Leave the option out to resume it, or use another directory"
            )
    return street


def agents_asked(texts: Sequence[str]) -> dict[str, Any]:
    """Return what `--agent` was given as fields of a plan: NAME for all homes, HOME=NAME for one.

    Raises
    ------
    StreetError
        Two for all homes, or two for one.
    """
    asked: dict[str, Any] = {}
    for text in texts:
        home, is_one, name = text.rpartition("=")
        taken = asked.setdefault("agents", {}) if is_one else asked
        key = home if is_one else "agent"
        if key in taken:
            raise StreetError(
                f"--agent {text}: there is {taken[key]} already; NAME is for all homes, "
                "home-03=NAME for one of them"
            )
        taken[key] = name
    return asked


async def _watch(
    street: Street,
    processes: list[HomeProcess],
    options: Options,
    stop: asyncio.Event,
    begun: float,
    address: str | None,
) -> dict[str, Any] | None:
    """Poll the homes until it is time to stop; return the report, None if there is none yet."""
    clock = read_genesis(street.home(street.names[0]) / GENESIS_NAME).market.clock()
    first_slot = clock.slot_at(time.time_ns() // 1_000_000)
    observed = [Observations(group.names, begun, first_slot) for group in regions_of(street.plan)]
    tiers = MainObservations(street) if street.plan.regions > 1 else None
    admitting = asyncio.create_task(admit(street)) if tiers is not None else None
    shown = _Shown(street, processes[0].name, begun) if address is not None else None
    try:
        enabled = not options.as_json and sys.stdout.isatty()
        lines = None if enabled else Lines(say)
        with LiveView(street, enabled, address) as view:
            while not stop.is_set():
                await asyncio.gather(*(_poll(street, seen) for seen in observed))
                if tiers is not None:
                    await tiers.poll(observed)
                if shown is not None:
                    await shown.tell(observed, tiers)
                _check(processes, observed, begun)
                view.show(observed, tiers, processes)
                if lines is not None:
                    lines.show(observed)
                if _is_over(options, observed, tiers):
                    break
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await stop.wait()
    finally:
        if admitting is not None:
            admitting.cancel()
            await asyncio.gather(admitting, return_exceptions=True)
    if any(seen.first_block_s is None for seen in observed):
        return None
    if options.picture is not None:
        view.save(observed, tiers, processes, options.picture)
    restarts = {process.name: process.restarts for process in processes}
    report = await final_report(street, observed, restarts, options.slots)
    return report if tiers is None else report | await tiers.report(observed, restarts)


class _Shown:
    """Tells the home with the dashboard how the others do.

    Parameters
    ----------
    street, name, begun : the street, which of its homes is told, when it was begun
    """

    def __init__(self, street: Street, name: str, begun: float) -> None:
        self._begun = begun
        # One of the neutral nodes speaks for the main chain.
        self._neutral = neutral_names(street.plan)[:1]
        self._diary = Diary("testnet up", (*street.names, *self._neutral))

        def ask_home(name: str, question: str, **arguments: Any) -> Awaitable[Any]:
            data = street.home(name) / DATA_NAME
            return ask(data, question, timeout_s=POLL_TIMEOUT_S, **arguments)

        self._telling = Telling(ask_home, [name])

    async def tell(self, observed: Sequence[Observations], tiers: MainObservations | None) -> None:
        """Tell what was seen of each region, and of the main chain if there is one."""
        now_s = time.monotonic() - self._begun
        for seen in observed:
            for name in seen.names:
                self._diary.saw(now_s, name, seen.status[name] if name in seen.up else None)
        for name in self._neutral:
            self._diary.saw(now_s, name, None if tiers is None else tiers.status)
        await self._telling.tell(self._diary.watched(now_s))


def _check(processes: list[HomeProcess], observed: list[Observations], begun: float) -> None:
    """Raise `GridError` if a home cannot run, or no chain begins."""
    failed = [process.failure for process in processes if process.failure]
    if failed:
        raise GridError(failed[0])
    waiting = [seen for seen in observed if seen.first_block_s is None]
    if waiting and time.monotonic() - begun > START_TIMEOUT_S:
        name = waiting[0].names[0]
        process = next(process for process in processes if process.name == name)
        raise GridError(
            f"no block after {START_TIMEOUT_S:.0f} s; {name} says: {process.last_words()}"
        )


def _is_over(
    options: Options, observed: list[Observations], tiers: MainObservations | None
) -> bool:
    """Tell whether all slots asked for are settled, and anchored where there is a main chain."""
    slots = options.slots
    if slots is None or any(seen.slots_settled < slots for seen in observed):
        return False
    if tiers is None:
        return True
    asked = [sorted(seen.slots)[:slots] for seen in observed]
    return tiers.have_anchored([slots_of[-1] for slots_of in asked])


async def _poll(street: Street, seen: Observations) -> None:
    async def status(name: str) -> None:
        directory = street.home(name) / DATA_NAME
        try:
            seen.take_status(name, await ask(directory, "status", timeout_s=POLL_TIMEOUT_S))
        except ControlError:
            seen.lost(name)

    await asyncio.gather(*(status(name) for name in seen.names))
    for name in seen.alive():
        try:
            slots = await ask(
                street.home(name) / DATA_NAME, "slots", timeout_s=POLL_TIMEOUT_S, count=50
            )
        except (ControlError, msgspec.MsgspecError):
            continue
        seen.take_slots(slots)
        break
