"""Where a seeded bug may differ from the real thing; the real thing by default."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from consensus.core import Core
from consensus.events import Effect
from consensus.messages import Block, Certificate
from consensus.wal import WalRecord
from tests.sim.app import Rules, State
from tests.sim.disk import Database

if TYPE_CHECKING:
    from tests.sim.node import SimNode


class Mutation:
    """How a mutant differs."""

    core: type[Core] = Core
    rules: type[Rules] = Rules
    database: type[Database] = Database
    # Whether what is written is synced before anything is said.
    syncs = True
    # (module or class, name, value) replaced for the length of a run.
    patches: Sequence[tuple[Any, str, Any]] = ()

    def recovered(self, records: list[WalRecord]) -> list[WalRecord]:
        """What the core gets to see of the log."""
        return records

    def reordered(self, effects: list[Effect]) -> Iterable[Effect]:
        """The order in which the driver carries effects out."""
        return effects

    def opened(self, node: "SimNode", records: list[WalRecord]) -> None:
        """What the driver does to the database with what it finds in the log."""

    def commit(
        self, database: Database, block: Block, certificate: Certificate, state: State
    ) -> Iterator[None]:
        """Apply a block. Each `yield` is where a crash may come; before the transaction is one."""
        yield
        database.commit(block, certificate, state)
