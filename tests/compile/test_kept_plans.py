"""Plans that an earlier process kept: run without the passes, explained all the same, never stale,
and made anew where a file is missing, broken or another's."""

from __future__ import annotations

import errno
import gc
import json
import os
import re
import shutil
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tgrad
from tests.compile.training import Training
from tgrad import pipeline, plan_store, realizing
from tgrad.cpu_fallback import objects
from tgrad.errors import VerifyError
from tgrad.runtime import kept
from tgrad.runtime.plan import Plan

ROOT = Path(__file__).resolve().parents[2]


class Passes:
    """How often the passes ran since `restart`, which is what a new process is to the store."""

    def __init__(self) -> None:
        self.count = 0

    def restart(self) -> None:
        gc.collect()  # nodes that are alive keep the lines that made them first
        self.count = 0
        pipeline._plans.clear()
        realizing._seen.clear()
        objects.loaded.clear()


@pytest.fixture(scope="module", autouse=True)
def frozen() -> None:
    """What other tests have left, such as PyTorch's compiler, is not looked through at each of the
    restarts here."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Passes:
    """Plans are kept in an empty cache."""
    counted, plan = Passes(), pipeline._compile

    def counting(*args: Any) -> Any:
        counted.count += 1
        return plan(*args)

    monkeypatch.setattr(pipeline, "_compile", counting)
    monkeypatch.setattr(
        pipeline, "settings", replace(pipeline.settings, cache_dir=tmp_path, keep_plans=True)
    )
    monkeypatch.setattr(pipeline, "_plans", OrderedDict())
    monkeypatch.setattr(realizing, "_seen", OrderedDict())
    return counted


def train(compiled: bool) -> tuple[Training, list[float]]:
    training = Training(compiled)
    for _ in range(3):
        training.attempt()
    return training, training.losses


def plan_files(folder: Path) -> list[Path]:
    return sorted((folder / "plans").iterdir())


def test_a_kept_plan_runs_without_the_passes(passes: Passes) -> None:
    training, losses = train(compiled=True)
    (fresh,) = training.call.plans
    assert passes.count > 0
    passes.restart()
    again, found = train(compiled=True)
    (stored,) = again.call.plans
    lazily = ("kernels", "compile", "prepare")
    facts = [f.name for f in fields(Plan) if f.name not in lazily]
    assert [getattr(stored, f) for f in facts] == [getattr(fresh, f) for f in facts]
    assert stored.launches == fresh.launches and stored.peak_bytes == fresh.peak_bytes
    assert (found, passes.count) == (losses, 0)
    assert stored.explain() == fresh.explain() and stored.flops == fresh.flops > 0
    assert [(b.source, b.shape) for b in stored.temps] == [(b.source, b.shape) for b in fresh.temps]
    assert passes.count == 1, "what explains it is made once"


SCRIPT = """
import json
import sys
import tgrad
from tests.training.gpt import batches, gpt
from tgrad import nn, optim, pipeline

passes, plan = [], pipeline._compile
pipeline._compile = lambda *a: (passes.append(a), plan(*a))[1]
tgrad.manual_seed(1)
model = gpt(nn, nn.functional, tgrad, layers=2).to(sys.argv[2])
optimizer = optim.AdamW(model.parameters(), lr=1e-3)
x, y = (tgrad.tensor(a, device=sys.argv[2]) for a in batches(1, 4)[0])

def step(x, y):
    loss = model(x, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss

call = tgrad.compile(step) if sys.argv[1] == "compiled" else step
losses = [call(x, y).item() for _ in range(3)]
made = len(passes)
explained = call.plans[0].explain() if sys.argv[1] == "compiled" else ""
print(json.dumps({"losses": losses, "passes": made, "explained": explained}))
"""


@pytest.mark.devices("cpu")
@pytest.mark.parametrize("way", ["compiled", "lazy"])
def test_a_gpt_of_another_process_with_other_hashes(way: str, device: str, tmp_path: Path) -> None:
    """What explains a plan is made by the passes, and checked against the steps that are kept."""
    if device.partition(":")[0] not in ("cpu", "cuda"):
        pytest.skip(f"kernels of {device} are made in each process")
    script = tmp_path / "step.py"
    script.write_text(SCRIPT)
    answers = []
    for seed in ("1", "2"):
        own = {"TGRAD_CACHE_DIR": str(tmp_path / "cache"), "TGRAD_KEEP_PLANS": "1"}
        own |= {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        answer = subprocess.run(
            [sys.executable, str(script), way, device],
            env={**os.environ, **own},
            capture_output=True,
            text=True,
        )
        assert answer.returncode == 0, answer.stderr
        answers.append(json.loads(answer.stdout))
    first, second = answers
    atomics = 1e-5 if device.startswith("cuda") else 0.0  # add gradients of rows in any order
    assert second["losses"] == pytest.approx(first["losses"], rel=atomics, abs=0.0)
    assert second["explained"] == first["explained"]
    assert first["passes"] > 0 and second["passes"] == 0


def double(tmp_path: Path, text: str) -> Callable[[tgrad.Tensor], tgrad.Tensor]:
    """The function of a file."""
    path = tmp_path / "program.py"
    path.write_text(text)
    names: dict[str, Any] = {}
    exec(compile(text, str(path), "exec"), names)
    return names["double"]


def test_lines_that_have_moved(passes: Passes, tmp_path: Path) -> None:
    text = "def double(x):\n    return x * 2 + x.exp()\n"
    for expected, moved in ((1, text), (0, "\n\n\n" + text)):
        passes.restart()
        function = tgrad.compile(double(tmp_path, moved))
        function(tgrad.ones(7))
        assert passes.count <= expected + 1  # one more for the argument
        (plan,) = function.plans
        line = 2 + moved.count("\n") - text.count("\n")
        assert {k.line for k in plan.kernels} == {f"program.py:{line}"}
        assert f"program.py:{line}" in plan.kernels[0].source


def value(x: tgrad.Tensor) -> list[float]:
    """Of a graph of its own, whose plan is the only one."""
    found: list[float] = (x.exp() * 3 - 1).tolist()
    return found


@pytest.mark.parametrize("damage", ["empty", "half", "garbage", "another's", "no objects", "text"])
def test_a_broken_file_is_made_anew(damage: str, passes: Passes, tmp_path: Path) -> None:
    x = tgrad.tensor([1.0, 2.0, -0.5])
    want = value(x)
    (path,) = plan_files(tmp_path)
    whole = path.read_bytes()
    if damage == "another's":
        (x * 5).tolist()
        (other,) = set(plan_files(tmp_path)) - {path}
        path.write_bytes(other.read_bytes())
    elif damage == "no objects":
        shutil.rmtree(tmp_path / "c")
    else:
        half = len(whole) // 2
        broken = {"empty": b"", "half": whole[:half], "garbage": b"\0" * len(whole),
                  "text": whole.replace(b'"labels"', b'"labelz"')}  # fmt: skip
        path.write_bytes(broken[damage])
    passes.restart()
    assert (value(x), passes.count) == (want, 1)
    assert path.read_bytes() == whole
    passes.restart()
    assert (value(x), passes.count) == (want, 0)


def test_a_disk_that_is_full_keeps_nothing(
    passes: Passes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(kept, "write_whole", full)
    x = tgrad.tensor([1.0, 2.0])
    want = value(x)
    assert not (tmp_path / "plans").exists()
    passes.restart()
    assert (value(x), passes.count) == (want, 1)


def test_a_folder_that_cannot_be_made(passes: Passes, tmp_path: Path) -> None:
    (tmp_path / "plans").write_text("a file, not a directory")
    assert value(tgrad.tensor([0.0])) == [2.0]
    assert (tmp_path / "plans").is_file()


def test_ctrl_c_while_a_plan_is_written(
    passes: Passes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = tgrad.tensor([1.0, 2.0])

    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            value(x)
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith(".")]
    np.testing.assert_allclose(value(x), 3 * np.exp([1.0, 2.0]) - 1, rtol=1e-6)
    passes.restart()
    value(x)
    assert passes.count == 0


def test_parts_of_buffers(passes: Passes) -> None:
    """Kernels that are the same work on other parts of a buffer are given where these begin."""

    def step(x: tgrad.Tensor) -> tgrad.Tensor:
        made = x[0].exp()
        for row in x[1:]:
            made = (made @ row).tanh() + row
        return made

    x = tgrad.tensor(np.random.default_rng(0).standard_normal((4, 16, 16), np.float32))
    first = tgrad.compile(step)
    want = first(x).tolist()
    passes.restart()
    second = tgrad.compile(step)
    assert (second(x).tolist(), passes.count) == (want, 0)
    assert second.plans[0].steps == first.plans[0].steps
    assert any(step.starts for step in first.plans[0].steps)


def test_what_is_kept_is_compared_with_what_was_planned(
    passes: Passes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if plans had got something that the file does not say."""
    plain = kept._data

    def less(*args: Any) -> dict[str, Any]:
        return {**plain(*args), "leaves": []}

    monkeypatch.setattr(kept, "_data", less)
    with pytest.raises(VerifyError, match=r"^A plan that is kept would not be what it was\."):
        value(tgrad.tensor([1.0]))
    assert not (tmp_path / "plans").exists()


def test_what_decides_a_plan_decides_its_file(
    passes: Passes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes, numbers, names, the memory limit, what is overwritten, tgrad's files, the compiler."""
    count = 0

    def check(function: Callable[[], Any]) -> None:
        nonlocal count
        passes.restart()
        function()
        assert passes.count == 1
        count += 1
        assert len(plan_files(tmp_path)) == count
        passes.restart()
        function()
        assert passes.count == 0

    x, long = tgrad.tensor([1.0, 2.0]), tgrad.tensor(np.ones(3, np.float32))
    check(lambda: value(x))
    check(lambda: value(long))
    check(lambda: (x.exp() * 4 - 1).tolist())
    check(lambda: (x.exp() * 3.0 + -1).realize())
    check(lambda: tgrad.compile(value_of)(x))
    check(lambda: tgrad.compile(value_of, memory_limit=4096)(x))
    check(lambda: tgrad.compile(change)(tgrad.tensor([1.0, 2.0])))
    with monkeypatch.context() as patch:
        patch.setattr(plan_store, "_stamp", lambda: "another version")
        check(lambda: value(x))
    script = tmp_path / "cc"
    script.write_text('#!/bin/sh\n[ "$1" = --version ] && echo mine || exec gcc "$@"\n')
    script.chmod(0o755)
    monkeypatch.setattr(pipeline, "settings", replace(pipeline.settings, cc=str(script)))
    check(lambda: value(x))


def value_of(x: tgrad.Tensor) -> tgrad.Tensor:
    return x.sigmoid() * 7


def change(x: tgrad.Tensor) -> None:
    x.mul_(3).add_(x.sigmoid())


def test_deterministic_algorithms_are_looked_at_each_time(passes: Passes, tmp_path: Path) -> None:
    tgrad.use_deterministic_algorithms(True)
    try:
        value(tgrad.tensor([1.0]))
    finally:
        tgrad.use_deterministic_algorithms(False)
    assert not (tmp_path / "plans").exists()


def test_nothing_is_kept_where_the_user_says_so(
    passes: Passes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "settings", replace(pipeline.settings, keep_plans=False))
    value(tgrad.tensor([1.0]))
    assert not (tmp_path / "plans").exists()


def test_a_plan_that_the_passes_no_longer_make_is_a_defect(
    passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = tgrad.tensor([1.0, 2.0])
    tgrad.compile(value_of)(x)
    passes.restart()
    function, plan = tgrad.compile(value_of), pipeline._compile
    function(x)

    def other(*args: Any) -> Any:
        made = plan(*args)
        return replace(made, plan=replace(made.plan, steps=()))

    monkeypatch.setattr(pipeline, "_compile", other)
    with pytest.raises(VerifyError, match=r"^A plan that was kept is not the one that is made now"):
        function.plans[0].explain()


@pytest.mark.parametrize("sizes", [(1, 3), (5, 2)])
def test_symbolic_sizes(sizes: tuple[int, int], passes: Passes) -> None:
    first = tgrad.compile(lambda x: x.softmax(1).square().sum(1), dynamic={"x": {1: (1, 64)}})
    want = [first(tgrad.ones(2, n)).tolist() for n in sizes]
    passes.restart()
    second = tgrad.compile(lambda x: x.softmax(1).square().sum(1), dynamic={"x": {1: (1, 64)}})
    made = [second(tgrad.ones(2, n)).tolist() for n in sizes]
    assert made == want and second.traces == 1
    assert second.plans[0].explain() == first.plans[0].explain().replace(
        *(re.search(r"test_kept_plans.py:\d+", p.explain())[0]  # type: ignore[index]
          for p in (first.plans[0], second.plans[0]))
    )  # fmt: skip
