"""What an account has, what of it is held and why, and what its home has open."""

import asyncio
from typing import Annotated, Any

import typer

from node.cli.options import (
    CONFIG,
    ConfigOption,
    JsonOption,
    NodeOption,
    data_of,
    money,
    own_address,
    print_json,
)


def account(
    name: Annotated[
        str | None,
        typer.Argument(help="An account, a home's name, or regulator. [default: this home]"),
    ] = None,
    config: ConfigOption = CONFIG,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show an account: balance, what is held by what, arrears, record, open orders, quotas."""
    from node.api.control import ask
    from node.errors import ConfigError

    if name is None and node is not None and not config.exists():
        raise ConfigError(
            f"{config}: there are no settings; name the account, or give --config FILE"
        )
    asked = own_address(config) if name is None else name
    found = asyncio.run(ask(data_of(config, node), "account", account=asked))
    if as_json:
        print_json(found)
    else:
        print_account(found)


def print_account(found: dict[str, Any]) -> None:
    """Print an account and, of a home, what it has open and what it kept."""
    from node.cli.market import orders_table, request_lines
    from node.cli.tables import show

    has, held, currency = found["account"], found["held_by"], found["at"]["currency"]
    show(
        f"{found['name']}  {found['address']}",
        f"  balance    {money(has['balance_micro'])} {currency}",
        f"  held       {money(has['held_micro'])}: orders {money(held['orders_micro'])}, requests "
        f"and offers {money(held['requests_micro'])}, bond {money(held['bond_micro'])}",
        f"  arrears    {money(has['arrears_micro'])}"
        + (": paid first, by `contracts call ledger pay_arrears`" if has["arrears_micro"] else ""),
    )
    if found["seat"] is not None:
        show(f"  authority  {found['seat']}")
    if found["home"] is None:
        return
    record, total = found["record"], found["total"]
    show(
        f"  home       number {found['home']['number']}, {found['home']['role']}",
        f"  record     {record['contracted_slots'] - record['defaults']} of "
        f"{record['contracted_slots']} contracted slots kept among the last "
        f"{record['of_the_last_slots']}, {record['unsettled']} contracts not settled",
        f"  in all     {total['slots']} slots: bought {total['bought_wh']} Wh, sold "
        f"{total['sold_wh']} Wh, paid {money(total['total_micro'])}",
    )
    for period in found["carbon"]:
        quota_mg = period["allotted_mg"] + period["bought_mg"] - period["sold_mg"]
        slots = f"slots {period['first_slot']} to {period['end_slot'] - 1}"
        show(
            f"  carbon     period {period['period']}, {slots}: emitted "
            f"{period['emitted_mg'] / 1e6:.3f} kg of a quota of {quota_mg / 1e6:.3f} kg, "
            f"{period['offered_mg'] / 1e6:.3f} kg for sale"
        )
    show("orders" if found["orders"] else "no open orders", orders_table(found["orders"]))
    for request in found["requests"]:
        show(*request_lines(request))
