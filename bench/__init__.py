"""What is measured, each with one command: `uv run python -m bench.NAME`."""

import os

# One thread: small products shared among CPUs are waited for by spinning, which counts as work.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
