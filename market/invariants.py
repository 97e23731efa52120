"""The market's conservation laws, checked after each block on what the block wrote.

1. money: Σ (balance + held) = minted − redeemed, and nothing is negative;
2. each (home, slot) is settled once: a bill is written once, never changed, and of slots that are
   forgotten none is written again;
3. energy, per bill: import − export = bought − sold + grid − fed in;
4. each bill is the sum of its trades and grid legs;
5. per slot: what homes bought is what homes sold, but for what they traded with other regions, in
   energy and in money; what that is, is written once;
6. certificates of origin, per slot: what homes got is what homes gave;
7. per period of carbon quotas: what homes bought is what homes sold, and nothing is negative;
8. the bond of every authority and candidate is held on its account.

A law that does not hold is a bug in a contract or in this program, never a user's doing. The node
stops before it votes. Once a vote has brought in other code, the laws are checked on every call,
and a call that would break one is undone instead: a vote must not be able to end the chain.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from market.errors import InvariantError
from market.vm.journal import Before, Changes, State

ACCOUNT_PREFIX: Final = "ledger/account/"
SUPPLY_KEY: Final = "ledger/supply"
BILL_PREFIX: Final = "settlement/bill/"
FORGOTTEN_KEY: Final = "settlement/forgotten"
QUOTA_PREFIX: Final = "carbon/account/"
LEGS_PREFIX: Final = "export/legs/"
MEMBER_PREFIX: Final = "governance/member/"

_unpack: Final = msgspec.msgpack.Decoder().decode


class Money(NamedTuple):
    """The money there is. [micro]"""

    in_accounts: int = 0
    issued: int = 0  # minted − redeemed


def check_block(state: State | Before, writes: Mapping[str, bytes | None], money: Money) -> Money:
    """Check the laws on a block's writes over `state`; return the money after it.

    Raises
    ------
    InvariantError
        Saying which law, where and by how much.
    """
    in_accounts, issued = money
    traded: dict[int, _Traded] = {}
    quota_mg: dict[str, int] = {}
    once = _Once(state, writes)
    for key, data in writes.items():
        # All laws are about folders two deep, and one key.
        folder = key[: key.find("/", key.find("/") + 1) + 1]
        if folder == ACCOUNT_PREFIX:
            in_accounts += _account(key, data) - _account(key, state.items.get(key))
            _check_bond(state, writes, key.removeprefix(ACCOUNT_PREFIX))
        elif folder == MEMBER_PREFIX:
            _check_bond(state, writes, key.removeprefix(MEMBER_PREFIX))
        elif key == SUPPLY_KEY:
            issued = _issued(data)
        elif folder == BILL_PREFIX:
            once.check(key, data)
            if data is None:
                continue
            bill = _unpack(data)
            _check_bill(bill)
            traded.setdefault(bill["slot"], _Traded()).add(bill)
        elif folder == LEGS_PREFIX:
            _check_legs(key, data, state.items.get(key))
        elif folder == QUOTA_PREFIX:
            period = key.split("/")[2]
            moved = _quota(key, data) - _quota(key, state.items.get(key) if data else None)
            quota_mg[period] = quota_mg.get(period, 0) + moved
    if in_accounts != issued:
        raise InvariantError(f"accounts hold {in_accounts} micro, issued are {issued} micro")
    for slot, sums in traded.items():
        key = _legs_key(slot)
        sums.check(slot, writes[key] if key in writes else state.items.get(key))
    for period, moved_mg in quota_mg.items():
        if moved_mg:
            raise InvariantError(f"period {period}: {moved_mg} mg of quota bought but not sold")
    return Money(in_accounts, issued)


def check_changes(changes: Changes) -> None:
    """Check the laws on the writes of one call over a state in which they hold.

    Raises
    ------
    InvariantError
        A law would be broken, or what it is about cannot be read any more.
    """
    try:
        issued = _issued(changes.before.get(SUPPLY_KEY))
        check_block(changes.before, changes.writes, Money(issued, issued))
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise InvariantError(f"what the laws are about is unreadable: {error}") from None


def money_after(state: State, writes: Mapping[str, bytes | None], money: Money) -> Money:
    """Return the money after a block of which each call has been checked by itself.

    Raises
    ------
    InvariantError
        It does not add up: not even then.
    """
    in_accounts, issued = money
    for key, data in writes.items():
        if key.startswith(ACCOUNT_PREFIX):
            in_accounts += _account(key, data) - _account(key, state.items.get(key))
        elif key == SUPPLY_KEY:
            issued = _issued(data)
    if in_accounts != issued:
        raise InvariantError(f"accounts hold {in_accounts} micro, issued are {issued} micro")
    return Money(in_accounts, issued)


def count_money(state: State) -> Money:
    """Count all money in `state`. Raises `InvariantError` if it does not add up."""
    in_accounts = sum(_account(key, state.items[key]) for key in state.keys_under(ACCOUNT_PREFIX))
    money = Money(in_accounts, _issued(state.items.get(SUPPLY_KEY)))
    if money.in_accounts != money.issued:
        raise InvariantError(
            f"accounts hold {money.in_accounts} micro, issued are {money.issued} micro"
        )
    return money


def supposed_money(state: State) -> Money:
    """Return the money in a state if law 1 holds there, without counting it."""
    issued = _issued(state.items.get(SUPPLY_KEY))
    return Money(issued, issued)


class _Once:
    """Law 2. Slots before `forgotten` have no bills any more, and get none."""

    def __init__(self, state: State | Before, writes: Mapping[str, bytes | None]) -> None:
        before = state.items.get(FORGOTTEN_KEY)
        after = writes.get(FORGOTTEN_KEY, before)
        self._known = state.items
        self._before = 0 if before is None else int(_unpack(before))
        self._after = 0 if after is None else int(_unpack(after))
        if self._after < self._before:
            raise InvariantError(
                f"slots before {self._before} are forgotten, not only those before {self._after}"
            )

    def check(self, key: str, data: bytes | None) -> None:
        slot = int(key.split("/")[2])
        if data is None and slot >= self._after:
            raise InvariantError(f"{key} is deleted while its slot could be settled again")
        if data is not None and (key in self._known or slot < self._before):
            raise InvariantError(f"{key.removeprefix(BILL_PREFIX)} is settled a second time")


class _Traded:
    """Law 5, and 6: what the homes of a slot bought, less what they sold."""

    def __init__(self) -> None:
        self.energy_wh = 0
        self.money_micro = 0
        self.green_wh = 0

    def add(self, bill: Mapping[str, Any]) -> None:
        self.energy_wh += bill["bought_wh"] - bill["sold_wh"]
        self.money_micro += bill["trades_cost_micro"] - bill["trades_income_micro"]
        self.green_wh += bill["green_bought_wh"] - bill["green_sold_wh"]

    def check(self, slot: int, legs: bytes | None) -> None:
        imported_wh, exported_wh, paid_micro, got_micro = (
            (0, 0, 0, 0) if legs is None else _unpack(legs)
        )
        energy_wh = self.energy_wh - imported_wh + exported_wh
        money_micro = self.money_micro - paid_micro + got_micro
        if energy_wh or money_micro or self.green_wh:
            raise InvariantError(
                f"slot {slot}: bought exceeds sold by {energy_wh} Wh ({self.green_wh} Wh of"
                f" certificates) and {money_micro} micro"
            )


def _legs_key(slot: int) -> str:
    return f"{LEGS_PREFIX}{1_000_000_000 + slot}"


def _check_legs(key: str, data: bytes | None, before: bytes | None) -> None:
    if data is None:
        return
    if before is not None and data != before:
        raise InvariantError(f"{key}: what was traded with other regions is written a second time")
    if min(_unpack(data)) < 0:
        raise InvariantError(f"{key}: negative: {_unpack(data)}")


def _account(key: str, data: bytes | None) -> int:
    if data is None:
        return 0
    row: list[int] = _unpack(data)
    if min(row) < 0:
        raise InvariantError(f"{key}: negative: {row}")
    return row[0] + row[1]


def _quota(key: str, data: bytes | None) -> int:
    """Return what an account of quotas has bought, less what it has sold. [mg]"""
    if data is None:
        return 0
    row: list[int] = _unpack(data)
    allotted, bought, sold, offered = row[1:5]
    if min(row) < 0 or sold + offered > allotted + bought:
        raise InvariantError(f"{key}: more is sold or offered than there is: {row}")
    return bought - sold


def _check_bond(state: State | Before, writes: Mapping[str, bytes | None], address: str) -> None:
    member, account = (
        writes[key] if key in writes else state.items.get(key)
        for key in (MEMBER_PREFIX + address, ACCOUNT_PREFIX + address)
    )
    if member is None:
        return
    bond_micro = _unpack(member)["bond_micro"]
    held_micro = 0 if account is None else _unpack(account)[1]
    if bond_micro > held_micro:
        raise InvariantError(f"{address}: a bond of {bond_micro} micro, {held_micro} are held")


def _issued(data: bytes | None) -> int:
    if data is None:
        return 0
    minted, redeemed = _unpack(data)
    return int(minted) - int(redeemed)


def _check_bill(bill: dict[str, Any]) -> None:
    where = f"bill of home {bill['home']} in slot {bill['slot']}"
    net_wh = bill["bought_wh"] - bill["sold_wh"] + bill["grid_wh"] - bill["fed_in_wh"]
    if bill["import_wh"] - bill["export_wh"] != net_wh:
        raise InvariantError(f"{where}: energy does not balance: {bill}")
    total = bill["trades_cost_micro"] - bill["trades_income_micro"] + bill["grid_cost_micro"]
    total += bill["fees_micro"] + bill["penalty_micro"] - bill["feed_in_income_micro"]
    if bill["total_micro"] != total:
        raise InvariantError(f"{where}: the total is not the sum of its parts: {bill}")
    if any(value < 0 for name, value in bill.items() if name.endswith("_wh")):
        raise InvariantError(f"{where}: negative energy: {bill}")
