"""Processes that are joined by gloo and run functions of the tests, each with its number.

In: a function of a module and arguments. Out: what it returned in each process. Invariant: a
process that does not answer is ended, and fails the test; after a failure all start anew, since
they may have made different calls.
"""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

SECONDS = 300
"""Of silence, after which something waits for a call that nobody makes."""


def backend() -> str:
    """What joins processes here, whatever device they use."""
    import torch

    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"


class Processes:
    """So many processes, started when they are first asked for something."""

    def __init__(self, count: int):
        self.count = count
        self.workers: list[Any] = []
        self.pipes: list[Any] = []

    def run(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """`function(rank, *args)` of each process.

        Raises:
            AssertionError: one raised, with its traceback, or none answered.
        """
        if not self.workers:
            self._start()
        for pipe in self.pipes:
            pipe.send((function, args))
        answers = [pipe.recv() if pipe.poll(SECONDS) else (False, "silence") for pipe in self.pipes]
        failed = [
            f"process {n}: {text}" for n, (is_well, text) in enumerate(answers) if not is_well
        ]
        if failed:
            self.close()
            raise AssertionError("\n".join(failed))
        return [result for _, result in answers]

    def _start(self) -> None:
        context = get_context("spawn")
        meeting = Path(tempfile.mkdtemp()) / "meeting"
        for rank in range(self.count):
            own, given = context.Pipe()
            worker = context.Process(target=_serve, args=(rank, self.count, str(meeting), given))
            worker.start()
            self.workers.append(worker)
            self.pipes.append(own)

    def close(self) -> None:
        """End all."""
        for worker in self.workers:
            worker.kill()
            worker.join()
        self.workers, self.pipes = [], []


def _serve(rank: int, count: int, meeting: str, pipe: Any) -> None:
    import tgrad.distributed as dist

    dist.init_process_group("gloo", f"file://{meeting}", world_size=count, rank=rank)
    while True:
        function, args = pipe.recv()
        try:
            pipe.send((True, function(rank, *args)))
        except BaseException:
            pipe.send((False, traceback.format_exc()))
