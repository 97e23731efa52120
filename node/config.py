"""One settings tree: a TOML file, then the environment, then flags; later ones win.

Every setting stands below, with its default and its meaning. In the file, sections are tables
(`[network]`); in the environment a setting is `COMMONWATT_<SECTION>_<NAME>` (a list is separated by
commas); a flag is passed by the command line as `{"network.listen": ...}`. Relative paths are
relative to the file.
"""

import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from node.errors import ConfigError

ENVIRONMENT_PREFIX: Final = "COMMONWATT_"
LOG_LEVELS: Final = ("debug", "info", "warning", "error")


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of the sections."""


class NodeSection(Section, frozen=True):
    """`[node]`: this daemon."""

    genesis: str = "genesis.json"
    """The community's genesis file."""
    data: str = "data"
    """Directory of the database, write-ahead log, peer book and control socket."""
    key: str = "node.key"
    """File of the node's key: 64 hexadecimal digits, readable by its owner only."""
    log_level: str = "info"
    """debug, info, warning or error."""


class NetworkSection(Section, frozen=True):
    """`[network]`: how neighbours reach each other."""

    listen: str = "/ip4/127.0.0.1/tcp/4600"
    """Multiaddress to listen on."""
    bootstrap: tuple[str, ...] = ()
    """Multiaddresses of first neighbours, each with its `/p2p/` peer id."""


class HomeSection(Section, frozen=True):
    """`[home]`: the home's devices and where its measurements come from."""

    source: str = "community"
    """`community` (a built-in home), `replay` (a file), or `none` (this node does not trade)."""
    index: int = 0
    """community: which of the built-in homes."""
    seed: int = 1
    """community: seed of the day-to-day variation."""
    has_pv: bool = True
    """community: whether the home has a PV system."""
    file: str = ""
    """replay: a wide CSV file: time, then a column per home in kWh."""
    column: str = ""
    """replay: the home's column."""
    battery_wh: int = 0
    """Capacity of the battery; 0 for none. [Wh]"""
    battery_w: int = 0
    """Power limit of the battery, either way; 0 for half the capacity per hour. [W]"""


class Config(Section, frozen=True):
    """The whole tree."""

    node: NodeSection = NodeSection()
    network: NetworkSection = NetworkSection()
    home: HomeSection = HomeSection()
    directory: Path = Path()
    """Where the file lies; not a setting."""

    def path(self, setting: str) -> Path:
        """Resolve a path setting against the file's directory."""
        return self.directory / setting


def load_config(
    file: Path | None,
    environment: Mapping[str, str],
    flags: Mapping[str, Any] | None = None,
) -> Config:
    """Read the settings.

    Raises
    ------
    ConfigError
        The file is unreadable, or a setting is unknown or of the wrong kind; says which.
    """
    tree: dict[str, Any] = {}
    origin = str(file) if file else "settings"
    if file is not None:
        try:
            tree = tomllib.loads(file.read_text())
        except OSError as error:
            raise ConfigError(f"{file}: cannot be read ({error.strerror})") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file}: not TOML: {error}") from None
    known = {
        (section.name, field.name): field
        for section in msgspec.structs.fields(Config)
        if section.name != "directory"
        for field in msgspec.structs.fields(section.type)
    }
    _check_names(tree, known, origin)
    for (section, name), field in known.items():
        variable = f"{ENVIRONMENT_PREFIX}{section}_{name}".upper()
        if variable in environment:
            value = _from_text(environment[variable], field.type, variable)
            tree.setdefault(section, {})[name] = value
    for path, value in (flags or {}).items():
        section, _, name = path.partition(".")
        tree.setdefault(section, {})[name] = value
    try:
        config = msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{origin}: {_plain_words(error)}") from None
    _check_values(config, origin)
    directory = file.parent if file else Path()
    return msgspec.structs.replace(config, directory=directory)


def _check_names(tree: dict[str, Any], known: Mapping[tuple[str, str], Any], origin: str) -> None:
    sections = sorted({section for section, _ in known})
    for section, content in tree.items():
        if section not in sections:
            raise ConfigError(
                f"{origin}: unknown section [{section}]; known are {', '.join(sections)}"
            )
        if not isinstance(content, dict):
            raise ConfigError(f"{origin}: [{section}] is a table")
        for name in content:
            if (section, name) not in known:
                names = ", ".join(name for other, name in known if other == section)
                raise ConfigError(
                    f"{origin}: unknown key {name!r} in [{section}]; known are {names}"
                )


def _check_values(config: Config, origin: str) -> None:
    if config.node.log_level not in LOG_LEVELS:
        raise ConfigError(f"{origin}: node.log_level is one of {', '.join(LOG_LEVELS)}")
    home = config.home
    if home.source not in ("community", "replay", "none"):
        raise ConfigError(f"{origin}: home.source is community, replay or none")
    if home.source == "replay" and not (home.file and home.column):
        raise ConfigError(f"{origin}: home.source = 'replay' needs home.file and home.column")
    for name in ("battery_wh", "battery_w", "index"):
        if getattr(home, name) < 0:
            raise ConfigError(f"{origin}: home.{name} is {getattr(home, name)}, must not be < 0")
    for address in (config.network.listen, *config.network.bootstrap):
        if not address.startswith("/ip4/") and not address.startswith(("/ip6/", "/dns")):
            raise ConfigError(
                f"{origin}: {address!r} is not a multiaddress like /ip4/127.0.0.1/tcp/4600"
            )


def _from_text(text: str, kind: Any, variable: str) -> Any:
    if kind is bool:
        values = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
        if text.lower() not in values:
            raise ConfigError(f"{variable}={text!r}: say true or false")
        return values[text.lower()]
    if kind is int:
        try:
            return int(text)
        except ValueError:
            raise ConfigError(f"{variable}={text!r}: not a whole number") from None
    if typing.get_origin(kind) is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _plain_words(error: msgspec.ValidationError) -> str:
    """Turn "... - at `$.network.listen`" into "network.listen: ..."."""
    what, _, where = str(error).partition(" - at `$.")
    return f"{where.rstrip('`')}: {what}" if where else what


def reference() -> str:
    """Return the settings tree as TOML with each setting's meaning: `commonwatt init` writes it."""
    lines: list[str] = []
    for section in msgspec.structs.fields(Config):
        if section.name == "directory":
            continue
        lines += [f"[{section.name}]"]
        meanings = _meanings(section.type)
        for field in msgspec.structs.fields(section.type):
            lines += [f"# {line}" for line in meanings[field.name].splitlines()]
            lines += [f"{field.name} = {toml_value(field.default)}"]
        lines += [""]
    return "\n".join(lines)


def _meanings(section: type) -> dict[str, str]:
    """Read the strings below the fields of a section's class body."""
    import ast
    import inspect

    body = ast.parse(inspect.getsource(section)).body[0]
    if not isinstance(body, ast.ClassDef):
        return {}
    found: dict[str, str] = {}
    for field, doc in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(doc, ast.Expr)
            and isinstance(doc.value, ast.Constant)
        ):
            found[field.target.id] = str(doc.value.value)
    return found


def toml_value(value: Any) -> str:
    """Write a setting's value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, types.NoneType):
        return '""'
    return str(value) if isinstance(value, int) else '"' + str(value).replace('"', '\\"') + '"'
