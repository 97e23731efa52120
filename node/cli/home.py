"""A home of one's own: make it, run it, ask how it does."""

import asyncio
import os
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any

import typer

from node.cli.options import CONFIG, ConfigOption, JsonOption, data_of, print_json


def init(
    directory: Annotated[Path, typer.Argument(help="Where the home's files shall be.")],
    name: Annotated[str, typer.Option(help="How the home is called.")] = "home",
    genesis: Annotated[
        Path | None, typer.Option(help="The community's genesis file; it is copied.")
    ] = None,
    listen: Annotated[
        str, typer.Option(help="Multiaddress to listen on.")
    ] = "/ip4/0.0.0.0/tcp/4600",
    bootstrap: Annotated[
        list[str] | None, typer.Option(help="Multiaddress of a neighbour, with /p2p/. Repeatable.")
    ] = None,
) -> None:
    """Make the files of a new home: its key, its settings, its empty log."""
    from node.config import Config, NetworkSection, NodeSection, check_values, settings_text
    from node.genesis import read_genesis
    from node.setup import GENESIS_NAME, create_home

    network = NetworkSection(listen=listen, bootstrap=tuple(bootstrap or ()))
    config = Config(node=NodeSection(name=name), network=network)
    check_values(config, "init")
    if genesis is not None:
        read_genesis(genesis)
    key = create_home(directory, settings_text(config))
    if genesis is not None:
        (directory / GENESIS_NAME).write_bytes(genesis.read_bytes())
    typer.echo(f"{directory}: a new home")
    typer.echo(f"  account  {key.address}")
    typer.echo(f"  meter    {key.derive('meter').address}")
    typer.echo(f"  peer id  {key.peer_id}")
    typer.echo("The community's regulator registers the account with its meter.")


def run(config: ConfigOption) -> None:
    """Run one home's daemon until it is stopped."""
    from node.launch import command, environment

    line = command(config)
    os.execve(line[0], line, environment())  # noqa: S606 - our own interpreter and module


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
        _print_status(answer)


def _print_status(answer: dict[str, Any]) -> None:
    seat = answer["authority"]
    part = "follower" if seat is None else f"authority {seat}"
    typer.echo(f"{answer['name']}  {answer['address']}  ({part})")
    for address in answer["listens"]:
        typer.echo(f"  listens  {address}")
    typer.echo(
        f"  chain    height {answer['height']}, {answer['behind']} behind, "
        f"{len(answer['peers'])} peers, {answer['mempool']} waiting"
    )
    finality = answer["finality_ms"]
    if finality["count"]:
        typer.echo(f"  finality p50 {finality['p50']:.0f} ms, p95 {finality['p95']:.0f} ms")
    home = answer["home"]
    if home is not None:
        typer.echo(
            f"  home     balance {home['balance_micro'] / 1e6:.2f}, bought {home['bought_wh']} Wh, "
            f"sold {home['sold_wh']} Wh, saved {home['saved_micro'] / 1e6:.2f}"
        )
        for channel, found in groupby(home["sensors"], key=itemgetter("channel")):
            kinds = (f"{one['readings']} {one['kind']} ({one['outcome']})" for one in found)
            typer.echo(f"  sensors  {channel}: {', '.join(kinds)}")
    typer.echo(f"  process  {answer['rss_mib']} MiB, {answer['cpu_s']} CPU s")
