"""A grid over the hosts of a Docker Swarm: a stack file for a street that has been made.

What each home has to know comes to its host by the engine: its key and what only the operator may
know as secrets, settings and genesis as configs. Its chain and its write-ahead log lie in a volume
of that host, so an authority is bound to one: elsewhere it would begin with nothing.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from node.setup import CONFIG_NAME, DATA_NAME, GENESIS_NAME, KEY_NAME, MAIN_GENESIS_NAME
from testnet.manifests import OWNER
from testnet.office import OPERATOR, check_hosts, entrances, operator_files
from testnet.regions import neutral_names
from testnet.street import HOMES_MAX, Street, StreetError
from testnet.yamltext import yaml_text

# The engine takes no larger ones.
ITEM_BYTES_MAX: Final = 500_000
HOSTS_MAX: Final = 200
PREFIX: Final = "commonwatt"
SETTINGS: Final = "/etc/commonwatt"
SECRETS: Final = "/run/secrets"
WORK: Final = "/home-data"
SCRATCH: Final = "/tmp"  # noqa: S108 - a container's own  # nosec B108
STREET: Final = "/street"
JOIN_NAME: Final = "operator.join"
# From its process's start to a node's first answer, on a slow host; for the engine's patience.
START_S: Final = 180
MEMORY_MAX: Final = "500M"
_HEAD: Final = """\
# {homes} homes, {joining} more that join: `docker stack deploy --compose-file THIS commonwatt`.
#
# Made by `commonwatt testnet stack`. Keys and genesis are read from {directory} when it
# is deployed, and reach only the hosts that need them.
"""


def stack_file(street: Street, hosts: Sequence[str], joining: int, image: str) -> str:
    """Return a stack file; writes beside the street's files where newcomers come in.

    Parameters
    ----------
    street : Street
        Made with `containers`, and with time to deploy before it begins.
    hosts : sequence of str
        Names of the swarm's hosts; authorities are bound to them in turns.
    joining : int
        So many homes more make their own keys and join.
    image : str
        By a name that all hosts can pull.

    Raises
    ------
    StreetError
        The street is for one machine only, a file is too large, or there is no host.
    """
    if not 1 <= len(set(hosts)) == len(hosts) <= HOSTS_MAX:
        raise StreetError(f"{len(hosts)} hosts: 1 to {HOSTS_MAX}, each named once")
    check_joining(street, joining)
    check_hosts(street)
    return _Stack(street, hosts, joining, image).text()


def check_joining(street: Street, joining: int) -> None:
    """Raise `StreetError` for more homes than a grid has."""
    most = HOMES_MAX - street.plan.homes
    if not 0 <= joining <= most:
        raise StreetError(f"{joining} homes that join {street.plan.homes}: 0 to {most}")


class _Stack:
    def __init__(self, street: Street, hosts: Sequence[str], joining: int, image: str) -> None:
        self._street = street
        self._hosts = hosts
        self._joining = joining
        self._image = image
        self._secrets: dict[str, Any] = {}
        self._configs: dict[str, Any] = {}

    def text(self) -> str:
        names = [*self._street.names, *neutral_names(self._street.plan)]
        services = {name: self._home(name, place) for place, name in enumerate(names)}
        services[OPERATOR] = self._operator(len(names))
        volumes: dict[str, Any] = {name: {} for name in (*names, OPERATOR)}
        if self._joining:
            services["home"] = self._joiner()
            # Of each replica its own; one that the engine moves is a new home there.
            volumes["home"] = {"name": PREFIX + "_joined-{{.Task.Slot}}"}
        tree = {
            "version": "3.8",
            "services": services,
            "networks": {"grid": {"driver": "overlay"}},
            "volumes": volumes,
            "configs": self._configs,
            "secrets": self._secrets,
        }
        head = _HEAD.format(
            homes=self._street.plan.homes,
            joining=self._joining,
            directory=self._street.directory.resolve(),
        )
        return head + yaml_text(tree)

    def _home(self, name: str, place: int) -> dict[str, Any]:
        home = self._street.home(name)
        files = [CONFIG_NAME, GENESIS_NAME]
        if (home / MAIN_GENESIS_NAME).exists():
            files.append(MAIN_GENESIS_NAME)
        return self._service(
            name,
            bound_to=place,
            hostname=name,
            command=["run", "--config", f"{SETTINGS}/{CONFIG_NAME}"],
            environment={
                "COMMONWATT_NODE_DATA": f"{WORK}/{DATA_NAME}",
                "COMMONWATT_NODE_KEY": f"{SECRETS}/{KEY_NAME}",
            },
            configs=[
                {"source": self._config(home / file), "target": f"{SETTINGS}/{file}"}
                for file in files
            ],
            secrets=[self._secret(home / KEY_NAME, f"{SECRETS}/{KEY_NAME}")],
            healthcheck=self._health(f"{WORK}/{DATA_NAME}"),
        )

    def _operator(self, place: int) -> dict[str, Any]:
        files = operator_files(self._street)
        return self._service(
            OPERATOR,
            bound_to=place,
            hostname=OPERATOR,
            command=["testnet", "operate", f"--dir={STREET}", f"--office={WORK}"],
            # Genesis files go the same way as keys: one list for what it has to know.
            secrets=[
                self._secret(self._street.directory / file, f"{STREET}/{file}") for file in files
            ],
            healthcheck=self._health(f"{WORK}/office-1/{DATA_NAME}"),
            memory="2G",
        )

    def _joiner(self) -> dict[str, Any]:
        file = self._street.directory / JOIN_NAME
        # As with keys: whoever has it may come in.
        file.touch(mode=0o600)
        file.write_text("".join(f"{one}\n" for one in entrances(self._street)))
        config = f"{WORK}/{CONFIG_NAME}"
        return self._service(
            "home",
            hostname="home-new-{{.Task.Slot}}",
            entrypoint=["sh", "-ec"],
            # Nothing is announced: others see at which address of the grid it is.
            command=[
                f"commonwatt init {WORK} --if-missing --join @{SECRETS}/join --patience 600"
                f' --name "$$(hostname)" --source drawn && exec commonwatt run --config {config}'
            ],
            secrets=[self._secret(file, f"{SECRETS}/join")],
            healthcheck=self._health(f"{WORK}/{DATA_NAME}"),
            replicas=self._joining,
        )

    def _service(
        self,
        volume: str,
        *,
        bound_to: int | None = None,
        replicas: int = 1,
        memory: str = MEMORY_MAX,
        **parts: Any,
    ) -> dict[str, Any]:
        deploy: dict[str, Any] = {
            "replicas": replicas,
            # By addresses of their own, not by one that the engine spreads over replicas.
            "endpoint_mode": "dnsrr",
            "restart_policy": {"condition": "any", "delay": "5s"},
            # Never two nodes of one key.
            "update_config": {"parallelism": 1, "order": "stop-first", "failure_action": "pause"},
            "rollback_config": {"parallelism": 1, "order": "stop-first"},
            "resources": {"limits": {"memory": memory}},
        }
        if bound_to is not None:
            host = self._hosts[bound_to % len(self._hosts)]
            deploy["placement"] = {"constraints": [f"node.hostname == {host}"]}
        return {
            "image": self._image,
            **parts,
            "read_only": True,
            "cap_drop": ["ALL"],
            "stop_grace_period": "15s",
            "networks": ["grid"],
            "volumes": [
                {"type": "volume", "source": volume, "target": WORK},
                {"type": "tmpfs", "target": SCRATCH},
            ],
            "deploy": deploy,
        }

    def _health(self, data: str) -> dict[str, Any]:
        # A name is found as soon as its container is healthy, so it is asked soon.
        return {
            "test": ["CMD", "python", "-m", "node.health", data],
            "interval": "10s",
            "timeout": "20s",
            "retries": 6,
            "start_period": f"{self._street.plan.begins_in_s + START_S}s",
        }

    def _config(self, file: Path) -> str:
        return _declare(self._configs, self._street, file)

    def _secret(self, file: Path, target: str) -> dict[str, Any]:
        source = _declare(self._secrets, self._street, file)
        return {"source": source, "target": target, "uid": str(OWNER), "mode": 0o400}


def _declare(table: dict[str, Any], street: Street, file: Path) -> str:
    """Note a file that the engine shall keep, and return what services call it."""
    content = file.read_bytes()
    if len(content) > ITEM_BYTES_MAX:
        raise StreetError(
            f"{file}: {len(content)} bytes; a swarm carries {ITEM_BYTES_MAX}: make fewer homes, "
            "more of which join later"
        )
    called = "-".join(file.relative_to(street.directory).parts).replace(".", "-")
    version = hashlib.sha256(content).hexdigest()[:8]
    if file.name in (GENESIS_NAME, MAIN_GENESIS_NAME):
        # All homes of a region share one.
        called = f"genesis-{version}"
    # What the engine has, it never changes: other content is another thing.
    table[called] = {"name": f"{PREFIX}-{called}-{version}", "file": str(file.resolve())}
    return called
