"""Gradients as PyTorch's users ask for them."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

import tgrad
import tgrad.nn.functional as F
from tests.front.checking import normal
from tgrad import nn
from tgrad.errors import GradientError
from tgrad.graph.node import toposort
from tgrad.graph.op import Op


def leaf(*values, device="numpy"):
    return tgrad.tensor([float(v) for v in values], device=device, requires_grad=True)


def test_backward_adds_to_grad(device):
    x = leaf(1, 2, device=device)
    (x * x).sum().backward()
    (x * 3).sum().backward()
    assert x.grad.tolist() == [5.0, 7.0]
    assert not x.grad.requires_grad


def test_a_gradient_that_is_held_sees_what_is_added():
    """In place, as in PyTorch, with views of it, unless the sum leads to graph."""
    seen = []
    for library in (tgrad, torch):
        p = library.tensor([1.0, 2.0], requires_grad=True)
        (p * p).sum().backward()
        held, found = p.grad, []
        (p * 3).sum().backward()
        found.append((held is p.grad, held.tolist()))
        (p * p * p).sum().backward(create_graph=True)
        found.append((held is p.grad, held.tolist(), p.grad.requires_grad))
        held = p.grad
        (p * 3).sum().backward()
        found.append((held is p.grad, held.requires_grad, held.tolist()))
        flat = library.zeros(4)
        p.grad = flat[:2]
        (p * p).sum().backward()
        found.append(flat.tolist())
        flat.zero_()
        (p * 2).sum().backward()
        found.append((flat.tolist(), p.grad.tolist()))
        seen.append(found)
    assert seen[0] == seen[1]


def test_backward_with_gradient():
    x = leaf(1, 2)
    (x * x).backward(tgrad.tensor([1.0, 10.0], device="numpy"))
    assert x.grad.tolist() == [2.0, 40.0]


def test_backward_twice_through_one_graph():
    x = leaf(3)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [12.0]


def test_reading_a_value_keeps_its_history(device):
    x = leaf(1, 2, device=device)
    y = (x * x).sum()
    assert y.item() == 5.0
    (y * y).backward()
    assert x.grad.tolist() == [20.0, 40.0]


def test_equal_leaves_stay_apart():
    a, b = leaf(1), leaf(1)
    (a * b * b).sum().backward()
    assert (a.grad.item(), b.grad.item()) == (1.0, 2.0)


def test_modes():
    x = leaf(1)
    assert (x * 2).requires_grad and tgrad.is_grad_enabled()
    with tgrad.no_grad():
        assert not (x * 2).requires_grad and not tgrad.is_grad_enabled()
        with tgrad.enable_grad():
            assert (x * 2).requires_grad
        with tgrad.set_grad_enabled(True):
            assert (x * 2).requires_grad
    assert not x.detach().requires_grad

    @tgrad.no_grad()
    def double(t):
        return t * 2

    assert not double(x).requires_grad and double.__name__ == "double"


def test_no_grad_is_of_one_thread():
    seen = []
    with tgrad.no_grad():
        thread = threading.Thread(target=lambda: seen.append(tgrad.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_no_gradient_through_no_grad():
    x = leaf(3)
    with tgrad.no_grad():
        y = x * x
    (x * y).sum().backward()
    assert x.grad.tolist() == [9.0]


def test_grad_of_grad(device):
    x = leaf(2, device=device)
    (first,) = tgrad.autograd.grad((x**4).sum(), x, create_graph=True)
    (second,) = tgrad.autograd.grad(first.sum(), x, create_graph=True)
    (third,) = tgrad.autograd.grad(second.sum(), x)
    values = (first.item(), second.item(), third.item())
    assert values == pytest.approx((32, 48, 48))
    assert x.grad is None


def test_grad_of_a_computed_tensor():
    x = leaf(2)
    y = x * x
    (g,) = tgrad.autograd.grad((y * y).sum(), y)
    assert g.tolist() == [8.0]


def test_gradient_penalty_against_pytorch(device):
    """A second backward through linear, tanh and a norm, as in WGAN-GP."""
    weights = [normal(1, 4, 3), normal(2, 1, 4)]
    x = normal(3, 5, 3)

    def penalty(t, functional, make):
        w1, w2 = (make(w) for w in weights)
        point = make(x)
        score = functional.linear(t.tanh(functional.linear(point, w1)), w2)
        (g,) = t.autograd.grad(score.sum(), point, create_graph=True)
        loss = ((g.norm(dim=1) - 1) ** 2).mean()
        loss.backward()
        return [loss, w1.grad, w2.grad]

    ours = penalty(tgrad, F, lambda a: tgrad.tensor(a, device=device, requires_grad=True))
    theirs = penalty(torch, torch.nn.functional, lambda a: torch.tensor(a, requires_grad=True))
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a.numpy(), b.detach(), rtol=1e-4, atol=1e-6)


def test_frozen_parameters_get_no_gradient():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)).to("numpy")
    net[0].requires_grad_(False)
    net(tgrad.ones(1, 2, device="numpy")).sum().backward()
    assert net[0].weight.grad is None and net[1].weight.grad is not None


def test_a_new_leaf_each_step_compiles_nothing_new(device):
    """The input's gradient, as adversarial training asks for it."""
    from tgrad.runtime.plan import record_plans

    def attack(seed):
        x = tgrad.tensor(normal(seed, 3, 4), device=device, requires_grad=True)
        (x * x).sum().backward()
        return x.grad.numpy()

    attack(0)
    with record_plans() as plans:
        np.testing.assert_allclose(attack(1), 2 * normal(1, 3, 4), rtol=1e-6)
    assert not plans


def test_a_graph_that_fails_does_not_break_the_next_one():
    """Here an index that is known only when it is computed is out of range."""
    w = leaf(1, 2)
    index = tgrad.tensor([3], device="numpy") + 4
    (w.index_select(0, index) * 2).sum().backward()
    with pytest.raises(tgrad.errors.OutOfRangeError):
        w.grad.numpy()
    x = leaf(1, 2)
    (x * x).sum().backward()
    assert x.grad.tolist() == [2.0, 4.0]


def test_gradients_of_chosen_leaves_and_what_tensors_came_from():
    seen = []
    for library in (tgrad, torch):
        a, b = (library.tensor([2.0, 3.0], requires_grad=True) for _ in range(2))
        product = a * b
        product.sum().backward(inputs=[a], retain_graph=True)
        first = b.grad is None
        library.autograd.backward([product], [library.ones(2)], inputs=b)
        made = [t.grad_fn is None for t in (a, product, product.detach(), a.detach() * 2)]
        seen.append((a.grad.tolist(), first, b.grad.tolist(), made))
    assert seen[0] == seen[1]
    x = leaf(1, 2)
    assert (x * x).grad_fn.name() == "MulBackward"
    with pytest.raises(GradientError, match="inputs that require no gradient"):
        (x * x).sum().backward(inputs=x.detach())


@pytest.mark.parametrize("retains", [False, True])
def test_gradients_of_chosen_tensors_that_were_computed(retains):
    seen = []
    for library in (tgrad, torch):
        x = library.tensor([2.0, 3.0], requires_grad=True)
        y = x * 2
        if retains:
            y.retain_grad()
        z = (y * y).sum()
        z.backward(inputs=[y], retain_graph=True)
        first = x.grad is None, y.grad.tolist()
        z.backward(inputs=(x, y))
        seen.append((first, x.grad.tolist(), y.grad.tolist()))
    assert seen[0] == seen[1]


def test_batches_of_gradients():
    seen = []
    for library in (tgrad, torch):
        x = library.tensor([1.0, 2.0, 3.0], requires_grad=True)
        w = library.tensor([[1.0, 0.5, -1.0], [2.0, 1.0, 0.0]], requires_grad=True)
        unused = library.ones(2, requires_grad=True)
        outputs, given = (w @ x, (x * x).sum()), (library.eye(2), library.tensor([1.0, 3.0]))
        options = {"is_grads_batched": True, "allow_unused": True}
        first = library.autograd.grad(outputs, (x, w, unused), given, True, True, **options)
        second = library.autograd.grad((first[0] * first[0]).sum(), x)
        seen.append([None if g is None else g.tolist() for g in (*first, *second)])
    assert seen[0] == seen[1]
    with pytest.raises(GradientError, match="without grad_outputs"):
        tgrad.autograd.grad(leaf(1, 2).sum(), leaf(1, 2), is_grads_batched=True)


EMPTY = np.zeros(0, np.int64)
UNREACHED = {
    "scatter_add": lambda lib, x, s: x.scatter_add(0, lib.tensor(EMPTY), s[:0]),
    "index_add": lambda lib, x, s: x.index_add(0, lib.tensor(EMPTY), s[:0]),
    "index_put": lambda lib, x, s: x.index_put((lib.tensor(EMPTY),), s[:0]),
    "masked_scatter": lambda lib, x, s: x.masked_scatter(x.detach() > 9, s),
    "copysign": lambda lib, x, s: lib.copysign(x, s),
    "grid_sample": lambda lib, x, s: lib.nn.functional.grid_sample(
        x.view(1, 1, 2, 2), s.view(1, 2, 1, 2) * 0.1, "nearest", align_corners=False
    ),
    "max_unpool": lambda lib, x, s: lib.nn.functional.max_unpool2d(
        s.view(2, 1, 1, 2)[:0], lib.tensor(EMPTY).view(0, 1, 1, 2), 2
    ) + x.sum(),
}  # fmt: skip


@pytest.mark.parametrize("function", UNREACHED.values(), ids=UNREACHED)
def test_gradients_are_0_where_pytorch_has_no_none(function):
    found = []
    for library in (tgrad, torch):
        x, s = (library.tensor([1.0, 2.0, -3.0, 4.0], requires_grad=True) for _ in range(2))
        function(library, x, s).sum().backward()
        found.append([t.grad.tolist() for t in (x, s)])
    assert found[0] == found[1]


def test_gradients_are_switched_by_statements_and_decorators():
    seen = []
    for library in (tgrad, torch):
        x = library.ones(1, requires_grad=True)

        @library.no_grad
        def bare(x):
            return x * 2

        @library.set_grad_enabled(False)
        def decorated(x):
            return x * 2

        found = [bare(x).requires_grad, decorated(x).requires_grad, (x * 2).requires_grad]
        library.set_grad_enabled(False)
        found.append((x * 2).requires_grad)
        with library.set_grad_enabled(True):
            found.append((x * 2).requires_grad)
        found.append((x * 2).requires_grad)
        library.set_grad_enabled(True)
        seen.append([*found, library.is_grad_enabled()])
    assert seen[0] == seen[1]


def test_the_older_name_of_tensors():
    x = leaf(1, 2)
    y = tgrad.autograd.Variable(x * 2, requires_grad=True)
    (y * y).sum().backward()
    assert y.grad.tolist() == [4.0, 8.0] and x.grad is None


FIRST_DERIVATIVES = {
    "threshold_backward": lambda library, x: x.relu(),
    "leaky_relu_backward": lambda library, x: library.nn.functional.leaky_relu(x, 0.2),
    "hardtanh_backward": lambda library, x: library.nn.functional.relu6(x),
    "softshrink_backward": lambda library, x: library.nn.functional.softshrink(x, 0.1),
    "hardshrink_backward": lambda library, x: library.nn.functional.hardshrink(x, 0.1),
    "threshold of another value": lambda library, x: library.nn.functional.threshold(x, 0.1, 0.0),
    "prelu": lambda library, x: library.nn.functional.prelu(x, library.tensor([0.2])),
    "abs": lambda library, x: x.abs(),
    "l1_loss": lambda library, x: library.nn.functional.l1_loss(x, library.zeros(3, 4)),
    "max_pool2d_backward": lambda library, x: library.nn.functional.max_pool2d(x[None], 2),
    "overlapping windows": lambda library, x: library.nn.functional.max_pool2d(x[None], 2, 1),
    "avg_pool2d_backward": lambda library, x: library.nn.functional.avg_pool2d(x[None], 2),
    "adaptive_max_pool": lambda library, x: library.nn.functional.adaptive_max_pool1d(x[None], 2),
    "adaptive_avg_pool": lambda library, x: library.nn.functional.adaptive_avg_pool1d(x[None], 2),
    "nll_loss": lambda library, x: library.nn.functional.nll_loss(x, library.tensor([0, 1, 2])),
    "max": lambda library, x: x.max(1)[0],
    "maximum": lambda library, x: library.maximum(x, x.flip(0)),
    "where": lambda library, x: library.where(x > 0, x, 2 * x),
    "clamp": lambda library, x: x.clamp(-0.5, 0.5),
    "dropout": lambda library, x: library.nn.functional.dropout(x, 0.5),
    "linear": lambda library, x: -x,
    "floor": lambda library, x: x.floor(),
    "curved": lambda library, x: x.tanh(),
}


@pytest.mark.parametrize("name", FIRST_DERIVATIVES)
def test_gradient_penalties_fill_grad_where_pytorch_fills_it(name):
    """Zeros where a formula of the first derivative reads what a leaf leads to, else None."""
    seen = []
    rng = np.random.default_rng(0)
    values = [rng.normal(size=shape).astype(np.float32) for shape in ((3, 4), (4, 4), (4,))]
    for library in (tgrad, torch):
        x, w, b = (library.tensor(v, requires_grad=True) for v in values)
        y = FIRST_DERIVATIVES[name](library, library.nn.functional.linear(x, w, b))
        (slope,) = library.autograd.grad(y.sum(), x, create_graph=True)
        (slope * slope).sum().backward()
        seen.append([None if t.grad is None else t.grad.numpy().any() for t in (x, w, b)])
    assert seen[0] == seen[1]


def test_zeros_reach_hooks_and_functions_of_users():
    seen = []
    for library in (tgrad, torch):

        class Gained(library.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x * 1

            @staticmethod
            def backward(ctx, g):
                return g + 1

        x, b = (library.tensor([2.0, 3.0], requires_grad=True) for _ in range(2))
        hooked = b * 1
        found = []
        hooked.register_hook(lambda g, found=found: found.append(g.tolist()))
        (slope,) = library.autograd.grad(
            (x + Gained.apply(hooked)).relu().sum(), x, None, True, True
        )
        (slope * slope).sum().backward()
        seen.append((found, b.grad.tolist(), x.grad.tolist()))
    assert seen[0] == seen[1] == ([[1.0, 1.0]], [1.0, 1.0], [0.0, 0.0])


def test_a_path_of_zero_slope_computes_nothing():
    w = tgrad.rand(4, 4, device="numpy", requires_grad=True)
    bias = leaf(1, 2, 3, 4)
    x = tgrad.rand(3, 4, device="numpy", requires_grad=True)
    (slope,) = tgrad.autograd.grad(((x @ w + bias).relu() @ w).sum(), x, create_graph=True)
    (slope * slope).sum().backward()
    assert all(n.op is not Op.BUFFER for n in toposort([bias.grad._node]))
    assert bias.grad.tolist() == [0.0] * 4


def test_a_leaf_frozen_after_the_forward_pass_gets_no_gradient():
    for library in (tgrad, torch):
        x = library.ones(2, requires_grad=True)
        y = library.ones(2, requires_grad=True)
        loss = (x * y).sum()
        x.requires_grad_(False)
        loss.backward()
        assert x.grad is None and y.grad.tolist() == [1.0, 1.0]
        x.requires_grad_()
        loss = (x * y).sum()
        y.detach_()
        loss.backward()
        assert x.grad.tolist() == y.grad.tolist() == [1.0, 1.0]


def test_inputs_of_grad_require_gradients():
    x = leaf(1, 2)
    with pytest.raises(GradientError, match=r"an input of shape \(2,\) does not require"):
        tgrad.autograd.grad((x * x).sum(), [x, x.detach()], allow_unused=True)
