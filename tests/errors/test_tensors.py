"""Mistakes with tensors: one a test, with the whole message."""

from __future__ import annotations

import numpy as np
import pytest

import tgrad
from tests.errors.mistakes import check_message, integers, zeros
from tgrad.errors import (
    DeviceError,
    DTypeError,
    GradientError,
    OutOfRangeError,
    ShapeError,
    UnsupportedError,
)

WEIGHT = zeros(2, requires_grad=True)

ALL_DTYPES = (
    "Use one of bool, uint8, uint16, uint32, uint64, int8, int16, int32, int64, float8_e4m3fn, "
    "float8_e5m2, float16, bfloat16, float32, float64."
)

SHAPES = {
    "add": (
        lambda: zeros(2, 3) + zeros(4),
        "shapes (2, 3) and (4,) cannot be broadcast together: sizes 3 and 4 at axis -1.\n"
        "Sizes must be equal or 1, counted from the last axis.",
    ),
    "matmul": (
        lambda: zeros(2, 3) @ zeros(4, 5),
        "matmul of shapes (2, 3) and (4, 5): the contracted sizes 3 and 4 differ.\n"
        "The last axis of the first must be as long as the second last of the second.",
    ),
    "matmul of a number": (
        lambda: zeros(()) @ zeros(4, 5),
        "matmul of shapes () and (4, 5).\nBoth need at least one axis.",
    ),
    "matmul of batches": (
        lambda: zeros(2, 3, 4) @ zeros(3, 4, 5),
        "shapes (2,) and (3,) cannot be broadcast together: sizes 2 and 3 at axis -1.\n"
        "Sizes must be equal or 1, counted from the last axis.",
    ),
    "mm": (
        lambda: zeros(3).mm(zeros(3, 5)),
        "mm of shapes (3,) and (3, 5).\nBoth need 2 axes.",
    ),
    "reshape": (
        lambda: zeros(2, 3).reshape(4, 2),
        "shape (2, 3) has 6 elements and cannot be reshaped to (4, 2) with 8.\n"
        "Give sizes with the same product; one may be -1.",
    ),
    "reshape with -1": (
        lambda: zeros(2, 3).reshape(4, -1),
        "shape (2, 3) cannot be reshaped to (4, -1).\n"
        "At most one size may be -1, and the others must divide the elements.",
    ),
    "dim": (lambda: zeros(2, 3).sum(2), "dim=2 of a tensor with 2 axes.\nUse -2 to 1."),
    "dim twice": (
        lambda: zeros(2, 3).sum((0, -2)),
        "an axis stands twice in dim=(0, -2).\nName each axis once.",
    ),
    "permute": (
        lambda: zeros(2, 3).permute(0, 0),
        "permute of shape (2, 3) by (0, 0).\nName each axis once.",
    ),
    "expand": (
        lambda: zeros(2, 3).expand(2, 4),
        "shape (2, 3) cannot be expanded to (2, 4).\n"
        "Sizes must be equal or 1, counted from the last axis.",
    ),
    "narrow": (
        lambda: zeros(5).narrow(0, 3, 4),
        "narrow to 4 from 3 of an axis of size 5.\n"
        "Stay within the axis: start + length is at most 5.",
    ),
    "split": (
        lambda: zeros(5).split([1, 2]),
        "split sizes [1, 2] do not add up to 5.\nGive sizes whose sum is that of the axis.",
    ),
    "mask": (
        lambda: zeros(3)[zeros(2) > 0],
        "a mask of shape (2,) for a tensor of shape (3,).\nGive it the sizes of its axes.",
    ),
    "clamp": (
        lambda: zeros(3).clamp(),
        "clamp with neither min nor max.\nGive one of them.",
    ),
    "too many indices": (
        lambda: zeros(3)[0, 1],
        "2 indices for a tensor of shape (3,).\nGive at most 1.",
    ),
    "slice backwards": (
        lambda: zeros(3)[::-1],
        "a slice with step -1.\nSteps are positive; use .flip() to reverse.",
    ),
    "assignment": (
        lambda: zeros(3).__setitem__(slice(0, 2), zeros(3)),
        "shapes (2,) and (3,) cannot be broadcast together: sizes 2 and 3 at axis -1.\n"
        "Sizes must be equal or 1, counted from the last axis.",
    ),
    "cat": (
        lambda: tgrad.cat([zeros(2, 3), zeros(2, 4)]),
        "cat of shapes (2, 3) and (2, 4) along axis 0.\n"
        "All sizes but those of that axis must be equal.",
    ),
    "stack": (
        lambda: tgrad.stack([zeros(2), zeros(3)]),
        "stack of shapes (2,) and (3,).\nAll shapes must be equal.",
    ),
    "item": (
        lambda: zeros(2, 3).item(),
        "item() of a tensor with 6 elements, shape (2, 3).\nReduce it first, or use .numpy().",
    ),
    "truth": (
        lambda: bool(zeros(2)),
        "item() of a tensor with 2 elements, shape (2,).\nReduce it first, or use .numpy().",
    ),
    "len": (
        lambda: len(zeros(())),
        "len() of a tensor with no axes.\nUse .numel() for its elements.",
    ),
    "chunk": (lambda: zeros(3).chunk(0), "chunk into 0 pieces.\nGive 1 or more."),
    "maximum of nothing": (
        lambda: zeros(0).amax(),
        "reduce_max over an empty axis of shape (0,) has no value.\n"
        "Give the axis at least one element.",
    ),
    "negative size": (
        lambda: tgrad.zeros(-1),
        "a tensor of shape (-1,).\nGive sizes of 0 or more.",
    ),
    "arange": (
        lambda: tgrad.arange(0, 5, -1),
        "arange from 0 to 5 by -1.\nGive a step that leads from the start to the end.",
    ),
    "randint": (
        lambda: tgrad.randint(5, 5, (2,)),
        "randint from 5 to 5.\nGive a high above the low.",
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name):
    call, text = SHAPES[name]
    check_message(ShapeError, ValueError, call, text)


DTYPES = {
    "strings": (lambda: tgrad.tensor(["a"]), f"dtype 'str32' is not supported.\n{ALL_DTYPES}"),
    "operand": (
        lambda: zeros(3) + "a",
        "add of a tensor and a str.\nUse a Tensor, a Python number or a NumPy array.",
    ),
    "no operand": (
        lambda: zeros(3) * None,
        "mul of a tensor and a NoneType.\nUse a Tensor, a Python number or a NumPy array.",
    ),
    "function of a number": (
        lambda: tgrad.exp(3.0),
        "exp of a float.\nGive a Tensor as first argument.",
    ),
    "no common dtype": (
        lambda: zeros(3, dtype=tgrad.uint64) + zeros(3, dtype=tgrad.int64),
        "tgrad.uint64 and tgrad.int64 have no common dtype: wide unsigned integers are not "
        "promoted.\nCast one of them first, such as x.to(tgrad.int64).",
    ),
    "bits of floats": (
        lambda: zeros(3) & zeros(3),
        "and does not take float32.\nCast the operand first.",
    ),
    "product": (
        lambda: zeros(2, 3) @ zeros(3, 4, dtype=tgrad.float64),
        "product of float32 and float64.\n"
        "Both operands need one dtype; convert one with .to(dtype).",
    ),
    "mean of integers": (
        lambda: integers(1, 2).mean(),
        "mean of a tensor of int64.\nConvert it with .float() or pass dtype=.",
    ),
    "softmax of integers": (
        lambda: integers(1, 2).softmax(0),
        "softmax of a tensor of int64.\nUse .float() or pass dtype=.",
    ),
    "difference of bools": (
        lambda: zeros(3, dtype=tgrad.bool) - zeros(3, dtype=tgrad.bool),
        "bool tensors cannot be subtracted.\nUse ^ or logical_xor.",
    ),
    "float as index": (
        lambda: zeros(3)[zeros(1)],
        "an index of float32.\nUse .long().",
    ),
    "random integers": (
        lambda: tgrad.rand(3, dtype=tgrad.int64),
        "rand of dtype int64.\nUse a floating-point dtype.",
    ),
}


@pytest.mark.parametrize("name", DTYPES)
def test_dtypes(name):
    call, text = DTYPES[name]
    check_message(DTypeError, TypeError, call, text)


GRADIENTS = {
    "of integers": (
        lambda: integers(1, 2).requires_grad_(),
        "a tensor of int64 cannot require a gradient.\n"
        "Only floating-point tensors can; convert it with .float().",
    ),
    "of integers when made": (
        lambda: tgrad.tensor([1, 2], requires_grad=True),
        "a tensor of int64 cannot require a gradient.\n"
        "Only floating-point tensors can; convert it with .float().",
    ),
    "of a vector": (
        lambda: (zeros(3, requires_grad=True) * 2).backward(),
        "backward() of a tensor of shape (3,) needs the gradient of it.\n"
        "Call it on a scalar, such as a mean of losses, or pass gradient=.",
    ),
    "of nothing": (
        lambda: zeros(3).sum().backward(),
        "backward() of a tensor that does not require a gradient.\n"
        "Nothing it was computed from has requires_grad=True, or it was made under no_grad().",
    ),
    "of another shape": (
        lambda: (zeros(3, requires_grad=True) * 2).backward(zeros(2)),
        "the gradient has shape (2,), the tensor (3,).\nThey must be equal.",
    ),
    "of what was not used": (
        lambda: tgrad.autograd.grad(WEIGHT.sum(), zeros(1, requires_grad=True)),
        "an input of shape (1,) was not used to compute the output.\n"
        "Pass allow_unused=True to get None for it.",
    ),
    "switched off": (
        lambda: (zeros(1, requires_grad=True) * 2).requires_grad_(False),
        "requires_grad of a computed tensor cannot be switched off.\nUse .detach().",
    ),
    "changed in place": (
        lambda: zeros(3, requires_grad=True).add_(1),
        "a leaf that requires a gradient is changed in place.\nDo it under no_grad().",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name):
    call, text = GRADIENTS[name]
    check_message(GradientError, RuntimeError, call, text)


INDICES = {
    "number": (lambda: zeros(3)[5], "index 5 of axis 0 with size 3.\nUse -3 to 2."),
    "tensor": (
        lambda: zeros(3)[integers(0, 7)],
        "index 7 is out of range for an axis of size 3.\nUse -3 to 2.",
    ),
    "gather": (
        lambda: zeros(3, 2).gather(0, integers(4, 0).reshape(1, 2).realize()),
        "index 4 is out of range for an axis of size 3.\nUse 0 to 2.",
    ),
    "index_select": (
        lambda: zeros(3, 2).index_select(0, integers(-1)),
        "index -1 is out of range for an axis of size 3.\nUse 0 to 2.",
    ),
}


@pytest.mark.parametrize("name", INDICES)
def test_indices(name):
    call, text = INDICES[name]
    check_message(OutOfRangeError, IndexError, call, text)


DEVICES = {
    "mixed": (
        lambda: zeros(3) + tgrad.zeros(3, device="cpu"),
        "add of tensors on different devices: numpy and cpu.\n"
        "Move one of them with .to(device).",
    ),
    "unknown": (
        lambda: tgrad.zeros(3, device="gpu"),
        "'gpu' is not a device.\nUse one of cpu, cuda, opencl, interpret, numpy, meta.",
    ),
    "explain of nothing": (
        lambda: tgrad.explain(),
        "explain of 0 tensors on 0 devices.\nGive tensors of one device.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DEVICES)
def test_devices(name):
    call, text = DEVICES[name]
    check_message(DeviceError, RuntimeError, call, text)


UNSUPPORTED = {
    "memory_format": (
        lambda: zeros(1, 2, 3, 3).contiguous(memory_format="channels_first"),
        "contiguous: memory_format='channels_first' is not supported.\nLeave it out.",
    ),
    "scatter_reduce": (
        lambda: zeros(3).scatter_reduce(0, integers(0), zeros(1), "max"),
        "scatter_reduce: reduce='max'.\nUse one of sum, mean, prod, amax, amin.",
    ),
    "rounding_mode": (
        lambda: zeros(3).div(2, rounding_mode="up"),
        "rounding_mode='up'.\nUse None, \"trunc\" or \"floor\".",
    ),
    "pin_memory": (
        lambda: tgrad.zeros(3, pin_memory=True),
        "zeros: pin_memory=True is not supported.\nLeave it out.",
    ),
    "layout": (
        lambda: tgrad.randn(3, layout="sparse"),
        "randn: layout='sparse' is not supported.\nLeave it out.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_unsupported(name):
    call, text = UNSUPPORTED[name]
    check_message(UnsupportedError, NotImplementedError, call, text)


def test_data_that_is_no_array():
    with pytest.raises(ShapeError, match=r"(?s)data that is no array: .*Give rows of one length"):
        tgrad.tensor([[1], [1, 2]])


def test_none_is_not_equal():
    assert (zeros(2) == None) is False  # noqa: E711
    assert (zeros(2) != None) is True  # noqa: E711


def test_numpy_arrays_are_operands():
    assert (zeros(2) + np.ones(2, np.float32)).tolist() == [1.0, 1.0]
