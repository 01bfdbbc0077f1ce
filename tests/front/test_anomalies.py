"""`detect_anomaly`: the line whose derivative gave NaN."""

from __future__ import annotations

import pytest
import torch

import tgrad
from tgrad import nn
from tgrad.errors import GradientError, TraceError


def hidden_branch(t, x):
    return t.where(x > 0, x.sqrt(), t.zeros_like(x)).sum()  # of hidden_branch


def product_with_zero(t, x):
    y = x.log()  # of product_with_zero
    return (y * 0).sum()


def loss(t, x):
    return t.nn.functional.mse_loss(x, x / 0)  # of loss


def rows(t, x):
    y = x / 0.0
    return t.softmax(y, 0).sum()  # of rows


@pytest.mark.filterwarnings("ignore:Error detected in")
@pytest.mark.parametrize("function", [hidden_branch, product_with_zero, loss, rows])
def test_the_line_of_the_forward_pass(function, device):
    names = []
    for library in (tgrad, torch):
        x = library.tensor([0.0, 1.0, 4.0], requires_grad=True)
        x = x if library is torch else tgrad.tensor([0.0, 1.0, 4.0], device=device).requires_grad_()
        with (
            pytest.warns(UserWarning, match="Anomaly Detection has been enabled"),
            library.autograd.detect_anomaly(),
            pytest.raises(RuntimeError, match="returned nan values in its 0th output") as caught,
        ):
            function(library, x).backward()
        names.append(str(caught.value).split("'")[1].rstrip("0"))
        if library is tgrad:
            assert f"# of {function.__name__}" in caught.value.source.text
    assert names[0] == names[1]


def test_gradients_with_no_nan_are_as_ever():
    found = []
    for look in (False, True):
        tgrad.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(), nn.Dropout(0.5))
        with tgrad.autograd.set_detect_anomaly(look):
            y = model(tgrad.ones(3, 4)).square().mean()
            y.backward()
            (g,) = tgrad.autograd.grad(model[0].weight.cos().sum(), model[0].weight)
        found.append([*(p.grad.tolist() for p in model.parameters()), g.tolist()])
    assert found[0] == found[1]


def test_the_switch():
    for library in (tgrad, torch):
        assert not library.is_anomaly_enabled() and library.is_anomaly_check_nan_enabled()
        library.autograd.set_detect_anomaly(True, check_nan=False)
        x = library.zeros(2, requires_grad=True)
        (x.sqrt() * 0).sum().backward()
        assert library.is_anomaly_enabled() and not library.is_anomaly_check_nan_enabled()
        with library.autograd.set_detect_anomaly(False):
            assert not library.is_anomaly_enabled()
        assert library.is_anomaly_enabled()
        library.autograd.set_detect_anomaly(False)
        assert not library.is_anomaly_enabled()


def test_functions_of_a_program_s_own():
    class Bad(tgrad.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * float("nan")

    x = tgrad.ones(2, requires_grad=True)
    with tgrad.autograd.set_detect_anomaly(True), pytest.raises(GradientError) as caught:
        Bad.apply(x).sum().backward()
    assert "Bad.apply" in caught.value.source.text


def test_compiled_steps_refuse():
    layer = nn.Linear(2, 2)

    @tgrad.compile
    def step(x):
        layer(x).sum().backward()

    step(tgrad.ones(1, 2))
    with (
        tgrad.autograd.set_detect_anomaly(True),
        pytest.raises(TraceError, match="detect_anomaly looks at gradients while"),
    ):
        step(tgrad.ones(1, 2))
    step(tgrad.ones(1, 2))
