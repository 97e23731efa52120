"""Pages of the documentation that are made of the program: commands, settings.

    uv run python -m scripts.reference            # writes docs/cli.md and docs/configuration.md
    uv run python -m scripts.reference --check    # says which of them is not as it would be written

Same program, same bytes: nothing of the terminal, the machine or the day goes in.
"""

import datetime
import difflib
import enum
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import typer
from typer.core import TyperArgument

DOCS: Final = Path(__file__).parent.parent / "docs"
DIFF_LINES_MAX: Final = 20
MADE: Final = "<!-- Made by `python -m scripts.reference`; do not edit. -->"


# -- commands ------------------------------------------------------------------------------------

_COMMANDS: Final = f"""{MADE}

# Commands

`commonwatt COMMAND --help` says the same on the screen. Exit codes: 0 done, 1 failed while running
(or what was asked about is not well), 2 something is to be put right first, which one line says.

`--json` prints all of what a command found, for other programs. `commonwatt --install-completion`
teaches the shell to complete commands and options by the tab key (bash, zsh, fish);
`commonwatt --show-completion` prints what that would add to the shell's settings.
"""


def commands_page() -> str:
    """Return the page of all commands, in the order of `commonwatt --help`."""
    import cli

    root = typer.main.get_command(cli.app)
    return "\n".join([_COMMANDS, *_command_lines(root, ["commonwatt"])]).rstrip() + "\n"


def leaves(command: Any, words: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield every command that does something, with what is typed for it."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield " ".join(words), command
        return
    for name, child in inner.items():
        yield from leaves(child, [*words, name])


def _command_lines(command: Any, words: list[str]) -> Iterator[str]:
    inner = getattr(command, "commands", None)
    if len(words) > 1:
        yield f"{'#' * len(words)} {' '.join(words)}\n"
        yield f"{inspect.cleandoc(command.help or '')}\n"
    if inner is None:
        arguments = [one for one in command.params if isinstance(one, TyperArgument)]
        options = [one for one in command.params if not isinstance(one, TyperArgument)]
        shown = [_argument(one) for one in arguments]
        yield f"```\n{' '.join([*words, *(['[OPTIONS]'] if options else []), *shown])}\n```\n"
        rows = [*zip(shown, arguments, strict=True), *((_option(one), one) for one in options)]
        if rows:
            yield "| | |\n|---|---|"
            yield from (f"| `{_cell(typed)}` | {_meaning(one)} |" for typed, one in rows)
            yield ""
        return
    for name, child in inner.items():
        yield from _command_lines(child, [*words, name])


def _argument(argument: Any) -> str:
    name = (argument.metavar or argument.name).upper().strip("[]").removesuffix("...")
    name = f"{name}..." if argument.nargs == -1 else name
    return name if argument.required else f"[{name}]"


def _option(option: Any) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    if option.is_flag:
        return names
    descriptor = getattr(option, "type_descriptor", None)
    # Typer before 0.29 has click's types there.
    hint = option.type if descriptor is None else descriptor.annotation
    return f"{names} {_asked(hint)}"


def _asked(hint: Any) -> str:
    """Return what is to be typed for a parameter of this type."""
    members = [one for one in typing.get_args(hint) if one is not type(None)]
    if members:
        return _asked(members[0])
    if not isinstance(hint, type):
        name = hint.name.split()[0]
        choices = "|".join(str(getattr(one, "value", one)) for one in getattr(hint, "choices", ()))
        return choices or {"integer": "NUMBER", "float": "NUMBER", "path": "PATH"}.get(name, "TEXT")
    if issubclass(hint, enum.Enum):
        return "|".join(str(one.value) for one in hint)
    return {int: "NUMBER", float: "NUMBER", Path: "PATH"}.get(hint, "TEXT")


def _meaning(param: Any) -> str:
    text = " ".join((param.help or "").split())
    bounds = param if hasattr(param, "min") else param.type
    low, high = getattr(bounds, "min", None), getattr(bounds, "max", None)
    if low is not None or high is not None:
        spans = f"at least {low}" if high is None else f"at most {high}" if low is None else ""
        text += f" [{spans or f'{low} to {high}'}]"
    default = param.default
    if param.required:
        text += " **Required.**"
    elif "[default:" not in text and not getattr(param, "is_flag", False):
        default = default.value if isinstance(default, enum.Enum) else default
        if default is not None and not callable(default) and default != ():
            text += f" [default: {default}]"
    return _cell(text)


# -- settings ------------------------------------------------------------------------------------

_SETTINGS: Final = f"""{MADE}

# Settings

One TOML file, `node.toml`; then the environment, whose variables stand beside the settings; the
latter win. Unknown sections, keys and variables are refused, by name. Relative paths are relative
to the file. A list in the environment is separated by commas. `[main]`, `[web]` and `[home]` may be
left out, and a table in `[home]`; what is required where a table is there says so.
"""
_PARAMETERS: Final = "Parameters\n----------\n"
_RAISES: Final = "Raises\n------\n"
_TYPE: Final = re.compile(r"(?:int|float|bool|str)(?:, optional)?")
_MEANING: Final = re.compile(r"^(\w+(?:, \w+)*) : (.*)$")


def settings_page() -> str:
    """Return the page of all settings."""
    from hems.config import HomeConfig
    from node.config import ENVIRONMENT_PREFIX, sections

    lines = [_SETTINGS]
    for name, kind in sections().items():
        lines += _table_lines(name, kind, f"{ENVIRONMENT_PREFIX}{name}_".upper())
    lines += _table_lines("home", HomeConfig, "")
    return "\n".join(lines).rstrip() + "\n"


def _table_lines(name: str, kind: Any, prefix: str) -> Iterator[str]:
    text, meanings = _told(kind)
    tag = kind.__struct_config__.tag_field
    yield f"## [{name}]{f', {tag} {kind.__struct_config__.tag}' if tag else ''}\n"
    if text:
        yield f"{text}\n"
    heads = ["setting", "kind", "default", *(["meaning"] if meanings else [])]
    heads += ["environment"] if prefix else []
    yield f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}"
    nested: list[tuple[str, Any]] = []
    if tag:
        yield f'| `{tag}` | `"{kind.__struct_config__.tag}"` | required |' + " |" * (len(heads) - 3)
    hints = typing.get_type_hints(kind, include_extras=False)
    for field in msgspec.structs.fields(kind):
        hint = hints[field.name]
        cells = [f"`{field.encode_name}`", _cell(_kind_of(hint, name, field)), _default(field)]
        cells += [_cell(meanings.get(field.name, ""))] if meanings else []
        variable = "" if _structs(hint) else f"`{prefix}{field.name.upper()}`"
        cells += [variable] if prefix else []
        yield f"| {' | '.join(cells)} |"
        place = f"{name}.{field.encode_name}"
        place += ".NAME" if typing.get_origin(hint) is dict else ""
        nested += [(place, struct) for struct in _structs(hint)]
    yield ""
    for place, struct in nested:
        yield from _table_lines(place, struct, "")


def _told(kind: Any) -> tuple[str, dict[str, str]]:
    """Return a docstring's sentences, and what it says of each setting."""
    sentences: list[str] = []
    meanings: dict[str, str] = {}
    names: list[str] = []
    text = inspect.cleandoc(kind.__doc__ or "").replace(_PARAMETERS, "")
    for line in text.partition(_RAISES)[0].splitlines():
        match = _MEANING.match(line)
        if match:
            names = match[1].split(", ")
            # Of a class's parameters a type stands here, and the meaning follows.
            meanings |= dict.fromkeys(names, "" if _TYPE.fullmatch(match[2]) else match[2])
        elif names and line.startswith(" "):
            meanings |= {name: f"{meanings[name]} {line.strip()}".strip() for name in names}
        else:
            names = []
            sentences.append(line)
    return "\n".join(sentences).strip(), meanings


def _kind_of(hint: Any, table: str, field: Any) -> str:
    structs = _structs(hint)
    if typing.get_origin(hint) is dict:
        if structs:
            return f"tables [{table}.{field.encode_name}.NAME]"
        return "a table of names and values"
    if structs:
        return f"table [{table}.{field.encode_name}]"
    if typing.get_origin(hint) is tuple:
        texts = str in typing.get_args(hint)
        return "a list of texts" if texts else "a list of whole numbers"
    if typing.get_origin(hint) is typing.Literal:
        return ", ".join(f"`{one}`" for one in typing.get_args(hint))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        members = [one for one in typing.get_args(hint) if one is not type(None)]
        return " or ".join(_kind_of(one, table, field) for one in members)
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return names.get(
        hint, "date" if hint is datetime.date else getattr(hint, "__name__", str(hint))
    )


def _structs(hint: Any) -> list[Any]:
    members = typing.get_args(hint) or (hint,)
    found = []
    for member in members:
        if isinstance(member, type) and issubclass(member, msgspec.Struct):
            found.append(member)
        elif typing.get_args(member):
            found += _structs(member)
    return found


def _default(field: Any) -> str:
    if field.required:
        return "required"
    value = field.default
    if field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    if value is None or isinstance(value, dict | msgspec.Struct):
        return "" if value is None or not value else "as below"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{list(value)}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", text)


# -- both ----------------------------------------------------------------------------------------

PAGES: Final[dict[str, Callable[[], str]]] = {
    "cli.md": commands_page,
    "configuration.md": settings_page,
}


def stale(docs: Path = DOCS) -> list[str]:
    """Return what differs of the pages, first lines first; empty if they are current."""
    found: list[str] = []
    for name, make in PAGES.items():
        file = docs / name
        there = file.read_text() if file.exists() else ""
        found += difflib.unified_diff(
            there.splitlines(), make().splitlines(), f"docs/{name}", "the program", lineterm="", n=0
        )
    return found


def main() -> None:
    """Write the pages, or say what is not current."""
    if sys.argv[1:] == ["--check"]:
        if lines := stale():
            sys.exit("\n".join([*lines[:DIFF_LINES_MAX], "run python -m scripts.reference"]))
        return
    if sys.argv[1:]:
        sys.exit("usage: python -m scripts.reference [--check]")
    for name, make in PAGES.items():
        (DOCS / name).write_text(make())
        print(f"docs/{name}")


if __name__ == "__main__":
    main()
