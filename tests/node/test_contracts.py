"""`commonwatt contracts` against running nodes: what it prints, and what it says of refusals."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import cli
from market import contracts
from node.config import Config, settings_text
from node.errors import ConfigError, ControlError
from tests.node.commands import key_file
from tests.node.grid import (
    REGULATOR,
    Grid,
    Member,
    at_height,
    level,
    make_genesis,
    running,
    until,
)
from tests.node.test_governance import EPOCH, changing_grid
from tests.node.test_governor import gov

COUNTER = """
EXPORTS = {"value": "query"}
def instantiate(args):
    kv_put("value", args["start"])
def value():
    return kv_get("value")
"""
DOUBLER = COUNTER.replace("instantiate", "migrate").replace('args["start"]', 'kv_get("value") * 2')


async def run(member: Member, *arguments: str) -> str:
    """Run `commonwatt contracts` in a thread; return what it prints, or raise its error."""
    settings = member.directory / "outside.toml"  # the twin's addresses are no settings
    settings.write_text(settings_text(Config(node=member.config.node)))
    config = ["--config", str(settings)]
    result = await asyncio.to_thread(
        CliRunner().invoke, cli.app, ["contracts", *arguments, *config], catch_exceptions=True
    )
    if isinstance(result.exception, ConfigError | ControlError):
        raise result.exception
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


async def approved(members: list[Member], number: int) -> None:
    for member in members[1:3]:
        await level(members)
        await gov(member, "vote", str(number), "--yes")


async def test_a_contract_by_the_command_line(tmp_path: Path) -> None:
    grid = changing_grid(tmp_path, homes=5)
    file, other = tmp_path / "counter.star", tmp_path / "doubler.star"
    file.write_text(COUNTER)
    other.write_text(DOUBLER)
    name = ["--name", "counter"]
    async with running(grid, range(5)) as members:
        listed = await run(members[4], "list")
        for deployed in [*contracts.CONTRACTS, *contracts.LIBRARIES]:
            assert deployed in listed
        with pytest.raises(ControlError, match=r"not_authority: cw[0-9a-f]{40} has no seat"):
            await run(members[4], "deploy", str(file), *name, "--args", '{"start": 2}')
        opened = await run(members[0], "deploy", str(file), *name, "--args", '{"start": 2}')
        assert "proposal 1 is open, you voted for it: deploy counter" in opened
        await level(members)
        waiting = await run(members[1], "show", "1")
        assert COUNTER in waiting
        assert '{"start": 2}' in waiting
        await approved(members, 1)
        await at_height(members, members[0].node.chain.height + EPOCH)
        shown = json.loads(await run(members[3], "show", "counter", "--json"))
        assert (shown["kind"], shown["source"]) == ("contract", COUNTER)
        done = json.loads(await run(members[0], "deploy", str(other), *name, "--upgrade", "--json"))
        assert (done["proposal"], done["kind"], done["parts"]) == (2, "upgrade", 1)
        await approved(members, 2)
        apps = [member.node.app for member in members]
        await until(
            lambda: all(app.query("counter", "value", {}) == 4 for app in apps), "the upgrade"
        )
        assert done["code_hash"][:16] in await run(members[2], "list")


async def test_any_entry_can_be_called_and_asked(tmp_path: Path) -> None:
    """What the regulator and homes do now and then: tables, quotas and their trade, money."""
    grid = Grid(tmp_path, make_genesis(homes=4, time_lapse=1))
    regulator = ["--key", key_file(REGULATOR, tmp_path / "regulator.key")]
    async with running(grid, range(4)) as members:

        async def call(home: int, contract: str, entry: str, args: object, *more: str) -> str:
            await level(members)
            return await run(
                members[home], "call", contract, entry, "--args", json.dumps(args), *more
            )

        async def asked(contract: str, entry: str, args: object) -> Any:
            await level(members)
            said = await run(members[3], "query", contract, entry, "--args", json.dumps(args))
            return json.loads(said)

        head = members[0].node.chain.head.header
        slot = grid.genesis.market.clock().slot_at(head.time_ms) + 40
        opened = {"first_slot": slot, "end_slot": slot + 4, "excess_price_micro_per_kg": 50_000}
        with pytest.raises(ControlError, match="not_regulator: only the regulator opens periods"):
            await call(1, "carbon", "open_period", opened)
        said = await call(0, "carbon", "open_period", opened, *regulator)
        assert "carbon.open_period is done" in said
        assert f'"first_slot": {slot}, "period": 1}}' in said.partition("carbon.period_opened")[2]
        quotas = {"period": 1, "rows": [[1, 5_000_000], [2, 1_000_000]]}
        await call(0, "carbon", "allot", quotas, *regulator)
        offer = {"period": 1, "amount_mg": 2_000_000, "price_micro_per_kg": 30_000}
        await call(0, "carbon", "offer_quota", offer)
        bought = json.loads(
            await call(
                1, "carbon", "buy_quota", {"period": 1, "offer": 1, "amount_mg": 500_000}, "--json"
            )
        )
        assert bought["events"][-1][2]["cost_micro"] == 15_000
        await call(0, "carbon", "withdraw_quota", {"period": 1, "offer": 1})
        seller, buyer = [await asked("carbon", "report", {"period": 1, "home": n}) for n in (1, 2)]
        assert (seller["sold_mg"], seller["offered_mg"], buyer["bought_mg"]) == (
            500_000,
            0,
            500_000,
        )
        # The regulator's other work: a price of later slots, and money that leaves.
        slot_ms = grid.genesis.market.slot_ms
        table = {"kind": "feed_in", "from_ms": (slot + 50) * slot_ms, "value": [[0, 7]]}
        await call(2, "tariff", "post_table", table, *regulator)
        assert (await asked("tariff", "prices", {"slot": slot + 50}))[1] == 7
        before = await asked("ledger", "money", {})
        paid = {"address": REGULATOR.address, "amount_micro": 3_000}
        await call(1, "ledger", "transfer", paid)
        await call(0, "ledger", "redeem", {"amount_micro": 3_000}, *regulator)
        after = await asked("ledger", "money", {})
        assert after["redeemed_micro"] - before["redeemed_micro"] >= 3_000
        with pytest.raises(ConfigError, match="--args is a JSON object"):
            await run(members[0], "call", "ledger", "redeem", "--args", "3000")
        with pytest.raises(ControlError, match="unknown_entry: "):
            await call(0, "ledger", "print_money", {})


async def test_what_is_wrong_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    grid = changing_grid(tmp_path, homes=4)
    async with running(grid, range(4)) as members:

        async def refused(text: str, *arguments: str, match: str) -> None:
            file = tmp_path / "thing.star"
            file.write_text(text)
            with pytest.raises(ConfigError, match=match):
                await run(members[0], "deploy", str(file), "--name", "thing", *arguments)

        float_ = COUNTER + "def f():\n    return 1.5\n"
        await refused(float_, match=r"thing.star: literal: line 8: float literal 1.5")
        mixed = COUNTER + 'def f():\n    return 1 + "x"\n'
        await refused(mixed, match=r"types: line 8: 1 \+ .* an int and a str do not add up")
        await refused(
            COUNTER + 'def f():\n    call("ledger", "lock", {})\n',
            match=r"thing, line 8: ledger.lock takes address, amount_micro, not nothing",
        )
        await refused(COUNTER + "def f(:\n", match=r"cannot be parsed \(line 7: the parser gave up")
        await refused(
            COUNTER, "--upgrade", match="no contract thing to upgrade; there are: .*ledger"
        )
        await refused(COUNTER, "--args", "[1]", match="--args is a JSON object")
        await refused(COUNTER, "--args", "{", match="--args is no JSON")
        await refused(COUNTER, "--args", '{"a": 1.5}', match="--args: ")
        await refused(COUNTER, "--upgrade", "--library", match="either --upgrade or --library")
        with pytest.raises(ConfigError, match="cannot be read"):
            await run(members[0], "deploy", str(tmp_path / "none.star"), "--name", "thing")
        with pytest.raises(ControlError, match=r"no contract 'thing'; there are: .*market"):
            await run(members[0], "show", "thing")
        with pytest.raises(ControlError, match="no code waits for a vote under number 7"):
            await run(members[0], "show", "7")
        # What only the state can tell, the chain says; the vote does not open.
        file = tmp_path / "thing.star"
        file.write_text(COUNTER)
        with pytest.raises(ControlError, match=r"contract_fault: thing.instantiate"):
            await run(members[0], "deploy", str(file), "--name", "thing")
