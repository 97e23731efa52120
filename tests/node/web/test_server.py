"""The server: its address, its token, its bounds."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from node.config import WebSection
from node.errors import ConfigError, StartError
from node.web import door
from node.web import server as module
from node.web.app import Served, build_app
from node.web.door import tls_of
from node.web.server import WebServer, access_of, read_token
from node.web.stream import Stream
from tests.node.grid import PATIENCE_S, until
from tests.node.web.calls import ACCESS, TOKEN, answering


@contextlib.asynccontextmanager
async def listening(
    listen: str = "127.0.0.1:0", tls: ssl.SSLContext | None = None
) -> AsyncIterator[WebServer]:
    stream = Stream()
    answers = answering(status={})
    app = build_app([Served(answers, stream)], answers, lambda: 0, str, ACCESS)
    server = WebServer(WebSection(listen=listen), app, [stream], tls)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def port_of(server: WebServer) -> int:
    return int(server.url.rpartition(":")[2])


def seated(server: WebServer) -> int:
    """Return how many connections have been taken in."""
    return 0 if server._door is None else len(server._door)


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
    monkeypatch.setattr(door, "CONNECTIONS_MAX", 2)
    async with listening() as server:
        opened = [await connect(server) for _ in range(2)]
        await until(lambda: seated(server) == 2, "both are taken in")
        reader, writer = await connect(server)
        with contextlib.suppress(ConnectionError):
            writer.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert await reader.read() == b""
        writer.close()
        opened[0][1].close()
        await until(lambda: seated(server) == 1, "one has gone")
        assert await status_of(server) == 200
        opened[1][1].close()


@pytest.mark.parametrize("bound", ["CONNECTIONS_MAX", "PER_ADDRESS_MAX"])
async def test_who_only_sits_there_makes_room(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    monkeypatch.setattr(door, bound, 2)
    monkeypatch.setattr(door, "AT_HOME_S", 0.0)
    async with listening() as server:
        opened = [await connect(server) for _ in range(2)]
        await until(lambda: seated(server) == 2, "both are taken in")
        assert await status_of(server) == 200
        with contextlib.suppress(ConnectionError):
            assert await opened[0][0].read() == b""
        for _, writer in opened:
            writer.close()


async def test_who_has_the_token_is_never_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "CONNECTIONS_MAX", 2)
    monkeypatch.setattr(door, "AT_HOME_S", 0.0)
    request = f"GET /v1/status HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n\r\n"
    async with listening() as server:
        reader, writer = await connect(server)
        for _ in range(4):
            writer.write(request.encode())
            assert b"200" in await reader.readline()
            await reader.readuntil(b"\r\n\r\n{}")
            for _ in range(3):
                _, other = await connect(server)
                other.close()
            assert await status_of(server) == 200
        writer.close()


async def test_a_crowd_of_one_address_makes_room_for_another() -> None:
    made: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        opening = door.Door(listener, lambda _left: None, None)
        for place in range(door.CONNECTIONS_MAX):
            visit = door.Visit(f"10.0.0.{place % 3}")
            visit.since_s -= 2 * door.AT_HOME_S
            visit.caller = Sitting(visit.address, made)
            opening._visits[visit] = None
        assert opening._make_room("10.0.0.9")
        assert opening._make_room("10.0.0.9")
        assert (made, len(opening)) == (["10.0.0.0"], door.CONNECTIONS_MAX - 1)


class Sitting:
    is_trusted = False

    def __init__(self, address: str, cut: list[str]) -> None:
        self._address = address
        self._cut = cut

    def cut(self) -> None:
        self._cut.append(self._address)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return made_certificate(tmp_path_factory.mktemp("tls"))


def made_certificate(directory: Path, days: int = 1) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=10))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .sign(key, hashes.SHA256())
    )
    files = directory / "web.pem", directory / "web.key"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].touch(mode=0o600)
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


async def test_tls_is_spoken_with_who_believes_the_certificate(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "HANDSHAKE_S", 0.3)
    async with listening(tls=tls_of(*certificate)) as server:
        assert server.url.startswith("https://127.0.0.1:")
        url = f"https://localhost:{port_of(server)}/v1/status"
        believed = ssl.create_default_context(cafile=str(certificate[0]))
        async with httpx.AsyncClient(timeout=PATIENCE_S, verify=believed) as http:
            assert (await http.get(url)).status_code == 200
        async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
            with pytest.raises(httpx.ConnectError):
                await http.get(url)
        # Nor is anything said to who speaks no TLS, or to who never ends the handshake.
        for sent in (b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n", b""):
            reader, writer = await connect(server)
            writer.write(sent)
            async with asyncio.timeout(PATIENCE_S):
                with contextlib.suppress(ConnectionError):
                    assert b"HTTP" not in await reader.read()
            writer.close()
        await until(lambda: server._door is not None and not len(server._door), "all have gone")


def test_a_certificate_and_a_key_that_do_not_belong_together(
    certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    _, other = made_certificate(tmp_path)
    with pytest.raises(ConfigError, match=r"web.key is not the key of the certificate .*web.pem"):
        tls_of(certificate[0], other)


def test_tls_files_that_are_none(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    pem, key = certificate
    junk = tmp_path / "junk"
    junk.touch(mode=0o600)
    junk.write_text("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
    with pytest.raises(ConfigError, match=r"web.tls_cert: .*junk is no certificate in PEM"):
        tls_of(junk, key)
    with pytest.raises(ConfigError, match=r"web.tls_key: .*junk is no private key"):
        tls_of(pem, junk)
    for files in ((tmp_path / "gone", key), (pem, tmp_path / "gone")):
        with pytest.raises(ConfigError, match=r"gone.* cannot be read"):
            tls_of(*files)
    locked = tmp_path / "locked"
    locked.touch(mode=0o600)
    found = serialization.load_pem_private_key(key.read_bytes(), None)
    locked.write_bytes(
        found.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ConfigError, match="can be used without a passphrase"):
        tls_of(pem, locked)
    locked.chmod(0o640)
    with pytest.raises(ConfigError, match=r"others may read .*; run chmod 600"):
        tls_of(pem, locked)


def test_a_certificate_that_has_expired_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tls_of(*made_certificate(tmp_path, days=-1))
    assert "expired on" in caplog.text


async def test_a_head_that_does_not_end_is_refused() -> None:
    async with listening() as server:
        reader, writer = await connect(server)
        start = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: "
        writer.write(start + b"x" * module.HEADER_BYTES_MAX)
        async with asyncio.timeout(PATIENCE_S):
            assert (await reader.readline()).startswith(b"HTTP/1.1 4")
        writer.close()


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
