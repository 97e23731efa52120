"""The commands that make a street of many homes on this machine."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

testnet_app = typer.Typer(help="A community of many homes on this machine.", no_args_is_help=True)

RulesOption = Annotated[
    Path | None,
    typer.Option(help="A file of the market's rules: prices, fees, margins, penalties (TOML)."),
]


@testnet_app.command("up")
def street_up(
    homes: Annotated[int | None, typer.Option(help="How many homes. [default: 12]")] = None,
    authorities: Annotated[
        int | None,
        typer.Option(help="How many of them (of each region) agree on blocks. [default: 4]"),
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
    intraday_minutes: Annotated[
        int | None,
        typer.Option(help="Clear so often before the gates, too. [default: 0, at the gates only]"),
    ] = None,
    agent: Annotated[
        list[str] | None,
        typer.Option(
            help="How homes trade: NAME for all of them, home-03=NAME for one; may be repeated. "
            "mpc, ce, hu_prosumer, hu_producer, hu_consumer, hu_speculator, hu_regulator, "
            "zero_intelligence, or your own. [default: mpc]"
        ),
    ] = None,
    speculators: Annotated[
        int | None, typer.Option(help="How many of the homes are storage only. [default: 0]")
    ] = None,
    slots: Annotated[
        int | None, typer.Option(min=1, help="End after so many settled slots.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Measurements to replay: CSV (wide or long), Parquet, CityLearn's folder."
        ),
    ] = None,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Made-up households instead of the built-in ones.")
    ] = False,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Keep the street here; resumes one that is there.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="No live view; print one report at the end.")
    ] = False,
    picture: Annotated[
        Path | None, typer.Option(help="Save the last screen of the live view as SVG.")
    ] = None,
    flexible: Annotated[
        bool, typer.Option("--flexible", help="Homes with cars, dishwashers, heat pumps, too.")
    ] = False,
    sealed: Annotated[
        bool, typer.Option("--sealed", help="Hide orders from everybody until their gate closes.")
    ] = False,
    rules: RulesOption = None,
    regions: Annotated[
        int | None,
        typer.Option(help="Over how many regions, under a main chain. [default: 1, without]"),
    ] = None,
    dashboard: Annotated[
        bool | None,
        typer.Option(
            "--dashboard/--no-dashboard",
            help="The first home serves its dashboard. [default: unless --json]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Start a street of homes, one process each, and watch it trade. Ctrl-C stops it."""
    from testnet.rules import rules_of
    from testnet.up import Options, up

    options = Options(
        homes=homes,
        authorities=authorities,
        slot_minutes=slot_minutes,
        time_lapse=time_lapse,
        mechanism=mechanism,
        intraday_minutes=intraday_minutes,
        slots=slots,
        data=data,
        synthetic=synthetic,
        directory=directory,
        as_json=as_json,
        picture=picture,
        agents=tuple(agent or ()),
        speculators=speculators,
        flexible=flexible,
        sealed=sealed,
        rules=rules_of(rules),
        regions=regions,
        dashboard=not as_json if dashboard is None else dashboard,
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
    agent: Annotated[
        list[str] | None,
        typer.Option(help="How homes trade, as of `testnet up`. [default: mpc]"),
    ] = None,
    speculators: Annotated[int, typer.Option(help="How many of the homes are storage only.")] = 0,
    sealed: Annotated[
        bool, typer.Option("--sealed", help="Hide orders from everybody until their gate closes.")
    ] = False,
    rules: RulesOption = None,
    containers: Annotated[
        bool, typer.Option("--containers", help="Each home on a host of its own name.")
    ] = False,
    owner: Annotated[
        int | None, typer.Option(help="User id that shall own the homes' files.")
    ] = None,
    regions: Annotated[
        int, typer.Option(help="Over how many regions, under a main chain; 1: without.")
    ] = 1,
    begins_in: Annotated[
        int, typer.Option(help="So long after this the first block is made: time to deploy. [s]")
    ] = 0,
    joining: Annotated[
        int, typer.Option(help="With --containers: how many more homes this machine shall run.")
    ] = 0,
) -> None:
    """Make the genesis, keys and settings of a street without starting it."""
    from node.host import memory_mib
    from testnet.manifests import check_room
    from testnet.regions import create
    from testnet.rules import rules_of
    from testnet.street import StreetPlan, open_street
    from testnet.up import agents_asked

    if open_street(directory) is not None:
        typer.echo(f"{directory}: there is a street already; it stays as it is")
        return
    plan = StreetPlan(
        homes=homes,
        authorities=authorities,
        slot_minutes=slot_minutes,
        time_lapse=time_lapse,
        mechanism=mechanism,
        speculators=speculators,
        sealed=sealed,
        rules=rules_of(rules) or {},
        regions=regions,
        begins_in_s=begins_in,
        **agents_asked(agent or ()),
    )
    if containers:
        check_room(plan, joining, memory_mib())
    create(directory, plan, containers, owner)
    each = "" if regions == 1 else f" in {regions} regions"
    what = "of them" if regions == 1 else "of each region"
    typer.echo(f"{directory}: {homes} homes{each}, {authorities} {what} authorities")


@testnet_app.command("operate")
def street_operate(
    directory: Annotated[Path, typer.Option("--dir", help="Where the street is.")],
    office: Annotated[
        Path | None,
        typer.Option(
            help="Follow its chains by nodes of one's own, kept here, and take newcomers in there: "
            "for homes on other hosts."
        ),
    ] = None,
) -> None:
    """Let the regions of a running street in, and every home that asks to join. Ctrl-C stops it."""
    from testnet.office import operate_from_office
    from testnet.operate import operate
    from testnet.street import the_street

    street = the_street(directory)
    work = operate_from_office(street, office, typer.echo) if office else None
    try:
        asyncio.run(work or operate(street, typer.echo))
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)


@testnet_app.command("compose")
def street_compose(
    homes: Annotated[int, typer.Option(help="How many homes.")] = 24,
    authorities: Annotated[int, typer.Option(help="How many authorities each region has.")] = 4,
    regions: Annotated[
        int, typer.Option(help="Over how many regions, under a main chain; 1: without.")
    ] = 3,
    build: Annotated[
        bool, typer.Option("--build/--no-build", help="Build the image from this directory.")
    ] = True,
) -> None:
    """Print a Compose file of a community grid of any size, and what this machine lacks for it."""
    from node.host import memory_mib
    from testnet.manifests import compose_file, lacking
    from testnet.street import StreetPlan

    plan = StreetPlan(homes=homes, authorities=authorities, regions=regions)
    text = compose_file(plan, build)
    for problem in lacking(plan, memory_mib()):
        typer.echo(f"commonwatt: on this machine: {problem}", err=True)
    typer.echo(text)


StreetOption = Annotated[
    Path, typer.Option("--dir", help="The street that testnet create --containers has made.")
]
JoiningOption = Annotated[
    int, typer.Option("--joining", help="How many homes more make their own keys and join.")
]
ImageOption = Annotated[
    str, typer.Option("--image", help="The image, by a name that all hosts can pull.")
]


@testnet_app.command("stack")
def street_stack(
    directory: StreetOption,
    host: Annotated[
        list[str],
        typer.Option(help="A host of the swarm, as `docker node ls` calls it. Repeatable."),
    ],
    joining: JoiningOption = 0,
    image: ImageOption = "commonwatt",
) -> None:
    """Print a Docker Swarm stack of a street over several hosts."""
    from testnet.stack import stack_file
    from testnet.street import the_street

    typer.echo(stack_file(the_street(directory), host, joining, image), nl=False)


@testnet_app.command("kubernetes")
def street_kubernetes(
    directory: StreetOption,
    joining: JoiningOption = 0,
    image: ImageOption = "commonwatt",
    namespace: Annotated[str, typer.Option(help="Where all of it shall be.")] = "commonwatt",
) -> None:
    """Print Kubernetes manifests of a street over a cluster's hosts. They hold its keys."""
    from testnet.kubernetes import manifest_file
    from testnet.street import the_street

    typer.echo(manifest_file(the_street(directory), joining, image, namespace), nl=False)
