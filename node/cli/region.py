"""Regions and their main chain: who there is, how they stand, proof that a record is anchored."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from node.cli.options import (
    CONFIG,
    EXIT_FAILED,
    ConfigOption,
    JsonOption,
    NodeOption,
    data_of,
    money,
    print_json,
    settings,
)

region_app = typer.Typer(
    help="Regions and their main chain: who there is, and what of them is anchored.",
    no_args_is_help=True,
)


@region_app.command("list")
def region_list(
    config: ConfigOption = CONFIG, node: NodeOption = None, as_json: JsonOption = False
) -> None:
    """List the regions, as the main chain has them."""
    from node.api.control import ask

    rows = asyncio.run(ask(data_of(config, node), "regions"))
    if as_json:
        print_json(rows)
        return
    if not rows:
        typer.echo("no region is registered yet")
    for row in rows:
        typer.echo(_line(row))


@region_app.command("show")
def region_show(
    number: Annotated[
        int | None, typer.Argument(help="The region's number. [default: this home's]")
    ] = None,
    config: ConfigOption = CONFIG,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one region: its authorities, its money, what is anchored."""
    from node.api.control import ask

    found = asyncio.run(ask(data_of(config, node), "region", number=number))
    if as_json:
        print_json(found)
        return
    typer.echo(_line(found))
    if "funds" in found:
        funds = found["funds"]
        typer.echo(f"  sponsor {found['sponsor']}")
        typer.echo(f"  escrow {money(funds['escrow_micro'])}, bond {money(funds['bond_micro'])}")
        typer.echo(f"  authorities of epoch {found['epoch']}")
        for public in found["authorities"]:
            typer.echo(f"    {public}")
    inside = found if "closed" in found else found.get("inside")
    if inside is not None:
        traded = inside["traded"]
        typer.echo(
            f"  by its own state: height {inside['height']}, checkpoint {inside['closed']} closed, "
            f"{inside['anchored']} known to be anchored, by main block {inside['main_height']}"
        )
        typer.echo(
            f"  traded with others: {traded['exported_wh']} Wh sold for "
            f"{money(traded['got_micro'])}, {traded['imported_wh']} Wh bought for "
            f"{money(traded['paid_micro'])} and {money(traded['fees_micro'])} of fees"
        )


def verify(
    checkpoint: Annotated[int, typer.Argument(min=1, help="The checkpoint's number.")],
    config: ConfigOption = CONFIG,
    node: NodeOption = None,
    peer: Annotated[
        str | None,
        typer.Option("--from", help="Ask the authority at this multiaddress, with /p2p/."),
    ] = None,
    genesis: Annotated[
        Path | None, typer.Option(help="The region's genesis file. [default: this home's]")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Prove that a region's checkpoint is certified, and anchored, from its genesis alone.

    Whoever is asked is trusted in nothing; it is an authority of the region. Exit code 1: it is
    certified and not anchored (yet), or proven to be neither.
    """
    from node.anchoring import anchor_view
    from node.errors import ConfigError
    from node.genesis import read_genesis
    from node.light import prove_anchor

    if peer is not None and node is not None:
        raise ConfigError("give either --from ADDRESS or --node DIRECTORY")
    asked: Path | str = peer if peer is not None else data_of(config, node)
    if genesis is None:
        own = settings(config)
        genesis = own.path(own.node.genesis)
    view = anchor_view(asyncio.run(prove_anchor(read_genesis(genesis), asked, checkpoint)))
    if as_json:
        print_json(view)
    else:
        _print_proof(view)
    if view["finality"] == "regional":
        raise typer.Exit(EXIT_FAILED)


def _line(row: dict[str, Any]) -> str:
    name = f"{row['number']:>4}  {row.get('name', row['chain_id']):<20}"
    status = f"{row['status']:<9}" if "status" in row else "?"
    return f"{name}{status} checkpoint {row['anchored']} anchored, up to height " + str(
        row["anchored_to_height"]
    )


def _print_proof(view: dict[str, Any]) -> None:
    certificate, main = view["certificate"], view["main"]
    typer.echo(
        f"checkpoint {view['number']} of region {view['region']}: heights {view['from_height']} "
        f"to {view['to_height']}"
    )
    for slot in view["slots"]:
        typer.echo(
            f"  slot {slot['slot']}: {slot['homes']} homes, {slot['grid_wh']} Wh from the grid, "
            f"{slot['fed_in_wh']} Wh fed in, net {money(slot['net_micro'])}"
        )
    when = datetime.fromtimestamp(certificate["time_ms"] / 1000, UTC)
    typer.echo(
        f"  certified by {certificate['signatures']} authorities of epoch {certificate['epoch']}: "
        f"block {certificate['height']} of {when:%Y-%m-%d %H:%M:%S} UTC, "
        f"{certificate['block_hash'][:16]}"
    )
    said = (
        f"as of block {main['height']} of {main['time']} UTC, by {main['signatures']} authorities"
    )
    if view["finality"] == "regional":
        typer.echo(f"  not anchored: {main['last_anchored']} is the last that is, {said}")
    else:
        typer.echo(f"  anchored on {main['chain_id']}, {said}")
