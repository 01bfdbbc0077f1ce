"""What a program asks of tensors and of the library, beside PyTorch's answers."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

import tgrad
from tgrad.dtype import DTYPES
from tgrad.errors import UnsupportedError


def test_names_of_types() -> None:
    for make in (
        lambda t: t.ones(2), lambda t: t.arange(3), lambda t: t.ones(1) > 0, lambda t: 3,
        lambda t: "x", lambda t: len, lambda t: list, lambda t: [1],
        lambda t: t.ones(1, dtype=t.bfloat16), lambda t: t.nn.Parameter(t.ones(1)),
    ):  # fmt: skip
        ours, theirs = tgrad.typename(make(tgrad)), torch.typename(make(torch))
        assert ours == theirs.replace("torch.", "tgrad.")
    assert tgrad.typename(tgrad.nn.ReLU()).endswith(".ReLU")


def test_types_by_the_names_of_constructors() -> None:
    x, y = tgrad.tensor([1.5, -2.5]), torch.tensor([1.5, -2.5])
    for name in ("torch.LongTensor", "torch.DoubleTensor", "torch.HalfTensor", "torch.IntTensor"):
        have, want = x.type(name), y.type(name)
        assert have.tolist() == want.tolist() and have.type()[6:] == want.type()[6:]
    with pytest.raises(TypeError, match=r"torch\.StrangeTensor"):
        x.type("torch.StrangeTensor")
    for kind in (tgrad.DoubleTensor, "torch.DoubleTensor", tgrad.float64):
        net = tgrad.nn.BatchNorm1d(2).type(kind)
        assert net.weight.dtype is net.running_mean.dtype is tgrad.float64


def test_which_dtypes_can_be_cast() -> None:
    names = [name for name in DTYPES if "8_" not in name] + ["complex64", "complex128"]
    for one, other in itertools.product(names, repeat=2):
        have, want = (t.can_cast(getattr(t, one), getattr(t, other)) for t in (tgrad, torch))
        assert have == want, (one, other)


def test_inference_mode() -> None:
    found = []
    for t in (tgrad, torch):

        @t.inference_mode
        def bare(t: Any = t) -> tuple[bool, bool]:
            return t.is_inference_mode_enabled(), t.is_grad_enabled()

        @t.inference_mode()
        def called(t: Any = t) -> tuple[bool, bool]:
            return t.is_inference_mode_enabled(), t.is_grad_enabled()

        with t.inference_mode(), t.inference_mode(False):
            inner = t.is_inference_mode_enabled()
        with t.no_grad():
            without = t.is_inference_mode_enabled()
        after = t.is_inference_mode_enabled(), t.is_grad_enabled()
        found.append([bare(), called(), inner, without, after])
    assert found[0] == found[1]


def test_the_words_of_determinism() -> None:
    try:
        for word in (2, "warn", 0, "error", 1, "default"):
            found = []
            for t in (tgrad, torch):
                t.set_deterministic_debug_mode(word)
                found.append((t.get_deterministic_debug_mode(),
                              t.are_deterministic_algorithms_enabled()))  # fmt: skip
            assert found[0] == found[1]
        with pytest.raises(ValueError, match="'loud'"):
            tgrad.set_deterministic_debug_mode("loud")
    finally:
        for t in (tgrad, torch):
            t.set_deterministic_debug_mode(0)


def test_kernels_run_one_after_the_other() -> None:
    tgrad.set_num_interop_threads(1)
    assert tgrad.get_num_interop_threads() == 1
    with pytest.raises(UnsupportedError, match=r"interop_threads\(4\)(.|\n)*Use set_num_threads"):
        tgrad.set_num_interop_threads(4)
    with pytest.raises(ValueError, match="0"):
        tgrad.set_num_interop_threads(0)


def test_what_is_never_so() -> None:
    x, y = tgrad.ones(2), torch.ones(2)
    for name in ("is_conj", "is_neg", "is_inference", "is_distributed"):
        assert getattr(x, name)() == getattr(y, name)() == False  # noqa: E712
        if name != "is_distributed":
            assert getattr(tgrad, name)(x) == getattr(torch, name)(y)
    assert x.to_dense() is x and x.to_dense(tgrad.float64).dtype is tgrad.float64
    assert (x.is_mps, x.is_xpu) == (y.is_mps, y.is_xpu) == (False, False)
    assert tgrad.is_anomaly_enabled() == torch.is_anomaly_enabled()
    assert not tgrad.set_flush_denormal(False)
    assert tgrad.is_storage(x.untyped_storage()) and not tgrad.is_storage(x)


def test_gradients_that_are_retained() -> None:
    found = []
    for t in (tgrad, torch):
        x = t.ones(2, requires_grad=True)
        y = x * 3
        before = x.retains_grad, y.retains_grad
        for each in (x, y, y):
            each.retain_grad()
        (y * y).sum().backward()
        found.append([before, x.retains_grad, y.retains_grad, y.grad.tolist(), x.grad.tolist()])
    assert found[0] == found[1]


@pytest.mark.parametrize("values", [[-1.5, 1.5, 0.0, 2.9], [1, -2, 3, 0]])
def test_fix_rounds_to_zero(values: list[float]) -> None:
    for call in (lambda t, x: t.fix(x), lambda t, x: x.fix(), lambda t, x: t.fix_(x.clone())):
        np.testing.assert_array_equal(
            call(tgrad, tgrad.tensor(values)).numpy(), call(torch, torch.tensor(values))
        )
