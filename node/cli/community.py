"""Who belongs to the community: newcomers' applications, and the regulator's answer."""

import asyncio
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from node.cli.gov import print_done
from node.cli.options import (
    CONFIG,
    ConfigOption,
    JsonOption,
    PassphraseOption,
    micro_of,
    money,
    print_json,
    settings,
)

community_app = typer.Typer(
    help="Who belongs to the community: see who asks to join, and take them in.",
    no_args_is_help=True,
)
WATCH_EVERY_S: Final = 2.0


@community_app.command("applications")
def community_applications(config: ConfigOption = CONFIG, as_json: JsonOption = False) -> None:
    """Show who asks at this node to be registered."""
    from node.api.registrar import applications
    from node.cli.tables import clean

    found = asyncio.run(applications(settings(config)))
    if as_json:
        print_json(found)
        return
    if not found:
        typer.echo("nobody asks to be registered at this node")
    for one in found:
        typer.echo(
            f"{one['address']}  {clean(one['name'])}: {one['role']}, "
            f"takes {one['import_cap_w']} W, gives {one['export_cap_w']} W, "
            f"PV {one['pv_w']} W, battery {one['battery_wh']} Wh"
        )


@community_app.command("admit")
def community_admit(
    key: Annotated[Path, typer.Option(help="The regulator's key file.")],
    addresses: Annotated[
        list[str] | None, typer.Argument(help="Accounts that `applications` shows.")
    ] = None,
    everybody: Annotated[bool, typer.Option("--all", help="All who ask.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on with who asks later, until stopped.")
    ] = False,
    balance: Annotated[
        float, typer.Option(help="Money each begins with, in the currency's unit.")
    ] = 200.0,
    passphrase_file: PassphraseOption = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Register homes that ask at this node; signed by the regulator."""
    from node.errors import ConfigError
    from node.setup import read_key

    if bool(addresses) == everybody:
        raise ConfigError("say which accounts, or --all")
    work = _admit(
        settings(config),
        read_key(key, passphrase_file),
        addresses or [],
        micro_of(balance, "--balance"),
        watch,
        as_json,
    )
    try:
        asyncio.run(work)
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)


@community_app.command("leave")
def community_leave(config: ConfigOption = CONFIG, as_json: JsonOption = False) -> None:
    """Take this home out of its region, once what it has traded is delivered.

    Its orders go back at once. Its account stays: `pay-out` brings out what is in it.
    """
    from market.client import leave
    from node.api.governor import decide

    done = asyncio.run(decide(settings(config), leave()))
    _print_left(done, as_json)


@community_app.command("remove")
def community_remove(
    address: Annotated[str, typer.Argument(help="The home's account.")],
    key: Annotated[Path, typer.Option(help="The regulator's key file.")],
    passphrase_file: PassphraseOption = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Take out a home that does not say so itself; signed by the regulator."""
    from market.client import remove_home
    from node.api.governor import decide
    from node.setup import read_key

    signer = read_key(key, passphrase_file)
    done = asyncio.run(decide(settings(config), remove_home(address), key=signer))
    _print_left(done, as_json)


@community_app.command("pay-out")
def community_pay_out(
    amount: Annotated[
        float | None, typer.Argument(help="In the currency's unit. [default: all there is]")
    ] = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Send money of this home's account to the regulator, who pays it outside and redeems it."""
    from node.api.registrar import pay_out

    amount_micro = None if amount is None else micro_of(amount, "AMOUNT")
    done = asyncio.run(pay_out(settings(config), amount_micro))
    sent_micro = next(data["amount_micro"] for _, name, data in done["events"])
    print_done(done, as_json, f"{money(sent_micro)} are the regulator's to pay out")


@community_app.command("alarms")
def community_alarms(
    head: Annotated[
        Path, typer.Option(help="The head meter's CSV: slot,import_wh,export_wh, a row per slot.")
    ],
    trusted_days: Annotated[
        int, typer.Option(help="Days at the beginning that the lines' losses are learned from.")
    ] = 14,
    window_days: Annotated[int, typer.Option(help="Days that are judged together.")] = 7,
    tolerance: Annotated[
        float, typer.Option(help="Share of the head's energy that meters' errors may come to.")
    ] = 0.01,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Hold the feeder's head meter against all homes' readings; name who may tell too little.

    Reads this node's database, whether it runs or not. Exit code 1 if there is an alarm.
    """
    from node.feeder.alarms import feeder_alarms, read_head
    from node.feeder.meters import FeederSettings
    from node.genesis import read_genesis
    from node.offline import readings
    from node.setup import DATABASE_NAME

    limits = FeederSettings(trusted_days=trusted_days, window_days=window_days, tolerance=tolerance)
    own = settings(config)
    genesis = read_genesis(own.path(own.node.genesis))
    told = readings(own.path(own.node.data) / DATABASE_NAME, genesis)
    found = feeder_alarms(told, read_head(head), genesis.market.slot_ms, limits)
    if as_json:
        print_json(found)
    elif not found:
        typer.echo("all that flowed is told, but for what lines lose and meters err")
    for alarm in [] if as_json else found:
        typer.echo(
            f"slots {alarm['first_slot']} to {alarm['last_slot']}: {alarm['missing_wh']} of "
            f"{alarm['head_wh']} Wh are missing, {alarm['moved_wh']} Wh told at another time or not"
        )
        for suspect in alarm["suspects"]:
            typer.echo(
                f"  home {suspect['home']}: {suspect['way']} would explain "
                f"{suspect['explained_percent']} % of it"
            )
    raise typer.Exit(1 if found else 0)


def _print_left(done: dict[str, Any], as_json: bool) -> None:
    left = next(data for _, name, data in done["events"] if name == "home_left")
    until = left["until_slot"]
    print_done(done, as_json, f"home {left['home']} leaves; slot {until} is the first without it")


async def _admit(
    config: Any, key: Any, addresses: list[str], balance_micro: int, watch: bool, as_json: bool
) -> None:
    from node.api.registrar import admit_all, applications
    from node.errors import ControlError

    done: list[dict[str, Any]] = []
    wanted = set(addresses)
    while True:
        try:
            asking = await applications(config)
            if not asking and not addresses and not watch and not as_json:
                typer.echo("nobody asks to be registered at this node")
            unknown = wanted - {one["address"] for one in asking}
            if unknown and not watch:
                raise ControlError(f"{min(unknown)} does not ask at this node to be registered")
            # One without first money goes on being shown for a while.
            before = {one["address"] for one in done}
            some = [
                one
                for one in asking
                if one["address"] not in before and (not addresses or one["address"] in wanted)
            ]
            taken, turned = await admit_all(config, some, key, balance_micro)
            for admitted in taken:
                wanted.discard(admitted.address)
                done.append(admitted._asdict())
                if not as_json or watch:
                    typer.echo(
                        f"block {admitted.height}: {admitted.name} ({admitted.address}) is a home, "
                        f"with {money(admitted.balance_micro)}"
                    )
            if turned:
                raise turned[0].error
        except ControlError as error:
            # A watch outlives the node's restarts.
            if not watch:
                raise
            typer.echo(f"commonwatt: {error}", err=True)
        if not watch or (addresses and not wanted):
            break
        await asyncio.sleep(WATCH_EVERY_S)
    if as_json and not watch:
        print_json(done)
