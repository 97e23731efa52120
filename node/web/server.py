"""The API's server: uvicorn in the node's own loop, which owns signals and logging.

Connections are bounded, and one that says nothing is closed: whoever can connect shall not be able
to take the file descriptors that the node lives on.
"""

import asyncio
import contextlib
import ipaddress
import logging
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from node.config import WebSection
from node.errors import ConfigError, StartError
from node.secret import SECRET_CHARS_MAX, read_secret
from node.web.app import Access
from node.web.guard import LOOPBACK_HOSTS
from node.web.stream import Stream

log = logging.getLogger("commonwatt.web")

CONNECTIONS_MAX: Final = 64
HEADER_BYTES_MAX: Final = 16_384
SILENCE_S: Final = 10.0
KEEP_ALIVE_S: Final = 15
# What is still being answered when the node stops.
GRACE_S: Final = 2
BACKLOG: Final = 64
TOKEN_BYTES: Final = 32
TOKEN_CHARS_MIN: Final = 32


class WebServer:
    """Serves an application on the address of the settings.

    Parameters
    ----------
    web : WebSection
    app : callable
        The ASGI application.
    streams : list of Stream
        Ended before the server stops.
    """

    def __init__(self, web: WebSection, app: ASGIApp, streams: list[Stream]) -> None:
        self._web = web
        self._streams = streams
        config = uvicorn.Config(
            app,
            loop="none",
            http=_Bounded,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
            h11_max_incomplete_event_size=HEADER_BYTES_MAX,
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None
        self._socket: socket.socket | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        if self._socket is None:
            return ""
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def start(self) -> None:
        """Listen. Raises `StartError` if the address cannot be had."""
        host, port = self._web.address
        kind = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=kind, backlog=BACKLOG)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise StartError(f"web.listen: {self._web.listen} cannot be had ({reason})") from None
        self._socket.setblocking(False)
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        is_up = asyncio.create_task(self._server.is_up.wait())
        await asyncio.wait([is_up, self._task], return_when=asyncio.FIRST_COMPLETED)
        is_up.cancel()
        log.info("the API is at %s", self.url)

    async def stop(self) -> None:
        """End all streams, answer what is being answered, close; idempotent."""
        for stream in self._streams:
            stream.close()
        self._server.should_exit = True
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()

    async def run(self) -> None:
        """Wait until it ends; raises what it has failed with."""
        if self._task is not None:
            await asyncio.shield(self._task)


class _Server(uvicorn.Server):
    """uvicorn's, without its hands on signals: the daemon's are its own."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Bounded(H11Protocol):
    """A connection among so many at most; closed if no request comes."""

    _was_refused = False
    _silence: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        if len(self.connections) >= CONNECTIONS_MAX:
            self._was_refused = True
            transport.abort()
            return
        super().connection_made(transport)
        self._silence = asyncio.get_running_loop().call_later(SILENCE_S, self._close_if_silent)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._silence is not None:
            self._silence.cancel()
        if not self._was_refused:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._was_refused:
            super().data_received(data)

    def _close_if_silent(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


def access_of(web: WebSection, token_file: Path) -> Access:
    """Return who may ask, by the settings. Raises `ConfigError` as `read_token`."""
    address = ipaddress.ip_address(web.address[0])
    own = f"[{address}]" if address.version == 6 else str(address)
    hosts = [*LOOPBACK_HOSTS, own, *web.hosts]
    return Access(hosts, read_token(token_file), address.is_loopback or web.open_reads)


def read_token(path: Path) -> str:
    """Return the token in a file; it is made, readable by its owner only, if there is none.

    Raises
    ------
    ConfigError
        It cannot be read or made, is open to others, or too short. The message never shows it.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return _read(path)
    except OSError as error:
        raise ConfigError(f"{path}: no token can be made here ({error.strerror})") from None
    token = secrets.token_hex(TOKEN_BYTES)
    with open(fd, "w") as file:
        file.write(token + "\n")
    return token


def _read(path: Path) -> str:
    token = read_secret(path, "token")
    if len(token) < TOKEN_CHARS_MIN or not token.isascii():
        raise ConfigError(
            f"{path}: no token; it has {TOKEN_CHARS_MIN} to {SECRET_CHARS_MAX} characters of "
            "ASCII. Remove the file to have one made"
        )
    return token
