"""einops finds tgrad's tensors, whichever is imported first."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import tgrad
from tests.front.checking import normal

STAND_IN = """
class AbstractBackend:
    framework_name = ""


def found(tensor):
    import sys

    for kind in AbstractBackend.__subclasses__():
        if kind.framework_name in sys.modules and kind().is_appropriate_type(tensor):
            return kind()
"""
PROGRAM = """
{imports}
import gc
gc.collect()
from einops._backends import found
x = tgrad.arange(6.0).reshape(2, 3)
backend = found(x)
assert found([1]) is None
print(backend.transpose(x, (1, 0)).shape, backend.reduce(x, "max", (1,)).tolist(),
      backend.reduce(x, "prod", (0, 1)).item(), backend.add_axes(x, 3, {{0: 4}}).shape,
      backend.tile(x, (2, 1)).shape, backend.is_float_type(x), backend.to_numpy(x).sum(),
      backend.concat([x, x], 0).shape, backend.add_axis(x, 1).shape,
      backend.einsum("ij,ij->", x, x).item(),
      backend.stack_on_zeroth_dimension([x, x]).shape)
"""


@pytest.mark.parametrize("order", [("tgrad", "einops._backends"), ("einops._backends", "tgrad")])
def test_the_backend_is_there(tmp_path, order):
    package = tmp_path / "einops"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "_backends.py").write_text(STAND_IN)
    program = PROGRAM.format(imports="\n".join(f"import {name}" for name in order))
    text = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{program}"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert done.stdout == (
        "(3, 2) [2.0, 5.0] 0.0 (4, 2, 3) (4, 3) True 15.0 (4, 3) (2, 1, 3) 55.0 (2, 2, 3)\n"
    ), done.stderr


def test_functions_and_layers():
    einops = pytest.importorskip("einops")
    from tgrad.interop.einops import EinMix, Rearrange, Reduce

    a = normal(0, 2, 3, 4, 4)
    x = tgrad.tensor(a, requires_grad=True)
    pattern = "b c (h p) (w q) -> b (h w) (c p q)"
    want = einops.rearrange(a, pattern, p=2, q=2)
    np.testing.assert_array_equal(einops.rearrange(x, pattern, p=2, q=2).detach(), want)
    layers = tgrad.nn.Sequential(
        Rearrange(pattern, p=2, q=2),
        EinMix("b n d -> b n e", weight_shape="d e", bias_shape="e", d=12, e=5),
        Reduce("b n e -> b e", "mean"),
    )
    y = layers(x)
    y.sum().backward()
    weight, bias = (p.detach().numpy() for p in layers.parameters())
    np.testing.assert_allclose(y.detach(), (want @ weight + bias).mean(1), rtol=1e-4, atol=1e-5)
    assert x.grad.shape == a.shape
