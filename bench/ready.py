"""A long chain made at once, without consensus: blocks executed and signed by all authorities."""

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from consensus.light import SignedHeader, ends_epoch
from consensus.messages import Block, Certificate, header_hash
from market import client
from market.app import Application, BlockResult
from market.vm import merkle
from market.vm.journal import State
from node.chain.blocks import BlockMaker
from node.chain.epochs import Epochs, set_of
from node.chain.store import EpochEnd, Store, StoredBlock
from node.genesis import Genesis
from node.pool.verifier import TransactionVerifier
from node.regions.certifier import natives
from tests.node.grid import REGULATOR, key_of
from tests.regions.grid import certify
from wire.codec import encode
from wire.transaction import CheckedTransaction, check

VALID_MS: Final = 600_000


@contextlib.contextmanager
def heavier_genesis(ballast: Mapping[str, bytes]) -> Iterator[None]:
    """Let the genesis state of every application in this process hold more pairs.

    So snapshots are as large as those of a chain that has lived for long.
    """
    plain = Application.genesis

    def genesis(app: Application, inherited: Iterable[tuple[str, bytes]] = ()) -> BlockResult:
        result = plain(app, inherited)
        writes = {**result.writes, **ballast}
        state = State()
        state.apply(writes)
        tree = merkle.update(None, state.items | state.folder_counts())
        return result._replace(tree=tree, state_root=merkle.root_of(tree), writes=writes)

    Application.genesis = genesis  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Application.genesis = plain  # type: ignore[method-assign]


async def make_chain(path: Path, genesis: Genesis, height: int, transfers: int) -> float:
    """Write the database of a chain with a block per second up to `height`; return seconds taken.

    Each block holds so many `transfers`.
    """
    begun = time.monotonic()
    app = Application(genesis.market, None, genesis.founding(), natives())
    verifier = TransactionVerifier(genesis.chain_id)
    maker = BlockMaker(genesis, Epochs(genesis, app), app, verifier)
    keys = {one.public: one for one in map(key_of, range(len(genesis.authorities)))}
    result = app.genesis()
    block: Block = maker.genesis_block(result)
    certificate: Certificate | None = None
    store = await Store.open(path, genesis.hash)
    await store._db.execute("PRAGMA synchronous=OFF")
    await _commit(store, app, block, None, result)
    nonce = 0
    for number in range(1, height + 1):
        time_ms = block.header.time_ms + 1_000
        raws = []
        for _ in range(transfers):
            nonce += 1
            call = client.transfer(REGULATOR.address, 1)
            signed = client.sign_call(
                call, key_of(nonce % 4), genesis.chain_id, nonce, time_ms + VALID_MS
            )
            raws.append(signed.raw)
        checked = check(raws, genesis.chain_id, time_ms)
        txs = [found for found in checked if isinstance(found, CheckedTransaction)]
        authorities = set_of(app.terms())
        proposer = number % authorities.n
        block, result = maker.build(block.header, certificate, proposer, time_ms, txs)
        signers = [keys[public] for public in authorities.publics[: authorities.quorum]]
        certificate = certify(block.header, signers, authorities)
        await _commit(store, app, block, certificate, result)
    await store.close()
    return time.monotonic() - begun


async def _commit(
    store: Store,
    app: Application,
    block: Block,
    certificate: Certificate | None,
    result: BlockResult,
) -> None:
    header = block.header
    raw = encode(certificate) if certificate is not None else b""
    receipts = encode(result.rooted)
    stored = StoredBlock(header.height, header_hash(header), encode(block), raw, receipts)
    end = None
    if certificate is not None and ends_epoch(header):
        last = SignedHeader(header, certificate, set_of(result.next))
        end = EpochEnd(header.epoch, header.height, encode(last))
    await store.commit(stored, [r.tx_id for r in result.receipts], result.writes, end)
    app.commit(result)


def aged(genesis: Genesis, height: int, now_ms: int) -> Genesis:
    """Return the genesis of a chain whose block at `height`, one each second, is due now."""
    market = replace(genesis.market, genesis_ms=now_ms - height * 1_000)
    return replace(genesis, market=market)
