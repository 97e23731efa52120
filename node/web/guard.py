"""What every request passes before anything looks at it: host, origin, token, size.

A page of any other site can make a browser on this machine send requests here, under this
machine's name or under one of its own that it has resolved to this address: hence both checks. The
token is asked for whatever changes something, and for reading too where others than this machine
can connect.
"""

import hashlib
import hmac
from collections.abc import Collection
from http import HTTPStatus
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from node.web.problems import ProblemError, body_of

BODY_BYTES_MAX: Final = 65_536
LENGTH_DIGITS_MAX: Final = 12
READ_METHODS: Final = ("GET", "HEAD", "OPTIONS")
# Whoever may connect may ask whether the node lives: engines do.
OPEN_PATHS: Final = ("/healthz", "/readyz")
LOOPBACK_HOSTS: Final = ("localhost", "127.0.0.1", "[::1]")


class Guard:
    """Middleware that lets through what may be done, and answers the rest itself.

    Parameters
    ----------
    app : callable
    hosts : collection of str
        Names by which it may be called, without port.
    token : str
    open_reads : bool
        Whether reading needs no token.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], token: str, open_reads: bool) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._token = _digest(token.encode())
        self._open_reads = open_reads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        try:
            self._check(scope)
        except ProblemError as problem:
            await answer(send, problem)
            return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if self._name(headers.get(b"host", b"")) not in self._hosts:
            raise ProblemError(
                HTTPStatus.MISDIRECTED_REQUEST,
                "wrong_host",
                f"this node is called {', '.join(sorted(self._hosts))}; web.hosts in its "
                "settings may name more",
            )
        origin = headers.get(b"origin")
        if origin is not None and self._name(origin.partition(b"://")[2]) not in self._hosts:
            raise ProblemError(
                HTTPStatus.FORBIDDEN, "wrong_origin", "pages of other sites may not ask this node"
            )
        reads = scope["method"] in READ_METHODS
        if scope["path"] not in OPEN_PATHS and not (reads and self._open_reads):
            self._check_token(headers.get(b"authorization", b""))
        self._check_size(headers)

    def _check_token(self, given: bytes) -> None:
        scheme, _, token = given.partition(b" ")
        if scheme.lower() == b"bearer" and hmac.compare_digest(_digest(token), self._token):
            return
        raise ProblemError(
            HTTPStatus.UNAUTHORIZED,
            "token",
            "this needs the header `Authorization: Bearer TOKEN`; the token is in the file that "
            "web.token_file of the node's settings names",
        )

    def _check_size(self, headers: dict[bytes, bytes]) -> None:
        if b"transfer-encoding" in headers:
            raise ProblemError(
                HTTPStatus.LENGTH_REQUIRED, "length", "a body comes with its Content-Length"
            )
        text = headers.get(b"content-length", b"0")
        is_number = text.isdigit() and len(text) <= LENGTH_DIGITS_MAX
        if not is_number or int(text) > BODY_BYTES_MAX:
            raise ProblemError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "too_large",
                f"a body has at most {BODY_BYTES_MAX} bytes",
            )

    @staticmethod
    def _name(host: bytes) -> str:
        """Return a host without its port."""
        text = host.decode("latin-1").lower()
        name, colon, port = text.rpartition(":")
        return name if colon and port.isdigit() else text


async def answer(send: Send, problem: ProblemError) -> None:
    """Send a problem as the whole answer."""
    body = body_of(problem.code, problem.message)
    headers: list[Any] = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": int(problem.status), "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _digest(token: bytes) -> bytes:
    """Return what tokens are compared by, all of one length."""
    return hashlib.sha256(token.strip()).digest()
