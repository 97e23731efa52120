"""Who decides blocks: proposals and votes of the authorities."""

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from node.cli.options import (
    CONFIG,
    ConfigOption,
    JsonOption,
    data_of,
    decide_on_main,
    main_data_of,
    print_json,
    settings,
)

gov_app = typer.Typer(
    help="Who decides blocks, and by which parameters: proposals and votes of the authorities.",
    no_args_is_help=True,
)
MainOption = Annotated[
    bool, typer.Option("--main", help="On the main chain that this node keeps, not its region.")
]


class Action(StrEnum):
    """What can be proposed."""

    ADD = "add"
    REMOVE = "remove"
    SET = "set"


@gov_app.command("propose")
def gov_propose(
    action: Annotated[Action, typer.Argument(help="add or remove an authority; set a parameter.")],
    subject: Annotated[str, typer.Argument(help="The authority's address, or the parameter.")],
    value: Annotated[int | None, typer.Argument(help="The parameter's new value.")] = None,
    blocks: Annotated[int, typer.Option(help="How many blocks it may be voted on.")] = 1_000,
    main: MainOption = False,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Propose a change of the authorities or of a parameter, and vote for it."""
    from node.api.governor import proposal

    done = _govern(config, main, proposal(action.value, subject, value, blocks))
    number = next(data["number"] for _, name, data in done["events"] if name == "proposed")
    print_done(done, as_json, f"proposal {number} is open, you voted for it")


@gov_app.command("vote")
def gov_vote(
    number: Annotated[int, typer.Argument(help="The proposal's number.")],
    approve: Annotated[bool, typer.Option("--yes/--no", help="For it, or against.")] = True,
    main: MainOption = False,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Vote on a proposal, once."""
    from node.api.governor import vote

    done = _govern(config, main, vote(number, approve))
    ends = [name for _, name, _ in done["events"] if name in ("passed", "rejected")]
    print_done(done, as_json, f"proposal {number} is {ends[0] if ends else 'still open'}")


@gov_app.command("stand")
def gov_stand(
    main: MainOption = False, config: ConfigOption = CONFIG, as_json: JsonOption = False
) -> None:
    """Put up this home's bond and stand for a seat; an authority then proposes to add it."""
    from node.api.governor import stand

    print_done(_govern(config, main, stand()), as_json, "this home stands for a seat")


@gov_app.command("step-down")
def gov_step_down(
    main: MainOption = False, config: ConfigOption = CONFIG, as_json: JsonOption = False
) -> None:
    """Stand for a seat no longer, and get the bond back."""
    from node.api.governor import step_down

    print_done(_govern(config, main, step_down()), as_json, "this home stands for no seat")


@gov_app.command("list")
def gov_list(
    main: MainOption = False, config: ConfigOption = CONFIG, as_json: JsonOption = False
) -> None:
    """Show the authorities, the parameters and the proposals."""
    from node.api.governor import overview

    data = main_data_of(config, None) if main else data_of(config, None)
    found = asyncio.run(overview(data))
    if as_json:
        print_json(found)
    else:
        _print_overview(found)


def _govern(config: Path, main: bool, call: Any) -> dict[str, Any]:
    from node.api.governor import decide

    if main:
        return decide_on_main(config, None, call, None)
    return asyncio.run(decide(settings(config), call))


def print_done(done: dict[str, Any], as_json: bool, sentence: str) -> None:
    """Print in which block something was decided, and what."""
    if as_json:
        print_json(done)
    else:
        typer.echo(f"block {done['height']}: {sentence}")


def _print_overview(found: dict[str, Any]) -> None:
    from node.cli.tables import clean

    epoch = found["epoch"]
    typer.echo(
        f"epoch {epoch['epoch']}, blocks {epoch['first_height']} to {epoch['last_height']}; "
        f"{epoch['quorum']} of {len(epoch['addresses'])} authorities decide"
    )
    names = {member["address"]: clean(member["name"] or "") for member in found["members"]}
    width = max(map(len, names.values()), default=0) + 2
    for member in found["members"]:
        state = "convicted" if member["convicted"] else member["seat"]
        line = f"  {names[member['address']].ljust(width) if any(names.values()) else ''}"
        line += f"{member['address']}  {state:9}  bond {member['bond_micro'] / 1e6:.2f}"
        if member["signed"] is not None:
            line += f"  signed {member['signed']} of the last {found['blocks_shown']} blocks"
        typer.echo(line)
    typer.echo("parameters")
    for item in found["parameters"]:
        bounds = f"{item['low']} to {item['high']}"
        typer.echo(f"  {item['name']:22} {item['value']:>8}  ({bounds})")
    typer.echo("proposals" if found["proposals"] else "no proposals")
    for item in found["proposals"]:
        value = f" to {item['value']}" if item["kind"] == "set" else ""
        if item["code_hash"]:
            value = f" (code {item['code_hash'][:16]})"
        typer.echo(
            f"  {item['number']:>3}  {item['kind']} {item['subject']}{value}: {item['status']}, "
            f"{len(item['yes'])} for, {len(item['no'])} against, "
            f"until block {item['expires_height']}"
            + (f"; {item['reason']}" if item["reason"] else "")
        )
