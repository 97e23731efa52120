"""The server: its address, its token, its bounds."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from node.config import WebSection
from node.errors import ConfigError, StartError
from node.web import server as module
from node.web.app import Served, build_app
from node.web.server import WebServer, access_of, read_token
from node.web.stream import Stream
from tests.node.grid import PATIENCE_S, until
from tests.node.web.calls import ACCESS, answering


@contextlib.asynccontextmanager
async def listening(listen: str = "127.0.0.1:0") -> AsyncIterator[WebServer]:
    stream = Stream()
    answers = answering(status={})
    app = build_app([Served(answers, stream)], answers, lambda: 0, str, ACCESS)
    server = WebServer(WebSection(listen=listen), app, [stream])
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def port_of(server: WebServer) -> int:
    return int(server.url.rpartition(":")[2])


async def connect(server: WebServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port_of(server))


async def status_of(server: WebServer) -> int:
    async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
        url = f"http://localhost:{port_of(server)}/v1/status"
        return (await http.get(url)).status_code


async def test_it_serves_and_leaves_signals_and_logging_alone() -> None:
    import signal

    before = signal.getsignal(signal.SIGTERM)
    async with listening() as server:
        assert await status_of(server) == 200
        assert signal.getsignal(signal.SIGTERM) is before
    await server.stop()


async def test_an_address_that_is_taken_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StartError, match=rf"web.listen: {address} cannot be had \(Address"):
            async with listening(address):
                pass


async def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECTIONS_MAX", 2)
    async with listening() as server:
        opened = [await connect(server) for _ in range(2)]
        await until(lambda: len(server._server.server_state.connections) == 2, "both are taken in")
        reader, writer = await connect(server)
        with contextlib.suppress(ConnectionError):
            writer.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert await reader.read() == b""
        writer.close()
        opened[0][1].close()
        await until(lambda: len(server._server.server_state.connections) == 1, "one has gone")
        assert await status_of(server) == 200
        opened[1][1].close()


async def test_who_connects_and_says_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE_S", 0.01)
    async with listening() as server:
        reader, writer = await connect(server)
        writer.write(b"GET / HTTP")
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read() == b""
        writer.close()


async def test_a_listener_does_not_hold_up_the_end() -> None:
    async with listening() as server:
        reader, writer = await connect(server)
        writer.write(b"GET /v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert await reader.readuntil(b"retry: 3000\n\n")
        await server.stop()
        assert await reader.read() == b"\r\n0\r\n\r\n"
        writer.close()


def test_a_token_is_made_once_and_for_its_owner(tmp_path: Path) -> None:
    file = tmp_path / "web.token"
    token = read_token(file)
    assert len(token) == 64
    assert file.stat().st_mode & 0o777 == 0o600
    assert read_token(file) == token


def test_a_token_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "web.token"
    read_token(file)
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="run chmod 600"):
        read_token(file)


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 40, "ä".encode() * 40, b"x" * 2_000])
def test_a_token_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "web.token"
    file.touch(0o600)
    file.write_bytes(content)
    with pytest.raises(
        ConfigError, match=r"web\.token: (no token|a token has|the token cannot be read)"
    ):
        read_token(file)


def test_no_place_for_a_token_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no token can be made here"):
        read_token(tmp_path / "absent" / "web.token")


@pytest.mark.parametrize(
    ("listen", "open_reads", "reads", "host"),
    [
        ("127.0.0.1:0", False, True, "127.0.0.1"),
        ("[::1]:0", False, True, "[::1]"),
        ("10.0.0.7:80", False, False, "10.0.0.7"),
        ("0.0.0.0:80", True, True, "house"),
    ],
)
def test_who_may_read(
    tmp_path: Path, listen: str, open_reads: bool, reads: bool, host: str
) -> None:
    web = WebSection(listen=listen, open_reads=open_reads, hosts=("house",))
    access = access_of(web, tmp_path / "web.token")
    assert access.open_reads == reads
    assert host in access.hosts
