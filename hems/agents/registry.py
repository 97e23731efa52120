"""Agents by name: the built-in ones, and one's own, found by entry points."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

import msgspec

from hems.agents.base import Agent
from hems.errors import ConfigError

GROUP: Final = "commonwatt.agents"
DEFAULT: Final = "mpc"
# An agent is loaded when it is chosen.
_BUILT_IN: Final = {
    "mpc": "hems.agents.mpc:MpcAgent",
    "ce": "hems.agents.ce:CeAgent",
    "hu_producer": "hems.agents.hu_producer:HuProducerAgent",
    "hu_consumer": "hems.agents.hu_consumer:HuConsumerAgent",
    "hu_prosumer": "hems.agents.hu_prosumer:HuProsumerAgent",
    "hu_speculator": "hems.agents.hu_speculator:HuSpeculatorAgent",
    "hu_regulator": "hems.agents.hu_regulator:HuRegulatorAgent",
    "zero_intelligence": "hems.agents.zero_intelligence:ZeroIntelligenceAgent",
}
BUILT_IN: Final = tuple(_BUILT_IN)


def agent_class(name: str) -> type[Agent]:
    """Return the agent of a name.

    Raises
    ------
    ConfigError
        There is none, it cannot be loaded, or it is no `Agent`.
    """
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        built_in: type[Agent] = getattr(import_module(module), attribute)
        return built_in
    # Only here: a home with an agent of ours need not look through all that is installed.
    from importlib.metadata import entry_points

    own = entry_points(group=GROUP)
    found = [point for point in own if point.name == name]
    if not found:
        known = ", ".join([*BUILT_IN, *sorted({point.name for point in own} - set(BUILT_IN))])
        raise ConfigError(
            f"agent {name!r}: there is none of this name; there are {known}. "
            f"Your own is found by an entry point of the group {GROUP!r}"
        )
    try:
        loaded = found[0].load()
    # Whatever somebody's module does when it is loaded.
    except Exception as error:
        raise ConfigError(
            f"agent {name!r}: {found[0].value} cannot be loaded ({type(error).__name__}: {error})"
        ) from error
    if not (isinstance(loaded, type) and issubclass(loaded, Agent)):
        raise ConfigError(
            f"agent {name!r}: {found[0].value} is no subclass of hems.agents.base.Agent"
        )
    return loaded


def agent_settings(name: str, settings: Mapping[str, Any]) -> Any:
    """Return an agent's settings from a plain map. Raises `ConfigError` naming what is wrong."""
    kind = agent_class(name).Settings
    known = [field.name for field in msgspec.structs.fields(kind)]
    unknown = [key for key in settings if key not in known]
    if unknown:
        raise ConfigError(
            f"agent {name!r} has no setting {unknown[0]!r}; it has {', '.join(known) or 'none'}"
        )
    try:
        return msgspec.convert(dict(settings), kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"agent {name!r}: {error}") from None
