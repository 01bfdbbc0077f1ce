"""The frameworks that are measured, one module each.

In: a case and its arrays. Out: a `Loaded` case. Invariant: a module here imports its framework and
NumPy, and is imported only by a worker process (`Peer` and `Loaded` say what it must offer).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from bench.case import Case, Inputs, StepCase


@dataclass(frozen=True)
class PlanFigures:
    """What a peer says of a call before it runs: kernels, FLOPs, least bytes moved, peak memory."""

    launches: int
    flops: int
    bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class Loaded:
    """A case in a peer's hands, its inputs stored on the peer's device.

    Attributes:
        calls: each does it once and is done when it returns; on a GPU it may return before. As many
            as sets of inputs, equal ones in different memory.
        read: a result of a call: what is compared of each of its parts, as `bench.case.sampled`
            takes it.
        figures: of its plan; None for peers that have none.
    """

    calls: Sequence[Callable[[], Any]]
    read: Callable[[Any], Sequence[np.ndarray]]
    figures: Callable[[], PlanFigures] | None = None


@dataclass(frozen=True)
class StepCounts:
    """Work of a training step, as its peer counts it.

    Attributes:
        launches: kernels and library calls of forward, backward and update.
        update: of them, those that do nothing but the optimizer's update.
        bytes: moved by all of them; 0 where the peer does not say.
    """

    launches: int
    update: int
    bytes: int


@dataclass(frozen=True)
class StepMemory:
    """Memory of a training step.

    Attributes:
        held: bytes between steps: parameters, their statistics, the optimizer's state, the batch.
        peak: bytes at the peak of a step: those, gradients, activations and temporaries.
    """

    held: int
    peak: int


@dataclass(frozen=True)
class Trainer:
    """A model in training, fed with arrays.

    Attributes:
        step: one training step on inputs and targets; done when it returns.
        logits: of inputs, in evaluation mode.
    """

    step: Callable[[np.ndarray, np.ndarray], None]
    logits: Callable[[np.ndarray], np.ndarray]


class Unsupported(Exception):
    """A case that the peer has no program for; the text says why."""


class Peer(Protocol):
    """A framework in one of its settings."""

    def versions(self) -> dict[str, str]:
        """Names and versions of what takes part."""

    def load(self, case: Case, arrays: Inputs, copies: int = 1) -> Loaded:
        """The case with these inputs, those of a function in so many places.

        Raises:
            Unsupported: the peer has no program for it.
        """


class KeepingPeer(Peer, Protocol):
    """A framework that keeps what it compiled in places of its own."""

    def release(self) -> None:
        """Let go of all that was compiled."""


class StepPeer(Peer, Protocol):
    """A framework whose training steps can be looked into."""

    def count_launches(self, case: StepCase, arrays: Inputs) -> StepCounts:
        """Launches and bytes of a step that runs for at least the second time."""

    def peak_memory(self, case: StepCase, arrays: Inputs) -> StepMemory:
        """Memory of such a step."""

    def trainer(self, case: StepCase, arrays: Inputs) -> Trainer:
        """The model with its initial state, to be trained on other batches."""
