"""`python -m tests.fuzz.coverage_guided TARGET`: one decoder, led by what its code reaches.

The same targets, examples, mutations and judgement as `python -m tests.fuzz`, but libFuzzer
(atheris, extra `fuzz`) keeps each input that reaches a line no other has, and goes on from it. What
fails is kept under `regressions/`, and the exit code is not zero. Time and memory are judged by
`python -m tests.fuzz`: here the instrumented code is many times slower.
"""

import argparse
import importlib
import logging
import os
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Final, NoReturn

ROOMS: Final = ["consensus", "hems", "market", "node", "study", "testnet", "wire"]
# An input that takes longer is a hang, even where each line is counted.
TIMEOUT_S: Final = 30
MEMORY_MIB: Final = 2_048
FOUND: Final = 1


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run, and end the process: `FOUND` is its exit code if something went wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz.coverage_guided", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("target", metavar="TARGET", help="as `python -m tests.fuzz --list` says")
    parser.add_argument(
        "--targets", default="tests.fuzz.targets:BUILDERS", help="MODULE:NAME of a map of targets"
    )
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--inputs", type=int, default=-1, help="-1: until the time is over")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, help="where what reaches new code is kept")
    parser.add_argument("--keep", type=Path, help="where failures are kept, as `tests.fuzz` does")
    options = parser.parse_args(arguments)
    if find_spec("atheris") is None:
        parser.exit(2, "atheris is missing: uv sync --extra test --extra fuzz (x86-64 Linux)\n")
    if options.corpus is not None:
        _fuzz(options, options.corpus)
    own = Path(tempfile.mkdtemp(prefix="cw-corpus-"))
    child = os.fork()
    if child == 0:
        _fuzz(options, own)
    # libFuzzer ends its process without a word to Python: this one is left to clear up.
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    shutil.rmtree(own, ignore_errors=True)
    raise SystemExit(code)


def _fuzz(options: argparse.Namespace, corpus: Path) -> NoReturn:
    import atheris

    with atheris.instrument_imports(include=ROOMS):
        module, _, name = options.targets.partition(":")
        builders = getattr(importlib.import_module(module), name)
        if options.target not in builders:
            raise SystemExit(f"no target is called {options.target}: {', '.join(builders)}")
        target = builders[options.target]()
    from tests.fuzz.__main__ import tell
    from tests.fuzz.judge import INPUT_BYTES_MAX, REGRESSIONS, Judge, kept_inputs
    from tests.fuzz.mutate import Mutator

    logging.disable(logging.CRITICAL)
    folder = options.keep or REGRESSIONS
    judge = Judge(target, bounded=False)
    mutator = Mutator(target.examples, target.kind, target.words)

    def one(data: bytes) -> None:
        judge.put(data)
        if judge.report.failures:
            tell(judge.report, folder)
            # An exception would be told as a crash of the fuzzer's; all there is to say is said.
            os._exit(FOUND)

    def mutated(data: bytes, size_max: int, seed: int) -> bytes:
        rng = Random(seed)
        if rng.random() < 0.3:
            return bytes(atheris.Mutate(data, size_max))
        made = mutator.vary(data, rng)
        if target.mend is not None and rng.random() < 0.5:
            made = target.mend(made)
        return made[:size_max]

    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate([*target.examples, *kept_inputs(target.name, folder)]):
        (corpus / f"example-{number}").write_bytes(data)
    line = [
        sys.argv[0], str(corpus), f"-max_len={INPUT_BYTES_MAX}", f"-seed={options.seed}",
        f"-max_total_time={options.seconds}", f"-runs={options.inputs}", f"-timeout={TIMEOUT_S}",
        f"-rss_limit_mb={MEMORY_MIB}", f"-artifact_prefix={corpus}/crash-", "-print_final_stats=1",
    ]  # fmt: skip
    atheris.Setup(line, one, custom_mutator=mutated)
    atheris.Fuzz()
    raise SystemExit(0)


if __name__ == "__main__":
    main()
