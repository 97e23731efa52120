"""What pip-audit found, in a sentence: `python -m scripts.audited REPORT.json`.

`scripts/audit` asks it. The exit code is 0 if every library was looked up and none has a known
hole, 1 if one has, and 3 if the service knew too little to say so: a library that it does not know
was not audited.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

FOUND: Final = 1
UNKNOWN: Final = 3
NAMES_SHOWN_MAX: Final = 5


def judge(report: dict[str, Any]) -> tuple[int, str]:
    """Return the exit code and what to say of a report, as pip-audit writes it as JSON."""
    libraries = report["dependencies"]
    holes = [
        f"{item['name']} {item['version']}: {hole['id']}, mended in "
        f"{', '.join(hole['fix_versions']) or 'no version yet'}"
        for item in libraries
        for hole in item.get("vulns", ())
    ]
    skipped = [item["name"] for item in libraries if "skip_reason" in item]
    if holes:
        return FOUND, "\n".join(holes)
    if skipped or not libraries:
        names = ", ".join(skipped[:NAMES_SHOWN_MAX])
        more = f" and {len(skipped) - NAMES_SHOWN_MAX} more" * (len(skipped) > NAMES_SHOWN_MAX)
        return UNKNOWN, f"{len(skipped)} of {len(libraries)} not looked up: {names}{more}"
    return 0, f"{len(libraries)} libraries, none with a known hole"


def main(arguments: list[str]) -> int:
    """Judge a file."""
    code, text = judge(json.loads(Path(arguments[0]).read_text(encoding="utf-8")))
    print(text)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
