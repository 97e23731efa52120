"""Regions and their main chain: who there is, how they stand, proof that a record is anchored."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from node.cli.gov import print_done
from node.cli.options import (
    CONFIG,
    EXIT_FAILED,
    ConfigOption,
    JsonOption,
    NodeOption,
    data_of,
    decide_on_main,
    main_data_of,
    micro_of,
    money,
    print_json,
    settings,
)
from node.cli.override import override_app

region_app = typer.Typer(
    help="Regions and their main chain: who there is, and what of them is anchored.",
    no_args_is_help=True,
)


region_app.add_typer(override_app, name="override")


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
    if found.get("override", {}).get("stop"):
        _print_stop(found["override"])
    inside = found if "closed" in found else found.get("inside")
    if inside is not None:
        traded = inside["traded"]
        typer.echo(
            f"  by its own state: height {inside['height']}, checkpoint {inside['closed']} closed, "
            f"{inside['anchored']} known to be anchored, by main block {inside['main_height']}"
        )
        if inside["suspended"]:
            typer.echo("  nothing is traded: the main chain has anchored nothing for too long")
        typer.echo(
            f"  traded with others: {traded['exported_wh']} Wh sold for "
            f"{money(traded['got_micro'])}, {traded['imported_wh']} Wh bought for "
            f"{money(traded['paid_micro'])} and {money(traded['fees_micro'])} of fees"
        )


@region_app.command("carbon")
def region_carbon(
    period: Annotated[
        int | None, typer.Option(help="Of this period. [default: since the regions came in]")
    ] = None,
    config: ConfigOption = CONFIG,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what the regions' grid energy emitted, by their anchored records."""
    from node.api.control import ask

    entry = "totals" if period is None else "reports"
    args = {} if period is None else {"period": period}
    data = main_data_of(config, node)
    rows = asyncio.run(ask(data, "query", contract="footprint", entry=entry, args=args))
    if as_json:
        print_json(rows)
        return
    if not rows:
        typer.echo("nothing is recorded yet")
    for row in rows:
        quota = "" if period is None else f", quota {row['allotted_mg'] / 1e6:.3f} kg"
        over_mg = max(0, row["emitted_mg"] - row["allotted_mg"])
        beyond = "" if period is None else f", {over_mg / 1e6:.3f} kg beyond it"
        typer.echo(
            f"region {row['region']}: {row['slots']} slots, {row['grid_wh'] / 1000:.3f} kWh from "
            f"the grid, {row['emitted_mg'] / 1e6:.3f} kg{quota}{beyond}"
        )


SponsorOption = Annotated[Path, typer.Option("--key", help="The sponsor's key file.")]
AmountArgument = Annotated[float, typer.Argument(help="In the currency's unit.")]


@region_app.command("prove")
def region_prove(
    genesis: Annotated[
        Path | None, typer.Option(help="Of this genesis file. [default: this home's]")
    ] = None,
    config: ConfigOption = CONFIG,
) -> None:
    """Print this authority's proof that it holds its key and means its region, for `create`.

    With the genesis of a region's successor it is for `override propose`.
    """
    from node.genesis import read_genesis
    from node.regions.registration import prove_possession
    from node.setup import own_key

    own = settings(config)
    key = own_key(own)
    meant = read_genesis(own.path(own.node.genesis) if genesis is None else genesis)
    typer.echo(f"{key.public.hex()}={prove_possession(meant, key).hex()}")


@region_app.command("create")
def region_create(
    genesis: Annotated[Path, typer.Option(help="The region's genesis file.")],
    key: SponsorOption,
    proof: Annotated[list[str], typer.Option(help="What each authority's `region prove` printed.")],
    name: Annotated[str, typer.Option(help="What the region shall be called.")],
    escrow: Annotated[
        float, typer.Option(help="Put up for trade with others, in the currency's unit.")
    ] = 0.0,
    config: ConfigOption = CONFIG,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register a region on the main chain, by its sponsor, who puts up bond and escrow.

    A quorum of the main chain's authorities then lets it in: `commonwatt region approve`.
    """
    from node.genesis import read_genesis
    from node.regions.registration import proofs_of, registration

    region = read_genesis(genesis)
    call = registration(region, name, proofs_of(proof), micro_of(escrow, "--escrow"))
    done = decide_on_main(config, node, call, key)
    number = call.args["region"]
    print_done(done, as_json, f"region {number} is proposed; authorities of the main chain approve")


@region_app.command("approve")
def region_approve(
    number: Annotated[int, typer.Argument(help="The region's number.")],
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Let a proposed region in: this authority's yes; a quorum's decides."""
    from market.client import regions

    done = decide_on_main(config, None, regions.approve(number), None)
    live = any(name == "region_status" for _, name, _ in done["events"])
    print_done(done, as_json, f"region {number} is {'live' if live else 'still proposed'}")


@region_app.command("deposit")
def region_deposit(
    number: Annotated[int, typer.Argument(help="The region's number.")],
    amount: AmountArgument,
    key: SponsorOption,
    config: ConfigOption = CONFIG,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put more into a region's escrow, by its sponsor."""
    from market.client import regions

    call = regions.deposit(number, micro_of(amount, "AMOUNT"))
    print_done(
        decide_on_main(config, node, call, key), as_json, f"the escrow of region {number} is more"
    )


@region_app.command("withdraw")
def region_withdraw(
    number: Annotated[int, typer.Argument(help="The region's number.")],
    amount: AmountArgument,
    key: SponsorOption,
    config: ConfigOption = CONFIG,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take something out of a region's escrow, by its sponsor."""
    from market.client import regions

    call = regions.withdraw(number, micro_of(amount, "AMOUNT"))
    print_done(
        decide_on_main(config, node, call, key), as_json, f"the escrow of region {number} is less"
    )


@region_app.command("leave")
def region_leave(
    number: Annotated[int, typer.Argument(help="The region's number.")],
    key: SponsorOption,
    config: ConfigOption = CONFIG,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a region out, by its sponsor; bond and escrow are held for a while after."""
    from market.client import regions

    done = decide_on_main(config, node, regions.leave(number), key)
    print_done(done, as_json, f"region {number} has left; `region reclaim` once the hold is over")


@region_app.command("reclaim")
def region_reclaim(
    number: Annotated[int, typer.Argument(help="The region's number.")],
    key: SponsorOption,
    config: ConfigOption = CONFIG,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take back bond and escrow of a region that has left, by its sponsor."""
    from market.client import regions

    done = decide_on_main(config, node, regions.reclaim(number), key)
    print_done(done, as_json, f"bond and escrow of region {number} are the sponsor's again")


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
    from node.errors import ConfigError
    from node.genesis import read_genesis
    from node.proofs.anchoring import anchor_view
    from node.proofs.light import prove_anchor

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


def _print_stop(override: dict[str, Any]) -> None:
    stop, proposal = override["stop"], override["proposal"]
    typer.echo(f"  stopped at height {stop['height']}, {stop['number']} checkpoints closed by then")
    if proposal is not None:
        typer.echo(
            f"  to be succeeded by chain {proposal['chain_id']}, genesis "
            f"{proposal['genesis_hash'][:16]}; {len(proposal['votes'])} votes for it"
        )


def _line(row: dict[str, Any]) -> str:
    from node.cli.tables import clean

    # A sponsor has chosen the name.
    name = f"{row['number']:>4}  {clean(row.get('name', row['chain_id'])):<20}"
    status = f"{row['status']:<9}" if "status" in row else "?"
    line = f"{name}{status} checkpoint {row['anchored']} anchored"
    if "audited" in row:
        line += f", {row['audited']} audited"
    return f"{line}, up to height {row['anchored_to_height']}"


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
