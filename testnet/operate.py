"""Whoever runs a testnet in containers: lets its regions in, and every home that asks.

In a real community people decide this: the main chain's authorities approve a region, the regulator
takes in a home (`commonwatt community admit`). A testnet has all their keys.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from node.api.registrar import admit_all, applications
from node.config import load_config
from node.errors import ControlError
from node.setup import CONFIG_NAME, DATA_NAME, read_key
from testnet.regions import admit, neutral_names, regions_of
from testnet.street import BALANCE_MICRO, REGULATOR_NAME, Street

WATCH_EVERY_S: Final = 2.0
# Who was turned away is tried again so much later.
TURNED_AGAIN_S: Final = 20.0


class Desk(NamedTuple):
    """By which nodes it is done: home directories of one that keeps the main chain, if there is
    one, and of one per region, in their order."""

    main: Path | None
    regions: list[Path]


def beside(street: Street) -> Desk:
    """Return the nodes on this host: a neutral authority, and each region's first, to whose
    address newcomers come."""
    neutral = neutral_names(street.plan)
    return Desk(
        street.home(neutral[0]) if neutral else None,
        [street.home(group.names[0]) for group in regions_of(street.plan)],
    )


async def operate(street: Street, tell: Callable[[str], None], desk: Desk | None = None) -> None:
    """Let regions and homes in until cancelled; `tell` is told of each.

    Parameters
    ----------
    street : Street
        Whose keys sign.
    tell : callable
    desk : Desk, optional
        Whom to ask; those beside, if None.
    """
    desk = desk or beside(street)
    if desk.main is not None:
        await admit(street, desk.main / DATA_NAME)
        tell(f"all {street.plan.regions} regions are let in")
    await asyncio.gather(*(_admit_homes(street, home, tell) for home in desk.regions))


async def _admit_homes(street: Street, home: Path, tell: Callable[[str], None]) -> None:
    config = load_config(home / CONFIG_NAME, {})
    key = read_key(street.directory / REGULATOR_NAME)
    said = ""
    turned_s: dict[str, float] = {}
    while True:
        turned_s = {
            address: at_s
            for address, at_s in turned_s.items()
            if time.monotonic() - at_s < TURNED_AGAIN_S
        }
        try:
            asking = [one for one in await applications(config) if one["address"] not in turned_s]
            done, turned = await admit_all(config, asking, key, BALANCE_MICRO)
        except ControlError as error:
            # Nodes start and stop, and blocks take their time: it is said once.
            if str(error) != said:
                tell(f"{config.node.name}: {error}")
            said = str(error)
        else:
            said = ""
            for one in done:
                tell(f"{config.node.name}: {one.name} ({one.address}) is a home")
            for other in turned:
                tell(f"{config.node.name}: {other.name} ({other.address}) is not: {other.error}")
                turned_s[other.address] = time.monotonic()
        await asyncio.sleep(WATCH_EVERY_S)
