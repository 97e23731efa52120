"""The same traffic on Starlark and on CPython: equal receipts, events and roots, block by block."""

import msgspec
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


FEES = ((0, (4_000, 250, ((0, 9_000), (9_000, 1_000)))),)
LINES = ((1, 0, 3_000), (2, 1, 1_500))
MARKETS: dict[str, dict[str, object]] = {
    "high_low": {},
    "rounds, fees, lines": {
        "fees": FEES,
        "lines": LINES,
        "intraday_every_ms": 300_000,
        "auctions": ((START_MS + 600_000, 0, 10**9), (START_MS + 4_000_000, 0, 10**9)),
    },
    "uniform": {"mechanism": "uniform", "fees": FEES, "uniform_price": "mid"},
    "request_offer": {"mechanism": "request_offer", "fees": FEES, "lines": LINES},
    "sharing": {"mechanism": "sharing", "fees": FEES},
}


def run(seed: int, transactions: int, kind: str = "high_low") -> dict[str, int]:
    rules = MARKETS[kind]
    market = params(homes=HOMES, balance_micro=700_000, keep_slots=4, history_min=3, **rules)
    if "lines" in rules:
        homes = tuple(
            msgspec.structs.replace(home, line=place % 3, cluster=place % 2)
            for place, home in enumerate(market.homes)
        )
        market = msgspec.structs.replace(market, homes=homes)
    street = Street(market)
    twin = Application(market, CPythonEngine())
    twin.commit(twin.genesis())
    traffic = Traffic(seed, market.mechanism)
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


@pytest.mark.parametrize("kind", list(MARKETS)[1:])
def test_other_markets(kind: str) -> None:
    codes = run(seed=2, transactions=504, kind=kind)
    # Where no orders are taken, few transactions are left that can be good.
    assert codes["ok"] > (30 if kind == "sharing" else 100)
    assert "contract_fault" not in codes


@pytest.mark.slow
@pytest.mark.parametrize("kind", MARKETS)
@pytest.mark.parametrize("seed", range(2, 5))
def test_many_transactions(seed: int, kind: str) -> None:
    codes = run(seed, transactions=1_800, kind=kind)
    assert codes["ok"] > 100
    assert "contract_fault" not in codes
