"""Cells on Dask: the same results by the same call, on workers of its own or of a scheduler."""

from pathlib import Path

import pytest

from study.cells import run_cells
from study.engines import executor_of
from study.errors import SettingError
from tests.study.test_cells import NUMBERS, Number, refuse, results, square


def test_what_is_no_engine_is_refused() -> None:
    with pytest.raises(SettingError, match="here, dask, or the address"), executor_of("ray", 1):
        pass


def test_here_is_the_default() -> None:
    with executor_of("here", 3) as (executor, jobs):
        assert (executor, jobs) == (None, 3)


@pytest.mark.slow
def test_dask_makes_the_cells(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    with executor_of("dask", 2) as (executor, jobs):
        assert executor is not None
        found = run_cells(results(tmp_path), NUMBERS, square, jobs, executor=executor)
    assert [found[Number(value)].value for value in range(5)] == [0, 1, 4, 9, 16]
    # Kept as by processes here, which have nothing left to do.
    assert run_cells(results(tmp_path), NUMBERS, refuse, 1) == found


@pytest.mark.slow
def test_where_no_scheduler_answers_it_is_said() -> None:
    pytest.importorskip("distributed")
    with (
        pytest.raises(SettingError, match=r"no scheduler of Dask answers at tcp://127\.0\.0\.1:9"),
        executor_of("tcp://127.0.0.1:9", 1),
    ):
        pass
