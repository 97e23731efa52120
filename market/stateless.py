"""Executing a block with nothing but the part of the state that it touches.

Whoever has the whole state executes over one that records what is asked for (`recording`), and
makes a witness of it. Whoever has the witness executes the same block over that (`from_witness`),
and gets the same result, or a `WitnessGap`: there is no third way.
"""

import functools
from collections.abc import Mapping
from typing import Final

from market import contracts
from market.app import Application
from market.errors import OutOfGas, TooHeavy
from market.genesis import Founding, MarketParams
from market.vm import gate, witness
from market.vm.engine import Engine
from market.vm.executor import Executor, Native, Outcome
from market.vm.gas import Caps
from market.vm.journal import Journal
from market.vm.starlark import StarlarkEngine
from market.vm.witness import RecordingState
from wire.codec import Plain

# All calls of a block together. A region whose blocks take more cannot be judged on another chain.
REPLAY_GAS_MAX: Final = 40_000_000


class BudgetedExecutor(Executor):
    """An executor whose calls together may use so much compute, and no more."""

    def __init__(self, engine: Engine, budget: int) -> None:
        super().__init__(engine)
        self._left = budget

    def run(
        self,
        journal: Journal,
        contract: str,
        entry: str,
        args: Mapping[str, Plain],
        env: dict[str, Plain],
        caps: Caps,
    ) -> Outcome:
        """Run a call as `Executor.run` does. Raises `TooHeavy` beyond the budget."""
        given = caps._replace(compute=min(caps.compute, self._left))
        outcome = super().run(journal, contract, entry, args, env, given)
        self._left -= outcome.gas
        if given.compute < caps.compute and isinstance(outcome.error, OutOfGas):
            raise TooHeavy("the block needs more compute than a replay may use")
        return outcome


def recording(app: Application) -> tuple[Application, RecordingState]:
    """Return an application over the committed state of `app` that records what it reads.

    It executes what `app` would, and must not commit.
    """
    engine = StarlarkEngine()
    base = app.loaded()
    state = RecordingState(base.state)
    other = Application(app.params, engine, app.founding, app.natives)
    executor = BudgetedExecutor(engine, REPLAY_GAS_MAX)
    other.adopt(other.rested(state, base.tree, executor))
    return other, state


def witness_of(app: Application, state: RecordingState) -> bytes:
    """Return the witness of all that was read over the committed state of `app`."""
    base = app.loaded()
    return witness.write(base.state, base.tree, state.touched, program_code())


def from_witness(
    params: MarketParams,
    founding: Founding,
    natives: Mapping[str, Native],
    data: bytes,
    root: bytes,
) -> Application:
    """Return an application over the part of a state that a witness shows.

    Raises
    ------
    ParamsError
        The parameters cannot be meant.
    StateError
        The state is of another genesis or another machine.
    WitnessRefused
        The witness is none of this root.
    HostFailure
        Too little is shown (`WitnessGap`).
    """
    engine = StarlarkEngine()
    app = Application(params, engine, founding, natives)
    state, tree = witness.read(data, root, program_code())
    app.adopt(app.rested(state, tree, BudgetedExecutor(engine, REPLAY_GAS_MAX)))
    return app


@functools.lru_cache(maxsize=1)
def program_code() -> Mapping[str, bytes]:
    """Return the code of all contracts and libraries that this program brings, by its hash."""
    shelf = tuple(gate.check_library(name, contracts.source(name)) for name in contracts.LIBRARIES)
    found = {library.code_hash: library.code for library in shelf}
    for name in contracts.ALL:
        program = gate.check(name, contracts.source(name), shelf)
        found[program.code_hash] = program.code
    return found
