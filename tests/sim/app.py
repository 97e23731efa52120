"""The simulated application: a tiny ledger, seats and convictions, and blocks over it.

Written for the simulator alone, after the rules that `market/` and `node/chain/blocks.py` follow
(R15, R26, R28, R30). Its state is a few key-value pairs, so that a snapshot can carry it, and it
holds a hash chain over all blocks: a block applied twice, left out or out of order gives another
root.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Annotated, Final, NamedTuple, TypeAlias

from msgspec import Meta
from msgspec.structs import replace

from consensus.authorities import AuthoritySet
from consensus.errors import BlockRefused, EvidenceRefused
from consensus.evidence import check_evidence, evidence_height
from consensus.messages import (
    PROTOCOL_VERSION,
    ZERO_HASH,
    Block,
    Certificate,
    Evidence,
    Header,
    Unsigned,
    certificate_hash,
    evidence_root,
    header_hash,
    tx_root,
)
from consensus.validate import check_block
from tests.sim import keys
from wire.codec import Message, decode, encode
from wire.errors import DecodeError
from wire.transaction import TRANSACTION_BYTES_MAX

NO_EVIDENCE_ROOT: Final = evidence_root(())
TX_BYTES_MAX: Final = TRANSACTION_BYTES_MAX + 64
OPENING_BALANCE: Final = 1_000
BOND: Final = 500
POOL_BALANCE: Final = 100_000
SETTLED_AMOUNT: Final = 3
EVIDENCE_PER_BLOCK_MAX: Final = 4
# Makes a snapshot more than one chunk. It is hashed once.
BALLAST: Final = b"\x00\x01\x02\x03\x04\x05\x06\x07" * 40_000
STATE_BYTES_MAX: Final = 65_536


class Transfer(Message, frozen=True, tag="tr"):
    """An account pays another; `nonce` counts the account's transfers."""

    account: Unsigned
    nonce: Unsigned
    to: Unsigned
    amount: Unsigned


class Settle(Message, frozen=True, tag="st"):
    """The pool pays whoever is due for a slot, once."""

    slot: Unsigned


class Note(Message, frozen=True, tag="nt"):
    """Says who built the block; makes blocks of twins different."""

    text: Annotated[bytes, Meta(max_length=64)]


class Carried(Message, frozen=True, tag="ct"):
    """A signed transaction for the contracts of a chain of two tiers; elsewhere it does nothing."""

    raw: Annotated[bytes, Meta(max_length=TRANSACTION_BYTES_MAX)]


Tx: TypeAlias = Transfer | Settle | Note | Carried


def decode_tx(raw: bytes) -> Tx:
    return decode(raw, Tx, TX_BYTES_MAX)  # type: ignore[arg-type]


class Ledger(Message, frozen=True, tag="led"):
    """The part of the state that changes, but for the sets."""

    height: Unsigned
    pool: Unsigned
    regulator: Unsigned
    balances: tuple[int, ...]
    nonces: tuple[int, ...]
    settled: tuple[int, ...]
    bonds: tuple[tuple[bytes, int], ...]
    convicted: tuple[bytes, ...]
    history: bytes


class Sets(Message, frozen=True, tag="sets"):
    """The authority sets of all epochs so far, the last of which decides the next height."""

    by_epoch: tuple[AuthoritySet, ...]


class State:
    """The state after a block. Immutable; nodes share it."""

    def __init__(self, ledger: Ledger, sets: Sets) -> None:
        self.ledger = ledger
        self.sets = sets

    @property
    def height(self) -> int:
        return self.ledger.height

    @property
    def seats(self) -> AuthoritySet:
        """The set that decides the next height."""
        return self.sets.by_epoch[-1]

    @cached_property
    def root(self) -> bytes:
        return root_of(self.pairs())

    def pairs(self) -> list[tuple[str, bytes]]:
        """What a snapshot holds."""
        return [("ballast", BALLAST), ("ledger", encode(self.ledger)), ("sets", encode(self.sets))]

    @property
    def money(self) -> int:
        """All there is; it never changes."""
        ledger = self.ledger
        bonds = sum(bond for _, bond in ledger.bonds)
        return ledger.pool + ledger.regulator + sum(ledger.balances) + bonds

    def set_of_epoch(self, epoch: int) -> AuthoritySet | None:
        return self.sets.by_epoch[epoch] if epoch < len(self.sets.by_epoch) else None


def root_of(pairs: Iterable[tuple[str, bytes]]) -> bytes:
    digest = hashlib.sha256()
    for key, value in pairs:
        digest.update(key.encode() + b"\0" + _value_hash(value))
    return digest.digest()


def _value_hash(value: bytes) -> bytes:
    return _large_hash(value) if len(value) > STATE_BYTES_MAX else hashlib.sha256(value).digest()


@lru_cache(maxsize=8)
def _large_hash(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()


def state_of(pairs: Iterable[tuple[str, bytes]]) -> State:
    """Read a snapshot's pairs. Errors as `wire.codec.decode`, `KeyError`."""
    found = dict(pairs)
    ledger = decode(found["ledger"], Ledger, STATE_BYTES_MAX)
    return State(ledger, decode(found["sets"], Sets, STATE_BYTES_MAX))


def first_state(publics: Sequence[bytes]) -> State:
    n = len(publics)
    ledger = Ledger(
        height=0,
        pool=POOL_BALANCE,
        regulator=0,
        balances=(OPENING_BALANCE,) * n,
        nonces=(0,) * n,
        settled=(),
        bonds=tuple((public, BOND) for public in publics),
        convicted=(),
        history=ZERO_HASH,
    )
    return State(ledger, Sets((AuthoritySet(0, tuple(publics)),)))


def genesis_block(chain_id: str, authorities: AuthoritySet, state_root: bytes) -> Block:
    """Make the block all nodes start from."""
    zero = ZERO_HASH
    header = Header(
        version=PROTOCOL_VERSION,
        chain_id=chain_id,
        epoch=authorities.epoch,
        height=0,
        time_ms=0,
        parent_hash=zero,
        last_certificate_hash=zero,
        proposer=0,
        tx_root=tx_root(()),
        receipts_root=zero,
        state_root=state_root,
        authorities_hash=authorities.hash,
        next_authorities_hash=authorities.hash,
        params_hash=zero,
        evidence_root=NO_EVIDENCE_ROOT,
        inbox_root=zero,
        outbox_root=zero,
        anchor_height=0,
        anchor_hash=zero,
    )
    return Block(header, (), None)


class Conviction(NamedTuple):
    """What a piece of evidence comes to."""

    offence: bytes
    offenders: tuple[bytes, ...]


class Rules:
    """What blocks may do on one chain: the same for everybody, a function of the chain alone.

    `epoch_blocks` 0: one epoch for ever. Mutants override single methods; those that are `shared`
    are bugs of the rules themselves, which the checker has too: its own books must find them.
    """

    is_shared = False

    def __init__(self, chain_id: str, epoch_blocks: int, window: int) -> None:
        self.chain_id = chain_id
        self.epoch_blocks = epoch_blocks
        self.window = window

    def epoch_of(self, height: int) -> int:
        """R28."""
        return max(height - 1, 0) // self.epoch_blocks if self.epoch_blocks else 0

    # -- evidence (R30)

    def convicts(self, state: State, evidence: Evidence) -> Conviction:
        """Check a piece of evidence in full and say whom it convicts.

        Raises
        ------
        EvidenceRefused
            It proves nothing, or nothing that can be judged in this state.
        """
        height, epoch = evidence_height(evidence), evidence.first.epoch
        authorities = state.set_of_epoch(epoch)
        if authorities is None or epoch != self.epoch_of(height):
            raise EvidenceRefused(f"of epoch {epoch}, which is not that of height {height}")
        offence = check_evidence(evidence, authorities, self.chain_id, keys.verify)
        return Conviction(offence.id, offence.offenders)

    def is_news(self, state: State, before: Iterable[bytes], conviction: Conviction) -> bool:
        """Whether it convicts somebody who is convicted neither by the state nor by `before`."""
        known = {*state.ledger.convicted, *before}
        return any(offender not in known for offender in conviction.offenders)

    def is_fresh(self, height: int, evidence: Evidence) -> bool:
        """Whether a block at `height` may hold the evidence, as to its age."""
        return height - self.window <= evidence_height(evidence) < height

    def admitted(self, state: State, pieces: Iterable[Evidence]) -> list[Evidence]:
        """Return the evidence that the block after `state` may hold."""
        found: list[Evidence] = []
        offenders: list[bytes] = []
        for evidence in pieces:
            conviction = self.convicts(state, evidence)
            if not self.is_fresh(state.height + 1, evidence):
                continue
            if self.is_news(state, offenders, conviction):
                found.append(evidence)
                offenders += conviction.offenders
        return found[:EVIDENCE_PER_BLOCK_MAX]

    # -- blocks

    def header(
        self, state: State, parent: Header, txs: Sequence[bytes], evidence: Sequence[Evidence],
        time_ms: int, proposer: int, certificate: Certificate | None,
    ) -> Header:  # fmt: skip
        """Return the header of a block on `parent`; executes it.

        Raises
        ------
        BlockRefused
            The transactions or evidence cannot be executed.
        """
        after = self.after(state, parent, txs, evidence, time_ms)
        return replace(
            parent,
            epoch=state.seats.epoch,
            height=parent.height + 1,
            time_ms=time_ms,
            parent_hash=header_hash(parent),
            last_certificate_hash=certificate_hash(certificate),
            proposer=proposer,
            tx_root=tx_root(txs),
            evidence_root=evidence_root(evidence) if evidence else NO_EVIDENCE_ROOT,
            state_root=after.root,
            authorities_hash=state.seats.hash,
            next_authorities_hash=after.seats.hash,
        )

    def with_body(
        self, header: Header, txs: Sequence[bytes], evidence: Sequence[Evidence]
    ) -> Header:
        """Return the header with the roots of another body; for liars."""
        return replace(header, tx_root=tx_root(txs), evidence_root=evidence_root(evidence))

    def check_link(self, state: State, parent: Header, block: Block) -> None:
        """Check what needs no execution. Raises `BlockRefused`."""
        sets = {item.epoch: item for item in state.sets.by_epoch}
        check_block(block, parent, state.seats, sets, keys.verify)

    def check_roots(self, after: State, header: Header) -> None:
        """Compare what the header says with what execution gave. Raises `BlockRefused`."""
        if header.state_root != after.root or header.next_authorities_hash != after.seats.hash:
            raise BlockRefused("roots", "execution gives others")

    def execute(self, state: State, parent: Header, block: Block) -> State:
        """Check a block and return the state after it.

        Raises
        ------
        BlockRefused
            It may not follow.
        """
        self.check_link(state, parent, block)
        after = self.after(state, parent, block.txs, block.evidence, block.header.time_ms)
        self.check_roots(after, block.header)
        return after

    def after(
        self, state: State, parent: Header, txs: Sequence[bytes], evidence: Sequence[Evidence],
        time_ms: int = 0,
    ) -> State:  # fmt: skip
        """Execute a block of `time_ms`: evidence first, then transactions, then the epoch's end."""
        book = _Book(state.ledger)
        for piece in evidence:
            try:
                conviction = self.convicts(state, piece)
            except EvidenceRefused as refused:
                raise BlockRefused("evidence", str(refused)) from None
            if not self.is_news(state, book.newly_convicted, conviction):
                raise BlockRefused("evidence", "it convicts nobody any more")
            book.convict(conviction)
        for raw in txs:
            try:
                tx = decode_tx(raw)
            except DecodeError as error:
                raise BlockRefused("transaction", str(error)) from None
            book.apply(tx)
        link = header_hash(parent) + tx_root(txs) + evidence_root(evidence)
        ledger = book.closed(hashlib.sha256(state.ledger.history + link).digest())
        return State(ledger, self.sets_after(state.sets, ledger))

    def sets_after(self, sets: Sets, ledger: Ledger) -> Sets:
        """At an epoch's end up to max(1, f) of the convicted leave; the order turns by one."""
        if not self.epoch_blocks or ledger.height % self.epoch_blocks:
            return sets
        seats = sets.by_epoch[-1]
        leaving = [public for public in seats.publics if public in ledger.convicted]
        leaving = leaving[: max(1, seats.f)]
        staying = [public for public in seats.publics if public not in leaving] or list(
            seats.publics
        )
        turned = (*staying[1:], staying[0])
        return Sets((*sets.by_epoch, AuthoritySet(seats.epoch + 1, turned)))


class _Book:
    """A ledger while a block is executed on it."""

    def __init__(self, ledger: Ledger) -> None:
        self._before = ledger
        self._balances = list(ledger.balances)
        self._nonces = list(ledger.nonces)
        self._settled = list(ledger.settled)
        self._bonds = dict(ledger.bonds)
        self._pool, self._regulator = ledger.pool, ledger.regulator
        self.newly_convicted: list[bytes] = []

    def convict(self, conviction: Conviction) -> None:
        for offender in conviction.offenders:
            if offender not in self._before.convicted:
                self._regulator += self._bonds.pop(offender, 0)
                self.newly_convicted.append(offender)

    def apply(self, tx: Tx) -> None:
        if isinstance(tx, Transfer):
            self._transfer(tx)
        elif isinstance(tx, Settle):
            if tx.slot in self._settled or tx.slot > self._before.height:
                raise BlockRefused("transaction", f"slot {tx.slot} is settled, or still to come")
            if self._pool < SETTLED_AMOUNT:
                raise BlockRefused("transaction", "the pool is empty")
            self._settled.append(tx.slot)
            self._pool -= SETTLED_AMOUNT
            self._balances[tx.slot % len(self._balances)] += SETTLED_AMOUNT

    def _transfer(self, tx: Transfer) -> None:
        accounts = len(self._balances)
        if tx.account >= accounts or tx.to >= accounts:
            raise BlockRefused("transaction", "an account that is not there")
        if tx.nonce != self._nonces[tx.account]:
            raise BlockRefused("transaction", "a transfer out of turn")
        if not 0 < tx.amount <= self._balances[tx.account]:
            raise BlockRefused("transaction", "an account is overdrawn")
        self._nonces[tx.account] += 1
        self._balances[tx.account] -= tx.amount
        self._balances[tx.to] += tx.amount

    def closed(self, history: bytes) -> Ledger:
        before = self._before
        return Ledger(
            height=before.height + 1,
            pool=self._pool,
            regulator=self._regulator,
            balances=tuple(self._balances),
            nonces=tuple(self._nonces),
            settled=tuple(self._settled),
            bonds=tuple(self._bonds.items()),
            convicted=(*before.convicted, *self.newly_convicted),
            history=history,
        )


def transactions_due(state: State, waiting: Iterable[Transfer]) -> Iterator[bytes]:
    """Yield what an honest builder takes: one settlement, and the transfers whose turn it is."""
    ledger = state.ledger
    settled = set(ledger.settled)
    due = next((slot for slot in range(ledger.height + 1) if slot not in settled), None)
    if due is not None and ledger.pool >= SETTLED_AMOUNT:
        yield encode(Settle(due))
    paid: dict[int, int] = {}
    for transfer in waiting:
        account = transfer.account
        if account in paid or transfer.nonce != ledger.nonces[account]:
            continue
        if 0 < transfer.amount <= ledger.balances[account]:
            paid[account] = transfer.nonce
            yield encode(transfer)
