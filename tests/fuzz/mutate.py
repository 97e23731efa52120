"""Inputs near to valid ones: what a broken disk, a sloppy peer or an attacker would send.

`Mutator(examples, kind, words)` makes an input from a `random.Random` alone, so that a seed names
it. Half of what it does knows the format: MessagePack values and their headers, or the numbers,
words, lines and brackets of text.
"""

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Final, Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["msgpack", "text", "bytes"]

INPUT_BYTES_MAX: Final = 65_536
EXTENSION_BYTES_MAX: Final = 2_048
STEPS_MAX: Final = 4
RANDOM_SHARE: Final = 0.02
UNTOUCHED_SHARE: Final = 0.01
NESTING: Final = (2, 7, 8, 9, 33, 200, 1_100, 5_000)

_EDGES: Final = sorted(
    {
        sign * (2**bits) + step
        for bits in (0, 5, 7, 8, 15, 16, 31, 32, 40, 53, 62, 63, 64)
        for step in (-1, 0, 1)
        for sign in (1, -1)
    }
)


class Token(NamedTuple):
    """One MessagePack value in an example: `data[start:end]`; its header ends at `body`."""

    start: int
    body: int
    end: int


def tokens_of(data: bytes) -> list[Token]:
    """Return every value of a MessagePack text, outer ones before those inside.

    What is no MessagePack ends the list; examples are valid, but some hold more than one value.
    """
    found: list[Token] = []
    place = 0
    try:
        while place < len(data):
            place = _read(data, place, found)
    except (IndexError, RecursionError):
        pass
    return found


# first byte: (bytes of length, extra bytes of header, values per unit of length); 0 values: bytes
_SIZED: Final = {
    0xC4: (1, 0, 0), 0xC5: (2, 0, 0), 0xC6: (4, 0, 0),
    0xC7: (1, 1, 0), 0xC8: (2, 1, 0), 0xC9: (4, 1, 0),
    0xD9: (1, 0, 0), 0xDA: (2, 0, 0), 0xDB: (4, 0, 0),
    0xDC: (2, 0, 1), 0xDD: (4, 0, 1), 0xDE: (2, 0, 2), 0xDF: (4, 0, 2),
}  # fmt: skip
_FIXED: Final = {
    0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,
    0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17,
}  # fmt: skip


def _read(data: bytes, start: int, found: list[Token]) -> int:
    first = data[start]
    body, size, values = start + 1, 0, 0
    if first in _SIZED:
        width, extra, per = _SIZED[first]
        length = int.from_bytes(data[body : body + width], "big")
        body += width + extra
        size, values = (0, length * per) if per else (length, 0)
    elif first in _FIXED:
        size = _FIXED[first]
    elif 0xA0 <= first <= 0xBF:
        size = first & 0x1F
    elif 0x80 <= first <= 0x8F:
        values = 2 * (first & 0x0F)
    elif 0x90 <= first <= 0x9F:
        values = first & 0x0F
    at = len(found)
    found.append(Token(start, body, body))
    end = body + size
    if end > len(data):
        raise IndexError
    for _ in range(values):
        end = _read(data, end, found)
    found[at] = Token(start, body, end)
    return end


def _packed(number: int, rng: Random) -> bytes:
    """Encode an integer, sometimes wider than it need be."""
    if not -(2**63) <= number < 2**64:
        number = 2**64 - 1 if number > 0 else -(2**63)
    forms: list[bytes] = []
    if 0 <= number < 128 or -32 <= number < 0:
        forms.append((number & 0xFF).to_bytes(1, "big"))
    for width, unsigned, signed in (
        (1, 0xCC, 0xD0),
        (2, 0xCD, 0xD1),
        (4, 0xCE, 0xD2),
        (8, 0xCF, 0xD3),
    ):
        bits = 8 * width
        if 0 <= number < 1 << bits:
            forms.append(bytes((unsigned,)) + number.to_bytes(width, "big"))
        elif -(1 << bits - 1) <= number < 0:
            forms.append(bytes((signed,)) + number.to_bytes(width, "big", signed=True))
    return forms[0] if rng.random() < 0.8 else rng.choice(forms)


# Headers that announce much more than there is, and values no message has.
_HUGE: Final = tuple(
    bytes.fromhex(text)
    for text in (
        "c6ffffffff", "c67fffffff", "c600100000", "c9ffffffff01", "c9ffffffffff", "c90010000005",
        "dbffffffff", "db7fffffff", "db00100000", "ddffffffff", "dd7fffffff", "dd00100000",
        "dfffffffff", "df7fffffff", "df00100000", "dcffff", "deffff", "daffff", "c5ffff",
    )
)  # fmt: skip
_STRANGE: Final = tuple(
    bytes.fromhex(text)
    for text in (
        "c0", "c1", "c2", "c3", "80", "90", "a0", "c400",
        "ca7fc00000", "cb7ff8000000000000", "cb7ff0000000000000", "cbfff0000000000000",
        "cb3ff0000000000000", "cb8000000000000000",
        "d6ff00000000", "d6ffffffffff", "d7ffffffffffffffffff", "c70cff3b9aca000000000000000000",
        "c70cffffffffffffffffffffffffff", "d400", "c70005", "d801" + "00" * 16,
        "a1ff", "a2c328", "a3eda080", "a4f4908080", "d901ff", "81a16101", "82a16101a16102",
        "8101c0", "81c0c0", "8190c0", "81c4016101", "8180c0", "81ca7fc0000001",
        "82ca7fc0000001ca7fc0000001", "9190", "919190",
    )
)  # fmt: skip
_NUMBER: Final = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_WORD: Final = re.compile(rb"[A-Za-z_]\w*")
_TEXT_NUMBERS: Final = (
    *(str(edge).encode() for edge in _EDGES),
    b"0.1", b"-0.0", b"1e5", b"1e308", b"1e400", b"-1e400", b"1E-400", b"nan", b"NaN", b"inf",
    b"-inf", b"Infinity", b"1_000", b"0x10", b"0b1", b"0o7", b"07", b"+1", b"1.", b".5", b"",
    b"1" * 400, b"9" * 5_000, b"0." + b"3" * 3_000, "٣".encode(), b"true", b"null", b'"1"', b"[]",
    b"{}", b"1979-05-27", b"1979-05-27T07:32:00Z", b"9999-99-99", b"07:32:00",
)  # fmt: skip
_TEXT_PIECES: Final = (
    b"\0", b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\\u0000", b"\\ud800", b"\\x",
    b'"', b"'", b'"""', b"'''", b"\\", b"\n", b"\r", b"\r\n", b"\t", b" ", b",", b":", b"=", b"#",
    b"[", b"]", b"[[", b"]]", b"{", b"}", b".", b"/", b"..", b"-", "ä".encode(), "\u202e".encode(),
    b"null", b"true", b"{}", b"[]",
)  # fmt: skip
_OPENERS: Final = (
    (b"[", b"]"),
    (b"{", b"}"),
    (b'{"a":', b"}"),
    (b"[[", b"]]"),
    (b"{a=", b"}"),
    (b"a.", b""),
)


class Mutator:
    """Makes inputs from valid examples."""

    def __init__(self, examples: Sequence[bytes], kind: Kind, words: Sequence[bytes] = ()) -> None:
        if not examples:
            raise ValueError("a mutator needs an example")
        self._examples = list(examples)
        self._words = list(words)
        self._tokens: dict[bytes, list[Token]] = {}
        steps: list[Callable[[bytearray, Random], None]] = [
            _flip, _flip, _set_byte, _delete, _double, _truncate, _extend, _integer, self._splice,
        ]  # fmt: skip
        if kind == "msgpack":
            self._tokens = {data: tokens_of(data) for data in self._examples}
            steps.append(self._token)
        elif kind == "text":
            steps += [_text_number, _text_number, _text_piece, _text_lines, _text_nest, self._word]
        self._steps = steps

    def make(self, rng: Random) -> bytes:
        """Return one input of at most `INPUT_BYTES_MAX` bytes."""
        draw = rng.random()
        if draw < RANDOM_SHARE:
            return rng.randbytes(int(rng.random() ** 3 * 512))
        example = self._pick(self._examples, rng)
        if draw < RANDOM_SHARE + UNTOUCHED_SHARE:
            return example
        return self.vary(example, rng)

    def vary(self, data: bytes, rng: Random) -> bytes:
        """Return an input made of `data`, an example or not, of at most `INPUT_BYTES_MAX` bytes."""
        out = bytearray(data)
        if self._tokens and rng.random() < 0.7:
            # The places are those of `data`, so the format is still known.
            tokens = self._tokens.get(data)
            tokens = tokens_of(data) if tokens is None else tokens
            if tokens:
                self._retoken(out, tokens, rng)
        for _ in range(int(rng.random() ** 2 * STEPS_MAX) + (out == data)):
            self._pick(self._steps, rng)(out, rng)
        del out[INPUT_BYTES_MAX:]
        return bytes(out)

    @staticmethod
    def _pick(items: Sequence, rng: Random):  # type: ignore[no-untyped-def, type-arg]
        return items[int(rng.random() * len(items))]

    def _splice(self, out: bytearray, rng: Random) -> None:
        """Put a piece of an example at some place of this one, or go on with its end."""
        other = self._pick(self._examples, rng)
        start, place = _place(other, rng), _place(out, rng)
        if rng.random() < 0.5:
            out[place:] = other[start:]
        else:
            size = int(rng.random() * 64)
            out[place : place + size] = other[start : start + size]

    def _word(self, out: bytearray, rng: Random) -> None:
        """Put one known word in the place of another."""
        found = _some(_WORD, out, rng)
        if found is None:
            return
        words = self._words or [b"x"]
        if rng.random() < 0.5:
            start, end = found
            out[start:end] = self._pick(words, rng)
        else:
            other = _some(_WORD, out, rng)
            if other is not None:
                out[found[0] : found[1]] = out[other[0] : other[1]]

    # -- MessagePack

    def _token(self, out: bytearray, rng: Random) -> None:
        """Change a value of what is still MessagePack after the steps before."""
        tokens = tokens_of(bytes(out))
        if tokens:
            self._retoken(out, tokens, rng)

    def _retoken(self, out: bytearray, tokens: list[Token], rng: Random) -> None:
        start, body, end = self._pick(tokens, rng)
        choice = int(rng.random() * 12)
        if choice == 0:
            out[start:body] = self._pick(_HUGE, rng)
        elif choice <= 2:
            out[start:end] = self._pick(_STRANGE, rng)
        elif choice <= 4:
            out[start:end] = _packed(self._pick(_EDGES, rng), rng)
        elif choice == 5:
            other = self._pick(self._examples, rng)
            token = self._pick(self._tokens[other], rng)
            out[start:end] = other[token.start : token.end]
        elif choice == 6:
            token = self._pick(tokens, rng)
            out[start:end] = out[token.start : token.end]
        elif choice == 7:
            del out[start:end]
        elif choice == 8:
            out[start:start] = out[start:end] * (1 + int(rng.random() ** 6 * 300))
        elif choice == 9:
            depth = self._pick(NESTING, rng)
            around = self._pick((b"\x91", b"\x81\xa1a", b"\xdc\x00\x01", b"\x92\xc0"), rng)
            out[start:start] = around * depth
        elif choice == 10:
            self._resize(out, start, body, end, rng)
        else:
            _rewrap(out, start, body, end, rng)

    def _resize(self, out: bytearray, start: int, body: int, end: int, rng: Random) -> None:
        """Let a container or text claim a little more or less than it holds."""
        first = out[start]
        if 0x80 <= first <= 0xBF:
            low = first & (0xE0 if first >= 0xA0 else 0xF0)
            out[start] = low | (first + self._pick((1, -1, 2, 7), rng)) & (0xFF ^ low)
        elif body > start + 1:
            size = int.from_bytes(out[start + 1 : body], "big")
            size = (size + self._pick((1, -1, 2, 255), rng)) % 256 ** (body - start - 1)
            out[start + 1 : body] = size.to_bytes(body - start - 1, "big")
        else:
            out[start:end] = b"\x91" + out[start:end]


def _rewrap(out: bytearray, start: int, body: int, end: int, rng: Random) -> None:
    """Say the same with a longer header than the canonical one."""
    first, content = out[start], bytes(out[body:end])
    if 0xA0 <= first <= 0xBF or first in (0xD9, 0xDA, 0xDB):
        code, width = ((0xD9, 1), (0xDA, 2), (0xDB, 4))[int(rng.random() * 3)]
    elif first in (0xC4, 0xC5, 0xC6):
        code, width = ((0xC5, 2), (0xC6, 4), (0xDA, 2))[int(rng.random() * 3)]
    elif 0x80 <= first <= 0x9F:
        code, width = (0xDC, 2) if first >= 0x90 else (0xDE, 2)
        out[start:body] = bytes((code,)) + (first & 0x0F).to_bytes(width, "big")
        return
    else:
        out[start:end] = b"\xcb" + content.rjust(8, b"\0")[:8]
        return
    if len(content) < 256**width:
        out[start:end] = bytes((code,)) + len(content).to_bytes(width, "big") + content


def _place(out: bytes | bytearray, rng: Random) -> int:
    return int(rng.random() * (len(out) + 1))


def _flip(out: bytearray, rng: Random) -> None:
    for _ in range(1 + int(rng.random() ** 3 * 8)):
        if out:
            out[int(rng.random() * len(out))] ^= 1 << int(rng.random() * 8)


def _set_byte(out: bytearray, rng: Random) -> None:
    if out:
        values = (0, 1, 0x7F, 0x80, 0xFF, int(rng.random() * 256))
        out[int(rng.random() * len(out))] = values[int(rng.random() * 6)]


def _delete(out: bytearray, rng: Random) -> None:
    place = _place(out, rng)
    del out[place : place + 1 + int(rng.random() ** 3 * 64)]


def _double(out: bytearray, rng: Random) -> None:
    place = _place(out, rng)
    piece = out[place : place + 1 + int(rng.random() ** 2 * 64)]
    room = EXTENSION_BYTES_MAX // max(1, len(piece))
    out[place:place] = piece * (1 + int(rng.random() ** 6 * room))


def _truncate(out: bytearray, rng: Random) -> None:
    del out[_place(out, rng) :]


def _extend(out: bytearray, rng: Random) -> None:
    size = 1 + int(rng.random() ** 4 * EXTENSION_BYTES_MAX)
    if rng.random() < 0.5:
        out += rng.randbytes(size)
    else:
        out += bytes((int(rng.random() * 256),)) * size


def _integer(out: bytearray, rng: Random) -> None:
    """Write a telling integer over some bytes, big- or little-endian."""
    width = (1, 2, 4, 8)[int(rng.random() * 4)]
    edge = _EDGES[int(rng.random() * len(_EDGES))] % 256**width
    place = _place(out, rng)
    out[place : place + width] = edge.to_bytes(width, "big" if rng.random() < 0.7 else "little")


def _some(pattern: re.Pattern[bytes], out: bytearray, rng: Random) -> tuple[int, int] | None:
    """Return where some match stands: the first after a random place, else the first of all."""
    found = pattern.search(out, _place(out, rng)) or pattern.search(out)
    return found.span() if found else None


def _text_number(out: bytearray, rng: Random) -> None:
    found = _some(_NUMBER, out, rng)
    if found is not None:
        out[found[0] : found[1]] = _TEXT_NUMBERS[int(rng.random() * len(_TEXT_NUMBERS))]


def _text_piece(out: bytearray, rng: Random) -> None:
    place = _place(out, rng)
    out[place:place] = _TEXT_PIECES[int(rng.random() * len(_TEXT_PIECES))]


def _text_lines(out: bytearray, rng: Random) -> None:
    """Drop, double, move or empty a line, or join all into one."""
    lines = bytes(out).split(b"\n")
    place = int(rng.random() * len(lines))
    other = int(rng.random() * len(lines))
    choice = int(rng.random() * 5)
    if choice == 0:
        del lines[place]
    elif choice == 1:
        lines.insert(other, lines[place])
    elif choice == 2:
        lines[place], lines[other] = lines[other], lines[place]
    elif choice == 3:
        lines[place] = b""
    else:
        lines = [b" ".join(lines)]
    out[:] = b"\n".join(lines)


def _text_nest(out: bytearray, rng: Random) -> None:
    """Put brackets, many, around a value or at some place."""
    left, right = _OPENERS[int(rng.random() * len(_OPENERS))]
    depth = NESTING[int(rng.random() * len(NESTING))]
    depth = min(depth, 4 * EXTENSION_BYTES_MAX // len(left))
    found = _some(_NUMBER, out, rng) if rng.random() < 0.7 else None
    start, end = found or (_place(out, rng),) * 2
    closing = right * depth if rng.random() < 0.7 else b""
    out[start:end] = left * depth + bytes(out[start:end]) + closing
