"""What a household has sealed: kept until it is revealed, or its window is over.

Orders and salt are on disk before the commitment is said (`node/home/memory.py`): who forgets
either cannot reveal, and loses the margin. They are revealed once the chain itself is past the
gate, not the home's clock: until then a block that takes commitments may yet come, and what is
revealed too early all could answer.
"""

import secrets
from collections.abc import Iterable, Sequence
from typing import Final

from market import client
from market.client import sealed
from market.client.sealed import SealedOrder
from market.genesis import MarketParams
from market.time import Clock
from node.home.memory import HomeMemory, SealedBid
from node.home.trading import Query
from wire.codec import Plain
from wire.transaction import CheckedTransaction

WH_PER_W_MS: Final = 3_600_000
# How often one slot's orders are revealed by one life of the daemon: what is refused for good shall
# not be said in every block.
REVEALS_PER_SLOT_MAX: Final = 4


class Sealing:
    """What one home has sealed.

    Parameters
    ----------
    params : MarketParams
        Of a market whose orders are sealed.
    query : callable
        Asks a contract at the committed state.
    memory : HomeMemory
        Where orders and salts are kept; durable with its next `save`.
    address : str
        The home's account.
    """

    def __init__(
        self, params: MarketParams, query: Query, memory: HomeMemory, address: str
    ) -> None:
        self._params = params
        self._clock: Clock = params.clock()
        self._query = query
        self._memory = memory
        self._address = address
        self._revealed: dict[int, int] = {}

    def knows(self, slot: int) -> bool:
        """Tell whether something is sealed for a slot already; it stays as it is."""
        return slot in self._memory.sealed

    def calls(self, slot: int, orders: Sequence[client.Call]) -> list[client.Call]:
        """Seal orders (calls of `post_order`) for a slot; return what commits to them, if any.

        A commitment that nothing is known of any more, because the memory was lost, is taken back.
        """
        home = client.home(self._query, self._address)
        if sealed.commitment(self._query, slot, home.number) is not None:
            return [sealed.withdraw_commitment(slot)]
        tariff = client.grid_price(self._query, slot).tariff_micro_per_kwh
        most_wh = max(home.import_cap_w, home.export_cap_w) * self._params.slot_ms // WH_PER_W_MS
        margin = self._margin(most_wh, tariff)
        rows = self._within([_row(order.args) for order in orders], tariff, margin)
        if not rows:
            return []
        salt = secrets.token_bytes(sealed.SALT_BYTES)
        self._memory.sealed[slot] = SealedBid(rows, salt)
        digest = sealed.digest_of(slot, self._address, rows, salt)
        return [sealed.commit_order(slot, digest, margin)]

    def withdrawals(self, slot: int) -> list[client.Call]:
        """Return what takes back the commitment of a slot, if there is one.

        What is sealed is kept: should the withdrawal come too late, it is revealed.
        """
        number = client.home(self._query, self._address).number
        stands = sealed.commitment(self._query, slot, number) is not None
        return [sealed.withdraw_commitment(slot)] if stands else []

    def due(self, now_ms: int, said: Iterable[CheckedTransaction]) -> list[tuple[client.Call, int]]:
        """Return what reveals the slots whose gate the chain is past, and until when it counts.

        Parameters
        ----------
        now_ms : real time [ms]; what is over by then is forgotten.
        said : what is said and not decided.
        """
        clock = self._clock
        for slot in [s for s in self._memory.sealed if clock.clearing_real_ms(s) < now_ms]:
            del self._memory.sealed[slot]
            self._revealed.pop(slot, None)
        if not any(clock.gate_close_real_ms(slot) <= now_ms for slot in self._memory.sealed):
            return []
        waiting = {tx.tx.args["slot"] for tx in said if tx.tx.entry == "reveal_order"}
        number = client.home(self._query, self._address).number
        found = []
        for slot in sealed.to_reveal(self._query, number):
            bid = self._memory.sealed.get(slot)
            tried = self._revealed.get(slot, 0)
            if bid is None or slot in waiting or tried >= REVEALS_PER_SLOT_MAX:
                continue
            self._revealed[slot] = tried + 1
            call = sealed.reveal_order(slot, bid.orders, bid.salt)
            found.append((call, clock.clearing_real_ms(slot)))
        return found

    def _margin(self, most_wh: int, tariff: int) -> int:
        """Return a margin that tells nothing: of all the meter may do, halved until it is there."""
        margin = sealed.margin_of(most_wh, tariff, self._params.margin_percent)
        balance_micro = client.account(self._query, self._address).balance_micro
        while margin > balance_micro:
            margin //= 2
        return margin

    def _within(self, orders: list[SealedOrder], tariff: int, margin: int) -> list[SealedOrder]:
        """Return orders that need at most this margin, the first ones first."""
        percent = self._params.margin_percent
        found = []
        for order in orders[: self._params.orders_per_home_max]:
            energy_wh = order.energy_wh
            if percent:
                energy_wh = min(energy_wh, margin * 100_000 // (tariff * percent))
            if energy_wh > 0:
                found.append(
                    SealedOrder(order.side, energy_wh, order.price_micro_per_kwh, order.terms)
                )
                margin -= sealed.margin_of(energy_wh, tariff, percent)
        return found


def _row(args: dict[str, Plain]) -> SealedOrder:
    return SealedOrder(args["side"], args["energy_wh"], args["price_micro_per_kwh"], args["terms"])
