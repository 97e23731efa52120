"""Files for engines: those that lie here are those that are made; impossible sizes are said."""

import re
import socket
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
    assert made.stdout == (ROOT / "docker-compose.yml").read_text()


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


def test_the_image_is_built_by_old_engines_too() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    # What needs a frontend that the engine would have to fetch, or BuildKit.
    assert not [line for line in lines if re.match(r"#\s*(syntax|escape)=", line)]
    assert not [line for line in lines if "<<" in line or "--mount" in line or "--chmod" in line]
    images = {line.split()[1] for line in lines if line.startswith("FROM ")}
    assert images == {"python:3.11-slim-bookworm", "dependencies"}


def services(text: str) -> dict[str, str]:
    """Return what a Compose file says of each service, as text."""
    body = text[text.index("\nservices:\n") + len("\nservices:") :]
    body = body[: re.search(r"^\w", body, re.MULTILINE).start()]  # type: ignore[union-attr]
    parts = re.split(r"^  ([\w-]+):\n", body, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_first_homes_apis_are_where_prometheus_and_the_host_look_for_them(
    tmp_path: Path,
) -> None:
    text = compose_file(StreetPlan(homes=12, regions=3))
    found = services(text)
    targets = dict(re.findall(r"\"([\w-]+):(\d+)\"", re.findall(r"targets: (.*)", text)[0]))
    assert list(targets) == ["home-01", "home-05", "home-09"]
    settings = tmp_path / "node.toml"
    settings.touch()
    for name, said in found.items():
        environment = dict(re.findall(r"^ +(COMMONWATT_\w+): \"?(.*?)\"?$", said, re.MULTILINE))
        web = load_config(settings, environment).web
        assert (web is not None) == (name in targets), name
        if web is not None:
            assert name in web.hosts
            assert web.address == ("0.0.0.0", int(targets[name]))
            # Prometheus and a browser have no token.
            assert web.open_reads
    published = re.findall(r"ports: \[\"(.*)\"\]", "".join(found.values()))
    assert published == [
        "127.0.0.1:${API_PORT:-4680}:4680",
        "127.0.0.1:${PROMETHEUS_PORT:-9090}:9090",
    ]
    assert published[0] in found["home-01"]
    assert "profiles: [metrics]" in found["prometheus"]


def test_who_is_root_has_no_network_and_nobody_else_has_rights() -> None:
    text = compose_file(StreetPlan(homes=12, regions=3))
    found = services(text)
    assert [name for name, said in found.items() if "user: root" in said] == ["genesis"]
    assert "network_mode: none" in found["genesis"]
    # The monitor's image is its maker's.
    ours = {name: said for name, said in found.items() if name not in ("genesis", "prometheus")}
    assert "operator" in ours
    assert "home-01" in ours
    assert all("<<: *node" in said for said in ours.values())
    node = text[text.index("x-node:") : text.index("services:")]
    for line in ("read_only: true", "cap_drop: [ALL]", '"no-new-privileges:true"'):
        assert line in node
    assert not re.search(r"privileged: true|docker\.sock|network_mode: host|cap_add", text)
    users = re.findall(r"^USER (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert users == ["commonwatt"]


def test_what_this_machine_lacks_for_a_compose_grid_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr("testnet.manifests.API_PORT", port)
        monkeypatch.setattr("node.host.memory_mib", lambda: 2_499)
        told = CliRunner().invoke(cli.app, ["testnet", "compose"])
    assert told.exit_code == 0
    assert told.stdout.startswith("# A community grid")
    room, taken_port = told.stderr.splitlines()
    assert "25 nodes take about 2500 MiB of memory, and this machine has 2499" in room
    assert f"port {port} of 127.0.0.1 is taken" in taken_port
    assert f"API_PORT={port + 1} docker compose up" in taken_port
    monkeypatch.setattr("node.host.memory_mib", lambda: 2_500)
    told = CliRunner().invoke(cli.app, ["testnet", "compose"])
    assert told.stderr == ""
