"""Peer exchange: nodes tell each other where they listen, so one address is enough to find all."""

import random
from collections.abc import Sequence
from typing import Any, Final

import trio

from node.network import _streams
from node.network._addresses import check_peer, is_loopback, is_unspecified, told_by
from node.network._book import PeerBook
from node.network._dialer import Dialer
from node.network._peers import Peers, PeerState
from node.network._swarm import ENDED
from node.network._talk import REQUEST_READ_S, Talk
from node.network.base import NetworkError
from wire.codec import Message, decode, encode
from wire.errors import DecodeError

EXCHANGE_S: Final = 60.0
EXCHANGE_HUNGRY_S: Final = 10.0
EXCHANGE_BYTES_MAX: Final = 16_384
KNOWN_MAX: Final = 32
OWN_MAX: Final = 4


class PeerAddresses(Message, frozen=True, tag="pex"):
    """Both question and answer: where a node listens, and where some of its peers do."""

    own: list[str]
    known: list[str]


class Exchange:
    """Asks peers for others, and answers them."""

    def __init__(self, own: str, peers: Peers, talk: Talk, book: PeerBook, dialer: Dialer) -> None:
        self._own = own
        self._peers = peers
        self._talk = talk
        self._book = book
        self._dialer = dialer
        self._random = random.Random()  # noqa: S311 - no secret  # nosec B311
        self.addresses: Sequence[str] = ()

    async def run(self) -> None:
        """Ask some peer now and then, for ever."""
        while True:
            await trio.sleep(EXCHANGE_HUNGRY_S if self._peers.is_hungry() else EXCHANGE_S)
            states = [state for state in self._peers.all() if state.outbox is not None]
            if states:
                await self.ask(self._random.choice(states))

    async def ask(self, state: PeerState) -> None:
        """Tell a peer where we listen, and hear where its peers do."""
        question = encode(self._told())
        try:
            with trio.fail_after(REQUEST_READ_S):
                raw = await self._talk.ask_peer(
                    state.peer_id, _streams.PEERS_PROTOCOL, question, EXCHANGE_BYTES_MAX
                )
            self._hear(state, decode(raw, PeerAddresses, EXCHANGE_BYTES_MAX))
        except DecodeError as error:
            self._peers.peer_failed(state.peer_id, "peer exchange", error)
        except (*ENDED, NetworkError, trio.TooSlowError):
            return

    async def serve(self, stream: Any) -> None:
        """Answer a peer that asks."""
        raw = await self._talk.read_request(stream, EXCHANGE_BYTES_MAX)
        if raw is None:
            return
        told = decode(raw, PeerAddresses, EXCHANGE_BYTES_MAX)
        answer = encode(self._told())
        state = self._peers.get(stream.muxed_conn.peer_id)
        if state is not None:
            self._hear(state, told)
        await self._talk.finish(stream, _streams.STATUS_OK, answer)

    def _told(self) -> PeerAddresses:
        states = self._peers.all()
        self._random.shuffle(states)
        # Authorities look for each other, and there may be many other homes.
        states.sort(key=lambda state: not self._peers.is_pinned(state.name))
        known = [address for state in states for address in state.listens[:1]]
        return PeerAddresses(list(self.addresses[:OWN_MAX]), known[:KNOWN_MAX])

    def _hear(self, state: PeerState, told: PeerAddresses) -> None:
        remote = state.remote()
        seen_host = remote[0] if remote else ""
        listens = told_by(state.name, told.own, seen_host)
        if listens:
            # What was dialled is known to work, and stays first.
            state.listens = list(dict.fromkeys([*state.listens, *listens]))[:OWN_MAX]
            for address in reversed(state.listens):
                self._book.add(address)
        for address in told.known[:KNOWN_MAX]:
            try:
                peer_id = check_peer(address)
            except NetworkError:
                continue
            host = address.split("/")[2]
            elsewhere = is_loopback(host) and not is_loopback(seen_host)
            if peer_id != self._own and not is_unspecified(host) and not elsewhere:
                self._dialer.hear(address)
