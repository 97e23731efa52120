"""The test build of the daemon: `python -m testnet.chaos.driver --drive FILE --config FILE`.

It is the daemon with a clock that can be wrong, a disk that can be slow, and a network that can lie
for an authority, as FILE says at the moment (`testnet.chaos.targets.base.Drive`). Only the chaos
tool starts it; no setting of the daemon leads here.

Theory of operation. The daemon's code is the one in production; what it stands on is replaced
before it is imported (clock, durability), and its libp2p network by one whose `send` changes
consensus messages on their way out. So its own state machine, log and store stay honest, and only
what the others hear is not.
"""

import argparse
import asyncio
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import aiosqlite
import msgspec

from consensus.messages import (
    NIL,
    Proposal,
    Vote,
    decode_message,
    header_hash,
    proposal_signed_bytes,
    vote_signed_bytes,
)
from testnet.chaos.targets.base import LIES_NAME, Drive
from wire.codec import encode
from wire.keys import SigningKey

READ_EVERY_S: Final = 0.2
CONSENSUS: Final = "consensus"
FLOOD_COPIES: Final = 10
FLOOD_BYTES: Final = 512


class Driven:
    """The present `Drive`, read from its file again and again by a thread."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.now = Drive()
        # Messages that were changed on their way out, and how many of them the file tells of.
        self.lies = 0
        self._told = 0
        self.read()

    def read(self) -> None:
        """Take what the file says; one that is missing or half written changes nothing."""
        try:
            self.now = msgspec.json.decode(self._file.read_bytes(), type=Drive)
        except (OSError, msgspec.MsgspecError):
            return

    def tell(self) -> None:
        """Write how many messages were changed, for the verdict: a fault must have been there."""
        if self.lies != self._told:
            self._told = self.lies
            self._file.with_name(LIES_NAME).write_text(str(self._told))

    def follow(self) -> None:
        """Read, and tell, for ever."""
        while True:
            time.sleep(READ_EVERY_S)
            self.read()
            self.tell()


class Liar:
    """Changes what an authority sends, so as it is told at the moment.

    Parameters
    ----------
    key : SigningKey
        The authority's: what it says in place of the truth is signed well.
    chain_id : str
    behaviour : callable
        Returns the word of `testnet.chaos.scenario.Byzantine`, or nothing.
    """

    def __init__(self, key: SigningKey, chain_id: str, behaviour: Callable[[], str]) -> None:
        self._key = key
        self._chain_id = chain_id
        self._behaviour = behaviour
        self._peers: set[str] = set()

    def outgoing(self, peer: str, data: bytes) -> list[bytes]:
        """Return what `peer` gets in place of one consensus message."""
        self._peers.add(peer)
        behaviour = self._behaviour()
        if not behaviour:
            return [data]
        if behaviour == "flood":
            junk = random.randbytes(FLOOD_BYTES)  # noqa: S311  # nosec B311 - anything will do
            return [data] * FLOOD_COPIES + [junk]
        message = decode_message(data)
        if not isinstance(message, Vote | Proposal) or not self._is_mine(message):
            return [data]
        match behaviour:
            case "withhold":
                return []
            case "nil":
                return [data] if isinstance(message, Proposal) else [self._vote(message, NIL)]
            case "equivocate" if self._in_second_half(peer):
                if isinstance(message, Proposal):
                    return [self._other_block(message)]
                # Any other hash will do.
                other = NIL if message.block_hash else random.randbytes(32)  # noqa: S311  # nosec B311
                return [self._vote(message, other)]
        return [data]

    def _in_second_half(self, peer: str) -> bool:
        ordered = sorted(self._peers)
        return ordered.index(peer) >= (len(ordered) + 1) // 2

    def _is_mine(self, message: Vote | Proposal) -> bool:
        # Ed25519 signs the same bytes the same way each time.
        if isinstance(message, Vote):
            return self._vote_signature(message, message.block_hash) == message.signature
        said = self._proposal_bytes(message, header_hash(message.block.header))
        return self._key.sign(said) == message.signature

    def _vote(self, vote: Vote, block_hash: bytes) -> bytes:
        signature = self._vote_signature(vote, block_hash)
        return encode(msgspec.structs.replace(vote, block_hash=block_hash, signature=signature))

    def _vote_signature(self, vote: Vote, block_hash: bytes) -> bytes:
        return self._key.sign(
            vote_signed_bytes(
                vote.kind, self._chain_id, vote.epoch, vote.height, vote.round, block_hash
            )
        )

    def _other_block(self, proposal: Proposal) -> bytes:
        header = proposal.block.header
        other = msgspec.structs.replace(header, time_ms=header.time_ms + 1)
        block = msgspec.structs.replace(proposal.block, header=other)
        signature = self._key.sign(self._proposal_bytes(proposal, header_hash(other)))
        return encode(msgspec.structs.replace(proposal, block=block, signature=signature))

    def _proposal_bytes(self, proposal: Proposal, block_hash: bytes) -> bytes:
        return proposal_signed_bytes(
            self._chain_id,
            proposal.epoch,
            proposal.height,
            proposal.round,
            block_hash,
            proposal.valid_round,
        )


def bend_clock(driven: Driven) -> None:
    """Let `time.time` and `time.time_ns` be wrong by what is told."""
    seconds, nanoseconds = time.time, time.time_ns
    time.time = lambda: seconds() + driven.now.skew_ms / 1_000
    time.time_ns = lambda: nanoseconds() + driven.now.skew_ms * 1_000_000


def slow_disk(driven: Driven) -> None:
    """Let all that makes bytes durable take longer: log, small files, database."""

    def late(sync: Callable[[Any], None]) -> Callable[[Any], None]:
        def slowly(fd: Any) -> None:
            time.sleep(driven.now.fsync_ms / 1_000)
            sync(fd)

        return slowly

    for name in ("fsync", "fdatasync"):
        setattr(os, name, late(getattr(os, name)))
    commit = aiosqlite.Connection.commit

    async def slowly(self: aiosqlite.Connection) -> None:
        await asyncio.sleep(driven.now.fsync_ms / 1_000)
        await commit(self)

    aiosqlite.Connection.commit = slowly  # type: ignore[method-assign]


def bend_network(driven: Driven, chain_id: str) -> None:
    """Put a `Liar` between the daemon and its networks."""
    from node import tiers
    from node.network.libp2p import Libp2pNetwork

    class LyingNetwork(Libp2pNetwork):
        """libp2p whose `send` may lie."""

        def __init__(self, key: SigningKey, *arguments: Any, **named: Any) -> None:
            super().__init__(key, *arguments, **named)
            self._liar = Liar(key, chain_id, lambda: driven.now.behaviour)

        def send(self, peer_id: str, protocol: str, data: bytes) -> bool:
            said = self._liar.outgoing(peer_id, data) if protocol == CONSENSUS else [data]
            driven.lies += said != [data]
            # Each is sent, whatever became of the one before.
            return all([Libp2pNetwork.send(self, peer_id, protocol, each) for each in said])  # noqa: C419

    # Here the networks of all of the daemon's chains are made.
    tiers.Libp2pNetwork = LyingNetwork  # type: ignore[attr-defined]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the test build; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m testnet.chaos.driver")
    parser.add_argument("--drive", type=Path, required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--until-stdin-closes", action="store_true")
    given = parser.parse_args(arguments)
    driven = Driven(given.drive)
    bend_clock(driven)
    slow_disk(driven)
    # Only now: it takes the clock as it finds it.
    from node.__main__ import main as production
    from node.config import load_config
    from node.errors import StartError
    from node.genesis import read_genesis

    try:
        config = load_config(given.config, os.environ)
        genesis = read_genesis(config.path(config.node.genesis))
    except StartError as error:
        print(f"commonwatt: {error}", file=sys.stderr)  # noqa: T201 - for a person
        return 2
    bend_network(driven, genesis.chain_id)
    threading.Thread(target=driven.follow, name="drive", daemon=True).start()
    rest = ["--until-stdin-closes"] if given.until_stdin_closes else []
    return production(["--config", str(given.config), *rest])


if __name__ == "__main__":
    sys.exit(main())
