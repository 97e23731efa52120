"""A node that shows what has become of checkpoints, over chains made without a network."""

from typing import Any

from consensus.checkpoint import Checkpoint
from consensus.light import SignedHeader
from consensus.sync_messages import Headers
from market.client import regions
from node.genesis import GENESIS_VERSION, ChainParams, Genesis
from node.proofs.anchoring import AnchorProof
from node.proofs.bill import ProvenEntry
from tests.regions.grid import Certified, Chain, Main, Region
from wire.codec import decode, encode


class Server:
    """A region with short epochs, under a main chain with short ones; two records are anchored."""

    def __init__(self) -> None:
        self.region = Region(1, homes=1, epoch_blocks=4)
        self.main = Main([self.region.sponsor], epoch_blocks=4)
        self.main.admit(self.region)
        for _ in range(5):
            self.region.block(at_ms=self.region.time_ms + 60_000)
        ends = [block for block in self.region.blocks if block.result.next.epoch > 0]
        self.main.ok(self.region.seated[0], self._rotation(ends[0]))
        for checkpoint in self.region.checkpoints[:2]:
            assert self.main.anchor(self.region, checkpoint).code == "ok"
        publics = tuple(one.public for one in self.region.seated)
        self.genesis = Genesis(GENESIS_VERSION, publics, ChainParams(), self.region.app.params)

    def _rotation(self, block: Certified) -> Any:
        return regions.rotate(1, self.region.signed_header(block))

    def proof(self, number: int) -> AnchorProof:
        app = self.main.app
        keys = (regions.anchored_key(1), regions.root_key(1, number))
        entries = tuple(ProvenEntry(key, app.value(key), app.prove(key)) for key in keys)
        head = self.main.head
        assert head is not None
        return AnchorProof(self.checkpoint(number), signed(self.main, head), entries)

    def checkpoint(self, number: int) -> Checkpoint:
        return self.region.checkpoints[number - 1]

    # -- as `node.proofs.anchoring.AnchorSource`

    async def anchor(self, number: int) -> bytes:
        return encode(self.proof(number))

    async def path(self, epoch: int, height: int) -> bytes:
        return encode(Headers(way(self.region, epoch, height)))

    async def main_path(self, epoch: int, height: int) -> bytes:
        return encode(Headers(way(self.main, epoch, height)))


def signed(chain: Chain, block: Certified) -> SignedHeader:
    return decode(bytes.fromhex(chain.signed_header(block)), SignedHeader, 8_000)


def way(chain: Chain, epoch: int, height: int) -> tuple[SignedHeader, ...]:
    """Return the ends of epochs from `epoch` on, and the header at `height`."""
    ends = [
        block
        for block in chain.blocks
        if block.header.epoch >= epoch
        and block.header.height < height
        and block.header.next_authorities_hash != block.header.authorities_hash
    ]
    last = [block for block in chain.blocks if block.header.height == height]
    return tuple(signed(chain, block) for block in [*ends, *last])
