"""Parameters that cannot be meant are refused by name; those that can go over the wire."""

import msgspec
import pytest

from market import contracts
from market.errors import ParamsError
from market.genesis import LIMITS_MAX, HomeEntry, MarketParams
from tests.market.street import FEED_IN, HOME_KEYS, REGULATOR, SLOT_MS, START_MS, params
from wire.codec import decode, encode

HOME = params().homes[0]


def with_home(**changes: object) -> dict[str, object]:
    return {"homes": (*params().homes[1:], msgspec.structs.replace(HOME, **changes))}


WRONG = {
    "chain_id": {"chain_id": ""},
    "chain_id long": {"chain_id": "x" * 65},
    "currency": {"currency": ""},
    "mechanism must be one of high_low": {"mechanism": "auction"},
    "trade_price must be one of ask, mid, bid": {"trade_price": "mean"},
    "genesis_ms": {"genesis_ms": -1},
    "time_lapse must be an integer from 1 to 3600, not 0": {"time_lapse": 0},
    "time_lapse": {"time_lapse": 3_601},
    "slot_minutes must divide 60": {"slot_minutes": 7},
    "slot_minutes": {"slot_minutes": 120},
    "market_start_ms must be the start of a slot": {"market_start_ms": START_MS + 1},
    "gate_lead_ms": {"gate_lead_ms": -1},
    "settle_window_ms": {"settle_window_ms": 0},
    "settle_window_ms long": {"settle_window_ms": 201 * SLOT_MS},
    "utc_offsets must have 1": {"utc_offsets": ()},
    "utc_offsets: the dates must ascend": {"utc_offsets": ((0, 0), (0, 60))},
    "utc_offsets: the first row": {"utc_offsets": ((START_MS + 1, 0),)},
    "utc_offsets: an offset in minutes": {"utc_offsets": ((0, 2_000),)},
    "feed_in: a price": {"feed_in": ((0, -1),)},
    "feed_in must have": {"feed_in": ()},
    "tariffs must have": {"tariffs": ()},
    "tariffs: each table": {"tariffs": ((0, ()),)},
    "tariffs: each table has 1": {"tariffs": ((0, ((5, 1),)),)},
    "tariffs: the bands' minutes": {"tariffs": ((0, ((0, 1), (5, 1), (5, 2))),)},
    "tariffs: the bands' minutes must ascend within": {"tariffs": ((0, ((0, 1), (1440, 1))),)},
    "tariffs: a price": {"tariffs": ((0, ((0, 0),)),)},
    "margin_percent": {"margin_percent": 101},
    "penalty_micro_per_kwh": {"penalty_micro_per_kwh": -1},
    "keep_slots": {"keep_slots": 0},
    "orders_per_home_max": {"orders_per_home_max": 0},
    "horizon_slots": {"horizon_slots": True},
    "suggested_ask_percent must be an integer from 0 to 1000": {"suggested_ask_percent": 1_001},
    "suggested_bid_shift_percent": {"suggested_bid_shift_percent": -1},
    "suggested_last must be an integer from 1 to 32, not 33": {"suggested_last": 33},
    "regulator": {"regulator": "bank"},
    "is used twice": {"homes": (HOME, HOME)},
    "is used twice ": {"regulator": HOME.address},
    "is no account address": with_home(meter="cw12"),
    "role must be one of": with_home(role="owner"),
    "name must have": with_home(name=""),
    "balance_micro": with_home(balance_micro=-1),
    "import_cap_w": with_home(import_cap_w=10**10),
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_parameters_are_named(words: str) -> None:
    with pytest.raises(ParamsError) as caught:
        params(**WRONG[words]).check()
    assert words.strip().removesuffix(" long") in str(caught.value)


def test_too_many_homes() -> None:
    home = msgspec.structs.replace(HOME)
    with pytest.raises(ParamsError, match="at most 5000"):
        params(homes=tuple([home] * 5_001)).check()


def test_defaults_and_round_trip() -> None:
    market = params().check()
    clock = market.clock()
    assert clock.gate_lead_ms == SLOT_MS // 3
    assert clock.settle_window_ms == 2 * SLOT_MS
    again = decode(encode(market), MarketParams, 100_000)
    assert again == market
    assert again.fingerprint() == market.fingerprint()
    assert params(margin_percent=11).fingerprint() != market.fingerprint()
    assert params(feed_in=((0, FEED_IN + 1),)).fingerprint() != market.fingerprint()


def test_an_entry_needs_no_battery() -> None:
    key = HOME_KEYS[0]
    entry = HomeEntry(key.address, key.derive("meter").address, "a", "consumer", 1, 0)
    assert (entry.battery_wh, entry.pv_w, entry.balance_micro) == (0, 0, 0)
    assert REGULATOR.address != entry.address


def test_no_more_prices_can_count_than_are_remembered() -> None:
    assert f"\nLIMITS_MAX = {LIMITS_MAX}\n" in contracts.source("matching")
