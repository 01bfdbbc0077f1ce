"""`_foreach_*`: the method of that name on each tensor of a list."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
from tests.front.checking import normal
from tgrad.foreach import NAMES

LISTS = [np.abs(normal(i, *shape)) + 0.1 for i, shape in enumerate([(2, 3), (4,), ()])]
ARGUMENTS = {
    "add": (1.5,),
    "sub": (LISTS,),
    "mul": (2.0,),
    "div": (LISTS,),
    "pow": (2.0,),
    "clamp_max": (0.5,),
    "clamp_min": ([0.1, 0.5, 0.2],),
    "addcdiv": (LISTS, LISTS, 0.5),
    "addcmul": (LISTS, LISTS),
    "lerp": (LISTS, 0.25),
    "_foreach_copy_": (LISTS[::-1],),
}


@pytest.mark.parametrize("name", NAMES)
def test_functions_of_lists(name):
    arguments = ARGUMENTS.get(name.removeprefix("_foreach_").rstrip("_"), ())
    if name == "_foreach_copy_":
        arguments = ([a + 1 for a in LISTS],)
    found = []
    for library in (tgrad, torch):

        def of(given, library=library):
            is_list = isinstance(given, list) and isinstance(given[0], (np.ndarray, np.generic))
            return [library.tensor(a) for a in given] if is_list else given

        tensors = of([a * 0.5 if "acos" in name or "asin" in name else a for a in LISTS])
        made = getattr(library, name)(tensors, *map(of, arguments))
        assert (made is None) == (name.endswith("_") and library is tgrad) or library is torch
        found.append([t.numpy() for t in (tensors if name.endswith("_") else made)])
    for have, want in zip(*found, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-6)


def test_mistakes():
    with pytest.raises(ValueError, match="a list of 1 for 2 tensors"):
        tgrad._foreach_add([tgrad.ones(1)] * 2, [tgrad.ones(1)])
    with pytest.raises(AttributeError, match="no attribute '_foreach_absent'"):
        _ = tgrad._foreach_absent
