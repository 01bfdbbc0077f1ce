"""A peer's process: answers one request a line until its input ends.

    python -m bench.worker MODULE OPTION DEVICE

In: requests as lines of JSON on standard input. Out: answers as lines of JSON on what was standard
output; what a framework prints goes to standard error. Invariant: it works only between a request
and its answer, so that one process is busy at a time; arrays travel in files.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from bench.case import Case, FunctionCase, Inputs, Repeated, expanded
from bench.clock import clock_of, measure_gpu
from bench.peers import Loaded, Peer, Unsupported

SHAPE = ":shape"
"""Suffix of the arrays that are the shapes of `Repeated` ones."""


class Worker:
    """One peer and the case that it holds.

    Attributes:
        peer: the framework.
        loaded: the case that it holds.
        is_step: whether that is a training step.
    """

    def __init__(self, peer: Peer, device: str):
        self.peer = peer
        self.loaded: Loaded | None = None
        self.is_step = False
        self.clock = clock_of(device)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what a request asks."""
        action = getattr(self, f"on_{request.pop('do')}")
        answer: dict[str, Any] = action(**request)
        return answer

    def on_open(self) -> dict[str, Any]:
        """The versions of the framework."""
        return {"versions": self.peer.versions()}

    def on_load(
        self, table: str, sizes: str, key: str, arrays: str, result: str, copies: int = 1
    ) -> dict[str, Any]:
        """Take a case of a table with the inputs of a file; write the first results to another.

        Returns:
            `first`: seconds of the first call, which compiles.
        """
        self.on_drop()
        case = case_of(table, sizes, key)
        self.is_step = not isinstance(case, FunctionCase)
        loaded = self.loaded = self.peer.load(case, read_inputs(arrays), copies)
        call = loaded.calls[0]
        start = perf_counter()
        values = [call()]
        self.clock.wait()
        first = perf_counter() - start
        parts = loaded.read(values.pop())
        if case.checked_calls > 1:
            more = [loaded.read(call()) for _ in range(1, case.checked_calls)]
            parts = [np.stack(calls) for calls in zip(parts, *more)]
        save_parts(result, parts)
        return {"first": first}

    def on_first(self, table: str, sizes: str, key: str, arrays: str) -> dict[str, Any]:
        """Take a case and do the first call, nothing else; its seconds."""
        loaded = self.peer.load(case_of(table, sizes, key), read_inputs(arrays))
        start = perf_counter()
        loaded.calls[0]()
        self.clock.wait()
        return {"first": perf_counter() - start}

    def on_figures(self) -> dict[str, Any]:
        """What the peer's plan says of a call; null where it has none."""
        figures = self._held().figures
        return {"figures": None if figures is None else dataclasses.asdict(figures())}

    def on_train_open(self, table: str, sizes: str, key: str, state: str, data: str) -> Any:
        """Take a task of training: the model's state, and the data with its order."""
        case, arrays = case_of(table, sizes, key), read_inputs(state)
        trainer = getattr(self.peer, "trainer", None)
        if trainer is None:
            raise Unsupported("no training is written for this peer")
        self.trainer, self.data = trainer(case, arrays), expanded(read_inputs(data))
        return {}

    def on_train(self, first: int, count: int) -> dict[str, Any]:
        """So many steps, each on the batch that the order names; their seconds."""
        start = perf_counter()
        for chosen in self.data["order"][first : first + count]:
            self.trainer.step(self.data["inputs"][chosen], self.data["targets"][chosen])
        self.clock.wait()
        return {"seconds": perf_counter() - start}

    def on_evaluate(self, size: int) -> dict[str, Any]:
        """Accuracy and mean cross entropy over the held out data, in batches of a size."""
        logits = []
        for start in range(0, len(self.data["held_inputs"]), size):
            logits.append(self.trainer.logits(self.data["held_inputs"][start : start + size]))
        return score(np.concatenate(logits), self.data["held_targets"])

    def on_look(self, what: str, table: str, sizes: str, key: str, arrays: str) -> dict[str, Any]:
        """Look into a training step: `what` is "count_launches" or "peak_memory"."""
        look = getattr(self.peer, what, None)
        if look is None:
            raise Unsupported(f"{what} is not there for this peer")
        return dataclasses.asdict(look(case_of(table, sizes, key), read_inputs(arrays)))

    def on_round(self, calls: int) -> dict[str, Any]:
        """Times of so many calls, each by itself, inputs in turn: of a function what the device
        works, of a training step what it takes in a loop."""
        sets = self._held().calls
        turn = [sets[i % len(sets)] for i in range(calls)]
        gc.collect()
        gc.disable()
        try:
            return dataclasses.asdict(self.clock.measure(turn, self.is_step))
        finally:
            gc.enable()

    def on_peak(self) -> dict[str, Any]:
        """Bytes of the device at the peak of a call; null where that is not known."""
        return {"peak": self.clock.peak(self._held().calls[0])}

    def on_drop(self) -> dict[str, Any]:
        """Let go of the case, and of the device's memory."""
        self.loaded = None
        release = getattr(self.peer, "release", None)
        if release is not None:
            release()
        gc.collect()
        self.clock.release()
        return {}

    def on_limits(self) -> dict[str, Any]:
        """What the GPU does at most, and its name."""
        found = measure_gpu(self.clock)
        self.clock.release()
        return found

    def _held(self) -> Loaded:
        if self.loaded is None:
            raise ValueError("no case is loaded")
        return self.loaded


def score(logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Accuracy and mean cross entropy of logits [..., classes] against targets [...].

    >>> score(np.array([[0.0, 0.0], [0.0, 9.0]]), np.array([1, 1]))["accuracy"]
    0.5
    """
    rows = logits.reshape(-1, logits.shape[-1]).astype(np.float64)
    right = targets.reshape(-1)
    top = rows.max(1)
    total = top + np.log(np.exp(rows - top[:, None]).sum(1))
    loss = total - rows[np.arange(len(rows)), right]
    return {"accuracy": float((rows.argmax(1) == right).mean()), "loss": float(loss.mean())}


def case_of(table: str, sizes: str, key: str) -> Case:
    """A case of a module with a function `cases(sizes)`."""
    found: Case = next(c for c in import_module(table).cases(sizes) if c.key == key)
    return found


def read_inputs(path: str | Path) -> Inputs:
    """The inputs of a file, in their order."""
    with np.load(path) as data:
        shapes = {n.removesuffix(SHAPE): data[n] for n in data.files if n.endswith(SHAPE)}
        return {
            name: Repeated(data[name], tuple(map(int, shapes[name])))
            if name in shapes
            else data[name]
            for name in data.files
            if not name.endswith(SHAPE)
        }


def save_inputs(path: str | Path, inputs: Inputs) -> None:
    """To a file, for `read_inputs`; of a `Repeated` array its block and its shape."""
    named: dict[str, Any] = {}
    for name, value in inputs.items():
        if isinstance(value, Repeated):
            named |= {name: value.block, name + SHAPE: np.array(value.shape, np.int64)}
        else:
            named[name] = value
    np.savez(path, **named)


def read_parts(path: str | Path) -> list[np.ndarray]:
    """The parts of a result, as `save_parts` wrote them."""
    with np.load(path) as data:
        return [data[name] for name in data.files]


def save_parts(path: str | Path, parts: Sequence[np.ndarray]) -> None:
    """To a file."""
    np.savez(path, *parts)


def main(argv: list[str]) -> None:
    """Serve until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, option, device = argv
    worker: Worker | None = None
    for line in sys.stdin:
        try:
            if worker is None:
                worker = Worker(import_module(module).make(option, device), device)
            answer = worker.answer(json.loads(line))
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
