"""A key at rest: encrypted, opened by its passphrase only, brought back from paper; never shown."""

import json
import os
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import cli
from node.backup import back_up, restore
from node.config import Config, NodeSection, settings_text
from node.errors import ConfigError
from node.keys import keyfile
from node.keys.keyfile import Cost, load, text_of
from node.keys.passphrase import find_passphrase, new_passphrase
from node.keys.recovery import key_of_code, recovery_code
from node.keys.secret import SECRET_CHARS_MAX, read_secret
from node.setup import create_home, own_key, read_key
from tests.node.grid import key_of
from wire.keys import SigningKey

KEY = key_of(3)
PASSPHRASE = "copper pond lantern"
CHEAP = Cost(2**14, 1)


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cost of a guess is what a file says; tests need not pay the usual one."""
    monkeypatch.setattr(keyfile, "COST", CHEAP)
    monkeypatch.delenv("COMMONWATT_PASSPHRASE", raising=False)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def sealed(path: Path) -> Path:
    return written(path, text_of(KEY, PASSPHRASE) + "\n")


def chain_of(error: BaseException) -> Iterator[str]:
    """Yield what a traceback of an error would show."""
    found: BaseException | None = error
    while found is not None:
        yield str(found)
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)


# -- the file


def test_the_usual_cost_is_that_of_the_documentation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    said = json.loads(text_of(KEY, PASSPHRASE))
    assert (said["n"], said["r"], said["p"]) == (32_768, 8, 3)


def test_an_encrypted_key_is_opened_by_its_passphrase_only(tmp_path: Path) -> None:
    file = sealed(tmp_path / "node.key")
    assert KEY.seed.hex() not in file.read_text()
    stored = load(file)
    assert (stored.address, stored.is_encrypted, stored.plain) == (KEY.address, True, None)
    assert stored.open(PASSPHRASE).seed == KEY.seed
    for wrong in ("copper pond lanterns", "", PASSPHRASE.upper()):
        with pytest.raises(ConfigError, match="this passphrase does not open it") as caught:
            stored.open(wrong)
        assert not any(PASSPHRASE in text for text in chain_of(caught.value))


def test_no_two_files_of_a_key_are_alike() -> None:
    one, other = (json.loads(text_of(KEY, PASSPHRASE)) for _ in range(2))
    assert all(one[name] != other[name] for name in ("salt", "nonce", "sealed"))


def test_the_same_letters_of_another_keyboard_open_it(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "grüne Brücke") for form in ("NFC", "NFD"))
    assert composed != decomposed
    file = written(tmp_path / "node.key", text_of(KEY, composed))
    assert load(file).open(decomposed).seed == KEY.seed


@pytest.mark.parametrize(
    "change",
    [
        {"n": 2**15}, {"p": 2}, {"salt": "00" * 16}, {"nonce": "00" * 12}, {"sealed": "00" * 48},
        {"address": key_of(4).address},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_what_was_changed_does_not_open(tmp_path: Path, change: dict[str, Any]) -> None:
    said = json.loads(text_of(KEY, PASSPHRASE)) | change
    stored = load(written(tmp_path / "node.key", json.dumps(said)))
    with pytest.raises(ConfigError, match="or the file has been changed"):
        stored.open(PASSPHRASE)


@pytest.mark.parametrize(
    "change",
    [
        {"commonwatt-key": 2}, {"kdf": "none"}, {"n": 2}, {"n": 2**30}, {"p": 0}, {"p": 9},
        {"r": 1}, {"cipher": "none"}, {"salt": ""}, {"nonce": "zz" * 12}, {"sealed": "00"},
        {"address": "cw"}, {"extra": 1}, {"n": "32768"},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_out_of_bounds_is_refused_before_any_work(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    said = json.loads(text_of(KEY, PASSPHRASE)) | change
    with pytest.raises(ConfigError, match="not a whole key file of version 1") as caught:
        load(written(tmp_path / "node.key", json.dumps(said)))
    assert caught.value.__suppress_context__


def test_a_file_cut_off_anywhere_is_refused_and_not_shown(tmp_path: Path) -> None:
    whole = text_of(KEY, PASSPHRASE)
    for length in range(0, len(whole), 7):
        with pytest.raises(ConfigError, match="backup or the recovery code") as caught:
            load(written(tmp_path / "node.key", whole[:length]))
        assert json.loads(whole)["sealed"][:16] not in "".join(chain_of(caught.value))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_an_encrypted_key_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    file = written(tmp_path / "node.key", text_of(KEY, PASSPHRASE), mode)
    with pytest.raises(ConfigError, match="others may read this key; run chmod 600"):
        load(file)


# -- where the passphrase comes from


def test_the_file_comes_before_the_environment_before_systemd(tmp_path: Path) -> None:
    file = written(tmp_path / "passphrase", "of the file\n")
    written(tmp_path / "commonwatt-passphrase", "of systemd\n", 0o440)
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert find_passphrase(None, {}) is None
    assert find_passphrase(None, {"CREDENTIALS_DIRECTORY": str(tmp_path / "none")}) is None
    assert find_passphrase(None, environment) == "of systemd"
    environment["COMMONWATT_PASSPHRASE"] = "of the environment"
    assert find_passphrase(None, environment) == "of the environment"
    assert find_passphrase(file, environment) == "of the file"


def test_the_first_line_is_the_secret_whatever_follows(tmp_path: Path) -> None:
    longest = "\N{GRINNING FACE}" * SECRET_CHARS_MAX
    for first in ("a\x0bb\u2028c\x85d", longest):
        for rest in ("", "\n", "\r\nmore", "\n" + "x" * 10_000):
            assert read_secret(written(tmp_path / "secret", first + rest), "secret") == first
    for first in (longest + "x", "x" * (SECRET_CHARS_MAX + 1), "x" * 10_000, longest * 2):
        with pytest.raises(ConfigError, match=f"a secret has {SECRET_CHARS_MAX} characters"):
            read_secret(written(tmp_path / "secret", first), "secret")
    (tmp_path / "secret").write_bytes(b"\xff\n")
    with pytest.raises(ConfigError, match="not text"):
        read_secret(tmp_path / "secret", "secret")


def test_a_passphrase_that_others_may_read_or_that_is_empty_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "passphrase", PASSPHRASE, 0o644)
    with pytest.raises(ConfigError, match="others may read this passphrase") as caught:
        find_passphrase(file, {})
    assert PASSPHRASE not in str(caught.value)
    credential = written(tmp_path / "commonwatt-passphrase", PASSPHRASE, 0o444)
    with pytest.raises(ConfigError, match="others may read this passphrase"):
        find_passphrase(None, {"CREDENTIALS_DIRECTORY": str(credential.parent)})
    with pytest.raises(ConfigError, match="COMMONWATT_PASSPHRASE: the passphrase is empty"):
        find_passphrase(None, {"COMMONWATT_PASSPHRASE": ""})


def test_a_short_passphrase_is_refused_and_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="12 to 1024 characters") as caught:
        new_passphrase(written(tmp_path / "passphrase", "hunter2"))
    assert "hunter2" not in str(caught.value)


def test_without_a_passphrase_it_says_where_one_goes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"passphrase_file in \[node\].*COMMONWATT_PASSPHRASE"):
        read_key(sealed(tmp_path / "node.key"), environment={})


def test_a_person_at_a_terminal_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    typed = iter([PASSPHRASE, "another one typed"])
    with pytest.raises(ConfigError, match="the two are not the same"):
        new_passphrase(None, {}, ask=lambda prompt: next(typed))
    assert new_passphrase(None, {}, ask=lambda prompt: PASSPHRASE) == PASSPHRASE


# -- a home


def home(tmp_path: Path, passphrase: str | None = PASSPHRASE) -> tuple[Path, Config]:
    written(tmp_path / "passphrase", PASSPHRASE + "\n")
    config = Config(node=NodeSection(passphrase_file="../passphrase"))
    create_home(tmp_path / "home", settings_text(config), KEY, passphrase=passphrase)
    return tmp_path / "home" / "node.toml", Config(node=config.node, directory=tmp_path / "home")


def test_a_home_is_made_with_an_encrypted_key(tmp_path: Path) -> None:
    _, config = home(tmp_path)
    assert load(tmp_path / "home" / "node.key").is_encrypted
    assert own_key(config).seed == KEY.seed
    assert (tmp_path / "home" / "node.key").stat().st_mode & 0o777 == 0o600


def test_a_backup_keeps_the_key_encrypted_and_the_passphrase_out(tmp_path: Path) -> None:
    file, _ = home(tmp_path)
    back_up(file, tmp_path / "home.tar.gz")
    assert restore(tmp_path / "home.tar.gz", tmp_path / "new") == KEY.address
    assert load(tmp_path / "new" / "node.key").open(PASSPHRASE).seed == KEY.seed
    found = b"".join(path.read_bytes() for path in (tmp_path / "new").rglob("*") if path.is_file())
    assert PASSPHRASE.encode() not in found


# -- on paper


def test_a_recovery_code_is_read_back_as_people_type() -> None:
    code = recovery_code(KEY)
    assert [len(group) for group in code.split()] == [5] * 12
    assert key_of_code(code).seed == KEY.seed
    sloppy = code.lower().replace(" ", "-").replace("0", "o").replace("1", "l")
    assert key_of_code(f"\n {sloppy} ").seed == KEY.seed


def test_the_recovery_code_of_a_known_key() -> None:
    """What is on paper must be readable by every later version."""
    code = "20820 C20A1 G7104 GM2RC 1M70Y 40H28 9H858 P2WC1 J6GV3 GEHW7 S0CCM CKTXJ"
    assert key_of_code(code).seed == bytes(range(1, 33))
    assert recovery_code(SigningKey(bytes(range(1, 33)))) == code


def test_any_mistyped_character_is_found_and_nothing_shown() -> None:
    code = recovery_code(KEY).replace(" ", "")
    for place, letter in enumerate(code):
        wrong = code[:place] + ("7" if letter != "7" else "8") + code[place + 1 :]
        with pytest.raises(ConfigError, match="does not add up") as caught:
            key_of_code(wrong)
        assert wrong[:10] not in str(caught.value)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("", "12 groups of 5"),
        (recovery_code(KEY)[:-1], "these are 59"),
        ("U" + recovery_code(KEY)[1:], "group 1 of the recovery code"),
        (recovery_code(KEY)[:-1] + "é", "group 12 of the recovery code"),
        (recovery_code(KEY) + " " * 500, "60 in all"),
        (" ".join(reversed(recovery_code(KEY).split())), "does not add up"),
    ],
)
def test_what_is_no_recovery_code_is_refused(typed: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        key_of_code(typed)


# -- commands


def command(*words: str, typed: str = "") -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, ["key", *words], input=typed)
    if isinstance(result.exception, ConfigError):
        return 2, str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_a_key_is_encrypted_shown_and_decrypted_by_command(tmp_path: Path) -> None:
    file, _ = home(tmp_path, None)
    key = file.parent / "node.key"
    before = key.read_text()
    code, said = command("encrypt", "--config", str(file))
    assert (code, KEY.address in said) == (0, True), said
    assert load(key).is_encrypted
    assert key.stat().st_mode & 0o777 == 0o600
    assert command("encrypt", "--config", str(file))[0] == 2
    assert command("show-address", "--key", str(key)) == (0, KEY.address + "\n")
    code, said = command("recovery-code", "--config", str(file))
    assert key_of_code(said).seed == KEY.seed
    assert command("decrypt", "--config", str(file))[0] == 0
    assert key.read_text() == before
    assert command("decrypt", "--config", str(file))[1].endswith("it is not encrypted")
    assert sorted(os.listdir(file.parent)) == ["data", "node.key", "node.toml"]


def test_a_wrong_passphrase_changes_nothing(tmp_path: Path) -> None:
    file, _ = home(tmp_path)
    before = (file.parent / "node.key").read_bytes()
    wrong = written(tmp_path / "wrong", "another passphrase")
    for name in ("decrypt", "recovery-code"):
        code, said = command(name, "--config", str(file), "--passphrase-file", str(wrong))
        assert (code, "this passphrase does not open it" in said) == (2, True)
        assert "another passphrase" not in said
    assert (file.parent / "node.key").read_bytes() == before


def test_a_key_comes_back_from_paper(tmp_path: Path) -> None:
    passphrase = str(written(tmp_path / "passphrase", PASSPHRASE))
    new = tmp_path / "back.key"
    typed = recovery_code(KEY).replace(" ", "\n") + "\n\n"
    code, said = command("restore", str(new), "--passphrase-file", passphrase, typed=typed)
    assert (code, said) == (0, f"{new}: {KEY.address} is back, encrypted\n")
    assert load(new).open(PASSPHRASE).seed == KEY.seed
    assert new.stat().st_mode & 0o777 == 0o600
    assert command("restore", str(new), "--plain", typed=typed) == (
        2, f"{new} exists already; nothing was changed"
    )  # fmt: skip
    assert command("restore", str(tmp_path / "plain.key"), "--plain", typed=typed)[0] == 0
    assert read_key(tmp_path / "plain.key").seed == KEY.seed
    assert command("restore", str(tmp_path / "no.key"), "--plain", typed="12345\n")[0] == 2
    assert not (tmp_path / "no.key").exists()
