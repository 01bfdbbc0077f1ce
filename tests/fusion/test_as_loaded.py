"""Results of dots lie as their operands do, and are what they were."""

from __future__ import annotations

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tgrad.fusion.as_loaded import LEAST_RESULTS, lay_as_loaded
from tgrad.fusion.device_limits import CPU_LIMITS, Limits
from tgrad.fusion.few_outputs import split_few_outputs
from tgrad.fusion.memory_order import keep_order_of_dots
from tgrad.graph.interpret import interpret
from tgrad.graph.node import Node, toposort
from tgrad.graph.op import Op
from tgrad.graph.verify import verify
from tgrad.kernel import ir
from tgrad.kernel.lower import lower
from tgrad.pipeline import canonical_bases
from tgrad.runtime.plan import KernelInfo, record_plans
from tgrad.runtime.planning import planning
from tgrad.tensor import Tensor, realize_tensors


def draw(*shape: int, seed: int = 1) -> Tensor:
    random = np.random.default_rng(seed)
    return tgrad.tensor(random.standard_normal(shape, dtype=np.float32), device="numpy")


def laid(x: Tensor, limits: Limits = Limits()) -> tuple[list[Node], frozenset[Node]]:
    """The nodes after the pass, which compute what those before do, and the stored ones."""
    chosen = canonical_bases(keep_order_of_dots(canonical_bases([x._node])))
    before = split_few_outputs(chosen, limits)
    after, stored = lay_as_loaded(before, limits)
    verify(after, lowered=True)
    got, want = (interpret(nodes, lambda storage: storage.numpy())[0] for nodes in (after, before))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)
    return toposort(after), stored


def weights_gradient(x: Tensor, w: Tensor, padding: int = 1) -> Tensor:
    w.requires_grad_()
    made = F.conv2d(x, w, padding=padding)
    (gradient,) = tgrad.autograd.grad(made, [w], tgrad.ones_like(made))
    return gradient


def channels_last(*shape: int) -> Tensor:
    """An image of [N, C, H, W] that lies as [N, H, W, C]."""
    n, c, h, w = shape
    return draw(n, h, w, c).permute(0, 3, 1, 2)


def test_parts_have_channels_last() -> None:
    x = channels_last(64, 20, 12, 13)
    nodes, stored = laid(weights_gradient(x, draw(24, 20, 3, 5, seed=2), padding=2))
    (dot,) = (n for n in nodes if n.op is Op.DOT and n.attr("batch")[0])
    assert dot.shape[1:] == (24, 3, 5, 20)
    assert not stored


def test_parts_of_what_lies_otherwise() -> None:
    """Windows of channels that lie first: along a row places of the window are neighbours."""
    nodes, _ = laid(weights_gradient(draw(64, 3, 12, 13), draw(24, 3, 3, 5, seed=2), padding=2))
    (dot,) = (n for n in nodes if n.op is Op.DOT and n.attr("batch")[0])
    assert dot.shape[1:] == (24, 3, 3, 5)


def test_places_of_small_windows_are_left() -> None:
    """The window of one pixel has channels last in either order."""
    x, w = channels_last(2, 512, 6, 6), draw(520, 512, 1, 1, seed=2)
    nodes, stored = laid(weights_gradient(x, w, padding=0))
    assert not stored
    assert [n.shape for n in nodes if n.op is Op.DOT] == [(520, 512, 1, 1)]


def test_both_sides_of_a_dot() -> None:
    """Rows and columns, each of two axes that lie the other way round."""
    x, y = draw(9000, 3, 20), draw(9000, 4, 10, seed=2)
    nodes, _ = laid(tgrad.einsum("kab,kcd->badc", x, y))
    (dot,) = (n for n in nodes if n.op is Op.DOT)
    assert dot.shape[1:] == (3, 20, 4, 10)


def test_a_whole_gradient_is_stored_before_its_weights_change() -> None:
    x, w = channels_last(2, 192, 6, 6), draw(192, 192, 3, 3, seed=2)
    assert w.numel() >= LEAST_RESULTS
    gradient = weights_gradient(x, w)
    nodes, stored = laid(w - gradient * 0.1)
    (result,) = stored
    assert result.op is Op.DOT and result.shape == (192, 3, 3, 192) and result in nodes
    _, stored = laid(w - gradient.to(tgrad.float16) * 0.1)
    (result,) = stored
    assert result.op is Op.CAST and result.shape == (192, 3, 3, 192)


def test_rows_in_another_order_are_no_reason_to_store() -> None:
    """Columns lie together, and so are they written."""
    x, y = draw(9, 512, 3).permute(0, 2, 1), draw(9, 300, seed=2)
    product = tgrad.einsum("kba,kn->ban", x, y)
    assert product.numel() >= LEAST_RESULTS
    _, stored = laid(product * 2)
    assert not stored


def test_what_reads_a_gradient_may_be_long_and_branch() -> None:
    """Work grows with the graph, not with its paths."""
    y = weights_gradient(channels_last(2, 192, 6, 6), draw(192, 192, 3, 3, seed=2))
    for _ in range(1500):
        y = y.sin() + y.cos()
    _, stored = lay_as_loaded(canonical_bases([y._node]), Limits())
    assert [n.shape for n in stored] == [(192, 3, 3, 192)]


@pytest.mark.parametrize("channels", [16, 192])
def test_what_is_few_or_read_with_channels_last_is_left(channels: int) -> None:
    x, w = channels_last(2, channels, 6, 6), draw(channels, channels, 3, 3, seed=2)
    gradient = weights_gradient(x, w)
    _, stored = laid(gradient.permute(0, 2, 3, 1) * 2 if channels > 16 else gradient * 2)
    assert not stored


def test_processors_have_caches_for_it() -> None:
    before = canonical_bases(
        [weights_gradient(channels_last(2, 192, 6, 6), draw(192, 192, 3, 3))._node]
    )
    assert lay_as_loaded(before, CPU_LIMITS) == (before, frozenset())


def kernels_of(images: int, side: int, channels: int, is_last: bool) -> list[KernelInfo]:
    """Those of the step of a convolution's weights, planned for sm_90."""
    with planning("sm_90"), record_plans() as plans:
        kind = {"dtype": tgrad.bfloat16, "device": "cuda"}
        x, g = (tgrad.empty(images, side, side, channels, **kind).realize() for _ in range(2))
        shape = (channels, 3, 3, channels) if is_last else (channels, channels, 3, 3)
        w = tgrad.empty(*shape, **kind).realize()
        plans.clear()
        image, slope = (t.permute(0, 3, 1, 2) for t in (x, g))
        weight = (w.permute(0, 3, 1, 2) if is_last else w).detach().requires_grad_()
        made = F.conv2d(image, weight, padding=1)
        (gradient,) = tgrad.autograd.grad(made, [weight], slope)
        gradient = gradient.permute(0, 2, 3, 1) if is_last else gradient
        realize_tensors([w - 0.1 * gradient])
    return [k for plan in plans for k in plan.kernels]


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize(("images", "side", "channels"), [(128, 14, 256), (64, 7, 512)])
def test_dots_write_rows(images: int, side: int, channels: int, is_last: bool) -> None:
    """Each kernel with a dot writes neighbours in memory with neighbours of its tile."""
    kernels = kernels_of(images, side, channels, is_last)
    dots = [k for k in kernels if k.region.space.kind == "dot"]
    assert dots
    for k in dots:
        program = lower(k.region, k.config)
        stores = [s for s in ir.statements(program.body) if isinstance(s, ir.StoreTile)]
        assert stores
        assert all(s.index.stride("n") == 1 for s in stores)


def test_gradients_in_the_interpreter() -> None:
    def gradient(device: str) -> np.ndarray:
        x, w = (draw(*s).to(device) for s in ((8, 34, 33, 4), (3, 4, 3, 3)))
        return weights_gradient(x.permute(0, 3, 1, 2), w).numpy()

    np.testing.assert_allclose(gradient("interpret"), gradient("numpy"), rtol=1e-4, atol=1e-3)
