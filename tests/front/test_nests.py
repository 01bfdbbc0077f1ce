"""Nests of containers: `tgrad.utils._pytree` beside PyTorch's."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.utils._pytree as theirs

import tgrad
import tgrad.utils._pytree as ours
from tgrad.errors import ShapeError, UnsupportedError


class Point(NamedTuple):
    x: Any
    y: Any


NESTS = [
    3,
    None,
    [],
    (),
    [1, (2, None), {"a": 3, "b": [4]}],
    OrderedDict([("z", 1), ("a", (2,))]),
    defaultdict(list, {"k": [1, 2]}),
    deque([1, [2, 3]], maxlen=5),
    Point(1, [2, Point(3, "s")]),
    (slice(1, 2), range(3), "abc", {1, 2}),
]


@pytest.mark.parametrize("nest", NESTS, ids=repr)
def test_leaves_and_structures(nest: Any) -> None:
    (have, spec), (want, other) = ours.tree_flatten(nest), theirs.tree_flatten(nest)
    assert have == want == ours.tree_leaves(nest) == list(ours.tree_iter(nest))
    for name in ("num_leaves", "num_children", "num_nodes"):
        assert getattr(spec, name) == getattr(other, name)
    assert spec.is_leaf() == other.is_leaf() == ours.tree_is_leaf(nest)
    assert ours.tree_unflatten(have, spec) == nest
    assert type(ours.tree_unflatten(have, spec)) is type(nest)
    assert spec == ours.tree_structure(nest) and hash(spec) == hash(ours.tree_structure(nest))
    for name in ("tree_map", "tree_map_with_path"):
        shown = lambda *given: str(given[-1])  # noqa: E731
        assert getattr(ours, name)(shown, nest) == getattr(theirs, name)(shown, nest)
    paths = ours.tree_leaves_with_path(nest)
    assert [ours.keystr(path) for path, _ in paths] == [
        theirs.keystr(path) for path, _ in theirs.tree_leaves_with_path(nest)
    ]
    assert [ours.key_get(nest, path) for path, _ in paths] == have


def test_what_is_chosen() -> None:
    nest = {"a": [1, 2.5, "s"], "b": (3, True)}
    for chosen in (int, (int, float), int | str, lambda leaf: leaf == "s"):
        calls = [lib.tree_map_only(chosen, lambda v: v * 2, nest) for lib in (ours, theirs)]
        assert calls[0] == calls[1]
    pair = lambda tree: isinstance(tree, tuple)  # noqa: E731
    assert ours.tree_leaves(nest, is_leaf=pair) == theirs.tree_leaves(nest, is_leaf=pair)
    for name in ("tree_all", "tree_any"):
        for test in (lambda v: v != 3, lambda v: v == 7):
            assert getattr(ours, name)(test, nest) == getattr(theirs, name)(test, nest)
            only = f"{name}_only"
            assert getattr(ours, only)(int, test, nest) == getattr(theirs, only)(int, test, nest)
    seen: list[Any] = []
    assert ours.tree_map_(seen.append, nest) is nest and seen == ours.tree_leaves(nest)
    assert ours.tree_map_only_(str, seen.append, nest) is nest and seen[-1] == "s"


def test_several_nests() -> None:
    add = lambda a, b: (a, b)  # noqa: E731
    for one, other in (
        ({"a": 1, "b": [2]}, OrderedDict([("b", [(3, 4)]), ("a", {"x": 5})])),
        ((1, 2), ([3], [4])),
        (defaultdict(int, {"a": 1}), {"a": 2}),
        (deque([1], maxlen=2), deque([5])),
    ):
        assert ours.tree_map(add, one, other) == theirs.tree_map(add, one, other)
    for one, other in (([1, 2], [1]), ({"a": 1}, {"b": 1}), ([1], (1,)), ([1, [2]], [1, 2])):
        with pytest.raises(ValueError):
            theirs.tree_map(add, one, other)
        with pytest.raises(ShapeError, match="is not nested as TreeSpec"):
            ours.tree_map(add, one, other)
    with pytest.raises(ShapeError, match="1 leaves for a nest of 2"):
        ours.tree_unflatten([1], ours.tree_structure([1, 2]))


class Bag:
    def __init__(self, *items: Any):
        self.items = items


@dataclass
class State:
    weight: Any
    step: Any
    note: str = "new"


def test_registered_types() -> None:
    ours.register_pytree_node(Bag, lambda b: (list(b.items), len(b.items)), lambda c, _: Bag(*c))
    nest = [Bag(1, (2, 3))]
    assert ours.tree_leaves(nest) == [1, 2, 3]
    assert ours.tree_map(lambda v: v + 1, nest)[0].items == (2, (3, 4))
    with pytest.raises(ValueError, match="registered already"):
        ours.register_pytree_node(Bag, None, None)
    with pytest.raises(UnsupportedError, match=r"paths of a Bag(.|\n)*flatten_with_keys_fn"):
        ours.tree_leaves_with_path(nest)
    with pytest.raises(ShapeError):
        ours.tree_map(lambda a, b: a, nest, [Bag(1)])
    ours.register_dataclass(State, drop_field_names=["note"])
    state = State(tgrad.ones(2), tgrad.tensor(3.0), "kept?")
    assert [ours.keystr(path) for path, _ in ours.tree_leaves_with_path(state)] == [
        ".weight", ".step",
    ]  # fmt: skip
    found = tgrad.func.grad(lambda s: (s.weight * s.step).sum())(state)
    assert (found.weight.tolist(), found.step.item(), found.note) == ([3.0, 3.0], 2.0, "new")


def test_linear_functions_of_tangents() -> None:
    rng = np.random.default_rng()
    x, w, dx, dw = (rng.standard_normal((3, 3)).astype(np.float32) for _ in range(4))
    found = []
    for t in (tgrad, torch):
        function = lambda p, x, t=t: {"y": t.tanh(x @ p["w"]), "z": x.sum()}  # noqa: E731
        make = t.tensor
        y, along = t.func.linearize(function, {"w": make(w)}, make(x))
        first, second = (along({"w": make(dw * k)}, make(dx * k)) for k in (1, 2))
        direct = t.func.jvp(function, ({"w": make(w)}, make(x)), ({"w": make(dw)}, make(dx)))[1]
        found.append([each[k].numpy() for each in (y, first, second, direct) for k in "yz"])
    for have, want in zip(*found, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-5)
    _, along = tgrad.func.linearize(lambda x: x * 2, tgrad.ones(3))
    with pytest.raises(ShapeError, match=r"tangents of shapes \[\(2,\)\] for primals of shapes"):
        along(tgrad.ones(2))


def test_batch_norms_without_statistics() -> None:
    for t in (tgrad, torch):
        norms = (t.nn.BatchNorm1d(3), t.nn.InstanceNorm1d(3, track_running_stats=True))
        net = t.nn.Sequential(*norms, t.nn.Sequential(t.nn.BatchNorm2d(2), t.nn.LayerNorm(2)))
        assert t.func.replace_all_batch_norm_modules_(net) is net
        assert [name for name, _ in net.named_buffers()] == [
            "1.running_mean", "1.running_var", "1.num_batches_tracked",
        ]  # fmt: skip
        assert not net[2][0].track_running_stats
