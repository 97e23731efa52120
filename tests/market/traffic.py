"""Random traffic for a street: what homes, meters and the regulator may send, right and wrong."""

import random
from typing import Any

from market import carbon, client
from market.client import Call
from tests.market.street import HOME_KEYS, METER_KEYS, REGULATOR, SLOT_MS, START_MS
from wire.keys import SigningKey

HOMES = 6


class Traffic:
    """A seeded stream of transactions that follows the market's time."""

    def __init__(self, seed: int, mechanism: str = "high_low", terms: bool = True) -> None:
        self._random = random.Random(seed)
        self._mechanism = mechanism
        self._terms = terms
        self._sequence = 0

    def next_step_ms(self) -> int:
        """How far the next block is from the last one. [ms]"""
        return self._random.choice([1_000, 30_000, 60_000, 240_000, 600_000])

    def transaction(self, time_ms: int) -> tuple[SigningKey, Call]:
        """Return a sender and what it asks for."""
        random_ = self._random
        slot = time_ms // SLOT_MS
        kind = random_.random()
        number = random_.randrange(HOMES)
        if kind < 0.45 and self._mechanism == "request_offer":
            return HOME_KEYS[number], self._request(time_ms, number)
        if kind < 0.45:
            return HOME_KEYS[number], self._order(slot, number, time_ms)
        if kind < 0.82:
            self._sequence += 1
            read = slot - random_.choice([0, 1, 1, 1, 1, 1, 2, 2, 3])
            sequence = self._sequence - random_.choice([0] * 12 + [9])
            return METER_KEYS[self._sequence % HOMES], client.post_reading(
                read, self._energy(), self._energy(), max(1, sequence)
            )
        if kind > 0.95:
            return self._carbon(slot, number)
        if kind < 0.88:
            order_id = f"{slot + random_.randrange(1, 4)}-{random_.randrange(1, 12)}"
            return HOME_KEYS[number], client.withdraw_order(order_id)
        return self._money(number)

    def _request(self, time_ms: int, number: int) -> Call:
        random_ = self._random
        kind = random_.random()
        known = random_.randrange(1, 12)
        if kind < 0.4:
            start = time_ms + random_.choice([0, 301_000, 600_000, 900_001, 3_000_000])
            end = start + random_.choice([0, 1, 900_000, 2_700_000, 4_500_001])
            limit = random_.choice([0, 0, 150_000, -1])
            return client.post_request(start, end, self._energy(), random_.random() < 0.9, limit)
        if kind < 0.9:
            price = random_.choice([0, 100_000, random_.randrange(1, 260_000)])
            return client.post_offer(known, self._energy(), price)
        return client.withdraw_offer(known, random_.randrange(0, 4))

    def _order(self, slot: int, number: int, time_ms: int) -> Call:
        random_ = self._random
        side = ["buy", "sell"][number % 2 ^ (random_.random() < 0.1)]
        price = random_.choice([200_000, 250_000, random_.randrange(0, 260_000)])
        ahead = random_.choice([0, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 200])
        terms: dict[str, Any] = {}
        if not self._terms:
            return client.post_order(slot + ahead, side, self._energy(), price)
        if random_.random() < 0.15:
            terms["expires_ms"] = time_ms + random_.choice([-1, 1, 60_000, 600_000])
        if random_.random() < 0.1:
            terms["green"] = side == "buy"
        if random_.random() < 0.1:
            terms["partner"] = random_.randrange(0, HOMES + 2)
        return client.post_order(slot + ahead, side, self._energy(), price, **terms)

    def _energy(self) -> int:
        random_ = self._random
        usual = random_.randrange(1, 900)
        return random_.choice([0, 500, usual, usual, usual, usual, random_.randrange(-500, 3_000)])

    def _carbon(self, slot: int, number: int) -> tuple[SigningKey, Call]:
        random_ = self._random
        period = random_.choice([1, 1, 1, 2, 3])
        offer = random_.randrange(1, 5)
        amount = random_.choice([1, 60_000, random_.randrange(-5, 300_000)])
        first = slot + random_.choice([-1, 1, 1, 2])
        table = (first + random_.randrange(1, 8)) * SLOT_MS
        band = [[0, random_.randrange(-1, 900)], [600, 1]]
        kind = random_.choice(["tariffs", "feed_in", "intensities", "utc_offsets"])
        home = HOME_KEYS[number]
        return random_.choice(
            [
                (REGULATOR, carbon.open_period(first, first + random_.randrange(4), 40_000)),
                (REGULATOR, carbon.allot(period, [(number + 1, amount), (1, 5)])),
                (REGULATOR, client.post_table(kind, table, band)),
                (REGULATOR, client.post_table("utc_offsets", table, random_.randrange(900))),
                (home, carbon.offer_quota(period, amount, random_.choice([0, 30_000]))),
                (home, carbon.buy_quota(period, offer, random_.choice([1, amount]))),
                (home, carbon.withdraw_quota(period, offer)),
            ]
        )

    def _money(self, number: int) -> tuple[SigningKey, Call]:
        random_ = self._random
        amount = random_.choice([0, 1, 1_000, random_.randrange(1, 600_000)])
        home = HOME_KEYS[number]
        other = random_.choice([*HOME_KEYS[:HOMES], REGULATOR]).address
        return random_.choice(
            [
                (home, client.transfer(other, amount)),
                (home, client.pay_arrears(amount)),
                (REGULATOR, client.mint(other, amount)),
                (REGULATOR, client.redeem(amount)),
                (home, client.redeem(amount)),
                (home, Call("market", "post_order", {"slot": None, "side": [], "energy_wh": {},
                                                     "price_micro_per_kwh": "x"})),
                (METER_KEYS[number], Call("settlement", "post_reading", {"slot": START_MS,
                 "import_wh": [1], "export_wh": "é", "sequence": -(2**63)})),
            ]
        )  # fmt: skip
