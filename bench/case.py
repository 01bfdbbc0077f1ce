"""What is measured: a function or a training step, its inputs and its right result.

In: nothing. Out: `FunctionCase` and `StepCase`. Invariant: inputs follow from a seed alone; every
peer computes the same from them, and its result is compared with the reference's before any time
counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]

SEED = 2026
BLOCK = (1 << 22) + 3
"""Random numbers of a `Repeated` array at most; no row's size divides it."""
SAMPLE = 1 << 20
"""Elements of a result that are compared at most; of a larger one, every n-th."""
AS_PIXELS, AS_CHANNELS = (0, 2, 3, 1), (0, 3, 1, 2)
"""Axes of images [N, C, H, W] as [N, H, W, C], and back."""
STATE = "state:"
"""Prefix of the arrays that are the model's initial state, by PyTorch's names."""


@dataclass(frozen=True)
class Repeated:
    """An array that repeats a block of numbers until its shape is full.

    Drawing, storing and sending gigabytes takes longer than measuring with them: the block travels,
    and each peer expands it where it computes.

    Attributes:
        block: the numbers, with one axis.
        shape: of the array.
    """

    block: np.ndarray
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.block.dtype

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def expanded(self) -> np.ndarray:
        """The array, on the host.

        >>> Repeated(np.array([1, 2, 3]), (2, 2)).expanded().tolist()
        [[1, 2], [3, 1]]
        """
        return np.resize(self.block, self.shape)


Inputs = Mapping[str, np.ndarray | Repeated]
"""Arrays by name, in the order of the arguments; large ones as what they repeat."""


def repeated(draw: Callable[[int], np.ndarray], shape: tuple[int, ...]) -> Repeated:
    """An array of that many drawn numbers, or of `BLOCK` that repeat.

    Args:
        draw: so many numbers in, an array with one axis out.
        shape: of the array.
    """
    return Repeated(draw(min(math.prod(shape), BLOCK)), shape)


def expanded(inputs: Inputs) -> Arrays:
    """The inputs as arrays of the host."""
    return {k: a.expanded() if isinstance(a, Repeated) else a for k, a in inputs.items()}


@dataclass(frozen=True)
class FunctionCase:
    """A function of arrays.

    Attributes:
        key: identifier.
        title: for people.
        arrays: inputs, in the order of the arguments.
        program: the function in PyTorch's names: (library, functional, *inputs).
        reference: the function in NumPy, on float64 inputs; None where the reference is PyTorch's.
        tolerance: largest error, see `error_of`.
        sizes: name of the sizes, "full" or "small".
        has_gradient: whether the gradients of all floating inputs belong to the result; the last
            input is then the gradient of the output, so that nothing of it is known in advance.
        dtype: what floating inputs are cast to.
        channels_last: whether inputs with four axes are images and their weights, which lie
            channels last where a peer has such a layout.
        checked_calls: how many results are compared.
        exact: the program of PyTorch's reference, where `program` has no wider dtypes.
        rank: cases of a lower rank are measured first, where the time of a run is limited.
        is_searched: whether peers that search for the best kernel take part by default.
    """

    key: str
    title: str
    arrays: Callable[[], Inputs]
    program: Callable[..., Any]
    reference: Callable[..., np.ndarray] | None
    tolerance: float = 1e-5
    sizes: str = "full"
    has_gradient: bool = False
    dtype: str = "float32"
    channels_last: bool = False
    checked_calls: int = 1
    exact: Callable[..., Any] | None = None
    rank: int = 0
    is_searched: bool = False

    def of_pixels(self, library: Any, functional: Any, *inputs: Any) -> Any:
        """The program for a peer without such a layout: where `channels_last`, inputs with four
        axes are [N, H, W, C], and so is a result with four. Gradients are as the inputs."""
        if not self.channels_last:
            return self.program(library, functional, *inputs)
        images = [x.permute(*AS_CHANNELS) if x.ndim == 4 else x for x in inputs]
        result = self.program(library, functional, *images)
        return result.permute(*AS_PIXELS) if result.ndim == 4 else result


@dataclass(frozen=True)
class StepCase:
    """A training step: forward, backward and update, always on the same batch.

    Attributes:
        key: identifier.
        title: for people.
        batch: inputs and targets.
        model: the module in PyTorch's names: (nn, functional, library) in, module out.
        optimizer: (optim, parameters, peer's own options) in, optimizer out.
        loss: (functional, model, inputs, targets) in, scalar out.
        tolerance: largest error of the first losses.
        sizes: name of the sizes, "full" or "small".
        dtype: of the model's parameters.
        channels_last: as of a function.
        checked_calls: how many losses are compared.
        rank, is_searched: as of a function.
        has_repeated_state: whether large matrices of the initial state are `Repeated`.
        is_apart: whether the peers hold it one after the other, since the device's memory has no
            room for all of them.
    """

    key: str
    title: str
    batch: Callable[[np.random.Generator], Arrays]
    model: Callable[[Any, Any, Any], Any]
    optimizer: Callable[..., Any]
    loss: Callable[..., Any]
    tolerance: float = 2e-3
    sizes: str = "full"
    dtype: str = "float32"
    channels_last: bool = False
    checked_calls: int = 3
    rank: int = 0
    is_searched: bool = True
    has_repeated_state: bool = False
    is_apart: bool = False

    def arrays(self) -> Inputs:
        """The batch, and under `STATE` the initial state of the model: its names and shapes are
        those of the model in tgrad."""
        import tgrad
        from bench.models import initial_state

        model = self.model(tgrad.nn, tgrad.nn.functional, tgrad)
        state = initial_state(model, SEED, BLOCK if self.has_repeated_state else None)
        return {**self.inputs(), **{STATE + name: a for name, a in state.items()}}

    def inputs(self) -> Arrays:
        """The batch alone."""
        return self.batch(np.random.default_rng(SEED))


Case = FunctionCase | StepCase

FLOAT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}


def state_of(inputs: Inputs) -> dict[str, Any]:
    """The initial state among a step's inputs."""
    return {k.removeprefix(STATE): a for k, a in inputs.items() if k.startswith(STATE)}


def batch_of(inputs: Inputs) -> tuple[Any, ...]:
    """Inputs and targets among a step's inputs; nothing where the batches come later."""
    return tuple(a for k, a in inputs.items() if not k.startswith(STATE))


def stored_bytes(case: Case, inputs: Inputs) -> int:
    """Bytes of the inputs where a peer computes, in the case's dtype."""
    width = FLOAT_BYTES[case.dtype]
    return sum(a.size * (width if a.dtype.kind == "f" else a.dtype.itemsize)
               for a in inputs.values())  # fmt: skip


def sampled(array: np.ndarray) -> np.ndarray:
    """What is compared of an array: all, or every n-th element of a large one; the first is NaN
    where anything in it is not finite.

    >>> sampled(np.ones((2, 3))).shape
    (2, 3)
    """
    stride = stride_of(array.size)
    chosen = array if stride == 1 else array.reshape(-1)[::stride]
    few = np.array(chosen, np.float64)
    if few.size and not np.isfinite(array).all():
        few.flat[0] = np.nan
    return few


def stride_of(size: int) -> int:
    """Every how many elements one of a result of that size is compared.

    >>> stride_of(1), stride_of(SAMPLE + 1)
    (1, 2)
    """
    return max(-(-size // SAMPLE), 1)


def error_of(got: Sequence[np.ndarray], want: Sequence[np.ndarray]) -> float:
    """The error of the part of a result where it is largest: the largest difference in parts of the
    largest magnitude, or the root mean square of the differences in parts of that of the values,
    whichever is more. The latter sees what is wrong in all of many small values beside a few large
    ones, as the late rows of causal attention are. Infinite where shapes differ or anything is not
    finite.

    >>> error_of([np.array([1.0, 2.0])], [np.array([1.0, 4.0])])
    0.5
    """
    if len(got) != len(want):
        return float("inf")
    return max(map(_error_of_part, got, want))


def _error_of_part(got: np.ndarray, want: np.ndarray) -> float:
    if got.shape != want.shape or not (np.isfinite(got).all() and np.isfinite(want).all()):
        return float("inf")
    exact = want.astype(np.float64).reshape(-1)
    difference = got.astype(np.float64).reshape(-1) - exact
    pairs = [
        (np.abs(difference).max(initial=0.0), np.abs(exact).max(initial=0.0)),
        (np.linalg.norm(difference), np.linalg.norm(exact)),
    ]
    return max(float(error / max(size, 1e-30)) for error, size in pairs)
