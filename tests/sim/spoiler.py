"""What a faulty authority puts into its blocks: what no honest one would build."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgspec.structs import replace

from consensus.messages import Evidence, Header
from tests.sim.app import Settle, Transfer
from tests.sim.liar import false_evidence, own_evidence
from wire.codec import encode

if TYPE_CHECKING:
    from tests.sim.node import SimNode

FAR_FUTURE_MS = 60_000
NEAR_PAST_MS = 2_500
OLD_EVIDENCE_KEPT = 16


class Spoiler:
    """Spoils the blocks that one faulty authority builds."""

    def __init__(self, node: "SimNode") -> None:
        self._node = node
        self._old_evidence: list[Evidence] = []

    def remember(self, evidence: Iterable[Evidence]) -> None:
        """Keep what has been committed, to say it again."""
        self._old_evidence = [*self._old_evidence, *evidence][-OLD_EVIDENCE_KEPT:]

    def body(
        self, txs: list[bytes], evidence: list[Evidence]
    ) -> tuple[list[bytes], list[Evidence]]:
        """Money that is not there, a slot or a transfer once more, evidence that proves nothing."""
        world, state = self._node.world, self._node.database.state
        ledger, rng = state.ledger, world.rng
        choice = rng.randrange(7)
        if world.has_short_window and rng.random() < 0.5:
            choice = 5
        if choice == 0:
            amount = ledger.balances[0] + 1
            txs = [encode(Transfer(0, ledger.nonces[0], 1 % len(ledger.balances), amount))]
        elif choice == 1 and ledger.settled:
            txs = [*txs, encode(Settle(rng.choice(ledger.settled)))]
        elif choice == 2:
            old = [number for number, nonce in enumerate(ledger.nonces) if nonce]
            if old:
                account = rng.choice(old)
                txs = [*txs, encode(Transfer(account, ledger.nonces[account] - 1, 0, 1))]
        elif choice == 3 and state.height:
            evidence = [*evidence, false_evidence(state.seats, state.height, rng)]
        elif choice == 4 and self._old_evidence:
            evidence = [rng.choice(self._old_evidence)]
        elif choice == 5 and state.height:
            # The older, the further from what any pool would propose.
            height = 1 + int(state.height * rng.random() ** 2)
            authorities = state.sets.by_epoch[world.rules.epoch_of(height)]
            own = own_evidence(authorities, self._node.public, height, rng, world.chain_id)
            evidence = [own] if own is not None else evidence
        return txs, evidence

    def header(self, header: Header, parent: Header) -> Header:
        """A root that is not its own, a time that cannot be, or nothing wrong at all."""
        rng = self._node.world.rng
        choice = rng.randrange(6)
        if choice == 0:
            return replace(header, state_root=header.parent_hash)
        if choice == 1:
            return replace(header, time_ms=max(0, header.time_ms - FAR_FUTURE_MS))
        if choice == 2:
            return replace(header, time_ms=header.time_ms + FAR_FUTURE_MS)
        if choice == 3:
            return replace(header, time_ms=max(0, parent.time_ms - rng.randrange(NEAR_PAST_MS)))
        return header
