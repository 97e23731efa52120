"""The same chain decided by authorities: each with a state, a core and a verifier of its own.

All of them run in this process. Messages are encoded, carried in order and decoded; nothing is
lost, nobody lies and no timer has to fire, so each block is decided in its first round. What a
street has and this has not: disks under the write-ahead log, gossip, and time that passes.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from consensus.core import Core
from consensus.events import (
    BeginRounds,
    BlockBuilt,
    BlockChecked,
    Broadcast,
    BuildBlock,
    CheckBlock,
    Decide,
    EnterHeight,
    Event,
    Misbehaved,
    Received,
    ReportEvidence,
    Send,
)
from consensus.messages import Certificate, decode_message, header_hash
from market.app import Application, BlockResult
from market.genesis import MarketParams
from node.chain.blocks import BlockMaker
from node.chain.epochs import Epochs, set_of
from node.genesis import GENESIS_VERSION, TRANSACTIONS_BYTES_MAX, ChainParams, Genesis
from node.pool.verifier import TransactionVerifier
from study.chain import Chain
from study.errors import InvariantError
from study.money import key_of
from wire.codec import encode
from wire.keys import SigningKey
from wire.transaction import CheckedTransaction, Refused

# A window's offers are in one block, whatever a street's blocks are held to.
BLOCK_TRANSACTIONS_MAX: Final = 16_384
MESSAGES_PER_BLOCK_MAX: Final = 100_000


class Authority:
    """One authority: what it knows, and how it answers its core."""

    def __init__(self, genesis: Genesis, key: SigningKey) -> None:
        self.app = Application(genesis.market, founding=genesis.founding())
        begun = self.app.genesis()
        self.app.commit(begun)
        epochs = Epochs(genesis, self.app)
        self.verifier = TransactionVerifier(genesis.chain_id)
        self._maker = BlockMaker(genesis, epochs, self.app, self.verifier)
        self._parent = self._maker.genesis_block(begun).header
        self._certificate: Certificate | None = None
        self._core = Core(genesis.chain_id, key.public, key.sign)
        self._public = key.public
        self._results: dict[bytes, BlockResult] = {}
        self.index = genesis.authorities.index(key.public)
        self.decided: BlockResult | None = None
        self._waiting: list[CheckedTransaction] = []
        self._time_ms = 0

    def begin(self, transactions: Sequence[CheckedTransaction], time_ms: int) -> list[Any]:
        """Enter the next height, with what waits for its block; return what is to be sent."""
        self._waiting, self._time_ms = list(transactions), time_ms
        self._results.clear()
        self.decided = None
        seats = set_of(self.app.terms())
        self.index = seats.publics.index(self._public)
        height = self._parent.height + 1
        return [*self.take(EnterHeight(height, seats)), *self.take(BeginRounds(height))]

    def take(self, event: Event) -> list[Any]:
        """Handle an event and what follows from it here; return what is to be sent.

        Raises
        ------
        InvariantError
            Somebody broke the rules: here all are honest, so one of them has a bug.
        """
        sent: list[Any] = []
        events = deque([event])
        while events:
            for effect in self._core.handle(events.popleft()):
                match effect:
                    case Broadcast() | Send():
                        sent.append(effect)
                    case BuildBlock():
                        events.append(self._build(effect))
                    case CheckBlock():
                        self._results[effect.block_hash] = self._maker.execute(
                            effect.block, self._parent, self._certificate
                        )
                        height = effect.block.header.height
                        events.append(BlockChecked(height, effect.block_hash, valid=True))
                    case Decide():
                        self._apply(effect)
                    case ReportEvidence() | Misbehaved():
                        raise InvariantError(f"an honest authority is accused: {effect}")
        return sent

    def received(self, data: bytes, sender: int) -> list[Any]:
        """Take what another authority has sent."""
        return self.take(Received(decode_message(data), sender, self._time_ms))

    def _build(self, asked: BuildBlock) -> BlockBuilt:
        block, result = self._maker.build(
            self._parent, self._certificate, self.index, self._time_ms, self._waiting
        )
        self._results[header_hash(block.header)] = result
        return BlockBuilt(asked.height, asked.round, block)

    def _apply(self, decision: Decide) -> None:
        self.decided = self._results[header_hash(decision.block.header)]
        self.app.commit(self.decided)
        self._parent, self._certificate = decision.block.header, decision.certificate


class AgreedChain(Chain):
    """A chain whose blocks are decided by `authorities` of them.

    Parameters as `Chain`; `app` is the first authority's.
    """

    def __init__(self, params: MarketParams, authorities: int) -> None:
        keys = [key_of("authority", number) for number in range(1, authorities + 1)]
        genesis = Genesis(
            version=GENESIS_VERSION,
            authorities=tuple(sorted(key.public for key in keys)),
            chain=ChainParams(
                block_bytes_max=TRANSACTIONS_BYTES_MAX,
                block_transactions_max=BLOCK_TRANSACTIONS_MAX,
            ),
            market=params,
        )
        genesis.check()
        self.authorities = sorted(
            (Authority(genesis, key) for key in keys), key=lambda one: one.index
        )
        super().__init__(params, self.authorities[0].app)

    def _decided(self, raws: Sequence[bytes], time_ms: int) -> BlockResult:
        """Let every authority check what waits, and all agree on the next block."""
        letters: deque[tuple[int, int, bytes]] = deque()
        for authority in self.authorities:
            checked = []
            for found in authority.verifier.check(raws, time_ms):
                if isinstance(found, Refused):
                    raise InvariantError(f"a transaction of the study's own is refused: {found}")
                checked.append(found)
            letters += self._letters(authority, authority.begin(checked, time_ms))
        for _ in range(MESSAGES_PER_BLOCK_MAX):
            if not letters:
                break
            sender, to, data = letters.popleft()
            authority = self.authorities[to]
            letters += self._letters(authority, authority.received(data, sender))
        results = [one.decided for one in self.authorities]
        first = results[0]
        if first is None or any(one is None for one in results):
            raise InvariantError("the authorities have not decided a block, though none is lost")
        if len({one.app.state_root for one in self.authorities}) > 1:
            raise InvariantError("the authorities' states differ")
        return first

    def _letters(self, sender: Authority, sent: Sequence[Any]) -> list[tuple[int, int, bytes]]:
        found = []
        for effect in sent:
            data = encode(effect.message)
            if isinstance(effect, Send):
                found.append((sender.index, effect.to, data))
            else:
                others = (one.index for one in self.authorities if one is not sender)
                found += [(sender.index, to, data) for to in others]
        return found
