"""A home's bill, believed or proven."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from node.cli.options import (
    CONFIG,
    EXIT_FAILED,
    ConfigOption,
    JsonOption,
    NodeOption,
    own_address,
    print_json,
    settings,
)

if TYPE_CHECKING:
    from node.genesis import Genesis

# A chain makes a block every 10 minutes at the very least, whatever its authorities vote.
MAX_AGE_S: Final = 900


def bill(
    config: ConfigOption = CONFIG,
    slot: Annotated[int | None, typer.Option(min=0, help="The slot's number.")] = None,
    last: Annotated[bool, typer.Option("--last", help="The last settled slot.")] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Prove it from the genesis file, trusting no node."),
    ] = False,
    home: Annotated[
        str | None,
        typer.Option(help="Whose: a name in the genesis, or an account. [default: this home]"),
    ] = None,
    node: NodeOption = None,
    peer: Annotated[
        str | None,
        typer.Option("--from", help="Ask the neighbour at this multiaddress, with /p2p/."),
    ] = None,
    genesis: Annotated[
        Path | None, typer.Option(help="The genesis file. [default: this home's]")
    ] = None,
    max_age: Annotated[
        int, typer.Option(min=1, help="With --verify: the oldest proof to take, in seconds.")
    ] = MAX_AGE_S,
    as_json: JsonOption = False,
) -> None:
    """Print a home's bill for a slot; with --verify, prove it.

    With --from, --genesis and --home it takes no node and no settings of one's own.
    """
    from node.api.control import ask
    from node.errors import ConfigError
    from node.proofs.bill import bill_view
    from node.proofs.light import prove_bill

    if (slot is None) != last:
        raise ConfigError("give either --slot NUMBER or --last")
    if peer is not None and node is not None:
        raise ConfigError("give either --from ADDRESS or --node DIRECTORY")
    if peer is not None and not verify:
        raise ConfigError("a neighbour is not taken at its word: give --verify with --from")
    asked, address, community = _asked(config, home, peer or node, genesis)
    if verify:
        not_before_ms = time.time_ns() // 1_000_000 - max_age * 1_000
        work = prove_bill(community, asked, address, slot, not_before_ms)
        view = bill_view(asyncio.run(work))
    else:
        view = asyncio.run(ask(Path(asked), "bill", address=address, slot=slot))
    if as_json:
        print_json(view)
    else:
        _print_bill(view)
    if view["bill"] is None:
        raise typer.Exit(EXIT_FAILED)


def _asked(
    config: Path, home: str | None, asked: Path | str | None, genesis: Path | None
) -> tuple[Path | str, str, "Genesis"]:
    """Return whom to ask, for which account, by which genesis; settings fill in what is open."""
    from node.errors import ConfigError
    from node.genesis import read_genesis
    from node.proofs.light import account_of

    if asked is None or home is None or genesis is None:
        if asked is not None and not config.exists():
            raise ConfigError(
                f"{config}: there are no settings; give --config FILE, or without a home of your "
                "own --genesis FILE and --home NAME"
            )
        own = settings(config)
        asked = asked or own.path(own.node.data)
        genesis = genesis or own.path(own.node.genesis)
        home = home or own_address(config)
    community = read_genesis(genesis)
    return asked, account_of(home, community), community


def _print_bill(view: dict[str, Any]) -> None:
    from node.cli.tables import clean

    home, bill_now, proof = view["home"], view["bill"], view.get("proof")
    name = clean(home["name"])
    if bill_now is None:
        which = "any slot" if view["slot"] is None else f"slot {view['slot']}"
        typer.echo(f"{name}: there is no bill for {which}: not settled, or kept no more")
    else:
        typer.echo(f"{name}  slot {view['slot']}")
        for what, energy_wh, amount_micro in (
            ("bought of neighbours", bill_now["bought_wh"], bill_now["trades_cost_micro"]),
            ("sold to neighbours", bill_now["sold_wh"], -bill_now["trades_income_micro"]),
            ("from the grid", bill_now["grid_wh"], bill_now["grid_cost_micro"]),
            ("fed in", bill_now["fed_in_wh"], -bill_now["feed_in_income_micro"]),
            ("grid fees", bill_now["bought_wh"], bill_now["fees_micro"]),
            ("penalty, fallen short", bill_now["shortfall_wh"], bill_now["penalty_micro"]),
        ):
            typer.echo(f"  {what:<22}{energy_wh:>8} Wh {amount_micro / 1e6:>12.6f}")
        typer.echo(f"  {'total':<33} {bill_now['total_micro'] / 1e6:>12.6f}")
        carbon_g = bill_now["carbon_mg"] / 1000
        green_wh = bill_now["green_bought_wh"]
        typer.echo(
            f"  carbon of the grid's energy {carbon_g:>9.1f} g; {green_wh} Wh certified green"
        )
        typer.echo(f"  {'by the grid alone':<33} {bill_now['grid_only_micro'] / 1e6:>12.6f}")
        if view.get("finality"):
            typer.echo(f"  final: {view['finality']}")
    if proof is not None:
        when = datetime.fromtimestamp(proof["time_ms"] / 1000, UTC)
        typer.echo(
            f"  proven by {proof['signatures']} authorities of epoch {proof['epoch']}: "
            f"block {proof['height']} of {when:%Y-%m-%d %H:%M:%S} UTC, {proof['block_hash'][:16]}"
        )
