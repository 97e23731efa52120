"""The market as a home sees it when it plans a slot."""

from hems.agents.base import Prior
from hems.bid import Suggested
from hems.home import MarketView
from market import client
from market.genesis import MarketParams
from node.home.trading import Query


def market_view(query: Query, params: MarketParams, slot: int, address: str) -> MarketView:
    """Return the prices that bear on a slot, and what the home may still do in it.

    The tariff of other moments is asked for when the plan comes to them.
    """
    prices = client.prices(query, slot)
    home = client.home(query, address)
    tariffs: dict[int, int] = {}

    def tariff(moment_ms: int) -> int:
        number = moment_ms // params.slot_ms
        if number not in tariffs:
            tariffs[number] = client.grid_price(query, number).tariff_micro_per_kwh
        return tariffs[number]

    return MarketView(
        tariff,
        prices.feed_in_micro_per_kwh,
        Suggested(prices.suggested_sell_micro_per_kwh, prices.suggested_buy_micro_per_kwh),
        params.penalty_micro_per_kwh,
        prior_of(prices),
        home.export_cap_w,
        strain(client.record(query, home.number), slot, params),
    )


def prior_of(prices: client.Prices) -> Prior | None:
    """Return what the last round traded at; None before there was one."""
    if prices.last_high_micro_per_kwh == 0:
        return None
    return Prior(prices.last_low_micro_per_kwh, prices.last_high_micro_per_kwh)


def strain(record: client.Record, slot: int, params: MarketParams) -> float:
    """Return the share of the defaults that the audit allows which a home has had, 0 to about 1.

    As the contract counts: of the last `history_slots`, and not before `history_min` of them.
    """
    kept = [was_kept for at, was_kept in record.history if at > slot - params.history_slots]
    allowed = max(len(kept), params.history_min) * params.default_rate_max_percent
    return min(1.0, kept.count(False) * 100 / allowed) if allowed else float(False in kept)
