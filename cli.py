"""`commonwatt`: what a person types. Thin: parse, call, print.

Exit codes: 0 done, 1 failed while running, 2 something to be put right first (one line says what).
"""

import asyncio
import json
import os
import sys
import time
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from node.genesis import Genesis

EXIT_FAILED: Final = 1
EXIT_SETUP: Final = 2
# A chain makes a block every 10 minutes at the very least, whatever its authorities vote.
MAX_AGE_S: Final = 900

app = typer.Typer(
    help="Neighbours who trade their own electricity.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
testnet_app = typer.Typer(help="A community of many homes on this machine.", no_args_is_help=True)
app.add_typer(testnet_app, name="testnet")

gov_app = typer.Typer(
    help="Who decides blocks, and by which parameters: proposals and votes of the authorities.",
    no_args_is_help=True,
)
app.add_typer(gov_app, name="gov")

ConfigOption = Annotated[Path, typer.Option("--config", help="The home's settings file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")]


@app.command()
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


@app.command()
def run(config: ConfigOption) -> None:
    """Run one home's daemon until it is stopped."""
    from node.launch import command, environment

    line = command(config)
    os.execve(line[0], line, environment())  # noqa: S606 - our own interpreter and module


@app.command()
def status(
    config: ConfigOption = Path("node.toml"),
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the exit code.")] = False,
) -> None:
    """Say how a running home is doing."""
    from node.api.control import ask
    from node.config import load_config

    settings = load_config(config, os.environ)
    answer = asyncio.run(ask(settings.path(settings.node.data), "status"))
    if as_json:
        typer.echo(json.dumps(answer, indent=1))
    elif not quiet:
        _print_status(answer)


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
    config: ConfigOption = Path("node.toml"),
    as_json: JsonOption = False,
) -> None:
    """Propose a change of the authorities or of a parameter, and vote for it."""
    from node.api.governor import proposal

    done = _govern(config, proposal(action.value, subject, value, blocks))
    number = next(data["number"] for _, name, data in done["events"] if name == "proposed")
    _print_done(done, as_json, f"proposal {number} is open, you voted for it")


@gov_app.command("vote")
def gov_vote(
    number: Annotated[int, typer.Argument(help="The proposal's number.")],
    approve: Annotated[bool, typer.Option("--yes/--no", help="For it, or against.")] = True,
    config: ConfigOption = Path("node.toml"),
    as_json: JsonOption = False,
) -> None:
    """Vote on a proposal, once."""
    from node.api.governor import vote

    done = _govern(config, vote(number, approve))
    ends = [name for _, name, _ in done["events"] if name in ("passed", "rejected")]
    _print_done(done, as_json, f"proposal {number} is {ends[0] if ends else 'still open'}")


@gov_app.command("stand")
def gov_stand(config: ConfigOption = Path("node.toml"), as_json: JsonOption = False) -> None:
    """Put up this home's bond and stand for a seat; an authority then proposes to add it."""
    from node.api.governor import stand

    _print_done(_govern(config, stand()), as_json, "this home stands for a seat")


@gov_app.command("step-down")
def gov_step_down(config: ConfigOption = Path("node.toml"), as_json: JsonOption = False) -> None:
    """Stand for a seat no longer, and get the bond back."""
    from node.api.governor import step_down

    _print_done(_govern(config, step_down()), as_json, "this home stands for no seat")


@gov_app.command("list")
def gov_list(config: ConfigOption = Path("node.toml"), as_json: JsonOption = False) -> None:
    """Show the authorities, the parameters and the proposals."""
    from node.api.governor import overview
    from node.config import load_config

    found = asyncio.run(overview(load_config(config, os.environ)))
    if as_json:
        typer.echo(json.dumps(found, indent=1))
    else:
        _print_overview(found)


def _govern(config: Path, call: Any) -> dict[str, Any]:
    from node.api.governor import decide
    from node.config import load_config

    return asyncio.run(decide(load_config(config, os.environ), call))


def _print_done(done: dict[str, Any], as_json: bool, sentence: str) -> None:
    typer.echo(json.dumps(done, indent=1) if as_json else f"block {done['height']}: {sentence}")


def _print_overview(found: dict[str, Any]) -> None:
    epoch = found["epoch"]
    typer.echo(
        f"epoch {epoch['epoch']}, blocks {epoch['first_height']} to {epoch['last_height']}; "
        f"{epoch['quorum']} of {len(epoch['addresses'])} authorities decide"
    )
    for member in found["members"]:
        state = "convicted" if member["convicted"] else member["seat"]
        typer.echo(f"  {member['address']}  {state:9}  bond {member['bond_micro'] / 1e6:.2f}")
    typer.echo("parameters")
    for item in found["parameters"]:
        bounds = f"{item['low']} to {item['high']}"
        typer.echo(f"  {item['name']:22} {item['value']:>8}  ({bounds})")
    typer.echo("proposals" if found["proposals"] else "no proposals")
    for item in found["proposals"]:
        value = f" to {item['value']}" if item["kind"] == "set" else ""
        typer.echo(
            f"  {item['number']:>3}  {item['kind']} {item['subject']}{value}: {item['status']}, "
            f"{len(item['yes'])} for, {len(item['no'])} against, "
            f"until block {item['expires_height']}"
        )


@app.command()
def bill(
    config: ConfigOption = Path("node.toml"),
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
    node: Annotated[
        Path | None, typer.Option(help="Ask the node of this data directory instead.")
    ] = None,
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
    from node.bill import bill_view
    from node.errors import ConfigError
    from node.light import prove_bill

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
        typer.echo(json.dumps(view, indent=1))
    else:
        _print_bill(view)
    if view["bill"] is None:
        raise typer.Exit(EXIT_FAILED)


def _asked(
    config: Path, home: str | None, asked: Path | str | None, genesis: Path | None
) -> tuple[Path | str, str, "Genesis"]:
    """Return whom to ask, for which account, by which genesis; settings fill in what is open."""
    from node.config import load_config
    from node.errors import ConfigError
    from node.genesis import read_genesis
    from node.light import account_of
    from node.setup import read_key

    if asked is None or home is None or genesis is None:
        if asked is not None and not config.exists():
            raise ConfigError(
                f"{config}: there are no settings; give --config FILE, or without a home of your "
                "own --genesis FILE and --home NAME"
            )
        settings = load_config(config, os.environ)
        asked = asked or settings.path(settings.node.data)
        genesis = genesis or settings.path(settings.node.genesis)
        home = home or read_key(settings.path(settings.node.key)).address
    community = read_genesis(genesis)
    return asked, account_of(home, community), community


@testnet_app.command("up")
def street_up(
    homes: Annotated[int | None, typer.Option(help="How many homes. [default: 12]")] = None,
    authorities: Annotated[
        int | None, typer.Option(help="How many of them agree on blocks. [default: 4]")
    ] = None,
    slot_minutes: Annotated[
        int | None, typer.Option(help="Length of a delivery slot. [default: 15]")
    ] = None,
    time_lapse: Annotated[
        int | None, typer.Option(help="Market time over real time. [default: 60]")
    ] = None,
    mechanism: Annotated[
        str | None,
        typer.Option(help="high_low, uniform, request_offer or sharing. [default: high_low]"),
    ] = None,
    slots: Annotated[
        int | None, typer.Option(min=1, help="End after so many settled slots.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="CSV to replay: time, then a column per home in kWh.")
    ] = None,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Keep the street here; resumes one that is there.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="No live view; print one report at the end.")
    ] = False,
    picture: Annotated[
        Path | None, typer.Option(help="Save the last screen of the live view as SVG.")
    ] = None,
) -> None:
    """Start a street of homes, one process each, and watch it trade. Ctrl-C stops it."""
    from testnet.up import Options, up

    options = Options(
        homes=homes,
        authorities=authorities,
        slot_minutes=slot_minutes,
        time_lapse=time_lapse,
        mechanism=mechanism,
        slots=slots,
        data=data,
        directory=directory,
        as_json=as_json,
        picture=picture,
    )
    raise typer.Exit(asyncio.run(up(options)))


@testnet_app.command("create")
def street_create(
    directory: Annotated[Path, typer.Option("--dir", help="Where the street shall be.")],
    homes: Annotated[int, typer.Option(help="How many homes.")] = 12,
    authorities: Annotated[int, typer.Option(help="How many of them agree on blocks.")] = 4,
    slot_minutes: Annotated[int, typer.Option(help="Length of a delivery slot.")] = 15,
    time_lapse: Annotated[int, typer.Option(help="Market time over real time.")] = 60,
    mechanism: Annotated[
        str, typer.Option(help="high_low, uniform, request_offer or sharing.")
    ] = "high_low",
    containers: Annotated[
        bool, typer.Option("--containers", help="Each home on a host of its own name.")
    ] = False,
    owner: Annotated[
        int | None, typer.Option(help="User id that shall own the homes' files.")
    ] = None,
) -> None:
    """Make the genesis, keys and settings of a street without starting it."""
    from testnet.street import StreetPlan, create_street, open_street

    if open_street(directory) is not None:
        typer.echo(f"{directory}: there is a street already; it stays as it is")
        return
    plan = StreetPlan(
        homes=homes,
        authorities=authorities,
        slot_minutes=slot_minutes,
        time_lapse=time_lapse,
        mechanism=mechanism,
    )
    create_street(directory, plan, containers, owner)
    typer.echo(f"{directory}: {homes} homes, {authorities} of them authorities")


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
    typer.echo(f"  process  {answer['rss_mib']} MiB, {answer['cpu_s']} CPU s")


def _print_bill(view: dict[str, Any]) -> None:
    home, bill_now, proof = view["home"], view["bill"], view.get("proof")
    if bill_now is None:
        which = "any slot" if view["slot"] is None else f"slot {view['slot']}"
        typer.echo(f"{home['name']}: there is no bill for {which}: not settled, or kept no more")
    else:
        typer.echo(f"{home['name']}  slot {view['slot']}")
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
    if proof is not None:
        when = datetime.fromtimestamp(proof["time_ms"] / 1000, UTC)
        typer.echo(
            f"  proven by {proof['signatures']} authorities of epoch {proof['epoch']}: "
            f"block {proof['height']} of {when:%Y-%m-%d %H:%M:%S} UTC, {proof['block_hash'][:16]}"
        )


def main() -> None:
    """Run the command line; what a person can mend is one line and exit code 2."""
    from node.errors import ControlError, PeerError, ProofError, StartError

    try:
        app()
    except StartError as error:
        typer.echo(f"commonwatt: {error}", err=True)
        sys.exit(EXIT_SETUP)
    except (ControlError, PeerError, ProofError) as error:
        typer.echo(f"commonwatt: {error}", err=True)
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
