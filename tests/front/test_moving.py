"""Tensors that go from one device to another, with their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
from tgrad.errors import DeviceError, LinAlgError
from tgrad.moving import needed_moves
from tgrad.runtime.device import counters

from ..conftest import HAS_TRITON

OTHERS = ("numpy", "opencl", *(["interpret"] if HAS_TRITON else []))
X = np.array([[0.5, -1.5, 2.0], [1.0, 0.25, -0.75]], np.float32)


@pytest.fixture(params=OTHERS)
def other(request) -> tgrad.device:
    if request.param == "opencl":
        pytest.importorskip("pyopencl")
    return tgrad.device(request.param)


def leaf(module, array=X):
    return module.tensor(array, requires_grad=True)


def same(found: tgrad.Tensor, expected: torch.Tensor) -> None:
    np.testing.assert_allclose(found.numpy(), expected.detach().numpy(), rtol=2e-5, atol=1e-6)


FUNCTIONS = {
    "a leaf": lambda x, to: to(x).sin().sum(),
    "computed": lambda x, to: (to(x * 2) ** 3).sum(),
    "there and back": lambda x, to: (to(x.exp()).sin().cpu() * x).sum(),
    "twice": lambda x, to: (to(x) * to(x.tanh())).sum().cpu(),
    "used on both": lambda x, to: to((x * x).sum()) + (to(x) * 3).sum(),
    "a number": lambda x, to: to(x.sum()) ** 2,
    "a view": lambda x, to: (to(x.t()[1:]) ** 2).sum(),
    "a view of it": lambda x, to: (to(x).t()[1:] ** 2).sum(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_go_back(name, other):
    function = FUNCTIONS[name]
    ours, theirs = leaf(tgrad), leaf(torch)
    value = function(ours, lambda t: t.to(other))
    value.backward()
    expected = function(theirs, lambda t: t.to("cpu"))
    expected.backward()
    same(value, expected)
    same(ours.grad, theirs.grad)
    assert ours.grad.device == ours.device == tgrad.device("cpu")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_of_gradients(name, other):
    function = FUNCTIONS[name]
    found = []
    for module, to in ((tgrad, lambda t: t.to(other)), (torch, lambda t: t.to("cpu"))):
        x = leaf(module)
        (g,) = module.autograd.grad(function(x, to), x, create_graph=True)
        (second,) = module.autograd.grad((to(g) ** 2).sum() + to(x).sum(), x)
        found.append((g, second))
    for ours, theirs in zip(*found):
        same(ours, theirs)
        assert ours.device == tgrad.device("cpu")


def test_dtype_and_device_at_once(other):
    x, y = leaf(tgrad), leaf(torch)
    moved = x.to(other, tgrad.float64)
    assert (moved.device, moved.dtype, moved.requires_grad) == (other, tgrad.float64, True)
    (moved**2).sum().backward()
    (y.to(torch.float64) ** 2).sum().backward()
    assert x.grad.dtype is tgrad.float32
    same(x.grad, y.grad)


def test_what_is_moved_is_a_copy(other):
    x, y = leaf(tgrad), leaf(torch)
    for t, module in ((x * 3, tgrad), (y * 3, torch)):
        moved = t.to(other) if module is tgrad else t.clone()
        moved[0] = 5.0
        moved.mul_(t.to(other) if module is tgrad else t)
        (moved.sum() + t.sum().to(moved.device)).backward()
    same(x.grad, y.grad)


def test_hooks_and_kept_gradients(other):
    grads = []
    for module, to in ((tgrad, lambda t: t.to(other)), (torch, lambda t: t.clone())):
        x = leaf(module)
        h = x * 3
        h.retain_grad()
        y = to(h)
        y.retain_grad()
        places = []
        y.register_hook(lambda g, places=places: places.append(g.device) or g * 2)
        h.register_hook(lambda g, places=places: places.append(g.device) or g + 1)
        (y * y).sum().backward()
        grads.append((x.grad, h.grad, y.grad))
    for ours, theirs in zip(*grads):
        same(ours, theirs)
    ours = grads[0]
    assert [g.device for g in ours] == [tgrad.device("cpu"), tgrad.device("cpu"), other]


def test_without_gradients_there_is_no_history(other):
    x = leaf(tgrad)
    with tgrad.no_grad():
        assert not x.to(other).requires_grad and not (x * 2).to(other).requires_grad
    assert not (x.detach() * 2).to(other).requires_grad
    assert not (x > 0).to(other).requires_grad


def test_transforms(other):
    def function(x, to):
        return (to(x.sin()) ** 2).sum().cpu()

    ours, theirs = tgrad.tensor(X), torch.tensor(X)

    def ours_of(x):
        return function(x, lambda t: t.to(other))

    def theirs_of(x):
        return function(x, lambda t: t)

    f, g = tgrad.func, torch.func
    same(f.grad(ours_of)(ours), g.grad(theirs_of)(theirs))
    same(f.vmap(ours_of)(ours), g.vmap(theirs_of)(theirs))
    same(f.vmap(f.grad(ours_of))(ours), g.vmap(g.grad(theirs_of))(theirs))
    same(f.hessian(ours_of)(ours[0]), g.hessian(theirs_of)(theirs[0]))
    tangent = (tgrad.ones(2, 3),), (torch.ones(2, 3),)
    for a, b in zip(f.jvp(ours_of, (ours,), tangent[0]), g.jvp(theirs_of, (theirs,), tangent[1])):
        same(a, b)


def test_checkpoint(other):
    found = []
    for module, to in ((tgrad, lambda t: t.to(other)), (torch, lambda t: t)):
        x = leaf(module)
        options = {} if module is tgrad else {"use_reentrant": False}
        run = module.utils.checkpoint.checkpoint
        run(lambda x, to=to: (to(x.exp()) * to(x)).sin(), x, **options).sum().backward()
        found.append(x.grad)
    same(*found)


def test_complex_numbers(other):
    found = []
    for module, to in ((tgrad, lambda t: t.to(other)), (torch, lambda t: t)):
        z = module.complex(module.tensor(X), module.tensor(X[::-1].copy())).requires_grad_()
        (to(z) * to(z)).abs().sum().backward()
        found.append(z.grad)
    same(*found)


NUMBERS = {
    "mul": lambda m, a, s: (a * s, s * a),
    "pow": lambda m, a, s: (a.abs() ** s, s ** a),
    "sub": lambda m, a, s: (a - s, s - a),
    "compare": lambda m, a, s: (a > s, s > a),
    "where": lambda m, a, s: (m.where(a > 0, a, s), m.where(a > 0, s, a)),
    "maximum": lambda m, a, s: (m.maximum(a, s), m.maximum(s, a)),
    "atan2": lambda m, a, s: (m.atan2(a, s), m.atan2(s, a)),
    "fmod": lambda m, a, s: (m.fmod(a, s), m.fmod(s, a)),
    "xlogy": lambda m, a, s: (m.xlogy(s, a.abs()),),
    "two numbers": lambda m, a, s: (a.sum() * s, s / a.sum()),
}  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_on_the_cpu_goes_with_every_device(name, other):
    found = []
    for module, options in ((tgrad, {"device": other}), (torch, {})):
        a = module.tensor(X, requires_grad=True, **options)
        s = module.tensor(2.5, requires_grad=True)
        results = NUMBERS[name](module, a, s)
        if results[0].requires_grad:
            sum(r.sum() for r in results).backward()
        found.append((*results, *(t.grad for t in (a, s) if t.grad is not None)))
    assert len(found[0]) == len(found[1])
    for ours, theirs in zip(*found):
        same(ours, theirs)
    assert all(r.device == other for r in found[0][: len(results)])
    with pytest.raises(DeviceError):
        tgrad.ones(2) * tgrad.ones(2, device=other)


def two_stages(module, second):
    """A model whose second half is on another device."""

    class Model(module.nn.Module):
        def __init__(self):
            super().__init__()
            nn = module.nn
            self.first = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.BatchNorm1d(16))
            self.second = nn.Sequential(nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 4)).to(second)

        def forward(self, x):
            return self.second(self.first(x).to(second))

    return Model()


def steps(module, model, second, count, compiled=False):
    """The losses of a training loop."""
    numbers = np.random.default_rng(0)
    optimizer = module.optim.AdamW(model.parameters(), lr=0.01)

    def step(x, y):
        loss = module.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        module.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        return loss.detach()

    run = tgrad.compile(step) if compiled else step
    losses = []
    for _ in range(count):
        x = module.tensor(numbers.standard_normal((32, 8)).astype(np.float32))
        y = module.tensor(numbers.integers(0, 4, 32)).to(second)
        losses.append(float(run(x, y)))
    return losses


@pytest.mark.parametrize("compiled", [False, True])
def test_a_model_on_two_devices(other, compiled):
    theirs = two_stages(torch, "cpu")
    ours = two_stages(tgrad, other)
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    found = steps(tgrad, ours, other, 4, compiled)
    expected = steps(torch, theirs, "cpu", 4)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert {str(p.device) for p in ours.parameters()} == {"cpu", str(other)}
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(
            ours.state_dict()[name].numpy(), value.numpy(), rtol=1e-3, atol=1e-4
        )


def test_a_step_is_two_plans_a_device():
    """The first device computes what it sends, and its step when the gradient is back; the second
    its own step, and what waits for the norm of all gradients."""
    other = tgrad.device("numpy")
    model = two_stages(tgrad, other)
    steps(tgrad, model, other, 2)
    before = [counters(d).plans for d in (tgrad.device("cpu"), other)]
    steps(tgrad, model, other, 1)
    after = [counters(d).plans for d in (tgrad.device("cpu"), other)]
    fresh = 2  # the numbers that a new optimizer keeps, once for each device
    assert max(b - a for a, b in zip(before, after)) <= 2 + fresh


@pytest.mark.parametrize("order", [2.0, 1.0, float("inf")])
def test_norm_over_two_devices(other, order):
    ours = [leaf(tgrad), tgrad.tensor(X * 3, device=other, requires_grad=True)]
    theirs = [leaf(torch), leaf(torch, X * 3)]
    for a, b in zip(ours, theirs):
        (a**2).sum().backward()
        (b**2).sum().backward()
    norm = tgrad.nn.utils.clip_grad_norm_(ours, 1.0, order)
    same(norm, torch.nn.utils.clip_grad_norm_(theirs, 1.0, order))
    assert norm.device == tgrad.device("cpu")
    for a, b in zip(ours, theirs):
        same(a.grad, b.grad)
        assert a.grad.device == a.device


def test_a_module_moves_where_gradients_are_live(other):
    model = tgrad.nn.Linear(3, 2)
    theirs = torch.nn.Linear(3, 2)
    model.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    model(tgrad.tensor(X)).sum().backward()
    model.to(other)
    assert model.weight.device == model.weight.grad.device == other
    (model(tgrad.tensor(X).to(other)) ** 2).sum().backward()
    theirs(torch.tensor(X)).sum().backward()
    (theirs(torch.tensor(X)) ** 2).sum().backward()
    same(model.weight.grad, theirs.weight.grad)


def test_a_loop_between_devices_that_reads_nothing(other):
    h = tgrad.ones(3)
    for _ in range(300):
        h = (h * 0.99).to(other).cpu()
    np.testing.assert_allclose(h.numpy(), 0.99**300, rtol=1e-4)


def test_what_is_never_read_does_no_harm(other):
    x = leaf(tgrad)
    kept = [(x * n).to(other) for n in range(5)]
    x.sum().backward()
    same(x.grad, torch.ones(2, 3))
    del kept[:3]
    same(kept[1], torch.tensor(X * 4))


def test_compiled_results_of_another_device(other):
    w = leaf(tgrad)

    @tgrad.compile
    def run(x):
        return x.to(other), (x * w).detach().to(other) * 2, (x.to(other) + 1).cpu()

    for scale in (1, 2, 3):
        x = tgrad.tensor(X * scale)
        a, b, c = run(x)
        assert (a.device, b.device, c.device) == (other, other, tgrad.device("cpu"))
        same(a, torch.tensor(X * scale))
        same(b, torch.tensor(X * X * scale * 2))
        same(c, torch.tensor(X * scale + 1))


@pytest.mark.parametrize("size", [3, 5, 2, 16])
def test_compiled_with_symbolic_sizes(other, size):
    w = tgrad.ones(3, requires_grad=True)

    @tgrad.compile(dynamic={"x": {0: (1, 16)}})
    def run(x):
        w.grad = None
        h = (x * w).to(other) + 1
        loss = h.exp().mean()
        loss.backward()
        return loss.detach(), (x * 2).to(other)

    first = np.arange(7 * 3, dtype=np.float32).reshape(7, 3) / 8
    for array in (first, first[:size] if size < 7 else np.tile(first, (3, 1))[:size]):
        loss, twice = run(tgrad.tensor(array))
        expected = torch.ones(3, requires_grad=True)
        value = (torch.tensor(array) * expected + 1).exp().mean()
        value.backward()
        same(loss, value)
        same(w.grad, expected.grad)
        same(twice, torch.tensor(array * 2))


def test_a_compiled_call_that_fails_on_the_second_device_changes_nothing():
    w = tgrad.eye(2)

    @tgrad.compile
    def run(x):
        factor = tgrad.linalg.cholesky((x * w).to("numpy"))
        w.mul_(2)
        return factor

    good, bad = tgrad.eye(2) * 4, tgrad.eye(2) * -1
    np.testing.assert_array_equal(run(good).numpy(), np.eye(2) * 2)
    with pytest.raises(LinAlgError):
        run(bad)
    np.testing.assert_array_equal(w.numpy(), np.eye(2) * 2)
    np.testing.assert_allclose(run(good).numpy(), np.eye(2) * 8**0.5, rtol=1e-6)
    np.testing.assert_array_equal(w.numpy(), np.eye(2) * 4)


def test_a_plan_that_fails_is_not_tried_again():
    """What waited for it waits no longer, as on one device."""
    bad = tgrad.linalg.cholesky(tgrad.eye(2, requires_grad=True) * -1)
    kept = (bad + 1).to("numpy")
    with pytest.raises(LinAlgError):
        kept.numpy()
    assert tgrad.ones(2).add(1).tolist() == [2.0, 2.0]
    with pytest.raises(LinAlgError):
        kept.numpy()


def test_what_no_gradient_flows_through_is_copied_at_once(other):
    """A loop over a data set that keeps its predictions does not keep its graph."""
    x = tgrad.tensor(X)
    with tgrad.no_grad():
        kept = [(x * n).to(other) for n in range(3)]
    assert all(t._storage is not None for t in kept)


def test_a_long_loop_that_forgot_no_grad_is_cut(other):
    x, kept = leaf(tgrad), []
    for n in range(1500):
        y = x * n
        for _ in range(9):
            y = y * 1.0 + 1.0
        kept.append(y.sum().to(other))
        x.detach() + 1
    waiting = [t for t in kept if needed_moves([t._node])[0]]
    assert len(waiting) < 1000
    np.testing.assert_allclose(kept[7].item(), X.sum() * 7 + 54, rtol=1e-5)
