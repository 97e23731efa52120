"""What the HTTP API says when it cannot do what it was asked: `{"code": ..., "message": ...}`.

Codes are stable, messages are for people. Those of contracts and of refused transactions come
through as they are.
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from pydantic import BaseModel, Field

from market.errors import QueryError
from node.errors import AbsentError, ControlError, UnknownError
from wire.transaction import Refused

log = logging.getLogger("commonwatt.web")

JSON: Final = "application/json"
_UNKNOWN_CODES: Final = ("not_a_home", "not_a_candidate")
_BAD_CODES: Final = ("bad_argument", "bad_arguments")
_HTTP_CODES: Final = {
    HTTPStatus.NOT_FOUND: "no_such_path",
    HTTPStatus.METHOD_NOT_ALLOWED: "no_such_method",
    HTTPStatus.BAD_REQUEST: "malformed",
}


class Problem(BaseModel):
    """Why a request was not done."""

    code: str = Field(description="Stable, for programs.", examples=["malformed"])
    message: str = Field(
        description="What is wrong, and what would be right, for people.",
        examples=["query.count: Input should be less than or equal to 50"],
    )


class ProblemError(Exception):
    """A request that is not done, with status, code and message of its answer."""

    def __init__(self, status: HTTPStatus, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code
        self.message = message


def body_of(code: str, message: str) -> bytes:
    """Return a problem as it is sent."""
    return msgspec.json.encode({"code": code, "message": message})


def problem_of(error: Exception) -> ProblemError:
    """Return what is said of an error; of one that must not be, only that the log knows it."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, Refused):
        return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, error.code, error.message)
    if isinstance(error, QueryError):
        return ProblemError(_status_of_query(error.code), error.code, error.message)
    if isinstance(error, UnknownError):
        return ProblemError(HTTPStatus.NOT_FOUND, "unknown", str(error))
    if isinstance(error, AbsentError):
        return ProblemError(HTTPStatus.CONFLICT, "absent", str(error))
    if isinstance(error, ControlError):
        return ProblemError(HTTPStatus.BAD_REQUEST, "malformed", str(error))
    log.error("a request failed", exc_info=error)
    return ProblemError(
        HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "the node could not answer; its log says why"
    )


def http_code(status: int) -> str:
    """Return the code for a status that the framework has chosen."""
    try:
        return _HTTP_CODES.get(HTTPStatus(status), "refused")
    except ValueError:
        return "refused"


def validation_message(errors: list[Mapping[str, Any]]) -> str:
    """Return the first of pydantic's complaints as `where: what`."""
    if not errors:
        return "the request cannot be read"
    first = errors[0]
    where = ".".join(str(part) for part in first.get("loc", ()))
    return f"{where}: {first.get('msg', 'cannot be read')}"


def _status_of_query(code: str) -> HTTPStatus:
    if code.startswith("unknown_") or code in _UNKNOWN_CODES:
        return HTTPStatus.NOT_FOUND
    if code in _BAD_CODES:
        return HTTPStatus.BAD_REQUEST
    return HTTPStatus.CONFLICT
