"""Index expressions: a table of simplifications, and every rule against brute force."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.graph.oracle import leaf, value
from tgrad.fusion.movement import push_index
from tgrad.graph.index import (
    ZERO,
    Bound,
    Div,
    Index,
    Loaded,
    Mod,
    Var,
    constant,
    flatten,
    loaded,
    unflatten,
    var,
)
from tgrad.graph.node import Node, make
from tgrad.graph.op import Op

EXTENTS = {"i": 4, "j": 6, "k": 5}
i, j, k = (var(name, n) for name, n in EXTENTS.items())
flat = i * 30 + j * 5 + k
row = loaded(3, 0, 9)

TABLE: list[tuple[Index, str]] = [
    (i + 0, "i"),
    (i - i, "0"),
    (i * 0, "0"),
    (i + j + i, "(i*2 + j)"),
    (i * 3 + 2 - j, "(i*3 + j*-1 + 2)"),
    (i // 1, "i"),
    (i % 1, "0"),
    (i // 4, "0"),
    (i % 4, "i"),
    (i // 2, "(i // 2)"),
    (i % 2, "(i % 2)"),
    ((i * 6 + j) // 6, "i"),
    ((i * 6 + j) % 6, "j"),
    ((i * 12 + j * 2) // 12, "i"),
    ((i * 12 + j * 2) % 12, "j*2"),
    ((i * 8 + j) // 4, "((j // 4) + i*2)"),
    ((i * 8 + j) // 16, "(i // 2)"),
    ((i * 8 + 4) % 8, "4"),
    ((j // 2) // 2, "(j // 4)"),
    ((j % 4) % 2, "(j % 2)"),
    ((j % 4) // 2, "((j // 2) % 2)"),
    ((j // 2) * 2 + j % 2, "j"),
    ((j // 2) * 6 + (j % 2) * 3, "j*3"),
    ((row // 2 % 3) * 2 + row % 2, "(%3 % 6)"),
    ((i - 1) % 4, "((i + 3) % 4)"),
    ((i * -1 + 3) // 4, "0"),
    (flat // 30, "i"),
    (flat // 5 % 6, "j"),
    (flat % 5, "k"),
    (var("one", 1), "0"),
    (row // 10, "0"),
    (row % 10 + 1, "(%3 + 1)"),
]


@pytest.mark.parametrize(("expression", "text"), TABLE, ids=[text for _, text in TABLE])
def test_simplified(expression: Index, text: str) -> None:
    assert repr(expression) == text


def evaluate(e: Index, env: dict[str, int]) -> int:
    total = e.const
    for atom, c in e.terms:
        if isinstance(atom, Var):
            total += c * env[atom.name]
        elif isinstance(atom, Loaded):
            total += c * env[atom.key]
        elif isinstance(atom, Div):
            total += c * (evaluate(atom.base, env) // atom.divisor)
        else:
            assert isinstance(atom, Mod)
            total += c * (evaluate(atom.base, env) % atom.divisor)
    return total


def environments() -> list[dict[str, int]]:
    names = list(EXTENTS)
    return [
        dict(zip(names, point, strict=True))
        for point in product(*(range(n) for n in EXTENTS.values()))
    ]


POINTS = environments()
Meaning = Callable[[dict[str, int]], int]
Pair = tuple[Index, Meaning]


def leaf_pairs() -> st.SearchStrategy[Pair]:
    def variable(name: str) -> Pair:
        return var(name, EXTENTS[name]), lambda env: env[name]

    def number(n: int) -> Pair:
        return constant(n), lambda env: n

    return st.sampled_from(list(EXTENTS)).map(variable) | st.integers(-7, 7).map(number)


def grow(children: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    divisors = st.sampled_from([1, 2, 3, 4, 5, 6, 8, 12])

    def plus(a: Pair, b: Pair) -> Pair:
        return a[0] + b[0], lambda env: a[1](env) + b[1](env)

    def minus(a: Pair, b: Pair) -> Pair:
        return a[0] - b[0], lambda env: a[1](env) - b[1](env)

    def times(a: Pair, n: int) -> Pair:
        return a[0] * n, lambda env: a[1](env) * n

    def floordiv(a: Pair, n: int) -> Pair:
        return a[0] // n, lambda env: a[1](env) // n

    def mod(a: Pair, n: int) -> Pair:
        return a[0] % n, lambda env: a[1](env) % n

    return st.one_of(
        st.builds(plus, children, children),
        st.builds(minus, children, children),
        st.builds(times, children, st.integers(-6, 12)),
        st.builds(floordiv, children, divisors),
        st.builds(mod, children, divisors),
    )


EXPRESSIONS = st.recursive(leaf_pairs(), grow, max_leaves=8)


@settings(max_examples=400)
@given(EXPRESSIONS)
def test_equals_brute_force_and_keeps_its_bounds(pair: Pair) -> None:
    expression, meaning = pair
    divisor = expression.divisor()
    for env in POINTS:
        want = meaning(env)
        assert evaluate(expression, env) == want
        assert expression.lo <= want <= expression.hi
        assert (want % divisor == 0) if divisor else (want == 0)


@settings(max_examples=200)
@given(EXPRESSIONS)
def test_stride_is_the_change_per_step(pair: Pair) -> None:
    expression, _ = pair
    for name, n in EXTENTS.items():
        stride = expression.stride(name)
        if stride is None:
            continue
        for env in POINTS:
            if env[name] + 1 < n:
                step = evaluate(expression, {**env, name: env[name] + 1})
                assert step - evaluate(expression, env) == stride


@settings(max_examples=200)
@given(EXPRESSIONS, EXPRESSIONS)
def test_substitution(pair: Pair, replacement: Pair) -> None:
    expression, new = pair[0], replacement[0] % EXTENTS["i"]
    result = expression.substitute({"i": new})
    for env in POINTS:
        assert evaluate(result, env) == evaluate(expression, {**env, "i": evaluate(new, env)})


@settings(max_examples=100)
@given(st.lists(st.integers(1, 7), max_size=4))
def test_unflatten_inverts_flatten(sizes: list[int]) -> None:
    shape = tuple(sizes)
    indices = tuple(var(f"a{axis}", n) for axis, n in enumerate(shape))
    assert unflatten(flatten(indices, shape), shape) == indices


def test_bounds() -> None:
    assert Bound(i + 2, 0, 6).is_always
    assert not Bound(i + 2, 0, 5).is_always
    assert Bound(i + 2, 6, 9).is_never
    assert not Bound(i - 1, 0, 4).is_never
    assert Bound(i, 0, 2) == Bound(var("i", 4), 0, 2)


def test_queries() -> None:
    e = i * 6 + (j // 2) % 2 + loaded(7, 0, 3)
    assert e.variables() == {"i", "j"}
    assert e.loaded() == {7}
    assert (e.stride("i"), e.stride("j"), e.stride("k")) == (6, None, 0)
    assert ((i * 6 + 4).divisor(), ZERO.divisor()) == (2, 0)
    assert (i * 2).atom is None
    assert repr(i.atom) == "i"
    assert hash(i + j) == hash(j + i)
    assert i + j == j + i
    assert var("i", 4) != var("i", 5)


def pushed(node: Node) -> tuple[Index, list[Bound]]:
    """The offset into the leaf under a chain of movements, and the bounds on the way."""
    index = tuple(var("abcd"[axis], n) for axis, n in enumerate(node.shape))
    bounds: list[Bound] = []
    while node.op is not Op.BUFFER:
        index, more = push_index(node, index)
        bounds += more
        node = node.inputs[0]
    return flatten(index, node.shape), bounds


def chain(array: np.ndarray, *steps: tuple[Op, dict]) -> Node:
    node = leaf(array)
    for op, attrs in steps:
        node = make(op, node, **attrs)
    return node


RESHAPED = np.arange(24.0).reshape(4, 6)
CHAINS: list[tuple[str, Node, str, str]] = [
    ("reshape of a permute of a pad",
     chain(RESHAPED, (Op.PAD, {"low": (0, 1), "high": (0, 1)}), (Op.PERMUTE, {"axes": (1, 0)}),
           (Op.RESHAPE, {"shape": (2, 4, 4)})),
     "(a*4 + b + c*6 + -1)", "[0 <= (a*4 + b + -1) < 6]"),
    ("reshape of a pad that splits nothing",
     chain(RESHAPED, (Op.PAD, {"low": (1, 0), "high": (1, 0)}), (Op.RESHAPE, {"shape": (6, 2, 3)})),
     "(a*6 + b*3 + c + -6)", "[0 <= (a + -1) < 4]"),
    ("patches of an image",
     chain(np.arange(48.0).reshape(6, 8), (Op.WINDOW, {"axis": 0, "size": 3, "stride": 1,
           "dilation": 1}), (Op.WINDOW, {"axis": 1, "size": 3, "stride": 1, "dilation": 1}),
           (Op.RESHAPE, {"shape": (24, 9)})),
     "((a % 6) + (a // 6)*8 + (b % 3) + (b // 3)*8)", "[]"),
    ("transposed halves",
     chain(np.arange(32.0).reshape(4, 8), (Op.RESHAPE, {"shape": (4, 2, 4)}),
           (Op.PERMUTE, {"axes": (1, 0, 2)}), (Op.RESHAPE, {"shape": (8, 4)})),
     "((a % 4)*8 + (a // 4)*4 + b)", "[]"),
    ("there and back again",
     chain(RESHAPED, (Op.RESHAPE, {"shape": (2, 12)}), (Op.FLIP, {"axes": (1,)}),
           (Op.FLIP, {"axes": (1,)}), (Op.RESHAPE, {"shape": (4, 6)})),
     "(a*6 + b)", "[]"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "node", "offset", "mask"), CHAINS, ids=[c[0] for c in CHAINS])
def test_movement_chains(name: str, node: Node, offset: str, mask: str) -> None:
    found, bounds = pushed(node)
    assert repr(found) == offset
    assert repr(bounds) == mask
    buffer = node
    while buffer.op is not Op.BUFFER:
        buffer = buffer.inputs[0]
    data, want = value(buffer).ravel(), value(node)
    for point in np.ndindex(*node.shape):
        env = dict(zip("abcd", point))
        exists = all(b.lo <= evaluate(b.index, env) < b.hi for b in bounds)
        assert want[point] == (data[evaluate(found, env)] if exists else 0)
