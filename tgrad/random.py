"""Random tensors from a counter: the same bits on every device, and in every replay.

In: a generator's seed and the number of its draw. Out: lazy tensors whose kernels compute Philox
4x32-10 of (element, draw, seed). Invariant: draw and seed are 0-d buffers, so a graph that draws
again has the same key and the plan it had before.
Source: Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3 (SC 2011).
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tgrad import dtype as dt
from tgrad.aliases import keep_order
from tgrad.arguments import refuse
from tgrad.creation import (
    DeviceLike,
    checked_sizes,
    complex_too,
    default_device,
    given_sizes,
)
from tgrad.device import Device, as_device
from tgrad.dtype import DType, as_dtype
from tgrad.errors import DTypeError, ShapeError, UnsupportedError
from tgrad.graph import build
from tgrad.graph.node import Node, make
from tgrad.graph.op import Op
from tgrad.graph.sized import flat_places, sized
from tgrad.methods.sizes import is_sized
from tgrad.tensor import Tensor, labelled, tensor
from tgrad.tracing import tracer

DEFAULT_SEED = 67280421310721
"""PyTorch's."""


class _Drawn(threading.local):
    """How often this thread has drawn, from any generator.

    Attributes:
        members: where each member of a batch draws numbers of its own, which one it is and how many
            there are, of each batch, the outermost first.
    """

    count = 0
    members: tuple[tuple[Node, int], ...] = ()


drawn = _Drawn()


class Generator:
    """A stream of random numbers: a seed, and the number of draws so far.

    Args:
        device: accepted as in PyTorch; one generator serves every device, with the same bits.

    >>> import tgrad
    >>> a, b = (tgrad.Generator().manual_seed(1) for _ in range(2))
    >>> tgrad.rand(2, generator=a).tolist() == tgrad.rand(2, generator=b).tolist()
    True
    """

    def __init__(self, device: str | Device = "cpu"):
        self.device = as_device(device)
        self._seed, self._draws = DEFAULT_SEED, 0
        self._keys: dict[Device, Node] = {}

    def __getstate__(self) -> dict[str, Any]:
        """For copy and pickle: all but the nodes of this process."""
        return {**self.__dict__, "_keys": {}}

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream of this seed.

        Args:
            seed: -2**63 to 2**64 - 1.
        """
        if not -(2**63) <= seed < 2**64:
            raise ShapeError(f"seed {seed}.", "Use -2**63 to 2**64 - 1.")
        _refuse_tracing("the seed of a generator is set")
        self._seed, self._draws = seed % 2**64, 0
        self._keys.clear()
        return self

    def initial_seed(self) -> int:
        """The seed of the stream."""
        return self._seed

    def seed(self) -> int:
        """Start the stream of a seed from the system, and return it."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little") >> 1)
        return self._seed

    def clone_state(self) -> Generator:
        """Another generator that continues where this one is."""
        twin = Generator(self.device)
        twin.set_state(self.get_state())
        return twin

    def get_state(self) -> Tensor:
        """Seed and draws so far, as 16 bytes (uint8)."""
        _refuse_tracing("the state of a generator is read")
        words = np.array([self._seed, self._draws], np.uint64)
        return tensor(words.view(np.uint8), device="cpu")

    def set_state(self, new_state: Tensor) -> None:
        """Continue where `get_state` was called.

        Raises:
            ShapeError: it is not the state of a generator.
        """
        if new_state.shape != (16,) or new_state.dtype is not dt.uint8:
            raise ShapeError(
                f"a generator's state of shape {new_state.shape}, {new_state.dtype}.",
                "Use what get_state() returned: 16 uint8.",
            )
        seed, draws = new_state.numpy().view(np.uint64).tolist()
        self.manual_seed(seed)
        self._draws = draws

    def draw(self, device: Device) -> tuple[Node, Node]:
        """Advance by one draw.

        Returns:
            The number of the draw and the seed, as 0-d int64 buffers on the device.
        """
        drawn.count += 1
        trace = tracer()
        if trace is not None:
            return trace.draw(self, device)
        if device not in self._keys:
            self._keys[device] = _scalar(self._seed, device)
        number = _scalar(self._draws, device)
        self._draws += 1
        return number, self._keys[device]


def _refuse_tracing(what: str) -> None:
    trace = tracer()
    if trace is not None:
        trace.refuse(what, "Do it outside the compiled function; its draws advance by themselves.")


def _scalar(value: int, device: Device) -> Node:
    bits = np.array(value, np.uint64).view(np.int64)
    return tensor(bits, device=device)._node


default_generator = Generator()
"""Draws for every call that is given no generator."""


def manual_seed(seed: int) -> Generator:
    """Seed the default generator.

    >>> import tgrad
    >>> _ = tgrad.manual_seed(0)
    >>> first = tgrad.randn(3).tolist()
    >>> _ = tgrad.manual_seed(0)
    >>> tgrad.randn(3).tolist() == first
    True
    """
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Seed the default generator from the system; returns the seed."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed of the default generator."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """The state of the default generator."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Continue the default generator where `get_rng_state` was called."""
    default_generator.set_state(new_state)


@contextmanager
def fork_rng(devices: Any = None, enabled: bool = True, **others: Any) -> Iterator[None]:
    """Inside, the default generator may be seeded and drawn from; afterwards it goes on from where
    it was.

    Args:
        devices: accepted; one generator serves all devices.
        enabled: False changes nothing.

    >>> import tgrad
    >>> _ = tgrad.manual_seed(0)
    >>> with tgrad.random.fork_rng():
    ...     _ = tgrad.manual_seed(5), tgrad.rand(3)
    >>> tgrad.initial_seed()
    0
    """
    kept = get_rng_state() if enabled else None
    try:
        yield
    finally:
        if kept is not None:
            set_rng_state(kept)


# -- distributions ------------------------------------------------------------------------------


def uniform(shape: tuple[int, ...], number: Tensor, seed: Tensor) -> Tensor:
    """The numbers of a draw in [0, 1), in the default dtype.

    Args:
        number, seed: of the draw, as `Generator.draw` gives them.
    """
    draw = _Draw(shape, number.device, (number._node, seed._node))
    return draw.uniform(0, dt.get_default_dtype())


def _draw(shape: tuple[int, ...], device: Device, generator: Generator | None) -> _Draw:
    return _Draw(shape, device, (generator or default_generator).draw(device))


class _Draw:
    """One draw of a generator: four random 32-bit words for each element of a shape."""

    def __init__(self, shape: tuple[int, ...], device: Device, counters: tuple[Node, Node]):
        self.shape, self.device = shape, device
        offset, key = counters
        if is_sized(*shape):
            if drawn.members:
                raise UnsupportedError(
                    "random numbers of a symbolic size for each member of a vmap.",
                    'Use randomness="same".',
                )
            place = flat_places(shape, lambda size: size.tensor(device)._node)
        else:
            place = _places_of_member(math.prod(shape))
        wide = shape if is_sized(*shape) else place.shape
        self.counters = (place, *(sized(Op.EXPAND, x, shape=wide) for x in (offset, key)))

    def word(self, number: int) -> Tensor:
        """uint32."""
        bits = make(Op.PHILOX, *self.counters, word=number)
        if not is_sized(*self.shape):
            bits = make(Op.RESHAPE, bits, shape=self.shape)
        return Tensor._of(bits, self.device)

    def uniform(self, number: int, dtype: DType) -> Tensor:
        """In [0, 1), multiples of 2**-24; of 2**-53 for float64, from two words."""
        high = self.word(number)
        if dtype is not dt.float64:
            return (high >> 8).to(dt.float32) * 2.0**-24
        low = self.word(number + 1)
        return (high >> 5).to(dtype) * 2.0**-27 + (low >> 6).to(dtype) * 2.0**-53

    def normal(self, dtype: DType) -> Tensor:
        """Mean 0, variance 1, by Box and Muller."""
        step = 2 if dtype is dt.float64 else 1
        radius = ((1.0 - self.uniform(0, dtype)).log() * -2.0).sqrt()
        return radius * (self.uniform(step, dtype) * (2 * math.pi)).cos()


def _places_of_member(count: int) -> Node:
    """Which elements of its batch a member draws: its own `count`, of all that there are."""
    place = make(Op.IOTA, shape=(count,), axis=0, dtype=dt.int64)
    if not drawn.members:
        return place
    member = build.const(0, dt.int64, ())
    for node, size in drawn.members:
        member = build.add(build.mul(member, build.const_like(member, size)), node)
    first = build.mul(member, build.const_like(member, count))
    return build.add(place, make(Op.EXPAND, first, shape=(count,)))


def _float_dtype(function: str, dtype: DType | None) -> DType:
    found = dt.float_dtype(dtype)
    if not found.is_float:
        raise DTypeError(f"{function} of dtype {found.name}.", "Use a floating-point dtype.")
    return found


def _finish(value: Tensor, dtype: DType, requires_grad: bool) -> Tensor:
    value = value.to(dtype)
    return value.requires_grad_() if requires_grad else value


@labelled("rand")
@complex_too
def rand(
    *size: Any,
    generator: Generator | None = None,
    dtype: DType | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
    **others: Any,
) -> Tensor:
    """Uniform in [0, 1).

    Args:
        size: sizes, as arguments or as one sequence.
        generator: by default the one that `manual_seed` seeds.
        dtype: floating point, by default float32; float16 and bfloat16 are rounded float32.
        device, requires_grad: see `tgrad.full`.

    >>> import tgrad
    >>> bool((tgrad.rand(100) < 1).all())
    True
    """
    sizes = given_sizes(size, others)
    refuse("rand", **others)
    found = _float_dtype("rand", dtype)
    draw = _draw(sizes, default_device(device), generator)
    return _finish(draw.uniform(0, found), found, requires_grad)


@labelled("randn")
@complex_too
def randn(
    *size: Any,
    generator: Generator | None = None,
    dtype: DType | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
    **others: Any,
) -> Tensor:
    """Normal with mean 0 and variance 1; arguments as those of `rand`.

    >>> import tgrad
    >>> tgrad.randn(2, 3).shape
    (2, 3)
    """
    sizes = given_sizes(size, others)
    refuse("randn", **others)
    found = _float_dtype("randn", dtype)
    draw = _draw(sizes, default_device(device), generator)
    return _finish(draw.normal(found), found, requires_grad)


@labelled("randint")
def randint(
    low: int,
    high: Any = None,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: DType | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
    **others: Any,
) -> Tensor:
    """Integers from `low` to `high` - 1, all equally likely.

    Args:
        low: the smallest; 0 where it is left out, as in randint(high, size).
        high: one above the largest.
        size: a sequence of sizes.
        dtype: by default int64.

    Raises:
        ShapeError: there is no integer in the range.

    >>> import tgrad
    >>> bool((tgrad.randint(3, 5, (100,)) < 5).all())
    True
    """
    refuse("randint", **others)
    if size is None:
        low, high, size = 0, low, high
    if not 0 < high - low < 2**63:
        raise ShapeError(f"randint from {low} to {high}.", "Give a high above the low.")
    found = as_dtype(dt.int64 if dtype is None else dtype)
    draw = _draw(checked_sizes((size,)), default_device(device), generator)
    bits, count = draw.word(0).to(dt.int64), high - low
    if count <= 2**31:
        value = (bits * count) >> 32
    else:
        value = (((draw.word(1).to(dt.int64) >> 1) << 32) | bits) % count
    return _finish(value + low, found, requires_grad)


@labelled("normal")
def normal(
    mean: float | Tensor,
    std: float | Tensor,
    size: Sequence[int] | None = None,
    *,
    generator: Generator | None = None,
    dtype: DType | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
    **others: Any,
) -> Tensor:
    """Normal with the given mean and standard deviation, numbers or tensors.

    Args:
        mean, std: numbers with a `size`, or at least one tensor, whose shape is that of the result.
        size, generator, dtype, device: see `rand`.

    Raises:
        ShapeError: both are numbers and there is no size, or a tensor and a size are given.

    >>> import tgrad
    >>> tgrad.normal(5.0, 0.0, (2,)).tolist()
    [5.0, 5.0]
    """
    refuse("normal", **others)
    given = [t for t in (mean, std) if isinstance(t, Tensor)]
    if bool(given) == (size is not None):
        raise ShapeError(
            "normal with a size and tensors, or with neither.",
            "Give a size, or a tensor of means or deviations.",
        )
    if given:
        shape: tuple[int, ...] = (mean * std).shape  # type: ignore[union-attr]
        dtype, device = given[0].dtype, given[0].device
    else:
        shape = checked_sizes((size,))
    found = _float_dtype("normal", dtype)
    noise = _draw(shape, default_device(device), generator).normal(found)
    return _finish(noise * std + mean, found, requires_grad)


@labelled("bernoulli")
def bernoulli(
    input: Tensor, p: float | None = None, *, generator: Generator | None = None
) -> Tensor:
    """1 with the probability of each element of `input`, else 0, in its shape and dtype.

    Args:
        input: probabilities, floating point; with `p`, only its shape and dtype count.
        p: one probability for all elements.

    >>> import tgrad
    >>> tgrad.bernoulli(tgrad.tensor([0.0, 1.0])).tolist()
    [0.0, 1.0]
    """
    found = _float_dtype("bernoulli", input.dtype)
    draw = _draw(input.shape, input.device, generator).uniform(0, found)
    return (draw < (input.detach() if p is None else p)).to(found)


@complex_too
def rand_like(input: Tensor, **options: Any) -> Tensor:
    """`rand` with the shape, dtype and device of `input`.

    >>> import tgrad
    >>> tgrad.rand_like(tgrad.ones(2, 3)).shape
    (2, 3)
    """
    like = {"dtype": input.dtype, "device": input.device, **options}
    return keep_order(rand(input.shape, **like), input)


@complex_too
def randn_like(input: Tensor, **options: Any) -> Tensor:
    """`randn` with the shape, dtype and device of `input`.

    >>> import tgrad
    >>> tgrad.randn_like(tgrad.ones(2, 3)).shape
    (2, 3)
    """
    like = {"dtype": input.dtype, "device": input.device, **options}
    return keep_order(randn(input.shape, **like), input)


def randint_like(input: Tensor, low: int, high: int | None = None, **options: Any) -> Tensor:
    """`randint` with the shape, dtype and device of `input`.

    >>> import tgrad
    >>> tgrad.randint_like(tgrad.ones(2), 5, 6).tolist()
    [5.0, 5.0]
    """
    low, high = (0, low) if high is None else (low, high)
    like = {"dtype": input.dtype, "device": input.device, **options}
    return keep_order(randint(low, high, input.shape, **like), input)


@labelled("randperm")
def randperm(
    n: int,
    *,
    generator: Generator | None = None,
    dtype: DType | None = None,
    device: DeviceLike = None,
    **others: Any,
) -> Tensor:
    """The integers below n in random order, int64 by default.

    The order is that of random keys of 64 bits.

    >>> import tgrad
    >>> sorted(tgrad.randperm(4).tolist())
    [0, 1, 2, 3]
    """
    refuse("randperm", **others)
    draw = _draw((n,), default_device(device), generator)
    keys = (draw.word(0).to(dt.uint64) << 32) | draw.word(1).to(dt.uint64)
    return keys.argsort(0).to(as_dtype(dt.int64 if dtype is None else dtype))
