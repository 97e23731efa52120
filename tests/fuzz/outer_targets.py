"""What comes from people and programs at the edge: contracts, HTTP, backups, sweeps, reports."""

import asyncio
import contextlib
import gzip
import io
import json
import tarfile
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from market import contracts
from market.errors import Rejected
from market.vm import gate
from node.api.watched import WatchedGrid
from node.backup import _put, _read
from node.config import Config, settings_text
from node.errors import ConfigError, ControlError
from node.setup import CONFIG_NAME, GENESIS_NAME, KEY_NAME
from node.web.app import Access, Served, build_app
from node.web.door import tls_of
from node.web.stream import Stream
from study.errors import SettingError
from study.sweep import read_sweep
from testnet.chaos.draw import memory_svg, read_report
from testnet.chaos.errors import ChaosError
from tests.fuzz.file_targets import from_file
from tests.fuzz.judge import Target, Told
from wire.transaction import Refused

TOKEN: Final = "t" * 32
# What the language of contracts has, once each.
ALL_OF_IT: Final = """\
LIBRARIES = []
EXPORTS = {"add": "execute", "sums": "query", "take": "internal"}
MOST = 10
def instantiate(args):
    kv_put("rules", args["first"] if "first" in args else -1)
def on_block():
    emit("block", {"ms": env()["time_ms"] // 1000})
def take(name, amount):
    expect_int("amount", amount, 1, MOST)
    a, b = amount % 3, [amount] * 2
    for i, row in enumerate(b[1:]):
        if not row or i > 2 and name != "x":
            continue
        a += row
    return {"sum": a, "text": "of " + str(len(b))}
def sums(first):
    return [take("x", n)["sum"] for n in range(first) if n]
def add(amount):
    if kv_get("rules") == None:
        revert("none", "no rules")
    return take(env()["sender"], min(amount, MOST))
"""


def deploy_gate() -> Target:
    """The text of a contract or a library that somebody proposes."""
    # The gate takes as long as a text is: short ones, and one that is as long as contracts are.
    names = ("suggested", "homes", "ledger")
    texts = (ALL_OF_IT, *map(contracts.source, names))

    def checked(data: bytes) -> gate.Program | gate.Library:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise Told("no text") from None
        look = gate.check if gate.EXPORTS_NAME in text else gate.check_library
        return look("proposed", text)

    def found(taken: gate.Program | gate.Library, data: bytes) -> str | None:
        del data
        if isinstance(taken, gate.Program) and not taken.exports:
            return "a contract without entries"
        return None

    return Target(
        "deploy-gate", checked, (Rejected, Told), tuple(text.encode() for text in texts),
        kind="text", check=found, input_memory_max=64 << 20, cpu_s_max=0.25,
        words=(b"def ", b"EXPORTS", b"return", b"for ", b" in ", b"range", b"lambda", b"import os",
               b"**", b"<<", b"while True:", b"1.5", b"(" * 40, b"[" * 40, b"    ", b"__class__"),
    )  # fmt: skip


def api_request() -> Target:
    """A request's path, question and body, by who has the token."""

    async def submit(question: Mapping[str, Any]) -> Any:
        if len(question["transaction"]) % 2:
            raise Refused("malformed", "it is no transaction")
        return {"id": "00"}

    async def said(question: Mapping[str, Any]) -> Any:
        return {"peers": [], "status": "pending", **question}

    # Every path has an answer: what is looked for is what its question does.
    answers = defaultdict(lambda: said, submit=submit)
    app = build_app(
        [Served(answers, Stream())], answers, lambda: 0, str, Access(("localhost",), TOKEN, True)
    )
    loop = asyncio.new_event_loop()
    headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {TOKEN}".encode())]

    def asked(data: bytes) -> int:
        line, _, body = data.partition(b"\n")
        method, _, target = line.partition(b" ")
        path, _, question = target.partition(b"?")
        sent: list[Any] = []
        come = iter(({"type": "http.request", "body": body, "more_body": False},))
        scope = {
            "type": "http", "http_version": "1.1", "scheme": "http", "root_path": "",
            "method": method.decode("latin-1"), "path": path.decode("utf-8", "replace"),
            "raw_path": path, "query_string": question, "client": ("127.0.0.1", 5),
            "headers": [
                *headers, (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
            ],
        }  # fmt: skip

        async def receive() -> Any:
            return next(come, {"type": "http.disconnect"})

        async def send(message: Any) -> None:
            sent.append(message)

        with contextlib.suppress(TimeoutError):
            loop.run_until_complete(asyncio.wait_for(app(scope, receive, send), 1.0))
        status = sent[0]["status"] if sent else 408
        if status >= 500:
            raise AssertionError(f"answered {status}")
        if status >= 400:
            raise Told(str(status))
        return int(status)

    examples = (
        b'POST /v1/transactions\n{"transaction": "00ff"}',
        b"GET /v1/blocks?before=7&count=2\n",
        b"GET /v1/market/book?slot=3\n",
        b"GET /v1/blocks/7\n",
        b"GET /v1/status\n",
        b"GET /metrics\n",
    )
    return Target(
        "api-request", asked, (Told,), examples, kind="text", cpu_s_max=0.05,
        words=(b"/v1/", b"GET", b"POST", b"%00", b"%ff", b"..", b"transaction", b"null", b"count="),
    )  # fmt: skip


def backup_archive() -> Target:
    """A backup's archive, packed again: its checksum keeps nobody out who made it."""
    parts = {
        CONFIG_NAME: settings_text(Config()).encode(),
        KEY_NAME: b"01" * 32 + b"\n",
        GENESIS_NAME: b"{}",
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:") as archive:
        for name, data in parts.items():
            _put(archive, name, data)

    def read(path: Path) -> dict[str, bytes]:
        path.write_bytes(gzip.compress(path.read_bytes(), 1, mtime=0))
        return _read(path)

    return Target(
        "backup-archive", from_file("home.backup", read), (ConfigError,), (packed.getvalue(),),
        kind="bytes", cpu_s_max=0.05, input_memory_max=64 << 20,
    )  # fmt: skip


def sweep_file() -> Target:
    examples = (
        b'study = "ce-sdt"\nseeds = 2\n[base]\nusers = 10\n[vary]\nslots = [4, 8]\n',
        b'study = "huang"\nseeds = 1\n[vary]\nprosumers = [4]\n',
    )
    return Target(
        "sweep-file", from_file("sweep.toml", read_sweep), (SettingError,), examples, kind="text",
        # tomllib is Python: as of the settings, the most that is read takes it as long.
        cpu_s_max=0.05, words=(b"study", b"seeds", b"[base]", b"[vary]", b"nan", b"9" * 30),
    )  # fmt: skip


def chaos_report() -> Target:
    report = {
        "version": 1, "scenario": "calm", "target": "processes", "passed": True, "began_s": 0.0,
        "over_s": 50.0, "finished_s": 90.0, "strikes": [{"nodes": ["home-01"]}],
        "growths": {
            "home-01": {"mib_per_h": 1.0, "begin_s": 1.0, "begin_mib": 99.0, "end_s": 80.0},
        },
        "rss_mib": {"home-01": [[0.0, 99.0], [5.0, 101.5], [10.0, None]]},
    }  # fmt: skip

    def drawn(path: Path) -> int:
        return len(memory_svg(read_report(path))) and 1

    return Target(
        "chaos-report", from_file("report.json", drawn), (ChaosError,),
        (json.dumps(report).encode(),), kind="text", cpu_s_max=0.05,
        words=(b"version", b"rss_mib", b"null", b"1e308", b"-1e308", b"NaN", b"began_s"),
    )  # fmt: skip


def told_testnet() -> Target:
    """What somebody on the control socket says of a testnet."""
    node = {"name": "a", "chain": "c", "height": 1, "peers": 2, "is_authority": True,
            "is_voting": True, "is_up": True, "away": [[1, 2], [3, None]]}  # fmt: skip
    fault = {"kind": "kill", "who": "a", "nodes": [0], "began_s": 1, "ended_s": None}
    told = {"title": "t", "now_s": 5, "nodes": [node], "heads": [[1, 2]], "faults": [fault]}
    grid = WatchedGrid()
    loop = asyncio.new_event_loop()

    def taken(data: bytes) -> Any:
        try:
            question = msgspec.json.decode(data, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise Told("no question") from None
        return loop.run_until_complete(grid.told(question))

    return Target(
        "told-testnet", taken, (ControlError, Told), (msgspec.json.encode({"told": told}),),
        kind="text", words=(b"told", b"nodes", b"faults", b"null", b"-1", b"1e9", b"true"),
    )  # fmt: skip


def tls_files() -> Target:
    """A certificate and its key, in one file for both settings."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 7)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2126, 1, 1, tzinfo=UTC))
        .sign(key, None)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Target(
        "tls-files", from_file("web.pem", lambda path: tls_of(path, path) and None), (ConfigError,),
        (made.public_bytes(serialization.Encoding.PEM) + private,), kind="text", cpu_s_max=0.05,
        words=(b"-----BEGIN ", b"-----END ", b"CERTIFICATE-----", b"PRIVATE KEY-----"),
    )  # fmt: skip


TARGETS: Final = (
    deploy_gate,
    api_request,
    backup_archive,
    sweep_file,
    chaos_report,
    told_testnet,
    tls_files,
)
