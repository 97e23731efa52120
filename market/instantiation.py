"""What each contract is instantiated with, from the genesis' parameters."""

from typing import Final

from market import tiers
from market.genesis import Founding, MarketParams
from market.time import Clock
from wire.codec import Plain
from wire.keys import address_of

# Parameters that a contract's rules take over by name.
_MARKET_RULES: Final = (
    "mechanism",
    "sealed",
    "trade_price",
    "uniform_price",
    "intraday_every_ms",
    "margin_percent",
    "price_max_micro_per_kwh",
    "energy_max_wh",
    "horizon_slots",
    "orders_per_slot_max",
    "orders_per_home_max",
    "unsettled_orders_max",
    "history_slots",
    "history_max",
    "history_min",
    "default_rate_max_percent",
)
_REQUEST_RULES: Final = (
    "mechanism",
    "horizon_slots",
    "orders_per_home_max",
    "margin_percent",
    "energy_max_wh",
    "price_max_micro_per_kwh",
)
_SEALED_RULES: Final = ("orders_per_home_max", "orders_per_slot_max")
_SETTLEMENT_RULES: Final = (
    "mechanism",
    "sharing_key",
    "sharing_price_micro_per_kwh",
    "penalty_micro_per_kwh",
    "shortfall_tolerance_percent",
)


def arguments(params: MarketParams, founding: Founding) -> dict[str, dict[str, Plain]]:
    """Return the arguments of each contract's `instantiate`, by contract."""
    clock = params.clock()
    exports = {"exports": tiers.exports(params.region)}
    times = {
        "slot_ms": clock.slot_ms,
        "gate_lead_ms": clock.gate_lead_ms,
        "settle_window_ms": clock.settle_window_ms,
        "keep_slots": params.keep_slots,
    }
    reveal = {"reveal_ms": clock.reveal_ms}
    return {
        "ledger": _ledger(params, founding),
        "registry": _registry(params),
        "tariff": _tariff(params, clock),
        "market": _rules(params, _MARKET_RULES)
        | {"lines": params.lines, "auctions": params.auctions, "weights": _weights(params)}
        | times
        | exports
        | reveal
        | {"regulator": params.regulator},
        "sealed": _rules(params, _SEALED_RULES) | times | reveal,
        "requests": _rules(params, _REQUEST_RULES)
        | {
            "offer_timeout_ms": params.slot_ms // 3
            if params.offer_timeout_ms is None
            else params.offer_timeout_ms
        }
        | times,
        "settlement": _rules(params, _SETTLEMENT_RULES) | times | exports | reveal,
        "carbon": {
            "regulator": params.regulator,
            "slot_ms": clock.slot_ms,
            "settle_window_ms": clock.settle_window_ms,
        },
        "footprint": {"regulator": params.regulator},
        "governance": _governance(founding),
    } | tiers.arguments_of(
        params.region, params.main, clock.slot_ms, params.market_start_ms // clock.slot_ms
    )


def _rules(params: MarketParams, names: tuple[str, ...]) -> dict[str, Plain]:
    return {name: getattr(params, name) for name in names}


def _weights(params: MarketParams) -> list[Plain]:
    return [
        params.suggested_ask_percent,
        params.suggested_ask_shift_percent,
        params.suggested_bid_percent,
        params.suggested_bid_shift_percent,
        params.suggested_last,
    ]


def _ledger(params: MarketParams, founding: Founding) -> dict[str, Plain]:
    balances = {params.regulator: 0} | {home.address: home.balance_micro for home in params.homes}
    if params.main is not None:
        balances |= dict(params.main.sponsors)
    for public in founding.authorities:
        address = address_of(public)
        balances[address] = balances.get(address, 0) + founding.governance.bond_micro
    return {
        "regulator": params.regulator,
        "accounts": [list(account) for account in balances.items()],
        "keepers": tiers.keepers_of(params.region, params.main, params.sealed),
    }


def _registry(params: MarketParams) -> dict[str, Plain]:
    homes = [
        {
            "address": home.address,
            "meter": home.meter,
            "name": home.name,
            "role": home.role,
            "import_cap_w": home.import_cap_w,
            "export_cap_w": home.export_cap_w,
            "battery_wh": home.battery_wh,
            "pv_w": home.pv_w,
            "place": [home.line, home.cluster, home.green],
        }
        for home in params.homes
    ]
    return {
        "regulator": params.regulator,
        "homes": homes,
        "lines": len(params.lines),
        "first_slot": params.market_start_ms // params.slot_ms,
    }


def _tariff(params: MarketParams, clock: Clock) -> dict[str, Plain]:
    return {
        "regulator": params.regulator,
        "utc_offsets": params.utc_offsets,
        "tariffs": params.tariffs,
        "feed_in": [[from_ms, [[0, price]]] for from_ms, price in params.feed_in],
        "intensities": params.intensities,
        "fees": params.fees,
        "coefficients": params.coefficients,
        "feed_in_enabled": params.feed_in_enabled,
        "slot_ms": clock.slot_ms,
        "keep_slots": params.keep_slots,
        # A main chain has tables, and nobody who orders by them.
        "orders": params.main is None,
    }


def _governance(founding: Founding) -> dict[str, Plain]:
    seated = seats(founding)
    return {
        "authorities": seated["seats"],
        "params": dict(founding.chain),
        "rules": seated["rules"],
    }


def seats(founding: Founding) -> dict[str, Plain]:
    """Return the founders' seats and the rules by which they change."""
    return {
        "seats": [[public.hex(), address_of(public)] for public in founding.authorities],
        "rules": {
            "epoch_blocks": founding.governance.epoch_blocks,
            "bond_micro": founding.governance.bond_micro,
            "expiry_blocks_max": founding.governance.expiry_blocks_max,
            "evidence_blocks": founding.evidence_blocks,
        },
    }
