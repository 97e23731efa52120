"""A day's carbon quotas: allotted alike, traded among homes once the day is over, paid for beyond.

Homes bid and plan as without: what a quota changes here is who pays whom. Whoever emitted less than
its quota offers the rest at half of what the excess costs, whoever emitted more buys what there is.
"""

from typing import Final

from market import carbon
from study.compare.street import Street
from study.errors import InvariantError

# Some ten times Europe's price of 2022, so that a day of a dozen homes shows it. [micro/kg]
EXCESS_MICRO_PER_KG: Final = 1_000_000
MG_PER_G: Final = 1_000
PERIOD: Final = 1
# Rows of a transaction.
ALLOT_AT_ONCE_MAX: Final = 64


def open_quotas(street: Street, days: int, quota_g: int) -> None:
    """Open a period from the second slot on, and allot every home the same."""
    first = street.first_slot + 1
    end = street.first_slot + days * street.slots_per_day
    mg = quota_g * MG_PER_G * days
    street.chain.post(street.regulator, carbon.open_period(first, end, EXCESS_MICRO_PER_KG))
    street.chain.block(street.chain.time_ms + 1)
    rows = [(number, mg) for number in range(1, len(street.homes) + 1)]
    for begin in range(0, len(rows), ALLOT_AT_ONCE_MAX):
        street.chain.post(
            street.regulator, carbon.allot(PERIOD, rows[begin : begin + ALLOT_AT_ONCE_MAX])
        )
    street.chain.block(street.chain.time_ms + 1)


def trade_quotas(street: Street) -> list[carbon.Report]:
    """Let homes trade what they have over and lack, and the period end; return its reports."""
    chain = street.chain
    for report in carbon.reports(chain.query, PERIOD):
        spare_mg = report.allotted_mg - report.emitted_mg
        if spare_mg > 0:
            call = carbon.offer_quota(PERIOD, spare_mg, EXCESS_MICRO_PER_KG // 2)
            chain.post(street.keys[report.home - 1], call)
    chain.block(chain.time_ms + 1)
    left = {offer.offer: offer.amount_mg for offer in carbon.offers(chain.query, PERIOD)}
    for report in carbon.reports(chain.query, PERIOD):
        lack_mg = report.emitted_mg - report.allotted_mg
        for offer in list(left):
            if lack_mg <= 0:
                break
            bought_mg = min(lack_mg, left[offer])
            chain.post(street.keys[report.home - 1], carbon.buy_quota(PERIOD, offer, bought_mg))
            lack_mg -= bought_mg
            left[offer] -= bought_mg
            if not left[offer]:
                del left[offer]
    chain.block(chain.time_ms + 1)
    (period,) = carbon.periods(chain.query)
    clock = street.clock
    chain.block(clock.window_end_real_ms(period.end_slot - 1) + clock.settle_window_ms + 1)
    (period,) = carbon.periods(chain.query)
    if period.status != "closed":
        raise InvariantError("the period of quotas is not closed, though all of it is settled")
    return carbon.reports(chain.query, PERIOD)
