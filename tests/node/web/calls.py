"""Applications to ask without a socket, over answers of the tests' own or of a node."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from node.api.control import Answer
from node.web.app import Access, Served, build_app
from node.web.stream import Stream

TOKEN = "t" * 32
BEARER = {"authorization": f"Bearer {TOKEN}"}
ACCESS = Access(("localhost",), TOKEN, True)


def answering(**values: Any) -> dict[str, Answer]:
    """Return answers that give a value or raise an error."""

    def fixed(value: Any) -> Answer:
        async def answer(question: Mapping[str, Any]) -> Any:
            if isinstance(value, Exception):
                raise value
            return dict(question) if value is ... else value

        return answer

    return {name: fixed(value) for name, value in values.items()}


@asynccontextmanager
async def serving(
    answers: Mapping[str, Answer],
    stream: Stream | None = None,
    access: Access = ACCESS,
    behind: int = 0,
) -> AsyncIterator[httpx.AsyncClient]:
    """Serve answers to a client in the same process."""
    app = build_app(
        [Served(answers, stream or Stream())], answers, lambda: behind, lambda: "up 1\n", access
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client
