"""Options of all tests: `--device`, and the fixture `device` that follows it. Kernels have the
heuristics' configurations, whatever `tgrad autotune` has stored on this machine, and every plan is
made by the passes, not taken from the cache of an earlier run."""

from __future__ import annotations

import gc
import importlib.util
import os
import signal
import sys
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

hypothesis.settings.register_profile(
    "tgrad",
    deadline=None,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("tgrad")
"""No test has a limit of time: the machine may be busy with others."""

os.environ["TGRAD_STORED"] = "0"
os.environ["TGRAD_KEEP_PLANS"] = "0"
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
"""Before PyTorch loads the OpenMP library that kernels then use too. With more threads than cores,
as two workers of pytest-xdist have, a thread that turns at a barrier keeps the one it waits for
from running: steps of a GPT take twice the processor time."""
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
"""Before NumPy loads: its threads turn while they wait, too, and products of a ResNet on the device
"numpy" take twice the processor time."""

gc.set_threshold(5000, 20, 100)
"""With Python's 700 objects a tenth of the processor time of graphs and plans, which leave almost
no cycles, goes into looking for some; with its tenth of all looks at all objects, a fortieth."""

FRONT = Path(__file__).parent / "front"

HAS_TRITON = importlib.util.find_spec("triton") is not None
DEFAULT_DEVICES = ("numpy", "cpu", *(["interpret"] if HAS_TRITON else []))
SAMPLED = {"cpu": 6, "interpret": 12}
"""Of the cases in tests/front, which are about Python more than about kernels, one in so many runs
on these devices, chosen by name, and of each test at least one; all run on "numpy", and with
`--device` on what it says."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device",
        action="append",
        metavar="NAME",
        help="device of the tests that take one; may be given several times "
        f"(default: {' and '.join(DEFAULT_DEVICES)})",
    )
    parser.addoption(
        "--simulated-gpu",
        action="store_true",
        help="the device cuda is simulated by Triton's interpreter; with --device cuda",
    )
    parser.addoption(
        "--opinfo-cpu",
        action="store_true",
        help="run all operators of tests/ops as generated C too, three samples each",
    )
    parser.addoption(
        "--static-quality",
        action="store_true",
        help="compile every kernel of bench/results/static, not two of each step",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("simulated_gpu"):
        from tests.simulated_gpu import install

        install()


@pytest.fixture
def heeds_ctrl_c() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, here and in the processes started. A shell without job
    control has what runs in its background ignore SIGINT, and Python leaves it at that."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test with the argument `device` runs on every device asked for; without `--device` on
    those of its mark `devices`, where it has one."""
    given: set[str] = set()
    for mark in metafunc.definition.iter_markers("parametrize"):
        names = mark.args[0]
        given |= set(names.replace(" ", "").split(",") if isinstance(names, str) else names)
    if "device" in metafunc.fixturenames and "device" not in given:
        mark = metafunc.definition.get_closest_marker("devices")
        usual = DEFAULT_DEVICES if mark is None else mark.args
        metafunc.parametrize("device", metafunc.config.getoption("device") or usual)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not of the sample, or cannot be simulated."""
    if config.getoption("simulated_gpu"):
        from tests.simulated_gpu import CANNOT

        for item in items:
            reason = CANNOT.get(item.name) or CANNOT.get(item.name.partition("[")[0])
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))
    if config.getoption("device"):
        return
    cases: dict[tuple[str, str], list[pytest.Item]] = defaultdict(list)
    for item in items:
        device = item.callspec.params.get("device", "") if hasattr(item, "callspec") else ""
        if device in SAMPLED and item.path.is_relative_to(FRONT):
            cases[item.nodeid.partition("[")[0], device].append(item)
    left_out = {item for (_, device), of in cases.items() for item in _less_a_sample(of, device)}
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `-n`, each worker takes neighbours, which share plans and compiled kernels, and at the
    end what another one has left. None where `--dist` asks for something else."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getoption("dist") == "load" else None


def pytest_runtest_setup() -> None:
    """PyTorch flushes the processor's caches to time its guards, 20 ms after each compilation."""
    guards = sys.modules.get("torch._dynamo.guards")
    if guards is not None:
        guards.profile_guard_manager = _no_time  # type: ignore[attr-defined]


def _no_time(*_: Any) -> float:
    return 0.0


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is collected, with PyTorch's modules, is not looked through for garbage, nor later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def _less_a_sample(cases: list[pytest.Item], device: str) -> list[pytest.Item]:
    """The cases of a test that do not run on a device."""
    turn = {item: zlib.crc32(item.nodeid.encode()) for item in cases}
    first = min(cases, key=turn.__getitem__)
    return [item for item in cases if item is not first and turn[item] % SAMPLED[device]]
