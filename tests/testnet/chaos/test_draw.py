"""A run's memory is drawn from its report; what is no report is refused."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

import cli
from testnet.chaos.draw import DrawnReport, memory_svg, read_report
from testnet.chaos.errors import ChaosError
from testnet.chaos.page import as_page
from testnet.chaos.report import as_json
from testnet.chaos.verdict import Seen, judge
from testnet.chaos.watch import DOWN, Sample
from tests.testnet.chaos.test_verdict import seen

SVG = "{http://www.w3.org/2000/svg}"


def an_hour() -> Seen:
    """An hour in which `home-01` grows and `home-04` was away."""
    run = seen(finished_s=3_700.0, demands={"rss_mib_per_h": 1})
    for name, slope in (("home-01", 4 / 3_600), ("home-02", 0.0)):
        run.samples[name] = [
            Sample(float(s), 1, True, 3, 150 + s * slope, 0.0, float(s))
            for s in range(0, 3_700, 10)
        ]
    run.samples["home-04"] = [
        DOWN._replace(at_s=float(s)) if 20 <= s < 40 else Sample(float(s), 1, True, 3, 90.0, 0.0, 1)
        for s in range(0, 100, 5)
    ]
    return run


def report() -> dict[str, Any]:
    run = an_hour()
    return as_json(run, judge(run), "processes")


def test_the_page_says_how_memory_grew() -> None:
    page = as_page(an_hour(), report())
    assert "<td>+4.00 MiB/h</td>" in page
    assert page.count("<td>–</td>") == 2


def test_memory_and_its_growth_are_drawn(tmp_path: Path) -> None:
    file, out = tmp_path / "report.json", tmp_path / "memory.svg"
    file.write_text(json.dumps(report()))
    done = CliRunner().invoke(cli.app, ["chaos", "draw", str(file), "--out", str(out)])
    assert done.exit_code == 0, done.output
    drawing = ElementTree.parse(out).getroot()
    assert drawing.tag == f"{SVG}svg"
    words = [text.text or "" for text in drawing.iter(f"{SVG}text")]
    assert " on processes: memory of each node; the verdict: failed" in words
    assert any(one.startswith("home-01: left alone, +4.00 MiB/h over 61 minutes") for one in words)
    assert any(one.startswith("home-02: left alone, +0.00 MiB/h") for one in words)
    assert "home-04: struck" in words
    paths = {path[0].text: path for path in drawing.iter(f"{SVG}path") if len(path)}
    assert set(paths) == {*(f"home-0{n}" for n in (1, 2, 3, 4)), "home-01, trend", "home-02, trend"}
    # Who was away is two lines, and faint.
    assert paths["home-04"].attrib["d"].count("M") == 2
    assert paths["home-04"].attrib["class"] == "faint"
    (begin, end) = (float(p.split()[1]) for p in paths["home-01, trend"].attrib["d"][1:].split("L"))
    assert end < begin


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "of version 1"),
        ({"rss_mib": {}}, "with the memory of its nodes"),
        ({"rss_mib": {"a": [["x", 1]]}}, "not a report.json"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    file = tmp_path / "report.json"
    file.write_text(json.dumps(report() | change))
    with pytest.raises(ChaosError, match=words):
        read_report(file)


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(ChaosError, match="cannot be read"):
        read_report(tmp_path / "nothing.json")
    (tmp_path / "text").write_text("no")
    with pytest.raises(ChaosError, match=r"not a report\.json"):
        read_report(tmp_path / "text")


def test_nobody_who_answered_is_drawn_too() -> None:
    empty = report()
    empty["rss_mib"] = {"home-01": [[0.0, None]]}
    empty["growths"] = {}

    assert "home-01" in memory_svg(msgspec.convert(empty, DrawnReport))
