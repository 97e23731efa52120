"""Decoders of files: settings, genesis, keys, measurements, and what a home keeps for itself."""

import asyncio
import contextlib
import functools
import gzip
import io
import json
import math
import os
import sqlite3
import tempfile
from collections.abc import Callable
from datetime import UTC
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from hems.agents.desk import Desk
from hems.bid import BidSettings
from hems.config import HomeConfig, ReplayHome
from hems.errors import ConfigError as HemsConfigError
from hems.errors import DataError
from hems.forecast.weather import FileWeather
from hems.sources.formats import read_file
from hems.sources.wide import WideData, read_wide
from hems.state import HomeState
from node.chain.store import Store, StoredBlock
from node.config import Config, NetworkSection, load_config, settings_text
from node.errors import ConfigError, GenesisError, StartError, StoreError
from node.genesis import Genesis, read_genesis, write_genesis
from node.home.memory import HomeMemory
from node.keys.keyfile import Cost, StoredKey, load, text_of
from node.network._book import PeerBook
from testnet.street import STREET_NAME, StreetError, StreetPlan, open_street
from tests.fuzz.judge import MEMORY_BYTES_MAX, Target, Told
from tests.fuzz.node_targets import signed_calls
from tests.market.street import START_MS
from tests.node.grid import home_config, key_of, make_genesis
from tests.node.network.homes import key_of as peer_key
from wire.codec import encode

_AGENT: Final = "hu_prosumer"


@functools.lru_cache
def folder() -> Path:
    """A directory for the files that are read, in memory where there is such a place."""
    memory = Path("/dev/shm")
    made = tempfile.TemporaryDirectory(prefix="cw-fuzz-", dir=memory if memory.is_dir() else None)
    # A forked process runs these when it ends, and no others.
    Finalize(made, made.cleanup, exitpriority=1)
    _FOLDERS.append(made)
    return Path(made.name)


# Removed when the process ends.
_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []


def from_file(name: str, read: Callable[[Path], Any]) -> Callable[[bytes], Any]:
    """Make a reader of files a reader of bytes."""

    def decode(data: bytes) -> Any:
        path = folder() / f"{os.getpid()}-{name}"
        path.write_bytes(data)
        path.chmod(0o600)
        return read(path)

    return decode


def _written(write: Callable[[Path], None]) -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "file"
        write(path)
        return path.read_bytes()


# -- settings


def settings_file() -> Target:
    sunny = home_config(0)
    replayed = HomeConfig(
        source=msgspec.convert(
            {
                "kind": "replay", "path": "homes.csv", "home": "a", "data_date": "2012-11-01",
                "market_date": "2025-11-03", "pv_scale": 1.5,
                "pv": {"kind": "community", "home": 3},
            },
            ReplayHome,
        ),
        zone="Europe/Berlin",
        import_cap_w=10_000,
    )  # fmt: skip
    papers = home_config(2)
    papers = msgspec.structs.replace(
        papers, agent=_AGENT, agent_settings={"step_micro_per_kwh": 900}
    )
    bootstrap = tuple(f"/ip4/10.0.0.{n}/tcp/4600/p2p/{peer_key(n).peer_id}" for n in range(2))
    configs = (
        Config(home=sunny, network=NetworkSection(bootstrap=bootstrap)),
        Config(home=replayed),
        Config(home=papers),
        Config(),
    )
    # Comments and defaults are most of the text, and none of what can be wrong.
    texts = tuple(
        "\n".join(line for line in settings_text(config).splitlines() if line[:1] != "#").encode()
        for config in configs
    )

    def read(path: Path) -> Config:
        config = load_config(path, {})
        if config.home is not None:
            Desk(config.home.agent, config.home.agent_settings, config.home.bidding, {})
        return config

    def check(found: Config, data: bytes) -> str | None:
        del data
        if not _finite(msgspec.to_builtins(found, enc_hook=str)):
            return "a number that is none is accepted"
        paths = (found.node.genesis, found.node.data, found.node.key, found.node.name)
        return "a path with NUL is accepted" if any("\0" in path for path in paths) else None

    words = (b"node", b"network", b"sync", b"home", b"source", b"battery", b"bidding", b"kind",
             b"community", b"replay", b"zone", b"__proto__", b"pv", b"name")  # fmt: skip
    return Target(
        "settings-file", from_file("node.toml", read), (ConfigError, HemsConfigError),
        texts, kind="text", check=check, words=words,
        # tomllib is Python: 16 KiB, the most that is read, take it as long.
        cpu_s_max=0.05,
    )  # fmt: skip


def settings_environment() -> Target:
    names = ("NODE_NAME", "NODE_LOG_LEVEL", "NETWORK_LISTEN", "NETWORK_BOOTSTRAP",
             "SYNC_SNAPSHOT_EVERY")  # fmt: skip
    examples = ("NODE_NAME=kitchen", "NODE_LOG_LEVEL=debug", "NETWORK_LISTEN=/ip4/0.0.0.0/tcp/1",
                "NETWORK_BOOTSTRAP=/dns4/a/tcp/1,/ip4/1.2.3.4/tcp/2")  # fmt: skip

    def read(data: bytes) -> Config:
        name, _, value = data.decode("utf-8", "surrogateescape").partition("=")
        return load_config(None, {f"COMMONWATT_{name}": value})

    return Target(
        "settings-environment", read, (ConfigError,), tuple(text.encode() for text in examples),
        kind="text", words=tuple(name.encode() for name in names),
    )  # fmt: skip


def _finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def genesis_file() -> Target:
    geneses = (make_genesis(homes=2), make_genesis(homes=0, settle_window_ms=900_000))
    texts = tuple(_written(functools.partial(write_genesis, genesis)) for genesis in geneses)

    def check(found: Genesis, data: bytes) -> str | None:
        del data
        found.check()
        return None if len(found.hash) == 32 else "it has no hash"

    return Target(
        "genesis-file", from_file("genesis.json", read_genesis), (GenesisError,), texts,
        kind="text", check=check,
        words=(b"version", b"authorities", b"market", b"homes", b"role", b"prosumer", b"tariffs"),
    )  # fmt: skip


def key_file() -> Target:
    sealed = text_of(key_of(2), "twelve letters", Cost(2**14, 1))
    seeds = (key_of(0).seed.hex() + "\n", key_of(1).seed.hex().upper(), sealed)

    def check(found: StoredKey, data: bytes) -> str | None:
        if found.plain is None:
            said = json.loads(data.decode().splitlines()[0])["address"]
            return None if found.address == said else "another's key"
        # A secret is a file's first line.
        line = io.StringIO(data[:1_024].decode(), newline=None).readline()
        text = "".join(line.split()).lower()
        return None if found.plain.seed.hex() == text else "another key"

    return Target(
        "key-file", from_file("node.key", load), (ConfigError,),
        tuple(seed.encode() for seed in seeds), kind="text", check=check,
        words=(b"commonwatt-key", b"scrypt", b"chacha20-poly1305", b"sealed", b"salt"),
    )  # fmt: skip


# -- measurements


def wide_file() -> Target:
    return Target(
        "wide-file", from_file("homes.csv", read_wide), (DataError,), tuple(_tables()), kind="text",
        check=_measured, words=(b"time", b"a", b"a_pv", b"b", b"pv", b"a_kw", b"b_pv_kw"),
    )  # fmt: skip


def wide_file_with_gaps() -> Target:
    def read(path: Path) -> WideData:
        return read_wide(path, missing_rows=True)

    return Target(
        "wide-file-with-gaps", from_file("gaps.csv", read), (DataError,), tuple(_tables()),
        kind="text", check=_measured,
    )  # fmt: skip


def packed_wide_file() -> Target:
    return Target(
        "packed-wide-file", from_file("homes.csv.gz", read_wide), (DataError,),
        tuple(gzip.compress(table, mtime=0) for table in _tables()), kind="bytes", check=_measured,
    )  # fmt: skip


def long_file() -> Target:
    hours = [f"2012-11-{day:02d} {hour:02d}:00" for day in (1, 2) for hour in range(24)]
    rows = [f"{at},{home},0.425,{n % 3}" for home in ("a", "b") for n, at in enumerate(hours)]
    return Target(
        "long-file", from_file("long.csv", read_file), (DataError,),
        ("\n".join(["time,home,load,pv", *rows]).encode(),), kind="text", check=_measured,
        words=(b"time", b"home", b"load", b"load_kw", b"pv", b"pv_kw"),
    )  # fmt: skip


def citylearn_file() -> Target:
    head = "month,hour,day_type,non_shiftable_load,solar_generation"
    rows = [f"8,{hour},{day},0.5,{hour}" for day in (1, 2) for hour in range(1, 25)]
    return Target(
        "citylearn-file", from_file("Building_1.csv", read_file), (DataError,),
        ("\n".join([head, "7,24,7,1,0", *rows]).encode(),), kind="text", check=_measured,
        words=(b"month", b"hour", b"day_type", b"heating_demand"),
    )  # fmt: skip


def weather_file() -> Target:
    rows = [f"2024-03-01 {hour:02d}:00,{40 * hour},{hour - 5}.5" for hour in range(24)]

    def check(found: FileWeather, data: bytes) -> str | None:
        del data
        seen = found.window(1_709_251_200_000, 48, 1_800_000)
        good = all(np.isnan(part) | (abs(part) <= 1_500) for row in seen for part in row)
        return None if good else "weather that cannot be"

    return Target(
        "weather-file", from_file("weather.csv", lambda path: FileWeather(path, UTC)),
        (DataError,), ("\n".join(["time,irradiance_w_m2,temperature_c", *rows]).encode(),),
        kind="text", check=check, words=(b"time", b"irradiance_w_m2", b"temperature_c"),
    )  # fmt: skip


def _tables() -> list[bytes]:
    hours = [f"2012-11-{day:02d} {hour:02d}:00" for day in (1, 2) for hour in range(24)]
    plain = ["time,a,b,b_pv", *(f"{at},0.425,1.5,0" for at in hours)]
    gaps = [
        "time,home_kw,pv_kw",
        *(f"{at.replace(' ', 'T')}:00,0.4,{n % 7}" for n, at in enumerate(hours)),
    ]
    gaps[5] = f"{hours[4]},,"
    return ["\n".join(lines).encode() + b"\n" for lines in (plain, gaps)]


def _measured(found: WideData, data: bytes) -> str | None:
    del data
    for home in found.homes:
        for series in (home.load_uwh, home.pv_uwh):
            if series is None:
                continue
            if len(series) != found.days * found.steps_per_day or int(series.min()) < -1:
                return "a series that is not of its days"
    return None


# -- what a home keeps for itself


def peer_book() -> Target:
    book = PeerBook(folder() / "example-peers.json")
    for number in range(3):
        book.add(f"/ip4/10.0.0.{number}/tcp/4600/p2p/{peer_key(number).peer_id}")
        book.add(f"/dns4/home/tcp/{number + 1}/p2p/{peer_key(number).peer_id}")
    book.save()
    good = (folder() / "example-peers.json").read_bytes()

    def read(path: Path) -> list[str]:
        found = PeerBook(path)
        found.load()
        if not found.peer_ids():
            raise Told("an empty book")
        return found.peer_ids()

    return Target("peer-book", from_file("peers.json", read), (Told,), (good,), kind="text")


def home_memory() -> Target:
    states = (
        HomeState(5_000_000, 1_762_128_000_000, {1_762_128_000_000: -500, 1_762_128_900_000: 20}),
        HomeState(agent=Desk(_AGENT, {}, BidSettings(), {}).saved),
        HomeState(),
    )

    outbox = [tx.raw.hex() for tx in signed_calls()[:2]]

    def read(path: Path) -> HomeMemory:
        found = HomeMemory(path, "street", START_MS)
        if found.state is not None:
            Desk(_AGENT, {}, BidSettings(), found.state.agent)
        return found

    def check(found: HomeMemory, data: bytes) -> str | None:
        del data
        if found.state is None:
            return "a home without a state"
        # What an agent remembers is its own matter: the desk reads it, or the home does not start.
        encode({key: part for key, part in found.state.to_plain().items() if key != "agent"})
        raws = {tx.raw.hex() for tx in found.outbox.values()}
        return None if raws <= set(outbox) else "a transaction that the home did not sign"

    return Target(
        "home-memory", from_file("home.json", read), (StoreError, HemsConfigError),
        tuple(
            msgspec.json.encode(state.to_plain() | {"outbox": said})
            for state, said in zip(states, (outbox, outbox, []), strict=True)
        ),
        kind="text", check=check,
    )  # fmt: skip


def street_file() -> Target:
    content = {
        "plan": msgspec.to_builtins(StreetPlan()),
        "names": [f"home-{n:02d}" for n in range(1, 13)],
    }
    other = {
        "plan": {"homes": 4, "seed": 7, "zone": "UTC"},
        "names": ["home-01", "home-02", "home-03", "home-04"],
    }

    def read(path: Path) -> Any:
        file = path.parent / STREET_NAME
        path.rename(file)
        found = open_street(file.parent)
        return (found.plan, found.names) if found is not None else None

    def check(found: Any, data: bytes) -> str | None:
        del data
        good = found is not None and all(type(name) is str for name in found[1])
        return None if good else "names that are none"

    return Target(
        "street-file", in_own_folder(read), (StreetError,),
        tuple(msgspec.json.encode(value) for value in (content, other)), kind="text", check=check,
    )  # fmt: skip


def in_own_folder(read: Callable[[Path], Any]) -> Callable[[bytes], Any]:
    """Let a reader of files read bytes."""

    def decode(data: bytes) -> Any:
        own = folder() / str(os.getpid())
        own.mkdir(exist_ok=True)
        path = own / "new"
        path.write_bytes(data)
        return read(path)

    return decode


def database() -> Target:
    """The whole SQLite file, its pages damaged anywhere."""
    genesis = bytes(32)
    block = StoredBlock(0, b"h" * 32, b"block", b"", b"\x90")

    async def make(path: Path) -> None:
        store = await Store.open(path, genesis)
        await store.commit(block, [b"id"], {"a": b"1", "b": b"2"})
        await store.close()

    def written(path: Path) -> None:
        asyncio.run(make(path))
        # One file, of few pages, without its log.
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA journal_mode=DELETE")
        db = sqlite3.connect(path, isolation_level=None)
        db.execute("PRAGMA page_size=512")
        db.execute("VACUUM")
        db.close()

    good = _written(written)

    async def load(path: Path) -> Any:
        try:
            store = await Store.open(path, genesis)
        finally:
            for end in ("-wal", "-shm", "-journal"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{path}{end}")
        try:
            return [await store.block(0), [item async for item in store.state()]]
        except (sqlite3.Error, UnicodeDecodeError):
            raise Told("damaged while it is read") from None
        finally:
            await store.close()

    loop = asyncio.new_event_loop()
    return Target(
        "database", from_file("chain.db", lambda path: loop.run_until_complete(load(path))),
        (StartError, Told), (good,), kind="bytes",
        # Each one is opened, checked by SQLite and closed, with a thread; SQLite asks for
        # memory as a damaged page tells it.
        cpu_s_max=0.05, input_memory_max=MEMORY_BYTES_MAX,
    )  # fmt: skip


TARGETS: Final = (
    settings_file,
    settings_environment,
    genesis_file,
    key_file,
    wide_file,
    wide_file_with_gaps,
    packed_wide_file,
    long_file,
    weather_file,
    citylearn_file,
    peer_book,
    home_memory,
    street_file,
    database,
)
