"""What is wrong with a home, found out from outside: each thing looked at, and what to do about it.

It changes nothing, and needs no running daemon; of one that runs it takes what that says of itself.
What it looks at: version, settings, memory, genesis, key, disk, log, database, daemon, ports,
peers, clock. Ports, peers and the clock are `node.doctor_network`'s.
"""

import importlib.metadata
import ipaddress
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from hems.config import LiveHome, ReplayHome
from node.api.control import ask
from node.config import Config, load_config
from node.doctor_network import ASKED_MAX, Met, PortUse, is_clock_kept, look_at_port, meet
from node.errors import ConfigError, ControlError, GenesisError, NodeError, StartError
from node.genesis import Genesis, read_genesis
from node.host import MIB, check_memory, memory_mib
from node.keys.keyfile import load
from node.keys.passphrase import find_passphrase
from node.keys.secret import read_secret
from node.mqtt.settings import MqttSection
from node.mqtt.source import check_live, check_market
from node.network._addresses import check_listen
from node.network._book import PeerBook
from node.network.base import NetworkError
from node.offline import examine
from node.setup import DATABASE_NAME, MAIN_NAME, PEERS_NAME, WAL_NAME, passphrase_file_of
from node.status import version
from node.tiers import check_main

# With less SQLite cannot even write a block; a home's first weeks take the other.
FREE_MIB_MIN: Final = 64
FREE_MIB_GOOD: Final = 1_024
# A block's time may be this far from a good clock.
CLOCK_TOLERANCE_MS: Final = 5_000
BEHIND_GOOD: Final = 3
# Extras that are for who works on the program.
_OTHERS_EXTRAS: Final = ("test", "docs", "manifests")
_EXTRA: Final = re.compile(r"""([A-Za-z0-9_.-]+).*;\s*extra == ['"]([a-z]+)['"]""")


class Verdict(StrEnum):
    """How a thing is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(NamedTuple):
    """One thing that was looked at: how it is, and what to do unless it is well."""

    check: str
    verdict: Verdict
    says: str
    remedy: str = ""


Meet: TypeAlias = Callable[[Genesis, Sequence[str]], Awaitable[list[Met]]]


class Instruments(NamedTuple):
    """What the doctor looks through; tests give others."""

    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    meet: Meet = meet
    look_at_port: Callable[[str, int], PortUse] = look_at_port
    is_clock_kept: Callable[[], bool | None] = is_clock_kept
    free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free


class _Chain(NamedTuple):
    """One chain that a home keeps, with what its daemon says of it, if it runs."""

    name: str
    genesis: Genesis
    data: Path
    listen: str
    bootstrap: tuple[str, ...]
    status: dict[str, Any] | None
    is_closed: bool = False


async def examine_home(
    file: Path,
    environment: Mapping[str, str],
    through: Instruments = Instruments(),  # noqa: B008 - immutable
) -> AsyncIterator[Finding]:
    """Look at a home and yield what is found, as it is found.

    Parameters
    ----------
    file : Path
        Its settings.
    environment : mapping of str to str
        The daemon's.
    """
    yield _version()
    try:
        config = load_config(file, environment)
    except StartError as error:
        yield Finding(
            "settings",
            Verdict.FAIL,
            str(error),
            "put that right, or give --config FILE; `commonwatt init` makes a home",
        )
        return
    yield Finding("settings", Verdict.OK, f"{file} of {config.node.name}")
    for lack in (*_lacking(config), *_meters(config)):
        yield lack
    if config.mqtt is not None:
        for open_door in _broker(config.mqtt):
            yield open_door
    yield _memory()
    yield _key(config, environment)
    data = config.path(config.node.data)
    yield _disk(data, through)
    chains: list[_Chain] = []
    async for found in _chains(config, data):
        if isinstance(found, Finding):
            yield found
        else:
            chains.append(found)
    pid = _daemon_pid(data)
    yield _daemon(chains, data, pid)
    for finding in _ports(config, pid, through):
        yield finding
    newest: list[int] = []
    for chain in chains:
        yield await _peers(chain, through, newest)
    yield _clock(chains, newest, through)


# -- the program and the machine -------------------------------------------------------------------


def _version() -> Finding:
    have, without = _extras(importlib.metadata.requires("commonwatt") or ())
    says = f"commonwatt {version()}, Python {platform.python_version()}"
    if have:
        says += f"; extras: {', '.join(have)}"
    if without:
        says += f"; without: {', '.join(without)}"
    return Finding("version", Verdict.OK, says)


def _extras(requirements: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the extras whose packages are all here, and those that lack one."""
    wanted: dict[str, list[str]] = {}
    for requirement in requirements:
        if match := _EXTRA.match(requirement):
            wanted.setdefault(match[2], []).append(match[1])
    extras = {name: all(map(_is_here, them)) for name, them in sorted(wanted.items())}
    mine = {name: here for name, here in extras.items() if name not in _OTHERS_EXTRAS}
    return [name for name in mine if mine[name]], [name for name in mine if not mine[name]]


def _lacking(config: Config) -> Iterator[Finding]:
    """Yield what these settings need and the installation lacks, or they do not say."""
    home = config.home
    needed = []
    if config.mqtt is not None or (home is not None and isinstance(home.source, LiveHome)):
        what = "[mqtt]" if config.mqtt is not None else '[home.source] kind = "live"'
        needed.append((what, "mqtt", "aiomqtt"))
    if home is not None and home.forecast.location is not None:
        needed.append(("[home.forecast] location", "solar", "pvlib"))
    source = home.source if home is not None else None
    if isinstance(source, ReplayHome) and source.path.endswith(".parquet"):
        needed.append(("[home.source] path", "parquet", "pyarrow"))
    for what, extra, package in needed:
        if not _is_here(package):
            says = f"{what} needs the extra `{extra}`, which is not installed"
            yield Finding("extras", Verdict.FAIL, says, f"pip install 'commonwatt[{extra}]'")


def _meters(config: Config) -> Iterator[Finding]:
    """Yield what keeps the broker, or a live home's meters, from being heard."""
    home, mqtt = config.home, config.mqtt
    try:
        if mqtt is not None and mqtt.password_file:
            read_secret(config.path(mqtt.password_file), "password")
        if home is not None and isinstance(home.source, LiveHome):
            check_live(home, mqtt)
            check_market(read_genesis(config.path(config.node.genesis)).market)
    except GenesisError:
        # That has a line of its own.
        return
    except ConfigError as error:
        yield Finding("meters", Verdict.FAIL, str(error), "put it right in the settings")


def _broker(mqtt: MqttSection) -> Iterator[Finding]:
    """Yield what others in the broker's network could do to this home."""
    if _is_this_machine(mqtt.host):
        return
    if not mqtt.password_file:
        says = f"the broker at {mqtt.host} asks for no password: who reaches it speaks as the meter"
        remedy = "give the broker a password and mqtt.username, mqtt.password_file"
        yield Finding("broker", Verdict.WARN, says, remedy)
    elif not mqtt.tls:
        says = f"the password goes to the broker at {mqtt.host} in the clear"
        yield Finding("broker", Verdict.WARN, says, "let the broker speak TLS, and set mqtt.tls")


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_here(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _memory() -> Finding:
    try:
        check_memory()
    except StartError as error:
        return Finding("memory", Verdict.FAIL, str(error), "give it more")
    have = memory_mib()
    return Finding("memory", Verdict.OK, "unknown" if have is None else f"{have} MiB for this node")


def _key(config: Config, environment: Mapping[str, str]) -> Finding:
    path = config.path(config.node.key)
    try:
        stored = load(path)
    except StartError as error:
        is_open = "chmod" in str(error)
        remedy = f"chmod 600 {path}" if is_open else "take it from a backup: `commonwatt restore`"
        return Finding("key", Verdict.FAIL, str(error), remedy)
    says = f"{path}: {stored.address}, readable by its owner only"
    if not stored.is_encrypted:
        remedy = "`commonwatt key encrypt`: whoever gets the disk or a copy has the home's money"
        return Finding("key", Verdict.WARN, f"{says}, not encrypted", remedy)
    try:
        passphrase = find_passphrase(passphrase_file_of(config), environment)
        if passphrase is not None:
            stored.open(passphrase)
    except StartError as error:
        remedy = "correct the passphrase where it comes from: a file, the environment, systemd"
        return Finding("key", Verdict.FAIL, str(error), remedy)
    if passphrase is None:
        says += ", encrypted; no passphrase was given to this command to try it"
        return Finding("key", Verdict.OK, says)
    return Finding("key", Verdict.OK, f"{says}, encrypted, and the passphrase opens it")


def _disk(data: Path, through: Instruments) -> Finding:
    if not data.is_dir():
        return Finding(
            "disk",
            Verdict.FAIL,
            f"{data}: there is no such directory",
            "`commonwatt init` or `commonwatt restore` makes it, with an authority's log in it",
        )
    try:
        # A file without a name: it is gone whatever happens.
        with tempfile.TemporaryFile(dir=data) as tried:
            tried.write(b"commonwatt")
            tried.flush()
            os.fsync(tried.fileno())
        free_mib = through.free_bytes(data) // MIB
    except OSError as error:
        return Finding(
            "disk",
            Verdict.FAIL,
            f"{data}: cannot be written ({error.strerror})",
            "run this as the user that runs the node, or give that user the directory",
        )
    says = f"{data}: can be written, {free_mib} MiB free"
    if free_mib < FREE_MIB_MIN:
        remedy = f"make room: below {FREE_MIB_MIN} MiB a node may stop at any block"
        return Finding("disk", Verdict.FAIL, says, remedy)
    if free_mib < FREE_MIB_GOOD:
        return Finding("disk", Verdict.WARN, says, "make room: the chain grows with every block")
    return Finding("disk", Verdict.OK, says)


# -- chains and daemon -----------------------------------------------------------------------------


async def _chains(config: Config, data: Path) -> AsyncIterator[Finding | _Chain]:
    """Yield what there is to say of each chain's files, and the chain if its genesis is good."""
    kept = [("", config.node.genesis, data, config.network.listen, config.network.bootstrap)]
    if config.main is not None:
        main = config.main
        kept.append((f"{MAIN_NAME} ", main.genesis, data / MAIN_NAME, main.listen, main.bootstrap))
    region: Genesis | None = None
    for name, file, directory, listen, bootstrap in kept:
        origin = config.path(file)
        try:
            genesis = read_genesis(origin)
            if region is not None:
                check_main(region, genesis, origin)
        except StartError as error:
            remedy = "`commonwatt init --join` fetches it from a neighbour"
            yield Finding(f"{name}genesis", Verdict.FAIL, str(error), remedy)
            continue
        region = region or genesis
        says = f"{genesis.chain_id}, {genesis.hash.hex()[:16]}"
        yield Finding(f"{name}genesis", Verdict.OK, says)
        try:
            status = await ask(directory, "status")
        except ControlError:
            status = None
        yield _log(name, directory)
        yield _database(name, directory / DATABASE_NAME, genesis)
        mine = config.main if name and config.main is not None else config.network
        is_closed = bool(mine.psk_file) or (not name and config.network.closed)
        yield _Chain(name, genesis, directory, listen, bootstrap, status, is_closed)


def _log(name: str, data: Path) -> Finding:
    check = f"{name}log"
    if (data / WAL_NAME).is_file():
        return Finding(check, Verdict.OK, f"{data / WAL_NAME}: what this node has signed is there")
    if not (data / DATABASE_NAME).exists():
        says = "there is none yet; it is made at the first start, if that is before the beginning"
        return Finding(check, Verdict.OK, says)
    return Finding(
        check,
        Verdict.WARN,
        f"{data / WAL_NAME} is missing: an authority no longer knows what it has signed",
        "nothing: it abstains until that can do no harm; find out what removed the file",
    )


def _database(name: str, path: Path, genesis: Genesis) -> Finding:
    check = f"{name}database"
    if not path.exists():
        return Finding(check, Verdict.OK, "there is none yet; it is made at the first start")
    try:
        found = examine(path, genesis.hash)
    except NodeError as error:
        remedy = f"stop the node and move {path} away: the chain comes from the neighbours again"
        return Finding(check, Verdict.FAIL, str(error), remedy)
    size_mib = path.stat().st_size / MIB
    return Finding(check, Verdict.OK, f"sound, {size_mib:.1f} MiB, height {found.height}")


def _daemon_pid(data: Path) -> int | None:
    """Return the process that holds the directory's lock; the lock itself is left alone."""
    lock = data / "lock"
    try:
        pid = int(lock.read_text()[:20])
        held = any(os.path.samefile(fd, lock) for fd in _handles(pid))
    except (OSError, ValueError):
        return None
    return pid if held else None


def _handles(pid: int) -> Iterator[Path]:
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        if os.readlink(fd).endswith("/lock"):
            yield fd


def _daemon(chains: Sequence[_Chain], data: Path, pid: int | None) -> Finding:
    told = [chain.status for chain in chains if chain.status is not None]
    if not told:
        if pid is None:
            says = f"no node is running in {data}"
            return Finding("daemon", Verdict.OK, f"{says}; `commonwatt run` starts it")
        return Finding(
            "daemon",
            Verdict.WARN,
            f"process {pid} holds {data} and does not answer",
            "wait if it has just been started or waits for its chain to begin; else see its log",
        )
    runs, here = str(told[0]["version"]), version()
    if runs != here:
        remedy = "restart the node"
        return Finding("daemon", Verdict.WARN, f"runs {runs}, installed is {here}", remedy)
    behind = max(int(status["behind"]) for status in told)
    says = f"it runs, height {told[0]['height']}, {behind} behind"
    if behind > BEHIND_GOOD:
        return Finding("daemon", Verdict.WARN, says, "let it catch up; see peers and clock below")
    return Finding("daemon", Verdict.OK, says)


# -- the network -----------------------------------------------------------------------------------


def _ports(config: Config, pid: int | None, through: Instruments) -> Iterator[Finding]:
    asked: list[tuple[str, str]] = [("network", config.network.listen)]
    if config.main is not None:
        asked.append(("main", config.main.listen))
    for section, listen in asked:
        try:
            _, host, port = check_listen(listen)
        except NetworkError as error:
            remedy = f"correct {section}.listen in the settings"
            yield Finding(f"{section} port", Verdict.FAIL, str(error), remedy)
            continue
        yield _port(section, host, port, pid, through)
    if config.web is not None:
        yield _port("web", *config.web.address, pid, through)


def _port(section: str, host: str, port: int, pid: int | None, through: Instruments) -> Finding:
    check = f"{section} port"
    if port == 0:
        return Finding(check, Verdict.OK, f"{host}: any that is free")
    use = through.look_at_port(host, port)
    if not use.problem:
        if pid is None:
            return Finding(check, Verdict.OK, f"{host}:{port} is free")
        remedy = "restart the node: its settings may have changed since it was started"
        return Finding(check, Verdict.WARN, f"{host}:{port} is free while the node runs", remedy)
    if use.taken and pid is not None and use.pid in (pid, None):
        return Finding(check, Verdict.OK, f"{host}:{port} is this node's")
    if not use.taken:
        remedy = f"set {section}.listen to an address of this machine and a port above 1023"
        return Finding(check, Verdict.FAIL, f"{host}:{port}: {use.problem}", remedy)
    who = "a process of another user" if use.pid is None else f"{use.process} (pid {use.pid})"
    remedy = f"stop that, or set {section}.listen to another port"
    return Finding(check, Verdict.FAIL, f"{host}:{port} is taken by {who}", remedy)


async def _peers(chain: _Chain, through: Instruments, newest: list[int]) -> Finding:
    check = f"{chain.name}peers"
    if chain.status is not None:
        count = len(chain.status["peers"])
        if chain.status["height"] > 0:
            newest.append(chain.status["block_time_ms"])
        if count:
            return Finding(check, Verdict.OK, f"connected to {count}")
        remedy = "see network.bootstrap: give a neighbour's address of `commonwatt status`"
        return Finding(check, Verdict.FAIL, "connected to none", remedy)
    if chain.is_closed:
        says = "a closed network: only the home's own node, with its key, is let in"
        return Finding(check, Verdict.OK, f"{says}; start it to see whom it meets")
    known = _known(chain)
    if not known:
        remedy = "set network.bootstrap to an address that a neighbour's `commonwatt status` prints"
        says = "none is known; others may still find this home"
        return Finding(check, Verdict.WARN, says, remedy)
    try:
        met = await through.meet(chain.genesis, known)
    except NetworkError as error:
        return Finding(check, Verdict.FAIL, str(error), "see whether this machine has a network")
    newest += [one.time_ms for one in met if one.time_ms is not None]
    says = f"{len(met)} of {len(known)} known answer"
    if not met:
        remedy = "see whether they run, and whether a firewall is between: each needs its TCP port"
        return Finding(check, Verdict.FAIL, says, remedy)
    return Finding(check, Verdict.OK, f"{says}, newest height {max(one.height for one in met)}")


def _known(chain: _Chain) -> list[str]:
    """Return addresses of peers: those of the settings, then those met before."""
    book = PeerBook(chain.data / PEERS_NAME)
    book.load()
    met = [address for peer in reversed(book.peer_ids()) for address in book.addresses(peer)[:1]]
    return list(dict.fromkeys((*chain.bootstrap, *met)))[:ASKED_MAX]


def _clock(chains: Sequence[_Chain], newest: Sequence[int], through: Instruments) -> Finding:
    now_ms = through.now_ms()
    kept = through.is_clock_kept()
    keep = "let something keep it: `timedatectl set-ntp true`"
    if not newest or not chains:
        says = "no block to compare it with"
        if kept is False:
            return Finding("clock", Verdict.WARN, f"{says}, and nothing keeps it right", keep)
        return Finding("clock", Verdict.OK, f"{says}")
    ahead_ms = max(newest) - now_ms
    if ahead_ms > CLOCK_TOLERANCE_MS:
        says = f"it is {ahead_ms / 1000:.0f} s or more behind the newest block"
        return Finding("clock", Verdict.FAIL, says, f"set it; {keep}")
    pace_ms = max(chain.genesis.chain.heartbeat_ms for chain in chains)
    if -ahead_ms > 2 * pace_ms + CLOCK_TOLERANCE_MS:
        says = f"the newest block is {-ahead_ms / 1000:.0f} s old: the chain stands, or it is fast"
        return Finding("clock", Verdict.WARN, says, f"compare it with another clock; {keep}")
    says = f"the newest block is {max(0, -ahead_ms) / 1000:.0f} s old, as it may be"
    if kept is False:
        return Finding("clock", Verdict.WARN, f"{says}; but nothing keeps it right", keep)
    return Finding("clock", Verdict.OK, says)


def to_plain(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return findings for programs: `well` is whether nothing fails."""
    well = all(finding.verdict is not Verdict.FAIL for finding in findings)
    return {"well": well, "findings": [msgspec.to_builtins(one._asdict()) for one in findings]}
