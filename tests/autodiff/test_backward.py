"""Reverse mode: what flows where, against PyTorch where the meaning is subtle, and its errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from tests.graph.oracle import leaf, value
from tgrad import dtype as dt
from tgrad.autodiff import backward, gradients, register_vjp
from tgrad.errors import GradientError, Source, VerifyError
from tgrad.graph import build as b
from tgrad.graph.node import Node, make, source_scope, toposort
from tgrad.graph.op import Op

TIES = [1.0, 2.0, 2.0, -1.0, 2.0]
NANS = [1.0, np.nan, 3.0, np.nan, -1.0]
ZEROS = [0.0, -0.0, 2.0, 0.0, -3.0]


def op(name: Op, **attrs: Any) -> Callable[..., Node]:
    return lambda *inputs: make(name, *inputs, **attrs)


def scatter_reduce(how: str) -> Callable[..., torch.Tensor]:
    index = torch.tensor([1, 1, 3, 0, 3])
    return lambda x, y: x.scatter_reduce(0, index, y, how)


def scatter(how: str) -> Callable[..., Node]:
    index = leaf([1, 1, 3, 0, 3])
    return lambda x, y: make(Op.SCATTER, x, index, y, axis=0, combine=how)


# ours, PyTorch's, operands
AGAINST_TORCH: list[tuple[str, Callable[..., Node], Callable[..., torch.Tensor], list[list]]] = [
    ("abs at zero", op(Op.ABS), torch.abs, [ZEROS]),
    ("abs of NaN", op(Op.ABS), torch.abs, [NANS]),
    ("sqrt at zero", op(Op.SQRT), torch.sqrt, [ZEROS]),
    ("rsqrt at zero", op(Op.RSQRT), torch.rsqrt, [ZEROS]),
    ("log at zero", op(Op.LOG), torch.log, [ZEROS]),
    ("round", op(Op.ROUND), torch.round, [TIES]),
    ("maximum ties", op(Op.MAXIMUM), torch.maximum, [TIES, [2.0, 2.0, 1.0, -1.0, 3.0]]),
    ("minimum ties", op(Op.MINIMUM), torch.minimum, [TIES, [2.0, 2.0, 1.0, -1.0, 3.0]]),
    ("maximum NaN", op(Op.MAXIMUM), torch.maximum, [NANS, TIES]),
    ("minimum NaN", op(Op.MINIMUM), torch.minimum, [TIES, NANS]),
    ("pow of zero", op(Op.POW), torch.pow, [ZEROS, [2.0, 1.0, 0.0, 0.0, 3.0]]),
    ("pow to zero", op(Op.POW), torch.pow, [NANS, [0.0, 0.0, 0.0, 1.0, 2.0]]),
    ("pow of zero to negative", op(Op.POW), torch.pow, [[0.0, 0.0], [-1.0, 0.5]]),
    ("div by zero", op(Op.DIV), torch.div, [TIES, ZEROS]),
    ("mod", op(Op.MOD), torch.remainder, [[5.5, -5.5, 5.5], [2.0, 2.0, -2.0]]),
    ("max ties", op(Op.REDUCE_MAX, axes=(0,)), lambda x: torch.amax(x, 0), [TIES]),
    ("min ties", op(Op.REDUCE_MIN, axes=(0,)), lambda x: torch.amin(x, 0), [TIES]),
    ("max NaN", op(Op.REDUCE_MAX, axes=(0,)), lambda x: torch.amax(x, 0), [NANS]),
    ("prod one zero", op(Op.REDUCE_PROD, axes=(0,)), lambda x: x.prod(0), [[2.0, 0.0, 3.0]]),
    ("prod two zeros", op(Op.REDUCE_PROD, axes=(0,)), lambda x: x.prod(0), [ZEROS]),
    ("scatter max ties", scatter("max"), scatter_reduce("amax"), [TIES, [2.0, 2.0, 1.0, 5.0, 1.0]]),
    ("scatter min ties", scatter("min"), scatter_reduce("amin"),
     [TIES, [2.0, 2.0, 1.0, 5.0, -1.0]]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("ours", "theirs", "operands"),
    [c[1:] for c in AGAINST_TORCH],
    ids=[c[0] for c in AGAINST_TORCH],
)
def test_against_torch(
    ours: Callable[..., Node], theirs: Callable[..., torch.Tensor], operands: list[list]
) -> None:
    nodes = [leaf(o) for o in operands]
    tensors = [torch.tensor(o, dtype=torch.float64, requires_grad=True) for o in operands]
    y, t = ours(*nodes), theirs(*tensors)
    weights = np.linspace(0.5, 2.0, y.size).reshape(y.shape)
    t.backward(torch.from_numpy(weights))
    for g, tensor in zip(gradients(y, leaf(weights), nodes), tensors, strict=True):
        assert g is not None
        assert tensor.grad is not None
        np.testing.assert_allclose(value(g), tensor.grad.numpy(), rtol=1e-12)


def test_third_order() -> None:
    x = leaf([0.7, -1.3])
    y = make(Op.SIN, b.mul(x, x))
    t = torch.tensor([0.7, -1.3], dtype=torch.float64, requires_grad=True)
    expected = (t * t).sin()
    for _ in range(3):
        found = gradients(y, b.const_like(y, 1), [x])[0]
        assert found is not None
        y = found
        (expected,) = torch.autograd.grad(expected.sum(), t, create_graph=True)
    np.testing.assert_allclose(value(y), expected.detach().numpy(), rtol=1e-12)


def test_interior_nodes_and_the_output_itself() -> None:
    x = leaf([1.0, 2.0])
    middle = make(Op.EXP, x)
    y = b.mul(middle, middle)
    g = leaf([1.0, 10.0])
    of_y, of_middle, of_x = gradients(y, g, [y, middle, x])
    assert of_y is g
    assert of_middle is not None
    assert of_x is not None
    np.testing.assert_allclose(value(of_middle), [2 * np.e, 20 * np.exp(2)])
    np.testing.assert_allclose(value(of_x), [2 * np.e**2, 20 * np.exp(4)])


def test_independent_nodes_have_no_gradient() -> None:
    x, other = leaf([1.0]), leaf([2.0])
    through_bits = b.cast_to(b.less(x, other), dt.float64)
    assert gradients(b.add(other, through_bits), leaf([1.0]), [x]) == [None]
    assert gradients(make(Op.EXP, other), leaf([1.0]), [x, make(Op.EXP, x)]) == [None, None]
    through_int = b.cast_to(b.cast_to(x, dt.int32), dt.float64)
    assert gradients(through_int, leaf([1.0]), [x]) == [None]


def test_only_what_leads_to_wrt_is_visited() -> None:
    x, huge = leaf([1.0]), leaf([1.0])
    unused = make(Op.BITCAST, huge, dtype=dt.float64)  # has no VJP
    (g,) = gradients(b.mul(make(Op.SIN, x), unused), leaf([1.0]), [x])
    assert g is not None
    assert Op.LOG not in {node.op for node in toposort([g])}
    cube = b.power(x, b.const_like(x, 3))
    (g,) = gradients(cube, leaf([1.0]), [x])
    assert g is not None
    assert Op.LOG not in {node.op for node in toposort([g])}  # no gradient of the exponent


@pytest.mark.parametrize("dtype", [dt.float16, dt.bfloat16, dt.float32])
def test_gradients_have_the_dtype_of_their_node(dtype: dt.DType) -> None:
    x, w = leaf(np.ones((2, 3)), dtype), leaf(np.ones((3, 4)), dtype)
    y = make(Op.DOT, x, w, contract=((1,), (0,)), batch=((), ()), dtype=dt.float32)
    y = b.cast_to(make(Op.REDUCE_MAX, make(Op.TANH, y), axes=(1,)), dt.float64)
    for node, g in zip((x, w), gradients(y, b.const_like(y, 1), [x, w]), strict=True):
        assert g is not None
        assert (g.shape, g.dtype) == (node.shape, dtype)


def test_ties_of_many_halves_are_counted_in_float32() -> None:
    x = leaf(np.ones(100_000), dt.float16)
    y = make(Op.REDUCE_MAX, x, axes=(0,))
    (g,) = gradients(y, leaf(1024.0, dt.float16), [x])
    assert g is not None
    np.testing.assert_allclose(value(g).astype(np.float64), 0.01024, rtol=1e-3)


def test_dot_gradients_need_no_permute_for_usual_layouts() -> None:
    """x @ w and x @ wᵀ: gradients come out of the dot in the order of the operand's axes."""
    x = leaf(np.ones((5, 3)))
    for shape, contract in (((3, 4), ((1,), (0,))), ((4, 3), ((1,), (1,)))):
        w = leaf(np.ones(shape))
        y = make(Op.DOT, x, w, contract=contract, batch=((), ()), dtype=dt.float64)
        for g in gradients(y, leaf(np.ones((5, 4))), [x, w]):
            assert g is not None
            assert g.op is Op.DOT


def test_backward_nodes_carry_the_forward_line() -> None:
    x = leaf([1.0, 2.0])
    with source_scope(Source("model.py", 7, "gelu")):
        y = make(Op.ERF, b.mul(x, leaf([3.0, 4.0])))
    (g,) = gradients(y, leaf([1.0, 1.0]), [x])
    assert g is not None
    assert g.source == Source("model.py", 7, "gelu_backward")
    (second,) = gradients(g, leaf([1.0, 1.0]), [x])
    assert second is not None
    assert second.source == Source("model.py", 7, "gelu_backward")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(backward, "_custom_rules", dict(backward._custom_rules))
    yield


def mark(result: Node, *arguments: Node, rule: str, params: tuple = ()) -> Node:
    return make(Op.CUSTOM_VJP, result, *arguments, rule=rule, params=params)


def test_detach_stops_the_gradient() -> None:
    x = leaf([3.0])
    held = mark(make(Op.EXP, x), rule="detach")
    assert gradients(held, leaf([1.0]), [x]) == [None]
    (g,) = gradients(b.mul(held, x), leaf([1.0]), [x])
    assert g is not None
    np.testing.assert_allclose(value(g), [np.exp(3)])
    (of_held,) = gradients(b.mul(held, x), leaf([1.0]), [held])
    assert of_held is not None
    assert value(of_held) == [3]


@pytest.mark.usefixtures("registry")
def test_custom_rule_is_used_and_differentiated_again() -> None:
    calls = []

    @register_vjp("scaled_exp")
    def rule(
        g: Node, result: Node, arguments: tuple[Node, ...], params: tuple[Any, ...]
    ) -> Sequence[Node | None]:
        calls.append(result.op)
        (scale,) = params
        return (b.mul(b.mul(g, result), b.const_like(g, scale)), None)

    x, unused = leaf([0.5, -1.0]), leaf([1.0, 1.0])
    y = mark(make(Op.EXP, b.mul(x, b.const_like(x, 2))), x, unused, rule="scaled_exp", params=(2,))
    g, none = gradients(y, leaf([1.0, 1.0]), [x, unused])
    assert g is not None
    assert none is None
    np.testing.assert_allclose(value(g), 2 * np.exp(2 * np.array([0.5, -1.0])))
    (second,) = gradients(g, leaf([1.0, 1.0]), [x])
    assert second is not None
    np.testing.assert_allclose(value(second), 4 * np.exp(2 * np.array([0.5, -1.0])))
    assert calls == [Op.CUSTOM_VJP, Op.CUSTOM_VJP]


@pytest.mark.usefixtures("registry")
def test_errors_of_custom_rules() -> None:
    x = leaf([1.0, 2.0])
    one = leaf([1.0, 1.0])
    with pytest.raises(GradientError, match="no VJP is registered under the name 'lost'"):
        gradients(mark(x, x, rule="lost"), one, [x])
    register_vjp("few")(lambda g, result, arguments, params: ())
    with pytest.raises(GradientError, match="'few' gives 0 gradients for 1 arguments"):
        gradients(mark(x, x, rule="few"), one, [x])
    register_vjp("wrong")(lambda g, result, arguments, params: (b.sum_over(g, (0,)),))
    with pytest.raises(VerifyError, match=r"the VJP of <custom_vjp .* gives <reduce_sum f64\[\]"):
        gradients(mark(x, x, rule="wrong"), one, [x])

    def rule(
        g: Node, result: Node, arguments: tuple[Node, ...], params: tuple[Any, ...]
    ) -> Sequence[Node | None]:
        return arguments

    with pytest.raises(GradientError, match="'few' is registered already"):
        register_vjp("few")(rule)


def test_errors() -> None:
    x, i = leaf([1.0, 2.0]), leaf([1, 2])
    one = leaf([1.0, 1.0])
    with pytest.raises(GradientError, match="int64 tensors have no gradient"):
        gradients(x, one, [i])
    with pytest.raises(GradientError, match="int64 tensors have no gradient"):
        gradients(i, one, [x])
    with pytest.raises(GradientError, match=r"the gradient is float64 of shape \(1,\)"):
        gradients(x, leaf([1.0]), [x])
    with pytest.raises(GradientError, match="bitcast has no gradient: the bits of a float"):
        gradients(make(Op.BITCAST, x, dtype=dt.float64), one, [x])
