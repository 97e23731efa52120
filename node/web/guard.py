"""What every request passes before anything looks at it: host, origin, rate, token, size.

A page of any other site can make a browser on this machine send requests here, under this
machine's name or under one of its own that it has resolved to this address: hence both checks. The
token is asked for whatever changes something, and for reading too where others than this machine
can connect. Addresses of other machines may ask so much in a second, and a wrong token costs as
much as many questions; with the right one there is no limit.
"""

import hashlib
import hmac
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from http import HTTPStatus
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from node.network._limits import Rate
from node.web.problems import ProblemError, body_of

BODY_BYTES_MAX: Final = 65_536
LENGTH_DIGITS_MAX: Final = 12
READ_METHODS: Final = ("GET", "HEAD", "OPTIONS")
# Whoever may connect may ask whether the node lives: engines do.
OPEN_PATHS: Final = ("/healthz", "/readyz")
LOOPBACK_HOSTS: Final = ("localhost", "127.0.0.1", "[::1]")
# Marks a request, and with it its connection, whose token was the right one.
TRUSTED: Final = "commonwatt.trusted"
REQUESTS_PER_S: Final = 20.0
REQUESTS_BURST: Final = 200.0
WRONG_TOKEN_COST: Final = 20
ADDRESSES_MAX: Final = 1_024


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
    clock : callable, optional
        Monotonic. [s]
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Collection[str],
        token: str,
        open_reads: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._token = _digest(token.encode())
        self._open_reads = open_reads
        self._clock = clock
        self._rates: OrderedDict[str, Rate] = OrderedDict()

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
        given = headers.get(b"authorization", b"")
        if self._is_owner(given):
            scope.setdefault("extensions", {})[TRUSTED] = {}
        else:
            self._check_rate(scope, WRONG_TOKEN_COST if given else 1)
            reads = scope["method"] in READ_METHODS
            if scope["path"] not in OPEN_PATHS and not (reads and self._open_reads):
                self._ask_for_token()
        self._check_size(headers)

    def _is_owner(self, given: bytes) -> bool:
        scheme, _, token = given.partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(_digest(token), self._token)

    def _check_rate(self, scope: Scope, cost: int) -> None:
        client = scope.get("client")
        if client is None or _is_loopback(client[0]):
            return
        rate = self._rates.get(client[0])
        if rate is None:
            rate = self._rates[client[0]] = Rate(REQUESTS_PER_S, REQUESTS_BURST, self._clock())
            if len(self._rates) > ADDRESSES_MAX:
                self._rates.popitem(last=False)
        self._rates.move_to_end(client[0])
        if not rate.take(cost, self._clock()):
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too_many_requests",
                f"without the token an address may ask {REQUESTS_PER_S:g} times a second; wait",
            )

    @staticmethod
    def _ask_for_token() -> None:
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


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _digest(token: bytes) -> bytes:
    """Return what tokens are compared by, all of one length."""
    return hashlib.sha256(token.strip()).digest()
