"""One chain in process, with its own clock: every transaction is signed, decoded and checked.

What is posted waits until a block is made. A block takes all that waits: signed and encoded, then
decoded and verified like bytes from a neighbour (`wire.transaction.check`), executed by the
contracts, the laws checked, the roots made (`market.app`). What the contracts refuse is counted by
reason.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from market import client
from market.app import Application, BlockEnv, BlockResult
from market.client import Call
from market.genesis import MarketParams
from market.receipts import Event
from study.errors import InvariantError
from wire.codec import Plain
from wire.keys import SigningKey
from wire.transaction import Refused, check

VALID_MS: Final = 3_600_000


class Chain:
    """A market's application, its clock, and what waits for the next block.

    Parameters
    ----------
    params : MarketParams
        Its genesis. The clock begins at `genesis_ms`.
    app : Application, optional
        Its application after genesis, where somebody else has made it.
    """

    def __init__(self, params: MarketParams, app: Application | None = None) -> None:
        self.params = params
        if app is None:
            app = Application(params)
            app.commit(app.genesis())
        self.app = app
        self.time_ms = params.genesis_ms
        self.refused: Counter[str] = Counter()
        self.transactions = 0
        self._waiting: list[tuple[SigningKey, Call]] = []
        self._nonces: dict[str, int] = {}

    @property
    def height(self) -> int:
        """Blocks after genesis."""
        return self.app.height

    def query(self, contract: str, entry: str, args: dict[str, Plain]) -> Plain:
        """Ask a contract, at the last block."""
        return self.app.query(contract, entry, args)

    def post(self, key: SigningKey, call: Call) -> None:
        """Let somebody ask for something in the next block."""
        self._waiting.append((key, call))

    def _signed(self, key: SigningKey, call: Call, time_ms: int) -> bytes:
        nonce = self._nonces.get(key.address, 0) + 1
        self._nonces[key.address] = nonce
        until_ms = time_ms + VALID_MS
        return client.sign_call(call, key, self.params.chain_id, nonce, until_ms).raw

    def block(self, time_ms: int) -> list[Event]:
        """Make a block of all that waits; return what its contracts said, in order.

        Raises
        ------
        InvariantError
            Time does not go forward, or a transaction is not what it was when it was signed.
        """
        if time_ms <= self.time_ms and self.app.height:
            raise InvariantError(f"a block at {time_ms} ms after one at {self.time_ms} ms")
        raws = [self._signed(key, call, time_ms) for key, call in self._waiting]
        self._waiting.clear()
        self.time_ms = time_ms
        result = self._decided(raws, time_ms)
        self.transactions += len(raws)
        events = list(result.events)
        for receipt in result.receipts:
            if receipt.code != "ok":
                self.refused[receipt.reason] += 1
            events += receipt.events
        return events

    def _decided(self, raws: Sequence[bytes], time_ms: int) -> BlockResult:
        """Check and execute the transactions of the next block, and take it over."""
        checked = []
        for found in check(raws, self.params.chain_id, time_ms):
            if isinstance(found, Refused):
                raise InvariantError(f"a transaction of the study's own is refused: {found}")
            checked.append(found)
        result = self.app.execute(BlockEnv(self.app.height + 1, time_ms), checked)
        self.app.commit(result)
        return result


def chain_of(params: MarketParams, authorities: int) -> Chain:
    """Return a chain that this process executes once, or that authorities in it agree on."""
    if not authorities:
        return Chain(params)
    from study.agreed import AgreedChain

    return AgreedChain(params, authorities)
