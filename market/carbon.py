"""Typed transactions and queries of `contracts/carbon.star`; as `market/client`."""

from collections.abc import Iterable

import msgspec

from market.client import Call, Query
from wire.codec import Plain


class Period(msgspec.Struct, frozen=True):
    """A period of quotas: slots from `first_slot` up to, not with, `end_slot`; open or closed."""

    period: int
    first_slot: int
    end_slot: int
    excess_price_micro_per_kg: int
    status: str


class Report(msgspec.Struct, frozen=True):
    """A home's carbon in a period.

    Its quota is `allotted_mg + bought_mg - sold_mg`; of that `offered_mg` are for sale. `excess_mg`
    and `paid_micro` are known once the period is closed. The green amounts are certificates of
    origin that came and went with trades.
    """

    period: int
    home: int
    allotted_mg: int
    bought_mg: int
    sold_mg: int
    offered_mg: int
    emitted_mg: int
    import_wh: int
    green_bought_wh: int
    green_sold_wh: int
    excess_mg: int
    paid_micro: int

    @property
    def quota_mg(self) -> int:
        """What the home may emit without paying for it."""
        return self.allotted_mg + self.bought_mg - self.sold_mg


class QuotaOffer(msgspec.Struct, frozen=True):
    """Quota for sale."""

    period: int
    offer: int
    home: int
    amount_mg: int
    price_micro_per_kg: int


def open_period(first_slot: int, end_slot: int, excess_price_micro_per_kg: int) -> Call:
    """Open a period of slots from `first_slot` up to `end_slot`; the regulator's to do."""
    args: dict[str, Plain] = {
        "first_slot": first_slot,
        "end_slot": end_slot,
        "excess_price_micro_per_kg": excess_price_micro_per_kg,
    }
    return Call("carbon", "open_period", args)


def allot(period: int, quotas_mg: Iterable[tuple[int, int]]) -> Call:
    """Give quotas, pairs of a home's number and mg (at most 64 at once); the regulator's to do."""
    return Call("carbon", "allot", {"period": period, "rows": [list(row) for row in quotas_mg]})


def offer_quota(period: int, amount_mg: int, price_micro_per_kg: int) -> Call:
    """Offer quota for sale; it is set aside until sold or withdrawn."""
    args: dict[str, Plain] = {
        "period": period,
        "amount_mg": amount_mg,
        "price_micro_per_kg": price_micro_per_kg,
    }
    return Call("carbon", "offer_quota", args)


def withdraw_quota(period: int, offer: int) -> Call:
    """Take back what is left of one's own offer."""
    return Call("carbon", "withdraw_quota", {"period": period, "offer": offer})


def buy_quota(period: int, offer: int, amount_mg: int) -> Call:
    """Buy of an offer, all or part of it."""
    return Call("carbon", "buy_quota", {"period": period, "offer": offer, "amount_mg": amount_mg})


def periods(query: Query) -> list[Period]:
    """Return the periods that are kept, oldest first."""
    return msgspec.convert(query("carbon", "periods", {}), list[Period])


def report(query: Query, period: int, home: int) -> Report:
    """Return a home's carbon in a period; zeros if it had none."""
    return msgspec.convert(query("carbon", "report", {"period": period, "home": home}), Report)


def reports(query: Query, period: int) -> list[Report]:
    """Return all homes' carbon in a period, by number."""
    return msgspec.convert(query("carbon", "reports", {"period": period}), list[Report])


def offers(query: Query, period: int) -> list[QuotaOffer]:
    """Return the quota that is for sale, cheapest first."""
    return msgspec.convert(query("carbon", "offers", {"period": period}), list[QuotaOffer])


def community(query: Query, period: int) -> Report:
    """Return the sums over all homes of a period, as the report of home 0."""
    found = reports(query, period)
    sums = {
        name: sum(getattr(row, name) for row in found)
        for name in Report.__struct_fields__
        if name not in ("period", "home")
    }
    return Report(period=period, home=0, **sums)
