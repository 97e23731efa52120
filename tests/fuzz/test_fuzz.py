"""The judge finds what it is there to find; and every decoder stands a taste of it."""

import ast
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils import encode_varint_prefixed

from consensus.messages import decode_message
from tests.fuzz.buggy import BUGGY
from tests.fuzz.judge import INPUT_BYTES_MAX, Target, inputs_of, kept_inputs, run, weight
from tests.fuzz.mutate import Mutator, tokens_of
from tests.fuzz.node_targets import gossip_reader, heard, signed_rpcs
from tests.fuzz.targets import BUILDERS, DECODED, INSIDE, OPTIONAL, PARSED, target
from wire.codec import encode
from wire.errors import DecodeError

ROOT = Path(__file__).parents[2]
ROOMS = ("consensus", "hems", "market", "node", "study", "testnet", "wire")
INPUTS = 25


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What is refused is logged, thousands of times."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", BUILDERS)
def test_a_decoder_takes_anything(name: str) -> None:
    one = target(name)
    assert one.name == name
    report = run(one, seed=7, inputs=INPUTS, kept=kept_inputs(name), bounded=False)
    assert [f"{failure.kind}: {failure.what}" for failure in report.failures] == []
    assert report.accepted >= len(one.examples)
    assert report.refused.total() > 0


def test_the_judge_finds_every_bug(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "tests.fuzz.buggy", "--inputs", "60", "--keep", str(tmp_path)]
    result = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 1, result.stderr
    found = {tuple(match) for match in re.findall(r"^([\w-]+): (\w+): ", result.stdout, re.M)}
    for name in BUGGY:
        kind = {"address-space": "uncaught", "sound": ""}.get(name, name.partition("-")[0])
        assert (name, kind) in found or not kind, f"{name} is not found: {result.stdout}"
    assert not any(name == "sound" for name, _ in found)
    kept = {file.parent.name for file in tmp_path.glob("*/*.bin")}
    assert kept == set(BUGGY) - {"sound"}
    # What was kept is put to the decoder again, and named in the command to repeat it.
    assert "--target uncaught --inputs 0" in result.stdout
    uncaught = run(BUGGY["uncaught"](), 1, 0, kept_inputs("uncaught", tmp_path), bounded=False)
    assert {failure.kind for failure in uncaught.failures} == {"uncaught"}


def test_a_seed_names_its_inputs() -> None:
    one = BUGGY["sound"]()
    first = list(inputs_of(one, 1, 1_500))
    assert list(inputs_of(one, 1, 1_200)) == first[:1_200]
    assert list(inputs_of(one, 2, 300)) != first[:300]
    assert len(set(first)) > 1_000


def test_mutations_know_the_format() -> None:
    data = encode({"a": [1, -1, 300], "b": {"c": None, "text": "x" * 40}})
    tokens = tokens_of(data)
    values = [data[token.start : token.end] for token in tokens]
    assert values[:4] == [data, b"\xa1a", data[3:9], b"\x01"]
    assert all(token.start < token.body <= token.end <= len(data) for token in tokens)
    mutator = Mutator([data], "msgpack")
    rng = Random(3)
    made = [mutator.make(rng) for _ in range(2_000)]
    assert all(len(item) <= INPUT_BYTES_MAX for item in made)
    for trace in (b"\xdd\xff\xff\xff\xff", b"\xcb\x7f\xf8\0\0\0\0\0\0", b"\x91" * 200, b"\xa1\xff"):
        assert any(trace in item for item in made), trace
    texts = Mutator([b"a = 1\nb = [2]\n"], "text")
    made = [texts.make(rng) for _ in range(2_000)]
    for trace in (b"[" * 1_100, b"nan", b"9" * 4_000, b"\\ud800", b"a = 1\na = 1"):
        assert any(trace in item for item in made), trace
    with pytest.raises(ValueError, match="an example"):
        Mutator([], "bytes")


def test_mutations_get_past_the_form() -> None:
    """Enough of them decode to something else, or what lies behind the form is never tried."""
    one = target("consensus-message")
    examples = set(one.examples)
    other = 0
    for data in inputs_of(one, 5, 1_000):
        try:
            decode_message(data)
        except DecodeError:
            continue
        other += data not in examples
    assert other >= 20


def test_what_is_accepted_is_weighed() -> None:
    assert weight([1] * 1_000, 10**6) > 60_000
    assert weight([b"x" * 5_000, {"k": "v" * 5_000}], 10**6) > 10_000
    assert weight([[0] * 10**6], 1_000) > 1_000
    small = Target("t", lambda data: [0] * 10_000, (DecodeError,), (b"x",))
    failures = run(small, 1, 0, bounded=False).failures
    assert [failure.kind for failure in failures] == ["unbounded"]


def test_gossip_that_nobody_signed_costs_one_check() -> None:
    rpc = rpc_pb2.RPC()
    true = signed_rpcs()
    for number in range(1_000):
        said = rpc.publish.add()
        said.CopyFrom(true[0].publish[0])
        said.data = b"%d" % number
    data = bytes(encode_varint_prefixed(rpc.SerializeToString()))
    pubsub = gossip_reader()
    ear = heard(pubsub, data * 3)
    assert (ear.invalid, ear.arrived) == (3, 0)
    # What its author did sign still arrives.
    whole = b"".join(bytes(encode_varint_prefixed(item.SerializeToString())) for item in true)
    assert heard(pubsub, data + whole).arrived == 2


def _calls(room: str) -> Iterator[tuple[str, ast.Call]]:
    for file in sorted((ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                yield str(file.relative_to(ROOT)), node


_PARSERS = re.compile(
    r"(json|tomllib|pickle|marshal)\.loads?|csv\.(reader|DictReader)|bytes\.fromhex"
    r"|\w+\.ParseFromString|msgspec\.(convert|(json|msgpack|toml|yaml)\.(decode|Decoder))"
    r"|tarfile\.open|zipfile\.ZipFile|(pyarrow\.)?parquet\.(ParquetFile|read_table)"
    r"|(np|numpy)\.(load|loadtxt|genfromtxt|fromfile)|(struct|Struct)\.(iter_)?unpack(_from)?"
    r"|(base64|binascii)\.\w*(decode|unhexlify|a2b)\w*|(\w+\.)*ElementTree\.\w+"
    r"|yaml\.\w*load\w*|x509\.load\w+|configparser\.\w+|shelve\.open"
)


def test_every_decoder_is_known() -> None:
    """Whoever adds a decoder adds a target, and says in `targets` which it is."""
    kinds, parsers = set(), set()
    for room in ROOMS:
        for file, call in _calls(room):
            name = ast.unparse(call.func)
            if name == "decode" and len(call.args) >= 2:
                kinds.add(ast.unparse(call.args[1]))
            elif _PARSERS.fullmatch(name):
                parsers.add((file, name))
    assert kinds == set(DECODED)
    assert parsers == {*PARSED, *INSIDE, *OPTIONAL}
    assert {*DECODED.values(), *PARSED.values()} <= set(BUILDERS)
