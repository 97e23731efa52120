"""The API's paths: what is asked reaches the answers, what they refuse has code and status."""

from typing import Any

import httpx
import pytest

from market.errors import QueryError
from node.errors import AbsentError, ControlError, UnknownError
from node.web import routes
from node.web.app import Access
from node.web.guard import (
    ADDRESSES_MAX,
    BODY_BYTES_MAX,
    REQUESTS_BURST,
    REQUESTS_PER_S,
    TRUSTED,
    Guard,
)
from tests.node.web.calls import BEARER, TOKEN, answering, serving
from wire.transaction import Refused

ADDRESS = "cw" + "0" * 40
TX_ID = "ab" * 32


@pytest.mark.parametrize(
    ("path", "name", "question"),
    [
        ("/v1/market/book", "market_book", {"slot": None}),
        ("/v1/market/book?slot=3", "market_book", {"slot": 3}),
        ("/v1/market/trades?slot=3&home=a", "market_trades", {"slot": 3, "home": "a"}),
        ("/v1/market/prices", "market_prices", {"slots": 8}),
        ("/v1/market/slots?count=200", "slots", {"count": 200}),
        ("/v1/blocks?before=7&count=2", "blocks", {"before": 7, "count": 2}),
        ("/v1/blocks/7", "block", {"height": 7}),
        ("/v1/transactions?count=50", "transactions", {"count": 50}),
        ("/v1/accounts/home-01", "account", {"account": "home-01"}),
        (f"/v1/bills/{ADDRESS}?slot=4", "bill", {"address": ADDRESS, "slot": 4}),
        ("/v1/regions/2", "region", {"number": 2}),
        ("/v1/flows", "flows", {"slots": 24}),
        ("/v1/flows?slots=96", "flows", {"slots": 96}),
        ("/v1/contracts", "query", {"contract": "vm", "entry": "overview"}),
        ("/v1/home/plan", "plan", {}),
    ],
)
async def test_a_path_is_a_question(path: str, name: str, question: dict[str, Any]) -> None:
    async with serving(answering(**{name: ...})) as client:
        answer = await client.get(path)
        assert (answer.status_code, answer.json()) == (200, question)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ControlError("count is a whole number"), 400, "malformed"),
        (UnknownError("no home is called that"), 404, "unknown"),
        (AbsentError("no main chain here"), 409, "absent"),
        (QueryError("unknown_account", "nobody"), 404, "unknown_account"),
        (QueryError("bad_argument", "which?"), 400, "bad_argument"),
        (QueryError("gate_closed", "too late"), 409, "gate_closed"),
        (Refused("bad_nonce", "used"), 422, "bad_nonce"),
        (RuntimeError("secret detail"), 500, "internal"),
    ],
)
async def test_what_an_answer_refuses(error: Exception, status: int, code: str) -> None:
    async with serving(answering(status=error)) as client:
        answer = await client.get("/v1/status")
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.json()["message"]
        assert "secret" not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/v1/blocks?count=51",
        "/v1/blocks?count=0",
        "/v1/blocks?before=-1",
        "/v1/blocks/x",
        "/v1/blocks/99999999999999999999",
        "/v1/transactions/abc",
        f"/v1/transactions/{TX_ID}0",
        "/v1/bills/home-01",
        f"/v1/accounts/{'a' * 65}",
        "/v1/regions/0",
        "/v1/contracts/Vm",
        "/v1/headers?epoch=1",
    ],
)
async def test_what_has_not_the_form_is_refused_before_it_is_asked(path: str) -> None:
    async with serving({}) as client:
        answer = await client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


async def test_what_is_not_there() -> None:
    unknown = {"status": "unknown", "message": "no such transaction"}
    async with serving(answering(block=None, transaction=unknown)) as client:
        for path in ("/v1/blocks/7", f"/v1/transactions/{TX_ID}"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (404, "unknown")
        assert (await client.get("/v1/nothing")).json()["code"] == "no_such_path"
        answer = await client.delete("/v1/blocks", headers=BEARER)
        assert (answer.status_code, answer.json()["code"]) == (405, "no_such_method")
        # Pages that would load from elsewhere.
        assert (await client.get("/docs")).status_code == 404
        assert (await client.get("/redoc")).status_code == 404


async def test_a_transaction_is_handed_in() -> None:
    async with serving(answering(submit=...)) as client:
        body = {"transaction": "00ff"}
        answer = await client.post("/v1/transactions", json=body, headers=BEARER)
        assert (answer.status_code, answer.json()) == (202, body)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"transaction": 3}', b'{"transaction": "0"}', b'{"transaction": "xx"}',
     b'{"transaction": "00", "more": 1}', b"\xff\xfe", b"[" * 60_000],
)  # fmt: skip
async def test_a_malformed_body(body: bytes) -> None:
    async with serving(answering(submit=...)) as client:
        headers = BEARER | {"content-type": "application/json"}
        answer = await client.post("/v1/transactions", content=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


async def post(client: httpx.AsyncClient, **headers: str) -> httpx.Response:
    return await client.post("/v1/transactions", json={"transaction": "00"}, headers=headers)


async def test_changes_ask_for_the_token() -> None:
    async with serving(answering(submit=..., status={})) as client:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN}):
            answer = await post(client, **headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "token")
            assert TOKEN not in answer.text
        assert (await post(client, **BEARER)).status_code == 202
        assert (await client.get("/v1/status")).status_code == 200


async def test_where_others_can_connect_reading_asks_for_it_too() -> None:
    access = Access(("localhost",), TOKEN, False)
    async with serving(answering(status={}), access=access) as client:
        assert (await client.get("/v1/status")).status_code == 401
        assert (await client.get("/metrics")).status_code == 401
        assert (await client.get("/v1/status", headers=BEARER)).status_code == 200
        # Engines ask whether it lives.
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"host": "evil.example"}, "wrong_host"),
        ({"host": "localhost.evil.example:80"}, "wrong_host"),
        ({"host": ""}, "wrong_host"),
        ({"origin": "https://evil.example"}, "wrong_origin"),
        ({"origin": "null"}, "wrong_origin"),
        ({"origin": "http://localhost.evil.example"}, "wrong_origin"),
    ],
)
async def test_pages_of_other_sites_ask_in_vain(headers: dict[str, str], code: str) -> None:
    async with serving(answering(status={}, submit=...)) as client:
        answer = await client.get("/v1/status", headers=headers)
        assert (answer.status_code in (403, 421), answer.json()["code"]) == (True, code)
        assert (await post(client, **BEARER, **headers)).json()["code"] == code


async def test_its_own_pages_may_ask() -> None:
    async with serving(answering(status={})) as client:
        headers = {"host": "LOCALHOST:4680", "origin": "http://localhost:4680"}
        assert (await client.get("/v1/status", headers=headers)).status_code == 200


async def test_answers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "ANSWER_BYTES_MAX", 20)
    async with serving(answering(status={"name": "x" * 20})) as client:
        answer = await client.get("/v1/status")
        assert (answer.status_code, answer.json()["code"]) == (422, "too_large")


async def test_bodies_are_bounded_before_they_are_read() -> None:

    async with serving(answering(submit=...)) as client:
        large = b"x" * (BODY_BYTES_MAX + 1)
        answer = await client.post("/v1/transactions", content=large, headers=BEARER)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        for length in ("0" * 20 + "99999999", "-1", "x"):
            headers = BEARER | {"content-length": length}
            answer = await client.post("/v1/transactions", content=b"", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        chunked = BEARER | {"transfer-encoding": "chunked"}
        answer = await client.post("/v1/transactions", content=b"", headers=chunked)
        assert (answer.status_code, answer.json()["code"]) == (411, "length")


async def test_ready_is_who_lacks_no_blocks() -> None:
    async with serving({}, behind=2) as client:
        assert (await client.get("/readyz")).json() == {"ready": True, "behind": 2}
    async with serving({}, behind=3) as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["code"]) == (503, "behind")
        assert (await client.get("/healthz")).status_code == 200


async def test_openapi_tells_every_path_and_its_problems() -> None:
    async with serving({}) as client:
        spec = (await client.get("/openapi.json")).json()
        for path, methods in spec["paths"].items():
            for operation in methods.values():
                assert operation.get("description"), path
                assert "422" not in operation["responses"], path
        names = [op["operationId"] for ops in spec["paths"].values() for op in ops.values()]
        assert len(set(names)) == len(names)
        assert "/v1/market/book" in spec["paths"]
        assert "HTTPValidationError" not in spec["components"]["schemas"]


async def test_an_address_may_ask_so_much_and_the_owner_as_much_as_needed() -> None:
    clock, came = [0.0], []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        came.append(TRUSTED in scope["extensions"])

    guard = Guard(app, ["house"], TOKEN, True, lambda: clock[0])

    async def asked(host: str = "192.0.2.7", token: str = "") -> int:
        headers = [(b"host", b"house")]
        if token:
            headers.append((b"authorization", f"Bearer {token}".encode()))
        scope = {"type": "http", "method": "GET", "path": "/v1/status", "headers": headers}
        said: list[Any] = []

        async def send(message: Any) -> None:
            said.append(message)

        before = len(came)
        await guard(scope | {"client": (host, 5), "extensions": {}}, None, send)  # type: ignore[arg-type]
        return 200 if len(came) > before else int(said[0]["status"])

    assert {await asked() for _ in range(int(REQUESTS_BURST))} == {200}
    assert await asked() == 429
    assert await asked(token=TOKEN) == 200
    assert came[-1]
    assert await asked("192.0.2.8") == 200
    assert {await asked("127.0.0.1") for _ in range(500)} == {200}
    clock[0] += 1.0
    assert [await asked() for _ in range(int(REQUESTS_PER_S) + 1)] == [200] * 20 + [429]
    # Who tries tokens is soon told to wait, and not whether one of them would have been right.
    tried = [await asked("192.0.2.9", f"guess{n}") for n in range(20)]
    assert tried.count(429) == 10


async def test_the_addresses_that_are_remembered_are_bounded() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        pass

    guard = Guard(app, ["house"], TOKEN, True)
    for number in range(ADDRESSES_MAX + 50):
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"house")]}
        client = (f"10.1.{number >> 8}.{number & 255}", 5)
        await guard(scope | {"client": client}, None, None)  # type: ignore[arg-type]
    assert len(guard._rates) == ADDRESSES_MAX
