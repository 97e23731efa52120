"""Messages and requests between connected peers: who opens, reads and answers streams."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

import trio
from libp2p.host.exceptions import StreamFailure
from libp2p.peer.id import ID

from node.network import _streams
from node.network._bridge import Inbox, Outbox
from node.network._limits import Limits
from node.network._peers import Peers, PeerState, count_down
from node.network._streams import PROTOCOL_PREFIX, FrameError
from node.network._swarm import ENDED
from node.network.base import REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX, SEND_BYTES_MAX, NetworkError

REQUEST_READ_S: Final = 10.0
SERVE_S: Final = 60.0
ANSWER_WRITE_S: Final = 120.0
SEND_WRITE_S: Final = 20.0
SEND_BATCH_BYTES: Final = 131_072
SEND_RETRY_S: Final = 0.2
INBOX_FULL_S: Final = 0.05
TIDY_S: Final = 2.0
_NAME_BYTES_MAX: Final = 256

Settle = Callable[[bytes | None], None]
SettleAsked = Callable[[bytes | None, Exception | None], None]


class Listener(Protocol):
    """What the asyncio side does with what arrives; called through the inbox."""

    def deliver_send(self, peer_id: str, protocol: str, data: bytes) -> None: ...
    def serve(self, peer_id: str, protocol: str, data: bytes, settle: Settle) -> None: ...


class Talk:
    """Streams of our own protocols, to and from connected peers."""

    def __init__(
        self,
        host: Any,
        peers: Peers,
        limits: Limits,
        listener: Listener,
        inbox: Inbox,
        counts: dict[str, int],
    ) -> None:
        self._host = host
        self._peers = peers
        self._limits = limits
        self._listener = listener
        self._inbox = inbox
        self._counts = counts
        self._serving: Counter[ID] = Counter()
        self._token = trio.lowlevel.current_trio_token()

    async def open(self, peer_id: ID, protocol: str) -> Any:
        """Open a stream. Raises `NetworkError` if the peer is away or does not know it."""
        if self._peers.get(peer_id) is None:
            raise NetworkError(f"{peer_id} is not connected")
        try:
            return await self._host.new_stream(peer_id, [protocol])
        except StreamFailure as error:
            unknown = "not supported" in str(error.__cause__).lower()
            what = "does not answer" if unknown else "did not take a stream of"
            raise NetworkError(f"{peer_id} {what} {protocol}") from None

    # -- messages

    async def send_for_ever(self, state: PeerState, outbox: Outbox) -> None:
        """Write a peer's outbox to its message stream, opened anew when it breaks."""
        stream = None
        try:
            while True:
                frames = await outbox.take(SEND_BATCH_BYTES)
                try:
                    with trio.fail_after(SEND_WRITE_S):
                        if stream is None or stream.muxed_conn.is_closed:
                            stream = await self.open(state.peer_id, _streams.SEND_PROTOCOL)
                        await stream.write(b"".join(frames))
                except (*ENDED, NetworkError, trio.TooSlowError):
                    self._counts["sends_dropped"] += len(frames)
                    if stream is not None:
                        await stream.reset()
                        stream = None
                    await trio.sleep(SEND_RETRY_S)
        finally:
            if stream is not None:
                with shielded():
                    await stream.reset()

    async def receive(self, stream: Any) -> None:
        """Read a peer's message stream."""
        peer_id = stream.muxed_conn.peer_id
        name = peer_id.to_base58()
        reader = _streams.Reader(stream)
        while True:
            body = await reader.sized(SEND_BYTES_MAX + _NAME_BYTES_MAX)
            if not self._peers.afford(peer_id, len(body)):
                return
            protocol, data = _streams.unframe(body)
            # Not reading on is what slows the sender; the event loop cannot set a trio event.
            while not self._inbox.has_room(len(data)):  # noqa: ASYNC110
                await trio.sleep(INBOX_FULL_S)
            self._inbox.put(partial(self._listener.deliver_send, name, protocol, data), len(data))

    # -- requests we answer

    async def serve(self, protocol: str, stream: Any) -> None:
        """Answer one request."""
        peer_id = stream.muxed_conn.peer_id
        if self._serving[peer_id] >= self._limits.requests_max:
            self._counts["refused"] += 1
            await self.finish(stream, _streams.STATUS_BUSY, b"")
            return
        self._serving[peer_id] += 1
        try:
            data = await self.read_request(stream, REQUEST_BYTES_MAX)
            if data is None:
                return
            answer = await self._answer(peer_id.to_base58(), protocol, data)
            status = _streams.STATUS_FAILED if answer is None else _streams.STATUS_OK
            await self.finish(stream, status, answer or b"")
        finally:
            count_down(self._serving, peer_id)

    async def read_request(self, stream: Any, size_max: int) -> bytes | None:
        """Read one request and charge the peer for it; None if it cannot afford it."""
        with trio.fail_after(REQUEST_READ_S):
            data = await _streams.Reader(stream).sized(size_max)
        return data if self._peers.afford(stream.muxed_conn.peer_id, len(data)) else None

    async def finish(self, stream: Any, status: int, answer: bytes) -> None:
        """Write an answer and close the stream."""
        with trio.fail_after(ANSWER_WRITE_S):
            await _streams.reply(stream, status, answer)
            await stream.close()
        self._counts["bytes_out"] += len(answer)

    async def _answer(self, name: str, protocol: str, data: bytes) -> bytes | None:
        done = trio.Event()
        answers: list[bytes | None] = []

        def settle(answer: bytes | None) -> None:
            answers.append(answer)
            try:
                self._token.run_sync_soon(done.set)
            except trio.RunFinishedError:
                return

        call = partial(self._listener.serve, name, protocol, data, settle)
        if not self._inbox.put(call, len(data)):
            return None
        with trio.move_on_after(SERVE_S):
            await done.wait()
        return answers[0] if answers else None

    # -- requests we make

    async def ask(
        self, name: str, protocol: str, data: bytes, timeout_s: float, settle: SettleAsked
    ) -> None:
        """Make a request for the event loop."""
        answer: bytes | None = None
        problem: NetworkError | None = None
        try:
            with trio.fail_after(timeout_s):
                answer = await self.ask_peer(
                    ID.from_base58(name), PROTOCOL_PREFIX + protocol, data, RESPONSE_BYTES_MAX
                )
        except trio.TooSlowError:
            problem = NetworkError(f"{name} did not answer {protocol} in {timeout_s} s")
        except NetworkError as error:
            problem = error
        except ENDED:
            problem = NetworkError(f"{name} went away before it answered {protocol}")
        self._inbox.put(partial(settle, answer, problem), len(answer or b""), must=True)

    async def ask_peer(self, peer_id: ID, protocol: str, data: bytes, answer_max: int) -> bytes:
        """Make a request. Raises `NetworkError`, or one of `ENDED`."""
        stream = await self.open(peer_id, protocol)
        done = False
        try:
            answer = await _streams.ask(stream, data, answer_max)
            await stream.close()
            done = True
            return answer
        except FrameError as error:
            self._peers.peer_failed(peer_id, f"an answer to {protocol}", error)
            raise NetworkError(f"{peer_id} answered {protocol} against the rules") from None
        finally:
            if not done:
                with shielded():
                    await stream.reset()


def shielded() -> trio.CancelScope:
    """Return a short time in which to tidy up, cancelled or not."""
    return trio.CancelScope(deadline=trio.current_time() + TIDY_S, shield=True)
