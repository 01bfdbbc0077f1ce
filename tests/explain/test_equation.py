"""Regions as equations."""

from __future__ import annotations

import tgrad
from tgrad.runtime.report.equation import equations_of


def equations(tensor: tgrad.Tensor) -> list[tuple[str, ...]]:
    return [equations_of(k.region) for k in tgrad.explain(tensor).kernels]


def test_elementwise() -> None:
    x, y = tgrad.ones(4).realize(), (tgrad.ones(4) * 2).realize()
    ((line,),) = equations((x + y) * x / y)
    assert line == "out0 = ((in0 + in1) * in0) / in1"


def test_a_value_with_several_uses_has_a_name() -> None:
    x = tgrad.ones(8, 16).realize()
    (lines,) = equations(x.softmax(1))
    assert lines == ("v3 = exp(in0 - max[i1](in0))", "out0 = v3 / sum[i1](v3)")


def test_a_load_that_lacks_axes_names_its_own() -> None:
    x, b = tgrad.ones(8, 16).realize(), (tgrad.ones(16) * 2).realize()
    ((line,),) = equations(x + b)
    assert line == "out0 = in0 + in1(i1)"


def test_dot() -> None:
    a, b = tgrad.ones(32, 64).realize(), (tgrad.ones(64, 16) * 2).realize()
    ((line,),) = equations((a @ b).relu())
    assert line == "out0 = maximum(dot[r0](in0(i0 r0), in1(i1 r0)), 0.0)"
