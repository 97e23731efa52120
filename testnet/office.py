"""The operator's own nodes, for a grid whose homes are on other hosts.

On one host the operator asks the authorities' nodes by their control sockets
(`testnet/operate.py`). Over several hosts it keeps an office: a node per region that follows the
chain and takes in newcomers' applications, and one of the main chain. They have no seat and no
home; their keys are made from the regulator's, so that newcomers can be told beforehand where to
knock.

<work>/
    office-1/ ...    a node's directory for each region
    office-main/     that of the main chain
"""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

from node.config import Config, NetworkSection, NodeSection, load_config, settings_text
from node.genesis import Genesis, read_genesis, write_genesis
from node.membership.joining import JoiningAddress
from node.setup import CONFIG_NAME, GENESIS_NAME, KEY_NAME, create_home, read_key
from testnet.operate import Desk, operate
from testnet.processes import GridError, HomeProcess, start_all, stop_all
from testnet.regions import neutral_names, regions_of, sponsor_file
from testnet.street import (
    CONTAINER_PORT,
    REGULATOR_NAME,
    STREET_NAME,
    Street,
    StreetError,
    addresses_of,
)
from wire.keys import SigningKey

OPERATOR: Final = "operator"
MAIN_OFFICE: Final = "office-main"
WATCH_EVERY_S: Final = 2.0


class _Office(NamedTuple):
    """One node of the operator's: its name, the authorities it follows, the genesis, its port."""

    name: str
    authorities: list[str]
    genesis: Path
    port: int


def _offices(street: Street) -> list[_Office]:
    plan = street.plan
    found = [
        _Office(
            f"office-{group.number}",
            group.names[: plan.authorities],
            street.home(group.names[0]) / GENESIS_NAME,
            CONTAINER_PORT + group.number,
        )
        for group in regions_of(plan)
    ]
    if neutral := neutral_names(plan):
        genesis = street.home(neutral[0]) / GENESIS_NAME
        found.append(_Office(MAIN_OFFICE, neutral, genesis, CONTAINER_PORT))
    return found


def operator_files(street: Street) -> list[str]:
    """Return what of a street's directory the operator needs, relative to it."""
    groups, neutral = regions_of(street.plan), neutral_names(street.plan)
    seated = [name for group in groups for name in group.names[: street.plan.authorities]]
    files = [STREET_NAME, REGULATOR_NAME]
    if neutral:
        files += [sponsor_file(group.number) for group in groups]
    files += [f"{name}/{KEY_NAME}" for name in (*seated, *neutral)]
    firsts = [group.names[0] for group in groups] + neutral[:1]
    return files + [f"{name}/{GENESIS_NAME}" for name in firsts]


def check_hosts(street: Street) -> None:
    """Raise `StreetError` unless the homes were made for hosts of their own names."""
    for group in regions_of(street.plan):
        settings = load_config(street.home(group.names[0]) / CONFIG_NAME, {})
        if not any(address.startswith("/dns4/") for address in settings.network.announce):
            raise StreetError(
                f"{street.directory}: its homes are for loopback ports of one machine; "
                "testnet create --containers makes them for hosts of their own names"
            )


def entrances(street: Street) -> list[JoiningAddress]:
    """Return where newcomers of each region come in: at the operator's office."""
    regulator = read_key(street.directory / REGULATOR_NAME)
    found = []
    for office in _offices(street):
        if office.name == MAIN_OFFICE:
            continue
        address = f"{_address(office)}/p2p/{_key(regulator, office).peer_id}"
        found.append(JoiningAddress(address, read_genesis(office.genesis).hash))
    return found


def _address(office: _Office) -> str:
    return f"/dns4/{OPERATOR}/tcp/{office.port}"


def _key(regulator: SigningKey, office: _Office) -> SigningKey:
    return regulator.derive(office.name)


def set_up(street: Street, work: Path) -> list[Path]:
    """Make the directories of the operator's nodes that are not there yet; return all of them.

    Raises
    ------
    StreetError, StartError
        The street is not for several hosts, or a file cannot be read or written.
    """
    regulator = read_key(street.directory / REGULATOR_NAME)
    made = []
    for office in _offices(street):
        directory = work / office.name
        made.append(directory)
        genesis = read_genesis(office.genesis)
        if (directory / GENESIS_NAME).exists():
            _check_same(directory, genesis)
            continue
        if directory.exists():
            # Interrupted in its making; nothing in it is worth keeping.
            shutil.rmtree(directory)
        keys = [read_key(street.home(name) / KEY_NAME) for name in office.authorities]
        network = NetworkSection(
            listen=f"/ip4/0.0.0.0/tcp/{office.port}",
            announce=(_address(office),),
            bootstrap=tuple(dial for _, dial in addresses_of(office.authorities, keys, True)),
        )
        config = Config(node=NodeSection(name=office.name), network=network)
        create_home(directory, settings_text(config), _key(regulator, office))
        # Last of all: it says that the directory is whole.
        write_genesis(genesis, directory / GENESIS_NAME)
    return made


def _check_same(directory: Path, genesis: Genesis) -> None:
    if read_genesis(directory / GENESIS_NAME).hash != genesis.hash:
        raise StreetError(
            f"{directory} follows another chain than {genesis.chain_id}; remove it, or its volume"
        )


async def operate_from_office(street: Street, work: Path, tell: Callable[[str], None]) -> None:
    """Run the operator's nodes, and let regions and homes in by them, until cancelled.

    Raises
    ------
    GridError
        One of the nodes does not stay up; the message says why.
    """
    directories = set_up(street, work)
    nodes = [HomeProcess(directory.name, directory) for directory in directories]
    main = work / MAIN_OFFICE if street.plan.regions > 1 else None
    desk = Desk(main, [one for one in directories if one.name != MAIN_OFFICE])
    await start_all(nodes)
    try:
        async with asyncio.TaskGroup() as works:
            works.create_task(_watch(nodes))
            works.create_task(operate(street, tell, desk))
    except* GridError as group:
        raise group.exceptions[0] from None
    finally:
        await stop_all(nodes)


async def _watch(nodes: list[HomeProcess]) -> NoReturn:
    while True:
        for node in nodes:
            if node.failure is not None:
                raise GridError(node.failure)
        await asyncio.sleep(WATCH_EVERY_S)
