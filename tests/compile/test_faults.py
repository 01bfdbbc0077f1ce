"""Faults in the middle of a step: it happens as a whole or not at all, the error says what to do,
and the run goes on as if nothing had been."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tgrad
from tests.compile.interrupting import calls_in, interrupt_at
from tests.compile.training import Training, assert_same, undisturbed
from tgrad import nn, optim, pipeline, realizing
from tgrad.compiling import replay as replaying
from tgrad.compiling import short
from tgrad.cpu_fallback import compile as c_compiler
from tgrad.errors import CacheError, CompileError, LaunchError, OutOfMemoryError, TraceError
from tgrad.graph.node import is_in_source_scope
from tgrad.runtime import capture
from tgrad.runtime.cpu import CpuRuntime
from tgrad.runtime.device import open_device
from tgrad.runtime.profile import profiling
from tgrad.runtime.watch import watching
from tgrad.tracing import tracer

MODES = pytest.mark.parametrize("compiled", [False, True], ids=["lazy", "compiled"])
STEPS = 4


def finish(training: Training) -> None:
    """The rest of the run, which must be that of an undisturbed one."""
    while len(training.losses) < STEPS:
        training.attempt()
    losses, facts = undisturbed(training.compiled, training.device)
    np.testing.assert_allclose(training.losses, losses[:STEPS], rtol=2e-5)
    assert_same(training.facts(), facts[STEPS])


def begin(compiled: bool, done: int, device: str = "cpu") -> Training:
    """A run after `done` steps."""
    undisturbed(compiled, device)  # made first: both draw from the default generator
    training = Training(compiled, device)
    for _ in range(done):
        training.attempt()
    if not compiled:
        training.loss = training._loss(training.x)
    return training


def check_nothing_happened(training: Training) -> None:
    """The attempt has failed: all is as it was."""
    _, facts = undisturbed(training.compiled, training.device)
    assert_same(training.facts(), facts[len(training.losses)])


class Fault:
    """Calls through `wrap` fail at the number `at`, counted while the fault is armed."""

    def __init__(self, error: Callable[[], BaseException]):
        self.error, self.at, self.count = error, -1, 0

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            if self.count - 1 == self.at:
                raise self.error()
            return function(*args, **kwargs)

        return call

    @contextmanager
    def armed(self, at: int) -> Iterator[None]:
        """Fail at call number `at` inside the block."""
        self.at, self.count = at, 0
        try:
            yield
        finally:
            self.at = -1

    @property
    def struck(self) -> bool:
        return self.count > self.at


def strike_everywhere(
    fault: Fault,
    kind: type[Exception],
    message: str,
    compiled: bool,
    done: int,
    device: str = "cpu",
) -> int:
    """Let a step fail at each call that the fault counts; returns how many there are."""
    at = 0
    while True:
        training, at_once = begin(compiled, done, device), at
        with fault.armed(at):
            try:
                training.attempt()
            except kind as error:
                assert re.search(message, str(error))
                at += 1
        if at == at_once:
            finish(training)
            return at
        check_nothing_happened(training)
        finish(training)


# -- memory --------------------------------------------------------------------------------------


@MODES
@pytest.mark.parametrize("done", [0, 2], ids=["first", "later"])
def test_memory_runs_out(compiled: bool, done: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Fault(MemoryError)
    monkeypatch.setattr(CpuRuntime, "allocate", fault.wrap(CpuRuntime.allocate))
    message = r"(?s)^cpu has no memory for [\d,]+ more bytes\..*Use smaller batches"
    struck = strike_everywhere(fault, OutOfMemoryError, message, compiled, done)
    if compiled and done:
        assert struck == 1  # a replay asks for memory of its result and for no other
    else:
        assert struck >= 2


# -- launches ------------------------------------------------------------------------------------


@MODES
@pytest.mark.parametrize("done", [0, 2], ids=["first", "later"])
def test_a_plan_does_not_start(compiled: bool, done: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Fault(lambda: OSError("injected"))
    monkeypatch.setattr(capture.CpuCapture, "run", fault.wrap(capture.CpuCapture.run))
    message = r"(?s)^A plan of \d+ kernels did not start on cpu: injected\n.*The step has not happ"
    assert strike_everywhere(fault, LaunchError, message, compiled, done) == 1


@MODES
def test_a_kernel_does_not_start(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Launched one by one, as while they are measured: what was overwritten is put back."""
    fault = Fault(lambda: RuntimeError("out of resources"))
    monkeypatch.setattr(CpuRuntime, "launch", fault.wrap(CpuRuntime.launch))
    message = (
        r"(?s)^Kernel \w+ did not start on cpu: out of resources\n  at \S+\.py:\d+: .*"
        r"The step has not happened\."
    )
    with profiling():
        assert strike_everywhere(fault, LaunchError, message, compiled, 2) > 3


@MODES
def test_a_kernel_does_not_start_on_interpret(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton")
    fault = Fault(lambda: RuntimeError("injected"))
    kind = type(open_device(tgrad.device("interpret")))
    monkeypatch.setattr(kind, "launch", fault.wrap(kind.launch))
    training = begin(compiled, 1, "interpret")
    for at in (0, 3):
        with fault.armed(at), pytest.raises(LaunchError):
            training.attempt()
        check_nothing_happened(training)
    finish(training)


def forget_traces(training: Training) -> None:
    """The next call traces again."""
    call = training.call
    call._entries.clear()
    call._by_key.clear()
    call._latest = call._short = None


# -- compilers and caches ------------------------------------------------------------------------


@pytest.fixture
def cold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory that new plans use."""
    undisturbed(False), undisturbed(True)
    settings = replace(pipeline.settings, cache_dir=tmp_path / "cache")
    monkeypatch.setattr(pipeline, "settings", settings)
    monkeypatch.setattr(pipeline, "_plans", type(pipeline._plans)())
    monkeypatch.setattr(realizing, "_seen", type(realizing._seen)())
    return tmp_path / "cache"


@MODES
@pytest.mark.parametrize("done", [0, 2], ids=["first", "later"])
def test_a_kernel_does_not_compile(
    compiled: bool, done: int, cold: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiler that refuses everything as long as a file is there."""
    broken, script = cold.parent / "broken", cold.parent / "cc"
    script.write_text(
        f'#!/bin/sh\n[ "$1" != --version ] && [ -e {broken} ] && '
        f'{{ echo "x.c:1: error: injected" >&2; exit 1; }}\nexec {shutil.which("gcc")} "$@"\n'
    )
    script.chmod(0o755)
    training = begin(compiled, done)
    monkeypatch.setattr(pipeline, "settings", replace(pipeline.settings, cc=str(script)))
    monkeypatch.setattr(pipeline, "_plans", type(pipeline._plans)())
    monkeypatch.setattr(realizing, "_seen", type(realizing._seen)())
    forget_traces(training)
    broken.touch()
    for _ in range(2):
        with pytest.raises(CompileError) as caught:
            training.attempt()
        assert re.search(
            r"(?s)^The C compiler refused kernel \w+:\n    x.c:1: error: injected\n.*TGRAD_CC",
            str(caught.value),
        )
        broken.unlink()
        check_nothing_happened(training)
        broken.touch()
    broken.unlink()
    finish(training)


@MODES
def test_a_cache_that_cannot_be_made(compiled: bool, cold: Path) -> None:
    cold.write_text("a file, not a directory")
    training = Training.__new__(Training)
    with pytest.raises(CacheError) as caught:
        training.__init__(compiled)  # type: ignore[misc]
    assert re.search(
        rf"^The cache directory {cold}/c cannot be written: .*\n  Free some space there, or set "
        "TGRAD_CACHE_DIR to a directory that you can write to.$",
        str(caught.value),
    )
    cold.unlink()
    finish(Training(compiled))


@MODES
def test_a_disk_that_is_full(compiled: bool, cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Fault(lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    training = begin(compiled, 0)
    monkeypatch.setattr(c_compiler, "write_whole", fault.wrap(c_compiler.write_whole))
    for at in (0, 1, 4):
        with fault.armed(at), pytest.raises(CacheError) as caught:
            training.attempt()
        assert "cannot be written: No space left on device." in str(caught.value)
        check_nothing_happened(training)
        monkeypatch.setattr(pipeline, "_plans", type(pipeline._plans)())
        monkeypatch.setattr(realizing, "_seen", type(realizing._seen)())
        shutil.rmtree(cold)
    finish(training)


@MODES
def test_no_space_for_the_compiler(
    compiled: bool, cold: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = begin(compiled, 0)

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(c_compiler.tempfile, "TemporaryDirectory", full)
        with pytest.raises(CompileError, match=r"cannot run in \S+: No space left on device\."):
            training.attempt()
    check_nothing_happened(training)
    finish(training)


@MODES
def test_the_cache_is_deleted_between_steps(compiled: bool, cold: Path) -> None:
    training = begin(compiled, 1)
    shutil.rmtree(cold)
    training.attempt()
    pipeline._plans.clear()
    realizing._seen.clear()
    shutil.rmtree(cold, ignore_errors=True)
    forget_traces(training)
    finish(training)
    assert list((cold / "c" / "objects").glob("*.so"))


# -- interrupts ----------------------------------------------------------------------------------


def is_before_or_after(training: Training) -> int:
    """How many steps the state has seen; it is that of an undisturbed run after as many."""
    found, (_, facts) = training.facts(), undisturbed(training.compiled)
    steps = {int(v) for name, v in found.items() if name.endswith(" step")} or {0}
    assert len(steps) == 1
    (count,) = steps
    if count == 0:  # state that a cut trace has made, and that no step has seen, counts for none
        found = {name: v for name, v in found.items() if not name.startswith("state ")}
    assert_same(found, facts[count])
    return count


@MODES
@pytest.mark.parametrize("done", [0, 2], ids=["first", "later"])
@pytest.mark.usefixtures("heeds_ctrl_c")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_anywhere_in_a_step(compiled: bool, done: int) -> None:
    """Before the first launch it takes effect at once, later after the step; Python drops one that
    arrives in a finalizer."""
    finish(begin(compiled, 0))  # so that the plans are there
    total, outcomes = calls_in(begin(compiled, done).attempt), set()
    for number in range(1, total + 1, max(1, total // 30)):
        training = begin(compiled, done)
        try:
            with interrupt_at(number):
                training.attempt()
        except KeyboardInterrupt:
            pass
        assert not is_in_source_scope() and tracer() is None
        count = is_before_or_after(training)
        assert count in (done, done + 1)
        outcomes.add(count)
        if count > len(training.losses):  # the step was made, and its result was lost
            training.losses.append(undisturbed(compiled)[0][done])
            training.loss = None
        finish(training)
    assert done in outcomes


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_anywhere_in_an_operation() -> None:
    """What comes next is named after its own line and call."""
    x, number, was_cut = tgrad.ones(3), 0, True
    while was_cut:
        number, was_cut = number + 1, False
        try:
            with interrupt_at(number):
                x.softmax(0)
        except KeyboardInterrupt:
            was_cut = True
        assert (x + number)._node.source.label == "add"
    assert number > 20


@pytest.mark.parametrize("when", ["before", "during", "after"])
@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_around_the_launch(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    training = begin(True, 2)
    launch = replaying.replay

    def interrupted(*args: Any) -> None:
        if when == "before":
            os.kill(os.getpid(), signal.SIGINT)
        if when == "during":
            threading.Timer(0.0, os.kill, (os.getpid(), signal.SIGINT)).start()
        launch(*args)
        if when == "after":
            os.kill(os.getpid(), signal.SIGINT)
        while when == "during" and threading.active_count() > 1:
            pass

    for module in (replaying, short):
        monkeypatch.setattr(module, "replay", interrupted)
    with pytest.raises(KeyboardInterrupt):
        training.attempt()
    monkeypatch.undo()
    assert is_before_or_after(training) == 3
    training.losses.append(undisturbed(True)[0][2])
    finish(training)


# -- traces --------------------------------------------------------------------------------------


def test_an_error_while_tracing_leaves_everything_as_it_was() -> None:
    training = begin(True, 2)

    def reads(x: tgrad.Tensor) -> None:
        training._step(x)
        training.model[0].weight.sum().item()

    with pytest.raises(TraceError):
        tgrad.compile(reads)(training.x)
    check_nothing_happened(training)
    finish(training)

    fresh = begin(True, 0)

    def fails(x: tgrad.Tensor) -> None:
        fresh._step(x)
        raise KeyError("mine")

    with pytest.raises(KeyError):
        tgrad.compile(fails)(fresh.x)
    check_nothing_happened(fresh)
    finish(fresh)


def test_the_first_step_with_dampening_is_still_the_first_after_a_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its plan differs from that of all others, and the trace makes the state that tells them
    apart."""
    found = []
    for fails in (False, True):
        w = nn.Parameter(tgrad.ones(3))
        optimizer = optim.SGD([w], lr=0.1, momentum=0.9, dampening=0.5)

        @tgrad.compile
        def step(w: Any = w, optimizer: Any = optimizer) -> None:
            (w * w).sum().backward()
            optimizer.step()
            optimizer.zero_grad()

        if fails:
            fault = Fault(lambda: OSError("injected"))
            with monkeypatch.context() as patch:
                patch.setattr(capture.CpuCapture, "run", fault.wrap(capture.CpuCapture.run))
                with fault.armed(0), pytest.raises(LaunchError):
                    step()
            assert not any(optimizer.state.values())
        for _ in range(3):
            step()
        found.append(w.tolist())
    assert found[0] == found[1]


# -- threads -------------------------------------------------------------------------------------


def test_two_threads_compile_one_function_at_once(cold: Path) -> None:
    training = begin(True, 0)
    gate, errors = threading.Barrier(2), []

    def work() -> None:
        gate.wait()
        try:
            for _ in range(STEPS // 2):
                training.call(training.x)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert training.call.traces == 1
    counts = {v.item() for kept in training.optimizer.state.values() for v in [kept["step"]]}
    assert counts == {float(STEPS)}


def test_threads_with_functions_of_their_own(cold: Path) -> None:
    """Cold, at once, with kernels in common."""
    gate, found = threading.Barrier(2), {}

    def work(number: int) -> None:
        w = nn.Parameter(tgrad.ones(5))
        optimizer = optim.Adam([w], lr=0.1)

        def step() -> tgrad.Tensor:
            optimizer.zero_grad()
            loss = (w * w).sum()
            loss.backward()
            optimizer.step()
            return loss

        call = tgrad.compile(step) if number else step
        gate.wait()
        found[number] = [call().item() for _ in range(5)]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


def test_an_error_of_a_watcher_is_put_back() -> None:
    class Stops:
        def watch(self, plan: Any, step: int, memories: Any, launch: Callable[[], None]) -> None:
            launch()
            if step == plan.launches - 1:
                raise KeyError("mine")

    training = begin(True, 2)
    with watching(Stops()), pytest.raises(LaunchError, match="mine"):
        training.attempt()
    check_nothing_happened(training)
    finish(training)
