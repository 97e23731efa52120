"""Requests made from the API's own description, good and bad, against a running node."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.node.grid import Grid, at_height, make_genesis, running
from tests.node.web.test_node import with_api

EXAMPLES = 6


def probe(url: str, token: str) -> tuple[set[str], Counter[str]]:
    """Ask every path in good and bad form; return what there is, and how often each was asked."""
    asked: Counter[str] = Counter()
    headers = {"authorization": f"Bearer {token}"}
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path.endswith("/events"):
            # An answer without an end; it has a test of its own.
            continue
        for mode in GenerationMode:

            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case: Any) -> None:
                asked[f"{case.method} {case.path}"] += 1
                # No form says which hexadecimal digits are a transaction that somebody has signed.
                excluded = [positive_data_acceptance] if case.method == "POST" else []
                case.call_and_validate(headers=headers, excluded_checks=excluded)

            try:
                check()
            except Unsatisfiable:
                # A path without parameters has no bad form.
                assert mode is GenerationMode.NEGATIVE
    described = {
        f"{verb.upper()} {path}"
        for path, verbs in schema.raw_schema["paths"].items()
        for verb in verbs
    }
    return described, asked


@pytest.mark.slow
async def test_what_the_description_says_holds(tmp_path: Path) -> None:
    grid = Grid(tmp_path, make_genesis(4, 4), households=True)
    member = with_api(grid.members[0])
    async with running(grid, range(4)) as members:
        await at_height(members, 1)
        assert member.node.web is not None
        token = (member.directory / "web.token").read_text().strip()
        described, asked = await asyncio.to_thread(probe, member.node.web.url, token)
        assert set(asked) == described - {"GET /v1/events"}
        assert asked.total() > 100
        # It still lives, and still agrees.
        await at_height(members, member.height + 1)
