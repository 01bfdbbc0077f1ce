"""Threads of the kernels: how many, from whichever thread, and what does not depend on it."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator

import numpy as np
import pytest

import tgrad
from tests.cpu_fallback.cases import F32, call, convolution, dot_region, matmul, random_slots
from tests.cpu_fallback.test_patterns import chain, reduction, softmax
from tgrad import cpu_fallback
from tgrad.cpu_fallback import detect_machine
from tgrad.cpu_fallback.compile import KernelSource, compile_kernels
from tgrad.cpu_fallback.emit_c import emit
from tgrad.cpu_fallback.heuristics import choose_config
from tgrad.fusion.region import Region
from tgrad.graph.op import Op
from tgrad.kernel.lower import lower
from tgrad.settings import Settings

COUNT = """\
extern int omp_get_num_threads(void);
void count_threads(char *const *slots) {
#pragma omp parallel num_threads(tg_threads)
  if (slots) *(int *)slots[0] = omp_get_num_threads();
}
"""


@pytest.fixture(autouse=True)
def restore() -> Iterator[None]:
    before = tgrad.get_num_threads()
    yield
    tgrad.set_num_threads(before)


def _used(settings: Settings) -> int:
    entry = compile_kernels([KernelSource("count_threads", COUNT)], settings)["count_threads"].entry
    count = np.zeros(1, np.int32)
    entry((ctypes.c_void_p * 1)(count.ctypes.data))
    return int(count[0])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_kernels_use_the_threads_that_were_set(settings: Settings, count: int) -> None:
    tgrad.set_num_threads(count)
    assert tgrad.get_num_threads() == count
    assert _used(settings) == count
    found: list[int] = []
    other = threading.Thread(target=lambda: found.append(_used(settings)))
    other.start()
    other.join()
    assert found == [count]


def test_pytorch_keeps_its_threads() -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    tgrad.set_num_threads(before + 1)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("count", [0, -1, 2.0, True, "2"])
def test_a_bad_number_is_refused(count: object) -> None:
    with pytest.raises(ValueError) as error:
        tgrad.set_num_threads(count)  # type: ignore[arg-type]
    assert str(error.value) == f"set_num_threads({count!r}): give a whole number of at least 1."


REGIONS = {
    "chain": lambda: chain(64, 3000),
    "softmax": lambda: softmax(300, 1000),
    "full_sum": lambda: reduction(Op.REDUCE_SUM, F32, "full", 300, 5000),
    "column_sum": lambda: reduction(Op.REDUCE_SUM, F32, "column", 3000, 500),
    "matmul": lambda: dot_region(matmul(200, 300, 900)),
    "convolution": lambda: convolution("forward", 4, 32, 32, 14, 3, 1),
    "weights": lambda: convolution("weight", 19, 32, 32, 14, 3, 1),
}


@pytest.mark.parametrize("name", REGIONS)
def test_results_do_not_depend_on_the_number(settings: Settings, name: str) -> None:
    region = REGIONS[name]()
    arrays = random_slots(region)
    [artifact] = cpu_fallback.generate([region], settings)
    assert "omp parallel" in artifact.source
    results = []
    for count in (1, 2, 3):
        tgrad.set_num_threads(count)
        results.append(call(artifact.entry, arrays)[-1])
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


SMALL = [chain(8, 100), softmax(4, 100), reduction(Op.REDUCE_SUM, F32, "full", 30, 500)]


@pytest.mark.parametrize("region", [*SMALL, dot_region(matmul(32, 32, 64))], ids=lambda r: r.name)
def test_small_kernels_stay_on_one_thread(region: Region) -> None:
    config = choose_config(region, detect_machine())
    assert "omp parallel" not in emit(lower(region, config), config, detect_machine())
