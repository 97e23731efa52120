"""A region whose authorities are lost for good: show where it stopped, and go on with others."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from node.cli.gov import print_done
from node.cli.options import (
    CONFIG,
    ConfigOption,
    JsonOption,
    NodeOption,
    data_of,
    decide_on_main,
    main_data_of,
    print_json,
    settings,
)

override_app = typer.Typer(
    help="A region whose authorities are lost for good goes on with others.",
    no_args_is_help=True,
)

SuccessorOption = Annotated[Path, typer.Option("--genesis", help="The successor's genesis file.")]


@override_app.command("show-stop")
def show_stop(config: ConfigOption = CONFIG, as_json: JsonOption = False) -> None:
    """Show the main chain the last block of this halted region, by one of its authorities.

    Of several that do, the one with the latest block counts.
    """
    from market.client import Call
    from node.api.control import ask

    own = data_of(config, None)
    here = asyncio.run(ask(own, "region"))
    done: dict[str, Any] = {}
    for call in asyncio.run(ask(own, "stop", epoch=here["epoch"])):
        done = decide_on_main(config, None, Call(**call), None)
    event = next(data for _, name, data in done["events"] if name == "region_stopped")
    print_done(done, as_json, f"region {event['region']} stopped at height {event['height']}")


@override_app.command("genesis")
def genesis(
    out: Annotated[Path, typer.Argument(help="Where to write it; nothing is overwritten.")],
    chain_id: Annotated[str, typer.Option(help="What the successor's chain is called.")],
    authority: Annotated[
        list[str], typer.Option(help="Public key of a new authority, in hexadecimal. Repeatable.")
    ],
    config: ConfigOption = CONFIG,
) -> None:
    """Write the genesis of the chain that goes on from where this home's region stopped."""
    from node.api.control import ask
    from node.errors import ConfigError
    from node.genesis import read_genesis, write_genesis
    from node.regions.registration import keys_of
    from node.regions.succession import successor_of

    own = settings(config)
    before = read_genesis(own.path(own.node.genesis))
    if before.market.region is None:
        raise ConfigError(f"chain {before.chain_id} is no region: nothing can take its place")
    asked = {"region": before.market.region.region}
    data = main_data_of(config, None)
    status = asyncio.run(ask(data, "query", contract="override", entry="status", args=asked))
    if status["stop"] is None:
        raise ConfigError(
            f"region {asked['region']} is not halted, or nobody has shown its last block: "
            "`region override show-stop`"
        )
    if out.exists():
        raise ConfigError(f"{out} exists already; nothing was changed")
    found = successor_of(before, chain_id, keys_of(authority), status["stop"])
    write_genesis(found, out)
    typer.echo(
        f"{out}: chain {chain_id} goes on from height {status['stop']['height']}; genesis "
        f"{found.hash.hex()}"
    )


@override_app.command("propose")
def propose(
    genesis: SuccessorOption,
    proof: Annotated[
        list[str], typer.Option(help="What each new authority's `region prove` printed.")
    ],
    key: Annotated[
        Path | None,
        typer.Option(help="The sponsor's key file. [default: this main authority's own key]"),
    ] = None,
    config: ConfigOption = CONFIG,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Propose a successor to the main chain, by the sponsor or an authority of the main chain."""
    from node.genesis import read_genesis
    from node.regions.registration import proofs_of
    from node.regions.succession import proposal

    call = proposal(read_genesis(genesis), proofs_of(proof))
    done = decide_on_main(config, node, call, key)
    number = call.args["region"]
    print_done(
        done,
        as_json,
        f"a successor of region {number} is proposed; authorities of the main chain approve",
    )


@override_app.command("approve")
def approve(
    genesis: SuccessorOption, config: ConfigOption = CONFIG, as_json: JsonOption = False
) -> None:
    """Put a successor in its region's place: this main authority's yes; a quorum's decides."""
    from market.client import regions
    from node.errors import ConfigError
    from node.genesis import read_genesis

    successor = read_genesis(genesis)
    if successor.market.region is None:
        raise ConfigError(f"chain {successor.chain_id} is no region: it takes nobody's place")
    number = successor.market.region.region
    call = regions.approve_successor(number, successor.hash.hex())
    done = decide_on_main(config, None, call, None)
    over = any(name == "region_overridden" for _, name, _ in done["events"])
    said = f"is chain {successor.chain_id} from now on" if over else "still waits for other votes"
    print_done(done, as_json, f"region {number} {said}")


@override_app.command("take-over")
def take_over(
    genesis: SuccessorOption,
    state: Annotated[
        Path | None,
        typer.Option(help="`inherited` of a home that has done it. [default: this home's state]"),
    ] = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Let this home go on with its region's successor; its daemon must not run.

    The home keeps its key, its settings and its memory. What belonged to the chain before is kept
    in a directory of its own, and the settings' genesis file is replaced.
    """
    from node.genesis import read_genesis, write_genesis
    from node.lock import DirectoryLock
    from node.regions.succession import take_over as go_over
    from node.setup import data_directory

    own = settings(config)
    file = own.path(own.node.genesis)
    before, successor = read_genesis(file), read_genesis(genesis)
    data = data_directory(own)
    with DirectoryLock(data):
        aside = asyncio.run(go_over(data, before, successor, state))
        write_genesis(before, aside / file.name)
        write_genesis(successor, file)
    if as_json:
        print_json({"chain_id": successor.chain_id, "before": str(aside)})
        return
    typer.echo(
        f"this home is one of chain {successor.chain_id}; what was of {before.chain_id} is in "
        f"{aside}"
    )
