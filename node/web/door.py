"""Who comes in to the API: so many at once, of each address and of all, by TLS where it is set.

Connections are counted from the moment they are accepted, before TLS: a handshake that is never
finished takes a place as well. Where all places are taken, one that has been there for a while
and has never shown the token makes room, of the address that has most; so strangers who only sit
there keep nobody out, and whoever has the token is never sent away.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from cryptography import x509

from node.errors import ConfigError
from node.keys.secret import read_owned

log = logging.getLogger("commonwatt.web")

CONNECTIONS_MAX: Final = 64
PER_ADDRESS_MAX: Final = 32
HANDSHAKE_S: Final = 5.0
# So long a connection is left alone, however many others want its place.
AT_HOME_S: Final = 1.0
ACCEPT_AGAIN_S: Final = 0.1
CERTIFICATE_BYTES_MAX: Final = 65_536


class Caller(Protocol):
    """The protocol of one connection, as the door sees it."""

    @property
    def is_trusted(self) -> bool:
        """Whether it has shown the token."""

    def cut(self) -> None:
        """End it at once."""


class Visit:
    """One connection's place: from which address, since when."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.since_s = time.monotonic()
        self.caller: Any = None
        self.task: asyncio.Task[None] | None = None

    @property
    def is_trusted(self) -> bool:
        """Whether it is not to be sent away."""
        return self.caller is not None and bool(self.caller.is_trusted)

    def cut(self) -> None:
        """Send it away, in its handshake or after it."""
        if self.caller is not None:
            self.caller.cut()
        elif self.task is not None:
            self.task.cancel()


class Door:
    """Accepts connections of a listening socket.

    Parameters
    ----------
    listening : socket
        Non-blocking; closed by `close`.
    caller : callable
        `caller(left)` makes a connection's protocol, which calls `left` when it has ended.
    tls : SSLContext, optional
    """

    def __init__(
        self,
        listening: socket.socket,
        caller: Callable[[Callable[[], None]], Any],
        tls: ssl.SSLContext | None,
    ) -> None:
        self._listening = listening
        self._caller = caller
        self._tls = tls
        self._visits: dict[Visit, None] = {}
        self._task: asyncio.Task[None] | None = None
        self.refused = 0

    def __len__(self) -> int:
        return len(self._visits)

    def open(self) -> None:
        """Begin to accept."""
        self._task = asyncio.create_task(self._accept_for_ever(), name="web door")

    async def close(self) -> None:
        """Accept no more, and end what is in its handshake; idempotent."""
        tasks = [visit.task for visit in self._visits if visit.task is not None]
        tasks += [self._task] if self._task is not None else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listening.close()

    async def _accept_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, name = await loop.sock_accept(self._listening)
            except OSError:
                # No descriptor is left, or the caller went before it was let in.
                await asyncio.sleep(ACCEPT_AGAIN_S)
                continue
            visit = Visit(str(name[0]))
            if not self._make_room(visit.address):
                self.refused += 1
                accepted.close()
                continue
            self._visits[visit] = None
            visit.task = asyncio.create_task(self._let_in(accepted, visit))

    async def _let_in(self, accepted: socket.socket, visit: Visit) -> None:
        def left() -> None:
            self._visits.pop(visit, None)

        def caller() -> Any:
            visit.caller = self._caller(left)
            return visit.caller

        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                caller,
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE_S if self._tls is not None else None,
            )
        except (OSError, asyncio.CancelledError) as error:
            # A handshake that failed: with TLS the protocol never heard of the connection.
            left()
            with contextlib.suppress(OSError):
                accepted.close()
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            visit.task = None

    def _make_room(self, address: str) -> bool:
        """Tell whether one more of an address may come in, sending another away if need be."""
        addresses = Counter(visit.address for visit in self._visits)
        if addresses[address] >= PER_ADDRESS_MAX:
            crowd = address
        elif len(self._visits) >= CONNECTIONS_MAX:
            crowd = addresses.most_common(1)[0][0]
        else:
            return True
        settled_s = time.monotonic() - AT_HOME_S
        for visit in self._visits:
            if visit.address == crowd and visit.since_s <= settled_s and not visit.is_trusted:
                del self._visits[visit]
                visit.cut()
                return True
        return False


def tls_of(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return what serves TLS by a certificate and its key, of 1.2 at least.

    Raises
    ------
    ConfigError
        A file cannot be read, is none, or they do not belong together. The text never shows more
        of the key than its file's name.
    """
    found = _certificate(certificate)
    try:
        read_owned(key, "key", 1)
    except ConfigError as error:
        raise ConfigError(f"web.tls_key: {error}") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Without a callback OpenSSL would ask at the terminal for a passphrase.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f"web.tls_key: {key} is not the key of the certificate {certificate}"
            ) from None
        raise ConfigError(
            f"web.tls_key: {key} is no private key in PEM that can be used without a passphrase"
        ) from None
    except OSError as error:
        raise ConfigError(f"web.tls_key: {key} cannot be read ({error.strerror})") from None
    if found.not_valid_after_utc < datetime.now(UTC):
        log.warning(
            "web.tls_cert: the certificate in %s expired on %s: browsers will refuse it",
            certificate,
            found.not_valid_after_utc.date(),
        )
    return context


def _certificate(file: Path) -> x509.Certificate:
    try:
        with file.open("rb") as opened:
            text = opened.read(CERTIFICATE_BYTES_MAX)
    except OSError as error:
        raise ConfigError(f"web.tls_cert: {file} cannot be read ({error.strerror})") from None
    try:
        return x509.load_pem_x509_certificate(text)
    except ValueError:
        raise ConfigError(f"web.tls_cert: {file} is no certificate in PEM") from None
