"""Mistakes with functions, modules, optimizers and files: one a test, with the whole message."""

from __future__ import annotations

import threading

import pytest
import torch

import tgrad
import tgrad.nn.functional as F
from tests.errors.mistakes import check_message, integers, zeros
from tgrad import nn, optim
from tgrad.errors import (
    DataError,
    DTypeError,
    GradientError,
    OutOfRangeError,
    ShapeError,
    UnsupportedError,
)

SHAPES = {
    "conv2d channels": (
        lambda: F.conv2d(zeros(1, 3, 5, 5), zeros(2, 4, 3, 3)),
        "conv2d: input (1, 3, 5, 5), weight (2, 4, 3, 3), groups=1.\n"
        "The input must have 4 channels, and groups must divide the weight's first axis.",
    ),
    "conv2d kernel": (
        lambda: F.conv2d(zeros(1, 3, 5, 5), zeros(2, 3, 7, 3)),
        "conv2d: a kernel of 7 elements, 1 apart, does not fit axis 2 of shape (1, 3, 5, 5), "
        "padded by 0 and 0.\nPad more or take a smaller kernel.",
    ),
    "conv_transpose1d": (
        lambda: F.conv_transpose1d(zeros(2, 4, 2), zeros(4, 3, 1), padding=1, groups=2),
        "conv_transpose1d: the result of sizes (2,) and a kernel of (1,) would have sizes (0,).\n"
        "Use less padding, or a larger input.",
    ),
    "conv2d axes": (
        lambda: F.conv2d(zeros(5, 5), zeros(2, 3, 3, 3)),
        "conv2d of shapes (5, 5) and (2, 3, 3, 3).\n"
        "The input has 4 or 3 axes, the weight 4.",
    ),
    "linear": (
        lambda: F.linear(zeros(2, 3), zeros(4, 5)),
        "linear of shape (2, 3) with a weight of shape (4, 5).\n"
        "Their last sizes must be equal, and the weight has one or two axes.",
    ),
    "layer_norm": (
        lambda: F.layer_norm(zeros(2, 3), (4,)),
        "layer_norm over (4,) of a tensor of shape (2, 3).\n"
        "The tensor's last sizes must be normalized_shape.",
    ),
    "group_norm": (
        lambda: F.group_norm(zeros(2, 3), 2),
        "group_norm of shape (2, 3) in 2 groups.\nThe groups must divide the channels, axis 1.",
    ),
    "batch_norm of one": (
        lambda: F.batch_norm(zeros(1, 3), None, None, training=True),
        "batch_norm in training of shape (1, 3): one value a channel.\n"
        "Give a larger batch, or call model.eval().",
    ),
    "BatchNorm2d": (
        lambda: nn.BatchNorm2d(3, device="numpy")(zeros(2, 3)),
        "BatchNorm2d of 3 channels on shape (2, 3).\n"
        "The input has 4 axes, with 3 channels at axis 1.",
    ),
    "max_pool2d": (
        lambda: F.max_pool2d(zeros(1, 1, 2, 2), 3),
        "max_pool2d: a window of 3 does not fit an axis of size 2, padded by 0.\n"
        "Take a smaller kernel.",
    ),
    "max_pool2d padding": (
        lambda: F.max_pool2d(zeros(1, 1, 4, 4), 2, padding=2),
        "max_pool2d: padding=2 of kernel_size=2.\nPadding is at most half the kernel.",
    ),
    "cross_entropy target": (
        lambda: F.cross_entropy(zeros(2, 3), integers(0)),
        "cross_entropy of shape (2, 3) with a target of shape (1,).\n"
        "Classes need the shape (2,).",
    ),
    "binary_cross_entropy": (
        lambda: F.binary_cross_entropy(zeros(2), zeros(3)),
        "binary_cross_entropy of shapes (2,) and (3,).\nThey must be equal.",
    ),
    "dropout": (lambda: F.dropout(zeros(3), 1.5), "dropout: p=1.5.\nA probability is 0 to 1."),
    "optimizer of nothing": (
        lambda: optim.SGD([]),
        "an optimizer of no parameters.\nGive at least one.",
    ),
    "optimizer of a tensor": (
        lambda: optim.SGD(zeros(3, requires_grad=True)),
        "an optimizer of one tensor.\nGive a list: [tensor].",
    ),
    "state_dict": (
        lambda: nn.Linear(2, 2).load_state_dict({}),
        "load_state_dict of Linear: missing keys ['weight', 'bias'], unexpected keys [].\n"
        "Pass strict=False to load what agrees.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name):
    call, text = SHAPES[name]
    check_message(ShapeError, ValueError, call, text)


UNSUPPORTED = {
    "same with stride": (
        lambda: F.conv2d(zeros(1, 3, 5, 5), zeros(2, 3, 3, 3), stride=2, padding="same"),
        'conv2d: padding="same" with stride=(2, 2).\nUse stride 1.',
    ),
    "padding_mode": (
        lambda: nn.Conv2d(1, 1, 1, padding_mode="mirror"),
        "Conv2d: padding_mode='mirror'.\nUse one of zeros, reflect, replicate, circular.",
    ),
    "reduction": (
        lambda: F.mse_loss(zeros(3), zeros(3), reduction="avg"),
        "mse_loss: reduction='avg'.\nUse \"mean\", \"sum\" or \"none\".",
    ),
    "size_average": (
        lambda: F.mse_loss(zeros(3), zeros(3), size_average=True),
        "mse_loss: size_average=True is not supported.\nLeave it out.",
    ),
    "approximate": (
        lambda: F.gelu(zeros(3), approximate="fast"),
        "gelu: approximate='fast'.\nUse \"none\" or \"tanh\".",
    ),
    "pad mode": (
        lambda: F.pad(zeros(3), (1, 1), mode="mirror"),
        "pad: mode='mirror'.\nUse \"constant\", \"reflect\", \"replicate\" or \"circular\".",
    ),
    "softmax with no dim": (
        lambda: F.softmax(zeros(3)),
        "softmax: dim=None.\nName the axis; PyTorch warns here too.",
    ),
    "sparse": (
        lambda: F.embedding(integers(0), zeros(2, 2), sparse=True),
        "embedding: sparse=True is not supported.\nLeave it out.",
    ),
    "differentiable": (
        lambda: optim.Adam([zeros(1, requires_grad=True)], differentiable=True),
        "Adam: differentiable=True is not supported.\nLeave it out.",
    ),
    "no forward": (
        lambda: nn.Module()(1),
        "Module has no forward.\nDefine `def forward(self, ...)`.",
    ),
    "save of an object": (
        lambda: tgrad.save({"a": threading.Lock()}, "unused"),
        "save of a dict: cannot pickle '_thread.lock' object.\n"
        "Save its state_dict(), or tensors, dictionaries, lists, numbers and strings.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_unsupported(name):
    call, text = UNSUPPORTED[name]
    check_message(UnsupportedError, NotImplementedError, call, text)


RANGES = {
    "cross_entropy": (
        lambda: F.cross_entropy(zeros(2, 3), integers(0, 3)),
        "class 3 with 3 classes.\nClasses are 0 to 2.",
    ),
    "embedding": (
        lambda: F.embedding(integers(1, 9), zeros(4, 2)),
        "index 9 is out of range for an axis of size 4.\nUse 0 to 3.",
    ),
    "one_hot": (
        lambda: F.one_hot(integers(5), 3),
        "class 5 with 3 classes.\nClasses are 0 to 2.",
    ),
    "lr": (
        lambda: optim.SGD([zeros(1, requires_grad=True)], lr=-1),
        "SGD: lr=-1.\nIt is 0 or more.",
    ),
    "betas": (
        lambda: optim.Adam([zeros(1, requires_grad=True)], betas=(1.0, 0.9)),
        "Adam: betas=(1.0, 0.9).\nEach is at least 0 and below 1.",
    ),
}


@pytest.mark.parametrize("name", RANGES)
def test_ranges(name):
    call, text = RANGES[name]
    check_message(OutOfRangeError, IndexError, call, text)


def test_dtypes_of_a_convolution():
    check_message(
        DTypeError,
        TypeError,
        lambda: F.conv2d(zeros(1, 3, 5, 5), zeros(2, 3, 3, 3, dtype=tgrad.float16)),
        "conv2d of float32 and float16.\nInput, weight and bias need one dtype.",
    )


def test_optimizer_of_a_computed_tensor():
    check_message(
        GradientError,
        RuntimeError,
        lambda: optim.SGD([zeros(3, requires_grad=True) * 2]),
        "an optimizer of a computed tensor of shape (3,).\nGive leaves only.",
    )


def test_optimizer_of_a_parameter_twice():
    w = zeros(3, requires_grad=True)
    check_message(
        GradientError,
        RuntimeError,
        lambda: optim.SGD([w, w]),
        "a parameter of shape (3,) stands twice.\nGive each one once.",
    )


def test_load_of_a_file_that_is_missing(tmp_path):
    path = tmp_path / "absent"
    check_message(
        DataError,
        OSError,
        lambda: tgrad.load(path),
        f"{path} cannot be read: No such file or directory: {path}.\n"
        "Give a file that tgrad.save wrote.",
    )


def test_load_of_a_file_that_is_corrupt(tmp_path):
    path = tmp_path / "corrupt"
    path.write_bytes(b"not safetensors at all")
    with pytest.raises(DataError, match=r"(?s)cannot be read: .*Give a file that tgrad.save wrote"):
        tgrad.load(path)


def test_save_where_there_is_no_directory(tmp_path):
    with pytest.raises(DataError, match=r"(?s)cannot be written: .*Choose another path"):
        tgrad.save({"a": zeros(1)}, tmp_path / "absent" / "file")


def _settings(t):
    return t.optim.SGD([t.ones(1).requires_grad_()], lr=1.0)


CAUGHT = {
    "rate": lambda t: t.optim.SGD([t.ones(1).requires_grad_()], lr=-1.0),
    "betas": lambda t: t.optim.Adam([t.ones(1).requires_grad_()], betas=(1.0, 2.0)),
    "no leaf": lambda t: t.optim.SGD([t.ones(1).requires_grad_() * 2], lr=1.0),
    "no length": lambda t: t.optim.lr_scheduler.OneCycleLR(_settings(t), 1.0),
    "factor": lambda t: t.optim.lr_scheduler.ReduceLROnPlateau(_settings(t), factor=1.5),
    "mode": lambda t: t.optim.lr_scheduler.ReduceLROnPlateau(_settings(t), mode="up"),
    "gain": lambda t: t.nn.init.calculate_gain("other"),
    "reduction": lambda t: t.nn.MSELoss(reduction="other")(t.ones(2), t.ones(2)),
    "axis": lambda t: t.ones(2).sum(dim=4),
    "mask": lambda t: t.ones(3)[t.tensor([True, False])],
    "place": lambda t: t.ones(2, 3).gather(1, t.tensor([[5]])).tolist(),
    "draws": lambda t: t.multinomial(t.ones(3), 5).tolist(),
    "largest": lambda t: t.ones(3).topk(5),
    "pieces": lambda t: t.ones(4).chunk(0),
    "length": lambda t: len(t.tensor(1.0)),
    "items": lambda t: list(t.tensor(1.0)),
    "parameter": lambda t: t.nn.Module().register_parameter("a", t.ones(1)),
}


@pytest.mark.parametrize("name", CAUGHT)
def test_what_catches_an_error_of_pytorch_s_catches_it_here(name):
    with pytest.raises(Exception) as wanted:
        CAUGHT[name](torch)
    with pytest.raises(wanted.type):
        CAUGHT[name](tgrad)
