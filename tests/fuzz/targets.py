"""Every decoder of bytes from outside the process, by name."""

from collections.abc import Callable
from typing import Final

from tests.fuzz import chain_targets, file_targets, node_targets
from tests.fuzz.judge import Target

BUILDERS: Final[dict[str, Callable[[], Target]]] = {
    build.__name__.replace("_", "-"): build
    for build in (*chain_targets.TARGETS, *node_targets.TARGETS, *file_targets.TARGETS)
}


def target(name: str) -> Target:
    """Return the decoder of this name, with its examples made."""
    return BUILDERS[name]()
