"""Files for engines: those that lie here are those that are made; impossible sizes are said."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import cli
from node.config import load_config
from testnet.manifests import check_room, compose_file
from testnet.street import StreetError, StreetPlan

ROOT = Path(__file__).parents[2]


def test_the_compose_file_here_is_the_one_that_is_made() -> None:
    made = CliRunner().invoke(cli.app, ["testnet", "compose"])
    assert made.exit_code == 0
    assert made.output == (ROOT / "docker-compose.yml").read_text()


def test_a_grid_of_another_size() -> None:
    text = compose_file(StreetPlan(homes=7, authorities=5), build=False)
    assert "replicas: ${HOMES:-2}" in text
    assert text.count("<<: *node") == 5 + len(["operator", "home"])
    assert "neutral" not in text
    assert "build:" not in text
    # All that a service mounts is declared.
    declared = {line[2:-1] for line in text[text.index("\nvolumes:") :].splitlines()[2:]}
    assert declared == {"street", "public", *(f"home-{number:02d}" for number in range(1, 6))}


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (StreetPlan(homes=11, regions=3), "11 homes: 12 .the authorities of 3 regions. to"),
        (StreetPlan(homes=10_000, regions=3), "10000 homes: 12"),
        (StreetPlan(homes=9, authorities=3, regions=3), "3 authorities of 3 homes"),
    ],
)
def test_a_size_that_cannot_be_is_refused(plan: StreetPlan, said: str) -> None:
    with pytest.raises(StreetError, match=said):
        compose_file(plan)


def test_a_grid_has_room_or_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = StreetPlan(homes=12, regions=3)
    check_room(plan, 12, 2_500)
    check_room(plan, 12, None)
    with pytest.raises(StreetError, match=r"25 nodes take about 2500 MiB .* has 2499"):
        check_room(plan, 12, 2_499)
    monkeypatch.setattr("node.host.memory_mib", lambda: 500)
    asked = ["testnet", "create", "--dir", str(tmp_path / "street"), "--containers"]
    refused = CliRunner().invoke(cli.app, asked)
    assert isinstance(refused.exception, StreetError)
    assert not (tmp_path / "street").exists()


def test_the_first_home_s_api_is_where_prometheus_looks_for_it(tmp_path: Path) -> None:
    overlay = (ROOT / "deploy" / "compose.metrics.yml").read_text()
    environment = dict(re.findall(r"^ +(COMMONWATT_WEB_\w+): \"(.*)\"$", overlay, re.MULTILINE))
    settings = tmp_path / "node.toml"
    settings.touch()
    web = load_config(settings, environment).web
    assert web is not None
    (host, port) = re.findall(
        r"targets: \[\"(.*):(\d+)\"\]", (ROOT / "deploy" / "prometheus.yml").read_text()
    )[0]
    assert host in web.hosts
    assert web.address == ("0.0.0.0", int(port))
    # Prometheus has no token.
    assert web.open_reads
    assert f'"127.0.0.1:${{API_PORT:-4680}}:{port}"' in overlay
    assert f"\n  {host}:" in compose_file(StreetPlan(homes=4))
