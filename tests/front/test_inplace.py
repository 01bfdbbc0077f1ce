"""Values given in place, as PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
from tests.front.checking import check, classes, normal
from tgrad.errors import DTypeError, GradientError, ShapeError

X, Y = normal(1, 3, 5), normal(2, 3, 5)


def after(change):
    """A function that changes a copy of its first argument in place, and returns it."""

    def function(p, x, *others):
        x = x * 1  # not a leaf
        result = change(p, x, *others)
        return x if result is None else result

    return function


CHANGES = {
    "add_": (lambda p, x, y: x.add_(y, alpha=2), [X, Y]),
    "operators": (lambda p, x, y: x.sub_(y).mul_(2).div_(y.abs() + 1), [X, Y]),
    "zero_fill": (lambda p, x: x.zero_().fill_(3), [X]),
    "copy_": (lambda p, x, y: x.copy_(y[0]), [X, Y]),
    "functions": (lambda p, x: x.neg_().tanh_(), [X]),
    "clamp_relu": (lambda p, x: x.clamp_(-1, 0.5).relu_(), [X]),
    "masked_fill_": (lambda p, x, m: x.masked_fill_(m, 2.0), [X, Y > 0]),
    "addc": (lambda p, x, y: x.addcmul_(y, y, value=0.5).addcdiv_(y, y.abs() + 1), [X, Y]),
    "scatter_": (lambda p, x, i, y: x.scatter_add_(0, i, y), [X, classes(1, 3, 2, 5), Y[:2]]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_change(name, device):
    function, arrays = CHANGES[name]
    check(after(function), arrays, device)


def assign(index, *more):
    def change(p, x, *values):
        x[index] = values[0] if values else more[0]

    return change


ASSIGNMENTS = {
    "row": (assign(1), [X, Y[0]]),
    "row_broadcast": (assign(1), [X, Y[0, :1]]),
    "slice": (assign((slice(1, None), slice(0, 2))), [X, Y[1:, :2]]),
    "steps": (assign((slice(None), slice(0, None, 2))), [X, Y[:, ::2]]),
    "steps_inside": (assign((slice(0, 3, 2), slice(1, 5, 3))), [X, Y[::2, 1::3]]),
    "element": (assign((0, -1), 7.0), [X]),
    "all": (assign(slice(None), 2.5), [X]),
    "ellipsis": (assign((..., 2)), [X, Y[:, 2]]),
    "new_axis": (assign((None, 1)), [X, Y[0]]),
    "empty": (assign(slice(2, 2), 1.0), [X]),
    "list": (assign([0, 2]), [X, Y[:2]]),
    "list_of_columns": (assign((slice(None), [3, 0]), 0.0), [X]),
    "mask": (lambda p, x, m: x.__setitem__(m, -1.0), [X, Y > 0]),
    "mask_of_rows": (lambda p, x, m: x.__setitem__(m, -1.0), [X, Y[:, 0] > 0]),
    "int": (assign((slice(None), 1), 9), [classes(1, 5, 3, 4)]),
}


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_assignment(name, device):
    function, arrays = ASSIGNMENTS[name]
    check(after(function), arrays, device)


def test_what_was_computed_before_stays():
    x = tgrad.ones(3, device="numpy")
    y = x * 2
    x.add_(1)
    assert y.tolist() == [2.0] * 3 and x.tolist() == [2.0] * 3


def test_dtype_stays_as_in_pytorch():
    for kind in ("float16", "int32"):
        x = tgrad.ones(2, dtype=getattr(tgrad, kind), device="numpy")
        x += tgrad.ones(2, dtype=getattr(tgrad, kind), device="numpy")
        assert x.dtype.name == kind
    x = tgrad.ones(2, dtype=tgrad.float16, device="numpy")
    x += tgrad.ones(2, device="numpy")
    assert x.dtype is tgrad.float16
    with pytest.raises(RuntimeError):
        torch.ones(2, dtype=torch.int32).add_(1.5)
    with pytest.raises(DTypeError, match="add_ gives float32, which does not fit int32"):
        tgrad.ones(2, dtype=tgrad.int32, device="numpy").add_(1.5)


def test_shape_stays():
    with pytest.raises(ShapeError, match=r"add_ gives shape \(2, 3\), which does not fit"):
        tgrad.ones(3, device="numpy").add_(tgrad.ones(2, 3, device="numpy"))


def test_a_state_dict_is_for_writing():
    layer = tgrad.nn.Linear(2, 2, device="numpy")
    layer.state_dict()["weight"].zero_()
    assert not layer.weight.any() and layer.weight.requires_grad


def test_leaves_change_under_no_grad_only():
    w = tgrad.ones(2, device="numpy").requires_grad_()
    with pytest.raises(GradientError, match="a leaf that requires a gradient is changed in place"):
        w.mul_(2)
    with tgrad.no_grad():
        w.mul_(2)
        w[0] = 5
    assert w.requires_grad and w.is_leaf
    (w * w).sum().backward()
    assert w.grad.tolist() == [10.0, 4.0]


def test_data_gives_a_leaf_new_values():
    w = tgrad.ones(2, device="numpy").requires_grad_()
    w.data = tgrad.zeros(3, device="numpy")
    assert w.shape == (3,) and w.requires_grad and w.tolist() == [0.0] * 3


def test_gradient_of_a_value_changed_in_place(device):
    """As PyTorch: the gradient is that of the values that were used."""
    x = tgrad.tensor(X, device=device, requires_grad=True)
    y = x * 2
    z = y * y
    y.add_(1)
    (z.sum() + y.sum()).backward()
    np.testing.assert_allclose(x.grad.numpy(), 8 * X + 2, rtol=1e-6)


def test_operators_change_their_left_side(device):
    changes = {
        "__iand__": 3, "__ior__": 4, "__ixor__": 1, "__ilshift__": 2, "__irshift__": 1,
        "__ifloordiv__": 2, "__imod__": 5, "__ipow__": 2,
    }  # fmt: skip
    ours, theirs = tgrad.tensor([1, 2, 7], device=device), torch.tensor([1, 2, 7])
    kept = ours
    for name, value in changes.items():
        ours, theirs = getattr(ours, name)(value), getattr(theirs, name)(value)
    assert kept is ours and ours.tolist() == theirs.tolist()
    mask = same = tgrad.tensor([True, True, False], device=device)
    mask &= tgrad.tensor([False, True, True], device=device)
    assert same.tolist() == [False, True, False]


@pytest.mark.parametrize(
    "write",
    [
        lambda x, new: x.copy_(new),
        lambda x, new: x.copy_(new[:1]),
        lambda x, new: x.view(-1).copy_(new),
        lambda x, new: x.__setitem__(slice(None), new),
        lambda x, new: x.__setitem__(..., new),
    ],
)
def test_what_is_overwritten_by_computed_values_has_zeros_as_gradient(write):
    found = []
    for library in (tgrad, torch):
        old, new = (library.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
        x = old * 1
        write(x, new * 3)
        (x * x).sum().backward()
        found.append([old.grad.tolist(), new.grad.tolist()])
    assert found[0] == found[1]


@pytest.mark.parametrize("change", ["slice_scatter", "select_scatter"])
def test_what_is_replaced_by_numbers_has_zeros_as_gradient(change):
    x = tgrad.ones(1, 2, requires_grad=True)
    new = tgrad.ones(1, 2) if change == "slice_scatter" else tgrad.ones(2)
    getattr(x * 2, change)(new, 0, 0).sum().backward()
    assert x.grad.tolist() == [[0, 0]]
