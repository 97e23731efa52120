"""A home's keys: encrypted, shown whose they are, on paper, brought back, replaced."""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from node.cli.gov import print_done
from node.cli.options import (
    CONFIG,
    ConfigOption,
    JsonOption,
    PassphraseOption,
    print_json,
    settings,
)

if TYPE_CHECKING:
    from node.keys.homekeys import Purpose
    from node.keys.keyfile import StoredKey
    from wire.keys import SigningKey

key_app = typer.Typer(
    help="The home's keys: encrypt them, write them on paper, bring them back, replace them.",
    no_args_is_help=True,
)
CODE_LINES_MAX: Final = 16
CODE_LINE_CHARS_MAX: Final = 512

KeyOption = Annotated[
    Path | None,
    typer.Option("--key", help="This key file, such as the regulator's, not the home's own."),
]


@key_app.command("encrypt")
def key_encrypt(
    config: ConfigOption = CONFIG,
    key: KeyOption = None,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Encrypt a key file by a passphrase, which the node then needs at each start.

    The passphrase comes from --passphrase-file, else passphrase_file in [node], else
    COMMONWATT_PASSPHRASE, else systemd's credential commonwatt-passphrase, else the terminal.
    """
    from node.errors import ConfigError
    from node.keys.keyfile import replace_key
    from node.keys.passphrase import new_passphrase

    path, stored, given = _named(config, key, passphrase_file)
    if stored.plain is None:
        raise ConfigError(f"{path}: it is encrypted already; `commonwatt key decrypt` comes first")
    replace_key(path, stored.plain, new_passphrase(given))
    typer.echo(f"{path}: encrypted ({stored.address})")
    typer.echo(
        "Who loses the passphrase has the recovery code left (`commonwatt key recovery-code`). "
        "Older copies and backups of the file are still plain."
    )


@key_app.command("decrypt")
def key_decrypt(
    config: ConfigOption = CONFIG,
    key: KeyOption = None,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Write a key file plain again, as for another passphrase."""
    from node.errors import ConfigError
    from node.keys.keyfile import replace_key

    path, stored, given = _named(config, key, passphrase_file)
    if not stored.is_encrypted:
        raise ConfigError(f"{path}: it is not encrypted")
    replace_key(path, _opened(path, given), None)
    typer.echo(f"{path}: not encrypted any more ({stored.address})")


@key_app.command("show-address")
def key_show_address(
    config: ConfigOption = CONFIG, key: KeyOption = None, as_json: JsonOption = False
) -> None:
    """Print the account of a key file; it takes no passphrase."""
    from node.keys.keyfile import load

    path, _ = _path_of(config, key)
    stored = load(path)
    if as_json:
        told = {"address": stored.address, "file": str(path), "encrypted": stored.is_encrypted}
        print_json(told)
    else:
        typer.echo(stored.address)


@key_app.command("recovery-code")
def key_recovery_code(
    config: ConfigOption = CONFIG,
    key: KeyOption = None,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Print the key as twelve groups of five, to be written on paper and locked away.

    Who has it has the key, whatever the passphrase is.
    """
    from node.keys.recovery import recovery_code

    path, _, given = _named(config, key, passphrase_file)
    groups = recovery_code(_opened(path, given)).split()
    for at in range(0, len(groups), 4):
        typer.echo("  ".join(groups[at : at + 4]))


@key_app.command("restore")
def key_restore(
    file: Annotated[Path, typer.Argument(help="The key file to make.")],
    passphrase_file: PassphraseOption = None,
    plain: Annotated[bool, typer.Option("--plain", help="Do not encrypt it.")] = False,
) -> None:
    """Make a key file of a recovery code, which is typed or comes by standard input.

    Never as an argument: everybody on the machine can see those.
    """
    from node.errors import ConfigError
    from node.keys.keyfile import replace_key
    from node.keys.passphrase import new_passphrase
    from node.keys.recovery import key_of_code

    if file.exists():
        raise ConfigError(f"{file} exists already; nothing was changed")
    found = key_of_code(_typed_code())
    passphrase = None if plain else new_passphrase(passphrase_file)
    replace_key(file, found, passphrase)
    typer.echo(f"{file}: {found.address} is back" + ("" if plain else ", encrypted"))


def _typed_code() -> str:
    """Return what is typed, up to an empty line or the input's end; a terminal does not show it."""
    if sys.stdin.isatty():
        import getpass

        return getpass.getpass("recovery code (not shown): ")
    lines = []
    for _ in range(CODE_LINES_MAX):
        line = sys.stdin.readline(CODE_LINE_CHARS_MAX)
        if not line.strip():
            break
        lines.append(line)
    return " ".join(lines)


def _path_of(config: Path, key: Path | None) -> tuple[Path, Path | None]:
    """Return the key file that is meant, and what the settings say of its passphrase."""
    from node.setup import passphrase_file_of

    if key is not None:
        return key, None
    own = settings(config)
    return own.path(own.node.key), passphrase_file_of(own)


def _named(
    config: Path, key: Path | None, passphrase_file: Path | None
) -> "tuple[Path, StoredKey, Path | None]":
    from node.keys.keyfile import load

    path, configured = _path_of(config, key)
    return path, load(path), passphrase_file or configured


def _opened(path: Path, passphrase_file: Path | None) -> "SigningKey":
    from node.setup import read_key

    return read_key(path, passphrase_file)


MeterOption = Annotated[
    bool, typer.Option("--meter", help="The meter's key instead of the account's.")
]


@key_app.command("rotate")
def key_rotate(
    meter: MeterOption = False,
    prepare: Annotated[
        bool,
        typer.Option(
            "--prepare", help="Only make the new key and print its address, for the regulator."
        ),
    ] = False,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Replace the key of this home's account, or its meter's: the old one is refused from then on.

    Of a key that is lost or stolen the regulator gives the place away first: `rotate --prepare`
    here, `key offer` there, then `rotate` here. Interrupted, it goes on when it is begun again.
    """
    from node.api import rotator

    own = settings(config)
    purpose: Purpose = "meter" if meter else "account"
    if prepare:
        key, file = rotator.prepare(own, purpose)
        told = {"purpose": purpose, "key": key.address, "file": str(file)}
        line = key.address
    else:
        done = asyncio.run(rotator.rotate(own, purpose))
        told = {**done._asdict(), "file": str(done.file)}
        line = (
            f"{done.key} signs for the {done.purpose} of {done.address} now; it is in {done.file}. "
            "Restart the node, and make a new backup"
        )
    if as_json:
        print_json(told)
    else:
        typer.echo(line)


@key_app.command("offer")
def key_offer(
    address: Annotated[str, typer.Argument(help="The home's account.")],
    new: Annotated[str, typer.Argument(help="What `key rotate --prepare` printed there.")],
    key: Annotated[Path, typer.Option("--key", help="The regulator's key file.")],
    meter: MeterOption = False,
    passphrase_file: PassphraseOption = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Give away the place of a key that is lost or stolen; signed by the regulator.

    The old key is refused at once.
    """
    from market.client import offer_key
    from node.api.governor import decide
    from node.setup import read_key

    call = offer_key(address, "meter" if meter else "account", new)
    signer = read_key(key, passphrase_file)
    done = asyncio.run(decide(settings(config), call, key=signer))
    print_done(done, as_json, f"{new} may take the place; the old key is refused from here on")
