"""One settings tree: a TOML file, then the environment, then flags; later ones win.

`[node]` and `[network]` stand below with their defaults and meanings; `[home]` is
`hems.config.HomeConfig`, or absent for a node that only replicates. In the environment a setting of
the first two is `COMMONWATT_<SECTION>_<NAME>` (a list is separated by commas); the command line
passes flags as `{"network.listen": ...}`. Relative paths are relative to the file.
"""

import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from hems.config import CommunityHome, HomeConfig, ReplayHome
from hems.devices import Battery
from node.errors import ConfigError

ENVIRONMENT_PREFIX: Final = "COMMONWATT_"
LOG_LEVELS: Final = ("debug", "info", "warning", "error")


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of the sections."""


class NodeSection(Section, frozen=True):
    """`[node]`: this daemon.

    name : how this home is called in logs and tables
    genesis : the community's genesis file
    data : directory of database, write-ahead log, peer book and control socket
    key : file of the node's key, 64 hexadecimal digits, readable by its owner only
    log_level : debug, info, warning or error
    """

    name: str = "home"
    genesis: str = "genesis.json"
    data: str = "data"
    key: str = "node.key"
    log_level: str = "info"


class NetworkSection(Section, frozen=True):
    """`[network]`: how neighbours reach each other.

    listen : multiaddress to listen on
    announce : multiaddresses to tell others instead, such as a forwarded port; may be empty
    bootstrap : multiaddresses of first neighbours, each with its /p2p/ peer id
    """

    listen: str = "/ip4/127.0.0.1/tcp/4600"
    announce: tuple[str, ...] = ()
    bootstrap: tuple[str, ...] = ()


class Config(Section, frozen=True):
    """The whole tree. `directory` is where the file lies; it is no setting."""

    node: NodeSection = NodeSection()
    network: NetworkSection = NetworkSection()
    home: HomeConfig | None = None
    directory: Path = Path()

    def path(self, setting: str) -> Path:
        """Resolve a path setting against the file's directory."""
        return self.directory / setting


_SECTIONS: Final[dict[str, Any]] = {"node": NodeSection, "network": NetworkSection}


def load_config(
    file: Path | None,
    environment: Mapping[str, str],
    flags: Mapping[str, Any] | None = None,
) -> Config:
    """Read the settings.

    Raises
    ------
    ConfigError
        The file is unreadable, or a setting is unknown, of the wrong kind or out of range.
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
    _add_environment(tree, environment)
    for path, value in (flags or {}).items():
        section, _, name = path.partition(".")
        tree.setdefault(section, {})[name] = value
    _check_names(tree, origin)
    try:
        config = msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{origin}: {_plain_words(error)}") from None
    check_values(config, origin)
    return msgspec.structs.replace(config, directory=file.parent if file else Path())


def _add_environment(tree: dict[str, Any], environment: Mapping[str, str]) -> None:
    for section, kind in _SECTIONS.items():
        for field in msgspec.structs.fields(kind):
            text = environment.get(f"{ENVIRONMENT_PREFIX}{section}_{field.name}".upper())
            if text is None:
                continue
            many = typing.get_origin(field.type) is tuple
            value = [part.strip() for part in text.split(",") if part.strip()] if many else text
            tree.setdefault(section, {})[field.name] = value


def _check_names(tree: dict[str, Any], origin: str) -> None:
    """Name the first unknown setting, and what is known there."""
    known = [*_SECTIONS, "home"]
    for section, content in tree.items():
        if section not in known:
            raise ConfigError(f"{origin}: unknown section [{section}]; known are {_list(known)}")
        kind = _SECTIONS.get(section, HomeConfig)
        _check_keys(content, kind, section, origin)
    home = tree.get("home", {})
    if isinstance(home.get("battery"), dict):
        _check_keys(home["battery"], Battery, "home.battery", origin)
    source = home.get("source")
    if isinstance(source, dict):
        sources = {"community": CommunityHome, "replay": ReplayHome}
        kind = sources.get(source.get("kind", ""))
        if kind is None:
            raise ConfigError(f"{origin}: home.source.kind is one of {_list(sources)}")
        _check_keys(source, kind, "home.source", origin)


def _check_keys(content: Any, kind: Any, section: str, origin: str) -> None:
    if not isinstance(content, dict):
        raise ConfigError(f"{origin}: [{section}] is a table")
    known = [field.encode_name for field in msgspec.structs.fields(kind)]
    for name in content:
        if name not in known and name != "kind":
            raise ConfigError(
                f"{origin}: unknown key {name!r} in [{section}]; known are {_list(known)}"
            )


def check_values(config: Config, origin: str) -> None:
    """Raise `ConfigError` for a value that cannot be; `origin` says where it stands."""
    if config.node.log_level not in LOG_LEVELS:
        raise ConfigError(f"{origin}: node.log_level is one of {_list(LOG_LEVELS)}")
    for address in (config.network.listen, *config.network.announce, *config.network.bootstrap):
        if not address.startswith(("/ip4/", "/ip6/", "/dns4/", "/dns6/", "/dns/")):
            raise ConfigError(
                f"{origin}: {address!r} is not a multiaddress like /ip4/127.0.0.1/tcp/4600"
            )


def _list(names: typing.Iterable[str]) -> str:
    return ", ".join(names)


def _plain_words(error: msgspec.ValidationError) -> str:
    """Turn "... - at `$.network.listen`" into "network.listen: ..."."""
    what, _, where = str(error).partition(" - at `$.")
    return f"{where.rstrip('`')}: {what}" if where else what


# -- writing -------------------------------------------------------------------------------------


def settings_text(config: Config) -> str:
    """Return the settings as TOML, with the meaning of each section above it."""
    tree = msgspec.to_builtins(config, enc_hook=str)
    del tree["directory"]
    lines = [
        "# Settings of one Commonwatt home. Unknown keys are refused; relative paths are",
        "# relative to this file.",
    ]
    for section, content in tree.items():
        if content is None:
            continue
        kind = _SECTIONS.get(section, HomeConfig)
        doc = [line.strip() for line in (kind.__doc__ or "").splitlines()]
        lines += ["", *(f"# {line}".rstrip() for line in doc if line)]
        _write_table(lines, section, content)
    return "\n".join(lines) + "\n"


def _write_table(lines: list[str], name: str, content: dict[str, Any]) -> None:
    lines.append(f"[{name}]")
    tables = {key: value for key, value in content.items() if isinstance(value, dict)}
    for key, value in content.items():
        if value is not None and key not in tables:
            lines.append(f"{key} = {_toml_value(value)}")
    for key, value in tables.items():
        lines.append("")
        _write_table(lines, f"{name}.{key}", value)


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    # JSON's escapes are TOML's too.
    return msgspec.json.encode(str(value)).decode()
