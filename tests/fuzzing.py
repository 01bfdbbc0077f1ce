"""Random graphs for property tests.

In: something that draws. Out: tensors whose graph holds movement, elementwise ops, reductions,
scans, dots, gathers, scatters, sorts and their gradients, over odd, empty and broadcast shapes.
Invariant: equal draws make equal graphs; what decides by a comparison, a rounding or an order
compares exact values only, so that rounding never decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from hypothesis import strategies as st

import tgrad
import tgrad.nn.functional as F
from tests.rounding import assert_within, bounded
from tgrad import realizing
from tgrad.autodiff.backward import gradients
from tgrad.device import Device
from tgrad.graph.node import Node, is_leaf_mark, make, toposort
from tgrad.graph.op import Op
from tgrad.tensor import Tensor, tensor

T = TypeVar("T")

SIZES = (1, 2, 3, 4, 5, 6, 17, 1, 3, 0, 33)
LARGEST = 600
"""Elements of a tensor that ops may make larger."""


class Draw(Protocol):
    """What a graph is drawn from."""

    def one_of(self, options: Sequence[T]) -> T: ...
    def between(self, low: int, high: int) -> int: ...


class FromHypothesis:
    """Draws that Hypothesis can shrink."""

    def __init__(self, draw: Any):
        self._draw = draw

    def one_of(self, options: Sequence[T]) -> T:
        return self._draw(st.sampled_from(options))

    def between(self, low: int, high: int) -> int:
        return self._draw(st.integers(low, high))


class RandomGraph:
    """A graph as it grows.

    Attributes:
        pool: float tensors, the latest last.
        exact: those of `pool` that rounding cannot change, by id.
        whole: tensors of integers, which are exact.
    """

    def __init__(self, draw: Draw, device: str, requires_grad: bool = False):
        self.draw, self.device, self.requires_grad = draw, device, requires_grad
        self.dtype = draw.one_of((*[tgrad.float32] * 8, tgrad.float64, tgrad.float16))
        self.special = not requires_grad and draw.between(0, 9) == 9
        self.exact: set[int] = set()
        self.whole: list[Tensor] = []
        self.leaves: list[Tensor] = []
        shape = tuple(draw.one_of(SIZES) for _ in range(draw.between(0, 3)))
        self.pool = [self.leaf(shape)]

    def grow(self, steps: int) -> None:
        for _ in range(steps):
            x = self.pool[-1] if self.draw.between(0, 1) else self.draw.one_of(self.pool)
            made = self.draw.one_of(STEPS)(self, x)
            for y in () if made is None else made if isinstance(made, tuple) else (made,):
                (self.pool if y.dtype.is_float else self.whole).append(y)

    def outputs(self) -> list[Tensor]:
        return [*self.pool[-self.draw.between(1, 3) :], *self.whole[-1:]]

    # -- what steps draw --------------------------------------------------------------------------

    def leaf(self, shape: tuple[int, ...]) -> Tensor:
        """Normal numbers; in some graphs NaN, infinities and zeros of both signs among them."""
        rng = np.random.default_rng(self.draw.between(0, 1 << 16))
        data = rng.standard_normal(shape).astype(np.float32)
        if self.special and data.size:
            places = rng.integers(0, data.size, 3)
            data.reshape(-1)[places] = rng.choice([np.nan, np.inf, -np.inf, 0.0, -0.0], 3)
        made = tensor(data, device=self.device, dtype=self.dtype, requires_grad=self.requires_grad)
        self.leaves.append(made)
        self.exact.add(id(made))
        return made

    def integers(self, low: int, high: int, shape: tuple[int, ...], kind: Any) -> Tensor:
        rng = np.random.default_rng(self.draw.between(0, 1 << 16))
        made = tensor(rng.integers(low, high, shape), device=self.device, dtype=kind)
        self.leaves.append(made)
        return made

    def axis(self, x: Tensor) -> int:
        return self.draw.between(0, x.ndim - 1)

    def like(self, x: Tensor) -> Tensor:
        """A tensor that x can be broadcast with: of the pool, or new, some axes of size 1."""
        known = [p for p in self.pool if _fit(p.shape, x.shape) and p.dtype is x.dtype]
        if known and self.draw.between(0, 2):
            return self.draw.one_of(known)
        lead = self.draw.between(0, x.ndim)
        return self.leaf(tuple(n if self.draw.between(0, 2) else 1 for n in x.shape[lead:]))

    def of_whole(self) -> Tensor:
        if not self.whole or not self.draw.between(0, 3):
            shape = tuple(self.draw.one_of(SIZES) for _ in range(self.draw.between(0, 2)))
            kind = self.draw.one_of((tgrad.int64, tgrad.int32, tgrad.int8, tgrad.uint8))
            self.whole.append(self.integers(0, 100, shape, kind))
        return self.draw.one_of(self.whole)

    def is_exact(self, x: Tensor) -> bool:
        return id(x) in self.exact or not x.dtype.is_float

    def moved(self, x: Tensor, y: Tensor) -> Tensor:
        """y, which holds elements of x."""
        if self.is_exact(x):
            self.exact.add(id(y))
            self.pool.append(y) if y.dtype.is_float else self.whole.append(y)
        return y


def _fit(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether they broadcast to a shape that is not much larger."""
    pairs = zip(reversed(a), reversed(b))
    if any(n != m and 1 not in (n, m) for n, m in pairs):
        return False
    wide = np.broadcast_shapes(a, b)
    return int(np.prod(wide)) <= LARGEST


Made = Tensor | tuple[Tensor, ...] | None

# -- elementwise ---------------------------------------------------------------------------------


def unary(g: RandomGraph, x: Tensor) -> Made:
    return g.draw.one_of(
        (
            Tensor.tanh, Tensor.neg, Tensor.abs, Tensor.sigmoid, Tensor.sin, Tensor.relu, F.gelu,
            lambda x: (x.abs() + 0.5).log(), lambda x: (x.abs() + 0.5).rsqrt(),
            lambda x: x.clamp(-1, 1).exp(), lambda x: x.clamp(-0.5, 2), F.silu, Tensor.erf,
        )
    )(x)  # fmt: skip


def binary(g: RandomGraph, x: Tensor) -> Made:
    y = g.like(x)
    return g.draw.one_of(
        (
            lambda: (x * y).tanh(), lambda: x + y, lambda: x - y, lambda: x / (y.abs() + 0.5),
            lambda: x.maximum(y), lambda: y.lerp(x, 0.25), lambda: (x * 0.5).hypot(y),
        )
    )()  # fmt: skip


def where(g: RandomGraph, x: Tensor) -> Made:
    known = [p for p in g.pool if g.is_exact(p) and _fit(p.shape, x.shape)]
    if not known:
        return None
    decides = g.draw.one_of(known)
    condition = g.draw.one_of((Tensor.lt, Tensor.ge, Tensor.ne))(decides, 0.25)
    return g.draw.one_of(
        (
            lambda: x.where(condition, g.like(x).sum()), lambda: (x * 1).where(condition, -1.5),
            lambda: x.masked_fill(condition.broadcast_to(np.broadcast_shapes(
                condition.shape, x.shape)), 0.0) if _covers(x, condition) else None,
        )
    )()  # fmt: skip


def _covers(x: Tensor, y: Tensor) -> bool:
    return np.broadcast_shapes(x.shape, y.shape) == x.shape


def integer(g: RandomGraph, x: Tensor) -> Made:
    """Integers: overflow, division, shifts, comparisons, and floats of them."""
    a = g.of_whole()
    b = a.flip(tuple(range(a.ndim))) if a.ndim else a
    if a.dtype.is_bool:
        made = g.draw.one_of((a & ~b, a ^ b, a.any(), a.sum(), a.to(tgrad.int32)))
    else:
        made = g.draw.one_of(
            (
                a + b, a * b, a - b * 3, a // 7, a % 5, a // (b | 1), a % (b | 1), a & b, a ^ 21,
                (a & 3) << 2, a >> 1, a < b, a == b, a.sum(), a.cumsum(0) if a.ndim else a,
                -a, a.to(tgrad.int8), a.maximum(b), a.abs(),
            )
        )  # fmt: skip
    g.whole.append(made)
    as_float = (made.to(g.dtype) * 0.01).sin()
    return as_float if made.numel() <= LARGEST else None


# -- movement ------------------------------------------------------------------------------------


def flip(g: RandomGraph, x: Tensor) -> Made:
    return g.moved(x, x.flip(g.axis(x))) if x.ndim else None


def pad(g: RandomGraph, x: Tensor) -> Made:
    if not x.ndim or x.numel() > LARGEST // 2:
        return None
    least = [-1 if n > 2 else 0 for n in reversed(x.shape) for _ in ("low", "high")]
    sizes = [g.draw.between(n, n + 2) for n in least]
    n = x.shape[-1]
    if n > 3 and x.ndim > 1 and g.draw.between(0, 2) == 0:
        return g.moved(x, F.pad(x, (1, 2), mode=g.draw.one_of(("reflect", "replicate", "circular")))
                       if x.ndim in (2, 3) and x.numel() else x)  # fmt: skip
    return g.moved(x, F.pad(x, sizes, value=g.draw.one_of((0.0, 0.75))))


def reshape(g: RandomGraph, x: Tensor) -> Made:
    n = x.numel()
    if not n:
        return g.moved(x, x.reshape(*x.shape[::-1]))
    divisors = [d for d in range(1, n + 1) if n % d == 0]
    d = g.draw.one_of(divisors)
    rest = [e for e in range(1, n // d + 1) if (n // d) % e == 0]
    e = g.draw.one_of(rest)
    return g.moved(x, x.reshape(*g.draw.one_of(((d, n // d), (d, e, n // d // e)))))


def permute(g: RandomGraph, x: Tensor) -> Made:
    axes, order = list(range(x.ndim)), []
    while axes:
        order.append(axes.pop(g.draw.between(0, len(axes) - 1)))
    return g.moved(x, x.permute(order)) if order else None


def expand(g: RandomGraph, x: Tensor) -> Made:
    if x.numel() > LARGEST // 3 or x.ndim > 3:
        return None
    axis = g.draw.between(0, x.ndim)
    n = g.draw.between(0, 3)
    return g.moved(x, x.unsqueeze(axis).expand(*x.shape[:axis], n, *x.shape[axis:]))


def cut(g: RandomGraph, x: Tensor) -> Made:
    if not x.ndim:
        return None
    axis = g.axis(x)
    n = x.shape[axis]
    item: list[Any] = [slice(None)] * x.ndim
    start = g.draw.between(0, n)
    stop = g.draw.between(start, n) if g.draw.between(0, 1) else n
    item[axis] = slice(start, stop, g.draw.between(1, 3))
    if n and g.draw.between(0, 4) == 0:
        item[axis] = g.draw.between(0, n - 1)
    return g.moved(x, x[tuple(item)])


def window(g: RandomGraph, x: Tensor) -> Made:
    if not 0 < x.ndim < 5 or x.numel() > LARGEST // 3:
        return None
    axis, size, dilation = g.axis(x), g.draw.between(1, 3), g.draw.between(1, 2)
    if x.shape[axis] < dilation * (size - 1) + 1:
        return None
    return g.moved(x, x._window(axis, size, g.draw.between(1, 3), dilation))


def join(g: RandomGraph, x: Tensor) -> Made:
    if not x.ndim or x.numel() > LARGEST // 2:
        return None
    axis = g.axis(x)
    other = [
        p
        for p in g.pool
        if p.ndim == x.ndim
        and p.dtype is x.dtype
        and p.shape[:axis] == x.shape[:axis]
        and p.shape[axis + 1 :] == x.shape[axis + 1 :]
    ]
    return tgrad.cat([x, g.draw.one_of(other or [x]) * 2, x[:0] if axis == 0 else x], axis)


def triangle(g: RandomGraph, x: Tensor) -> Made:
    if x.ndim < 2:
        return None
    k = g.draw.between(-2, 2)
    return g.draw.one_of(
        (lambda: x.tril(k), lambda: x.triu(k), lambda: x.roll(k, 0), lambda: x.diagonal(k))
    )()


# -- reductions and scans ------------------------------------------------------------------------


def reduce(g: RandomGraph, x: Tensor) -> Made:
    if not x.ndim:
        return None
    axes = sorted({g.axis(x) for _ in range(g.draw.between(1, 2))})
    keep = bool(g.draw.between(0, 1))
    names = ["sum", "mean", "var"] if 0 in (x.shape[a] for a in axes) else [
        "sum", "mean", "amax", "amin", "logsumexp", "var_mean"]  # fmt: skip
    name = g.draw.one_of(names)
    if name == "var":
        return x.sum(axes, keepdim=keep)
    if name == "var_mean":
        var, mean = tgrad.var_mean(x, axes, correction=0, keepdim=keep)
        return var.clamp(max=4.0), mean
    made = getattr(x, name)(axes, keepdim=keep)
    return g.moved(x, made) if name in ("amax", "amin") else made * 0.5


def normalise(g: RandomGraph, x: Tensor) -> Made:
    if not x.ndim or not x.numel():
        return None
    axis = g.axis(x)
    return g.draw.one_of(
        (
            lambda: x.softmax(axis), lambda: x.log_softmax(axis) * 0.1,
            lambda: F.layer_norm(x, x.shape[-1:], eps=0.1),
            lambda: F.rms_norm(x, x.shape[-1:], eps=0.1),
            lambda: (x - x.mean(axis, keepdim=True)) * (x.var(axis, 0, True) + 0.1).rsqrt(),
        )
    )()  # fmt: skip


def scan(g: RandomGraph, x: Tensor) -> Made:
    if not x.ndim:
        return None
    axis = g.axis(x)
    return g.draw.one_of(
        (
            lambda: x.cumsum(axis) * 0.2, lambda: x.tanh().cumprod(axis),
            lambda: x.cummax(axis).values if x.shape[axis] else x, lambda: x.logcumsumexp(axis),
            lambda: x[..., :1].expand(x.shape).cumsum(axis) * 0.2,
        )
    )()  # fmt: skip


def argument(g: RandomGraph, x: Tensor) -> Made:
    """Places of extrema, orders and counts of exact values."""
    known = [p for p in g.pool if g.is_exact(p) and p.ndim and p.numel()]
    if not known or g.special:
        return None
    x = g.draw.one_of(known)
    axis = g.axis(x)
    k = g.draw.between(1, x.shape[axis])
    return g.draw.one_of(
        (
            lambda: x.argmax(axis), lambda: x.argmin(axis), lambda: x.sort(axis).values,
            lambda: x.argsort(axis, stable=True), lambda: x.topk(k, axis).values,
            lambda: x.max(axis).values, lambda: (x > 0.1).sum(axis), lambda: x.median(axis).values,
            lambda: (x > 0.1).any(axis),
        )
    )()  # fmt: skip


# -- indexing ------------------------------------------------------------------------------------


def gather(g: RandomGraph, x: Tensor) -> Made:
    if not x.ndim:
        return None
    axis = g.axis(x)
    n, count = x.shape[axis], g.draw.between(0, 4)
    if not n or x.numel() // n * count > LARGEST:
        return None
    kind = g.draw.one_of((tgrad.int64, tgrad.int32))
    rows = g.integers(0, n, (count,), kind)
    if g.draw.between(0, 1):
        return g.moved(x, x.index_select(axis, rows))
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    return g.moved(x, x.gather(axis, g.integers(0, n, shape, tgrad.int64)))


def scatter(g: RandomGraph, x: Tensor) -> Made:
    if not x.ndim:
        return None
    axis = g.axis(x)
    n, count = x.shape[axis], g.draw.between(0, 4)
    if not n:
        return None
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    if int(np.prod(shape)) > LARGEST:
        return None
    source, index = g.leaf(shape), g.integers(0, n, shape, tgrad.int64)
    how = g.draw.one_of(("sum", "amax", "amin", "add", "rows"))
    if how == "add":
        return x.scatter_add(axis, index, source)
    if how == "rows":
        return x.index_add(axis, g.integers(0, n, (count,), tgrad.int64), source)
    return x.scatter_reduce(axis, index, source, how, include_self=bool(g.draw.between(0, 1)))


# -- contraction ---------------------------------------------------------------------------------


def dot(g: RandomGraph, x: Tensor) -> Made:
    if not x.ndim or x.shape[-1] > 40:
        return None
    k, n = x.shape[-1], g.draw.one_of(SIZES)
    if x.numel() // max(k, 1) * n > LARGEST:
        return None
    same = [p for p in g.pool if p.shape == x.shape and p.dtype is x.dtype]
    form = g.draw.between(0, 3)
    if form == 0 and x.ndim > 1 and x.shape[-2] * x.numel() // max(k, 1) <= LARGEST:
        return (x @ g.draw.one_of(same).mT) * 0.2
    if form == 1:
        return F.linear(x, g.leaf((n, k)), g.leaf((n,))) * 0.3
    if form == 2 and x.ndim > 1:
        return (g.leaf((g.draw.one_of(SIZES), x.shape[-2])) @ x) * 0.3 if x.numel() < 200 else None
    return (x @ g.leaf((k, n))) * 0.3


def convolve(g: RandomGraph, x: Tensor) -> Made:
    if x.ndim not in (3, 4) or x.numel() > LARGEST or min(x.shape) < 1 or x.shape[1] > 8:
        return None
    rank, channels, out = x.ndim - 2, x.shape[1], g.draw.one_of((1, 2, 5))
    size = tuple(g.draw.between(1, min(3, n)) for n in x.shape[2:])
    function = F.conv1d if rank == 1 else F.conv2d
    stride, padding = g.draw.between(1, 2), g.draw.between(0, 1)
    if g.draw.between(0, 3) == 0:
        weight = g.leaf((channels, 1, *size))
        return function(x, weight, None, stride, padding, 1, channels) * 0.3
    return function(x, g.leaf((out, channels, *size)), g.leaf((out,)), stride, padding) * 0.3


def pool(g: RandomGraph, x: Tensor) -> Made:
    if x.ndim not in (3, 4) or min(x.shape) < 2:
        return None
    names = ("max_pool1d", "avg_pool1d") if x.ndim == 3 else ("max_pool2d", "avg_pool2d")
    return getattr(F, g.draw.one_of(names))(x, 2, g.draw.between(1, 2))


def attend(g: RandomGraph, x: Tensor) -> Made:
    if x.ndim not in (2, 3) or not x.numel() or x.shape[-1] > 33:
        return None
    other = g.leaf((*x.shape[:-2], g.draw.between(1, 5), x.shape[-1]))
    if g.draw.between(0, 1):
        return F.scaled_dot_product_attention(x, x * 0.5, x, is_causal=True)
    return F.scaled_dot_product_attention(x, other, other)


STEPS: tuple[Callable[[RandomGraph, Tensor], Made], ...] = (
    unary, unary, binary, binary, where, integer, flip, pad, reshape, permute, expand, cut, window,
    join, triangle, reduce, reduce, normalise, scan, argument, gather, scatter, dot, dot, convolve,
    pool, attend,
)  # fmt: skip


def random_graph(draw: Draw, device: str, requires_grad: bool = False) -> RandomGraph:
    """A graph of up to nine steps."""
    g = RandomGraph(draw, device, requires_grad)
    g.grow(draw.between(1, 9))
    return g


class Outputs(list[Tensor]):
    """Of a graph. Hypothesis prints what it drew, and a tensor that is printed is computed: the
    graph that a failure is repeated with would be another."""

    def __repr__(self) -> str:
        return f"<outputs {', '.join(f'{t.dtype}{list(t.shape)}' for t in self)}>"


@st.composite
def graphs(draw: Any, device: str, requires_grad: bool = False) -> list[Tensor]:
    """The outputs of a random graph."""
    return Outputs(random_graph(FromHypothesis(draw), device, requires_grad).outputs())


# -- against the oracle --------------------------------------------------------------------------


def with_gradients(outputs: Sequence[Tensor]) -> list[Node]:
    """The nodes of the outputs, and of the gradients of the sum of their squares."""
    nodes = [t._node for t in outputs]
    parts = [(t.float() * t.float()).sum() for t in outputs if t.requires_grad]
    if not parts:
        return nodes
    loss: Any = sum(parts)
    leaves = {n for n in toposort([loss._node]) if is_leaf_mark(n)}
    marks = sorted(leaves, key=lambda n: n.attr("params")[0])
    found = gradients(loss._node, make(Op.CONST, value=1.0, dtype=loss.dtype), marks)
    return [*nodes, *(g for g in found if g is not None)]


def check_nodes(nodes: Sequence[Node], device: str) -> None:
    """What a device computes, all as one plan, is what the graph interpreter computes."""
    wanted = bounded(nodes)
    for got, want in zip(realizing.realize(nodes, Device(device)), wanted, strict=True):
        assert_within(got.numpy(), want)
