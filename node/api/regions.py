"""What a node tells of regions and their main chain.

regions                    all regions, as the main chain has them (of a home's: its own, as far as
                           it has been shown)
region {number}            one of them: status, authorities, money, what is anchored
flows {slots}              what regions have sold each other in the last cleared slots
checkpoint_proof {number}  what has become of this region's checkpoint, as an `AnchorProof`, hex
main_path {epoch, height}  signed headers of the main chain, as `path` has them of the region, hex
stop {epoch}               what shows the main chain, which knows the region's set of that epoch,
                           where the region stands: calls in their order
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

from consensus.light import SignedHeaders
from market.app import Application
from market.client import regions
from market.errors import QueryError
from node.api.control import Answer, integer
from node.errors import AbsentError, ControlError, GenesisError
from node.proofs.anchoring import NUMBER_MAX, Anchors
from node.proofs.bill import to_hex
from node.regions.succession import stop_call
from wire.codec import encode

REGIONS_MAX: Final = 1_000
# Slots whose sums are added up for one answer.
FLOW_SLOTS_MAX: Final = 96
_PAGE: Final = 100

Path: TypeAlias = Callable[[int, int], Awaitable[SignedHeaders]]


class Regions:
    """Answers of a node about the second tier.

    Parameters
    ----------
    own : Application
        Of the node's own chain.
    main : Application or None
        The main chain's, where it is kept: beside the own chain, or as it.
    anchors : Anchors or None
        Of a node that keeps both.
    path : callable
        Returns the way to a header of the own chain: `node.chain.archive.Archive.path`.
    """

    def __init__(
        self,
        own: Application,
        main: Application | None,
        anchors: Anchors | None,
        path: Path,
    ) -> None:
        self._path = path
        self._own = own
        self._main = main
        self._anchors = anchors
        member = own.params.region
        self._region = None if member is None else member.region

    def table(self) -> dict[str, Answer]:
        """Return the answers by the question's name."""
        return {
            "regions": self.regions,
            "region": self.region,
            "flows": self.flows,
            "checkpoint_proof": self.checkpoint_proof,
            "main_path": self.main_path,
            "stop": self.stop,
        }

    async def regions(self, question: Mapping[str, Any]) -> Any:
        """All regions, in order of their numbers."""
        del question
        if self._main is None:
            return [self._inside()]
        main = self._main
        with main.at_rest():
            rows: list[dict[str, Any]] = []
            for first in range(1, REGIONS_MAX + 1, _PAGE):
                asked = {"first": first, "count": _PAGE}
                rows += main.query("regions", "regions", asked)
            return [self._row(main, row) for row in rows]

    async def region(self, question: Mapping[str, Any]) -> Any:
        """One region; the node's own if no number is given."""
        number = question.get("number")
        number = self._region if number is None else number
        if type(number) is not int or not 1 <= number <= REGIONS_MAX:
            raise ControlError(f"number is that of a region, 1 to {REGIONS_MAX}")
        if self._main is None:
            found = self._inside()
            if found["number"] != number:
                raise AbsentError(
                    f"this home keeps region {found['number']} only: ask a node that keeps the "
                    "main chain, such as an authority's"
                )
            return found
        main = self._main
        with main.at_rest():
            found = self._row(main, main.query("regions", "show", {"region": number}))
            asked = {"region": number, "epoch": found["epoch"]}
            found["authorities"] = main.query("regions", "authorities", asked)
            found["funds"] = main.query("regions", "funds", {"region": number})
            found["override"] = main.query("override", "status", {"region": number})
        if number == self._region:
            found["inside"] = self._inside()
        return found

    async def flows(self, question: Mapping[str, Any]) -> Any:
        """What regions have sold each other, by seller and buyer; `first_slot` None: nothing."""
        slots = integer(question, "slots", 1, FLOW_SLOTS_MAX)
        if self._main is None:
            raise AbsentError(
                "the main chain is not kept here: ask a node that does, such as an authority's"
            )
        sums: dict[tuple[int, int], list[int]] = {}
        first = last = None
        with self._main.at_rest():
            window = self._main.query("exchange", "window", {})
            if window is not None and window[1] >= window[0]:
                first, last = max(window[0], window[1] - slots + 1), window[1]
                for slot in range(first, last + 1):
                    cleared = self._main.query("exchange", "cleared", {"slot": slot})
                    for buyer, seller, *amounts in cleared["flows"] if cleared else ():
                        before = sums.get((seller, buyer), [0, 0, 0])
                        sums[seller, buyer] = [a + b for a, b in zip(before, amounts, strict=True)]
        return {
            "first_slot": first,
            "last_slot": last,
            "flows": [
                {
                    "seller": seller,
                    "buyer": buyer,
                    "energy_wh": energy_wh,
                    "cost_micro": cost_micro,
                    "fee_micro": fee_micro,
                }
                for (seller, buyer), (energy_wh, cost_micro, fee_micro) in sorted(sums.items())
            ],
        }

    def _row(self, main: Application, row: dict[str, Any]) -> dict[str, Any]:
        asked = {"region": row["number"]}
        last = main.query("anchor", "last", asked)
        audit = main.query("audit", "status", asked)
        return row | {
            "audited": audit["number"],
            "audited_to_height": audit["to_height"],
            "auditors_redrawn": audit["redrawn"],
            "anchored": last["number"],
            "anchored_to_height": last["to_height"],
            "anchored_ms": last["anchored_ms"],
            "anchored_in_block": last["anchored_height"],
            "newest_slot": last["newest_slot"] if last["newest_slot"] >= 0 else None,
        }

    def _inside(self) -> dict[str, Any]:
        """What the region's own state says of itself and of the main chain."""
        own, member = self._own, self._own.params.region
        if member is None:
            raise AbsentError("this chain is no region of a main chain: it is a street by itself")
        try:
            with own.at_rest():
                closed = own.query("export", "closed", {})
                anchored = own.query("export", "anchored", {})
                head = own.query("export", "main_head", {})
                traded = own.query("export", "traded", {})
                suspended = own.query("export", "is_suspended", {})
        except QueryError as error:
            raise ControlError(f"{error.code}: {error.message}") from None
        return {
            "number": member.region,
            "chain_id": own.params.chain_id,
            "main_chain_id": member.main_chain_id,
            "height": own.height,
            "closed": closed["number"],
            "anchored": anchored["number"],
            "anchored_to_height": anchored["to_height"],
            "main_height": head["height"],
            "traded": traded,
            "suspended": suspended,
        }

    async def checkpoint_proof(self, question: Mapping[str, Any]) -> Any:
        """What has become of a checkpoint, with proof."""
        number = integer(question, "number", 1, NUMBER_MAX)
        return to_hex(await self._need_anchors().proof(number))

    async def main_path(self, question: Mapping[str, Any]) -> Any:
        """Signed headers of the main chain."""
        epoch, height = (integer(question, name, 0, 2**62) for name in ("epoch", "height"))
        return to_hex(await self._need_anchors().path(epoch, height))

    async def stop(self, question: Mapping[str, Any]) -> Any:
        """What shows the main chain the last block of this region: sets, and the block."""
        epoch = integer(question, "epoch", 0, 2**62)
        if self._region is None:
            raise AbsentError("this chain is no region of a main chain: it is a street by itself")
        headers = await self._path(epoch, self._own.height)
        if not headers or headers[-1].header.height < self._own.height:
            raise ControlError("the way to this region's last block is not here: try again")
        try:
            with self._own.at_rest():
                shown = stop_call(self._region, self._own, headers[-1])
        except GenesisError as error:
            raise ControlError(f"{error}") from None
        calls = [regions.rotate(self._region, encode(end).hex()) for end in headers[:-1]]
        return [call._asdict() for call in (*calls, shown)]

    def _need_anchors(self) -> Anchors:
        if self._anchors is None:
            raise AbsentError(
                "this node does not keep its region's main chain: ask an authority of the region"
            )
        return self._anchors
