"""Worker processes, seen from the parent: start, ask, stop.

In: a `PeerSpec` and requests. Out: answers. Invariant: a worker that dies, fails or does not answer
raises `PeerFailure` with the reason in one line; nothing is left running.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine import ROOT


@dataclass(frozen=True)
class PeerSpec:
    """How to start a peer.

    Attributes:
        name: of its column.
        module: with `make(option, device)`; see bench/peers.
        option: of that module.
        interpreter: the Python that has the framework.
    """

    name: str
    module: str
    option: str
    interpreter: str


class PeerFailure(Exception):
    """A peer that could not do what it was asked; the text says why, in one line."""


class PeerTimeout(PeerFailure):
    """A peer that did not answer in time, and was stopped."""


class Process:
    """A running worker.

    Args:
        spec: what to start.
        device: what it computes on.
        cores: threads that it may use.
        extra: environment variables on top of the usual ones, such as cache directories.
        log: file that gets what it prints, tracebacks of failures among it; None for none.
    """

    def __init__(
        self,
        spec: PeerSpec,
        device: str,
        cores: int,
        extra: Mapping[str, str] | None = None,
        log: Path | None = None,
    ):
        self.spec = spec
        self._asked = ""
        path = tempfile.TemporaryFile if log is None else log.open
        self._errors = path("a+")  # closed by stop
        command = [spec.interpreter, "-m", "bench.worker", spec.module, spec.option, device]
        environment = {**worker_environment(cores), **(extra or {})}
        chosen = _chosen_cores(cores)
        try:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                bufsize=1,
                start_new_session=True,  # a group of its own, to be ended with what it starts
                preexec_fn=None if chosen is None else lambda: os.sched_setaffinity(0, chosen),
            )
        except OSError as error:
            raise PeerFailure(f"{spec.interpreter} does not start: {error}") from None

    def ask(self, do: str, timeout: float = 600.0, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            PeerFailure: the worker failed, died, or did not answer within `timeout` seconds.
        """
        self.send(do, **request)
        return self.receive(timeout)

    def send(self, do: str, **request: Any) -> None:
        """Send a request; `receive` waits for its answer.

        Raises:
            PeerFailure: the worker died.
        """
        assert self._process.stdin is not None
        if self._errors.closed:
            raise PeerFailure("it was stopped")
        self._asked = do
        try:
            print(json.dumps({"do": do, **request}), file=self._process.stdin, flush=True)
        except OSError:
            raise PeerFailure(self._last_words()) from None

    def receive(self, timeout: float = 600.0) -> dict[str, Any]:
        """The answer to the last request.

        Raises:
            PeerTimeout: there is none after `timeout` seconds; the worker is stopped.
            PeerFailure: the worker failed or died.
        """
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], max(timeout, 0.0))[0]:
            self.stop(patience=0)
            raise PeerTimeout(f"no answer to {self._asked!r} within {timeout:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise PeerFailure(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerFailure(_one_line(answer["error"]))
        return answer

    def _last_words(self) -> str:
        status = self._process.wait()
        self._errors.seek(0)
        lines = [line for line in self._errors.read().splitlines() if line.strip()]
        return _one_line(f"exit status {status}: {lines[-1] if lines else 'no message'}")

    def stop(self, patience: float = 5.0) -> None:
        """End the process, and after so many seconds those that it started to compile, too."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):  # what a dead worker had not read
                    stream.close()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._errors.close()


def worker_environment(cores: int) -> dict[str, str]:
    """The environment of this process, with as many threads as cores, which sleep when idle.

    How idle threads wait is left to each framework, which is at its best so: libgomp's sleep a
    millisecond after their last work. OMP_WAIT_POLICY=active would burn the core that another peer
    is measured on, and is not passed on. On a machine that is shared, GOMP_SPINCOUNT=4000 keeps
    threads from spinning away the time of those that they wait for. Kernels of tgrad have the
    heuristics' configurations unless TGRAD_STORED says otherwise. PYTHONDONTWRITEBYTECODE is not
    passed on: installed packages have their bytecode, and a checkout is to be no slower to import.
    """
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    kept = dict(os.environ)
    kept.setdefault("TGRAD_STORED", "0")
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    if kept.get("OMP_WAIT_POLICY", "").lower() == "active":
        del kept["OMP_WAIT_POLICY"]
    return {**kept, **dict.fromkeys(threads, str(cores)), "PYTHONPATH": _python_path()}


def _python_path() -> str:
    return os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH", "")) if p)


def _chosen_cores(cores: int) -> set[int] | None:
    """The first of the cores that this process may use; None for all of them."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    mine = sorted(os.sched_getaffinity(0))
    return None if cores >= len(mine) else set(mine[:cores])


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else line[:197] + "..."
