"""A file of a market's rules: what it says is in the genesis, and what cannot be is named."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

import cli
from market.genesis import MarketParams
from node.errors import ConfigError, GenesisError
from node.genesis import NO_RULES, read_genesis
from node.setup import GENESIS_NAME, MAIN_GENESIS_NAME
from testnet.regions import create
from testnet.rules import rules_of
from testnet.street import StreetError, StreetPlan, create_street, open_street

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "rules.md").read_text("utf-8")
EXAMPLE = PAGE.partition("```toml\n")[2].partition("```")[0]
FIELDS = {field.name: field for field in msgspec.structs.fields(MarketParams)}


def market_in(street: Path, home: str = "home-01", file: str = GENESIS_NAME) -> MarketParams:
    return read_genesis(street / home / file).market


def test_the_pages_example_is_what_a_street_trades_by(tmp_path: Path) -> None:
    file, street = tmp_path / "rules.toml", tmp_path / "street"
    file.write_text(EXAMPLE)
    typed = ["testnet", "create", "--dir", str(street), "--homes", "4", "--rules", str(file)]
    made = CliRunner().invoke(cli.app, typed)
    assert made.exit_code == 0, made.output
    market = market_in(street)
    assert (market.trade_price, market.feed_in_enabled) == ("mid", False)
    assert (market.penalty_micro_per_kwh, market.margin_percent) == (80_000, 20)
    assert (market.suggested_ask_shift_percent, market.suggested_bid_shift_percent) == (50, 25)
    assert market.tariffs[0][1][2] == (840, 541_100)
    assert market.feed_in == ((0, 80_000),)
    # What no file says stays as every street has it, and a street that is there keeps its rules.
    assert (market.mechanism, market.currency, market.margin_percent) == ("high_low", "AUD", 20)
    opened = open_street(street)
    assert opened is not None
    assert opened.plan.rules == tomllib.loads(EXAMPLE)


def test_every_rule_is_on_the_page_with_its_default() -> None:
    rows = [line.split("|") for line in PAGE.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row[1])]
    assert sorted(named) == sorted(set(FIELDS) - set(NO_RULES))
    for row in rows:
        defaults = [FIELDS[name].default for name in re.findall(r"`(\w+)`", row[1])]
        written = {"10⁹" if default == 10**9 else f"{default:,}" for default in defaults
                   if type(default) is int}  # fmt: skip
        assert all(text in row[2] for text in written), row[1]


def test_regions_have_the_rules_and_their_main_chain_the_currency(tmp_path: Path) -> None:
    rules = {"currency": "EUR", "margin_percent": 5, "lines": [[1, 0, 20_000]]}
    create(tmp_path / "grid", StreetPlan(homes=8, regions=2, rules=rules))
    for home in ("home-01", "home-05"):
        market = market_in(tmp_path / "grid", home)
        assert (market.currency, market.margin_percent) == ("EUR", 5)
        assert market.lines == ((1, 0, 20_000),)
    (path,) = (tmp_path / "grid" / "home-01").rglob(MAIN_GENESIS_NAME)
    main = read_genesis(path).market
    assert (main.currency, main.margin_percent, main.lines) == ("EUR", 10, ())


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("marginpercent = 1", StreetError, "marginpercent is no rule of a market; there are curr"),
        ('chain_id = "mine"', StreetError, "chain_id is no rule"),
        ("margin_percent = 1.5", StreetError, "margin_percent: Expected `int`"),
        ("tariffs = [[0, 1]]", StreetError, "tariffs"),
        ("lines = 1", StreetError, "lines"),
        ("margin_percent", ConfigError, "not TOML"),
    ],
)
def test_what_is_no_rule_is_named(
    tmp_path: Path, text: str, kind: type[Exception], words: str
) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(text)
    with pytest.raises(kind, match=words) as caught:
        rules_of(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_rule_out_of_its_range_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    plan = StreetPlan(homes=4, rules={"margin_percent": 101})
    with pytest.raises(GenesisError, match="market: margin_percent must be"):
        create_street(tmp_path / "street", plan)
    assert not (tmp_path / "street").exists()
    assert rules_of(None) is None
