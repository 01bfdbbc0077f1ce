"""Shapes are PyTorch's `Size`."""

from __future__ import annotations

import copy
import pickle
from operator import add

import numpy as np
import pytest
import torch

import tgrad


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s[1:],
        lambda s: s[::-1],
        lambda s: s[:0],
        lambda s: add(s, (5,)),
        lambda s: add((5, 6), s),
        lambda s: s + s,
        lambda s: s * 2,
        lambda s: 2 * s,
        lambda s: copy.deepcopy(s),
        lambda s: pickle.loads(pickle.dumps(s)),
    ],
)
def test_what_is_made_of_a_shape_is_one(call):
    have, want = (call(t.zeros(2, 3, 4).shape) for t in (tgrad, torch))
    assert have == tuple(want) and have.numel() == want.numel()
    assert type(have) is tgrad.Size and hash(have) == hash(tuple(want))


def test_a_shape_is_a_tuple():
    x = tgrad.zeros(2, 3)
    assert isinstance(x.shape, tuple) and isinstance(x.size(), tgrad.Size)
    assert (x.shape[0], x.shape[-1], *x.shape, len(x.shape)) == (2, 3, 2, 3, 2)
    assert x.shape == (2, 3) and x.shape != [2, 3] and f"{x.shape}" == "(2, 3)"
    assert x.view(x.shape[::-1]).shape == (3, 2) and tgrad.ones(x.shape).size(1) == 3
    assert (x + tgrad.zeros(4, 1, 1)).sum(0).shape.numel() == x.numel() == x.shape.numel()


def test_sizes_are_integers():
    for library in (tgrad, torch):
        made = library.Size([np.int64(2), library.tensor(3), True])
        assert made == (2, 3, 1) and library.Size() == () and library.Size([]).numel() == 1
        for wrong in ([1.5], ["a"], 4):
            with pytest.raises(TypeError):
                library.Size(wrong)


def test_shapes_of_nodes_are_plain():
    x = tgrad.ones(3, 1)
    made = [x.expand(tgrad.Size([3, 4])), x + x.new_zeros(x.shape), x.reshape(x.shape[::-1])]
    assert all(type(t._node.shape) is tuple for t in made)


def test_shapes_in_compiled_functions():
    compiled = tgrad.compile(lambda x: (x.flatten(1) * x.shape[1:].numel(), x.shape))
    y, shape = compiled(tgrad.ones(2, 3, 4))
    assert y.tolist() == [[12.0] * 12] * 2 and shape == (2, 3, 4)


def test_shapes_whose_sizes_change():
    def f(x):
        return x.new_ones(tgrad.Size([x.shape[0], 2])) + x.shape[1:].numel(), x.shape

    compiled = tgrad.compile(f, dynamic={"x": {0: (1, 8)}})
    for rows in (2, 5):
        y, shape = compiled(tgrad.ones(rows, 3))
        assert y.tolist() == [[4.0, 4.0]] * rows and shape == (rows, 3)
        assert type(shape) is tgrad.Size
    assert compiled.traces == 1
