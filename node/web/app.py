"""The application that serves one node's API: its paths, and what is said when something fails."""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from market.errors import QueryError
from node.api.control import Answer
from node.errors import ControlError
from node.status import version
from node.web import metrics as text_format
from node.web.guard import Guard
from node.web.problems import (
    JSON,
    Problem,
    ProblemError,
    body_of,
    http_code,
    problem_of,
    validation_message,
)
from node.web.routes import Asker, Json, chain_routes, home_routes
from node.web.stream import Stream
from wire.transaction import Refused

_EXPECTED: Final = (ProblemError, ControlError, QueryError, Refused)
PREFIX: Final = "/v1"
MAIN_PREFIX: Final = "/v1/main"
# A node that lacks no more than this is as good as level: the next block is on its way.
BEHIND_MAX: Final = 2

_ABOUT: Final = (
    "What this home's node knows: its chain, the market on it, and its home. Energies are whole "
    "Wh, money whole micro-units of the market's currency, times milliseconds since 1970. "
    "Where the node keeps its region's main chain too, the same paths are under `/v1/main`."
)


class Served(NamedTuple):
    """One chain that is served: its answers by the question's name, and its events."""

    answers: Mapping[str, Answer]
    stream: Stream


class Access(NamedTuple):
    """Who may ask: names of this host, the token, and whether reading needs none."""

    hosts: Sequence[str]
    token: str
    open_reads: bool

    def __repr__(self) -> str:
        return f"Access({', '.join(self.hosts)}, open_reads={self.open_reads})"


def build_app(
    chains: Sequence[Served],
    home: Mapping[str, Answer],
    behind: Callable[[], int],
    metrics: Callable[[], str],
    access: Access,
    dashboard: APIRouter | None = None,
) -> ASGIApp:
    """Return the ASGI application.

    Parameters
    ----------
    chains : sequence of Served
        The node's own chain and, if it keeps it, the main chain.
    home : mapping
        Answers about its home (`node.api.outlook`).
    behind : callable
        How many blocks of its own chain it lacks.
    metrics : callable
        Prometheus text.
    access : Access
    dashboard : APIRouter, optional
        Pages for people (`node.web.dashboard`).
    """
    api = FastAPI(
        title="Commonwatt",
        version=version(),
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    api.include_router(_health(behind, metrics))
    own, *others = chains
    api.include_router(home_routes(home), prefix=PREFIX)
    api.include_router(chain_routes(own.answers, own.stream, "own"), prefix=PREFIX)
    for other in others:
        routes = chain_routes(other.answers, other.stream, "main")
        api.include_router(routes, prefix=MAIN_PREFIX)
    if dashboard is not None:
        api.include_router(dashboard)
    _say_problems(api)
    return Guard(api, access.hosts, access.token, access.open_reads)


def _health(behind: Callable[[], int], metrics: Callable[[], str]) -> APIRouter:
    router = APIRouter(tags=["operation"])

    @router.get("/healthz", response_class=Json)
    async def healthz() -> Response:
        """Whether the node lives: that it answers is the answer."""
        return Asker.said({"alive": True})

    @router.get(
        "/readyz",
        response_class=Json,
        responses={503: {"model": Problem, "description": "It lacks blocks."}},
    )
    async def readyz() -> Response:
        """Whether the node knows what its neighbours know."""
        lacking = behind()
        if lacking > BEHIND_MAX:
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE, "behind", f"{lacking} blocks are missing here"
            )
        return Asker.said({"ready": True, "behind": lacking})

    @router.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}},
    )
    async def prometheus() -> Response:
        """Prometheus metrics, text format."""
        return Response(metrics(), headers={"content-type": text_format.CONTENT_TYPE})

    return router


def _say_problems(api: FastAPI) -> None:
    async def problem(request: Request, error: Exception) -> Response:
        del request
        found = problem_of(error)
        return Response(body_of(found.code, found.message), found.status, media_type=JSON)

    async def invalid(request: Request, error: Exception) -> Response:
        del request
        found: Sequence[Any] = error.errors() if isinstance(error, RequestValidationError) else ()
        body = body_of("malformed", validation_message(list(found)))
        return Response(body, HTTPStatus.BAD_REQUEST, media_type=JSON)

    async def refused(request: Request, error: Exception) -> Response:
        del request
        status = error.status_code if isinstance(error, HTTPException) else 500
        headers = error.headers if isinstance(error, HTTPException) else None
        body = body_of(http_code(status), str(getattr(error, "detail", "")))
        return Response(body, status, headers=headers, media_type=JSON)

    api.add_exception_handler(Exception, problem)
    for kind in _EXPECTED:
        api.add_exception_handler(kind, problem)
    api.add_exception_handler(RequestValidationError, invalid)
    api.add_exception_handler(HTTPException, refused)
