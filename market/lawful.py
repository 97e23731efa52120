"""Calls under the conservation laws: where votes have changed code, each is checked by itself."""

from collections.abc import Mapping
from typing import NamedTuple

from market.deployment import CHANGED_KEY
from market.errors import Fault, InvariantError
from market.invariants import check_changes
from market.vm.executor import Executor, Outcome
from market.vm.gas import Caps
from market.vm.journal import Journal
from wire.codec import Plain


class Call(NamedTuple):
    """An entry of a contract, and what it is given."""

    contract: str
    entry: str
    args: Mapping[str, Plain]


def run_lawful(
    executor: Executor, journal: Journal, call: Call, env: dict[str, Plain], caps: Caps
) -> Outcome:
    """Run a call; where votes have changed code, undo it if it breaks a law.

    Raises
    ------
    HostFailure
        This node failed; nothing may be concluded about the call.
    """
    mark = journal.mark()
    outcome = executor.run(journal, call.contract, call.entry, call.args, env, caps)
    if outcome.error is None and journal.get(CHANGED_KEY) is not None:
        try:
            check_changes(journal.since(mark))
        except InvariantError as error:
            journal.rollback(mark)
            fault = Fault("law", "the call would break a conservation law; it is undone")
            return Outcome(fault, None, [], outcome.gas, str(error))
    return outcome
