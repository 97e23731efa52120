"""`python -m node --config FILE`: the daemon without the command line's libraries.

`commonwatt run` replaces itself by this, which saves each home 12 MiB.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from node.config import load_config
from node.daemon import EXIT_SETUP, run
from node.errors import StartError
from node.host import check_memory


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a daemon; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m node", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--until-stdin-closes", action="store_true")
    given = parser.parse_args(arguments)
    try:
        config = load_config(given.config, os.environ)
        check_memory()
    except StartError as error:
        print(f"commonwatt: {error}", file=sys.stderr)  # noqa: T201 - for a person
        return EXIT_SETUP
    return run(config, given.until_stdin_closes)


if __name__ == "__main__":
    sys.exit(main())
