"""What this node has signed and logged at its height: the last guard before a signature."""

from collections.abc import Iterable, Mapping
from typing import Final

from consensus.authorities import Signer
from consensus.messages import NO_ROUND, PROPOSAL, Block
from consensus.wal import (
    AbstainRecord,
    DecisionRecord,
    LockRecord,
    ProposalRecord,
    RoundRecord,
    VoteRecord,
    WalRecord,
)

_ROUNDS_REMEMBERED: Final = 2


class Memory:
    """The signatures given (R20) and the WAL records made (R19) at the present height."""

    __slots__ = ("_logged_blocks", "_signed", "height", "last_signed", "records")

    def __init__(self) -> None:
        self.height = 0
        # (height, round, kind) of the latest signature of all; it never goes back.
        self.last_signed = (0, NO_ROUND, PROPOSAL)
        self.records: list[WalRecord] = []
        self._signed: dict[tuple[int, int], tuple[bytes, bytes]] = {}
        self._logged_blocks: set[bytes] = set()

    def recover(self, records: Iterable[WalRecord]) -> None:
        """Never sign before the latest of these records again, whatever their height."""
        for record in records:
            match record:
                case ProposalRecord(proposal):
                    position = (proposal.height, proposal.round, PROPOSAL)
                case VoteRecord(vote) | LockRecord(precommit=vote):
                    position = (vote.height, vote.round, vote.kind)
                case _:
                    continue
            self.last_signed = max(self.last_signed, position)

    def enter_height(self, height: int) -> None:
        """Begin a height with nothing signed and nothing logged."""
        self.height = height
        self.records = []
        self._signed = {}
        self._logged_blocks = set()

    def sign(self, signer: Signer, kind: int, round_: int, signed: bytes) -> bytes | None:
        """Return the one signature for this round and kind, or None if another was given."""
        before = self._signed.get((round_, kind))
        if before is not None:
            return before[1] if before[0] == signed else None
        if (self.height, round_, kind) <= self.last_signed:
            return None
        signature = signer(signed)
        if signature is not None:
            self.note(kind, round_, signed, signature)
        return signature

    def note(self, kind: int, round_: int, signed: bytes, signature: bytes) -> None:
        """Take over a signature given before a restart."""
        self.last_signed = max(self.last_signed, (self.height, round_, kind))
        self._signed[round_, kind] = (signed, signature)

    def block_to_log(self, block_hash: bytes, block: Block) -> Block | None:
        """Return the block if no record of this height holds it yet."""
        if block_hash in self._logged_blocks:
            return None
        self._logged_blocks.add(block_hash)
        return block

    def forget_before(self, round_: int) -> None:
        """Drop what the guard and a recovery do without once `round_` has begun."""
        oldest = round_ - _ROUNDS_REMEMBERED
        self._signed = {key: value for key, value in self._signed.items() if key[0] >= oldest}
        locks = [record for record in self.records if isinstance(record, LockRecord)]
        self.records = [
            record
            for record in self.records
            if record_round(record) >= oldest or record in locks[-1:]
        ]

    def snapshot(self, blocks: Mapping[bytes, Block]) -> list[WalRecord]:
        """Return records that could stand alone: each holds its block."""
        whole: list[WalRecord] = []
        for record in self.records:
            match record:
                case LockRecord(height, round_, None, pol, precommit):
                    block = blocks[pol.block_hash]
                    whole.append(LockRecord(height, round_, block, pol, precommit))
                case DecisionRecord(height, hash_, certificate, None):
                    whole.append(DecisionRecord(height, hash_, certificate, blocks[hash_]))
                case _:
                    whole.append(record)
        return whole


def record_height(record: WalRecord) -> int:
    """Return the height a record belongs to; 0 for `AbstainRecord`, which belongs to none."""
    match record:
        case ProposalRecord(proposal):
            return proposal.height
        case VoteRecord(vote):
            return vote.height
        case RoundRecord(height) | LockRecord(height) | DecisionRecord(height):
            return height
        case AbstainRecord():
            return 0


def record_round(record: WalRecord) -> int:
    """Return the round this node had reached when it made the record, -1 if it does not tell."""
    match record:
        case ProposalRecord(proposal):
            return proposal.round
        case VoteRecord(vote):
            return vote.round
        case RoundRecord(_, round_) | LockRecord(_, round_):
            return round_
        case DecisionRecord() | AbstainRecord():
            return NO_ROUND
