"""One contract on one engine, for tests of the machine."""

from market.vm.engine import Engine
from market.vm.executor import Executor, Outcome
from market.vm.gas import TRANSACTION_CAPS, Caps
from market.vm.journal import Journal, State
from market.vm.starlark import StarlarkEngine
from wire.codec import Plain

ENV: dict[str, Plain] = {"height": 1, "sender": "tester", "time_ms": 5}


class Machine:
    def __init__(self, engine: Engine | None = None, **sources: str) -> None:
        self.executor = Executor(engine or StarlarkEngine())
        self.journal = Journal(State())
        for name, source in sources.items():
            self.executor.deploy(self.journal, name, source)

    def run(
        self, contract: str, entry: str, caps: Caps = TRANSACTION_CAPS, **args: Plain
    ) -> Outcome:
        return self.executor.run(self.journal, contract, entry, args, dict(ENV), caps)

    def value(self, contract: str, entry: str, **args: Plain) -> Plain:
        outcome = self.run(contract, entry, **args)
        assert outcome.error is None, (outcome.error, outcome.detail)
        return outcome.result
