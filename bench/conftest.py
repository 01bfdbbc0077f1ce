"""`pytest bench/ --benchmark-only`: devices, the mark `quick`, and how a workload is timed.

In: the command line. Out: fixtures. Invariant: what is timed is a compiled function on stored
inputs; its plan's figures stand beside the times in the report's `extra_info`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import tgrad
from bench.peers.tgrad import differentiated, figures_of

collect_ignore = ["peers", "__main__.py", "plot.py"]
"""What needs other packages, or is a command."""

QUICK = {"max_time": 0.2, "min_rounds": 3, "min_time": 1e-5}
"""Of pytest-benchmark, for workloads marked quick."""

Timed = Callable[..., Any]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--bench-device",
        action="append",
        metavar="NAME",
        help="device of the workloads; may be given several times (default: cpu)",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each workload with the argument `device` runs on every device asked for."""
    if "device" in metafunc.fixturenames:
        metafunc.parametrize("device", metafunc.config.getoption("bench_device") or ["cpu"])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick workloads are timed for a fifth of a second."""
    for item in items:
        if item.get_closest_marker("quick"):
            item.add_marker(pytest.mark.benchmark(**QUICK))


@pytest.fixture
def timed(benchmark: Any, device: str) -> Timed:
    """Time a function of arrays: (function, *arrays, dtype=..., gradient=...)."""

    def time(
        function: Callable[..., Any],
        *arrays: np.ndarray,
        dtype: str = "float32",
        gradient: bool = False,
    ) -> None:
        inputs = [stored(a, dtype, device) for a in arrays]

        def program(library: Any, functional: Any, *inputs: tgrad.Tensor) -> Any:
            return function(*inputs)

        if gradient:
            with tgrad.no_grad():
                shape = function(*inputs).shape
            random = np.random.default_rng(2026).standard_normal(shape, dtype=np.float32)
            inputs.append(stored(random, dtype, device))
            compiled, (call,) = differentiated(program, [inputs])
        else:
            compiled = tgrad.compile(function)
            call = partial(compiled, *inputs)

        def run() -> None:
            call()
            wait(device)

        run()
        benchmark.extra_info.update(extra_info_of(compiled))
        benchmark(run)

    return time


def stored(array: np.ndarray, dtype: str, device: str) -> tgrad.Tensor:
    """An array on a device, in a dtype if it is of floats."""
    kind = getattr(tgrad, dtype) if array.dtype.kind == "f" else None
    return tgrad.tensor(array, dtype=kind, device=device).realize()


def wait(device: str) -> None:
    """Until the device has nothing to do."""
    from tgrad.device import as_device
    from tgrad.runtime.device import open_device

    open_device(as_device(device)).synchronize()


def extra_info_of(compiled: Any) -> dict[str, int]:
    """Figures of a compiled function's plans."""
    figures = figures_of(compiled.plans)
    return {
        "launches": figures.launches,
        "flops": figures.flops,
        "bytes": figures.bytes,
        "peak_bytes": figures.peak_bytes,
    }
