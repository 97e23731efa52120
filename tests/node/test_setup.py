"""A home's files: made once, never overwritten, the key shown to nobody."""

import os
from pathlib import Path

import pytest

from consensus.wal import MAGIC
from node.config import Config, NodeSection
from node.errors import ConfigError
from node.setup import create_home, data_directory, read_key
from tests.node.grid import key_of

KEY = key_of(0)


def test_a_home_is_made_for_its_owner_only(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "home"
    before = os.umask(0)
    try:
        key = create_home(directory, "[node]\n", KEY)
    finally:
        os.umask(before)
    assert key is KEY
    assert (directory / "node.key").stat().st_mode & 0o777 == 0o600
    assert (directory / "data").stat().st_mode & 0o777 == 0o700
    assert (directory / "node.toml").read_text() == "[node]\n"
    assert (directory / "data" / "wal").read_bytes() == MAGIC
    assert read_key(directory / "node.key").seed == KEY.seed


def test_every_new_home_has_a_key_of_its_own(tmp_path: Path) -> None:
    assert create_home(tmp_path / "a", "").seed != create_home(tmp_path / "b", "").seed


@pytest.mark.parametrize("name", ["node.toml", "node.key", "data"])
def test_nothing_is_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(ConfigError, match=f"{name} exists already; nothing was changed"):
        create_home(tmp_path, "")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "precious"


def test_a_home_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="Not a directory"):
        create_home(tmp_path / "file" / "home", "")
    with pytest.raises(ConfigError, match="Not a directory"):
        data_directory(Config(node=NodeSection(data=str(tmp_path / "file" / "data"))))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o601])
def test_a_key_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "node.key"
    file.write_text(KEY.seed.hex())
    file.chmod(mode)
    with pytest.raises(ConfigError, match=f"run chmod 600 {file}") as caught:
        read_key(file)
    assert KEY.seed.hex() not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", KEY.seed.hex()[:-2].encode(), KEY.seed.hex().encode() + b"00", b"\xff\xfe" + KEY.seed,
     KEY.seed.hex()[:-1].encode() + b"g"],
    ids=["empty", "short", "long", "binary", "no hex"],
)  # fmt: skip
def test_what_is_no_key_is_refused_and_not_shown(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "node.key"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        read_key(file)
    error: BaseException | None = caught.value
    while error is not None:
        assert KEY.seed.hex()[:16] not in str(error)
        error = error.__cause__
    assert caught.value.__suppress_context__


def test_a_missing_key_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the key cannot be read \(No such file"):
        read_key(tmp_path / "node.key")
