"""Who of a region posts what is due between the tiers, and when.

What is due is the daemon's rule (`node/regions/due.py`).
"""

from typing import TYPE_CHECKING, Any, Final, cast

from consensus.light import SignedHeader
from market.client import Call
from node.regions import exchange
from node.regions.due import CALLS_MAX, Proven, Standing, due_in_region, due_on_main
from tests.sim.tiers.views import standing_of
from wire.codec import encode

if TYPE_CHECKING:
    from tests.sim.tiers.chains import TierState
    from tests.sim.tiers.node import TierNode

# So long each seat leaves to the one before it; and so long it waits for what it has posted.
STAGGER_MS: Final = 3_000
PATIENCE_MS: Final = 20_000


class Poster:
    """Posts for one node: asks a node of the main chain how things are, and says what is due."""

    def poll(self, node: "TierNode") -> None:
        """Once a second: ask anybody of the main chain."""
        grid = node.world.grid
        other = grid.rng.choice(grid.main.nodes)
        grid.send(node, other, ("ask-main", node.shown.main_epoch))

    def hear(
        self, node: "TierNode", proven: Proven, ends: dict[int, SignedHeader], main: "TierState"
    ) -> None:
        """An answer has come: the main chain's state after a head, and what leads up to it."""
        standing = standing_of(main, node.world.number)
        calls = self.calls_on_main(node, standing)
        self._post(node, "main", standing.anchored, calls)
        calls = exchange.offers_due(node.database.offers, cast(Any, main))
        self._post(node, "offers", sum(call.args["number"] for call in calls), calls)
        calls = due_in_region(node.shown, proven, ends.get)
        self._post(node, "region", proven.anchored + proven.head.header.epoch, calls)
        if not calls or calls[-1].entry == "confirm":
            calls = self.calls_in_region(node, proven, main)
            self._post(node, "trade", sum(call.args.get("slot", 0) for call in calls), calls)

    def _post(self, node: "TierNode", what: str, due: int, calls: list[Call]) -> None:
        if calls and self.is_turn(node, what, due):
            for call in calls[:CALLS_MAX]:
                if call.entry in ("claim", "refund"):
                    node.world.grid.said.append((node.world.number, call))
                to_main = call.contract in ("anchor", "regions", "exchange")
                node.send_call(node.account, call, to_main)

    def calls_in_region(self, node: "TierNode", proven: Proven, main: "TierState") -> list[Call]:
        """Return what the region is to be shown of the exchange."""
        head = encode(proven.head).hex()
        return exchange.ends_due(cast(Any, node.state), cast(Any, main), head)

    def calls_on_main(self, node: "TierNode", standing: Standing) -> list[Call]:
        """Return what the main chain waits for."""
        database, region = node.database, node.world.number
        return due_on_main(region, standing, database.checkpoints.get, database.epoch_ends.get)

    def is_turn(self, node: "TierNode", tier: str, due: int) -> bool:
        """Whether this seat posts now what is due: one after the other, each with patience."""
        now_ms = node.world.grid.now_ms
        known, since_ms, posted_ms = node.due.get(tier, (-1, now_ms, None))
        if known != due:
            since_ms, posted_ms = now_ms, None
        place = (node.slot - due) % node.world.n
        is_turn = now_ms - since_ms >= place * STAGGER_MS
        if posted_ms is not None:
            is_turn = now_ms - posted_ms >= PATIENCE_MS
        node.due[tier] = (due, since_ms, now_ms if is_turn else posted_ms)
        return is_turn
