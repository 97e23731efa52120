"""A region whose authorities all run a program that cheats, and sign what comes of it."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from market.app import Application, BlockEnv, BlockResult
from market.convictions import Conviction
from market.invariants import money_after
from market.vm import merkle
from market.vm.journal import folder_counts_after
from tests.regions.grid import Region
from wire.codec import encode
from wire.transaction import CheckedTransaction

Writes = dict[str, bytes | None]
Cheat = Callable[[Application, Writes], bool]


class CheatingApplication(Application):
    """Executes blocks as all do, and lets `cheat` change what they write, once."""

    cheat: Cheat | None = None
    cheated_at = 0

    def execute(
        self,
        env: BlockEnv,
        txs: Sequence[CheckedTransaction],
        convictions: Sequence[Conviction] = (),
    ) -> BlockResult:
        result = super().execute(env, txs, convictions)
        if self.cheat is None:
            return result
        changed = tampered(self, result, self.cheat)
        if changed is not result:
            self.cheat, self.cheated_at = None, env.height
        return changed


def tampered(app: Application, result: BlockResult, cheat: Cheat) -> BlockResult:
    """Return what a block does after `cheat` has changed it; the same object if it has not."""
    writes = dict(result.writes)
    if not cheat(app, writes):
        return result
    base = app.loaded()
    tree = merkle.update(base.tree, writes | folder_counts_after(base.state, writes))
    money = money_after(base.state, writes, base.money)
    root = merkle.root_of(tree)
    return result._replace(writes=writes, tree=tree, state_root=root, money=money)


class Cheating(Region):
    """A region with homes in the hands of such authorities."""

    application = CheatingApplication

    def cheat(self, how: Cheat) -> None:
        assert isinstance(self.app, CheatingApplication)
        self.app.cheat = how

    @property
    def cheated_at(self) -> int:
        assert isinstance(self.app, CheatingApplication)
        return self.app.cheated_at


def _changed(writes: Writes, key: str, change: Callable[[Any], None]) -> None:
    data = writes[key]
    assert data is not None
    value = msgspec.msgpack.decode(data)
    change(value)
    writes[key] = encode(value)


def wrong_bill(app: Application, writes: Writes) -> bool:
    """Let one home pay for another's grid energy."""
    bills = sorted(key for key in writes if key.startswith("settlement/bill/"))
    if not bills:
        return False

    def moved(by: int) -> Callable[[dict[str, int]], None]:
        def change(bill: dict[str, int]) -> None:
            bill["grid_cost_micro"] += by
            bill["total_micro"] += by

        return change

    _changed(writes, bills[0], moved(-100))
    _changed(writes, bills[1], moved(100))
    return True


def wrong_totals(app: Application, writes: Writes) -> bool:
    """Say that more was fed in and taken than the bills say; energy and money still balance."""
    records = [key for key in writes if key.startswith("export/checkpoint/") and writes[key]]
    found = [key for key in records if msgspec.msgpack.decode(writes[key] or b"")[6]]
    if not found:
        return False

    def change(record: list[Any]) -> None:
        slot = record[6][0]
        slot[2] += 500
        slot[3] += 500

    _changed(writes, found[0], change)
    return True


def minted(app: Application, writes: Writes) -> bool:
    """Put money into an account; the supply grows with it, so that all adds up."""
    accounts = [key for key in writes if key.startswith("ledger/account/") and writes[key]]
    if not accounts or "ledger/supply" not in writes:
        return False

    def more(row: list[int]) -> None:
        row[0] += 1_000_000

    _changed(writes, accounts[0], more)
    _changed(writes, "ledger/supply", more)
    return True


def kept_reading(app: Application, writes: Writes) -> bool:
    """Drop a reading that a meter has posted, and with it the only key of its folder, perhaps."""
    readings = [key for key in writes if key.startswith("settlement/reading/") and writes[key]]
    if not readings:
        return False
    for key in readings[:1]:
        del writes[key]
    return True


CHEATS: Final[dict[str, Cheat]] = {
    "a wrong bill": wrong_bill,
    "wrong totals": wrong_totals,
    "money from nowhere": minted,
    "a reading left out": kept_reading,
}
