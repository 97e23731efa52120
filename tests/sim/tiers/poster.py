"""Who of a region posts what is due between the tiers, and when.

What is due is the daemon's rule (`node/due.py`).
"""

from typing import TYPE_CHECKING, Final

from consensus.light import SignedHeader
from market.client import Call
from node.due import Proven, Standing, due_in_region, due_on_main

if TYPE_CHECKING:
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
        self, node: "TierNode", standing: Standing, proven: Proven, ends: dict[int, SignedHeader]
    ) -> None:
        """An answer has come."""
        calls = self.calls_on_main(node, standing)
        if calls and self.is_turn(node, "main", standing.anchored):
            for call in calls:
                node.send_call(node.account, call, to_main=True)
        calls = due_in_region(node.shown, proven, ends.get)
        if calls and self.is_turn(node, "region", proven.anchored + proven.head.header.epoch):
            for call in calls:
                node.send_call(node.account, call, to_main=False)

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
