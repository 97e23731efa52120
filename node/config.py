"""One settings tree: a TOML file, then the environment, then flags; later ones win.

`[node]`, `[network]`, `[sync]`, `[main]`, `[web]` and `[mqtt]` stand below with their defaults and
meanings; `[main]` is absent for a node that keeps one chain only, `[web]` for one without an HTTP
API, `[mqtt]` (`node.mqtt.settings`) for one that no broker serves;
`[home]` is `hems.config.HomeConfig`, or absent for a node that only replicates. In the environment
a setting of the former is `COMMONWATT_<SECTION>_<NAME>` (a list is separated by commas); the
command line passes flags as `{"network.listen": ...}`. Relative paths are relative to the file.
"""

import ipaddress
import itertools
import re
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from hems.config import HomeConfig
from node.errors import ConfigError
from node.logs import FORMATS, LEVELS, levels_of
from node.mqtt.settings import MqttSection
from wire.keys import is_address

ENVIRONMENT_PREFIX: Final = "COMMONWATT_"
SNAPSHOT_HEIGHTS_MAX: Final = 10**9
FILE_CHARS_MAX: Final = 16_384
KEY_PARTS_MAX: Final = 64
NODE_PATHS: Final = ("genesis", "data", "key", "account_key", "meter_key")
PORT_MAX: Final = 65_535
HOSTS_MAX: Final = 16


_PORT: Final = re.compile("[0-9]{1,5}")
_HOST: Final = re.compile(r"[0-9A-Za-z.-]{1,253}|\[[0-9a-fA-F:.]{2,45}\]")


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of the sections."""


class NodeSection(Section, frozen=True):
    """`[node]`: this daemon.

    name : how this home is called in logs and tables
    genesis : the community's genesis file
    data : directory of database, write-ahead log, peer book and control socket
    key : file of the node's key, encrypted (`commonwatt key encrypt`) or 64 hexadecimal digits,
        readable by its owner only
    account : the home's account if it is not that of `key`: a home that goes on with a new node
    account_key, meter_key : files of keys that took the place of those that `key` began with
        (`commonwatt key rotate`); without them `key` is the account's, the meter's derived from it
    passphrase_file : file of the keys' passphrase, readable by its owner only; empty: it comes
        from COMMONWATT_PASSPHRASE or systemd's credential commonwatt-passphrase
    log_level : debug, info, warning or error
    log_levels : of parts of their own, such as network=warning, household=debug
    log_format : text, lines for people; or json, an object per line for programs
    """

    name: str = "home"
    genesis: str = "genesis.json"
    data: str = "data"
    key: str = "node.key"
    account: str = ""
    account_key: str = "account.key"
    meter_key: str = "meter.key"
    passphrase_file: str = ""
    log_level: str = "info"
    log_levels: tuple[str, ...] = ()
    log_format: str = "text"


class NetworkSection(Section, frozen=True):
    """`[network]`: how neighbours reach each other.

    listen : multiaddress to listen on
    announce : multiaddresses to tell others instead, such as a forwarded port; may be empty
    bootstrap : multiaddresses of first neighbours, each with its /p2p/ peer id
    closed : whether only members that the chain knows, and bootstrap, are let in
    psk_file : file of a key that all of the community share, 64 hexadecimal digits, readable by its
        owner only; empty: who knows the genesis' hash may connect
    """

    listen: str = "/ip4/127.0.0.1/tcp/4600"
    announce: tuple[str, ...] = ()
    bootstrap: tuple[str, ...] = ()
    closed: bool = False
    psk_file: str = ""


class MainSection(Section, frozen=True):
    """`[main]`: the main chain that this node keeps beside its region.

    genesis : the main chain's genesis file
    listen, announce, bootstrap, psk_file : as of [network], among those who keep the main chain
    closed : whether only its authorities, nodes of the regions that it has let in, and bootstrap
        are let in
    """

    genesis: str = "main.json"
    listen: str = "/ip4/127.0.0.1/tcp/4700"
    announce: tuple[str, ...] = ()
    bootstrap: tuple[str, ...] = ()
    psk_file: str = ""
    closed: bool = False


class SyncSection(Section, frozen=True):
    """`[sync]`: how this home catches up, and what it offers to others who do.

    snapshot_every : a snapshot of the state is made at heights that are multiples of this; 0: none
    snapshot_behind : so many blocks behind a snapshot is fetched instead; 0: only if nobody has
        the blocks
    """

    snapshot_every: int = 200
    snapshot_behind: int = 150


class WebSection(Section, frozen=True):
    """`[web]`: the HTTP API of this home; without this section there is none.

    listen : IP address and port, such as 127.0.0.1:4680 or [::1]:4680
    token_file : file of the token that changes ask for; made at the first start
    hosts : names by which programs may call it, beside the address and localhost
    open_reads : whether anybody may read without the token where listen is no loopback address
    dashboard : whether pages for people are served beside it (docs/dashboard.md)
    tls_cert, tls_key : files in PEM of a certificate, with those it hangs on, and of its key, which
        its owner only may read; with them it speaks TLS and nothing else
    """

    listen: str = "127.0.0.1:4680"
    token_file: str = "web.token"  # noqa: S105 - a file's name
    hosts: tuple[str, ...] = ()
    open_reads: bool = False
    dashboard: bool = False
    tls_cert: str = ""
    tls_key: str = ""

    @property
    def address(self) -> tuple[str, int]:
        """IP address and port to listen on. Raises `ValueError` if it is none."""
        host, _, port = self.listen.rpartition(":")
        host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if ":" in host and not self.listen.startswith("["):
            raise ValueError("an IPv6 address stands in brackets")
        if not _PORT.fullmatch(port) or int(port) > PORT_MAX:
            raise ValueError("a port is 0 to 65535")
        return str(ipaddress.ip_address(host)), int(port)


class Config(Section, frozen=True):
    """The whole tree. `directory` is where the file lies; it is no setting."""

    node: NodeSection = NodeSection()
    network: NetworkSection = NetworkSection()
    sync: SyncSection = SyncSection()
    main: MainSection | None = None
    web: WebSection | None = None
    mqtt: MqttSection | None = None
    home: HomeConfig | None = None
    directory: Path = Path()

    def path(self, setting: str) -> Path:
        """Resolve a path setting against the file's directory."""
        return self.directory / setting


# tomllib takes time by the square of a dotted key's parts; a setting's has three.
_LONG_KEY: Final = re.compile(
    rf"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{KEY_PARTS_MAX}}}"""
)
_WHOLE_NUMBER: Final = re.compile(r"-?[0-9]{1,18}")
_SECTIONS: Final[dict[str, Any]] = {
    "node": NodeSection,
    "network": NetworkSection,
    "sync": SyncSection,
    "main": MainSection,
    "web": WebSection,
    "mqtt": MqttSection,
}


def sections() -> dict[str, Any]:
    """Return the sections that the environment can set too, each with its struct."""
    return dict(_SECTIONS)


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
        tree = read_toml(file, _instead(file))
    _check_names(tree, origin)
    _add_environment(tree, environment)
    for path, value in (flags or {}).items():
        section, _, name = path.partition(".")
        tree.setdefault(section, {})[name] = value
    _check_names(tree, "flags")
    try:
        config = msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{origin}: {_plain_words(error)}") from None
    check_values(config, origin)
    return msgspec.structs.replace(config, directory=file.parent if file else Path())


def read_toml(file: Path, instead: str = "") -> dict[str, Any]:
    """Return what a file of settings says, of at most `FILE_CHARS_MAX` characters.

    `instead` is said beside that it cannot be read.

    Raises
    ------
    ConfigError
        It cannot be read, is too large, or is no TOML. The text is one line.
    """
    try:
        with file.open(encoding="utf-8") as text:
            return tomllib.loads(_bounded(text.read(FILE_CHARS_MAX + 1), file))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}){instead}") from None
    except RecursionError:
        raise ConfigError(f"{file}: not TOML: nested too deep") from None
    # Not only TOMLDecodeError: an integer of thousands of digits is another ValueError.
    except ValueError as error:
        raise ConfigError(f"{file}: not TOML: {error}") from None


def _instead(file: Path) -> str:
    """Return what to read in place of a file of settings that is not there."""
    inside = file / "node.toml"
    if inside.is_file():
        return f"; the home's settings are {inside}"
    if not file.exists():
        return "; a home's settings are the node.toml of its directory: name it by --config"
    return ""


def _bounded(text: str, file: Path) -> str:
    if len(text) > FILE_CHARS_MAX:
        raise ConfigError(f"{file}: more than the {FILE_CHARS_MAX} characters that are read")
    if _LONG_KEY.search(text):
        raise ConfigError(f"{file}: not TOML of ours: a key of more than {KEY_PARTS_MAX} parts")
    return text


def _add_environment(tree: dict[str, Any], environment: Mapping[str, str]) -> None:
    for section, kind in _SECTIONS.items():
        prefix = f"{ENVIRONMENT_PREFIX}{section}_".upper()
        known = {prefix + field.name.upper() for field in msgspec.structs.fields(kind)}
        unknown = {name for name in environment if name.startswith(prefix)} - known
        if unknown:
            raise ConfigError(
                f"environment: unknown {min(unknown)}; known are {_list(sorted(known))}"
            )
        for field in msgspec.structs.fields(kind):
            text = environment.get(f"{ENVIRONMENT_PREFIX}{section}_{field.name}".upper())
            if text is None:
                continue
            if not _is_text(text):
                raise ConfigError(f"environment: {prefix}{field.name.upper()} is not text in UTF-8")
            many = typing.get_origin(field.type) is tuple
            value: Any = text
            if many:
                value = [part.strip() for part in text.split(",") if part.strip()]
            elif field.type is int and _WHOLE_NUMBER.fullmatch(text):
                value = int(text)
            elif field.type is bool and text in ("true", "false"):
                value = text == "true"
            tree.setdefault(section, {})[field.name] = value


def _is_text(value: str) -> bool:
    """Tell whether a value is text; bytes that are none come as lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_names(tree: dict[str, Any], origin: str) -> None:
    """Name the first unknown setting, and what is known there."""
    known = [*_SECTIONS, "home"]
    for section, content in tree.items():
        if section not in known:
            raise ConfigError(f"{origin}: unknown section [{section}]; known are {_list(known)}")
        _check_table(content, _SECTIONS.get(section, HomeConfig), section, origin)


def _check_table(content: Any, kind: Any, section: str, origin: str) -> None:
    if not isinstance(content, dict):
        raise ConfigError(f"{origin}: [{section}] is a table, not {type(content).__name__}")
    tag = kind.__struct_config__.tag_field
    types = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    for name, value in content.items():
        if name == tag:
            continue
        if name not in types:
            known = [*([tag] if tag else []), *types]
            raise ConfigError(
                f"{origin}: unknown key {name!r} in [{section}]; known are {_list(known)}"
            )
        where = f"{section}.{name}"
        if typing.get_origin(types[name]) is dict:
            _check_named(value, typing.get_args(types[name])[1], where, origin)
        elif kinds := _structs_in(types[name]):
            _check_table(value, _chosen(kinds, value, where, origin), where, origin)


def _check_named(content: Any, kind: Any, section: str, origin: str) -> None:
    """Check tables that bear names of the user's choice."""
    kinds = _structs_in(kind)
    if not isinstance(content, dict):
        raise ConfigError(f"{origin}: [{section}] is a table, not {type(content).__name__}")
    for name, value in content.items():
        where = f"{section}.{name}"
        if kinds:
            _check_table(value, _chosen(kinds, value, where, origin), where, origin)


def _structs_in(kind: Any) -> list[Any]:
    """Return the tables a setting may be: itself, or the members of a union."""
    members = typing.get_args(kind) or (kind,)
    return [item for item in members if isinstance(item, type) and issubclass(item, msgspec.Struct)]


def _chosen(kinds: list[Any], value: Any, where: str, origin: str) -> Any:
    """Return the one of several tables that `value` names by its tag."""
    if len(kinds) == 1 or not isinstance(value, dict):
        return kinds[0]
    tags = {kind.__struct_config__.tag: kind for kind in kinds}
    tag_field = kinds[0].__struct_config__.tag_field
    tag = value.get(tag_field)
    if not isinstance(tag, str) or tag not in tags:
        raise ConfigError(f"{origin}: {where}.{tag_field} is one of {_list(tags)}")
    return tags[tag]


def check_values(config: Config, origin: str) -> None:
    """Raise `ConfigError` for a value that cannot be; `origin` says where it stands."""
    for name in SyncSection.__struct_fields__:
        value = getattr(config.sync, name)
        if not 0 <= value <= SNAPSHOT_HEIGHTS_MAX:
            raise ConfigError(
                f"{origin}: sync.{name} is {value}, allowed are 0 to {SNAPSHOT_HEIGHTS_MAX}"
            )
    if config.web is not None:
        _check_web(config.web, origin)
    for name, path in _paths(config).items():
        if not path or "\0" in path:
            raise ConfigError(f"{origin}: {name} is the path of a file, not {path!r}")
    _check_node(config.node, origin)
    networks: list[NetworkSection | MainSection] = [config.network]
    if config.main is not None:
        networks.append(config.main)
    addresses = [(net.listen, *net.announce, *net.bootstrap) for net in networks]
    for address in itertools.chain(*addresses):
        if not address.startswith(("/ip4/", "/ip6/", "/dns4/", "/dns6/", "/dns/")):
            raise ConfigError(
                f"{origin}: {address!r} is not a multiaddress like /ip4/127.0.0.1/tcp/4600"
            )


def _check_node(node: NodeSection, origin: str) -> None:
    if node.account and not is_address(node.account):
        raise ConfigError(
            f"{origin}: node.account is an account such as cw0123…, of 42 characters, or empty"
        )
    if node.log_level not in LEVELS:
        raise ConfigError(f"{origin}: node.log_level is one of {_list(LEVELS)}")
    if node.log_format not in FORMATS:
        raise ConfigError(f"{origin}: node.log_format is one of {_list(FORMATS)}")
    try:
        levels_of(node.log_levels)
    except ValueError as error:
        raise ConfigError(f"{origin}: node.log_levels: {error}") from None


def _paths(config: Config) -> dict[str, str]:
    """Return the settings that name files, by their names."""
    paths = {f"node.{name}": getattr(config.node, name) for name in NODE_PATHS}
    if config.main is not None:
        paths["main.genesis"] = config.main.genesis
        if config.main.psk_file:
            paths["main.psk_file"] = config.main.psk_file
    if config.network.psk_file:
        paths["network.psk_file"] = config.network.psk_file
    if config.node.passphrase_file:
        paths["node.passphrase_file"] = config.node.passphrase_file
    if config.web is not None:
        paths["web.token_file"] = config.web.token_file
        if config.web.tls_cert:
            paths["web.tls_cert"] = config.web.tls_cert
            paths["web.tls_key"] = config.web.tls_key
    return paths


def _check_web(web: WebSection, origin: str) -> None:
    try:
        web.address  # noqa: B018 - raises
    except ValueError as error:
        raise ConfigError(
            f"{origin}: web.listen is an IP address and a port such as 127.0.0.1:4680, "
            f"not {web.listen!r} ({error})"
        ) from None
    if bool(web.tls_cert) != bool(web.tls_key):
        raise ConfigError(f"{origin}: web.tls_cert and web.tls_key are there both, or none")
    if len(web.hosts) > HOSTS_MAX:
        raise ConfigError(f"{origin}: web.hosts has {len(web.hosts)} names, at most {HOSTS_MAX}")
    for host in web.hosts:
        if not _HOST.fullmatch(host):
            raise ConfigError(
                f"{origin}: web.hosts has {host!r}; a host's name stands without scheme and port"
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
    # JSON's escapes are TOML's too; TOML wants one more.
    return msgspec.json.encode(str(value)).decode().replace("\x7f", "\\u007f")
