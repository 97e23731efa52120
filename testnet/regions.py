"""Makes several regions and their main chain, in one directory, and has the regions let in.

<directory>/
    street.json      as of one street (`testnet/street.py`); homes are in the order of their regions
    regulator.key    the regulator's key, of all chains
    sponsor-1.key    the key of each region's sponsor: bond and escrow on the main chain
    home-01/ ...     one directory per home; a region's authorities keep the main chain too
    neutral-01/ ...  one per authority of the main chain that belongs to no region

Of each region the first homes are its authorities, and the first of these is its delegate: it has a
seat on the main chain beside the neutral ones.
"""

import asyncio
import os
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

from market.app import machine
from market.client import Call, regions, sign_call
from market.tiers import ExchangeRules, ExportRules, MainRules, Membership
from node.api.control import ask
from node.config import Config, MainSection, NetworkSection, NodeSection, settings_text
from node.errors import ControlError
from node.genesis import (
    AUTHORITIES_MIN,
    GENESIS_VERSION,
    ChainParams,
    Genesis,
    read_genesis,
    write_genesis,
)
from node.membership.joining import JoiningAddress
from node.regions.registration import prove_possession, registration
from node.setup import (
    DATA_NAME,
    GENESIS_NAME,
    KEY_NAME,
    MAIN_GENESIS_NAME,
    MAIN_NAME,
    create_home,
    read_key,
)
from testnet.street import (
    CONTAINER_PORT,
    PUBLIC_NAME,
    REGULATOR_NAME,
    Street,
    StreetError,
    StreetPlan,
    addresses_of,
    announced,
    bootstrap_of,
    create_street,
    entry_of,
    give,
    give_files,
    home_names,
    market_of,
    neighbourhood_of,
    write_description,
    write_joining,
    write_secret,
)
from wire.keys import SigningKey

MAIN_CONTAINER_PORT: Final = CONTAINER_PORT + 100
BOND_MICRO: Final = 100_000_000
ESCROW_MICRO: Final = 500_000_000
SPONSOR_MICRO: Final = 1_000_000_000
HOLD_MS: Final = 600_000
# So many times in a slot the main chain makes a block, if its bounds allow it.
MAIN_BLOCKS_PER_SLOT: Final = 10
MAIN_INTERVAL_MS: Final = (1_000, 10_000)
CHECKPOINT_MS: Final = (5_000, 60_000)
# Checkpoints that may fail to come before a region is marked halted, and the least time for it.
SILENT_CHECKPOINTS: Final = 4
HALT_MS_MIN: Final = 30_000
VALID_MS: Final = 60_000
ADMIT_POLL_S: Final = 2.0


class Neighbours(NamedTuple):
    """The homes of one region, by their names, in order; its number from 1 on."""

    number: int
    names: list[str]


def regions_of(plan: StreetPlan) -> list[Neighbours]:
    """Return which homes are in which region."""
    names = home_names(plan.homes)
    found, first = [], 0
    for number, size in enumerate(plan.region_sizes, start=1):
        found.append(Neighbours(number, names[first : first + size]))
        first += size
    return found


def neutral_names(plan: StreetPlan) -> list[str]:
    """Return the names of the main chain's neutral authorities; none of a street by itself."""
    if plan.regions == 1:
        return []
    count = max(AUTHORITIES_MIN - plan.regions, 1)
    return [f"neutral-{number:02d}" for number in range(1, count + 1)]


def main_data(street: Street) -> Path:
    """Return the data directory of a node that keeps the main chain only."""
    return street.home(neutral_names(street.plan)[0]) / DATA_NAME


def create(
    directory: Path,
    plan: StreetPlan,
    containers: bool = False,
    owner: int | None = None,
    halt_ms: int | None = None,
) -> Street:
    """Make a street, or several regions with their main chain; as `create_street`.

    `halt_ms`: after how long without a checkpoint a region is marked halted; by its slots if None.
    """
    if plan.regions == 1:
        return create_street(directory, plan, containers, owner)
    plan.check()
    allowed = {*home_names(plan.homes), *neutral_names(plan), PUBLIC_NAME}
    if directory.exists() and (unknown := sorted(set(os.listdir(directory)) - allowed)):
        raise StreetError(f"{directory} holds {unknown[0]}, which is not a street's; use another")
    return _Founding(directory, plan, containers, owner, halt_ms).make()


class _Founding:
    """Everything that is made at once, as each genesis names parts of the others."""

    def __init__(
        self,
        directory: Path,
        plan: StreetPlan,
        containers: bool,
        owner: int | None,
        halt_ms: int | None,
    ) -> None:
        self._directory = directory
        self._plan = plan
        self._containers = containers
        self._owner = owner
        self._groups = regions_of(plan)
        self._neutral = neutral_names(plan)
        self._keys = {
            name: SigningKey.generate() for name in (*home_names(plan.homes), *self._neutral)
        }
        self._regulator = SigningKey.generate()
        self._sponsors = {group.number: SigningKey.generate() for group in self._groups}
        self._seats = [group.names[0] for group in self._groups] + self._neutral
        self._slot_ms = plan.slot_minutes * 60_000 // plan.time_lapse
        silent_ms = SILENT_CHECKPOINTS * max(self._slot_ms, self._checkpoint_ms)
        self._halt_ms = halt_ms or max(HALT_MS_MIN, silent_ms)

    def make(self) -> Street:
        plan, directory = self._plan, self._directory
        neighbourhood = neighbourhood_of(plan)
        homes = dict(zip(home_names(plan.homes), neighbourhood.homes, strict=True))
        main = self._main_genesis()
        main.check()
        dialled = self._main_addresses()
        directory.mkdir(parents=True, exist_ok=True)
        entrances = []
        for group in self._groups:
            keys = [self._keys[name] for name in group.names]
            entries = tuple(entry_of(name, self._keys[name], homes[name]) for name in group.names)
            genesis = self._region_genesis(group, entries, main)
            genesis.check()
            addresses = addresses_of(group.names, keys, self._containers)
            entrances.append(JoiningAddress(addresses[0][1], genesis.hash))
            for place, name in enumerate(group.names):
                network = self._network(
                    addresses[place], bootstrap_of(place, plan.authorities, addresses)
                )
                section = self._main_section(name, dialled) if name in dialled else None
                config = Config(
                    node=NodeSection(name=name), network=network, main=section, home=homes[name]
                )
                self._write(name, config, genesis, main if section is not None else None)
        for name in self._neutral:
            others = tuple(dialled[seat][1] for seat in self._seats if seat != name)
            config = Config(
                node=NodeSection(name=name), network=self._network(dialled[name], others)
            )
            self._write(name, config, main, None)
        write_secret(directory / REGULATOR_NAME, self._regulator)
        for number, key in self._sponsors.items():
            write_secret(directory / sponsor_file(number), key)
        write_joining(directory, entrances)
        names = home_names(plan.homes)
        write_description(directory, plan, names)
        if self._owner is not None:
            give_files(directory, self._owner)
        return Street(directory, plan, names, neighbourhood.notes)

    def _main_genesis(self) -> Genesis:
        interval_ms = main_interval_ms(self._plan)
        sponsors = tuple((key.address, SPONSOR_MICRO) for key in self._sponsors.values())
        rules = MainRules(
            bond_micro=BOND_MICRO,
            hold_ms=HOLD_MS,
            halt_ms=self._halt_ms,
            sponsors=sponsors,
            # Until half of the slot is delivered: from its gate on an offer has to be decided,
            # anchored and shown; what comes of it has to be known while it can be delivered.
            exchange=ExchangeRules(close_ms=self._plan.slot_minutes * 30_000),
        )
        market = market_of(
            self._plan,
            chain_id=f"main-{self._keys[self._seats[0]].address[2:10]}",
            regulator=self._regulator.address,
            homes=(),
            main=rules,
        )
        publics = tuple(self._keys[name].public for name in self._seats)
        chain = ChainParams(block_interval_ms=interval_ms)
        return Genesis(GENESIS_VERSION, publics, chain, market, machine=machine())

    @property
    def _checkpoint_ms(self) -> int:
        return _within(2 * self._slot_ms, CHECKPOINT_MS)

    def _region_genesis(self, group: Neighbours, entries: Any, main: Genesis) -> Genesis:
        seated = tuple(self._keys[name].public for name in group.names[: self._plan.authorities])
        market = market_of(
            self._plan,
            chain_id=f"region-{group.number}-{self._keys[group.names[0]].address[2:10]}",
            regulator=self._regulator.address,
            homes=entries,
            region=Membership(
                group.number,
                main.chain_id,
                main.authorities,
                self._checkpoint_ms,
                ExportRules(),
            ),
        )
        return Genesis(GENESIS_VERSION, seated, ChainParams(), market, machine=machine())

    def _main_addresses(self) -> dict[str, tuple[str, str]]:
        """Return (listen, dial) on the main chain of all who keep it."""
        seats = self._plan.authorities
        names = [name for group in self._groups for name in group.names[:seats]] + self._neutral
        keys = [self._keys[name] for name in names]
        found = dict(
            zip(
                names, addresses_of(names, keys, self._containers, MAIN_CONTAINER_PORT), strict=True
            )
        )
        if self._containers:
            # Who keeps the main chain only listens at the usual port.
            own = [self._keys[name] for name in self._neutral]
            found |= zip(self._neutral, addresses_of(self._neutral, own, True), strict=True)
        return found

    def _main_section(self, name: str, dialled: dict[str, tuple[str, str]]) -> MainSection:
        listen, dial = dialled[name]
        return MainSection(
            genesis=MAIN_GENESIS_NAME,
            listen=listen,
            announce=announced(dial) if self._containers else (),
            bootstrap=tuple(dialled[seat][1] for seat in self._seats if seat != name),
        )

    def _network(self, address: tuple[str, str], bootstrap: tuple[str, ...]) -> NetworkSection:
        listen, dial = address
        announce = announced(dial) if self._containers else ()
        return NetworkSection(listen=listen, announce=announce, bootstrap=bootstrap)

    def _write(self, name: str, config: Config, genesis: Genesis, main: Genesis | None) -> None:
        home = self._directory / name
        create_home(home, settings_text(config), self._keys[name], main is not None)
        write_genesis(genesis, home / GENESIS_NAME)
        if main is not None:
            write_genesis(main, home / MAIN_GENESIS_NAME)
        if self._owner is not None:
            give(home, self._owner)


def main_interval_ms(plan: StreetPlan) -> int:
    """Return how far apart the main chain's blocks are. [ms of real time]"""
    slot_ms = plan.slot_minutes * 60_000 // plan.time_lapse
    return _within(slot_ms // MAIN_BLOCKS_PER_SLOT, MAIN_INTERVAL_MS)


def sponsor_file(number: int) -> str:
    """Return the name of the file with a sponsor's key."""
    return f"sponsor-{number}.key"


def _within(value: int, bounds: tuple[int, int]) -> int:
    return min(max(value, bounds[0]), bounds[1])


# -- letting the regions in -----------------------------------------------------------------------


async def admit(street: Street, data: Path | None = None) -> None:
    """Have all regions registered by their sponsors and let in; returns when they are.

    `data` is the data directory of the node to ask; that of a neutral authority if None. Whatever
    has been done before stays as it is; what a stop has cut short is taken up again.
    """
    data = data or main_data(street)
    while True:
        try:
            if not await _admit_some(street, data):
                return
        except ControlError:
            # Nodes that start, or a transaction that another block has overtaken.
            pass
        await asyncio.sleep(ADMIT_POLL_S)


async def _admit_some(street: Street, data: Path) -> bool:
    """Hand in what is missing; return whether anything is."""
    asked = {"first": 1, "count": 100}
    rows = await ask(data, "query", contract="regions", entry="regions", args=asked)
    known = {row["number"]: row["status"] for row in rows}
    missing = False
    for group in regions_of(street.plan):
        status = known.get(group.number)
        if status is None:
            missing = True
            await _submit(data, _sponsor(street, group.number), _registration(street, group))
        elif status == "proposed":
            missing = True
            for key in _approvers(street):
                await _submit(data, key, regions.approve(group.number))
    return missing


def _registration(street: Street, group: Neighbours) -> Call:
    genesis = read_genesis(street.home(group.names[0]) / GENESIS_NAME)
    seated = group.names[: street.plan.authorities]
    keys = [read_key(street.home(name) / KEY_NAME) for name in seated]
    proofs = {key.public: prove_possession(genesis, key) for key in keys}
    return registration(genesis, f"Region {group.number}", proofs, ESCROW_MICRO)


def _approvers(street: Street) -> list[SigningKey]:
    """Return the keys of a quorum of the main chain's authorities."""
    names = [group.names[0] for group in regions_of(street.plan)] + neutral_names(street.plan)
    quorum = (len(names) + (len(names) - 1) // 3 + 2) // 2
    return [read_key(street.home(name) / KEY_NAME) for name in names[-quorum:]]


def _sponsor(street: Street, number: int) -> SigningKey:
    return read_key(street.directory / sponsor_file(number))


async def _submit(data: Path, key: SigningKey, call: Call) -> None:
    status = await ask(data, "status")
    now_ms = time.time_ns() // 1_000_000
    signed = sign_call(call, key, status["chain_id"], now_ms, now_ms + VALID_MS)
    await ask(data, "submit", transaction=signed.raw.hex())


def main_directory(street: Street, name: str) -> Path:
    """Return the main chain's data directory of a region's authority."""
    return street.home(name) / DATA_NAME / MAIN_NAME
