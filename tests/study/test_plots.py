"""Drawings; where matplotlib is installed (the extra `study`)."""

import sys
from pathlib import Path

import pytest

from study.errors import SettingError
from study.plots import Drawing, Line, draw, need_matplotlib


def test_without_matplotlib_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SettingError, match="uv sync --extra study"):
        need_matplotlib()


def test_a_drawing_is_png_and_svg_with_its_assumptions(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    line = Line("ours", [0, 1, 2], [1.0, 2.0, 3.0], [0.5, 1.5, 2.5], [1.5, 2.5, 3.5])
    drawing = Drawing("Title", "hour", "Wh", [line], "It rests on this.", [(1, 2.0, "paper")])
    assert draw(tmp_path, "figure", drawing) == ["figure.png", "figure.svg"]
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    first = (tmp_path / "figure.svg").read_bytes()
    assert b"It rests on this." in first
    draw(tmp_path, "figure", drawing)
    assert (tmp_path / "figure.svg").read_bytes() == first
