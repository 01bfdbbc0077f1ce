"""The frameworks that are measured, one module each.

In: a case and its arrays. Out: a `Loaded` case. Invariant: a module here imports its framework and
NumPy, and is imported only by a worker process (`Peer` and `Loaded` say what it must offer).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from bench.case import Arrays, Case


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
        call: does it once and is done when it returns; on a GPU it may return before.
        read: a result of `call` as an array.
        figures: of its plan; None for peers that have none.
    """

    call: Callable[[], Any]
    read: Callable[[Any], np.ndarray]
    figures: Callable[[], PlanFigures] | None = None


class Unsupported(Exception):
    """A case that the peer has no program for; the text says why."""


class Peer(Protocol):
    """A framework in one of its settings."""

    def versions(self) -> dict[str, str]:
        """Names and versions of what takes part."""

    def load(self, case: Case, arrays: Arrays) -> Loaded:
        """The case with these inputs.

        Raises:
            Unsupported: the peer has no program for it.
        """
