"""A home of one's own: make it, run it, ask how it does."""

import asyncio
import os
import socket
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from node.cli.options import (
    CONFIG,
    ConfigOption,
    JsonOption,
    PassphraseOption,
    data_of,
    print_json,
    settings,
)

if TYPE_CHECKING:
    from node.membership.arrival import Arrival

UNSPECIFIED: Final = "/ip4/0.0.0.0/"
HOUSEHOLDS: Final = 10_000
ZONE: Final = "Australia/Sydney"
SOURCES_SAID: Final = """\
where its measurements come from; its own meters can take their place later (docs/mqtt.md)
  synthetic  a household that is made up
  community  one of those that are built in
  drawn      a built-in one, with or without PV and battery as it comes
  none       this node is no home, and only follows the chain"""
JOIN_FILE_CHARS_MAX: Final = 65_536


class SourceKind(StrEnum):
    """Where the home's measurements come from."""

    SYNTHETIC = "synthetic"
    COMMUNITY = "community"
    DRAWN = "drawn"
    NONE = "none"


def init(
    directory: Annotated[Path, typer.Argument(help="Where the home's files shall be.")],
    name: Annotated[str | None, typer.Option(help="How the home is called.")] = None,
    join: Annotated[
        str | None,
        typer.Option(
            help="Joining address of a community, as a neighbour's `status` prints it; or @FILE: "
            "a line of it, drawn."
        ),
    ] = None,
    genesis: Annotated[
        Path | None, typer.Option(help="The community's genesis file; it is copied.")
    ] = None,
    listen: Annotated[
        str, typer.Option(help="Multiaddress to listen on.")
    ] = "/ip4/0.0.0.0/tcp/4600",
    announce: Annotated[
        list[str] | None, typer.Option(help="Multiaddress to tell others instead. Repeatable.")
    ] = None,
    bootstrap: Annotated[
        list[str] | None, typer.Option(help="Multiaddress of a neighbour, with /p2p/. Repeatable.")
    ] = None,
    source: Annotated[
        SourceKind | None,
        typer.Option(
            help="Measurements: a synthetic household, a built-in one, one drawn with or without "
            "PV and battery as a testnet's are; none: no home."
        ),
    ] = None,
    pv_w: Annotated[int | None, typer.Option(min=0, help="Peak of the PV. [W]")] = None,
    battery_wh: Annotated[int | None, typer.Option(min=0, help="The battery. [Wh]")] = None,
    zone: Annotated[
        str | None, typer.Option(help=f"The home's time zone. [default: {ZONE}]")
    ] = None,
    announce_host: Annotated[
        bool, typer.Option("--announce-host", help="Tell others this machine's host name.")
    ] = False,
    patience: Annotated[
        float, typer.Option(min=0, help="How long a neighbour may be away. [s]")
    ] = 0.0,
    passphrase_file: PassphraseOption = None,
    invite: Annotated[
        Path | None,
        typer.Option(help="An invitation into a closed community, from its regulator."),
    ] = None,
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="Leave a home that is there as it is.")
    ] = False,
) -> None:
    """Make the files of a new home: its key, its settings, its empty log.

    With --passphrase-file the key is encrypted, and the settings say where its passphrase is.
    With --invite, an invitation's file, it is let into a closed community.
    With --join the genesis is fetched from a neighbour, and on a terminal what is not given is
    asked for. The home asks to be registered as soon as it runs.
    """
    from node.config import Config, NetworkSection, NodeSection, check_values, settings_text
    from node.genesis import read_genesis, write_genesis
    from node.keys.passphrase import new_passphrase
    from node.setup import CONFIG_NAME, GENESIS_NAME, PSK_NAME, check_new, create_home

    if if_missing and (directory / CONFIG_NAME).exists():
        typer.echo(f"{directory}: there is a home already")
        return
    check_new(directory)
    neighbours = list(bootstrap or ())
    found, arrival, psk = None, None, None
    if invite is not None or join is not None:
        if invite is not None:
            arrival, psk, addresses = _invited(invite)
            typer.echo("asking for the genesis, with the invitation ...")
            found = asyncio.run(arrival.genesis())
            neighbours += addresses
        else:
            from node.membership.joining import read_joining_address
            from node.proofs.light import fetch_patiently

            where = read_joining_address(_drawn(join or ""))
            typer.echo(f"asking {where.address} for the genesis ...")
            found = asyncio.run(fetch_patiently(where, patience))
            neighbours.append(where.address)
        typer.echo(f"  {found.chain_id}: {len(found.authorities)} authorities decide its blocks")
        if sys.stdin.isatty():
            name = name or typer.prompt("name of this home", default="home")
            if source is None:
                typer.echo(SOURCES_SAID)
                source = typer.prompt("measurements", SourceKind.SYNTHETIC, type=SourceKind)
            if source is not SourceKind.NONE:
                zone = zone or typer.prompt("time zone of this home", default=ZONE)
                if pv_w is None:
                    pv_w = typer.prompt("peak of the PV [W], 0 if there is none", default=0)
                if battery_wh is None:
                    battery_wh = typer.prompt("battery [Wh], 0 if there is none", default=0)
    elif genesis is not None:
        found = read_genesis(genesis)
    home = _home_of(source or SourceKind.NONE, pv_w or 0, battery_wh or 0, zone or ZONE)
    told = list(announce or ())
    if announce_host:
        told.append(f"/dns4/{socket.gethostname()}/tcp/{listen.rpartition('/tcp/')[2]}")
    network = NetworkSection(
        listen=listen,
        announce=tuple(told),
        bootstrap=tuple(neighbours),
        closed=arrival is not None,
        psk_file="" if psk is None else PSK_NAME,
    )
    passphrase, kept = None, ""
    if passphrase_file is not None:
        passphrase, kept = new_passphrase(passphrase_file), str(passphrase_file.absolute())
    node = NodeSection(name=name or "home", passphrase_file=kept)
    config = Config(node=node, network=network, home=home)
    check_values(config, "init")
    key = create_home(directory, settings_text(config), passphrase=passphrase, psk=psk)
    if found is not None:
        write_genesis(found, directory / GENESIS_NAME)
    typer.echo(f"{directory}: a new home")
    typer.echo(f"  account  {key.address}")
    typer.echo(f"  meter    {key.derive('meter').address}")
    typer.echo(f"  peer id  {key.peer_id}")
    if arrival is not None:
        _come_in(arrival, key, invite, directory / CONFIG_NAME)
    typer.echo(
        f"Start it: commonwatt run --config {directory / CONFIG_NAME}. "
        + (
            "It asks to be registered, and trades once the regulator has done so."
            if home is not None
            else "It follows the chain; a home with [home] in its settings asks to be registered."
        )
    )


def _invited(file: Path) -> "tuple[Arrival, bytes | None, tuple[str, ...]]":
    """Return the way in by an invitation, the network's key, and who is there."""
    import time

    from node.membership.arrival import Arrival
    from node.membership.invitations import read_invitation

    invitation = read_invitation(file)
    arrival = Arrival(invitation, lambda: time.time_ns() // 1_000_000)
    return arrival, invitation.network_key, invitation.addresses


def _come_in(arrival: "Arrival", key: Any, invite: Path | None, config: Path) -> None:
    from node.errors import PeerError

    typer.echo("  using the invitation ...")
    try:
        asyncio.run(arrival.accept(key))
    except PeerError as error:
        again = f"commonwatt invite accept {invite} --config {config}"
        raise PeerError(f"{error}. The home is made, but not let in; again: {again}") from None
    typer.echo("  this home is let in; the invitation is used up")


def _drawn(join: str) -> str:
    """Return a joining address, drawn from a file if that is given."""
    import secrets

    from node.errors import ConfigError

    if not join.startswith("@"):
        return join
    try:
        with open(join[1:]) as file:
            lines = file.read(JOIN_FILE_CHARS_MAX).split()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{join[1:]}: no joining addresses can be read ({error})") from None
    if not lines:
        raise ConfigError(f"{join[1:]}: no joining address is in it")
    return secrets.choice(lines)


def _home_of(source: SourceKind, pv_w: int, battery_wh: int, zone: str) -> Any:
    """Return the settings of a home that is simulated, or None for one that only replicates."""
    import secrets

    from hems.config import CommunityHome, HomeConfig, SyntheticHome
    from hems.devices import Battery
    from hems.errors import HemsError
    from hems.neighbourhood import PV_SHARE_DEFAULT
    from hems.sources.community import PV_PEAK_W_DEFAULT
    from node.errors import ConfigError

    if source is SourceKind.NONE:
        if pv_w or battery_wh:
            raise ConfigError("PV and battery are of a home: choose its --source")
        return None
    # Newcomers that nobody told apart are not to be one household many times.
    number = secrets.randbelow(HOUSEHOLDS)
    if source is SourceKind.DRAWN and secrets.randbelow(100) < 100 * PV_SHARE_DEFAULT:
        pv_w, battery_wh = pv_w or PV_PEAK_W_DEFAULT, battery_wh or Battery().capacity_wh
    kind = SyntheticHome if source is SourceKind.SYNTHETIC else CommunityHome
    try:
        return HomeConfig(
            source=kind(home=number, pv_peak_w=pv_w),
            zone=zone,
            battery=Battery(capacity_wh=battery_wh) if battery_wh else None,
        )
    except HemsError as error:
        raise ConfigError(str(error)) from None


def run(config: ConfigOption) -> None:
    """Run one home's daemon until it is stopped."""
    from node.host import check_memory
    from node.launch import command, environment

    # The daemon's libraries are most of what it takes: it would be killed before it could say so.
    check_memory()
    line = command(config)
    # Our own interpreter and module.
    os.execve(line[0], line, environment())  # noqa: S606  # nosec B606


def backup(
    file: Annotated[Path, typer.Argument(help="The backup to write, such as home.tar.gz.")],
    config: ConfigOption = CONFIG,
) -> None:
    """Write what makes this home this home into one file. It holds the key: keep it safe."""
    from node.backup import back_up

    parts = back_up(config, file)
    typer.echo(f"{file}: {', '.join(parts)}")
    typer.echo("It holds the home's key. The chain is not in it; neighbours have that.")


def restore(
    file: Annotated[Path, typer.Argument(help="The backup.")],
    directory: Annotated[Path, typer.Argument(help="Where the home's files shall be.")],
) -> None:
    """Make a home again from its backup."""
    from node.backup import restore as restore_home

    address = restore_home(file, directory)
    typer.echo(f"{directory}: {address} is back")
    typer.echo("Never run it while the home it was made from runs: one key, one node.")


def status(
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the exit code.")] = False,
) -> None:
    """Say how a running home is doing."""
    from node.api.control import ask

    answer = asyncio.run(ask(data_of(config, None), "status"))
    if as_json:
        print_json(answer)
    elif not quiet:
        _print_status(answer, settings(config).home is not None)


def _print_status(answer: dict[str, Any], has_home: bool) -> None:
    seat = answer["authority"]
    part = "follower" if seat is None else f"authority {seat}"
    typer.echo(f"{answer['name']}  {answer['address']}  ({part}, version {answer['version']})")
    for address in answer["listens"]:
        typer.echo(f"  listens  {address}")
        if UNSPECIFIED in address:
            continue
        # Whoever has this line can ask to join.
        typer.echo(f"  join     {address}#{answer['genesis_hash']}")
    typer.echo(
        f"  chain    height {answer['height']}, {answer['behind']} behind, "
        f"{len(answer['peers'])} peers, {answer['mempool']} waiting"
    )
    if answer.get("catching_up") is not None:
        from node.chain.catching_up import Progress

        typer.echo(f"  catching up: {Progress(**answer['catching_up']).words()}")
    finality = answer["finality_ms"]
    if finality["count"]:
        typer.echo(f"  finality p50 {finality['p50']:.0f} ms, p95 {finality['p95']:.0f} ms")
    home = answer["home"]
    if home is not None:
        typer.echo(
            f"  home     balance {home['balance_micro'] / 1e6:.2f}, bought {home['bought_wh']} Wh, "
            f"sold {home['sold_wh']} Wh, saved {home['saved_micro'] / 1e6:.2f}"
        )
        for one in home["sensors"]:
            from hems.sensors import REASONS

            why = REASONS.get(one["kind"], one["outcome"])
            typer.echo(f"  sensors  {one['channel']}: {one['readings']} × {why}")
    elif has_home:
        typer.echo(
            "  home     not registered yet: it asks its neighbours every half minute, and trades "
            "once the regulator has let it in (`commonwatt community admit`)"
        )
    typer.echo(f"  process  {answer['rss_mib']} MiB, {answer['cpu_s']} CPU s")
