"""tgrad.testing.assert_close says yes and no where PyTorch's does; tgrad.version."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

import tgrad

INF, NAN = math.inf, math.nan
PAIRS = {
    "equal": lambda t: ([t.tensor([1.0, 2.0])] * 2, {}),
    "near": lambda t: ((t.tensor([1.0, 2.0]), t.tensor([1.000001, 2.00001])), {}),
    "far": lambda t: ((t.tensor([1.0, 2.0]), t.tensor([1.0, 2.1])), {}),
    "relative to what is expected": lambda t: (
        (t.tensor([100.0]), t.tensor([110.0])), {"rtol": 0.095, "atol": 0.0},
    ),
    "and not the other way": lambda t: (
        (t.tensor([110.0]), t.tensor([100.0])), {"rtol": 0.095, "atol": 0.0},
    ),
    "one tolerance": lambda t: ((t.tensor([1.0]), t.tensor([1.0])), {"rtol": 0.1}),
    "shapes": lambda t: ((t.ones(2), t.ones(1, 2)), {}),
    "dtypes": lambda t: ((t.ones(2), t.ones(2).double()), {}),
    "dtypes that may differ": lambda t: ((t.ones(2), t.ones(2).double()), {"check_dtype": False}),
    "the wider tolerance": lambda t: (
        (t.tensor([1.0]).half(), t.tensor([1.0005])), {"check_dtype": False},
    ),
    "float64": lambda t: ((t.ones(1).double(), t.ones(1).double() + 1e-6), {}),
    "bfloat16": lambda t: (
        (t.tensor([1.0]).to(t.bfloat16), t.tensor([1.0078125]).to(t.bfloat16)), {},
    ),
    "float16": lambda t: ((t.tensor([1.0]).half(), t.tensor([1.01]).half()), {}),
    "integers": lambda t: ((t.tensor([2**60]), t.tensor([2**60 + 1])), {}),
    "integers with room": lambda t: ((t.tensor([5]), t.tensor([6])), {"rtol": 0.0, "atol": 1.0}),
    "bools": lambda t: ((t.tensor([True]), t.tensor([False])), {}),
    "nan": lambda t: ((t.tensor([NAN]), t.tensor([NAN])), {}),
    "equal nan": lambda t: ((t.tensor([NAN]), t.tensor([NAN])), {"equal_nan": True}),
    "infinity": lambda t: ((t.tensor([INF, -INF]), t.tensor([INF, -INF])), {}),
    "infinities": lambda t: ((t.tensor([INF]), t.tensor([-INF])), {"rtol": 1.0, "atol": 1.0}),
    "infinite": lambda t: ((t.tensor([1.0]), t.tensor([INF])), {}),
    "empty": lambda t: ((t.ones(0), t.ones(0)), {}),
    "strides": lambda t: ((t.ones(2, 3), t.ones(3, 2).t()), {"check_stride": True}),
    "strides that may differ": lambda t: ((t.ones(2, 3), t.ones(3, 2).t()), {}),
    "numbers": lambda t: ((1.0, 1.0 + 1e-9), {}),
    "numbers that differ": lambda t: ((1.0, 1.1), {}),
    "kinds of numbers": lambda t: ((1, 1.0), {}),
    "arrays": lambda t: ((np.ones(2), np.ones(2) + 1), {}),
    "none": lambda t: ((None, None), {}),
    "not none": lambda t: ((None, 1.0), {}),
    "sequences": lambda t: (([t.ones(2), (1.0, 2)], [t.ones(2), (1.0, 2)]), {}),
    "sequences that differ": lambda t: (([t.ones(2), (1.0, 2)], [t.ones(2), (1.0, 3)]), {}),
    "lengths": lambda t: (([1.0], [1.0, 2.0]), {}),
    "mappings": lambda t: (({"a": 1.0, "b": t.ones(1)}, {"b": t.ones(1), "a": 1.0}), {}),
    "keys": lambda t: (({"a": 1.0}, {"b": 1.0}), {}),
    "parameters": lambda t: ((t.nn.Parameter(t.ones(1)), t.ones(1)), {}),
    "no parameters": lambda t: (
        (t.nn.Parameter(t.ones(1)), t.ones(1)), {"allow_subclasses": False},
    ),
    "kinds": lambda t: ((t.ones(1), 1.0), {}),
    "strings": lambda t: (("a", "a"), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_like_pytorch(name):
    found = []
    for library in (tgrad, torch):
        pair, options = PAIRS[name](library)
        try:
            library.testing.assert_close(*pair, **options)
            found.append(None)
        except Exception as error:
            found.append(type(error))
    assert found[0] is found[1]


@pytest.mark.parametrize(
    ("pair", "text"),
    [
        (
            (tgrad.tensor([[1.0, 2.0], [3.0, 5.0]]), tgrad.tensor([[1.0, 2.5], [3.0, 4.0]])),
            "2 of 4 elements are not close. At (1, 1) 5.0 is 1 from 4.0, with rtol=1.3e-06 and "
            "atol=1e-05.",
        ),
        ((3, 4), "3 is 1 from 4, with rtol=0.0 and atol=0.0."),
        (({"a": [1.0, 2.0]}, {"a": [1.0, 3.0]}), "atol=1e-07. At ['a'][1] of the whole."),
        ((tgrad.ones(2), tgrad.ones(3)), "Shape (2,) is not (3,)."),
    ],
)
def test_messages(pair, text):
    with pytest.raises(AssertionError, match=re.escape(text)):
        tgrad.testing.assert_close(*pair)
    with pytest.raises(AssertionError, match=r"^mine$"):
        tgrad.testing.assert_close(*pair, msg="mine")
    with pytest.raises(AssertionError, match=r"\.!$"):
        tgrad.testing.assert_close(*pair, msg=lambda found: found + "!")


def test_devices():
    pair = tgrad.ones(2), tgrad.ones(2, device="numpy")
    with pytest.raises(AssertionError, match="Device cpu is not numpy"):
        tgrad.testing.assert_close(*pair)
    tgrad.testing.assert_close(*pair, check_device=False)


def test_version():
    import tgrad.version

    assert tgrad.version.__version__ == tgrad.__version__ and tgrad.version.hip is None
    assert tgrad.version.cuda == torch.version.cuda and tgrad.version.debug is False
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = tgrad.version.absent


KINDS = [
    "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int64", "int32",
    "int16", "int8", "uint8", "bool", "complex64", "complex128",
]  # fmt: skip
MADE = [
    {},
    {"low": 2, "high": 5},
    {"low": -3.5, "high": 2.5},
    {"low": -1e9, "high": 1e9},
    {"high": 4, "exclude_zero": True, "low": 0},
    {"noncontiguous": True},
    {"requires_grad": True},
    {"low": 5, "high": 2},
    {"low": 3, "high": NAN},
    {"low": 1e40, "high": 1e41},
    {"memory_format": "contiguous_format"},
    {"memory_format": "contiguous_format", "noncontiguous": True},
]


@pytest.mark.parametrize("options", MADE, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_made_tensors(kind, options):
    """Not the numbers, but all else is PyTorch's: refusals, dtypes, strides and the range."""
    if "float8" in kind and options.get("exclude_zero", options.get("requires_grad")):
        return
    found = []
    for t in (tgrad, torch):
        given = dict(options)
        if "memory_format" in given:
            given["memory_format"] = getattr(t, given["memory_format"])
        try:
            x = t.testing.make_tensor((5, 40), dtype=getattr(t, kind), device="cpu", **given)
        except ValueError:
            found.append("refused")
            continue
        flat = t.view_as_real(x).detach() if "complex" in kind else x.detach()
        values = flat.double().numpy()
        ends = options.get("low"), options.get("high")
        least, most = (e if e is not None else values.min() - 1 for e in ends)
        if ends != (None, None):
            rounding = abs(most) * 0.02 if "8" in kind or "b" in kind or "16" in kind else 0
            assert values.min() >= least - rounding and values.max() <= most + rounding
        else:
            assert np.abs(values).max() <= 9 and len(np.unique(values)) > 1
        zeros = (x == 0).any().item() if options.get("exclude_zero") else None
        found.append((tuple(x.shape), str(x.dtype).partition(".")[2], x.stride(), zeros,
                      x.requires_grad, (values > 0).any(), (values < 0).any()))  # fmt: skip
    assert found[0] == found[1]


def test_made_tensors_follow_the_seed():
    tgrad.manual_seed(3)
    first = tgrad.testing.make_tensor(2, 3, dtype=tgrad.float32).tolist()
    tgrad.manual_seed(3)
    assert tgrad.testing.make_tensor([2, 3], dtype=tgrad.float32).tolist() == first


def test_the_older_comparison():
    with pytest.warns(FutureWarning, match="use assert_close"):
        tgrad.testing.assert_allclose(tgrad.tensor([1.0, NAN]), [1.0, NAN])
    with pytest.warns(FutureWarning), pytest.raises(AssertionError, match="not close"):
        tgrad.testing.assert_allclose(tgrad.ones(2), tgrad.zeros(2).double())
