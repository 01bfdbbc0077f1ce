"""The child process that compiles and measures: `python -m tgrad.autotuning.worker TARGET DEVICE`.

In: requests, a line of JSON each, on standard input. Out: a reply each, on standard output. What
kernels or libraries print goes nowhere. Invariant: it ends with its input, and with its parent.

    {"do": "compile", "region", "choice"}    -> {"source", "figures"}
    {"do": "open", "region", "seed"}         -> {"seconds"}: the heuristic's kernel has run
    {"do": "measure", "choices", "rounds"}   -> {"heuristic": [seconds], "trials": [{...}]}
    {"do": "compare", "plans", "rounds", "seed"} -> {"seconds": [[...], [...]]}: see whole.py

Kernels are measured in turns: in each round every candidate runs once, beside the heuristic's, so
that what else the machine does meets all of them.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from tgrad.autotuning.clock import launch_seconds
from tgrad.autotuning.inputs import disagreement, make_inputs
from tgrad.autotuning.whole import compare
from tgrad.backend import backend_by_name, backend_of
from tgrad.device import Device
from tgrad.errors import TgradError
from tgrad.fusion.region import Region
from tgrad.fusion.region_json import region_from_json
from tgrad.kernel.ir import Executable
from tgrad.kernel.space import Choice, SearchSpace
from tgrad.runtime.device import open_device
from tgrad.settings import read_settings
from tgrad.threads import get_num_threads

LEAST_SECONDS = {"cpu": 2e-4, "cuda": 2e-3}
"""Of one measurement: quicker kernels run several times in it."""
MOST_RUNS = 200
SLOW = 2.5
"""A candidate this much slower than the heuristic's is measured in two rounds alone."""
WATCH_SECONDS = 1.0


@dataclass
class _Subject:
    """The region that is measured now.

    Attributes:
        memories: the buffers of a launch.
        initial: the contents of those that kernels write.
        wanted: results of the heuristic's kernel.
        runs: launches of one measurement.
    """

    region: Region
    space: SearchSpace
    heuristic: Executable
    memories: list[Any]
    initial: list[tuple[int, np.ndarray]]
    wanted: list[np.ndarray]
    runs: int


class Measurer:
    """Compiles and measures kernels for one device."""

    def __init__(self, target: str, device: str):
        self.backend = backend_by_name(target) if target else backend_of(Device(device))
        self.device, self.settings = Device(device), read_settings()
        self.subject: _Subject | None = None

    def compile(self, region: Region, choice: Choice | None) -> Executable:
        """The kernel of a choice; of the heuristic for None."""
        config = None if choice is None else self.backend.space(region).config(choice)
        return self.backend.generate([region], self.settings, [config])[1]()[0]

    def open(self, region: Region, seed: int) -> float:
        """Prepare a region; the seconds of a launch of the heuristic's kernel."""
        self.subject = None
        runtime = open_device(self.device)
        arrays = make_inputs(region, seed)
        memories = [runtime.allocate(max(a.nbytes, 1)) for a in arrays]
        for memory, array in zip(memories, arrays):
            runtime.write(memory, array)
        written = [(n, a) for n, a in enumerate(arrays) if region.buffers[n].role == "inout"]
        heuristic = self.compile(region, None)
        subject = _Subject(region, self.backend.space(region), heuristic, memories, written, [], 1)
        self.subject = subject
        subject.wanted = self._results(heuristic)
        once = min(self._seconds(heuristic) for _ in range(3))
        least = LEAST_SECONDS.get(self.device.type, 2e-4)
        subject.runs = max(1, min(MOST_RUNS, round(least / max(once, 1e-7))))
        return once

    def _reset(self) -> None:
        """What kernels update in place is as it was before."""
        assert self.subject is not None
        for number, array in self.subject.initial:
            open_device(self.device).write(self.subject.memories[number], array)

    def _results(self, artifact: Executable) -> list[np.ndarray]:
        """All buffers after one launch; those that are only read are empty here."""
        assert self.subject is not None
        runtime, subject = open_device(self.device), self.subject
        self._reset()
        for memory, slot in zip(subject.memories, subject.region.buffers):
            if slot.role == "out":
                runtime.write(memory, np.full(slot.nbytes, 0xA5, np.uint8))
        runtime.launch(artifact, subject.memories)
        return [
            runtime.read(m, s.dtype, (s.size,)) if s.role != "in" else np.empty(0)
            for m, s in zip(subject.memories, subject.region.buffers)
        ]

    def _seconds(self, artifact: Executable) -> float:
        """Of one launch, the mean of `runs`."""
        assert self.subject is not None
        runtime, subject = open_device(self.device), self.subject
        if subject.initial:
            self._reset()
        launch = partial(runtime.launch, artifact, subject.memories)
        takers = 0
        if subject.region.space.kind == "chain":
            takers = max(1, min(get_num_threads(), artifact.grid))
        return launch_seconds(runtime, launch, subject.runs, takers)

    def measure(self, choices: Sequence[Choice], rounds: int) -> dict[str, Any]:
        """Times of the heuristic's kernel, and of each choice or why it has none."""
        assert self.subject is not None
        subject = self.subject
        kernels: dict[int, Executable] = {}
        failures: dict[int, str] = {}
        for number, choice in enumerate(choices):
            try:
                artifact = self.compile(subject.region, choice)
                wrong = disagreement(subject.region, subject.wanted, self._results(artifact))
            except TgradError as error:
                failures[number] = error.what
                continue
            if wrong:
                failures[number] = wrong
            else:
                kernels[number] = artifact
        heuristic: list[float] = []
        times: dict[int, list[float]] = {n: [] for n in kernels}
        for artifact in kernels.values():
            self._seconds(artifact)
        for turn in range(rounds if kernels else 0):
            heuristic.append(self._seconds(subject.heuristic))
            for number, artifact in kernels.items():
                if turn < 2 or min(times[number]) <= SLOW * min(heuristic):
                    times[number].append(self._seconds(artifact))
        return {
            "heuristic": heuristic,
            "trials": [
                {"failure": failures[n]} if n in failures else {"seconds": times[n]}
                for n in range(len(choices))
            ],
        }


def answer(measurer: Measurer, request: dict[str, Any]) -> dict[str, Any]:
    """The reply to a request."""
    if request["do"] == "measure":
        return measurer.measure([tuple(c) for c in request["choices"]], request["rounds"])
    if request["do"] == "compare":
        asked = (request[name] for name in ("plans", "rounds", "seed"))
        return compare(measurer.backend, measurer.device, measurer.settings, *asked)
    region = region_from_json(request["region"])
    if request["do"] == "open":
        return {"seconds": measurer.open(region, request["seed"])}
    artifact = measurer.compile(region, tuple(request["choice"]))
    return {"source": artifact.path, "figures": asdict(artifact.figures)}


def main() -> None:
    """Answer requests until there are no more."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what kernels and libraries print must not be taken for a reply
    measurer = Measurer(sys.argv[1], sys.argv[2])
    for line in sys.stdin:
        try:
            reply = answer(measurer, json.loads(line))
        except TgradError as error:
            reply = {"failure": error.what}
        except MemoryError:
            reply = {"failure": "there is not enough memory"}
        print(json.dumps(reply), file=replies, flush=True)


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, even while a kernel runs."""
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
