"""Brings transactions straight to who proposes next.

A gossip message reaches every node several times; a block needs a transaction at one proposer. So a
batch goes by direct stream to the next f + 2 proposers, where this node is connected with all of
them, and to nobody else: the others meet its transactions in the block. Should the first of them
be away, f + 1 are left who want a block, and so few begin the round. Where this node is not
connected with all, the mempool gossips.
"""

from collections.abc import Callable
from typing import Final

from node.chain.driver import Chain
from node.network.base import EXCESS, EXCESS_OFFENCES, GOSSIP_BYTES_MAX, Network, Verdict
from wire.keys import peer_id_of

PROTOCOL: Final = "transactions"


class Courier:
    """Hands batches to the next proposers, and takes in those of others."""

    def __init__(
        self,
        chain: Chain,
        network: Network,
        check: Callable[[str, bytes], Verdict],
        receive: Callable[[str, bytes], None],
    ) -> None:
        self._chain = chain
        self._network = network
        self._check = check
        self._receive = receive
        network.on_send(PROTOCOL, self._arrived)

    def weight(self) -> float:
        """Return how many are told of a batch, compared with a street of four authorities."""
        return (self._chain.next_authorities.f + 2) / 3

    def hand_over(self, batch: bytes) -> bool:
        """Send a batch to the next proposers; False, and nothing sent, if one is not connected."""
        authorities = self._chain.next_authorities
        first = self._chain.height + 1
        connected = {peer.peer_id for peer in self._network.peers()}
        told = []
        for step in range(authorities.f + 2):
            index = authorities.proposer(first + step, 0)
            if index == self._chain.index:
                continue
            peer_id = peer_id_of(authorities.publics[index])
            if peer_id not in connected:
                return False
            told.append(peer_id)
        # One that is lost on the way is said again by gossip, as all that stays undecided.
        for peer_id in told:
            self._network.send(peer_id, PROTOCOL, batch)
        return True

    def _arrived(self, peer: str, data: bytes) -> None:
        verdict = len(data) <= GOSSIP_BYTES_MAX and self._check(peer, data)
        if verdict == EXCESS:
            # What an authority says too much of is dropped, too; but without it no block is sure.
            if peer not in self._chain.other_authorities:
                what = "more transactions than a peer may bring"
                self._network.penalize(peer, what, EXCESS_OFFENCES)
        elif verdict is False:
            self._network.penalize(peer, "a batch that no honest node sends")
        elif verdict is not None:
            self._receive(peer, data)
