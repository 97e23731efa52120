"""Makes a street: genesis, keys and settings of every home, in one directory.

<directory>/
    street.json     names of the homes, in order, and how the street was made
    regulator.key   the regulator's key: mints and redeems money, registers homes
    public/join     joining addresses, one of each region
    home-01/ ...    one directory per home (`node.setup`)
"""

import functools
import itertools
import json
import os
import socket
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

import msgspec

from hems.agents.registry import DEFAULT as AGENT_DEFAULT
from hems.agents.registry import agent_class
from hems.config import HomeConfig
from hems.errors import HemsError
from hems.neighbourhood import Neighbourhood, built_in, replayed, synthetic, with_storage
from market.app import machine
from market.genesis import MECHANISMS, MECHANISMS_WITH_ORDERS, HomeEntry, MarketParams
from node.config import Config, NetworkSection, NodeSection, settings_text
from node.errors import GenesisError, StartError
from node.genesis import (
    AUTHORITIES_MAX,
    AUTHORITIES_MIN,
    GENESIS_VERSION,
    ChainParams,
    Genesis,
    market_rules,
    write_genesis,
)
from node.membership.joining import JoiningAddress, capability
from node.setup import GENESIS_NAME, create_home
from wire.keys import SigningKey

STREET_NAME: Final = "street.json"
REGULATOR_NAME: Final = "regulator.key"
PUBLIC_NAME: Final = "public"
JOIN_NAME: Final = "join"
CONTAINER_PORT: Final = 4600
HOMES_MAX: Final = 200
BEGINS_IN_S_MAX: Final = 86_400
REGIONS_MAX: Final = 16
# As the main chain takes them (`contracts/regions.star`).
REGION_AUTHORITIES_MAX: Final = 24
# A Monday in the month the built-in community was measured in, in the morning: sun soon.
MARKET_START: Final = datetime(2025, 11, 3, 9, 0)
OFFSET_YEARS: Final = 10
BALANCE_MICRO: Final = 200_000_000
# Time of use and feed-in of CE's table 2, by local minute of the day. [micro AUD per kWh]
TARIFF_BANDS: Final = (
    (0, 177_000),
    (7 * 60, 277_100),
    (14 * 60, 541_100),
    (20 * 60, 277_100),
    (22 * 60, 177_000),
)
FEED_IN_MICRO_PER_KWH: Final = 100_000
# Roofs are not spread evenly over a city: regions have something to sell to each other. In each of
# them somebody has none, so that neighbours trade from the first slot on.
REGION_PV_SHARES: Final = (0.75, 0.25, 0.5)
# New South Wales, scope 2: Australian National Greenhouse Accounts Factors, 2023.
INTENSITY_MG_PER_WH: Final = 680
DAYS_REPLAYED: Final = 7
DAY_MINUTES: Final = 24 * 60
STREET_CHARS_MAX: Final = 65_536
HomeName: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"\Ahome-[0-9]{2,3}\Z")]


class StreetError(StartError):
    """The street cannot be made, or the directory does not hold one."""


class StreetPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was asked for.

    `data` is the absolute path of a file to replay, or empty; `synthetic` asks for households made
    up (`hems.sources.synthetic`) instead of the built-in community. `agent` is how homes trade,
    `agents` how some do by their names; the last `speculators` of the homes have a battery and
    nothing else, and trade for the difference of prices. `flexible`: the built-in homes have loads
    that can be moved, too (`hems.neighbourhood.built_in`). Every `intraday_minutes` of the market's
    day a round clears what is open, before the gates; 0: only the gates do. `sealed`: orders are
    hidden until their gate. `rules` are further parameters of the market, by their names in the
    genesis (`node.genesis.market_rules`). With more than one of `regions` the homes are spread over
    them, each with so many `authorities`, under a main chain (`testnet/regions.py`). Chains begin
    `begins_in_s` after they were made: until then homes on other hosts get their files, and start
    (`node.chain.beginning`).
    """

    homes: int = 12
    authorities: int = 4
    slot_minutes: int = 15
    time_lapse: int = 60
    mechanism: str = "high_low"
    data: str = ""
    synthetic: bool = False
    seed: int = 1
    zone: str = "Australia/Sydney"
    agent: str = AGENT_DEFAULT
    agents: dict[str, str] = {}
    speculators: int = 0
    flexible: bool = False
    intraday_minutes: int = 0
    sealed: bool = False
    rules: dict[str, Any] = {}
    regions: int = 1
    begins_in_s: int = 0

    @property
    def region_sizes(self) -> list[int]:
        """How many homes each region has, in their order."""
        share, rest = divmod(self.homes, self.regions)
        return [share + (place < rest) for place in range(self.regions)]

    def check(self) -> None:
        """Raise `StreetError` for what cannot be."""
        if not 1 <= self.regions <= REGIONS_MAX:
            raise StreetError(f"{self.regions} regions: one machine holds 1 to {REGIONS_MAX}")
        last = self.region_sizes[-1]
        where = "homes" if self.regions == 1 else "homes of a region"
        most = AUTHORITIES_MAX if self.regions == 1 else REGION_AUTHORITIES_MAX
        if not AUTHORITIES_MIN <= self.authorities <= min(last, most):
            raise StreetError(
                f"{self.authorities} authorities of {last} {where}: "
                f"{AUTHORITIES_MIN} to {most} are needed, each in a home of its own"
            )
        if self.homes > HOMES_MAX:
            raise StreetError(f"{self.homes} homes: one machine's street has at most {HOMES_MAX}")
        if self.slot_minutes not in (5, 10, 15, 20, 30, 60):
            raise StreetError(f"slots of {self.slot_minutes} minutes: use 5, 10, 15, 20, 30 or 60")
        if self.synthetic and self.data:
            raise StreetError("homes from a file or synthetic ones: choose one")
        if self.mechanism not in MECHANISMS:
            raise StreetError(f"mechanism {self.mechanism!r}: use {', '.join(MECHANISMS)}")
        if not 1 <= self.time_lapse <= 3_600:
            raise StreetError(f"time lapse {self.time_lapse}: 1 (real time) to 3600")
        if self.flexible and self.data:
            raise StreetError("flexible homes are built-in ones; leave out the file to replay")
        self._check_rounds()
        self._check_rules()
        if not 0 <= self.speculators <= last - self.authorities:
            raise StreetError(
                f"{self.speculators} speculators: 0 to {last - self.authorities}, of the "
                "homes that are no authorities"
            )
        if not 0 <= self.begins_in_s <= BEGINS_IN_S_MAX:
            raise StreetError(
                f"a beginning in {self.begins_in_s} s: 0 (now) to {BEGINS_IN_S_MAX} (a day)"
            )
        unknown = sorted(set(self.agents) - set(home_names(self.homes)))
        if unknown:
            raise StreetError(
                f"agent {self.agents[unknown[0]]!r} of {unknown[0]!r}: homes are home-01 to "
                f"{home_names(self.homes)[-1]}"
            )

    def _check_rules(self) -> None:
        try:
            market_rules(self.rules)
        except GenesisError as error:
            raise StreetError(f"rules: {error}") from None

    def _check_rounds(self) -> None:
        if self.intraday_minutes and self.mechanism not in MECHANISMS_WITH_ORDERS:
            raise StreetError(
                f"rounds before the gate with mechanism {self.mechanism!r}: only "
                f"{' and '.join(MECHANISMS_WITH_ORDERS)} have orders to clear"
            )
        if not 0 <= self.intraday_minutes <= DAY_MINUTES:
            raise StreetError(f"a round every {self.intraday_minutes} minutes: 1 to {DAY_MINUTES}")
        if self.sealed and (self.intraday_minutes or self.regions > 1):
            raise StreetError(
                "sealed orders: nothing can be cleared before their gate, or traded with other "
                "regions; leave out --intraday-minutes and --regions"
            )
        if self.sealed and self.mechanism not in MECHANISMS_WITH_ORDERS:
            raise StreetError(
                f"sealed orders with mechanism {self.mechanism!r}: only "
                f"{' and '.join(MECHANISMS_WITH_ORDERS)} have orders to seal"
            )


def home_names(homes: int) -> list[str]:
    """Return the names of a street's homes, in their order."""
    return [f"home-{number:02d}" for number in range(1, homes + 1)]


class Street(NamedTuple):
    """A street on disk."""

    directory: Path
    plan: StreetPlan
    names: list[str]
    notes: list[str]

    def home(self, name: str) -> Path:
        """Return the directory of a home."""
        return self.directory / name


def open_street(directory: Path) -> Street | None:
    """Return the street that lies in a directory, or None if there is none."""
    file = directory / STREET_NAME
    if not file.exists():
        return None
    try:
        with file.open() as text:
            content = json.loads(text.read(STREET_CHARS_MAX))
        plan = msgspec.convert(content["plan"], StreetPlan)
        plan.check()
        names = msgspec.convert(content["names"], list[HomeName])
        if len(names) != plan.homes:
            raise ValueError(f"{len(names)} names for {plan.homes} homes")
        return Street(directory, plan, names, [])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StreetError(f"{file}: not a street's description ({error})") from None


def the_street(directory: Path) -> Street:
    """Return the street that lies in a directory. Raises `StreetError` if there is none."""
    street = open_street(directory)
    if street is None:
        raise StreetError(f"{directory}: there is no street; testnet create makes one")
    return street


def create_street(
    directory: Path,
    plan: StreetPlan,
    containers: bool = False,
    owner: int | None = None,
    chain: ChainParams = ChainParams(),  # noqa: B008 - immutable
) -> Street:
    """Make a street in a directory.

    Parameters
    ----------
    directory : Path
        May hold empty home directories (container volumes); anything else is left alone and
        refused.
    plan : StreetPlan
    containers : bool
        Homes listen on all addresses of a host of their own name, instead of loopback ports.
    owner : int, optional
        User id that shall own the homes' files.
    chain : ChainParams
        How blocks are made.

    Raises
    ------
    StreetError
        The plan or its data cannot be, or the directory holds something else.
    """
    plan.check()
    names = home_names(plan.homes)
    allowed = {*names, PUBLIC_NAME}
    if directory.exists() and (unknown := sorted(set(os.listdir(directory)) - allowed)):
        raise StreetError(f"{directory} holds {unknown[0]}, which is not a street's; use another")
    neighbourhood = neighbourhood_of(plan)
    keys = [SigningKey.generate() for _ in names]
    regulator = SigningKey.generate()
    genesis = _genesis(plan, names, keys, regulator, neighbourhood.homes, chain)
    genesis.check()
    addresses = addresses_of(names, keys, containers)
    directory.mkdir(parents=True, exist_ok=True)
    for place, (name, key, home) in enumerate(zip(names, keys, neighbourhood.homes, strict=True)):
        listen, dial = addresses[place]
        network = NetworkSection(
            listen=listen,
            announce=announced(dial) if containers else (),
            bootstrap=bootstrap_of(place, plan.authorities, addresses),
        )
        config = Config(node=NodeSection(name=name), network=network, home=home)
        create_home(directory / name, settings_text(config), key)
        write_genesis(genesis, directory / name / GENESIS_NAME)
        if owner is not None:
            give(directory / name, owner)
    write_secret(directory / REGULATOR_NAME, regulator)
    write_joining(directory, [JoiningAddress(addresses[0][1], genesis.hash)])
    write_description(directory, plan, names)
    if owner is not None:
        give_files(directory, owner)
    return Street(directory, plan, names, neighbourhood.notes)


def neighbourhood_of(plan: StreetPlan) -> Neighbourhood:
    """Return the homes that a plan asks for. Raises `StreetError` for what its data cannot be."""
    try:
        if plan.synthetic:
            street = synthetic(plan.homes, plan.seed, plan.zone)
        elif not plan.data:
            shares = list(zip(plan.region_sizes, itertools.cycle(REGION_PV_SHARES), strict=False))
            street = built_in(
                plan.homes,
                plan.seed,
                plan.zone,
                flexible=plan.flexible,
                pv_shares=shares if plan.regions > 1 else None,
            )
        else:
            street = replayed(
                Path(plan.data),
                plan.homes,
                _market_start_ms(plan.zone),
                run_days=DAYS_REPLAYED,
                seed=plan.seed,
                zone=plan.zone,
            )
        homes = [msgspec.structs.replace(home, agent=plan.agent) for home in street.homes]
        street = with_storage(street._replace(homes=homes), plan.speculators)
        named = [
            _trading(home, plan.agents.get(name, home.agent), plan.seed * HOMES_MAX + place)
            for place, (name, home) in enumerate(
                zip(home_names(plan.homes), street.homes, strict=True), start=1
            )
        ]
        return street._replace(homes=named)
    except HemsError as error:
        raise StreetError(str(error)) from None


def _trading(home: HomeConfig, agent: str, seed: int) -> HomeConfig:
    """Return a home with an agent that draws like no other home's, if it draws at all."""
    fields = {field.name for field in msgspec.structs.fields(agent_class(agent).Settings)}
    settings: dict[str, int | float | str | bool] = {"seed": seed} if "seed" in fields else {}
    return msgspec.structs.replace(home, agent=agent, agent_settings=settings)


def _genesis(
    plan: StreetPlan,
    names: list[str],
    keys: list[SigningKey],
    regulator: SigningKey,
    homes: list[HomeConfig],
    chain: ChainParams,
) -> Genesis:
    market = market_of(
        plan,
        chain_id=f"street-{keys[0].address[2:10]}",
        regulator=regulator.address,
        homes=tuple(map(entry_of, names, keys, homes)),
    )
    authorities = tuple(key.public for key in keys[: plan.authorities])
    return Genesis(GENESIS_VERSION, authorities, chain, market, machine=machine())


def market_of(plan: StreetPlan, **fields: Any) -> MarketParams:
    """Return the market of a plan that begins now; `fields` are those that no plan names."""
    start_ms = _market_start_ms(plan.zone)
    usual = {
        "genesis_ms": time.time_ns() // 1_000_000 + plan.begins_in_s * 1_000,
        "market_start_ms": start_ms,
        "time_lapse": plan.time_lapse,
        "mechanism": plan.mechanism,
        "sealed": plan.sealed,
        "intraday_every_ms": plan.intraday_minutes * 60_000,
        "slot_minutes": plan.slot_minutes,
        "currency": "AUD",
        "utc_offsets": utc_offsets(plan.zone, start_ms),
        "tariffs": ((0, TARIFF_BANDS),),
        "feed_in": ((0, FEED_IN_MICRO_PER_KWH),),
        "intensities": ((0, ((0, INTENSITY_MG_PER_WH),)),),
    }
    rules = market_rules(plan.rules)
    if "main" in fields:
        # Nobody trades on the main chain by a region's rules, but all count in one currency.
        rules = {name: value for name, value in rules.items() if name == "currency"}
    return MarketParams(**{**usual, **rules, **fields})


def entry_of(name: str, key: SigningKey, home: HomeConfig) -> HomeEntry:
    """Return what a genesis says of a home."""
    can = capability(home)
    return HomeEntry(
        address=key.address,
        meter=key.derive("meter").address,
        name=name,
        balance_micro=BALANCE_MICRO,
        **can._asdict(),
    )


def _market_start_ms(zone: str) -> int:
    return int(MARKET_START.replace(tzinfo=ZoneInfo(zone)).timestamp()) * 1000


@functools.cache
def utc_offsets(zone: str, start_ms: int) -> tuple[tuple[int, int], ...]:
    """Return the zone's dated offsets from UTC, for the contract, which knows no zones.

    `[[from_ms, minutes], ...]`, from before the start for some years: clocks that change are found
    by looking at every hour's offset.
    """
    place = ZoneInfo(zone)
    moment = datetime.fromtimestamp(start_ms // 1000, ZoneInfo("UTC")) - timedelta(days=1)
    end = moment + timedelta(days=366 * OFFSET_YEARS)
    rows: list[tuple[int, int]] = []
    hour = timedelta(hours=1)
    moment = moment.replace(minute=0, second=0, microsecond=0)
    while moment < end:
        offset = moment.astimezone(place).utcoffset() or timedelta()
        minutes = int(offset.total_seconds()) // 60
        if not rows or rows[-1][1] != minutes:
            # The first row holds for all time before it, too.
            rows.append((int(moment.timestamp()) * 1000 if rows else 0, minutes))
        moment += hour
    return tuple(rows)


def addresses_of(
    names: list[str], keys: list[SigningKey], containers: bool, port: int = CONTAINER_PORT
) -> list[tuple[str, str]]:
    """Return (listen, dial) multiaddresses of each home; `port` is that of all in containers."""
    if containers:
        return [
            (
                f"/ip4/0.0.0.0/tcp/{port}",
                f"/dns4/{name}/tcp/{port}/p2p/{key.peer_id}",
            )
            for name, key in zip(names, keys, strict=True)
        ]
    listen = [f"/ip4/127.0.0.1/tcp/{port}" for port in free_ports(len(names))]
    return [
        (address, f"{address}/p2p/{key.peer_id}") for address, key in zip(listen, keys, strict=True)
    ]


def free_ports(count: int) -> list[int]:
    """Return loopback TCP ports that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]
    finally:
        for item in sockets:
            item.close()


def bootstrap_of(place: int, authorities: int, addresses: list[tuple[str, str]]) -> tuple[str, ...]:
    """Authorities know each other; every other home knows two of them."""
    if place < authorities:
        known = [other for other in range(authorities) if other != place]
    else:
        known = [place % authorities, (place + 1) % authorities]
    return tuple(addresses[other][1] for other in known)


def announced(dial: str) -> tuple[str, ...]:
    """Return what a node tells others of itself, for the address it is dialled at."""
    return (dial.partition("/p2p/")[0],)


def write_secret(file: Path, key: SigningKey) -> None:
    """Write a key that belongs to no home."""
    file.touch(mode=0o600)
    file.write_text(key.seed.hex() + "\n")


def write_joining(directory: Path, addresses: list[JoiningAddress]) -> None:
    """Write where newcomers come in, a line for each region, for all to read."""
    public = directory / PUBLIC_NAME
    public.mkdir(exist_ok=True)
    (public / JOIN_NAME).write_text("".join(f"{one}\n" for one in addresses))


def write_description(directory: Path, plan: StreetPlan, names: list[str]) -> None:
    """Write what the street is, last of all: one without it was interrupted in its making."""
    content = {"plan": msgspec.to_builtins(plan), "names": names}
    (directory / STREET_NAME).write_text(json.dumps(content, indent=1) + "\n")


def give_files(directory: Path, owner: int) -> None:
    """Let a user own a street's own files, for what he does for all of it (`testnet operate`)."""
    os.chown(directory, owner, owner)
    for path in directory.iterdir():
        if path.is_file():
            os.chown(path, owner, owner)


def give(directory: Path, owner: int) -> None:
    """Let a user own a directory and all in it."""
    os.chown(directory, owner, owner)
    for path in directory.rglob("*"):
        os.chown(path, owner, owner)
