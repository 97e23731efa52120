"""Auditing another region: execute its blocks, say that they follow, or prove that one does not.

All of it is a function of data alone; whence the data come is the caller's affair.
"""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from consensus.authorities import verify_certificate
from consensus.checkpoint import record_key
from consensus.errors import BlockRefused, CertificateRefused
from consensus.messages import Block, Certificate, Header, header_hash
from consensus.validate import body_problem
from market.app import Application
from market.errors import MarketError, StateError
from node.chain.epochs import Epochs
from node.errors import BadBlock, BadSnapshot
from node.genesis import Genesis
from node.regions.certifier import natives
from node.regions.replay import FraudProof, executed, maker_of, prove
from wire.errors import WireError


class Duty(NamedTuple):
    """What an auditor is drawn for, as the main chain's contract `audit` says it."""

    region: int
    number: int
    epoch: int
    from_height: int
    to_height: int
    record_hash: str
    block_hash: str
    answer_by_ms: int


class Finding(NamedTuple):
    """What an audit came to: `proof` that a block does not follow, else `problem`, or neither."""

    proof: FraudProof | None
    problem: str


class Follower:
    """A region's chain, executed by somebody who trusts none of its authorities.

    Parameters
    ----------
    genesis : Genesis
        The region's. The chain is founded by it; `jump` takes a later state over.
    inherited : iterable of (str, bytes)
        What a chain in another's place begins with.

    Raises
    ------
    BadSnapshot
        What is inherited is not what the genesis names.
    """

    def __init__(self, genesis: Genesis, inherited: Iterable[tuple[str, bytes]] = ()) -> None:
        self.genesis = genesis
        self._app = Application(genesis.market, founding=genesis.founding(), natives=natives())
        self._epochs = Epochs(genesis, self._app)
        self._maker = maker_of(genesis, self._app)
        try:
            founded = self._app.genesis(inherited)
        except (StateError, WireError) as error:
            raise BadSnapshot(f"the beginning of chain {genesis.chain_id}: {error}") from None
        self.head: Header = self._maker.genesis_block(founded).header
        self._app.commit(founded)

    @property
    def height(self) -> int:
        """The height of the last block that was executed and follows."""
        return self.head.height

    def jump(self, header: Header, items: Iterable[tuple[str, bytes]]) -> None:
        """Take over a state, as of a header whose certificate has been checked elsewhere.

        Raises
        ------
        BadSnapshot
            It is not the state after this header. Nothing has changed.
        """
        try:
            loaded = self._app.prepare(items, header.height, header.state_root)
        except (MarketError, WireError) as error:
            raise BadSnapshot(f"the state of height {header.height}: {error}") from None
        self._app.adopt(loaded)
        self.head = header

    def take(self, block: Block, certificate: Certificate) -> FraudProof | None:
        """Execute the next block; return the proof if it does not follow.

        Raises
        ------
        BadBlock
            It is not the next block, or not what a quorum of the region has certified: whoever
            showed it is to blame, and nothing is proven of the region.
        """
        header = block.header
        if header.height != self.height + 1 or header.parent_hash != header_hash(self.head):
            raise BadBlock(f"block {header.height} is not the one after {self.height}")
        if (certificate.height, certificate.block_hash) != (header.height, header_hash(header)):
            raise BadBlock(f"block {header.height} is shown with another block's certificate")
        authorities = self._epochs.of_height(header.height)
        if authorities is None:
            raise BadBlock(f"nothing says who decided block {header.height}")
        try:
            verify_certificate(certificate, authorities, self.genesis.chain_id)
        except CertificateRefused as refused:
            raise BadBlock(f"block {header.height}: {refused}") from None
        problem = body_problem(block)
        if problem:
            raise BadBlock(f"block {header.height}: {problem}")
        result = executed(self._maker, block, self.head)
        if isinstance(result, BlockRefused):
            return prove(self.genesis, self._app, self.head, block, certificate)
        self._app.commit(result)
        self.head = header
        return None

    def record_hash(self, number: int) -> str:
        """Return the hash of the region's own record of this number; empty if it has none."""
        data = self._app.value(record_key(number))
        return "" if data is None else hashlib.sha256(data).hexdigest()


def audit(follower: Follower, blocks: Iterable[tuple[Block, Certificate]], duty: Duty) -> Finding:
    """Execute blocks up to the end of a duty's record.

    Parameters
    ----------
    follower : Follower
        At a height that is audited, or before it.
    blocks : iterable of (Block, Certificate)
        From the next height on.

    Returns
    -------
    Finding
        With a proof, with a problem that proves nothing (the region's chain is another one than
        what is anchored; the blocks end too early), or with neither: the record is sound.

    Raises
    ------
    BadBlock
        As `Follower.take`.
    HostFailure
        A block that does not follow takes more work to show than a judge may be given.
    """
    for block, certificate in blocks:
        if follower.height >= duty.to_height:
            break
        proof = follower.take(block, certificate)
        if proof is not None:
            return Finding(proof, "")
    if follower.height != duty.to_height:
        return Finding(None, f"blocks up to {follower.height} are shown, not to {duty.to_height}")
    if header_hash(follower.head).hex() != duty.block_hash:
        return Finding(None, f"block {duty.to_height} is another one than the anchored one")
    if follower.record_hash(duty.number) != duty.record_hash:
        return Finding(None, f"record {duty.number} is another one than the anchored one")
    return Finding(None, "")
