"""The API's server: uvicorn in the node's own loop, which owns signals and logging.

Connections are bounded (`door.py`), and one that says nothing is closed: whoever can connect shall
not be able to take the file descriptors that the node lives on.
"""

import asyncio
import contextlib
import ipaddress
import logging
import os
import secrets
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from node.config import WebSection
from node.durable import create_file
from node.errors import ConfigError, StartError
from node.keys.secret import SECRET_CHARS_MAX, read_secret
from node.web.app import Access
from node.web.door import Door, tls_of
from node.web.guard import LOOPBACK_HOSTS, TRUSTED
from node.web.stream import Stream

log = logging.getLogger("commonwatt.web")

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
    tls : SSLContext, optional
        By which it speaks TLS, and nothing else.
    """

    def __init__(
        self,
        web: WebSection,
        app: ASGIApp,
        streams: list[Stream],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._web = web
        self._tls = tls
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
        self._door: Door | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        if self._socket is None:
            return ""
        host, port = self._socket.getsockname()[:2]
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

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
        # It is told of no socket: the door accepts.
        self._task = asyncio.create_task(self._server.serve(sockets=[]))
        is_up = asyncio.create_task(self._server.is_up.wait())
        await asyncio.wait([is_up, self._task], return_when=asyncio.FIRST_COMPLETED)
        is_up.cancel()
        self._door = Door(self._socket, self._server.caller, self._tls)
        self._door.open()
        log.info("the API is at %s", self.url)

    async def stop(self) -> None:
        """End all streams, answer what is being answered, close; idempotent."""
        for stream in self._streams:
            stream.close()
        if self._door is not None:
            await self._door.close()
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

    def caller(self, left: Callable[[], None]) -> "_Bounded":
        """Return the protocol of one connection; `left` is called when it has ended."""
        made = _Bounded(self.config, self.server_state, self.lifespan.state)
        made.left = left
        return made

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Bounded(H11Protocol):
    """A connection that is closed if no request comes."""

    left: Callable[[], None]
    _silence: asyncio.TimerHandle | None = None

    @property
    def is_trusted(self) -> bool:
        """Whether its last request has shown the token."""
        return self.scope is not None and TRUSTED in self.scope.get("extensions", {})

    def cut(self) -> None:
        """End it at once."""
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._silence = asyncio.get_running_loop().call_later(SILENCE_S, self._close_if_silent)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._silence is not None:
            self._silence.cancel()
        super().connection_lost(exc)
        self.left()

    def _close_if_silent(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


def access_of(web: WebSection, token_file: Path) -> Access:
    """Return who may ask, by the settings. Raises `ConfigError` as `read_token`."""
    address = ipaddress.ip_address(web.address[0])
    own = f"[{address}]" if address.version == 6 else str(address)
    hosts = [*LOOPBACK_HOSTS, own, *web.hosts]
    return Access(hosts, read_token(token_file), address.is_loopback or web.open_reads)


def tls_context(web: WebSection, directory: Path) -> ssl.SSLContext | None:
    """Return what serves TLS by the settings, None if they name none. Raises as `tls_of`."""
    if not web.tls_cert:
        return None
    return tls_of(directory / web.tls_cert, directory / web.tls_key)


def read_token(path: Path) -> str:
    """Return the token in a file; it is made, readable by its owner only, if there is none.

    Raises
    ------
    ConfigError
        It cannot be read or made, is open to others, or too short. The message never shows it.
    """
    token = secrets.token_hex(TOKEN_BYTES)
    try:
        create_file(path, token.encode() + b"\n")
    except FileExistsError:
        return _read(path)
    except OSError as error:
        raise ConfigError(f"{path}: no token can be made here ({error.strerror})") from None
    return token


def _read(path: Path) -> str:
    token = read_secret(path, "token")
    if len(token) < TOKEN_CHARS_MIN or not token.isascii():
        raise ConfigError(
            f"{path}: no token; it has {TOKEN_CHARS_MIN} to {SECRET_CHARS_MAX} characters of "
            "ASCII. Remove the file to have one made"
        )
    return token
