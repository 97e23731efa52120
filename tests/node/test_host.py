"""Too little memory is said before a node is killed for it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

import cli
from node.errors import StartError
from node.host import check_memory, machine_mib, memory_mib

MEMINFO = "MemTotal:        2097152 kB\nMemFree:          1024 kB\n"


def machine(root: Path, **files: str) -> Path:
    for name, text in {"proc/meminfo": MEMINFO, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "mib"),
    [
        ({}, 2_048),
        # Version 2: of a container, of a service, and without a limit.
        ({"sys/fs/cgroup/memory.max": "67108864\n"}, 64),
        (
            {
                "proc/self/cgroup": "0::/system.slice/commonwatt.service\n",
                "sys/fs/cgroup/system.slice/commonwatt.service/memory.max": "134217728\n",
            },
            128,
        ),
        ({"sys/fs/cgroup/memory.max": "max\n"}, 2_048),
        # Version 1.
        ({"sys/fs/cgroup/memory/memory.limit_in_bytes": "104857600\n"}, 100),
        ({"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 2_048),
        (
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/a\n4:memory:/a/b\n",
                "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "104857600\n",
            },
            100,
        ),
        ({"proc/meminfo": "MemTotal:\nnonsense", "proc/self/cgroup": "x\n:\n"}, None),
    ],
)
def test_memory_is_the_least_that_holds(
    tmp_path: Path, files: dict[str, str], mib: int | None
) -> None:
    assert memory_mib(machine(tmp_path, **files)) == mib
    assert machine_mib(tmp_path) == (None if "proc/meminfo" in files else 2_048)


def test_a_node_without_room_is_not_started(tmp_path: Path) -> None:
    check_memory(machine(tmp_path))
    check_memory(tmp_path / "tells-nothing")
    small = machine(tmp_path, **{"sys/fs/cgroup/memory.max": "67108864\n"})
    with pytest.raises(StartError, match="64 MiB of memory for this node, and it needs 128"):
        check_memory(small)


def test_the_command_run_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.host.memory_mib", lambda root: 64)
    monkeypatch.setattr("node.launch.command", lambda config: ["/does-not-exist"])
    refused = CliRunner().invoke(cli.app, ["run", "--config", "node.toml"])
    assert isinstance(refused.exception, StartError)
