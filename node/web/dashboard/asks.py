"""What pages are written from: the answers of one chain, the same that the API gives."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from market.errors import QueryError
from node.api.control import Answer
from node.errors import ControlError
from node.web.dashboard.words import Local

DAY_SLOTS: Final = 96


class Asks:
    """Asks one chain's answers.

    Parameters
    ----------
    answers : mapping
        By the question's name (`node.api.answers`).
    """

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self._answers = answers

    async def __call__(self, name: str, **question: Any) -> Any:
        """Return an answer as plain values; None where the node has nothing of that kind."""
        try:
            found = await self._answers[name](question)
        except (ControlError, QueryError):
            return None
        return msgspec.to_builtins(found)

    async def local(self) -> Local:
        """Return the market's wall clock."""
        asked = {"contract": "tariff", "entry": "table", "args": {"kind": "utc_offsets"}}
        return Local(await self("query", **asked) or ())

    async def names(self) -> dict[str, str]:
        """Return what accounts are called, by their addresses: homes by their names."""
        homes = await self("homes") or ()
        return {row["home"]["address"]: row["home"]["name"] for row in homes}

    async def authorities(self) -> list[str]:
        """Return the present authorities' names, by their index."""
        epoch = await self("query", contract="governance", entry="authorities")
        names = await self.names()
        return [
            names.get(address, address) for address in (epoch or {"addresses": ()})["addresses"]
        ]
