"""PyTorch's arguments of compile, and compiled functions that others call."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

import tgrad
from tgrad.errors import TraceError, UnsupportedError


@pytest.mark.parametrize(
    "given",
    [
        {"fullgraph": True}, {"dynamic": True}, {"dynamic": False}, {"backend": "inductor"},
        {"mode": "default"}, {"mode": "reduce-overhead", "fullgraph": True}, {"options": {}},
    ],
)  # fmt: skip
def test_what_scripts_for_pytorch_say(given: dict[str, Any]) -> None:
    step = tgrad.compile(lambda x: x * 2 + 1, **given)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [step(tgrad.ones(n)).tolist() for n in (1, 2, 2)] == [[3], [3, 3], [3, 3]]
    assert step.traces == 2


def test_disabled() -> None:
    def double(x: Any) -> Any:
        return x * 2

    assert tgrad.compile(double, disable=True) is double
    assert tgrad.compile(disable=True)(double) is double


def test_a_mode_that_measures_says_what_does() -> None:
    with pytest.warns(UserWarning, match=r"mode='max-autotune' measures nothing.*tgrad autotune"):
        step = tgrad.compile(lambda x: x + 1, mode="max-autotune")
    assert step(tgrad.ones(1)).tolist() == [2]


@pytest.mark.parametrize(
    ("given", "error", "what"),
    [
        ({"backend": "eager"}, UnsupportedError, r"backend='eager'.*\n.*\n  tgrad is the compiler"),
        ({"backend": print}, UnsupportedError, "backend=<built-in function print>"),
        ({"options": {"shape_padding": True}}, UnsupportedError, "options={'shape_padding': True}"),
        ({"mode": "fast"}, ValueError, "mode='fast'; there are default, reduce-overhead"),
    ],
)
def test_what_is_refused(given: dict[str, Any], error: type[Exception], what: str) -> None:
    with pytest.raises(error, match=what):
        tgrad.compile(lambda x: x, **given)


def test_a_compiled_function_inside_another() -> None:
    """It is part of the outer trace, however often it has run by itself."""
    inner = tgrad.compile(lambda x: x * 2)
    for _ in range(4):
        inner(tgrad.ones(3))
    outer = tgrad.compile(lambda x: inner(x) + 1)
    assert [outer(tgrad.full((3,), n)).tolist() for n in (1.0, 2.0)] == [[3] * 3, [5] * 3]
    assert inner.traces == outer.traces == 1
    assert tgrad.vmap(inner)(tgrad.ones(2, 3)).tolist() == [[2] * 3] * 2
    gradient = tgrad.func.grad(lambda x: inner(x).sum())(tgrad.ones(3))
    assert gradient.tolist() == [2] * 3


def test_stances_say_what_compiled_functions_do() -> None:
    double = tgrad.compile(lambda x: x * 2)

    @tgrad.compiler.set_stance("eager_on_recompile")
    def without_plans(x: Any) -> Any:
        return double(x)

    x, y = (tgrad.ones(n, device="numpy") for n in (2, 3))
    with tgrad.compiler.set_stance("force_eager"):
        assert double(x).tolist() == [2.0, 2.0]
    assert without_plans(x).tolist() == [2.0, 2.0]
    assert double.traces == 0
    assert double(x).tolist() == [2.0, 2.0]
    with tgrad.compiler.set_stance("fail_on_recompile"):
        assert double(x).tolist() == [2.0, 2.0]
        with pytest.raises(TraceError, match="called in a way that no plan is kept for"):
            double(y)
    assert without_plans(y).tolist() == [2.0] * 3
    tgrad.compiler.set_stance("force_eager")
    assert double(y).tolist() == [2.0] * 3
    tgrad.compiler.set_stance("default")
    assert double.traces == 1
    assert double(y).tolist() == [2.0] * 3
    assert double.traces == 2
    with pytest.raises(UnsupportedError, match=r"set_stance\('x'"):
        tgrad.compiler.set_stance("x")
