"""Modules that take sizes from their first input, against PyTorch's."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

import tgrad
from tests.front.checking import normal
from tgrad import nn
from tgrad.errors import ShapeError, TgradError, TraceError
from tgrad.nn.modules.lazy import LazyModuleMixin

# name, arguments, shape of the input
CASES = [
    ("LazyLinear", (5,), {}, (2, 3)),
    ("LazyLinear", (5,), {"bias": False}, (3,)),
    ("LazyConv1d", (4, 3), {}, (2, 3, 9)),
    ("LazyConv1d", (4, 3), {"bias": False}, (3, 9)),
    ("LazyConv2d", (4, (3, 2)), {"groups": 2, "padding": 1}, (2, 6, 5, 6)),
    ("LazyConv3d", (4, 2), {"stride": 2, "padding_mode": "circular"}, (1, 2, 4, 4, 4)),
    ("LazyConvTranspose1d", (4, 3), {"stride": 2, "output_padding": 1}, (2, 3, 5)),
    ("LazyConvTranspose2d", (4, 3), {"groups": 2, "bias": False}, (2, 6, 3, 4)),
    ("LazyConvTranspose3d", (2, 2), {"dilation": 2}, (1, 3, 2, 3, 2)),
    ("LazyBatchNorm1d", (), {}, (4, 3)),
    ("LazyBatchNorm1d", (), {"affine": False, "momentum": None}, (4, 3, 5)),
    ("LazyBatchNorm2d", (), {"track_running_stats": False, "eps": 0.1}, (4, 3, 5, 2)),
    ("LazyBatchNorm3d", (0.01,), {}, (2, 3, 2, 3, 2)),
    ("LazyInstanceNorm1d", (), {}, (2, 3, 6)),
    ("LazyInstanceNorm2d", (), {"affine": False}, (2, 3, 4, 5)),
    ("LazyInstanceNorm3d", (), {"track_running_stats": False}, (2, 3, 2, 3, 4)),
]


def made(name, args, options):
    return getattr(nn, name)(*args, **options), getattr(torch.nn, name)(*args, **options)


@pytest.mark.parametrize(("name", "args", "options", "shape"), CASES)
def test_the_first_call_makes_parameters(name, args, options, shape):
    ours, theirs = made(name, args, options)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    parameters, x = list(ours.parameters()), normal(0, *shape)
    assert ours.has_uninitialized_params() == theirs.has_uninitialized_params()
    theirs(torch.tensor(x))
    ours(tgrad.tensor(x))
    assert repr(ours) == repr(theirs) and type(ours).__name__ == type(theirs).__name__
    assert type(ours) is getattr(nn, name.removeprefix("Lazy"))
    assert all(a is b and type(b) is nn.Parameter for a, b in zip(parameters, ours.parameters()))
    for ours_, theirs_ in zip(ours.state_dict().values(), theirs.state_dict().values()):
        assert ours_.shape == tuple(theirs_.shape)
    ours.load_state_dict(theirs.state_dict())
    x, x_ = tgrad.tensor(x * 2, requires_grad=True), torch.tensor(x * 2, requires_grad=True)
    have, want = ours(x), theirs(x_)
    np.testing.assert_allclose(have.numpy(), want.detach(), rtol=1e-4, atol=1e-5)
    weight = normal(1, *want.shape)
    (have * tgrad.tensor(weight)).sum().backward()
    (want * torch.tensor(weight)).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), x_.grad, rtol=1e-3, atol=1e-4)
    for ours_, theirs_ in zip(ours.parameters(), theirs.parameters()):
        np.testing.assert_allclose(ours_.grad.numpy(), theirs_.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("name", "args", "options", "shape"), CASES)
def test_values_loaded_before_the_first_call(name, args, options, shape):
    ours, theirs = made(name, args, options)
    x = normal(0, *shape)
    want = theirs(torch.tensor(x)), theirs.eval()(torch.tensor(x))[0]
    ours.load_state_dict(theirs.state_dict())
    assert not ours.has_uninitialized_params() and "Lazy" in type(ours).__name__
    have = ours.eval()(tgrad.tensor(x))[0]
    assert repr(ours) == repr(theirs)
    np.testing.assert_allclose(have.numpy(), want[1].detach(), rtol=1e-4, atol=1e-5)


def test_initial_values_are_those_of_the_ordinary_module():
    tgrad.manual_seed(3)
    lazy = nn.LazyLinear(64)
    lazy(tgrad.ones(1, 400))
    bound = 1 / 20
    for values in (lazy.weight.numpy(), lazy.bias.numpy()):
        assert np.abs(values).max() <= bound and values.std() > bound / 3
    norm = nn.LazyBatchNorm1d()
    norm(tgrad.zeros(3, 2))
    assert norm.weight.tolist() == [1, 1]


def test_a_step_with_an_optimizer_made_before():
    model = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(1))
    optimizers = [
        tgrad.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        tgrad.optim.Adam(model.parameters(), lr=0.1),
    ]
    x = tgrad.tensor(normal(0, 8, 3))
    model(x)

    @tgrad.compile
    def step(x):
        loss = (model(x) ** 2).mean()
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        return loss

    losses = [step(x).item() for _ in range(4)]
    assert losses[-1] < losses[0] and step.traces <= 2


def test_dtype_and_device_before_the_first_call():
    layer = nn.Sequential(nn.LazyLinear(2), nn.LazyBatchNorm1d()).to(tgrad.float64).to("numpy")
    assert layer[0].weight.dtype is tgrad.float64 and layer[0].weight.device.type == "numpy"
    assert isinstance(layer[1].running_mean, nn.UninitializedBuffer)
    layer(tgrad.ones(4, 3, dtype=tgrad.float64, device="numpy"))
    for t in (*layer.parameters(), layer[1].running_var):
        assert t.dtype is tgrad.float64 and t.device.type == "numpy"
    assert layer[1].num_batches_tracked.dtype is tgrad.int64
    assert nn.LazyLinear(2).half().weight.dtype is tgrad.float16


def test_copies_before_the_first_call():
    layer = nn.LazyLinear(2)
    layer.bias.requires_grad_(False)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert repr(twin.weight) == "<UninitializedParameter>" and twin.weight is not layer.weight
        twin(tgrad.ones(1, 3))
        assert twin.weight.requires_grad and not twin.bias.requires_grad
        assert layer.has_uninitialized_params()
    state = layer.state_dict()
    assert nn.parameter.is_lazy(state["weight"]) and state["weight"] is not layer.weight
    assert layer.load_state_dict(state).missing_keys == []
    assert layer.has_uninitialized_params()
    layer.zero_grad()
    layer.load_state_dict(nn.Linear(7, 2).state_dict(), assign=True)
    assert layer.weight.shape == (2, 7)


def test_parameters_alone():
    p = nn.UninitializedParameter(requires_grad=False, dtype=tgrad.float16)
    p.materialize((2, 0))
    assert type(p) is nn.Parameter and p.shape == (2, 0) and p.dtype is tgrad.float16
    assert not p.requires_grad
    p = nn.parameter.UninitializedParameter()
    p.materialize((3,), dtype=tgrad.float64, device="numpy")
    assert (p.requires_grad, p.dtype, p.device.type) == (True, tgrad.float64, "numpy")
    net = nn.Module()
    net.a, net.b = nn.UninitializedBuffer(), nn.UninitializedBuffer(persistent=False)
    assert list(net.state_dict()) == ["a"] and len(list(net.buffers())) == 2
    net.a.materialize((2,))
    assert net.a.tolist() == [0.0, 0.0] and type(net.a) is nn.Buffer


@pytest.mark.parametrize(
    "use",
    [
        lambda p: p.shape,
        lambda p: p.size(),
        lambda p: p.numel(),
        lambda p: p + 1,
        lambda p: tgrad.ones(1) @ p,
        lambda p: p.detach(),
        lambda p: p.clone(),
        lambda p: p.numpy(),
        lambda p: p.copy_(tgrad.ones(2)),
        lambda p: nn.init.ones_(p),
        lambda p: len(p),
        lambda p: p[0],
        lambda p: tgrad.stack([p]),
        lambda p: p.sum().backward(),
        lambda p: nn.Parameter(p),
    ],
)
def test_uses_before_the_shape_is_known(use):
    with pytest.raises(ShapeError) as caught:
        use(nn.LazyLinear(2).weight)
    said = str(caught.value)
    assert "an UninitializedParameter is used: it has no shape and no values yet." in said
    assert "Call the lazy module once, load a state_dict, or use materialize(shape)." in said
    assert "test_lazy_modules.py" in said


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: nn.LazyConv1d(4, 3, groups=3), "LazyConv1d: 4 channels in 3 groups."),
        (lambda: nn.LazyConv1d(4, 3, groups=2)(tgrad.ones(2, 3, 5)), "3 channels in 2 groups."),
        (lambda: nn.LazyConv1d(4, 3)(tgrad.ones(2, 2, 3, 5)), "LazyConv1d of shape (2, 2, 3, 5)."),
        (lambda: nn.LazyBatchNorm1d()(tgrad.ones(2, 2, 3, 5)), "LazyBatchNorm1d of shape (2, 2, 3"),
        (lambda: nn.LazyLinear(2).forward(tgrad.ones(2)), "an UninitializedParameter is used"),
        (
            lambda: nn.Linear(2, 3).load_state_dict(nn.LazyLinear(3).state_dict()),
            "load_state_dict: 'weight' has shape (3, 2), the value none yet.",
        ),
        (lambda: LazyModuleMixin()(1), "LazyModuleMixin has no initialize_parameters."),
    ],
)
def test_mistakes(make, what):
    with pytest.raises(TgradError) as caught:
        make()
    assert what in str(caught.value)


def test_a_refused_call_leaves_the_module_lazy():
    layer = nn.LazyConv1d(4, 3)
    with pytest.raises(ShapeError):
        layer(tgrad.ones(2))
    assert layer.has_uninitialized_params()
    assert layer(tgrad.ones(2, 5)).shape == (4, 3)


def test_compiled_before_the_first_call():
    layer = nn.LazyLinear(2)
    with pytest.raises(ShapeError, match=r"Call the lazy module once, load a state_dict"):
        tgrad.compile(layer)(tgrad.ones(1, 3))
    assert layer.has_uninitialized_params()
    layer.load_state_dict(nn.Linear(3, 2).state_dict())
    with pytest.raises(TraceError, match=r"the first call of a LazyLinear(.|\n)*Call it once befo"):
        tgrad.compile(layer)(tgrad.ones(1, 3))
    layer(tgrad.ones(1, 3))
    assert tgrad.compile(layer)(tgrad.ones(1, 3)).shape == (1, 2)

    @tgrad.compile
    def make(x):
        p = nn.UninitializedParameter()
        p.materialize(x.shape)
        return x + p

    with pytest.raises(TraceError, match=r"a lazy parameter gets its shape"):
        make(tgrad.ones(2))


def test_modules_of_users():
    class Scale(LazyModuleMixin, nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.UninitializedParameter()

        def initialize_parameters(self, x):
            if self.has_uninitialized_params():
                self.weight.materialize((x.shape[-1],))

        def forward(self, x):
            return x + self.weight

    model = nn.Sequential(Scale(), nn.LazyLinear(1))
    assert model(tgrad.ones(2, 3)).shape == (2, 1) and type(model[0]) is Scale

    class Forgets(Scale):
        def initialize_parameters(self, x):
            pass

    with pytest.raises(ShapeError, match=r"Forgets\.initialize_parameters left parameters uninit"):
        Forgets()(tgrad.ones(2))


def test_unbatched_input_of_an_instance_norm():
    """Where PyTorch takes the wrong axis."""
    layer = nn.LazyInstanceNorm1d()
    assert layer(tgrad.ones(3, 5)).shape == (3, 5) and layer.num_features == 3
