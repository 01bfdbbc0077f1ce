"""torch's CUDA calls over memory of the host.

In: what tgrad asks of torch about a GPU. Out: tensors of the host. Invariant: what a graph captured
runs at its replays alone, in an order that is drawn anew from those that its streams allow; memory
that nobody has written holds NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

ALIGNMENT = 512
"""Bytes; of what torch's CUDA allocator gives."""
UNWRITTEN = 0xFF
"""Bytes of which floating-point numbers are NaN."""

Work = Callable[[], object]


class Stream:
    """What is captured on it comes after what it has waited for, and after what was before."""

    def __init__(self, gpu: SimulatedTorch, number: int):
        self.gpu, self.number, self.after = gpu, number, set[int]()

    def record_event(self) -> set[int]:
        return set(self.after)

    def wait_event(self, event: set[int]) -> None:
        self.after |= event

    def synchronize(self) -> None:
        assert self.gpu.recording is None, "a captured stream is not waited for"


class Graph:
    """Work, and for each piece those that have ended when it begins."""

    def __init__(self, gpu: SimulatedTorch):
        self.gpu, self.pieces = gpu, list[tuple[Work, set[int]]]()
        self.random = np.random.default_rng(3)

    def add(self, work: Work, stream: Stream) -> None:
        self.pieces.append((work, set(stream.after)))
        stream.after.add(len(self.pieces) - 1)

    def replay(self) -> None:
        waiting = {n: after for n, (_, after) in enumerate(self.pieces)}
        done: set[int] = set()
        while waiting:
            number = int(self.random.choice([n for n, after in waiting.items() if after <= done]))
            self.pieces[number][0]()
            del waiting[number]
            done.add(number)


class Event:
    """A time of the host."""

    def __init__(self, enable_timing: bool = False):
        self.time = 0.0

    def record(self, stream: object = None) -> None:
        self.time = perf_counter()

    def elapsed_time(self, end: Event) -> float:
        return 1e3 * (end.time - self.time)


class SimulatedTorch:
    """torch, with the calls that reach a GPU replaced."""

    version = SimpleNamespace(cuda=None)

    def __init__(self) -> None:
        self.recording: Graph | None = None
        self.current = 0
        self.streams = [Stream(self, 7)]
        self._C = SimpleNamespace(
            _cuda_getDevice=lambda: self.current,
            _cuda_getCurrentRawStream=lambda index: self.streams[-1].number + index,
        )
        self.cuda = SimpleNamespace(
            device=self.device_of,
            device_count=lambda: 1,
            is_current_stream_capturing=lambda: self.recording is not None,
            Event=Event,
            CUDAGraph=lambda: Graph(self),
            graph=self.graph,
            current_stream=lambda index=0: self.streams[-1],
            Stream=lambda: Stream(self, 100),
            stream=self.stream,
            synchronize=lambda device=None: None,
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def device(self, kind: str, index: int = 0) -> Any:
        return torch.device("cpu")

    def empty(self, nbytes: int, dtype: Any, device: Any) -> Any:
        whole = torch.full((nbytes + ALIGNMENT,), UNWRITTEN, dtype=torch.uint8)
        first = -whole.data_ptr() % ALIGNMENT
        return whole[first : first + nbytes].view(dtype)

    @contextmanager
    def device_of(self, index: int) -> Iterator[None]:
        before, self.current = self.current, index
        yield
        self.current = before

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        self.streams.append(stream)
        yield
        self.streams.pop()

    @contextmanager
    def graph(self, graph: Graph, capture_error_mode: str) -> Iterator[None]:
        before, self.streams = self.streams, [Stream(self, 7)]
        self.recording = graph
        try:
            yield
            assert self.streams[-1].after == set(range(len(graph.pieces))), "streams are joined"
        finally:
            self.recording, self.streams = None, before

    def do(self, work: Work) -> None:
        """Now or, while a graph is captured, at its replays."""
        if self.recording is None:
            work()
        else:
            self.recording.add(work, self.streams[-1])
