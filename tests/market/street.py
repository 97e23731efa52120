"""A small street for tests: keys, parameters, and a driver that makes blocks."""

from collections.abc import Iterable

import msgspec

from market import client
from market.app import Application, BlockEnv, BlockResult
from market.client import Call
from market.genesis import HomeEntry, MarketParams
from market.receipts import Receipt
from market.vm.engine import Engine
from wire.keys import SigningKey
from wire.transaction import CheckedTransaction

HOUR_MS = 3_600_000
START_MS = 1_790_000_000_000 // HOUR_MS * HOUR_MS
SLOT_MS = 15 * 60_000
GATE_MS = 5 * 60_000
# The first slot whose gate is open at genesis.
SLOT = START_MS // SLOT_MS + 1
TARIFF = 200_000
FEED_IN = 80_000
INTENSITY = 680

REGULATOR = SigningKey(bytes([255]) * 32)
HOME_KEYS = [SigningKey(bytes([number]) * 32) for number in range(1, 9)]
METER_KEYS = [key.derive("meter") for key in HOME_KEYS]


def params(
    homes: int | tuple[HomeEntry, ...] = 4, balance_micro: int = 10_000_000, **changes: object
) -> MarketParams:
    count = homes if isinstance(homes, int) else 0
    entries = tuple(
        HomeEntry(
            address=key.address,
            meter=meter.address,
            name=f"home {number}",
            role="prosumer",
            import_cap_w=10_000,
            export_cap_w=10_000,
            balance_micro=balance_micro,
            green=number % 2 == 1,
        )
        for number, key, meter in zip(range(1, count + 1), HOME_KEYS, METER_KEYS, strict=False)
    )
    base = MarketParams(
        chain_id="street",
        genesis_ms=START_MS,
        market_start_ms=START_MS,
        time_lapse=1,
        slot_minutes=15,
        currency="AUD",
        regulator=REGULATOR.address,
        homes=entries if isinstance(homes, int) else homes,
        utc_offsets=((0, 0),),
        tariffs=((0, ((0, TARIFF),)),),
        feed_in=((0, FEED_IN),),
        intensities=((0, ((0, INTENSITY),)),),
    )
    return msgspec.structs.replace(base, **changes)


class Street:
    """An application, and the least of a chain around it."""

    def __init__(self, market_params: MarketParams, engine: Engine | None = None) -> None:
        self.app = Application(market_params, engine)
        self.app.commit(self.app.genesis())
        self.height = 0
        self.time_ms = START_MS
        self.query = self.app.query
        self._nonces: dict[str, int] = {}

    def sign(
        self, key: SigningKey, call: Call, nonce: int | None = None, valid_ms: int = HOUR_MS
    ) -> CheckedTransaction:
        if nonce is None:
            nonce = self._nonces.get(key.address, 0) + 1
            self._nonces[key.address] = nonce
        return client.sign_call(call, key, "street", nonce, self.time_ms + valid_ms)

    def block(
        self, txs: Iterable[CheckedTransaction] = (), at_ms: int | None = None
    ) -> BlockResult:
        """Make a block at `at_ms` since genesis, a second after the last one by default."""
        self.height += 1
        self.time_ms = self.time_ms + 1_000 if at_ms is None else START_MS + at_ms
        result = self.app.execute(BlockEnv(self.height, self.time_ms), list(txs))
        self.app.commit(result)
        return result

    def send(self, key: SigningKey, call: Call) -> Receipt:
        return self.block([self.sign(key, call)]).receipts[0]

    def home(self, number: int, call: Call) -> Receipt:
        return self.send(HOME_KEYS[number - 1], call)

    def read(self, number: int, slot: int, import_wh: int, export_wh: int) -> Receipt:
        call = client.post_reading(slot, import_wh, export_wh, slot)
        return self.send(METER_KEYS[number - 1], call)

    def to_gate(self, slot: int = SLOT) -> BlockResult:
        return self.block(at_ms=slot * SLOT_MS - GATE_MS - START_MS)

    def to_end(self, slot: int = SLOT) -> BlockResult:
        return self.block(at_ms=(slot + 1) * SLOT_MS - START_MS)

    def to_window_end(self, slot: int = SLOT) -> BlockResult:
        return self.block(at_ms=(slot + 3) * SLOT_MS - START_MS)

    def account(self, number: int) -> client.Account:
        return client.account(self.query, HOME_KEYS[number - 1].address)
