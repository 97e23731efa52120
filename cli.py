"""`commonwatt`: what a person types. Mounts the rooms' commands, which parse, call and print.

Exit codes: 0 done, 1 failed while running, 2 something to be put right first (one line says what).
"""

import errno
import sys
from typing import Annotated

import typer

from node.cli.account import account
from node.cli.bill import bill
from node.cli.community import community_app
from node.cli.contracts import contracts_app
from node.cli.doctor import doctor
from node.cli.export import export_app
from node.cli.forecast import forecast_app
from node.cli.gov import gov_app
from node.cli.home import backup, init, restore, run, status
from node.cli.invite import invite_app
from node.cli.key import key_app
from node.cli.market import market_app
from node.cli.meter import meter_app
from node.cli.options import EXIT_FAILED, EXIT_SETUP, file_words
from node.cli.region import region_app, verify
from study.cli import study_app
from testnet.chaos.cli import chaos_app
from testnet.cli import testnet_app
from testnet.loadcli import load

app = typer.Typer(
    help="Neighbours who trade their own electricity.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
for command in (init, run, status, doctor, account, bill, verify, backup, restore, load):
    app.command()(command)
app.add_typer(key_app, name="key")
app.add_typer(invite_app, name="invite")
app.add_typer(testnet_app, name="testnet")
app.add_typer(community_app, name="community")
app.add_typer(chaos_app, name="chaos")
app.add_typer(gov_app, name="gov")
app.add_typer(market_app, name="market")
app.add_typer(meter_app, name="meter")
app.add_typer(contracts_app, name="contracts")
app.add_typer(region_app, name="region")
app.add_typer(export_app, name="export")
app.add_typer(forecast_app, name="forecast")
app.add_typer(study_app, name="study")


def _tell_version(asked: bool) -> None:
    if asked:
        from node.status import version

        typer.echo(f"commonwatt {version()}")
        raise typer.Exit


@app.callback()
def commonwatt(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Which one this is."),
    ] = False,
) -> None:
    """Neighbours who trade their own electricity."""


def main() -> None:
    """Run the command line; what a person can mend is one line and exit code 2."""
    from node.errors import ControlError, MeteringError, PeerError, ProofError, StartError

    try:
        app()
    except (StartError, MeteringError) as error:
        typer.echo(f"commonwatt: {error}", err=True)
        sys.exit(EXIT_SETUP)
    except OSError as error:
        # Of a file: what a person named, or a disk. Anything else is a fault of ours.
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        typer.echo(f"commonwatt: {file_words(error)}", err=True)
        sys.exit(EXIT_SETUP)
    except (ControlError, PeerError, ProofError) as error:
        typer.echo(f"commonwatt: {error}", err=True)
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
