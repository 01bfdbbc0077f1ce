"""The precision of float32 products: full unless `set_float32_matmul_precision` says otherwise."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import tgrad
from tgrad.backend import backend_by_name
from tgrad.settings import settings
from tgrad.triton_gen import compile_for


@pytest.fixture(autouse=True)
def highest_afterwards() -> Iterator[None]:
    yield
    tgrad.set_float32_matmul_precision("highest")


def product(dtype: tgrad.dtype.DType = tgrad.float32) -> tgrad.Tensor:
    a, b = (tgrad.full((256, 256), n, dtype=dtype).realize() for n in (1.5, 2.5))
    return a @ b


def source(y: tgrad.Tensor, target: str = "sm_90") -> str:
    (kernel,) = tgrad.explain(y).kernels
    backend = backend_by_name(target)
    return backend.generate([kernel.region], settings, [None])[0][0].source


@pytest.mark.parametrize(
    ("precision", "spelling"), [("highest", "ieee"), ("high", "tf32"), ("medium", "tf32")]
)
def test_every_dot_states_its_precision(precision: str, spelling: str) -> None:
    tgrad.set_float32_matmul_precision(precision)
    assert tgrad.get_float32_matmul_precision() == precision
    assert f'input_precision="{spelling}"' in source(product())
    assert 'input_precision="ieee"' in source(product(tgrad.float16))


def test_tf32_runs_on_matrix_units() -> None:
    (kernel,) = tgrad.explain(product()).kernels
    backend = backend_by_name("sm_90")
    tgrad.set_float32_matmul_precision("high")
    fast = backend_by_name("sm_90")
    assert fast.figures == backend.figures
    plans = [b.generate([kernel.region], settings, [None])[1]() for b in (backend, fast)]
    full, tf32 = (artifact.figures for (artifact,) in plans)
    assert full.matrix_instruction is None
    assert tf32.matrix_instruction is not None
    assert "tf32" in tf32.matrix_instruction
    assert tf32.spills == 0


def test_a_change_makes_another_plan() -> None:
    x = tgrad.ones(4, 4)
    f = tgrad.compile(lambda x: x @ x)
    f(x)
    tgrad.set_float32_matmul_precision("high")
    f(x)
    assert f.traces == 2
    tgrad.set_float32_matmul_precision("highest")
    f(x)
    assert f.traces == 2


def test_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match="'fast'; use one of highest, high, medium"):
        tgrad.set_float32_matmul_precision("fast")


def test_the_default_is_full_precision() -> None:
    assert tgrad.get_float32_matmul_precision() == "highest"
    (kernel,) = tgrad.explain(product()).kernels
    (artifact,) = compile_for([kernel.region], "sm_90")
    assert artifact.figures.matrix_instruction is None
