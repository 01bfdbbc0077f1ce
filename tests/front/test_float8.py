"""8-bit floats: conversions bit for bit as PyTorch's, what they refuse, and their products."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
import tgrad.nn.functional as F
from tests.arrays import cast_by_torch, from_torch, to_torch
from tgrad.dtype import DTYPES, DType
from tgrad.errors import DTypeError, GradientError, ShapeError, UnsupportedError
from tgrad.nn.functional import ScalingType
from tgrad.tensor import realize_tensors

NAMES = ["float8_e4m3fn", "float8_e5m2"]
OTHERS = [d for d in DTYPES.values() if not d.is_float8]
BY_TENSOR, BY_ROW = ScalingType.TensorWise, ScalingType.RowWise


def codes(name: str, device: str) -> tgrad.Tensor:
    """All 256 values."""
    bits = tgrad.tensor(np.arange(256, dtype=np.uint8), device=device)
    return bits.view(getattr(tgrad, name))


def theirs(name: str) -> torch.Tensor:
    return torch.arange(256, dtype=torch.uint8).view(getattr(torch, name))


def numbers(name: str) -> np.ndarray:
    """Each value, each middle of two, its neighbours, the ends of the range and random numbers."""
    values = np.unique(theirs(name).double().numpy())
    values = values[np.isfinite(values)]
    middles = (values[1:] + values[:-1]) / 2
    rng = np.random.default_rng(0)
    wide = rng.normal(size=300) * np.exp(6 * rng.normal(size=300))
    ends = [np.inf, np.nan, 0.0, 463.99, 464.0, 480.0, 57344.0, 61439.99, 61440.0, 65504.0, 1e300]
    below, above = (np.nextafter(middles, end) for end in (-np.inf, np.inf))
    positive = np.concatenate([values, middles, below, above, wide, ends])
    return np.concatenate([positive, -positive])


def same(have: np.ndarray, want: np.ndarray) -> None:
    """The same bits, but for those of NaN."""
    assert have.dtype == want.dtype
    with np.errstate(invalid="ignore"):
        a, b = (x.astype(np.float64) if x.dtype.kind in "fV" else x for x in (have, want))
    np.testing.assert_array_equal(a, b)
    if a.dtype.kind == "f":
        np.testing.assert_array_equal(np.signbit(a)[a == a], np.signbit(b)[b == b])


@pytest.mark.parametrize("name", NAMES)
def test_all_values_to_all_dtypes(name: str, device: str) -> None:
    """Out of an integer's range PyTorch's own results differ by processor: finite values only."""
    want_all, is_finite = theirs(name), np.isfinite(theirs(name).float().numpy())
    found = [codes(name, device).to(d) for d in DTYPES.values()]
    realize_tensors(found)
    for dtype, have in zip(DTYPES.values(), found):
        want = from_torch(cast_by_torch(want_all, getattr(torch, dtype.name)))
        keep = is_finite if dtype.is_int else slice(None)
        same(have.numpy()[keep], want[keep])


@pytest.mark.parametrize("source", [d for d in OTHERS if d.is_float], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_rounding_of_floats(name: str, source: DType, device: str) -> None:
    x = torch.from_numpy(numbers(name)).to(getattr(torch, source.name))
    have = tgrad.tensor(from_torch(x), device=device).to(getattr(tgrad, name))
    same(have.numpy(), from_torch(cast_by_torch(x, getattr(torch, name))))


@pytest.mark.parametrize("name", NAMES)
def test_rounding_of_integers(name: str, device: str) -> None:
    x = torch.tensor([0, 1, -1, 17, 19, 300, 448, 465, 2**31 - 1, -(2**40), 57345, 61440])
    have = tgrad.tensor(x.numpy(), device=device).to(getattr(tgrad, name))
    same(have.numpy(), from_torch(cast_by_torch(x, getattr(torch, name))))


@pytest.mark.parametrize("name", NAMES)
def test_creation_rounds_and_saturates(name: str) -> None:
    dtype, data = getattr(tgrad, name), [1e9, -1e9, 0.3, float("nan"), 17.0]
    want = from_torch(cast_by_torch(torch.tensor(data), getattr(torch, name)))
    same(tgrad.tensor(data, dtype=dtype).numpy(), want)
    same(tgrad.full((2,), 1e9, dtype=dtype).numpy(), np.repeat(want[:1], 2))
    assert (
        repr(tgrad.tensor([1.0, 0.5], dtype=dtype))
        == f"tensor([1.0000, 0.5000], dtype=tgrad.{name})"
    )
    assert dtype.largest == torch.finfo(getattr(torch, name)).max


def test_a_view_of_the_bits_is_written_through(device: str) -> None:
    x = tgrad.zeros(3, dtype=tgrad.float8_e5m2, device=device)
    x.view(tgrad.uint8)[1] = 0x3C
    assert x.tolist() == [0.0, 1.0, 0.0]
    with pytest.raises(UnsupportedError, match="of another size"):
        x.view(tgrad.int16)


def test_what_only_moves_is_allowed(device: str) -> None:
    x = tgrad.tensor([[1.5, -2.0], [0.0, float("nan")]], device=device).to(tgrad.float8_e4m3fn)
    assert tgrad.cat([x, x.t()], 1).float()[0].tolist() == [1.5, -2.0, 1.5, 0.0]
    assert x[tgrad.tensor([1], device=device)].isnan().tolist() == [[False, True]]
    assert x.abs().float()[0].tolist() == [1.5, 2.0]
    assert (x == x).tolist() == [[True, True], [True, False]]
    assert tgrad.where(x.isnan(), tgrad.zeros_like(x), x).float().sum().item() == -0.5
    assert x[0].sum(dtype=tgrad.float32).item() == -0.5


def test_what_computes_is_refused() -> None:
    x = tgrad.ones(2, dtype=tgrad.float8_e4m3fn)
    for function in (lambda: x + x, lambda: x * 2, lambda: x.exp(), lambda: x < x, x.sum):
        with pytest.raises(UnsupportedError, match="8-bit floats are for storage and matrix prod"):
            function()
    for other in (tgrad.ones(2), tgrad.ones(2, dtype=tgrad.float8_e5m2)):
        with pytest.raises(DTypeError, match="8-bit floats are not promoted"):
            x * other
    assert (tgrad.ones(2) * x[0]).dtype is tgrad.float32


def test_the_gradient_of_a_cast() -> None:
    x = tgrad.tensor([0.3, -1.7], requires_grad=True)
    (x.to(tgrad.float8_e4m3fn).float() * 2).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [2.0, 2.0]


def operands(m: int, k: int, n: int, a: str, b: str) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(m, k).to(getattr(torch, a)), torch.randn(n, k).to(getattr(torch, b))


@pytest.mark.parametrize("a, b", [(NAMES[0], NAMES[0]), (NAMES[1], NAMES[0])])
@pytest.mark.parametrize("m, k, n", [(33, 70, 45), (64, 64, 32), (1, 40, 7), (5, 0, 3)])
def test_scaled_mm(m: int, k: int, n: int, a: str, b: str, device: str) -> None:
    left, right = operands(m, k, n, a, b)
    rows, columns, bias = torch.rand(m, 1), torch.rand(1, n), torch.randn(n)
    x, y, r, c, s = (
        tgrad.tensor(from_torch(t), device=device) for t in (left, right, rows, columns, bias)
    )
    want = (left.double() @ right.double().t()) * rows.double() * columns.double() + bias.double()
    have = F.scaled_mm(x, y.t(), r, BY_ROW, c, BY_ROW, bias=s, output_dtype=tgrad.float32)
    # matrix units add 8-bit floats with 14 bits
    unit = 1e-3 if device == "cuda" else 1e-5
    np.testing.assert_allclose(have.numpy(), want.numpy(), rtol=unit, atol=unit * k**0.5)
    have = F.scaled_mm(x, y.t(), [r[0]], [BY_TENSOR], c[0, 0], BY_TENSOR)
    want = left.double() @ right.double().t() * rows[0, 0].double() * columns[0, 0].double()
    assert have.dtype is tgrad.bfloat16
    np.testing.assert_allclose(have.double().numpy(), want.numpy(), rtol=2**-8, atol=unit * k**0.5)


def test_scaled_mm_is_pytorchs() -> None:
    left, right = operands(32, 64, 48, NAMES[0], NAMES[0])
    scales = torch.tensor(0.5), torch.tensor(1.5)
    for name in ("float32", "bfloat16", "float16", *NAMES[:1]):
        want = torch.nn.functional.scaled_mm(
            left, right.t(), scales[0], torch.nn.functional.ScalingType.TensorWise, scales[1],
            torch.nn.functional.ScalingType.TensorWise, output_dtype=getattr(torch, name),
        )  # fmt: skip
        x, y, a, b = (tgrad.tensor(from_torch(t)) for t in (left, right, *scales))
        have = F.scaled_mm(x, y.t(), a, BY_TENSOR, b, BY_TENSOR, output_dtype=getattr(tgrad, name))
        unit = {"float32": 1e-6, "bfloat16": 2**-7, "float16": 2**-10}.get(name, 2**-3)
        np.testing.assert_allclose(
            have.double().numpy(), to_torch(from_torch(want)).double().numpy(), rtol=unit, atol=1e-6
        )


def test_products_of_casts_are_one_dot_of_bytes() -> None:
    x, w = (tgrad.full((64, 32), n).to(tgrad.float8_e4m3fn).realize() for n in (1.0, 2.0))
    plan = tgrad.explain(x.float() @ w.float().t())
    assert [k.bytes for k in plan.kernels] == [2 * 64 * 32 + 4 * 64 * 64]


def test_scaled_mm_refusals() -> None:
    x, one = tgrad.ones(4, 4, dtype=tgrad.float8_e4m3fn), tgrad.tensor(1.0)

    def product(**changes: object) -> tgrad.Tensor:
        given = {
            "mat_a": x, "mat_b": x, "scale_a": one, "scale_recipe_a": BY_TENSOR, "scale_b": one,
            "scale_recipe_b": BY_TENSOR,
        }  # fmt: skip
        return F.scaled_mm(**(given | changes))  # type: ignore[arg-type]

    mistakes = [
        ({"mat_a": x.float()}, DTypeError, "scaled_mm of float32 and float8_e4m3fn"),
        ({"mat_b": x[:3]}, ShapeError, r"scaled_mm of shapes \(4, 4\) and \(3, 4\)"),
        ({"scale_a": one.double()}, DTypeError, "scale_a of float64"),
        ({"scale_b": tgrad.ones(4)}, ShapeError, r"scale_b of shape \(4,\)"),
        ({"bias": tgrad.ones(3)}, ShapeError, r"bias of shape \(3,\)"),
        ({"scale_recipe_a": BY_ROW}, UnsupportedError, "scales by"),
        ({"scale_recipe_a": ScalingType.BlockWise1x128}, UnsupportedError, "scales by"),
        ({"swizzle_a": F.SwizzleType.SWIZZLE_32_4_4}, UnsupportedError, "swizzle_a="),
        ({"contraction_dim": (0, 1)}, UnsupportedError, "contraction_dim="),
        ({"scale_a": [one, one]}, UnsupportedError, "scale_a with 2 levels"),
    ]
    for changes, kind, message in mistakes:
        with pytest.raises(kind, match=message):
            product(**changes)
    w = tgrad.ones(4, 4, requires_grad=True)
    with pytest.raises(GradientError, match="scaled_mm has no derivative, as in PyTorch"):
        product(mat_a=w.to(tgrad.float8_e4m3fn)).sum().backward()
