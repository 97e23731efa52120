"""The market's rules as they are deployed, and changes of them put to the vote."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from node.cli.gov import print_done
from node.cli.options import (
    CONFIG,
    ConfigOption,
    JsonOption,
    NodeOption,
    PassphraseOption,
    data_of,
    print_json,
    settings,
)

contracts_app = typer.Typer(
    help="The market's rules as they are deployed, and changes of them put to the vote.",
    no_args_is_help=True,
)


@contracts_app.command("list")
def contracts_list(
    config: ConfigOption = CONFIG, node: NodeOption = None, as_json: JsonOption = False
) -> None:
    """Show what contracts and libraries are deployed."""
    from node.api.contracts import overview

    found = asyncio.run(overview(data_of(config, node)))
    if as_json:
        print_json(found)
        return
    for row in found["contracts"]:
        stands_on = f"  on {', '.join(row['libraries'])}" if row["libraries"] else ""
        typer.echo(f"{row['name']:12} {row['code_hash'][:16]}{stands_on}")
    for row in found["libraries"]:
        typer.echo(f"{row['name']:12} {row['code_hash'][:16]}  (library)")


@contracts_app.command("show")
def contracts_show(
    name: Annotated[
        str, typer.Argument(help="A contract, a library, or the number of a proposal of code.")
    ],
    config: ConfigOption = CONFIG,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the text of a contract, a library, or of code that waits for a vote."""
    from node.api.contracts import proposed, text

    data = data_of(config, node)
    found = asyncio.run(proposed(data, int(name)) if name.isdecimal() else text(data, name))
    if as_json:
        print_json(found)
        return
    typer.echo(f"# {found['kind']} {found['name']}, code hash {found['code_hash']}")
    for row in found.get("entries", []):
        typer.echo(f"# {row['kind']:8} {row['name']}({', '.join(row['params'])})")
    if "args" in found:
        typer.echo(f"# with {json.dumps(found['args'])}")
    typer.echo(found["source"], nl=not found["source"].endswith("\n"))


ContractArgument = Annotated[str, typer.Argument(help="The contract, as `list` has it.")]
ArgsOption = Annotated[str, typer.Option("--args", help="JSON object: arguments by their names.")]


@contracts_app.command("call")
def contracts_call(
    contract: ContractArgument,
    entry: Annotated[str, typer.Argument(help="An entry of kind execute, as `show` has it.")],
    args: ArgsOption = "{}",
    key: Annotated[
        Path | None, typer.Option(help="Sign by this key file, the regulator's. [default: own]")
    ] = None,
    passphrase_file: PassphraseOption = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Call any entry of a contract by a transaction, and wait for what became of it."""
    from node.api.contracts import call_entry
    from node.setup import read_key

    signer = None if key is None else read_key(key, passphrase_file)
    done = asyncio.run(call_entry(settings(config), contract, entry, args, signer))
    print_done(done, as_json, f"{contract}.{entry} is done")
    for source, name, data in [] if as_json else done["events"]:
        typer.echo(f"  {source}.{name} {json.dumps(data)}")


@contracts_app.command("query")
def contracts_query(
    contract: ContractArgument,
    entry: Annotated[str, typer.Argument(help="An entry of kind query, as `show` has it.")],
    args: ArgsOption = "{}",
    config: ConfigOption = CONFIG,
    node: NodeOption = None,
) -> None:
    """Ask a contract, at the node's last block; the answer is JSON."""
    from node.api.contracts import ask_entry

    print_json(asyncio.run(ask_entry(data_of(config, node), contract, entry, args)))


@contracts_app.command("deploy")
def contracts_deploy(
    file: Annotated[Path, typer.Argument(help="The contract's text.")],
    name: Annotated[str, typer.Option("--name", help="How it is called on the chain.")],
    args: Annotated[
        str, typer.Option("--args", help="JSON object for instantiate, or migrate.")
    ] = "{}",
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="New code for a contract that there is.")
    ] = False,
    library: Annotated[
        bool, typer.Option("--library", help="A library, for contracts that come later.")
    ] = False,
    blocks: Annotated[int, typer.Option(help="How many blocks it may be voted on.")] = 1_000,
    config: ConfigOption = CONFIG,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a contract, upload it and put it to the vote; an authority's home does this."""
    from node.api.contracts import deploy
    from node.errors import ConfigError

    if upgrade and library:
        raise ConfigError("give either --upgrade or --library")
    kind = "upgrade" if upgrade else "library" if library else "deploy"
    done = asyncio.run(deploy(settings(config), node, file, kind, name, args, blocks))
    code = done["code_hash"][:16]
    print_done(
        done,
        as_json,
        f"proposal {done['proposal']} is open, you voted for it: {kind} {name}, code {code}",
    )
