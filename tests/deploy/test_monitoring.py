"""Alerts and the Grafana dashboard ask for what nodes tell, in the form their readers want."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from node.home.household import Household
from node.network._face import COUNTERS
from node.tiers import Tier
from node.web.metrics import _HOME, Metrics
from tests.market.street import Street, params

DEPLOY = Path(__file__).parents[2] / "deploy"
METRIC = re.compile(r"\bcommonwatt_\w+")
EVENT = re.compile(r'event=~?"([\w|]+)"')
# Of Prometheus itself.
OTHERS = {"up"}


def stub(**parts: Any) -> Any:
    return SimpleNamespace(**parts)


@pytest.fixture(scope="module")
def told() -> set[str]:
    """The names of all metrics of a node with a home."""
    street = Street(params(2))
    tier = stub(
        name="home",
        app=street.app,
        genesis=stub(chain_id="street"),
        chain=stub(
            height=1,
            round=0,
            voting=True,
            authorities=stub(epoch=0),
            head=stub(header=stub(time_ms=0)),
            counts={"transactions": 1},
        ),
        sync=stub(behind=0),
        network=stub(peers=list, counters=lambda: dict.fromkeys(COUNTERS, 0)),
        mempool=type("M", (list,), {"refused": {"late": 1}})(),
        finality=stub(latencies_ms=[1.0]),
    )
    home = dict.fromkeys((field for *_, field, _ in _HOME), 1) | {"battery_wh": 1}
    household = stub(snapshot=lambda: home | {"refused": {"late": 1}})
    text = Metrics([cast(Tier, tier)], cast(Household, household)).render()
    return {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}


def counted() -> set[str]:
    source = (DEPLOY.parent / "node" / "chain" / "driver.py").read_text()
    return {*COUNTERS, *re.findall(r'counts\["(\w+)"\]', source)}


def check(expression: str, told: set[str]) -> None:
    """Check names, labels and brackets of a query."""
    names = set(METRIC.findall(expression))
    assert names <= told, names - told
    assert names or expression.split("{")[0] in OTHERS, expression
    for events in EVENT.findall(expression):
        assert set(events.split("|")) <= counted(), events
    for left, right in ("()", "[]", "{}"):
        assert expression.count(left) == expression.count(right), expression


def test_the_alerts_ask_for_what_is_told(told: set[str]) -> None:
    (group,) = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
    names = [rule["alert"] for rule in group["rules"]]
    assert len(set(names)) == len(names) >= 10
    for rule in group["rules"]:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"[A-Z][A-Za-z]+", rule["alert"])
        assert re.fullmatch(r"[0-9]+[sm]", rule.get("for", "0s"))
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}
        check(rule["expr"], told)


def test_the_alerts_are_on_the_job_of_the_compose_file() -> None:
    compose = yaml.safe_load((DEPLOY.parent / "docker-compose.yml").read_text())
    settings = yaml.safe_load(compose["configs"]["prometheus"]["content"])
    (job,) = [one["job_name"] for one in settings["scrape_configs"]]
    assert f'up{{job="{job}"}}' in (DEPLOY / "alerts.yml").read_text()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Prometheus' own tool is not here")
def test_prometheus_takes_the_alerts_and_the_settings_of_the_compose_file(tmp_path: Path) -> None:
    compose = yaml.safe_load((DEPLOY.parent / "docker-compose.yml").read_text())
    settings = tmp_path / "prometheus.yml"
    rules = f"rule_files: [{DEPLOY / 'alerts.yml'}]\n"
    settings.write_text(compose["configs"]["prometheus"]["content"] + rules)
    command = ["promtool", "check", "config", str(settings)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"SUCCESS: \d+ rules found", done.stdout)


def test_the_dashboard_draws_what_is_told(told: set[str]) -> None:
    board = json.loads((DEPLOY / "grafana" / "commonwatt.json").read_text())
    assert {"uid", "title", "schemaVersion", "panels", "templating", "time"} <= set(board)
    names = {one["name"] for one in board["templating"]["list"]}
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    places: set[tuple[int, int]] = set()
    shown: set[str] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        assert 0 <= at["x"] <= at["x"] + at["w"] <= 24
        cells = {
            (at["x"] + column, at["y"] + line)
            for column in range(at["w"])
            for line in range(at["h"])
        }
        assert not cells & places, f"{panel['title']} lies over another"
        places |= cells
        if panel["type"] == "row":
            continue
        assert panel["targets"]
        for target in panel["targets"]:
            check(target["expr"], told)
            assert set(re.findall(r"\$(\w+)", target["expr"])) <= names
            assert target["datasource"]["uid"] == "${source}"
            shown |= set(METRIC.findall(target["expr"]))
    # What is left out is money that came in and went out, and the version.
    assert told - shown == {
        "commonwatt_build_info",
        "commonwatt_home_battery_wh",
        "commonwatt_home_refused_total",
        "commonwatt_money_minted_units",
        "commonwatt_money_redeemed_units",
    }
