"""Kubernetes manifests: valid by the published schemas, and every key in its own pod only."""

from typing import Any

import pytest
from typer.testing import CliRunner

import cli
from node.genesis import read_genesis
from node.setup import CONFIG_NAME, GENESIS_NAME, KEY_NAME
from testnet import kubernetes
from testnet.kubernetes import manifests
from testnet.office import entrances, operator_files
from testnet.regions import create
from testnet.street import Street, StreetError, StreetPlan

VERSIONS = ["1.29", "1.33"]


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Street:
    plan = StreetPlan(homes=9, regions=2, begins_in_s=600)
    return create(tmp_path_factory.mktemp("grid"), plan, containers=True)


@pytest.fixture(scope="module")
def objects(street: Street) -> list[dict[str, Any]]:
    return manifests(street, joining=3, image="grid:1", namespace="grid")


def named(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return {one["metadata"]["name"]: one for one in objects if one["kind"] == kind}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_published_schemas_hold(objects: list[dict[str, Any]], version: str) -> None:
    validate = pytest.importorskip("kubernetes_validate").validate
    for one in objects:
        validate(one, version, strict=True)


def test_the_file_is_what_was_checked(street: Street, objects: list[dict[str, Any]]) -> None:
    yaml = pytest.importorskip("yaml")
    asked = ["--dir", str(street.directory), "--joining", "3", "--image", "grid:1"]
    made = CliRunner().invoke(cli.app, ["testnet", "kubernetes", *asked, "--namespace", "grid"])
    assert made.exit_code == 0
    assert list(yaml.safe_load_all(made.output)) == objects


def test_there_is_a_set_for_each_region_and_all_else(objects: list[dict[str, Any]]) -> None:
    sets = named(objects, "StatefulSet")
    replicas = {name: one["spec"]["replicas"] for name, one in sets.items()}
    assert replicas == {"region-1": 5, "region-2": 4, "main": 2, "operator": 1, "homes": 3}
    services = named(objects, "Service")
    assert {one["spec"]["serviceName"] for one in sets.values()} <= set(services)
    budgets = named(objects, "PodDisruptionBudget")
    assert {name: one["spec"]["maxUnavailable"] for name, one in budgets.items()} == {
        "region-1": 1,
        "region-2": 1,
        "main": 0,
    }


def test_each_home_is_found_by_its_name(street: Street, objects: list[dict[str, Any]]) -> None:
    services = named(objects, "Service")
    for name, pod in (
        ("home-01", "region-1-0"),
        ("home-06", "region-2-0"),
        ("neutral-02", "main-1"),
    ):
        spec = services[name]["spec"]
        assert spec["selector"] == {"statefulset.kubernetes.io/pod-name": pod}
        assert spec["clusterIP"] == "None"
        assert spec["publishNotReadyAddresses"]
        region = pod.rpartition("-")[0]
        settings = named(objects, "ConfigMap")[region]["data"]
        assert settings[f"{pod}.toml"] == (street.home(name) / CONFIG_NAME).read_text()
        assert settings[GENESIS_NAME] == (street.home(name) / GENESIS_NAME).read_text()
        keys = named(objects, "Secret")[region]["stringData"]
        assert keys[f"{pod}.key"] == (street.home(name) / KEY_NAME).read_text()


def test_a_pod_sees_its_own_key_only(objects: list[dict[str, Any]]) -> None:
    for name in ("region-1", "region-2", "main"):
        pod = named(objects, "StatefulSet")[name]["spec"]["template"]["spec"]
        secret = {one["name"] for one in pod["volumes"] if "secret" in one}
        seen = [
            mount
            for container in (*pod["initContainers"], *pod["containers"])
            for mount in container["volumeMounts"]
            if mount["name"] in secret
        ]
        assert [one["subPathExpr"] for one in seen] == ["$(POD_NAME).key"]


def test_what_is_mounted_is_declared_and_pods_have_no_rights(
    objects: list[dict[str, Any]],
) -> None:
    kept = {"secret": named(objects, "Secret"), "configMap": named(objects, "ConfigMap")}
    for one in named(objects, "StatefulSet").values():
        pod = one["spec"]["template"]["spec"]
        declared = {volume["name"] for volume in pod["volumes"]} | {"work"}
        for volume in pod["volumes"]:
            if "secret" in volume:
                assert volume["secret"]["secretName"] in kept["secret"]
            if "configMap" in volume:
                assert volume["configMap"]["name"] in kept["configMap"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"
        assert not pod["automountServiceAccountToken"]
        for container in (*pod["initContainers"], *pod["containers"]):
            assert {mount["name"] for mount in container["volumeMounts"]} <= declared
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_a_node_that_waits_for_the_beginning_is_left_alone(objects: list[dict[str, Any]]) -> None:
    (node,) = named(objects, "StatefulSet")["region-1"]["spec"]["template"]["spec"]["containers"]
    probe = node["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 600 + 60


def test_the_operator_has_its_files_where_it_looks(
    street: Street, objects: list[dict[str, Any]]
) -> None:
    pod = named(objects, "StatefulSet")["operator"]["spec"]["template"]["spec"]
    (secret,) = [one["secret"] for one in pod["volumes"] if "secret" in one]
    content = named(objects, "Secret")["operator"]["stringData"]
    shown = {one["path"]: content[one["key"]] for one in secret["items"]}
    assert shown == {file: (street.directory / file).read_text() for file in operator_files(street)}


def test_newcomers_knock_at_the_operators(street: Street, objects: list[dict[str, Any]]) -> None:
    lines = named(objects, "Secret")["join"]["stringData"]["join"].split()
    assert lines == [str(one) for one in entrances(street)]
    first = read_genesis(street.home("home-01") / GENESIS_NAME)
    assert lines[0].startswith("/dns4/operator/tcp/4601/p2p/")
    assert lines[0].endswith(f"#{first.hash.hex()}")


def test_what_is_too_large_is_said(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes, "OBJECT_BYTES_MAX", 1_000)
    with pytest.raises(
        StreetError, match=r"ConfigMap region-1: .* a cluster keeps 1000: make fewer"
    ):
        manifests(street, 0, "grid", "grid")


def test_nobody_joins_where_none_is_asked_for(street: Street) -> None:
    made = manifests(street, 0, "grid", "grid")
    assert "homes" not in named(made, "StatefulSet")
    assert "join" not in named(made, "Secret")
