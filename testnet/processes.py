"""The homes of a grid as processes of this machine: started, watched, started again, stopped.

A home that dies is started again after a moment, as an operating system's service manager would;
one that cannot start as it is set up (exit code 2) is not. Each home holds the reading end of a
pipe whose other end is ours: should this process die in any way, they notice and stop.
"""

import asyncio
import contextlib
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from node.errors import StartError
from node.launch import command, environment

EXIT_SETUP: Final = 2
RESTART_AFTER_S: Final = 1.0
RESTARTS_MAX: Final = 20
STOP_TIMEOUT_S: Final = 10.0
LOG_TAIL_CHARS: Final = 2_000
# What a home says of its readings is for its own log: no home ever stopped for it.
SENSORS: Final = " commonwatt.sensors: "


class GridError(StartError):
    """The grid cannot start or go on; the message is for the person who asked for it."""


class HomeProcess:
    """One home's daemon as a child process.

    Parameters
    ----------
    name, directory : whose
    settings : mapping
        Environment variables that are settings beside its file's (`node.config`).
    """

    def __init__(
        self, name: str, directory: Path, settings: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.directory = directory
        self.settings = dict(settings or {})
        self.restarts = 0
        self.failure: str | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def log_path(self) -> Path:
        """Where the daemon's log goes."""
        return self.directory / "node.log"

    def command(self) -> list[str]:
        """Return the command line of the daemon; `--until-stdin-closes` is put after it."""
        return command(self.directory / "node.toml")

    async def start(self) -> None:
        """Start the daemon and keep it running until `stop`."""
        self._stopping = False
        await self._spawn()
        self._watch = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    async def stop(self) -> None:
        """End the daemon: politely first, then for certain."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        await self._end_watch()

    async def kill(self) -> None:
        """End the daemon as a power cut would; it is not started again before `start`."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()
        await self._end_watch()

    async def _end_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch

    async def _spawn(self) -> None:
        with self.log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.command(),
                "--until-stdin-closes",
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                # A group of its own: Ctrl-C is for us, who then stop the homes in order.
                process_group=0,
                env=environment() | self.settings,
            )

    async def _keep(self) -> None:
        while True:
            process = self._process
            if process is None:
                return
            code = await process.wait()
            if self._stopping:
                return
            if code == EXIT_SETUP or self.restarts >= RESTARTS_MAX:
                self.failure = f"{self.name} stopped with code {code}: {self.last_words()}"
                return
            self.restarts += 1
            await asyncio.sleep(RESTART_AFTER_S)
            if self._stopping:
                return
            await self._spawn()

    def last_words(self) -> str:
        """Return the last line of the log that may say why a home does not go on."""
        try:
            text = self.log_path.read_text(errors="replace")[-LOG_TAIL_CHARS:]
        except OSError:
            return "no log"
        lines = [line for line in text.splitlines() if line.strip() and SENSORS not in line]
        return lines[-1] if lines else "it said nothing"


async def start_all(homes: Sequence[HomeProcess]) -> None:
    """Start every home; all of them are stopped again if one cannot be."""
    try:
        for home in homes:
            await home.start()
    except OSError as error:
        await stop_all(homes)
        raise GridError(f"a home's process could not be started: {error}") from None


async def stop_all(homes: Sequence[HomeProcess]) -> None:
    """Stop every home, together."""
    await asyncio.gather(*(home.stop() for home in homes))
