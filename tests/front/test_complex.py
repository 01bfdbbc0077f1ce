"""Complex tensors against PyTorch's, where the operator database does not reach: operators of
Python, promotion, creation, conversion, writes, autograd, rotary embeddings."""

from __future__ import annotations

import copy
import io
import math
import operator
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import tgrad
from tests.front.checking import assert_near, normal
from tgrad.errors import DTypeError, ShapeError, UnsupportedError
from tgrad.tensor import Tensor

Function = Callable[..., Any]


def numbers(seed: int, *shape: int, kind: Any = np.complex64) -> np.ndarray:
    """Complex numbers of a normal distribution."""
    return (normal(seed, *shape) + 1j * normal(seed + 1000, *shape)).astype(kind)


def same(have: Any, want: Any, tolerance: float = 2e-5) -> None:
    """A result of tgrad against one of torch: kind, dtype, shape, values."""
    if isinstance(want, (tuple, list)):
        assert len(have) == len(want)
        for a, b in zip(have, want):
            same(a, b, tolerance)
    elif isinstance(want, torch.Tensor):
        assert tuple(have.shape) == tuple(want.shape)
        assert have.dtype.name == str(want.dtype).removeprefix("torch.")
        ours, theirs = have.numpy(), want.detach().resolve_conj().numpy()
        if theirs.dtype.kind != "c":
            assert_near(ours, theirs, tolerance, "values")
            return
        for part in ("real", "imag"):
            assert_near(getattr(ours, part), getattr(theirs, part), tolerance, part)
    else:
        assert have == want


def both(function: Function, *arrays: Any, device: str, grad: bool = True) -> None:
    """A function of (library, *tensors) in both: results, and gradients of floats and complex."""
    ours, theirs = [], []
    for a in arrays:
        wants = grad and a.dtype.kind in "fc"
        ours.append(tgrad.tensor(a, device=device).requires_grad_(wants))
        theirs.append(torch.from_numpy(np.array(a)).requires_grad_(wants))
    have, want = function(tgrad, *ours), function(torch, *theirs)
    if isinstance(want, (bool, tuple)):
        assert have == want
        return
    same(have, want)
    if not grad or not isinstance(want, torch.Tensor) or not want.requires_grad:
        return
    weight = numbers(77, *want.shape).astype(np.complex128)
    weight = weight if want.is_complex() else weight.real
    weight = weight.astype(want.detach().resolve_conj().numpy().dtype)
    have.backward(gradient=tgrad.tensor(weight, device=device))
    want.backward(gradient=torch.from_numpy(np.array(weight)))
    for x, y in zip(ours, theirs):
        if y.grad is None or x.grad is None:
            assert all(g is None or not g.numpy().any() for g in (x.grad, y.grad))
        elif y.requires_grad:
            same(x.grad, y.grad, 1e-4)


# -- operators -----------------------------------------------------------------------------------

BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.eq, operator.ne]
OTHERS = {
    "complex": numbers(1, 3), "real": normal(2, 3), "int": np.array([1, 2, 3]),
    "bool": np.array([True, False, True]), "column": numbers(3, 2, 1),
    "0-d": numbers(4, 1).reshape(()),
    "double": normal(5, 3).astype(np.float64), "0-d double": np.array(2.5),
    "complex128": numbers(6, 3, kind=np.complex128),
    "0-d complex128": np.array(1 - 2j),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("op", BINARY)
def test_operators_of_tensors(op: Function, name: str, device: str) -> None:
    """Both ways, with every kind of tensor."""
    if op is operator.sub and name == "bool":
        pytest.skip("PyTorch subtracts no bools")
    both(lambda t, a, b: op(a, b), numbers(0, 3), OTHERS[name], device=device)
    both(lambda t, a, b: op(b, a), numbers(0, 3), OTHERS[name], device=device)


@pytest.mark.parametrize("number", [2, -1.5, 1j, 2 - 3j])
@pytest.mark.parametrize("op", BINARY)
def test_operators_of_numbers(op: Function, number: Any, device: str) -> None:
    """Both ways, of complex tensors; and complex numbers with real ones."""
    for array in (numbers(0, 3), normal(0, 3), normal(0, 3).astype(np.float64), np.arange(1, 4)):
        if array.dtype.kind != "c" and not isinstance(number, complex):
            continue
        both(lambda t, a: op(a, number), array, device=device)
        both(lambda t, a: op(number, a), array, device=device)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, -1, -2, 0.5, -0.5, 1.7, 2j, 1 + 1j, 20])
def test_powers(exponent: Any, device: str) -> None:
    both(lambda t, a: a**exponent, numbers(0, 3), device=device, grad=exponent != 0)
    if exponent != 0:
        both(lambda t, a: 2.0**a, numbers(0, 3), device=device)
        both(lambda t, a: a.pow(exponent), numbers(0, 2, 2), device=device)


def test_powers_of_tensors(device: str) -> None:
    both(lambda t, a, b: a**b, numbers(0, 3), numbers(1, 3), device=device)
    both(lambda t, a, b: a**b, numbers(0, 3), normal(1, 3), device=device)
    both(lambda t, a, b: (a.abs() + 1) ** b, normal(0, 3), numbers(1, 3), device=device)
    zeros, powers = np.array([0, 0, 1j], np.complex64), np.array([2, 1 + 1j, 2], np.complex64)
    both(lambda t, a, b: a**b, zeros, powers, device=device, grad=False)


@pytest.mark.parametrize("name", ["__neg__", "__pos__", "__abs__", "conj", "real", "imag", "angle"])
def test_unary(name: str, device: str) -> None:
    def function(t: Any, a: Any) -> Any:
        found = getattr(a, name)
        return found() if callable(found) else found * 1

    both(function, numbers(0, 2, 3), device=device)


MIXED: dict[str, Function] = {
    "where": lambda t, x, z: x.where(x > 0, z), "where number": lambda t, x, z: x.where(x > 0, 1j),
    "of where": lambda t, x, z: t.where(x > 0, z, x), "lerp": lambda t, x, z: z.lerp(z * 2, 0.25),
    "addcmul": lambda t, x, z: t.addcmul(z, z, z), "cat": lambda t, x, z: t.cat([x, z]),
    "stack": lambda t, x, z: t.stack([z, x.to(z.dtype)]), "pow": lambda t, x, z: (x * x + 1) ** z,
    "logical": lambda t, x, z: t.logical_and(z, x), "dist": lambda t, x, z: t.dist(z, z * 2),
    "einsum": lambda t, x, z: t.einsum("i,i", x.to(z.dtype), z),
}  # fmt: skip


@pytest.mark.parametrize("name", MIXED)
def test_real_beside_complex(name: str, device: str) -> None:
    has_grad = "where" not in name  # PyTorch's own derivative of a mixed `where` raises
    both(MIXED[name], normal(0, 3), numbers(1, 3), device=device, grad=has_grad)


def test_dtypes() -> None:
    for a in ("float32", "float64", "int64", "bool", "complex64", "complex128"):
        for b in ("complex64", "complex128"):
            have = tgrad.promote_types(getattr(tgrad, a), getattr(tgrad, b))
            assert have.name == str(torch.promote_types(getattr(torch, a), getattr(torch, b)))[6:]
    assert tgrad.result_type(tgrad.ones(2), 1j) is tgrad.complex64
    assert tgrad.result_type(tgrad.tensor([1j]), tgrad.tensor(1.0, dtype=tgrad.float64)) is (
        tgrad.complex64
    )


def test_numpy_beside_tensors(device: str) -> None:
    """Arrays on either side, as of real tensors."""
    array = numbers(1, 3)
    z = tgrad.tensor(numbers(0, 3), device=device)
    x = tgrad.tensor(normal(0, 3), device=device)
    for have, want in (
        (z * array, z.numpy() * array), (array * z, z.numpy() * array),
        (array - z, array - z.numpy()), (z / array, z.numpy() / array),
        (x * array, x.numpy() * array), (np.complex64(2j) * z, 2j * z.numpy()),
        (x + np.complex64(2j), x.numpy() + 2j), (array * x, x.numpy() * array),
    ):  # fmt: skip
        assert have.dtype is tgrad.complex64
        np.testing.assert_allclose(have.numpy(), want, rtol=1e-5)
    assert np.asarray(z).dtype == np.complex64
    assert np.asarray(z, dtype=np.complex128).dtype == np.complex128


def test_what_has_no_order_or_sense(device: str) -> None:
    z = tgrad.tensor([1 + 1j, 2], device=device)
    for refused in (
        lambda: z < z, lambda: z >= 1, lambda: tgrad.gt(z, z), lambda: z.amax(), lambda: z.sort(),
        lambda: tgrad.relu(z), lambda: z.erf(), lambda: z.div(z, rounding_mode="floor"),
        lambda: tgrad.atan2(z, z), lambda: z.clamp(0), lambda: z.floor(),
    ):  # fmt: skip
        with pytest.raises((UnsupportedError, DTypeError)):
            refused()
    with pytest.raises(TypeError):
        z % 2
    with pytest.raises(TypeError):
        z // 2
    with pytest.raises(DTypeError):
        operator.lt(tgrad.ones(2, device=device), z)
    with pytest.raises(DTypeError):
        tgrad.ones(2, dtype=tgrad.float16, device=device) * 1j


# -- creation ------------------------------------------------------------------------------------

CREATED: dict[str, Function] = {
    "list": lambda t: t.tensor([1 + 2j, 3]),
    "nested": lambda t: t.tensor([[1, 2j], [0.5, -1j]]),
    "number": lambda t: t.tensor(1j),
    "list as complex128": lambda t: t.tensor([1.5, 2], dtype=t.complex128),
    "ints as complex": lambda t: t.tensor([1, 2], dtype=t.cfloat),
    "array": lambda t: t.tensor(np.array([1j, 2])),
    "array as complex64": lambda t: t.tensor(np.array([1j, 2]), dtype=t.complex64),
    "as_tensor": lambda t: t.as_tensor(np.array([1j, 2], np.complex64)),
    "zeros": lambda t: t.zeros(2, 3, dtype=t.cfloat),
    "ones": lambda t: t.ones((2,), dtype=t.cdouble),
    "full": lambda t: t.full((2, 2), 1 - 1j),
    "full real": lambda t: t.full((2,), 3.0, dtype=t.complex64),
    "eye": lambda t: t.eye(3, dtype=t.complex64),
    "linspace": lambda t: t.linspace(0, 1 + 1j, 5, dtype=t.complex64),
    "scalar_tensor": lambda t: t.scalar_tensor(2, dtype=t.complex64),
    "complex": lambda t: t.complex(t.ones(2), t.zeros(2)),
    "polar": lambda t: t.polar(t.ones(2), t.tensor([0.0, math.pi])),
    "zeros_like": lambda t: t.zeros_like(t.tensor([1j])),
    "ones_like": lambda t: t.ones_like(t.ones(2), dtype=t.complex64),
    "full_like": lambda t: t.full_like(t.tensor([1j, 2]), 2 - 1j),
    "new_zeros": lambda t: t.tensor([1j]).new_zeros(2, 2),
    "new_tensor": lambda t: t.tensor([1j]).new_tensor([1, 2j]),
    "new_full": lambda t: t.tensor([1j]).new_full((2,), 3j),
    "empty shape": lambda t: t.zeros(0, 3, dtype=t.complex64).sum(1),
    "no elements": lambda t: t.zeros(0, dtype=t.complex64).prod(),
    "is_complex": lambda t: (t.is_complex(t.tensor([1j])), t.tensor([1j]).is_floating_point()),
    "dtype facts": lambda t: (t.complex64.is_complex, t.complex128.is_floating_point),
    "sizes": lambda t: (t.tensor([1j]).element_size(), t.tensor([[1j]]).ndim, len(t.tensor([1j]))),
}  # fmt: skip


@pytest.mark.parametrize("name", CREATED)
def test_creation(name: str) -> None:
    same(CREATED[name](tgrad), CREATED[name](torch))


@pytest.mark.parametrize("name", ["rand", "randn"])
def test_random(name: str) -> None:
    """Of both parts; together their variance is that of one real number (of `randn`)."""
    tgrad.manual_seed(0)
    z = getattr(tgrad, name)(4000, dtype=tgrad.complex64)
    like = getattr(tgrad, f"{name}_like")(z)
    assert z.dtype is like.dtype is tgrad.complex64
    want = 1.0 if name == "randn" else 1 / 6
    assert abs(z.var().item() - want) < 0.1 * want
    assert abs(np.corrcoef(z.real.numpy(), z.imag.numpy())[0, 1]) < 0.1


def test_of_torch() -> None:
    array = numbers(0, 2, 3)
    z = tgrad.tensor(torch.from_numpy(array))
    assert z.dtype is tgrad.complex64
    np.testing.assert_array_equal(z.numpy(), array)


def test_a_copy_is_a_copy(device: str) -> None:
    """Of tensors, of parts, of real ones: nothing is written through."""
    x, y = tgrad.ones(2, device=device), tgrad.zeros(2, device=device)
    z, w = tgrad.complex(x, y), x.to(tgrad.complex64)
    copied, cloned = tgrad.tensor(z), z.clone()
    z.mul_(3j)
    w.zero_()
    assert x.tolist() == [1.0, 1.0]
    assert y.tolist() == [0.0, 0.0]
    assert copied.tolist() == cloned.tolist() == [1, 1]
    assert z.tolist() == [3j, 3j]
    z.conj().zero_()
    assert z.tolist() == [3j, 3j]


# -- conversion ----------------------------------------------------------------------------------

CONVERTED: dict[str, Function] = {
    "complex128": lambda t, z: z.to(t.complex128),
    "cdouble": lambda t, z: z.cdouble(),
    "same": lambda t, z: z.to(t.complex64),
    "cfloat back": lambda t, z: z.cdouble().cfloat(),
    "type": lambda t, z: z.type(t.complex128),
    "type_as": lambda t, z: z.real.type_as(z),
    "real": lambda t, z: z.real.to(t.complex64),
    "real as double": lambda t, z: z.real.to(t.complex128),
    "int": lambda t, z: (z.real * 9).long().to(t.complex64),
    "bool": lambda t, z: (z * (z.real > 0)).bool(),
    "like": lambda t, z: z.real.to(z),
    "view_as_real": lambda t, z: t.view_as_real(z) * 1,
    "there and back": lambda t, z: t.view_as_complex(t.view_as_real(z) * 2),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVERTED)
def test_conversion(name: str, device: str) -> None:
    both(CONVERTED[name], numbers(0, 2, 3), device=device)


@pytest.mark.parametrize("name", ["float", "double", "int", "long", "half"])
def test_real_parts_with_a_warning(name: str) -> None:
    z = numbers(0, 3)
    with pytest.warns(UserWarning, match="discards the imaginary part"):
        have = getattr(tgrad.tensor(z), name)()
    np.testing.assert_array_equal(have.numpy(), z.real.astype(have.numpy().dtype))


def test_values() -> None:
    z = tgrad.tensor([[1 + 2j, 3], [0, -1j]])
    assert z.tolist() == [[1 + 2j, 3], [0, -1j]]
    assert z[0, 0].item() == complex(z[0, 0]) == 1 + 2j
    assert [row.tolist() for row in z] == z.tolist()
    assert bool(z[0, 0])
    assert not bool(z[1, 0])
    assert hash(z) != hash(z.clone())
    with pytest.raises(ShapeError):
        z.item()
    with pytest.raises(UnsupportedError, match="erfinv of a complex tensor"):
        z.erfinv()
    with pytest.raises(AttributeError):
        z.no_such_thing  # noqa: B018


def test_repr() -> None:
    assert repr(tgrad.tensor([1 + 2j])) == "tensor([1.+2.j])"
    made = tgrad.tensor([1j], dtype=tgrad.complex128).requires_grad_()
    assert repr(made) == "tensor([0.+1.j], dtype=tgrad.complex128, requires_grad=True)"
    assert repr(tgrad.complex64) == "tgrad.complex64"


def test_copies_of_objects() -> None:
    z = tgrad.tensor(numbers(0, 3)).requires_grad_()
    for made in (copy.deepcopy(z), pickle.loads(pickle.dumps(z)), copy.deepcopy([z])[0]):
        assert made is not z
        assert made.requires_grad
        assert made.dtype is tgrad.complex64
        np.testing.assert_array_equal(made.numpy(), z.numpy())
    file = io.BytesIO()
    pickle.dump(tgrad.complex128, file)
    assert pickle.loads(file.getvalue()) is tgrad.complex128


# -- comparison ----------------------------------------------------------------------------------

SPECIAL = np.array([1, np.nan, complex(np.nan, 1), complex(np.inf, 1), complex(1, -np.inf), 0],
                   np.complex64)  # fmt: skip


@pytest.mark.parametrize("name", ["isnan", "isinf", "isfinite", "isreal", "logical_not"])
def test_questions(name: str, device: str) -> None:
    both(lambda t, a: getattr(t, name)(a), SPECIAL, device=device, grad=False)


@pytest.mark.parametrize("name", ["abs", "angle", "exp", "log", "sqrt", "sin", "tanh", "sgn"])
def test_special_values(name: str, device: str) -> None:
    """Zeros and large numbers; PyTorch's own infinities differ between its vector lengths."""
    values = np.array([0, 1, -1, 1j, -1j, 80, 80j, -80 + 80j, 1e-20, 1e18], np.complex64)
    both(lambda t, a: getattr(t, name)(a), values, device=device, grad=False)


@pytest.mark.parametrize("name", ["abs", "sgn", "angle"])
def test_slopes_at_zero(name: str, device: str) -> None:
    both(lambda t, a: getattr(t, name)(a), np.zeros(2, np.complex64), device=device)


ELEMENTARY = (
    "acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "exp", "exp2", "expm1", "log",
    "log10", "log1p", "log2", "reciprocal", "rsqrt", "sigmoid", "sin", "sinc", "sinh", "sqrt",
    "square", "tan", "tanh",
)  # fmt: skip
ON_AXES = [0.3, -0.3, 0.7, 2, 0.3j, -0.3j, 0.7j, 0.5 + 0.5j, -0.5 + 0.5j, 2 - 2j, 30]


@pytest.mark.parametrize("name", ELEMENTARY)
def test_slopes_on_the_axes(name: str, device: str) -> None:
    """Where real formulas have kinks, such as |x| at 0, and the complex function has none."""
    points = [z for z in ON_AXES if z != 2 or name not in ("acos", "asin", "atanh")]  # on a cut
    both(lambda t, a: getattr(t, name)(a), np.array(points, np.complex128), device=device)


COMPOSED: dict[str, Function] = {
    "power": lambda t, a: a**2.5, "base": lambda t, a: 2.0**a, "itself": lambda t, a: a**a,
    "high": lambda t, a: a**20, "logaddexp": lambda t, a: t.logaddexp(a, a * 2),
    "logaddexp of equals": lambda t, a: t.logaddexp(a, a * 1),
    "logsumexp": lambda t, a: t.stack([a, a * 2]).logsumexp(0),
    "prod": lambda t, a: t.stack([a, a * 2, a]).prod(0), "div": lambda t, a: (a + 3) / (a * 2 + 9),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPOSED)
def test_slopes_of_compositions(name: str, device: str) -> None:
    both(COMPOSED[name], np.array(ON_AXES[:-1], np.complex128), device=device)


def test_powers_of_zero_have_slopes(device: str) -> None:
    both(lambda t, a: a**2.5, np.zeros(2, np.complex64), device=device)


@pytest.mark.parametrize("equal_nan", [False, True])
def test_closeness(equal_nan: bool, device: str) -> None:
    near = SPECIAL + np.complex64(1e-7)
    both(
        lambda t, a, b: t.isclose(a, b, equal_nan=equal_nan),
        SPECIAL,
        near,
        device=device,
        grad=False,
    )
    both(
        lambda t, a, b: t.allclose(a, b, equal_nan=equal_nan),
        SPECIAL,
        near,
        device=device,
        grad=False,
    )
    far = near + np.complex64(1e-2j)
    both(lambda t, a, b: t.isclose(a, b, 1e-3, 1e-3), SPECIAL, far, device=device, grad=False)


def test_equal(device: str) -> None:
    z = numbers(0, 3)
    both(lambda t, a, b: t.equal(a, b), z, z.copy(), device=device, grad=False)
    both(lambda t, a, b: t.equal(a, b), z, z[:2], device=device, grad=False)
    both(lambda t, a, b: t.equal(a, b), z, z.conj(), device=device, grad=False)


# -- writes --------------------------------------------------------------------------------------


def _assigned(t: Any, z: Any, index: Any, value: Any) -> Any:
    z = z.clone()
    z[index] = value
    return z


def _added(t: Any, z: Any, index: Any, value: Any) -> Any:
    z = z.clone()
    z[index] += value
    return z


INDICES: dict[str, Any] = {
    "number": 1, "slice": slice(0, 2), "column": (slice(None), 1), "list": ([0, 2], [1, 1]),
    "step": (Ellipsis, slice(None, None, 2)), "element": (1, 2),
}  # fmt: skip


@pytest.mark.parametrize("value", [2, 1.5, 1j], ids=str)
@pytest.mark.parametrize("name", INDICES)
def test_assignment(name: str, value: Any, device: str) -> None:
    both(lambda t, z: z[INDICES[name]] * 1, numbers(0, 3, 4), device=device)
    both(lambda t, z: _assigned(t, z, INDICES[name], value), numbers(0, 3, 4), device=device)
    both(lambda t, z: _added(t, z, INDICES[name], value), numbers(0, 3, 4), device=device)


def test_assignment_of_tensors(device: str) -> None:
    z = numbers(0, 3, 4)
    both(lambda t, a, b: _assigned(t, a, 1, b), z, numbers(1, 4), device=device)
    both(lambda t, a, b: _assigned(t, a, 1, b), z, normal(1, 4), device=device)
    both(lambda t, a, b: _added(t, a, (slice(None), 2), b), z, numbers(1, 3), device=device)
    both(lambda t, a: _assigned(t, a, a.real > 0, 1j), z, device=device)
    both(lambda t, a: _added(t, a, a.imag > 0, 2.0), z, device=device)


def _parts(t: Any, z: Any, x: Any) -> Any:
    z = z.clone()
    z.real = x
    z.imag[0] = 5.0
    z.real[1:] += 1
    z.imag.mul_(2)
    return z


def _views(t: Any, z: Any) -> Any:
    z = z.clone()
    z[0].mul_(2j)
    z.t()[1].zero_()
    z.view(-1)[-1] = 7
    z.reshape(4, 3).add_(1)
    return z


def test_writes_through_views(device: str) -> None:
    both(_parts, numbers(0, 3, 4), normal(1, 3, 4), device=device)
    both(_views, numbers(0, 3, 4), device=device)


CHANGES: dict[str, Function] = {
    "add_": lambda z, w: z.add_(w, alpha=2), "sub_": lambda z, w: z.sub_(w),
    "mul_": lambda z, w: z.mul_(w), "div_": lambda z, w: z.div_(w),
    "mul_ i": lambda z, w: z.mul_(1j), "pow_": lambda z, w: z.pow_(2),
    "neg_": lambda z, w: z.neg_(), "squeeze_": lambda z, w: z.unsqueeze_(0).squeeze_(0),
    "conj_physical_": lambda z, w: z.conj_physical_(), "copy_": lambda z, w: z.copy_(w),
    "copy_ real": lambda z, w: z.copy_(w.real), "fill_": lambda z, w: z.fill_(1j),
    "zero_": lambda z, w: z.zero_(), "iadd": lambda z, w: operator.iadd(z, w),
    "isub": lambda z, w: operator.isub(z, 1j), "imul": lambda z, w: operator.imul(z, w),
    "itruediv": lambda z, w: operator.itruediv(z, w), "ipow": lambda z, w: operator.ipow(z, 3),
    "exp_": lambda z, w: z.exp_(), "sin_": lambda z, w: z.sin_(), "tanh_": lambda z, w: z.tanh_(),
    "masked_fill_": lambda z, w: z.masked_fill_(w.real > 0, 1 + 1j),
    "index_add_": lambda z, w: z.index_add_(0, (w.real[:, 0] * 0).long(), w),
    "addcmul_": lambda z, w: z.addcmul_(w, w, value=2), "lerp_": lambda z, w: z.lerp_(w, 0.3),
    "reciprocal_": lambda z, w: z.reciprocal_(), "sigmoid_": lambda z, w: z.sigmoid_(),
    "tril_": lambda z, w: z.tril_(), "cumsum_": lambda z, w: z.cumsum_(0),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_in_place(name: str, device: str) -> None:
    def function(t: Any, z: Any, w: Any) -> Any:
        made = z * 1
        result = CHANGES[name](made, w)
        assert result is made
        return made

    both(function, numbers(0, 3, 3), numbers(1, 3, 3), device=device)


def test_a_real_tensor_takes_no_complex_numbers(device: str) -> None:
    x = tgrad.ones(2, device=device)
    for write in (
        lambda: x.mul_(1j), lambda: x.add_(tgrad.tensor([1j, 2], device=device)),
        lambda: x.fill_(1j), lambda: x.copy_(tgrad.tensor([1j, 2], device=device)),
        lambda: x.__setitem__(0, 1j), lambda: x.masked_fill(x > 0, 1j),
        lambda: operator.imul(x, 1j),
    ):  # fmt: skip
        with pytest.raises((DTypeError, UnsupportedError, TypeError)):
            write()
    assert x.tolist() == [1.0, 1.0]


# -- sums of products ----------------------------------------------------------------------------

PRODUCTS: dict[str, tuple[Function, tuple[int, ...], tuple[int, ...]]] = {
    "vectors": (lambda t, a, b: a @ b, (3,), (3,)),
    "matrix, vector": (lambda t, a, b: a @ b, (2, 3), (3,)),
    "vector, matrix": (lambda t, a, b: a @ b, (3,), (3, 2)),
    "matrices": (lambda t, a, b: a @ b, (2, 3), (3, 4)),
    "batches": (lambda t, a, b: t.matmul(a, b), (5, 1, 2, 3), (4, 3, 2)),
    "einsum": (lambda t, a, b: t.einsum("ij,kj->ik", a, b.conj()), (2, 3), (4, 3)),
    "tensordot": (lambda t, a, b: t.tensordot(a, b, dims=([1], [0])), (2, 3), (3, 4)),
    "kron": (lambda t, a, b: t.kron(a, b), (2, 2), (2, 3)),
    "outer": (lambda t, a, b: t.outer(a, b), (2,), (3,)),
    "vdot": (lambda t, a, b: t.vdot(a, b), (3,), (3,)),
    "cross": (lambda t, a, b: t.linalg.cross(a, b), (2, 3), (2, 3)),
    "vecdot": (lambda t, a, b: t.linalg.vecdot(a, b), (2, 3), (2, 3)),
    "linear": (lambda t, a, b: t.nn.functional.linear(a, b), (2, 3), (4, 3)),
    "solve": (lambda t, a, b: t.linalg.solve(a, b), (3, 3), (3, 2)),
    "norms": (lambda t, a, b: t.linalg.norm(a, "nuc") + t.linalg.norm(b), (3, 3), (3, 2)),
    "det": (lambda t, a, b: t.linalg.det(a) * t.linalg.inv(b).sum(), (4, 4), (3, 3)),
    "adjoint": (lambda t, a, b: a.mH @ b.H, (3, 2), (4, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name: str, device: str) -> None:
    function, *shapes = PRODUCTS[name]
    both(function, *(numbers(n, *shape) for n, shape in enumerate(shapes)), device=device)


def test_cholesky_reads_the_lower_triangle() -> None:
    z = numbers(0, 4, 4, kind=np.complex128)
    matrix = z @ z.conj().T + 4 * np.eye(4)
    found = tgrad.linalg.cholesky(tgrad.tensor(np.tril(matrix)))
    np.testing.assert_allclose(found.numpy(), np.linalg.cholesky(matrix), atol=1e-12)
    values = tgrad.linalg.eigvalsh(tgrad.tensor(np.tril(matrix)))
    np.testing.assert_allclose(values.numpy(), np.linalg.eigvalsh(matrix), rtol=1e-12)


def test_padding(device: str) -> None:
    both(lambda t, a: t.nn.functional.pad(a, (1, 2), value=0), numbers(0, 2, 3), device=device)
    both(lambda t, a: t.nn.functional.pad(a, (1, 1), "circular"), numbers(0, 2, 3), device=device)


# -- autograd ------------------------------------------------------------------------------------


def test_gradients_of_gradients(device: str) -> None:
    array = numbers(0, 3)
    found = []
    for t in (tgrad, torch):
        z = t.tensor(array, device=device) if t is tgrad else t.from_numpy(array.copy())
        z = z.requires_grad_()
        parts = (z.real, z.imag) if t is tgrad else None
        y = (z.exp() * z.conj()).abs().sum()
        if parts is None:
            (g,) = t.autograd.grad(y, z, create_graph=True)
            (second,) = t.autograd.grad((g * g.conj()).real.sum(), z)
            found.append(second.resolve_conj().numpy())
        else:
            a, b = t.autograd.grad(y, parts, create_graph=True)
            a, b = t.autograd.grad((a * a + b * b).sum(), parts)
            found.append(a.numpy() + 1j * b.numpy())
    np.testing.assert_allclose(*found, rtol=1e-3)


def test_backward_needs_a_gradient() -> None:
    z = tgrad.tensor([1j, 2]).requires_grad_()
    with pytest.raises(DTypeError, match="complex"):
        (z * z).backward()
    (z * z).backward(gradient=tgrad.tensor([1, 1j]))
    (z * 2).backward(gradient=tgrad.ones(2))
    want = torch.tensor([1j, 2]).requires_grad_()
    (want * want).backward(gradient=torch.tensor([1, 1j]))
    (want * 2).backward(gradient=torch.ones(2, dtype=torch.complex64))
    same(z.grad, want.grad)
    z.grad = None
    assert z.grad is None
    assert z.is_leaf
    assert not z.detach().requires_grad


def test_mixed_leaves(device: str) -> None:
    """A real leaf beside a complex one has a real gradient."""
    both(lambda t, x, z: (x * z).abs().square().sum(), normal(0, 3), numbers(1, 3), device=device)
    both(lambda t, x, z: t.complex(x, x * 2) * z, normal(0, 3), numbers(1, 3), device=device)
    both(lambda t, r, a: t.polar(r, a), np.abs(normal(0, 3)), normal(1, 3), device=device)


# -- rotary embeddings ---------------------------------------------------------------------------


def rotary(t: Any, q: Any, k: Any, frequencies: Any) -> Any:
    """Llama's: pairs of features are complex numbers that turn with the position."""
    angles = t.outer(frequencies[:, 0], frequencies[0])
    turns = t.polar(t.ones_like(angles), angles)
    turns = turns.view(1, angles.shape[0], 1, angles.shape[1])

    def turned(x: Any) -> Any:
        pairs = t.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        return t.view_as_real(pairs * turns).flatten(3).type_as(x)

    return turned(q), turned(k)


@pytest.mark.parametrize("compiled", [False, True])
def test_rotary_embedding(compiled: bool, device: str) -> None:
    arrays = [normal(0, 2, 5, 3, 8), normal(1, 2, 5, 2, 8), normal(2, 5, 4)]
    results = []
    for t in (tgrad, torch):
        given = [
            tgrad.tensor(a, device=device, requires_grad=True)
            if t is tgrad
            else torch.from_numpy(a.copy()).requires_grad_()
            for a in arrays
        ]

        def loss(q: Any, k: Any, f: Any, t: Any = t) -> Any:
            q, k = rotary(t, q, k, f)
            scores = t.einsum("bshd,bshd->bsh", q[:, :, :2], k.cos())
            return scores.tanh().sum(), q, k

        step = tgrad.compile(loss) if compiled and t is tgrad else loss
        total, q, k = step(*given)
        total.backward()
        results.append([x.detach().numpy() for x in (total, q, k, *(a.grad for a in given))])
    for have, want in zip(*results):
        assert_near(have, want, 1e-4, "rotary")


def test_realized_together(device: str) -> None:
    """Both parts in one plan."""
    z = tgrad.tensor(numbers(0, 3), device=device) * 2j
    assert isinstance(z.real, Tensor)
    assert z.realize() is not None
    np.testing.assert_allclose(z.numpy(), numbers(0, 3) * 2j, rtol=1e-6)
