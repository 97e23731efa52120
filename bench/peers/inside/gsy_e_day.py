"""gsy-e simulates a day, for `bench.peers.gsy_e`. Answered: its CPU seconds.

gsy-e finds communities by name in its own package `gsy_e.setup`; our folder is added to that.
"""

import json
import os
import resource
import sys
from pathlib import Path

import gsy_e.setup
from gsy_e.gsy_e_core import cli

SETUPS = Path(__file__).parent / "gsy_e_setups"


def main() -> None:
    """Run its command."""
    with open(sys.argv[1]) as file:
        asked = json.load(file)
    os.environ["COMMONWATT_COMMUNITY"] = sys.argv[1]
    gsy_e.setup.__path__.append(str(SETUPS))
    words = ["-l", "ERROR", "run", "--setup", "commonwatt_community", "--duration", "24h"]
    words += ["--slot-length", f"{asked['slot_minutes']}m", "--tick-length", f"{asked['tick_s']}s"]
    cli.main([*words, "--no-export"], standalone_mode=False)
    used = resource.getrusage(resource.RUSAGE_SELF)
    with open(sys.argv[2], "w") as file:
        json.dump({"cpu_s": used.ru_utime + used.ru_stime}, file)


main()
