"""Child processes that compile and measure, and may crash or hang without harm.

In: the command of a worker, requests as plain data. Out: replies, or `WorkerLost` with the reason.
Invariant: a request is answered, or its process is killed when its time is over; a killed worker is
replaced at its next request; none outlives this process.

A request and a reply are a line of JSON each, on standard input and output.
"""

from __future__ import annotations

import json
import os
import queue
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

Message = dict[str, Any]
START_SECONDS = 120.0
"""What the first reply may take longer: a process starts, and torch with it on a GPU."""


class WorkerLost(Exception):
    """A request that was not answered: the worker crashed or took too long."""


class Worker:
    """One child process."""

    def __init__(self, command: Sequence[str], environment: dict[str, str] | None = None):
        self._command, self._environment = list(command), environment
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""
        self._asking = threading.RLock()

    def ask(self, message: Message, seconds: float) -> Message:
        """The reply to a message.

        Raises:
            WorkerLost: there was none within the time.
        """
        with self._asking:
            return self._ask(message, seconds)

    def _ask(self, message: Message, seconds: float) -> Message:
        if self._process is None:
            self._start()
            seconds += START_SECONDS
        process = self._process
        assert process is not None and process.stdin is not None
        try:
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()
            line = self._read_line(process, time.monotonic() + seconds)
        except TimeoutError:
            self._end(process)
            raise WorkerLost(f"no answer in {seconds:.0f} s") from None
        except OSError:
            line = b""
        if not line:
            raise WorkerLost(self._death(process))
        reply: Message = json.loads(line)
        return reply

    def _start(self) -> None:
        self._rest = b""
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self._environment,
            start_new_session=True,  # Ctrl-C is for this process, which then stops its workers
        )

    def _read_line(self, process: subprocess.Popen[bytes], deadline: float) -> bytes:
        """The next line; empty if the process has ended."""
        assert process.stdout is not None
        handle = process.stdout.fileno()
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([handle], [], [], left)[0]:
                raise TimeoutError
            piece = os.read(handle, 1 << 16)
            if not piece:
                return b""
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _death(self, process: subprocess.Popen[bytes]) -> str:
        """How the process ended, in words."""
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        status = process.returncode
        self._end(process)
        if status is not None and status < 0:
            with suppress(ValueError):
                return f"crashed with {signal.Signals(-status).name}"
        return f"ended with exit status {status}"

    def stop(self) -> None:
        """Kill the process, if there is one, and what it started; what asks it, in another thread,
        loses it."""
        process = self._process
        if process is None:
            return
        _kill(process)
        with self._asking:  # who asks has seen that it ended, and reads its pipes no more
            self._end(process)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        if self._process is process:
            self._process = None
        _kill(process)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class WorkerPool:
    """Several workers that answer independent requests side by side."""

    def __init__(self, count: int, make: Callable[[], Worker]):
        self._workers = [make() for _ in range(max(count, 1))]

    def ask_all(self, messages: Sequence[Message], seconds: float) -> list[Message | WorkerLost]:
        """The replies, in order; where a worker was lost, the reason."""
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(len(messages)):
            waiting.put(number)
        replies: list[Message | WorkerLost] = [WorkerLost("not asked") for _ in messages]

        def run(worker: Worker) -> None:
            while True:
                try:
                    number = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    replies[number] = worker.ask(messages[number], seconds)
                except WorkerLost as lost:
                    replies[number] = lost

        busy = self._workers[: len(messages)]
        threads = [threading.Thread(target=run, args=(w,), daemon=True) for w in busy]
        for thread in threads:
            thread.start()
        try:
            _join(threads)
        except BaseException:  # Ctrl-C: what was not asked yet is not, and nobody waits
            with suppress(queue.Empty):
                while True:
                    waiting.get_nowait()
            self.stop()
            raise
        return replies

    def stop(self) -> None:
        """Kill all workers."""
        for worker in self._workers:
            worker.stop()


def _join(threads: Iterable[threading.Thread]) -> None:
    """Wait for threads so that Ctrl-C is heard meanwhile."""
    for thread in threads:
        while thread.is_alive():
            thread.join(0.2)
