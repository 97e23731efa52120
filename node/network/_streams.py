"""Our own protocols on libp2p streams: framed messages, and requests with their answers.

Message stream (`/commonwatt/1/.send`, one per direction and peer, lives as long as the
connection): frames of `length (4, big-endian) | name length (1) | protocol name | data`.

Request stream (`/commonwatt/1/<protocol>`, one per request): the asker writes `length (4) | data`;
the answer is `status (1) | length (4) | data`, written in chunks.
"""

from typing import Any, Final

import trio

from node.network.base import NetworkError

PROTOCOL_PREFIX: Final = "/commonwatt/1/"
SEND_PROTOCOL: Final = PROTOCOL_PREFIX + ".send"
PEERS_PROTOCOL: Final = PROTOCOL_PREFIX + ".peers"
CHUNK_BYTES: Final = 262_144
STATUS_OK: Final = 0
STATUS_FAILED: Final = 1
STATUS_BUSY: Final = 2
_READ_BYTES: Final = 65_536


class FrameError(Exception):
    """A peer broke the framing: nothing after it on this stream can be read."""


class Reader:
    """Reads exact lengths from a stream."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def exactly(self, size: int) -> bytes:
        """Return `size` bytes. Raises libp2p's `StreamError` if the stream ends before."""
        while len(self._buffer) < size:
            data = await self._stream.read(max(_READ_BYTES, size - len(self._buffer)))
            if not data:
                raise trio.BrokenResourceError("the stream ended")
            self._buffer += data
        with memoryview(self._buffer) as view:
            result = bytes(view[:size])
        del self._buffer[:size]
        return result

    async def sized(self, size_max: int) -> bytes:
        """Return what follows a 4-byte length. Raises `FrameError` if that is over `size_max`."""
        size = int.from_bytes(await self.exactly(4), "big")
        if size > size_max:
            raise FrameError(f"announced {size} bytes, at most {size_max} are accepted")
        return await self.exactly(size)


def frame(protocol: str, data: bytes) -> bytes:
    """Return the frame of one message."""
    name = protocol.encode()
    return b"".join(
        ((1 + len(name) + len(data)).to_bytes(4, "big"), bytes((len(name),)), name, data)
    )


def unframe(body: bytes) -> tuple[str, bytes]:
    """Return protocol and data of a frame's body. Raises `FrameError`."""
    end = 1 + body[0] if body else 0
    if not body or end > len(body):
        raise FrameError("a frame without a protocol name")
    name = body[1:end]
    if not name.isascii():
        raise FrameError("a protocol name that is not ASCII")
    return name.decode(), body[end:]


async def ask(stream: Any, data: bytes, answer_max: int) -> bytes:
    """Write a request and return its answer.

    Raises
    ------
    NetworkError
        The peer refused or failed.
    FrameError
        The answer is longer than `answer_max`.
    """
    await stream.write(len(data).to_bytes(4, "big") + data)
    reader = Reader(stream)
    status = (await reader.exactly(1))[0]
    answer = await reader.sized(answer_max)
    if status == STATUS_BUSY:
        raise NetworkError("the peer answers as many requests as it will")
    if status != STATUS_OK:
        raise NetworkError("the peer could not answer")
    return answer


async def reply(stream: Any, status: int, data: bytes) -> None:
    """Write an answer, in chunks: a stream of 0.8.1 stalls on one write of many megabytes."""
    head = bytes((status,)) + len(data).to_bytes(4, "big")
    await stream.write(head + data[:CHUNK_BYTES])
    for start in range(CHUNK_BYTES, len(data), CHUNK_BYTES):
        await stream.write(data[start : start + CHUNK_BYTES])
