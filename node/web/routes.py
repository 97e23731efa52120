"""The paths of one chain's API: each is a question of the control socket's, by HTTP.

What is asked is checked here by its form, so that OpenAPI can say what it must be; what it means is
the answers' affair (`node/api/`), and so is every refusal.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from node.api.answers import BLOCKS_MAX, SLOTS_MAX
from node.api.control import ANSWER_BYTES_MAX, Answer
from node.api.explain import OWN_MAX
from node.api.regions import FLOW_SLOTS_MAX, REGIONS_MAX
from node.api.views import PRICES_SLOTS_MAX, SLOT_MAX
from node.web.problems import JSON, Problem, ProblemError
from node.web.stream import CONTENT_TYPE, Stream
from wire.transaction import TRANSACTION_BYTES_MAX

HEIGHT_MAX: Final = 2**53
NAME_CHARS_MAX: Final = 64
NUMBER_MAX: Final = 10**9

Slot = Annotated[
    int | None, Query(ge=0, le=SLOT_MAX, description="Its number.", examples=[1_958_027])
]
Address = Annotated[
    str,
    Path(
        pattern="^cw[0-9a-f]{40}$",
        description="Account: cw and 40 hexadecimal digits.",
        examples=["cw" + "0f" * 20],
    ),
]
Account = Annotated[
    str,
    Path(
        min_length=1,
        max_length=NAME_CHARS_MAX,
        description="An address, a home's name, or `regulator`.",
        examples=["home-01"],
    ),
]
TransactionId = Annotated[
    str, Path(pattern="^[0-9a-f]{64}$", description="64 hexadecimal digits.", examples=["0f" * 32])
]
Height = Annotated[int, Path(ge=0, le=HEIGHT_MAX)]
ContractName = Annotated[str, Path(pattern="^[a-z][a-z0-9_]{0,31}$", examples=["market"])]

_FAILED: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {"model": Problem, "description": "Why not: the code is for programs."},
    "5XX": {"model": Problem, "description": "The node cannot answer now."},
}


class Submission(BaseModel):
    """A signed transaction."""

    model_config = ConfigDict(extra="forbid")

    transaction: str = Field(
        pattern="^([0-9a-f]{2})+$",
        max_length=2 * TRANSACTION_BYTES_MAX,
        description="Its canonical bytes, hexadecimal.",
        examples=["0f" * 100],
    )


class Asker:
    """Asks one chain's answers, and writes what they say."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self._answers = answers

    async def __call__(self, ask: str, **question: Any) -> Response:
        """Return an answer as JSON. Raises what the answer does."""
        return self.said(await self.value(ask, **question))

    async def value(self, ask: str, **question: Any) -> Any:
        """Return an answer. Raises what the answer does."""
        return await self._answers[ask](question)

    @staticmethod
    def said(value: Any, status: HTTPStatus = HTTPStatus.OK) -> Response:
        """Return a value as JSON. Raises `ProblemError` if it is too long."""
        body = msgspec.json.encode(value)
        if len(body) > ANSWER_BYTES_MAX:
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY, "too_large", "the answer is too long; ask for less"
            )
        return Response(body, status, media_type=JSON)


def chain_routes(answers: Mapping[str, Answer], stream: Stream, name: str) -> APIRouter:
    """Return the paths of one chain; `name` tells its operations from another's."""
    router = APIRouter(
        responses=_FAILED,
        default_response_class=Response,
        generate_unique_id_function=lambda route: f"{name}_{route.name}",
    )
    ask = Asker(answers)
    _node(router, ask)
    _blocks(router, ask)
    _transactions(router, ask)
    _market(router, ask)
    _accounts(router, ask)
    _rules(router, ask)
    _regions(router, ask)
    _events(router, stream)
    return router


def home_routes(answers: Mapping[str, Answer]) -> APIRouter:
    """Return the paths of this node's home."""
    router = APIRouter(
        prefix="/home",
        tags=["home"],
        responses=_FAILED,
        generate_unique_id_function=lambda route: f"home_{route.name}",
    )
    ask = Asker(answers)

    @router.get("/forecast", response_class=Json)
    async def forecast() -> Response:
        """Load and production expected slot by slot, each with its 80 % band."""
        return await ask("forecast")

    @router.get("/plan", response_class=Json)
    async def plan() -> Response:
        """The last plan: grid, batteries and movable loads per step, and what energy is worth."""
        return await ask("plan")

    @router.get("/devices", response_class=Json)
    async def devices() -> Response:
        """What the batteries hold, and how far the movable loads are."""
        return await ask("devices")

    @router.get("/deliveries", response_class=Json)
    async def deliveries() -> Response:
        """What physically happened in the last slots since the start: load, sun, battery, meter."""
        return await ask("deliveries")

    return router


class Json(JSONResponse):
    """An answer that is JSON already; for OpenAPI."""

    media_type = JSON


def _node(router: APIRouter, ask: Asker) -> None:
    @router.get("/status", tags=["node"], response_class=Json)
    async def status() -> Response:
        """What the node says of itself, and of its home."""
        return await ask("status")

    @router.get("/peers", tags=["node"], response_class=Json)
    async def peers() -> Response:
        """The neighbours it is connected to."""
        return ask.said((await ask.value("status"))["peers"])

    @router.get("/latencies", tags=["node"], response_class=Json)
    async def latencies() -> Response:
        """How long the last transactions handed in here took to be final, each. [ms]"""
        return await ask("latencies")


def _blocks(router: APIRouter, ask: Asker) -> None:
    @router.get("/blocks", tags=["chain"], response_class=Json)
    async def blocks(
        before: Annotated[
            int | None, Query(ge=0, le=HEIGHT_MAX, description="Below this height.")
        ] = None,
        count: Annotated[int, Query(ge=1, le=BLOCKS_MAX)] = 20,
    ) -> Response:
        """The last blocks, newest first; `next_before` asks for the next page."""
        return await ask("blocks", before=before, count=count)

    @router.get("/blocks/{height}", tags=["chain"], response_class=Json)
    async def block(height: Height) -> Response:
        """One block's header, in short."""
        found = await ask.value("block", height=height)
        if found is None:
            raise ProblemError(HTTPStatus.NOT_FOUND, "unknown", f"this node has no block {height}")
        return ask.said(found)


def _transactions(router: APIRouter, ask: Asker) -> None:
    @router.get("/transactions", tags=["chain"], response_class=Json)
    async def transactions(count: Annotated[int, Query(ge=1, le=OWN_MAX)] = 10) -> Response:
        """The last transactions that were handed in here, newest first, and how they ended."""
        return await ask("transactions", count=count)

    @router.post(
        "/transactions", tags=["chain"], response_class=Json, status_code=HTTPStatus.ACCEPTED
    )
    async def submit(body: Submission) -> Response:
        """Hand in a signed transaction. Refused: 422, with the reason's code."""
        found = await ask.value("submit", transaction=body.transaction)
        return ask.said(found, HTTPStatus.ACCEPTED)

    @router.get("/transactions/{tx_id}", tags=["chain"], response_class=Json)
    async def transaction(tx_id: TransactionId) -> Response:
        """Where a transaction is, what it asked for, how it ended; the order it posted."""
        found = await ask.value("transaction", id=tx_id)
        if found["status"] == "unknown":
            raise ProblemError(HTTPStatus.NOT_FOUND, "unknown", found["message"])
        return ask.said(found)

    @router.get("/transactions/{tx_id}/proof", tags=["chain"], response_class=Json)
    async def transaction_proof(tx_id: TransactionId) -> Response:
        """How it ended, as an encoded `ReceiptProof`, for who trusts no node."""
        return ask.said({"proof": await ask.value("receipt_proof", id=tx_id)})


def _market(router: APIRouter, ask: Asker) -> None:
    @router.get("/market/book", tags=["market"], response_class=Json)
    async def book(slot: Slot = None) -> Response:
        """Standing orders of a slot, or of the open slots: bids and asks, best first."""
        return await ask("market_book", slot=slot)

    @router.get("/market/trades", tags=["market"], response_class=Json)
    async def trades(
        slot: Slot = None,
        home: Annotated[
            str | None,
            Query(min_length=1, max_length=NAME_CHARS_MAX, description="Only this home's."),
        ] = None,
    ) -> Response:
        """A slot's rounds and trades, and how final they are; of the last slot if none is named."""
        return await ask("market_trades", slot=slot, home=home)

    @router.get("/market/prices", tags=["market"], response_class=Json)
    async def prices(
        slots: Annotated[int, Query(ge=1, le=PRICES_SLOTS_MAX)] = 8,
    ) -> Response:
        """Grid prices, suggested prices and carbon intensity from the present slot on."""
        return await ask("market_prices", slots=slots)

    @router.get("/market/requests", tags=["market"], response_class=Json)
    async def requests() -> Response:
        """Requests that take offers; 409 where the market's mechanism is another."""
        return await ask("market_requests")

    @router.get("/market/slots", tags=["market"], response_class=Json)
    async def slots(count: Annotated[int, Query(ge=1, le=SLOTS_MAX)] = 20) -> Response:
        """Summaries of the last settled slots, newest last."""
        return await ask("slots", count=count)

    @router.get("/market/slots/{slot}", tags=["market"], response_class=Json)
    async def slot(slot: Annotated[int, Path(ge=0, le=SLOT_MAX)]) -> Response:
        """One slot: summary, trades, bills, and how final they are."""
        return await ask("slot", slot=slot)


def _accounts(router: APIRouter, ask: Asker) -> None:
    @router.get("/homes", tags=["accounts"], response_class=Json)
    async def homes() -> Response:
        """Registered homes with accounts and totals."""
        return await ask("homes")

    @router.get("/money", tags=["accounts"], response_class=Json)
    async def money() -> Response:
        """What was minted and redeemed, and what all accounts hold."""
        return await ask("money")

    @router.get("/accounts/{account}", tags=["accounts"], response_class=Json)
    async def account(account: Account) -> Response:
        """What an account has, holds, owes, has open, and did not keep."""
        return await ask("account", account=account)

    @router.get("/accounts/{address}/nonce", tags=["accounts"], response_class=Json)
    async def nonce(address: Address) -> Response:
        """The last nonce of an address, 0 if none; the next transaction's is above it."""
        return ask.said({"nonce": await ask.value("nonce", address=address)})

    @router.get("/bills/{address}", tags=["accounts"], response_class=Json)
    async def bill(address: Address, slot: Slot = None) -> Response:
        """A home's bill for a slot, of the last settled one if none is named; how final it is."""
        return await ask("bill", address=address, slot=slot)

    @router.get("/bills/{address}/proof", tags=["accounts"], response_class=Json)
    async def bill_proof(address: Address, slot: Slot = None) -> Response:
        """The same as an encoded `BillProof`, for who trusts no node."""
        found = await ask.value("bill_proof", address=address, slot=slot)
        return ask.said({"proof": found})

    @router.get("/carbon", tags=["accounts"], response_class=Json)
    async def carbon() -> Response:
        """Periods of carbon accounts, with what the community emitted in each."""
        return await ask("query", contract="carbon", entry="periods")


def _rules(router: APIRouter, ask: Asker) -> None:
    @router.get("/governance", tags=["rules"], response_class=Json)
    async def governance() -> Response:
        """Who decides blocks, who has a bond, the parameters, and what is voted on."""
        entries = {
            "epoch": "authorities",
            "members": "members",
            "parameters": "parameters",
            "proposals": "proposals",
        }
        return ask.said(
            {
                name: await ask.value("query", contract="governance", entry=entry)
                for name, entry in entries.items()
            }
        )

    @router.get("/contracts", tags=["rules"], response_class=Json)
    async def contracts() -> Response:
        """The contracts and libraries that are deployed."""
        return await ask("query", contract="vm", entry="overview")

    @router.get("/contracts/{contract}", tags=["rules"], response_class=Json)
    async def contract(contract: ContractName) -> Response:
        """One of them with its text."""
        return await ask("query", contract="vm", entry="contract", args={"name": contract})


def _regions(router: APIRouter, ask: Asker) -> None:
    @router.get("/regions", tags=["regions"], response_class=Json)
    async def regions() -> Response:
        """All regions, as the main chain has them, or as far as this one has been shown."""
        return await ask("regions")

    @router.get("/regions/{number}", tags=["regions"], response_class=Json)
    async def region(number: Annotated[int, Path(ge=1, le=REGIONS_MAX)]) -> Response:
        """One region: status, authorities, money, what is anchored."""
        return await ask("region", number=number)

    @router.get("/flows", tags=["regions"], response_class=Json)
    async def flows(slots: Annotated[int, Query(ge=1, le=FLOW_SLOTS_MAX)] = 24) -> Response:
        """What regions have sold each other in the last cleared slots."""
        return await ask("flows", slots=slots)

    @router.get("/checkpoints/{number}/proof", tags=["regions"], response_class=Json)
    async def checkpoint_proof(number: Annotated[int, Path(ge=1, le=NUMBER_MAX)]) -> Response:
        """What has become of a checkpoint of this region, as an encoded `AnchorProof`."""
        return ask.said({"proof": await ask.value("checkpoint_proof", number=number)})

    @router.get("/headers", tags=["regions"], response_class=Json)
    async def headers(
        epoch: Annotated[int, Query(ge=0, le=HEIGHT_MAX)],
        height: Annotated[int, Query(ge=0, le=HEIGHT_MAX)],
    ) -> Response:
        """Signed headers from an epoch to a height, as encoded `Headers`: the way of a proof."""
        return ask.said({"path": await ask.value("path", epoch=epoch, height=height)})


def _events(router: APIRouter, stream: Stream) -> None:
    @router.get(
        "/events",
        tags=["events"],
        response_class=StreamingResponse,
        responses={200: {"content": {CONTENT_TYPE: {}}}},
    )
    async def events() -> StreamingResponse:
        """Server-sent events: `block`, `trades`, `slot`. An id is its block's height."""
        return StreamingResponse(
            stream.listen(), media_type=CONTENT_TYPE, headers={"cache-control": "no-store"}
        )
