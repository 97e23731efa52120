"""The tab key in bash: what `commonwatt --install-completion` adds completes what is typed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BASH = shutil.which("bash")
# Of the checkout's own program, which the completion calls by its name.
PROGRAM = Path(sys.executable).parent / "commonwatt"
PATIENCE_S = 300.0


@pytest.mark.slow
@pytest.mark.skipif(BASH is None or not PROGRAM.exists(), reason="no bash, or not installed")
def test_bash_completes_a_command_and_an_option() -> None:
    script = """
        eval "$(_COMMONWATT_COMPLETE=source_bash commonwatt)"
        tried() {
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            _commonwatt_completion commonwatt
            echo "${COMPREPLY[*]}"
        }
        complete -p commonwatt
        tried commonwatt stat
        tried commonwatt status --qu
    """
    environment = {**os.environ, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [str(BASH), "--norc", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    hooked, *completed = done.stdout.splitlines()
    assert hooked == "complete -o default -F _commonwatt_completion commonwatt"
    assert completed == ["status", "--quiet"]
