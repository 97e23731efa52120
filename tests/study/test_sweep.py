"""Sweeps: every combination, and files that cannot be meant."""

from pathlib import Path

import pytest

from study.ce.setting import Setting, built_in_types
from study.errors import SettingError
from study.sweep import read_sweep, run

SMALL = """
study = "ce-sdt"
seeds = 1
[base]
users = 2
share_percent = 50
hours = [12, 13]
[vary]
storage_wh = [0, 5000]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "sweep.toml"
    path.write_text(text)
    return path


def test_every_combination_is_a_row(tmp_path: Path) -> None:
    sweep = read_sweep(written(tmp_path, SMALL))
    files = run(
        out=tmp_path / "out", sweep=sweep, types=built_in_types(), jobs=1, tell=lambda _: None
    )
    assert "sweep.csv" in files
    head, none, some = (tmp_path / "out" / "sweep.csv").read_text().splitlines()
    assert head.startswith("storage_wh,seed,consumers_paid_micro,")
    assert none.startswith("0,1,")
    assert some.startswith("5000,1,")
    place = head.split(",").index("fed_in_wh")
    assert int(none.split(",")[place]) > int(some.split(",")[place])


def test_seeds_and_values_multiply() -> None:
    from study.sweep import Sweep

    sweep = Sweep(study="ce-sdt", seeds=3, vary={"users": [4, 8], "share_percent": [50, 100]})
    settings = sweep.settings(Setting)
    assert len(settings) == len(set(settings)) == 12
    assert {(one.users, one.share_percent, one.seed) for one in settings} == {
        (users, share, seed) for users in (4, 8) for share in (50, 100) for seed in (1, 2, 3)
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("study = ", "sweep.toml"),
        ('study = "yu"\n[vary]\n', "ce-sdt and huang"),
        ('study = "ce-sdt"\n', "vary"),
        ('study = "ce-sdt"\n[vary]\nusers = []\n', "at least one"),
        ('study = "ce-sdt"\nseeds = 0\n[vary]\nusers = [4]\n', "1 to 100000"),
        ('study = "ce-sdt"\n[vary]\nhomes = [4]\n', "no setting 'homes'"),
        ('study = "ce-sdt"\n[vary]\nusers = ["few"]\n', "users"),
        ('study = "ce-sdt"\n[base]\nusers = 4\n[vary]\nusers = [4]\n', "in \\[base\\] and in"),
        ('study = "huang"\n[vary]\nmode = ["loud"]\n', "mode"),
        ('study = "huang"\n[vary]\ndays = [0]\n', "1 to 31"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(SettingError, match=said):
        run(
            out=tmp_path / "out",
            sweep=read_sweep(written(tmp_path, text)),
            types=built_in_types(),
            jobs=1,
            tell=lambda _: None,
        )
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"none\.toml: No such file"):
        read_sweep(tmp_path / "none.toml")


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 5_000, "seeds = " + "9" * 5_000, "\x00", "a" * 20_000]
)
def test_what_no_parser_can_take_is_a_sentence(tmp_path: Path, text: str) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(text)
    with pytest.raises(SettingError, match=r"sweep\.toml: "):
        read_sweep(file)
