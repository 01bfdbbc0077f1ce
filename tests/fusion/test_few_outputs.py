"""Sums of many terms with few results come in two, and add up to the same."""

from __future__ import annotations

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tgrad.fusion.device_limits import CPU_LIMITS, Limits
from tgrad.fusion.few_outputs import split_few_outputs
from tgrad.graph.interpret import interpret
from tgrad.graph.node import Node, toposort
from tgrad.graph.op import REDUCE, Op
from tgrad.graph.verify import verify
from tgrad.pipeline import canonical_bases
from tgrad.tensor import Tensor

SMALL = Limits(nested_elements=1000)


def draw(*shape: int, seed: int = 1) -> Tensor:
    random = np.random.default_rng(seed)
    return tgrad.tensor(random.standard_normal(shape, dtype=np.float32), device="numpy")


def split(x: Tensor, limits: Limits = SMALL) -> list[Node]:
    """The nodes after the pass, which compute what those before do."""
    before = canonical_bases([x._node])
    after = split_few_outputs(before, limits)
    verify(after, lowered=True)
    got, want = (
        interpret(nodes, lambda storage: storage.numpy())[0].astype(np.float64)
        for nodes in (after, before)
    )
    np.testing.assert_allclose(got.reshape(want.shape), want, rtol=1e-4, atol=2e-2)
    return toposort(after)


def test_split_k() -> None:
    x, dy = draw(64, 130, 20), draw(64, 130, 24, seed=2)
    (dot,) = (n for n in split(tgrad.einsum("bti,bto->oi", x, dy)) if n.op is Op.DOT)
    assert dot.attr("batch") != ((), ()) and dot.shape[0] == 16
    assert sorted(dot.shape[1:]) == [20, 24]


@pytest.mark.parametrize(
    ("channels", "padding", "sides"),
    [(64, 1, (128, 1, 16)), (3, 1, (2, 16, 16)), (64, 0, (8, 16, 16))],
    ids=["rows", "few channels", "no edge"],
)
def test_gradients_of_padded_windows_keep_their_images(
    channels: int, padding: int, sides: tuple[int, int, int]
) -> None:
    """A tile then lies at one pixel of them; else the images come in parts."""
    side = 16 + 2 * (1 - padding)
    x = draw(128, channels, side, side)
    w = draw(64, channels, 3, 3, seed=2).requires_grad_()
    F.conv2d(x, w, padding=padding).backward(draw(128, 64, 16, 16, seed=3))
    assert w.grad is not None
    (dot,) = (n for n in split(w.grad) if n.op is Op.DOT)
    (batch, _), (summed, _) = dot.attr("batch"), dot.attr("contract")
    left = dot.inputs[0]
    assert tuple(left.shape[a] for a in summed) == sides
    assert left.shape[batch[0]] == 128 * 16 * 16 // np.prod(sides)


def test_parts_of_half_products_are_added_in_float32() -> None:
    x, dy = draw(8192, 20).to(tgrad.bfloat16), draw(8192, 24).to(tgrad.bfloat16)
    (dot,) = (n for n in split(dy.t() @ x) if n.op is Op.DOT)
    assert dot.dtype is tgrad.float32 and len(dot.shape) == 3


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((16, 9, 7, 5), (0, 1, 2)), ((32, 6, 11, 12), (0, 2, 3)), ((4096,), (0,)), ((3, 8192), (1,))],
)
def test_sums(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    sums = [n for n in split(draw(*shape).sum(axes)) if n.op in REDUCE]
    assert len(sums) == 2
    assert len([n for n in split(draw(*shape).amax(axes)) if n.op in REDUCE]) == 2


def test_variance_of_channels() -> None:
    split(F.batch_norm(draw(16, 5, 12, 11), None, None, training=True))


def test_what_keeps_the_device_busy_stays_whole() -> None:
    x = draw(16, 1024)
    assert len([n for n in split(x.sum(0)) if n.op in REDUCE]) == 1
    assert len([n for n in split(draw(64, 100).softmax(1)) if n.op in REDUCE]) == 2
    (dot,) = (n for n in split(draw(8192, 2).t() @ draw(8192, 4), CPU_LIMITS) if n.op is Op.DOT)
    assert dot.shape == (2, 4)


def test_attention_is_left_to_its_chain() -> None:
    q, k, v = draw(4, 16), draw(8192, 16, seed=2), draw(8192, 16, seed=3)
    dots = [n for n in split(F.softmax(q @ k.t(), 1) @ v) if n.op is Op.DOT]
    assert [n.attr("batch") for n in dots] == [((), ())] * 2


def test_a_weight_gradient_in_the_interpreter() -> None:
    def gradient(device: str) -> np.ndarray:
        x, w = (draw(*s).to(device).requires_grad_() for s in ((8, 2, 34, 33), (3, 2, 3, 3)))
        (dw,) = tgrad.autograd.grad(F.conv2d(x, w, padding=1).tanh().sum(), [w])
        return dw.numpy()

    np.testing.assert_allclose(gradient("interpret"), gradient("numpy"), rtol=1e-4, atol=1e-3)
