"""Workers that crash, hang or lie; sessions that are killed, interrupted, or two at once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

import tgrad
from tests.tune.records import record_of
from tests.tune.regions import program_of, region_of
from tests.tune.test_end_to_end import environment, run, tgrad_command
from tgrad import cpu_fallback
from tgrad.autotuning.session import Measurement, Request, Session, Silent, Subject, joined
from tgrad.backend import backend_of
from tgrad.device import Device
from tgrad.settings import settings
from tgrad.tune.search import Trial
from tgrad.tune.store import Store
from tgrad.tune.workers import Worker, WorkerLost, WorkerPool

FAKE = """
import json, os, signal, sys, time
for line in sys.stdin:
    request = json.loads(line)
    what = request["do"]
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "leave":
        sys.exit(3)
    if what == "hang":
        time.sleep(1000)
    print(json.dumps({"did": what, "by": os.getpid()}), flush=True)
"""
PROGRAM = """
import tgrad
import tgrad.nn.functional as F
x, w = tgrad.ones(64, 96), tgrad.ones(96, 80)
x.numpy(), w.numpy()
y = F.softmax(x @ w, -1).t() + 1
print(y.sum().item())
"""


def fake() -> Worker:
    return Worker([sys.executable, "-c", FAKE])


@pytest.mark.parametrize(
    ("do", "reason"),
    [("crash", "crashed with SIGSEGV"), ("leave", "ended with exit status 3")],
)
def test_a_worker_that_dies_is_replaced(do, reason):
    worker = fake()
    first = worker.ask({"do": "work"}, 30)["by"]
    with pytest.raises(WorkerLost, match=reason):
        worker.ask({"do": do}, 30)
    second = worker.ask({"do": "work"}, 30)["by"]
    assert first != second
    worker.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)


def test_a_worker_that_hangs_is_killed():
    worker = fake()
    first = worker.ask({"do": "work"}, 30)["by"]
    with pytest.raises(WorkerLost, match="no answer in 0 s"):
        worker.ask({"do": "hang"}, 0.2)
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    assert worker.ask({"do": "work"}, 30)["did"] == "work"
    worker.stop()


def test_a_pool_answers_what_it_can():
    pool = WorkerPool(2, fake)
    replies = pool.ask_all([{"do": d} for d in ("a", "crash", "b", "c", "leave", "d")], 30)
    found = [str(r) if isinstance(r, WorkerLost) else r["did"] for r in replies]
    wanted = ["a", "crashed with SIGSEGV", "b", "c", "ended with exit status 3", "d"]
    assert found == wanted
    pool.stop()


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_stopped_worker_is_lost_to_who_asks_it():
    """As on Ctrl-C, where the main thread stops what the threads of a pool wait for."""
    worker = fake()
    by = worker.ask({"do": "work"}, 30)["by"]
    lost = []

    def ask():
        with pytest.raises(WorkerLost) as found:
            worker.ask({"do": "hang"}, 30)
        lost.append(str(found.value))

    thread = threading.Thread(target=ask)
    thread.start()
    worker.stop()
    thread.join(30)
    assert len(lost) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(by, 0)


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_leaves_no_request_waiting():
    """Requests that no worker has taken are not made."""
    pool = WorkerPool(1, fake)
    by = pool.ask_all([{"do": "work"}], 30)[0]["by"]
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        pool.ask_all([{"do": "hang"}] * 3, 30)
    with pytest.raises(ProcessLookupError):
        os.kill(by, 0)
    assert pool.ask_all([{"do": "work"}], 30)[0]["did"] == "work"
    pool.stop()


class Unreliable(Worker):
    """A real worker that is lost whenever it shall measure a certain choice."""

    bad: tuple = ()

    def ask(self, message, seconds):
        if message["do"] == "measure" and list(self.bad) in message["choices"]:
            self.stop()
            raise WorkerLost("crashed with SIGSEGV")
        return super().ask(message, seconds)


def test_one_bad_configuration_costs_no_other():
    region = region_of("chain", 96)
    backend = backend_of(Device("cpu"))
    space = backend.space(region)
    good, bad = [c for c in space.choices() if c != space.start and space.config(c)][:2]
    with Session(backend, Request(), settings, Silent()) as session:
        session.measurer.__class__ = Unreliable
        session.measurer.bad = bad
        measurement = Measurement(session, Subject(region, 1, 1e-5, 1.0), space)
        measurement.open()
        trials = {t.choice: t for t in measurement.measure([good, bad], 3)}
    assert trials[good].ratio is not None
    assert trials[bad].failure == "running: crashed with SIGSEGV"


class Counting(Worker):
    """A real worker that keeps what it was asked, and how often it was started."""

    asked: ClassVar[list[tuple[int, dict]]] = []
    starts = 0

    def _start(self):
        Counting.starts += 1
        super()._start()

    def ask(self, message, seconds):
        reply = super().ask(message, seconds)
        Counting.asked.append((Counting.starts, message))
        return reply


def test_finalists_are_measured_in_two_new_processes():
    region = region_of("chain", 96)
    backend = backend_of(Device("cpu"))
    space = backend.space(region)
    choices = [c for c in space.choices() if c != space.start and space.config(c)][:2]
    with Session(backend, Request(), settings, Silent()) as session:
        session.measurer.__class__ = Counting
        measurement = Measurement(session, Subject(region, 1, 1e-5, 1.0), space)
        found = [t.choice for t in measurement.measure(choices, 3)]
        Counting.asked.clear()
        trials = measurement.confirm(found, 8)
    measured = [(start, m["rounds"]) for start, m in Counting.asked if m["do"] == "measure"]
    assert measured == [(2, 4), (3, 4)]
    assert [t.choice for t in trials] == found
    assert all(t.ratio is not None and t.error > 0 for t in trials)


def test_a_finalist_that_fails_in_one_process_has_failed():
    choice = (1, 2)
    trials = [Trial(choice, 0.9, 0.01, 1.0), Trial(choice, None, failure="hang")]
    assert joined(trials) == trials[1]


def test_the_error_of_a_finalist_is_that_between_processes():
    trial = joined([Trial((1,), r, 0.001, s) for r, s in ((0.9, 1.0), (0.96, 2.0), (0.93, 3.0))])
    assert (trial.ratio, trial.seconds) == pytest.approx((0.93, 2.0))
    assert trial.error == pytest.approx(0.03 / 3**0.5)


def test_a_wrong_result_is_no_candidate(monkeypatch):
    """The heuristic's kernel computes something else than the candidates."""
    from tgrad.autotuning.worker import Measurer

    region = region_of("chain", 96)
    measurer = Measurer("", "cpu")
    measurer.open(region, 0)
    assert measurer.subject is not None
    measurer.subject.wanted[-1][0] += 1
    choice = cpu_fallback.search_space(region).start
    (trial,) = measurer.measure([choice], 3)["trials"]
    assert "is wrong in" in trial["failure"]


@pytest.mark.parametrize("known", ["matmul", "softmax"])
def test_kernels_that_are_known_come_last(tmp_path, monkeypatch, known):
    """A session that was ended goes on with what it had not decided."""
    order: list[str] = []
    monkeypatch.setattr(
        Session, "_tune", lambda self, subject, *rest: order.append(subject.region.space.kind)
    )
    plans = [tgrad.explain(program_of(kind, 64)) for kind in ("matmul", "softmax")]
    own = replace(settings, cache_dir=tmp_path)
    Store(tmp_path).put([record_of(known, 64)])
    with Session(backend_of(Device("cpu")), Request(60.0), own, Silent()) as session:
        session.run(plans)
        kinds = {"matmul": "dot", "softmax": "reduce"}
        assert order == [kinds[k] for k in kinds if k != known] + [kinds[known]]
        order.clear()
        session.run(plans, only_new=True)
        assert order == [kinds[k] for k in kinds if k != known]


def start(cache: Path, program: Path, budget: str) -> subprocess.Popen[str]:
    command = ["-m", "tgrad.cli.main", "autotune", str(program), "--budget", budget]
    return subprocess.Popen(
        [sys.executable, *command],
        env=environment(cache),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def test_killed_at_random_moments(tmp_path, program):
    """What was stored before stays, the file is intact, and no worker outlives the session."""
    cache, moments = tmp_path / "cache", random.Random(5)
    known = record_of("matmul", 32)
    Store(cache).put([known])
    before: set[str] = set()
    for _ in range(4):
        process = start(cache, program, "20s")
        time.sleep(moments.uniform(0.3, 5.0))
        process.kill()
        process.communicate()
        assert Store(cache).verify() == []
        keys = {r.key for r in Store(cache).records()}
        assert before <= keys and known.key in keys
        before = keys
    assert tgrad_command(cache, "autotune", "verify").returncode == 0


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_keeps_what_was_found(tmp_path, program):
    cache = tmp_path / "cache"
    process = start(cache, program, "60s")
    assert process.stdout is not None
    lines = [process.stdout.readline()]
    while "tried" not in lines[-1]:
        lines.append(process.stdout.readline())
        assert lines[-1], process.stderr.read()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.fail(f"it was done before it was interrupted: {out}")
    assert process.returncode == 130, err
    assert "stopped; " in out and "Traceback" not in err
    kernel = lines[-1].split()[0]
    assert kernel in {r.kernel for r in Store(cache).records()}


def test_two_at_once(tmp_path, program):
    cache = tmp_path / "cache"
    both = [start(cache, program, "8s") for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
    assert Store(cache).verify() == [] and Store(cache).records()
    assert run(cache, program)
