"""A whole run of a daemon, and nothing it says or writes holds its key or the passphrase."""

import base64
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from node.config import Config, NetworkSection, NodeSection, WebSection, settings_text
from node.genesis import write_genesis
from node.launch import command
from node.recovery import recovery_code
from node.setup import GENESIS_NAME, create_home
from tests.node.grid import PATIENCE_S, home_config, key_of, make_genesis
from wire.keys import SigningKey

pytestmark = pytest.mark.slow

PASSPHRASE = "copper pond lantern"
PAGES = (
    "/v1/status", "/v1/home", "/v1/home/plan", "/v1/home/devices", "/v1/homes", "/v1/peers",
    "/v1/headers", "/v1/contracts", "/metrics", "/readyz", "/openapi.json", "/", "/chain",
    "/community", "/market", "/no/such/page",
)  # fmt: skip


def forms(key: SigningKey) -> dict[str, bytes]:
    """Return how a key could be written by somebody careless."""
    seed = key.seed
    found = {
        "hexadecimal": seed.hex().encode(),
        "capitals": seed.hex().upper().encode(),
        "bytes": seed,
        "repr": repr(seed)[2:-1].encode(),
        "base64": base64.b64encode(seed).rstrip(b"="),
        "base64url": base64.urlsafe_b64encode(seed).rstrip(b"="),
        "list": json.dumps(list(seed)).encode(),
        "recovery code": recovery_code(key).encode(),
    }
    # A part of it is too much, too.
    return found | {f"half, {name}": text[: len(text) // 2] for name, text in found.items()}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_the_search_finds_what_is_there() -> None:
    key = key_of(0)
    assert all(form in b"<" + form + b">" for form in forms(key).values())
    assert f"seed {key.seed!r}".encode().count(forms(key)["repr"]) == 1


def test_a_run_shows_neither_key_nor_passphrase(tmp_path: Path) -> None:
    key = SigningKey(secrets.token_bytes(32))
    directory, passphrase, port = tmp_path / "home", tmp_path / "passphrase", free_port()
    passphrase.write_text(PASSPHRASE + "\n")
    passphrase.chmod(0o600)
    config = Config(
        node=NodeSection(passphrase_file=str(passphrase), log_level="debug", log_format="json"),
        network=NetworkSection(listen="/ip4/127.0.0.1/tcp/0"),
        web=WebSection(listen=f"127.0.0.1:{port}", dashboard=True),
        home=home_config(0),
    )
    create_home(directory, settings_text(config), key, passphrase=PASSPHRASE)
    write_genesis(make_genesis(), directory / GENESIS_NAME)
    said: dict[str, bytes] = {}
    with (tmp_path / "log").open("wb") as log:
        daemon = subprocess.Popen(
            command(directory / "node.toml"), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            wait_for(port, daemon, tmp_path / "log")
            said["process list"] = Path(f"/proc/{daemon.pid}/cmdline").read_bytes()
            for page in PAGES:
                said[page] = fetched(port, page)
            for words in (["status"], ["status", "--json"], ["doctor"], ["key", "show-address"]):
                said[" ".join(words)] = typed(directory, *words)
        finally:
            daemon.terminate()
            daemon.wait()
    said["log"] = (tmp_path / "log").read_bytes()
    assert all(key.address.encode() in said[name] for name in ("status", "/v1/status"))
    assert b"is up" in said["log"]
    # What the starts say that fail.
    wrong = tmp_path / "wrong"
    wrong.write_text("lantern pond copper\n")
    wrong.chmod(0o600)
    key_file = directory / "node.key"
    said["a wrong passphrase"] = started(directory, COMMONWATT_NODE_PASSPHRASE_FILE=str(wrong))
    assert b"does not open it" in said["a wrong passphrase"]
    key_file.write_bytes(key_file.read_bytes()[:-60])
    said["a cut file"] = started(directory)
    assert b"not a whole key file" in said["a cut file"]
    said |= {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}

    wanted = {"the passphrase": PASSPHRASE.encode(), "a wrong one": b"lantern pond copper"}
    for one in (key, key.derive("meter")):
        wanted |= {f"{one.address}, {name}": form for name, form in forms(one).items()}
    found = [(where, what) for where, text in said.items() for what, form in wanted.items()
             if form in text]  # fmt: skip
    assert found == []


def wait_for(port: int, daemon: "subprocess.Popen[bytes]", log: Path) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s:
        assert daemon.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz"):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())


def fetched(port: int, page: str) -> bytes:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{page}") as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        return error.read()


def typed(directory: Path, *words: str) -> bytes:
    line = [sys.executable, "-m", "cli", *words, "--config", str(directory / "node.toml")]
    done = subprocess.run(line, check=False, capture_output=True, stdin=subprocess.DEVNULL)
    return done.stdout + done.stderr


def started(directory: Path, **environment: str) -> bytes:
    done = subprocess.run(
        command(directory / "node.toml"), check=False, capture_output=True,
        stdin=subprocess.DEVNULL, env=os.environ | environment,
    )  # fmt: skip
    assert done.returncode == 2
    return done.stdout + done.stderr
