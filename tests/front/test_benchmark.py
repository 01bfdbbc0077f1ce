"""`tgrad.utils.benchmark`: what is timed is computed, and statistics are PyTorch's."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
import torch.utils.benchmark as theirs

import tgrad
import tgrad.utils.benchmark as ours
from tgrad.device import Device
from tgrad.errors import DTypeError, UnsupportedError
from tgrad.runtime.device import counters
from tgrad.utils.benchmark.timer import computing

CPU = Device("cpu")


@pytest.mark.parametrize(
    "stmt",
    [
        "x @ x",
        "y = x @ x",
        "y = x @ x\nz = y + 1\n",
        "(x @ x, {'more': [x + 1]})",
        "if True:\n    y = x @ x\nelse:\n    unbound = 3",
        "w.grad = None\n(w * w).sum().backward()",
        "w.data.add_(1)",
        "for i in range(2):\n    y = x @ x",
        "step(x)",
    ],
)
def test_statements_are_computed_each_time(stmt: str) -> None:
    names = {
        "x": tgrad.ones(4, 4, device="cpu"),
        "w": tgrad.ones(4, device="cpu", requires_grad=True),
        "step": tgrad.compile(lambda x: x * 2),
    }
    timed = ours.Timer(stmt, globals=names)
    timed.timeit(3)
    before = counters(CPU).plans
    timed.timeit(200)
    assert counters(CPU).plans - before >= 202


def test_statements_of_python_alone() -> None:
    assert computing("pass") == "pass\n_finish_of_benchmark()"
    assert "'a'" in computing("with open(p) as a:\n    [b for b in a]")
    assert "'b'" not in computing("with open(p) as a:\n    [b for b in a]")
    found = ours.Timer("torch.ones(1) is tgrad", "import math").timeit(2)
    assert found.number_per_run == 2 and len(found.raw_times) == 1 and found.setup == "import math"
    z = ours.Timer("z * z", "z = torch.complex(torch.ones(2), torch.ones(2))").timeit(2)
    assert z.median > 0
    with pytest.raises(SyntaxError):
        ours.Timer("x +")
    with pytest.raises(NameError):
        ours.Timer("absent").timeit(1)


def test_threads_are_put_back() -> None:
    before, seen = tgrad.get_num_threads(), []
    stmt, names = "note(tgrad.get_num_threads())", {"note": seen.append}
    ours.Timer(stmt, globals=names, num_threads=before + 1).timeit(1)
    assert set(seen) == {before + 1} and tgrad.get_num_threads() == before


def test_times_until_enough() -> None:
    seen = []
    timed = ours.Timer("sum(range(2000))", label="sums", env="here", description="d")
    found = timed.blocked_autorange(lambda *each: seen.append(each), min_run_time=0.02)
    assert sum(found.raw_times) >= 0.02 and found.raw_times == [t for _, t in seen]
    assert {number for number, _ in seen} == {found.number_per_run}
    found = timed.adaptive_autorange(threshold=1e-9, min_run_time=0.01, max_run_time=0.03)
    assert sum(found.raw_times) > 0.03 >= sum(found.raw_times[:-1])
    sure = timed.adaptive_autorange(threshold=1e9, min_run_time=1e-6, max_run_time=9.0)
    assert len(sure.raw_times) == 4


def both(number: int, times: list[float], **task: object) -> tuple[ours.Measurement, object]:
    return tuple(
        lib.Measurement(
            number, times, (lib if lib is ours else theirs.utils.common).TaskSpec(**task)
        )
        for lib in (ours, theirs)
    )


def test_statistics() -> None:
    rng = np.random.default_rng()
    for count in (1, 2, 3, 4, 7, 50):
        scale = 10.0 ** rng.integers(-7, 2)
        times = (scale * rng.uniform(0.7, 1.3, count)).tolist()
        have, want = both(7, times, stmt="x", setup="pass", label="l", sub_label="s", env="e")
        for name in ("median", "mean", "iqr", "times", "significant_figures", "has_warnings"):
            found = getattr(have, name), getattr(want, name)
            np.testing.assert_allclose(*found, rtol=1e-6, atol=1e-14, err_msg=name)
        assert have.title == want.title and have.as_row_name == want.as_row_name
        for name in ("stmt", "setup", "label", "sub_label", "num_threads"):
            assert getattr(have, name) == getattr(want, name)
        numbers = [re.findall(r"[\d.]+ (?:ns|us|ms|s)\b", repr(each)) for each in (have, want)]
        assert numbers[0] == numbers[1]
        again = pickle.loads(pickle.dumps(have))
        assert again == have and have.to_dict()["raw_times"] == times
    with pytest.raises(AttributeError, match="a Measurement has no 'absent'"):
        _ = have.absent


def test_text_of_a_measurement() -> None:
    task = ours.TaskSpec("a = 1\nb = 2", "c = 3", sub_label="s", num_threads=2)
    wide = ours.Measurement(10, [1e-4, 1e-4, 3e-4, 3e-4], task)
    assert repr(wide).splitlines()[1:] == [
        "stmt: (s)", "  a = 1", "  b = 2", "setup: c = 3", "  Median: 20.00 us",
        "  IQR:    20.00 us (10.00 to 30.00)",
        "  4 measurements, 10 runs per measurement, 2 threads",
        "  WARNING: Interquartile range is 100.0% of the median: suggests that something else ran "
        "meanwhile.",
    ]  # fmt: skip
    one = ours.Measurement(10, [1.0], ours.TaskSpec("x", "pass", label="sum"))
    assert repr(one).splitlines()[1:] == [
        "sum",
        "  100.00 ms",
        "  1 measurement, 10 runs, 1 thread",
    ]


def results() -> list[ours.Measurement]:
    found = []
    for row, threads, env, factor in (
        ("small", 1, None, 1), ("large", 1, None, 7), ("small", 2, "other", 1.005),
    ):  # fmt: skip
        for column, more in (("new", 1.0), ("old", 3.0)):
            task = ours.TaskSpec("f()", "", "", "table", row, column, env, threads)
            found += [ours.Measurement(2, [2e-3 * factor * more], task)] * 3
    return [*found, ours.Measurement(1, [5e-9], ours.TaskSpec("g()", ""))]


def test_tables() -> None:
    compared = ours.Compare(results()[:4])
    compared.extend_results(results()[4:])
    lines = str(compared).splitlines()
    assert [" ".join(line.replace("-", " ").replace("|", " ").split()) for line in lines] == [
        "[ table ]", "new old", "1 threads:", "(Unspecified env) small 1.0 3.0",
        "(Unspecified env) large 7.0 21.0", "2 threads:", "(other) small 1.0 3.0", "",
        "Times are in milliseconds (ms).", "", "[ ]", "", "1 threads:", "g() 5.0", "",
        "Times are in nanoseconds (ns).",
    ]  # fmt: skip
    compared.trim_significant_figures()
    compared.highlight_warnings()
    assert "1.000 | 3.000" in str(compared)
    compared.colorize()
    assert str(compared).count("\033[92m") == 5  # the best of each column, and g()
    compared.colorize(rowwise=True)
    assert str(compared).count("\033[92m") == 4 and "\033[91m" in str(compared)
    with pytest.raises(DTypeError, match="Compare of a float"):
        ours.Compare([1.0])


def test_marks_of_what_spreads(capsys: pytest.CaptureFixture[str]) -> None:
    task = ours.TaskSpec("f()", "", "", "table")
    compared = ours.Compare([ours.Measurement(1, [1.0, 1.0, 2.0, 2.0], task)])
    compared.highlight_warnings()
    compared.print()
    printed = capsys.readouterr().out
    assert "1.5 (! 67%)" in printed and "(! n%): the interquartile range" in printed


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: ours.Timer(sum), "Timer of a builtin_function_or_method"),
        (lambda: ours.Timer("x", language="c++"), "language='c\\+\\+'"),
        (lambda: ours.Timer("x", global_setup="y"), "global_setup='y'"),
        (lambda: ours.Timer().repeat(), "Use blocked_autorange"),
        (lambda: ours.Timer().autorange(), "Use blocked_autorange"),
        (lambda: ours.Timer().collect_callgrind(), r"Use tgrad\.profiler"),
    ],
)
def test_mistakes(make: object, what: str) -> None:
    with pytest.raises(UnsupportedError, match=f"(?s){what}"):
        make()
