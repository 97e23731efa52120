"""A whole run of a daemon, and nothing it says or writes holds its key or the passphrase."""

import base64
import inspect
import json
import logging
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from libp2p.crypto.ed25519 import create_new_key_pair
from typer.main import get_command

import cli
from node.config import (
    Config,
    MainSection,
    NetworkSection,
    NodeSection,
    WebSection,
    settings_text,
)
from node.genesis import community_key, write_genesis
from node.keys.homekeys import HomeKeys
from node.keys.keyfile import Cost, load, text_of
from node.keys.recovery import recovery_code
from node.launch import command
from node.logs import JsonFormatter
from node.membership.arrival import Arrival
from node.membership.invitations import Invitation, make_invitation
from node.mqtt.bridge import Bridge
from node.mqtt.settings import MqttSection
from node.network._swarm import CommunityNoise
from node.network.libp2p import Libp2pNetwork
from node.setup import GENESIS_NAME, create_home
from node.web.app import Access, Served, build_app
from node.web.guard import Guard
from node.web.stream import Stream
from tests.node.grid import PATIENCE_S, REGULATOR, home_config, key_of, make_genesis
from tests.node.mqtt.test_bridge import AT, House
from tests.node.web.calls import answering
from wire.keys import SigningKey

PASSPHRASE = "copper pond lantern"
PSK = secrets.token_bytes(32)
TOKEN = secrets.token_hex(32)
PAGES = (
    "/v1/status", "/v1/home", "/v1/home/plan", "/v1/home/devices", "/v1/homes", "/v1/peers",
    "/v1/headers", "/v1/contracts", "/metrics", "/readyz", "/openapi.json", "/", "/chain",
    "/community", "/market", "/no/such/page",
)  # fmt: skip

COMMANDS = (
    "status", "status --json", "doctor", "key show-address", "export slots --format csv",
    "market account",
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


def objects(directory: Path, key: SigningKey) -> list[object]:
    """Return one of each kind of thing that holds a secret or says where one is."""
    text = text_of(key, PASSPHRASE, Cost(2**14, 1))
    plain, sealed = directory / "plain.key", directory / "sealed.key"
    for file, content in ((plain, key.seed.hex()), (sealed, text)):
        file.touch(mode=0o600)
        file.write_text(content)
    (directory / "password").touch(mode=0o600)
    (directory / "password").write_text(PASSPHRASE)
    invitation = make_invitation(make_genesis(), ("/ip4/10.0.0.1/tcp/1",), PSK, 2**50, REGULATOR)
    mqtt = MqttSection(password_file="password")
    nobody: Any = None
    house: Any = House()
    key_pair = create_new_key_pair(key.seed)
    bridge = Bridge(mqtt, directory, AT, "home", "AUD", "1", house, None, lambda: 0)
    access = Access(["localhost"], TOKEN, False)
    stream, answers = Stream(), answering(status={})
    home = create_home(directory / "made", settings_text(Config()), key, psk=PSK)
    return [
        key, HomeKeys.of(key), load(plain), load(sealed), load(sealed).open(PASSPHRASE), home,
        invitation, Arrival(invitation, lambda: 0), mqtt, bridge, access,
        Guard(nobody, access.hosts, TOKEN, False),
        build_app([Served(answers, stream)], answers, lambda: 0, str, access),
        Libp2pNetwork(key, None, community_key(bytes(32), PSK)), CommunityNoise(key_pair, PSK),
        Config(network=NetworkSection(psk_file="network.key"), main=MainSection(psk_file="m.key")),
    ]  # fmt: skip


def test_nothing_that_holds_a_secret_shows_it(tmp_path: Path) -> None:
    key = SigningKey(secrets.token_bytes(32))
    held = objects(tmp_path, key)
    said = {type(one).__name__: f"{one!r} {one} {[one]} {vars_of(one)}".encode() for one in held}
    # Nor does the log, of whatever fails while they are at hand.
    for style in (JsonFormatter(), logging.Formatter()):
        try:
            raise_beside(*held)
        except RuntimeError:
            error = sys.exc_info()
            record = logging.LogRecord("node", logging.DEBUG, "", 1, "%s: failed", (held,), error)
        where = f"a log of {type(style).__name__}"
        said[where] = style.format(record).encode()
        assert b"raise_beside" in said[where]
    wanted = {"the passphrase": PASSPHRASE.encode(), "the token": TOKEN.encode()}
    # What lets somebody in is a secret, too: an invitation's key, and what a network key becomes.
    (invitation,) = [one for one in held if isinstance(one, Invitation)]
    doors = invitation.door_key, SigningKey(community_key(bytes(32), PSK))
    for one in (key, key.derive("meter"), SigningKey(PSK), *doors):
        wanted |= {f"{one.address}, {name}": form for name, form in forms(one).items()}
    assert found_in(said, wanted) == []


def vars_of(one: object) -> dict[str, object]:
    """Return an object's own attributes, without those that are the secret itself."""
    held = getattr(one, "__dict__", {})
    return {name: value for name, value in held.items() if not isinstance(value, str | bytes)}


def raise_beside(*held: object) -> None:
    token, passphrase, psk = TOKEN, PASSPHRASE, PSK
    raise RuntimeError(f"{len(held)} and {len((token, passphrase, psk))} things are here")


def test_no_secret_is_asked_for_on_the_command_line() -> None:
    """Whoever lists processes reads arguments: they name files, never what is in them."""
    secret = re.compile("pass|token|psk|seed|secret|recovery|invit|(^|_)key")
    told: dict[str, object] = {}

    def walk(command: Any, path: tuple[str, ...]) -> None:
        for name, below in getattr(command, "commands", {}).items():
            walk(below, (*path, name))
        for option in [] if hasattr(command, "commands") else command.params:
            if secret.search(option.name):
                told[" ".join((*path, option.name))] = kind_of(command.callback, option.name)

    walk(get_command(cli.app), ())
    assert {"init passphrase_file", "init invite", "key restore passphrase_file"} <= set(told)
    assert {name for name, kind in told.items() if kind is not Path} == {
        # A study's random numbers, which are no secret.
        "study ce-sdt seeds", "study huang seeds", "study compare seeds",
    }  # fmt: skip


def kind_of(callback: Any, name: str) -> object:
    """Return what an option's text is read as, without None."""
    found = get_type_hints(inspect.unwrap(callback))[name]
    kinds = [kind for kind in get_args(found) if kind is not type(None)] or [found]
    return kinds[0] if len(kinds) == 1 else found


@pytest.mark.slow
def test_a_run_shows_neither_key_nor_passphrase(tmp_path: Path) -> None:
    key = SigningKey(secrets.token_bytes(32))
    directory, passphrase, port = tmp_path / "home", tmp_path / "passphrase", free_port()
    passphrase.write_text(PASSPHRASE + "\n")
    passphrase.chmod(0o600)
    config = Config(
        node=NodeSection(passphrase_file=str(passphrase), log_level="debug", log_format="json"),
        network=NetworkSection(listen="/ip4/127.0.0.1/tcp/0", psk_file="network.key"),
        web=WebSection(listen=f"127.0.0.1:{port}", dashboard=True),
        home=home_config(0),
    )
    create_home(directory, settings_text(config), key, passphrase=PASSPHRASE, psk=PSK)
    (directory / "web.token").touch(mode=0o600)
    (directory / "web.token").write_text(TOKEN)
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
            for page in PAGES:
                said[f"{page}, with the token"] = fetched(port, page, TOKEN)
                said[f"{page}, with a wrong one"] = fetched(port, page, TOKEN[::-1])
            for words in COMMANDS:
                said[words] = typed(directory, *words.split())
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
    # Two files are there to hold theirs.
    assert (directory / "network.key").read_text().strip() == PSK.hex()
    said |= {str(path): path.read_bytes() for path in directory.rglob("*")
             if path.is_file() and path.name not in ("network.key", "web.token")}  # fmt: skip

    wanted = {"the passphrase": PASSPHRASE.encode(), "a wrong one": b"lantern pond copper",
              "the token": TOKEN.encode(), "a wrong token": TOKEN[::-1].encode()}  # fmt: skip
    for one in (key, key.derive("meter"), SigningKey(PSK)):
        wanted |= {f"{one.address}, {name}": form for name, form in forms(one).items()}
    assert found_in(said, wanted) == []


def found_in(said: dict[str, bytes], wanted: dict[str, bytes]) -> list[tuple[str, str]]:
    """Return where which of `wanted` was said."""
    return [(where, what) for where, text in said.items() for what, form in wanted.items()
            if form in text]  # fmt: skip


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


def fetched(port: int, page: str, token: str = "") -> bytes:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{page}")
    if token:
        request.add_header("authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request) as answer:
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
