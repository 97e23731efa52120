"""The same traffic on Starlark and on CPython: equal receipts, events and roots, block by block."""

import pytest

from market.app import Application, BlockEnv, BlockResult
from market.vm.executor import IDENTITY_KEY
from tests.market.street import START_MS, Street, params
from tests.market.traffic import HOMES, Traffic
from tests.market.vm.cpython import CPythonEngine
from wire.transaction import CheckedTransaction

BLOCK_TRANSACTIONS = 12


def comparable(result: BlockResult) -> object:
    """All of a result but gas, which counts ticks on one engine only, and what follows from it."""
    receipts = [(r.tx_id, r.code, r.reason, r.message, r.events) for r in result.receipts]
    writes = {key: value for key, value in result.writes.items() if key != IDENTITY_KEY}
    return receipts, result.events, writes


def run(seed: int, transactions: int) -> dict[str, int]:
    market = params(homes=HOMES, balance_micro=700_000, keep_slots=4, history_min=3)
    street = Street(market)
    twin = Application(market, CPythonEngine())
    twin.commit(twin.genesis())
    traffic = Traffic(seed)
    codes: dict[str, int] = {}
    time_ms = START_MS
    for height in range(1, transactions // BLOCK_TRANSACTIONS + 1):
        time_ms += traffic.next_step_ms()
        street.time_ms = time_ms
        txs: list[CheckedTransaction] = [
            street.sign(*traffic.transaction(time_ms)) for _ in range(BLOCK_TRANSACTIONS)
        ]
        env = BlockEnv(height, time_ms)
        ours, theirs = street.app.execute(env, txs), twin.execute(env, txs)
        assert comparable(ours) == comparable(theirs)
        street.app.commit(ours)
        twin.commit(theirs)
        for receipt in ours.receipts:
            code = receipt.reason or receipt.code
            codes[code] = codes.get(code, 0) + 1
    ours_items = [item for item in street.app.state_items() if item[0] != IDENTITY_KEY]
    assert ours_items == [item for item in twin.state_items() if item[0] != IDENTITY_KEY]
    return codes


def test_a_thousand_transactions() -> None:
    codes = run(seed=1, transactions=1_008)
    # The traffic must be worth comparing: much of it goes through, and much is refused.
    assert codes["ok"] > 250
    assert len(codes) > 12
    assert "contract_fault" not in codes


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 8))
def test_many_transactions(seed: int) -> None:
    codes = run(seed, transactions=1_800)
    assert codes["ok"] > 300
    assert "contract_fault" not in codes
