"""What was behind a home's readings: disclosed to an auditor, and read by one."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from node.cli.export import FromOption, ToOption
from node.cli.options import (
    CONFIG,
    EXIT_FAILED,
    ConfigOption,
    JsonOption,
    PassphraseOption,
    print_json,
    settings,
)

if TYPE_CHECKING:
    from node.config import Config
    from node.exports.rows import Book
    from node.home.disclosure import Period, Reading
    from wire.keys import SigningKey

meter_app = typer.Typer(
    help="Show an auditor, and nobody else, what was behind a home's readings.",
    no_args_is_help=True,
)
FINDINGS_SHOWN_MAX: Final = 20

AuditorKeyOption = Annotated[
    Path | None,
    typer.Option("--key", help="The auditor's key file, such as the regulator's, not the node's."),
]


@meter_app.command("key")
def meter_key(
    key: AuditorKeyOption = None,
    passphrase_file: PassphraseOption = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Print the key that homes disclose to, so that this key's owner can read it."""
    from node.home.disclosure import auditor_key, key_text

    text = key_text(auditor_key(_signer(key, passphrase_file, config)))
    if as_json:
        print_json({"key": text})
    else:
        typer.echo(text)


@meter_app.command("disclose")
def meter_disclose(
    auditor: Annotated[
        str, typer.Option("--auditor", help="The auditor's key, cwx...: `commonwatt meter key`.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    first: FromOption = None,
    last: ToOption = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Encrypt to an auditor what this home took, made and stored in a period, signed by its meter.

    The slots of these local days, all that are kept without them. The node may run or not.
    """
    from node.durable import replace_file
    from node.errors import ConfigError
    from node.exports.rows import days_of
    from node.home.detail import read_details
    from node.home.disclosure import disclose, read_key_text
    from node.keys.homekeys import home_keys
    from node.setup import DETAIL_NAME, own_address, own_key

    to = read_key_text(auditor)
    try:
        days = days_of(first, last)
    except ValueError as error:
        raise ConfigError(f"--from, --to: {error}") from None
    own, book = _opened(config)
    kept = read_details(own.path(own.node.data) / DETAIL_NAME)
    chosen = [detail for detail in kept if days.has(book.local(detail.slot).date())]
    meter = home_keys(own, own_key(own)).meter
    number = book.number_of(own_address(own))
    data = disclose(chosen, to, book.chain_id, number, meter)
    try:
        replace_file(out, data)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written ({error.strerror})") from None
    slots = [detail.slot for detail in chosen]
    if as_json:
        print_json({"home": number, "slots": slots, "bytes": len(data)})
    else:
        typer.echo(
            f"{out}: {len(slots)} slots of home {number}, {book.local(slots[0]):%Y-%m-%d %H:%M} to "
            f"{book.local(slots[-1]):%Y-%m-%d %H:%M}; only {auditor} opens it"
        )


@meter_app.command("read-disclosure")
def meter_read_disclosure(
    file: Annotated[Path, typer.Argument(help="What a home disclosed.")],
    key: AuditorKeyOption = None,
    passphrase_file: PassphraseOption = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Read what a home disclosed, and hold it against what its meter told the chain.

    Takes the readings from this node's database, whether it runs or not. Exit code 1 if anything
    does not add up.
    """
    from node.home.disclosure import (
        auditor_key,
        check_origin,
        compare,
        open_period,
        read_disclosure,
    )

    period = read_disclosure(_bytes_of(file))
    own, book = _opened(config)
    check_origin(period, book.chain_id, book.meters())
    details = open_period(period, auditor_key(_signer(key, passphrase_file, config)))
    found = compare(details, _settled(own, period))
    if as_json:
        print_json(
            {
                "home": period.home,
                "slots": [
                    {name: getattr(detail, name) for name in detail.__struct_fields__}
                    for detail in details
                ],
                "findings": [finding._asdict() for finding in found],
            }
        )
    else:
        flows = Counter[str]()
        for detail in details:
            for name in ("import_wh", "export_wh", "load_wh", "pv_wh", "charge_wh", "discharge_wh"):
                flows[name] += getattr(detail, name)
        typer.echo(
            f"home {period.home} ({book.name_of(period.home)}): {len(details)} slots, "
            f"{book.local(details[0].slot):%Y-%m-%d %H:%M} to "
            f"{book.local(details[-1].slot):%Y-%m-%d %H:%M}"
        )
        for name, wh in flows.items():
            typer.echo(f"  {name.removesuffix('_wh'):<10}{wh / 1000:>12.3f} kWh")
        typer.echo(f"  {sum(not d.known for d in details)} slots were not measured but forecast")
        for finding in found[:FINDINGS_SHOWN_MAX]:
            typer.echo(f"slot {finding.slot}: {finding.what}")
        if len(found) > FINDINGS_SHOWN_MAX:
            typer.echo(f"and {len(found) - FINDINGS_SHOWN_MAX} more; --json has them all")
        if not found:
            typer.echo("all of it adds up, and is what was settled")
    if found:
        raise typer.Exit(EXIT_FAILED)


def _signer(key: Path | None, passphrase_file: Path | None, config: Path) -> "SigningKey":
    from node.setup import own_key, read_key

    return own_key(settings(config)) if key is None else read_key(key, passphrase_file)


def _opened(config: Path) -> "tuple[Config, Book]":
    from node.exports.rows import Book
    from node.genesis import read_genesis
    from node.offline import load_application
    from node.setup import DATABASE_NAME

    own = settings(config)
    genesis = read_genesis(own.path(own.node.genesis))
    return own, Book(load_application(own.path(own.node.data) / DATABASE_NAME, genesis))


def _settled(own: "Config", period: "Period") -> "dict[int, Reading]":
    from node.genesis import read_genesis
    from node.home.disclosure import Reading
    from node.offline import readings
    from node.setup import DATABASE_NAME

    genesis = read_genesis(own.path(own.node.genesis))
    asked = {sealed.slot for sealed in period.slots}
    return {
        told.slot: Reading(told.import_wh, told.export_wh)
        for told in readings(own.path(own.node.data) / DATABASE_NAME, genesis)
        if told.home == period.home and told.slot in asked
    }


def _bytes_of(file: Path) -> bytes:
    from node.errors import ConfigError
    from node.home.disclosure import DISCLOSURE_BYTES_MAX

    try:
        with file.open("rb") as opened:
            return opened.read(DISCLOSURE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from None
