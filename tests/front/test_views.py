"""Writes through views, seen by the base and its other views: random programs beside PyTorch."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import tgrad
from tgrad import nn, optim
from tgrad.errors import DTypeError, GradientError, ShapeError, UnsupportedError

PROGRAMS = 60
STEPS = 14
OVERLAPPING = ("expand", "unfold")
"""Views of which several elements are one in memory: not written to."""

View = Callable[[Any, random.Random], Callable[[Any], Any]]


def axis_of(shape: tuple[int, ...], rng: random.Random) -> int:
    return rng.randrange(len(shape))


def index(t: Any, rng: random.Random) -> Callable[[Any], Any]:
    axis = axis_of(t.shape, rng)
    at = rng.randrange(t.shape[axis])
    return lambda x: x.select(axis, at)


def slices(t: Any, rng: random.Random) -> Callable[[Any], Any]:
    picked = []
    for n in t.shape:
        start = rng.randrange(n)
        picked.append(slice(start, rng.randrange(start, n) + 1, rng.randint(1, 2)))
    return lambda x: x[tuple(picked)]


def permute(t: Any, rng: random.Random) -> Callable[[Any], Any]:
    axes = rng.sample(range(t.ndim), t.ndim)
    return lambda x: x.permute(axes)


def reshape(t: Any, rng: random.Random) -> Callable[[Any], Any]:
    n = t.numel()
    divisors = [d for d in range(1, n + 1) if n % d == 0]
    first = rng.choice(divisors)
    return lambda x: x.reshape(first, n // first)


VIEWS: dict[str, View] = {
    "index": index,
    "slices": slices,
    "permute": permute,
    "reshape": reshape,
    "flatten": lambda t, rng: lambda x: x.flatten(),
    "unsqueeze": lambda t, rng: lambda x: x.unsqueeze(1),
    "squeeze": lambda t, rng: lambda x: x.squeeze(),
    "t": lambda t, rng: lambda x: x.transpose(0, -1),
    "expand": lambda t, rng: lambda x: x.unsqueeze(0).expand(2, *x.shape),
    "diagonal": lambda t, rng: lambda x: x.diagonal(0, 0, -1),
    "contiguous": lambda t, rng: lambda x: x.contiguous(),
    "detach": lambda t, rng: lambda x: x.detach(),
    "unfold": lambda t, rng: lambda x: x.unfold(0, 2, 1),
    "new": lambda t, rng: lambda x: x * 1,
    "clone": lambda t, rng: lambda x: x.clone(),
    "sum of both orders": lambda t, rng: lambda x: x + x.transpose(0, -1).reshape(x.shape),
    "with a row": lambda t, rng: lambda x: x + x[:1],
    "tanh": lambda t, rng: lambda x: x.flip(0).tanh(),
    "like": lambda t, rng: lambda x: x.new_ones(x.shape) + x.detach() * 0,
    "where": lambda t, rng: lambda x: x.where(x > 0, x.transpose(0, -1).reshape(x.shape)),
    "softmax": lambda t, rng: lambda x: x.softmax(0),
    "masked": lambda t, rng: lambda x: x.masked_fill(x > 1, 1.0),
    "reduced": lambda t, rng: lambda x: x.sum(0, keepdim=True) + x.transpose(0, -1).sum(0),
    "rows": lambda t, rng: lambda x: x[[0, -1, 0]],
    "sorted": lambda t, rng: lambda x: x.sort(0)[0],
}
COMPUTED = tuple(VIEWS)[list(VIEWS).index("new") :]
"""What lives in a memory of its own, with the strides that PyTorch gives it."""


def change(t: Any, rng: random.Random) -> Callable[[Any], Any]:
    value, kind = rng.randint(1, 9) / 4, rng.randrange(6)
    if kind == 0:
        return lambda x: x.add_(value)
    if kind == 1:
        return lambda x: x.mul_(value)
    if kind == 2:
        return lambda x: x.fill_(value)
    if kind == 3:
        return lambda x: x.copy_(x.flip(0))
    if kind == 4:
        return lambda x: x.__setitem__(0, value)

    def increment(x: Any) -> None:
        x[-1] += value

    return increment


def run_both(mine: Any, theirs: Any, step: Callable[[Any], Any]) -> tuple[Any, Any] | None:
    """The results of a step, or None where PyTorch refuses it."""
    try:
        want = step(theirs)
    except (RuntimeError, IndexError):
        return None
    return step(mine), want


@pytest.mark.parametrize("with_gradient", [False, True], ids=["plain", "gradient"])
@pytest.mark.parametrize("seed", range(PROGRAMS))
def test_random_programs(seed: int, with_gradient: bool, device: str) -> None:
    rng = random.Random(seed)
    array = np.random.default_rng(seed).normal(size=(3, 4, 2)[: rng.randint(1, 3)])
    mine = [tgrad.tensor(array, device=device, requires_grad=with_gradient)]
    theirs = [torch.tensor(array, requires_grad=with_gradient)]
    leaves = mine[0], theirs[0]
    mine[0], theirs[0] = mine[0] * 2, theirs[0] * 2
    writable = [True]
    for _ in range(STEPS):
        at = rng.randrange(len(mine))
        if theirs[at].ndim and theirs[at].numel() and rng.random() < 0.5:
            name = rng.choice(list(VIEWS))
            found = run_both(mine[at], theirs[at], VIEWS[name](theirs[at], rng))
            if found is not None:
                mine.append(found[0])
                theirs.append(found[1])
                is_new = name in COMPUTED
                writable.append(is_new or (writable[at] and name not in OVERLAPPING))
        elif rng.random() < 0.15 and len(mine) > 1:
            del mine[at], theirs[at], writable[at]
        elif rng.random() < 0.2:
            mine[at].realize()
        elif theirs[at].ndim and theirs[at].shape[0] and writable[at]:
            is_on = rng.random() < 0.8
            with tgrad.set_grad_enabled(is_on), torch.set_grad_enabled(is_on):
                if not write_both(mine[at], theirs[at], change(theirs[at], rng)):
                    return
    for a, b in zip(mine, theirs):
        assert a.shape == b.shape
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-12)
        assert a.requires_grad == b.requires_grad
    if with_gradient:
        compare_gradients(mine, theirs, leaves)


def write_both(mine: Any, theirs: Any, step: Callable[[Any], Any]) -> bool:
    """Whether tgrad knows what PyTorch does; it says so where strides do not tell."""
    before = theirs.detach().clone()
    try:
        step(theirs)
    except RuntimeError:
        assert torch.equal(theirs.detach(), before)
        return True
    try:
        step(mine)
    except UnsupportedError as error:
        assert "of which a reshape may or may not be a copy" in str(error)
        return False
    return True


def compare_gradients(mine: list[Any], theirs: list[Any], leaves: tuple[Any, Any]) -> None:
    def total(tensors: list[Any]) -> Any:
        return sum((t * t).sum() for t in tensors if t.requires_grad)

    want = total(theirs)
    if not isinstance(want, torch.Tensor):
        return
    try:
        want.backward()
    except RuntimeError as error:  # tgrad keeps the values that a gradient needs
        assert "modified by an inplace operation" in str(error)
        return
    total(mine).backward()
    if leaves[1].grad is None:
        assert leaves[0].grad is None
    else:
        np.testing.assert_allclose(leaves[0].grad.numpy(), leaves[1].grad.numpy(), rtol=1e-10)


def test_the_statements_that_people_write(device: str) -> None:
    x, y = tgrad.ones(3, 4, device=device), torch.ones(3, 4)
    for t in (x, y):
        t[0] += 1
        t[1:3].add_(1)
        t.view(-1)[0] = 3
        t.t().mul_(2)
        t.diagonal().fill_(0)
        t[..., ::2][1:] -= 5
        for row in t:
            row.clamp_(max=3)
    np.testing.assert_array_equal(x.numpy(), y.numpy())


VIEWS_OF_A_MATRIX: dict[str, Callable[[Any], Any]] = {
    "index": lambda x: x[0],
    "reshape": lambda x: x.reshape(-1),
    "t": lambda x: x.t(),
    "expand": lambda x: x.expand(2, 2, 2),
    "detach": lambda x: x.detach(),
    "data": lambda x: x.data,
    "view of view": lambda x: x[0].reshape(2, 1)[0],
}


@pytest.mark.parametrize("name", VIEWS_OF_A_MATRIX)
def test_views_see_what_is_written_to_the_base(name: str) -> None:
    x, y = tgrad.ones(2, 2, device="numpy"), torch.ones(2, 2)
    views = [VIEWS_OF_A_MATRIX[name](t) for t in (x, y)]
    x.mul_(2)
    y.mul_(2)
    np.testing.assert_array_equal(views[0].numpy(), views[1].numpy())


@pytest.mark.parametrize("name", [n for n in VIEWS_OF_A_MATRIX if n != "expand"])
def test_the_base_sees_what_is_written_to_views(name: str) -> None:
    x, y = tgrad.ones(2, 2, device="numpy"), torch.ones(2, 2)
    for t in (x, y):
        VIEWS_OF_A_MATRIX[name](t).mul_(2)
    np.testing.assert_array_equal(x.numpy(), y.numpy())


def test_elements_that_are_one_in_memory_are_not_written() -> None:
    x = tgrad.ones(2, device="numpy")
    with pytest.raises(UnsupportedError, match="through expand: several elements of the view"):
        x.expand(3, 2).add_(1)
    with pytest.raises(UnsupportedError, match="through window: several elements of the view"):
        x.unfold(0, 1, 1).add_(1)
    strided = x.as_strided((2,), (0,))
    with pytest.raises(UnsupportedError, match="through as_strided: several elements of the view"):
        strided.add_(1)
    assert strided.tolist() == x.tolist() == [1.0, 1.0]


def write_to_strided(x: Any) -> Any:
    v = x.as_strided((2, 2), (5, 2), 1)
    v.mul_(10)
    v[0] = 7.0
    return v, x


def write_to_a_diagonal_of_columns(x: Any) -> Any:
    v = x.t().as_strided((3,), (5,))
    x.add_(1)
    v.fill_(-1.0)
    return v, x


def write_below_overlapping_views(x: Any) -> Any:
    v = x.as_strided((3, 2), (1, 1))
    x.add_(1)
    return v, x


def write_through_three_views(x: Any) -> Any:
    v = x.view(-1).as_strided((2, 3), (6, 2)).t()
    v[1:].copy_(x[:2, :2] * 2)
    return v, x


def write_to_a_contiguous_copy(x: Any) -> Any:
    copy = x.t().contiguous()
    copy.fill_(0.0)
    return copy, x


STRIDED_WRITES = [
    write_to_strided, write_to_a_diagonal_of_columns, write_below_overlapping_views,
    write_through_three_views, write_to_a_contiguous_copy,
]  # fmt: skip


@pytest.mark.parametrize("write", STRIDED_WRITES)
def test_writes_to_strided_views_reach_their_memory(write: Any) -> None:
    found = []
    for library in (tgrad, torch):
        start = library.arange(12.0).reshape(3, 4)
        plain = [t.tolist() for t in write(start.clone())]
        leaf = start.clone().requires_grad_()
        total = sum((t * t).sum() for t in write(leaf * 2))
        total.backward()
        found.append([plain, leaf.grad.tolist()])
    assert found[0] == found[1]


def test_a_copy_of_a_view_of_a_leaf_is_changed() -> None:
    for library in (tgrad, torch):
        w = library.ones(3, 4, requires_grad=True)
        copy = w.t().contiguous()
        copy.mul_(2.0)
        copy.sum().backward()
        assert w.grad.tolist() == [[2.0] * 4] * 3
        assert w.tolist() == [[1.0] * 4] * 3


STRIDED: list[Callable[[Any], Any]] = [
    lambda x: x.t().as_strided((3, 2), (1, 5)),
    lambda x: x.t().as_strided((2, 2, 2), (4, 1, 2), 1),
    lambda x: x[1:].as_strided((2, 3), (3, 1)),
    lambda x: x.view(2, 2, 6).permute(1, 2, 0).as_strided((4, 5), (3, 2)),
    lambda x: (x.t() * 2).as_strided((5,), (3,)),
    lambda x: x.t().contiguous().as_strided((5,), (3,)),
    lambda x: x.t().as_strided_scatter(x.t()[:2, :3] * 7, (2, 3), (7, 2)),
]


@pytest.mark.parametrize("number", range(len(STRIDED)))
def test_strides_count_as_elements_lie(number: int) -> None:
    values = np.arange(24, dtype=np.float32).reshape(4, 6)
    mine, theirs = (STRIDED[number](m.tensor(values)) for m in (tgrad, torch))
    np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


def test_strides_over_gaps_are_refused() -> None:
    x = tgrad.zeros(4, 6, device="numpy")
    with pytest.raises(UnsupportedError, match="part of its memory"):
        x[:, ::2].as_strided((2, 2), (6, 1))
    with pytest.raises(UnsupportedError, match="with an offset"):
        x[1:].as_strided((2, 2), (6, 1), 0)


def test_views_of_leaves() -> None:
    w = tgrad.ones(3, device="numpy", requires_grad=True)
    with pytest.raises(GradientError, match="a view of a leaf that requires a gradient is changed"):
        w[0].mul_(2)
    with tgrad.no_grad():
        w[0].mul_(2)
    w.detach()[1:].zero_()
    assert w.is_leaf and w.requires_grad and w.tolist() == [2.0, 0.0, 0.0]
    (w * w).sum().backward()
    assert w.grad is not None and w.grad.tolist() == [4.0, 0.0, 0.0]


def test_copies_of_leaves_are_not_views_of_them() -> None:
    """A roll is one, though it is written with a reshape that could be a view."""
    gradients = []
    for library in (tgrad, torch):
        w = library.arange(4.0).requires_grad_()
        y = w.roll(1)
        y[1:].mul_(3)
        y.sum().backward()
        gradients.append((y.tolist(), w.tolist(), w.grad.tolist()))
    assert gradients[0] == gradients[1]


@pytest.mark.parametrize("take", ["diagonal", "row", "column", "squeezed"])
def test_views_of_memory_of_unknown_strides(take: str) -> None:
    """Where only axes of one element come and go, no stride is needed to know a view."""
    views = {
        "diagonal": lambda x: x.t().diagonal(1),
        "row": lambda x: x.t().diagonal()[1],
        "column": lambda x: x.t().diagonal()[::2],
        "squeezed": lambda x: x.t().diagonal().unsqueeze(1).squeeze(),
    }
    values = []
    for library in (tgrad, torch):
        x = library.ones(3, 7)
        views[take](x).mul_(3)
        values.append(x.tolist())
    assert values[0] == values[1]


def test_parameters_share_memory_with_their_data() -> None:
    data = tgrad.zeros(2, device="numpy")
    p = nn.Parameter(data)
    data.add_(1)
    assert p.tolist() == [1.0, 1.0]
    with tgrad.no_grad():
        p.mul_(3)
    assert data.tolist() == [3.0, 3.0]


def test_an_optimizer_is_seen_through_views(device: str) -> None:
    p = nn.Parameter(tgrad.ones(2, 2, device=device))
    row, apart = p.detach()[0], p.detach().clone()
    optimizer = optim.SGD([p], lr=0.5)
    p.sum().backward()
    optimizer.step()
    assert row.tolist() == [0.5, 0.5] and apart.tolist() == [[1.0, 1.0]] * 2


def test_a_view_alone_lets_go_of_the_rest() -> None:
    x = tgrad.ones(4, device="numpy") * 2
    row = x[1:3]
    del x
    row.realize()
    assert row.add_(1).tolist() == [3.0, 3.0]
    assert row._memory is None


def test_out() -> None:
    x, y = tgrad.ones(2, 3, device="numpy"), tgrad.zeros(3, 2, device="numpy")
    result = tgrad.add(x, 1, out=y.t())
    assert y.tolist() == [[2.0] * 2] * 3 and result.shape == (2, 3)
    values, places = (
        tgrad.zeros(2, device="numpy"),
        tgrad.zeros(2, dtype=tgrad.int64, device="numpy"),
    )
    tgrad.max(x, 1, out=(values, places))
    assert values.tolist() == [1.0, 1.0] and places.tolist() == [0, 0]
    empty = tgrad.empty(0, device="numpy")
    assert tgrad.matmul(x, y, out=empty) is empty and empty.shape == (2, 2)
    with pytest.raises(ShapeError, match=r"out= of shape \(2, 3\) for a result of shape \(3, 2\)"):
        tgrad.exp(y, out=x)
    with pytest.raises(DTypeError, match="out= gives float32, which does not fit int64"):
        tgrad.exp(x, out=tgrad.zeros(2, 3, dtype=tgrad.int64, device="numpy"))
    with pytest.raises(GradientError, match="out= of operands that require gradients"):
        tgrad.exp(nn.Parameter(x), out=tgrad.zeros(2, 3, device="numpy"))


def test_strides_and_facts() -> None:
    x, y = tgrad.ones(2, 3, 4, device="numpy"), torch.ones(2, 3, 4)
    for view in (
        lambda t: t,
        lambda t: t.permute(2, 0, 1),
        lambda t: t[:, 1:, ::2],
        lambda t: t.transpose(0, 1).reshape(3, 8),
        lambda t: t.transpose(0, 1).contiguous(),
        lambda t: t[0].expand(5, 3, 4),
        lambda t: t.unfold(2, 2, 1),
        lambda t: t.diagonal(0, 1, 2),
        lambda t: t[..., :1].squeeze(-1).t(),
    ):
        mine, theirs = view(x), view(y)
        assert mine.is_contiguous() == theirs.is_contiguous()
        assert [s for s, n in zip(mine.stride(), mine.shape) if n != 1] == [
            s for s, n in zip(theirs.stride(), theirs.shape) if n != 1
        ]
    for name in ("nbytes", "itemsize", "is_cuda"):
        assert getattr(x, name) == getattr(y, name)
    for name in ("nelement", "ndimension", "is_complex", "is_signed", "get_device"):
        assert getattr(x, name)() == getattr(y, name)()
    assert x.is_same_size(x + 1) and x[0, 0, 0].is_nonzero() and not x.is_cpu
    np.testing.assert_array_equal(x.cumsum(2).diff().numpy(), y.cumsum(2).diff().numpy())
    assert tgrad.ones(4).multinomial(3).shape == (3,) and x[0].cov().shape == (3, 3)


WHOLE: dict[str, Callable[[Any, Any], Any]] = {
    "view": lambda p, x: x.view(2, 3),
    "reshape": lambda p, x: x.reshape(-1, 3),
    "squeeze": lambda p, x: x.squeeze(),
    "expand": lambda p, x: x.expand(2, 3),
    "slice": lambda p, x: x[:],
    "unflatten": lambda p, x: x.unflatten(0, (2,)),
    "flatten": lambda p, x: x.flatten(1),
    "roll": lambda p, x: x.roll(0, 1),
    "repeat": lambda p, x: x.repeat(1, 1),
    "repeat_interleave": lambda p, x: x.repeat_interleave(1, 0),
    "pad": lambda p, x: p.nn.functional.pad(x, (0, 0)),
    "interpolate": lambda p, x: p.nn.functional.interpolate(x[None], size=3)[0],
    "unfold": lambda p, x: p.nn.functional.unfold(x[None, None], 1)[0, 0],
    "pixel_shuffle": lambda p, x: p.nn.functional.pixel_shuffle(x[None], 1),
    "pixel_unshuffle": lambda p, x: p.nn.functional.pixel_unshuffle(x[None], 1),
    "channel_shuffle": lambda p, x: p.nn.functional.channel_shuffle(x[None], 1),
    "slice_scatter": lambda p, x: p.slice_scatter(p.zeros(2, 3), x),
    "slice_scatter of nothing": lambda p, x: p.slice_scatter(x, x[:0], 0, 0, 0),
    "select_scatter": lambda p, x: p.select_scatter(p.zeros(1, 2, 3), x, 0, 0),
    "diff": lambda p, x: p.diff(x, 0),
    "round of integers": lambda p, x: _of_integers(p, x, "round"),
    "floor of integers": lambda p, x: _of_integers(p, x, "floor"),
    "ceil of integers": lambda p, x: _of_integers(p, x, "ceil"),
    "trunc of integers": lambda p, x: _of_integers(p, x, "trunc"),
    "nan_to_num of integers": lambda p, x: _of_integers(p, x, "nan_to_num"),
    "copy": lambda p, x: copy.copy(x),
    "deepcopy": lambda p, x: copy.deepcopy(x),
}


def _of_integers(p: Any, x: Any, name: str) -> Any:
    integers = x.long()
    getattr(integers, name)().add_(1)
    return x.copy_(integers)


@pytest.mark.parametrize("name", WHOLE)
def test_views_and_copies_of_all_elements(name):
    seen = []
    for library in (tgrad, torch):
        x = library.arange(6.0).view(2, 3).clone()
        y = WHOLE[name](library, x)
        y.add_(1)
        y.unsqueeze_(0)
        seen.append((y is x, x.tolist(), y.tolist()))
    assert seen[0] == seen[1]


OF_ONE_NUMBER: dict[str, Callable[[Any, Any], Any]] = {
    **{
        name: lambda p, x, name=name: getattr(x, name)()
        for name in ("sum", "mean", "prod", "max", "amax", "amin", "median", "nansum")
    },
    "min": lambda p, x: x.min(0).values,
    "cumsum": lambda p, x: x.cumsum(0),
    "cummax": lambda p, x: x.cummax(0).values,
    "logcumsumexp": lambda p, x: x.logcumsumexp(0),
    "sort": lambda p, x: x.sort().values,
    "topk": lambda p, x: x.topk(1).values,
    "kthvalue": lambda p, x: x.kthvalue(1).values,
    "mode": lambda p, x: x.mode().values,
}


@pytest.mark.parametrize("name", OF_ONE_NUMBER)
def test_what_is_computed_of_one_number_is_apart_from_it(name):
    seen = []
    for library in (tgrad, torch):
        x = library.tensor(2.0)
        OF_ONE_NUMBER[name](library, x).add_(1)
        leaf = library.tensor(2.0, requires_grad=True)
        y = OF_ONE_NUMBER[name](library, leaf)
        y.backward()
        seen.append((x.item(), y is leaf, y.is_leaf, leaf.grad.item()))
    assert seen[0] == seen[1]


def _through(change: Callable[[Any, Any, Any], Any]) -> Callable[[Any], Any]:
    """What is seen of a parameter over values `w`, and of a view of it, after a change."""

    def run(p: Any) -> Any:
        w = p.ones(3)
        leaf = p.nn.Parameter(w)
        view = leaf[:2]
        change(p, w, leaf)
        (view * view).sum().backward()
        return view.requires_grad, view.tolist(), w.tolist(), leaf.grad.tolist()

    return run


def _under_no_grad(change: Callable[[Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    def run(p: Any, w: Any, leaf: Any) -> None:
        with p.no_grad():
            change(w, leaf)

    return run


@pytest.mark.parametrize(
    "change",
    [
        lambda p, w, leaf: w.mul_(2),
        lambda p, w, leaf: leaf.data.mul_(2),
        _under_no_grad(lambda w, leaf: leaf.mul_(2)),
        _under_no_grad(lambda w, leaf: leaf[1:].mul_(2)),
        _under_no_grad(lambda w, leaf: w[1].fill_(5)),
    ],
    ids=["values", "data", "leaf", "view", "part of the values"],
)
def test_a_view_of_a_leaf_leads_to_it_though_the_leaf_is_an_alias_too(change):
    assert _through(change)(tgrad) == _through(change)(torch)


def test_a_view_of_a_leaf_that_is_an_alias_is_not_changed_with_gradients_on():
    w = tgrad.ones(3)
    view = nn.Parameter(w)[:2]
    with pytest.raises(GradientError, match="a view of a leaf"):
        view.mul_(2)


def test_copies_made_together_share_memory_as_their_originals_do():
    seen = []
    for library in (tgrad, torch):
        x = library.arange(6.0).reshape(2, 3)
        p = library.nn.Parameter(library.ones(2))
        y = (library.ones(2, requires_grad=True) * 2).detach()  # its base is gone
        group = [x, x[0], x.t(), x.detach(), y, y[:1], p, p.data]
        twins = copy.deepcopy(group)
        for number in (1, 3, 5, 7):
            twins[number].add_(1)
        twins[2][0] = 9
        seen.append([t.tolist() for t in (*group, *twins)])
    assert seen[0] == seen[1]


def test_copy_is_a_leaf_in_the_same_memory():
    seen = []
    for library in (tgrad, torch):
        x, p = library.ones(3), library.nn.Parameter(library.ones(3))
        y = p * 2
        twins = [copy.copy(t) for t in (x, p, y)]
        with library.no_grad():
            for t in twins:
                t.add_(1)
        kinds = [(isinstance(t, library.nn.Parameter), t.requires_grad, t.is_leaf) for t in twins]
        seen.append((kinds, [t.tolist() for t in (x, p, y, *twins)]))
    assert seen[0] == seen[1]


def test_detach_in_place_keeps_the_memory():
    seen = []
    for library in (tgrad, torch):
        x = library.ones(3, requires_grad=True)
        y = x.sigmoid()
        view, apart = y.view(3), x.detach()
        y.detach_().mul_(2)
        x.detach_().mul_(3)
        same = library.ones(3).detach().detach_()
        found = [t.tolist() for t in (x, y, view, apart, same)]
        seen.append((found, x.requires_grad, y.requires_grad, y.is_leaf, view.requires_grad))
    assert seen[0] == seen[1]
