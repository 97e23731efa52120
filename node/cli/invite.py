"""Invitations into a community: made and taken back by the regulator, shown to their carrier."""

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from node.cli.gov import print_done
from node.cli.options import (
    CONFIG,
    ConfigOption,
    JsonOption,
    PassphraseOption,
    print_json,
    settings,
)

if TYPE_CHECKING:
    from node.membership.invitations import Invitation

invite_app = typer.Typer(
    help="Invitations into a community: one newcomer each, once, for a time.",
    no_args_is_help=True,
)
DAYS_DEFAULT: Final = 7

FileArgument = Annotated[Path, typer.Argument(help="The invitation's file.")]
RegulatorOption = Annotated[Path, typer.Option("--key", help="The regulator's key file.")]


@invite_app.command("create")
def invite_create(
    file: FileArgument,
    key: RegulatorOption,
    days: Annotated[int, typer.Option(min=1, max=90, help="How long it is good.")] = DAYS_DEFAULT,
    address: Annotated[
        list[str] | None,
        typer.Option(
            help="Multiaddress with /p2p/ where the newcomer finds a home. Repeatable. "
            "[default: this node's]"
        ),
    ] = None,
    passphrase_file: PassphraseOption = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Write an invitation, signed by the regulator, and tell the chain of it.

    The file lets in one newcomer, whoever brings it first: hand it over as you would a key.
    """
    from node.api.registrar import invite
    from node.setup import read_key

    regulator = read_key(key, passphrase_file)
    made, height = asyncio.run(invite(settings(config), file, regulator, days, address or []))
    if as_json:
        print_json({**_told(made), "file": str(file), "height": height})
        return
    typer.echo(f"{file}: good until {made.until_text}, for whoever brings it first")
    typer.echo(f"  commonwatt init my-home --invite {file.name}")


@invite_app.command("show")
def invite_show(file: FileArgument, as_json: JsonOption = False) -> None:
    """Say what an invitation is for and until when; none of its secrets."""
    from node.membership.invitations import read_invitation

    told = _told(read_invitation(file))
    if as_json:
        print_json(told)
        return
    for name, value in told.items():
        typer.echo(f"{name:<12} {', '.join(value) if isinstance(value, list) else value}")


@invite_app.command("revoke")
def invite_revoke(
    file: FileArgument,
    key: RegulatorOption,
    passphrase_file: PassphraseOption = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Take an invitation back that nobody has used; signed by the regulator."""
    from market.client import revoke_invite
    from node.api.governor import decide
    from node.membership.invitations import read_invitation
    from node.setup import read_key

    call = revoke_invite(read_invitation(file).door_key.address)
    done = asyncio.run(decide(settings(config), call, key=read_key(key, passphrase_file)))
    print_done(done, as_json, "the invitation lets nobody in any more")


@invite_app.command("accept")
def invite_accept(file: FileArgument, config: ConfigOption = CONFIG) -> None:
    """Use an invitation for a home that `init --invite` has made, if that was interrupted."""
    from node.membership.arrival import Arrival
    from node.membership.invitations import read_invitation
    from node.setup import own_key

    home = own_key(settings(config))
    arrival = Arrival(read_invitation(file), lambda: time.time_ns() // 1_000_000)
    asyncio.run(arrival.accept(home))
    typer.echo(f"{home.address} is let in")


def _told(invitation: "Invitation") -> dict[str, object]:
    from wire.keys import address_of

    return {
        "community": invitation.chain_id,
        "genesis_hash": invitation.genesis_hash,
        "regulator": address_of(bytes.fromhex(invitation.regulator)),
        "invitation": invitation.door_key.address,
        "until": invitation.until_text,
        "addresses": list(invitation.addresses),
        "network_key": "yes" if invitation.psk else "no",
    }
