"""A grid on a Kubernetes cluster: manifests for a street that has been made.

A StatefulSet per region holds its authorities, one more the main chain's neutral ones, one the
operator, and one the homes that join. Each pod sees its own key only, by a file of its name in the
set's Secret. Homes have the same names as in Compose, each by a Service of its own, so settings and
genesis are the same files.

A StatefulSet runs a pod at most once, which is what a key needs; a volume that was lost comes back
empty, and its authority abstains until others have gone on (`node.chain.beginning`).
"""

from collections.abc import Sequence
from typing import Any, Final

from node.setup import CONFIG_NAME, DATA_NAME, GENESIS_NAME, KEY_NAME, MAIN_GENESIS_NAME
from testnet.manifests import OWNER
from testnet.office import OPERATOR, check_hosts, entrances, operator_files
from testnet.regions import neutral_names, regions_of
from testnet.stack import SETTINGS, START_S, STREET, WORK, check_joining
from testnet.street import CONTAINER_PORT, Street, StreetError
from testnet.yamltext import yaml_documents

# A cluster's store takes no larger object.
OBJECT_BYTES_MAX: Final = 1_000_000
LABEL: Final = "app.kubernetes.io"
KEYS: Final = "/run/commonwatt"
SECRET: Final = "/run/secret"  # noqa: S105 - a path
PROBE_S: Final = 10
VOLUME_SIZE: Final = "2Gi"
_HEAD: Final = """\
# {homes} homes, {joining} more that join: `kubectl apply --filename THIS`.
#
# Made by `commonwatt testnet kubernetes`. It holds the keys of all homes and of the regulator: hand
# it on by a pipe, or keep it as safe as the street itself.
"""
Manifest = dict[str, Any]


def manifests(street: Street, joining: int, image: str, namespace: str) -> list[Manifest]:
    """Return the objects of a grid, in the order to create them.

    Parameters
    ----------
    street : Street
        Made with `containers`, and with time to deploy before it begins.
    joining : int
        So many homes more make their own keys and join.
    image : str
        By a name that all hosts of the cluster can pull.
    namespace : str
        Made with the others; `kubectl delete namespace` removes all.

    Raises
    ------
    StreetError
        The street is for one machine only, or is too large for a cluster's objects.
    """
    check_joining(street, joining)
    check_hosts(street)
    made = _Cluster(street, image, namespace)
    made.found()
    made.operator()
    if joining:
        made.joiners(joining)
    return made.objects


def manifest_file(street: Street, joining: int, image: str, namespace: str) -> str:
    """Return `manifests` as one stream of YAML."""
    head = _HEAD.format(homes=street.plan.homes, joining=joining)
    return head + yaml_documents(manifests(street, joining, image, namespace))


class _Cluster:
    def __init__(self, street: Street, image: str, namespace: str) -> None:
        self._street = street
        self._image = image
        self._namespace = namespace
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        meta = {"name": namespace, "labels": labels}
        self.objects: list[Manifest] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": meta}]

    # -- the sets

    def found(self) -> None:
        """Add the authorities' sets, and the other homes of the genesis with them."""
        plan = self._street.plan
        for group in regions_of(plan):
            self._founders(f"region-{group.number}", group.names, plan.authorities)
        if neutral := neutral_names(plan):
            self._founders("main", neutral, len(neutral))

    def _founders(self, called: str, names: Sequence[str], authorities: int) -> None:
        pods = {f"{called}-{place}": name for place, name in enumerate(names)}
        keys = {f"{pod}.key": self._read(f"{name}/{KEY_NAME}") for pod, name in pods.items()}
        files = {f"{pod}.toml": self._read(f"{name}/{CONFIG_NAME}") for pod, name in pods.items()}
        shared = [GENESIS_NAME]
        if (self._street.home(names[0]) / MAIN_GENESIS_NAME).exists():
            shared.append(MAIN_GENESIS_NAME)
        files |= {file: self._read(f"{names[0]}/{file}") for file in shared}
        self._add("Secret", called, stringData=keys)
        self._add("ConfigMap", called, data=files)
        self._service(called, {f"{LABEL}/name": called})
        for pod, name in pods.items():
            # A name of its own for each, the one that is in everybody's settings.
            self._service(name, {"statefulset.kubernetes.io/pod-name": pod})
        mounts = [_mount("settings", f"{SETTINGS}/{CONFIG_NAME}", subPathExpr="$(POD_NAME).toml")]
        mounts += [_mount("settings", f"{SETTINGS}/{file}", subPath=file) for file in shared]
        take_key = self._container(
            "key",
            # What a volume shows is its group's, too; a key is its owner's only.
            ["install", "-m", "600", f"{SECRET}/{KEY_NAME}", f"{KEYS}/{KEY_NAME}"],
            [
                _mount("keys", f"{SECRET}/{KEY_NAME}", subPathExpr="$(POD_NAME).key"),
                _mount("own", KEYS, read_only=False),
            ],
        )
        config = f"{SETTINGS}/{CONFIG_NAME}"
        node = self._container(
            "node",
            ["commonwatt", "run", "--config", config],
            [*mounts, _mount("own", KEYS), _mount("work", WORK, read_only=False)],
            {
                "COMMONWATT_NODE_DATA": f"{WORK}/{DATA_NAME}",
                "COMMONWATT_NODE_KEY": f"{KEYS}/{KEY_NAME}",
            },
        )
        volumes = [
            {"name": "keys", "secret": {"secretName": called, "defaultMode": 0o400}},
            {"name": "settings", "configMap": {"name": called}},
            {"name": "own", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        ]
        self._set(
            called, len(names), [take_key], self._probed(node, f"{WORK}/{DATA_NAME}"), volumes
        )
        budget = {
            # As many as may be missing without a pause.
            "maxUnavailable": (authorities - 1) // 3,
            "selector": {"matchLabels": {f"{LABEL}/name": called}},
        }
        self._add("PodDisruptionBudget", called, "policy/v1", spec=budget)

    def operator(self) -> None:
        """Add who lets regions and homes in, with the keys it signs by."""
        files = {file: file.replace("/", ".") for file in operator_files(self._street)}
        content = {key: self._read(file) for file, key in files.items()}
        self._add("Secret", OPERATOR, stringData=content)
        self._service(OPERATOR, {f"{LABEL}/name": OPERATOR})
        copy = self._container(
            "files",
            ["sh", "-ec", f"umask 077 && cp -rL {SECRET}/* {STREET}/"],
            [_mount("files", SECRET), _mount("street", STREET, read_only=False)],
        )
        command = ["commonwatt", "testnet", "operate", f"--dir={STREET}", f"--office={WORK}"]
        office = self._container(
            OPERATOR,
            command,
            [_mount("street", STREET), _mount("work", WORK, read_only=False)],
            memory=("600Mi", "2Gi"),
        )
        items = [{"key": key, "path": file} for file, key in files.items()]
        secret = {"secretName": OPERATOR, "defaultMode": 0o400, "items": items}
        volumes = [
            {"name": "files", "secret": secret},
            {"name": "street", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
        ]
        probed = self._probed(office, f"{WORK}/office-1/{DATA_NAME}")
        self._set(OPERATOR, 1, [copy], probed, volumes)

    def joiners(self, count: int) -> None:
        """Add homes that make their own keys; `kubectl scale` makes more of them."""
        lines = "".join(f"{one}\n" for one in entrances(self._street))
        self._add("Secret", "join", stringData={"join": lines})
        self._service("homes", {f"{LABEL}/name": "homes"})
        work = _mount("work", WORK, read_only=False)
        asking = ["commonwatt", "init", WORK, "--if-missing", "--join", f"@{SECRET}/join"]
        asking += ["--patience", "600", "--name", "$(POD_NAME)", "--source", "drawn"]
        asking += ["--announce", f"/dns4/$(POD_NAME).homes/tcp/{CONTAINER_PORT}"]
        join = self._container("join", asking, [_mount("join", SECRET), work])
        config = f"{WORK}/{CONFIG_NAME}"
        node = self._container("node", ["commonwatt", "run", "--config", config], [work])
        volumes = [{"name": "join", "secret": {"secretName": "join", "defaultMode": 0o400}}]
        self._set("homes", count, [join], self._probed(node, f"{WORK}/{DATA_NAME}"), volumes)

    # -- their parts

    def _read(self, file: str) -> str:
        return (self._street.directory / file).read_text()

    def _add(self, kind: str, name: str, version: str = "v1", **parts: Any) -> None:
        for table in (parts.get("data"), parts.get("stringData")):
            size = sum(len(text.encode()) for text in (table or {}).values())
            if size > OBJECT_BYTES_MAX:
                raise StreetError(
                    f"{kind} {name}: {size} bytes; a cluster keeps {OBJECT_BYTES_MAX}: make fewer "
                    "homes, more of which join later"
                )
        labels = {f"{LABEL}/part-of": "commonwatt", f"{LABEL}/name": name}
        meta = {"name": name, "namespace": self._namespace, "labels": labels}
        self.objects.append({"apiVersion": version, "kind": kind, "metadata": meta, **parts})

    def _service(self, name: str, selector: dict[str, str]) -> None:
        spec = {
            "clusterIP": "None",
            # They have to find each other before any of them is ready.
            "publishNotReadyAddresses": True,
            "selector": selector,
        }
        self._add("Service", name, spec=spec)

    def _container(
        self,
        name: str,
        command: list[str],
        mounts: list[Manifest],
        environment: dict[str, str] | None = None,
        memory: tuple[str, str] = ("200Mi", "500Mi"),
    ) -> Manifest:
        pod = {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
        given = [{"name": key, "value": value} for key, value in (environment or {}).items()]
        requested, limit = memory
        return {
            "name": name,
            "image": self._image,
            "imagePullPolicy": "IfNotPresent",
            "command": command,
            "env": [pod, *given],
            "resources": {
                "requests": {"cpu": "100m", "memory": requested},
                "limits": {"memory": limit},
            },
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            # A container's own.
            "volumeMounts": [*mounts, _mount("tmp", "/tmp", read_only=False)],  # noqa: S108  # nosec B108
        }

    def _probed(self, container: Manifest, data: str) -> Manifest:
        asked = {"exec": {"command": ["python", "-m", "node.health", data]}}
        starting_s = self._street.plan.begins_in_s + START_S
        probe = {**asked, "timeoutSeconds": 20}
        return {
            **container,
            "startupProbe": {
                **probe,
                "periodSeconds": PROBE_S,
                "failureThreshold": -(-starting_s // PROBE_S),
            },
            "readinessProbe": {**probe, "periodSeconds": 30, "failureThreshold": 3},
            "livenessProbe": {**probe, "periodSeconds": 60, "failureThreshold": 5},
        }

    def _set(
        self,
        name: str,
        replicas: int,
        first: list[Manifest],
        container: Manifest,
        volumes: list[Manifest],
    ) -> None:
        labels = {f"{LABEL}/part-of": "commonwatt", f"{LABEL}/name": name}
        apart = {
            "weight": 100,
            "podAffinityTerm": {
                "labelSelector": {"matchLabels": {f"{LABEL}/name": name}},
                "topologyKey": "kubernetes.io/hostname",
            },
        }
        pod = {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 15,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": OWNER,
                "runAsGroup": OWNER,
                "fsGroup": OWNER,
                # Each time would open the keys in the volume to the group.
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "affinity": {
                "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [apart]}
            },
            "initContainers": first,
            "containers": [container],
            "volumes": [*volumes, {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}],
        }
        claim = {
            "metadata": {"name": "work"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": VOLUME_SIZE}},
            },
        }
        spec = {
            "serviceName": name,
            "replicas": replicas,
            # Together at the beginning; one after the other when they are changed.
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "RollingUpdate"},
            # Time for one that was changed to catch up.
            "minReadySeconds": 30,
            "selector": {"matchLabels": {f"{LABEL}/name": name}},
            "template": {"metadata": {"labels": labels}, "spec": pod},
            "volumeClaimTemplates": [claim],
        }
        self._add("StatefulSet", name, "apps/v1", spec=spec)


def _mount(volume: str, path: str, read_only: bool = True, **parts: str) -> Manifest:
    return {"name": volume, "mountPath": path, "readOnly": read_only, **parts}
