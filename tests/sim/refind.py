"""`python -m tests.sim.refind`: give each regression a seed that its mutant breaks again.

For after a change of what the simulator draws, or of when messages come: then seeds are other runs.
"""

# ruff: noqa: T201
import json
import sys
from pathlib import Path
from typing import Any

from tests.sim.mutants import MUTANTS
from tests.sim.world import run_seed

DIRECTORY = Path(__file__).parent / "regressions"
SEEDS_MAX = 6_000


def is_meaningful(case: dict[str, Any]) -> bool:
    """Whether the run of a regression breaks if the bug comes back."""
    mutation = MUTANTS[case["mutant"]].mutation
    return run_seed(case["seed"], case["nodes"], mutation, case["faults"]).violation is not None


def main() -> int:
    """Rewrite the files whose seeds have lost their meaning; 1 if none is found for one."""
    lost = 0
    for path in sorted(DIRECTORY.glob("*.json")):
        case = json.loads(path.read_text())
        if not case["mutant"] or is_meaningful(case):
            print(f"{path.name}: seed {case['seed']} is still what it was")
            continue
        for seed in range(1, SEEDS_MAX + 1):
            case["seed"] = seed
            if is_meaningful(case):
                path.write_text(json.dumps(case, indent=2, ensure_ascii=False) + "\n")
                print(f"{path.name}: now seed {seed}")
                break
        else:
            lost += 1
            print(f"{path.name}: none of {SEEDS_MAX} seeds breaks with {case['mutant']!r}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
