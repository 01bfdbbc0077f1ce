"""Forms: graphs that differ in numbers and places share one, and inputs may give what varies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzzing import graphs
from tests.graph.oracle import leaf, value, values
from tgrad import dtype as dt
from tgrad.graph import build
from tgrad.graph.form import Site, form_of, part_of, with_inputs
from tgrad.graph.interpret import interpret
from tgrad.graph.node import Node, make, toposort
from tgrad.graph.op import Op
from tgrad.graph.rules_elementwise import constant_of

X = leaf(np.arange(60.0).reshape(5, 4, 3), dt.float32)
Y = leaf(np.arange(60.0).reshape(5, 4, 3) + 7, dt.float32)


def cut(x: Node, *bounds: tuple[int, int]) -> Node:
    return build.slice_(x, tuple(i for i, _ in bounds), tuple(j for _, j in bounds))


ALL4, ALL3 = (0, 4), (0, 3)


def with_all_values(outputs: Sequence[Node]) -> list[Node]:
    """The graph with every value of its form as an input, and its parts as leaves."""
    form = form_of(outputs)
    leaves = {n: n if n.op is Op.BUFFER else leaf(held(n), n.dtype) for n in form.leaves}
    numbers = {s: leaf(s.number, s.dtype) for s in form.sites}
    return with_inputs(outputs, leaves, numbers)


def held(node: Node) -> np.ndarray:
    return interpret([node], lambda storage: storage.numpy() if not hasattr(storage, "array")
                     else storage.array)[0]  # fmt: skip


@pytest.mark.parametrize(
    ("node", "offset"),
    [
        (cut(X, (2, 4), ALL4, ALL3), 24),
        (cut(X, (2, 3), (1, 3), ALL3), 27),
        (cut(X, (2, 3), (1, 2), (1, 3)), 28),
        (cut(cut(X, (1, 5), ALL4, ALL3), (2, 4), ALL4, ALL3), 36),
        (cut(build.reshape_to(X, (60,)), (7, 20)), 7),
        (build.slice_(X, (4, 0, 0), (5, 4, 3), (3, 1, 1)), 48),
        (cut(X, (0, 5), (1, 2), ALL3), None),
        (cut(X, (0, 5), ALL4, (0, 2)), None),
        (build.slice_(X, (0, 0, 0), (5, 4, 3), (2, 1, 1)), None),
        (cut(make(Op.NEG, X), (2, 4), ALL4, ALL3), None),
        (cut(build.permute(X, (1, 0, 2)), (2, 4), (0, 5), ALL3), None),
        (cut(X, (2, 2), ALL4, ALL3), None),
        (X, None),
    ],
)
def test_parts_lie_together(node: Node, offset: int | None) -> None:
    part = part_of(node)
    assert (None if part is None else part.offset) == offset
    if part is not None:
        flat = value(part.buffer).reshape(-1)
        assert (value(node).reshape(-1) == flat[part.offset :][: node.size]).all()


SAME: dict[str, Callable[[Node, int], Node]] = {
    "numbers": lambda x, i: build.mul(x, build.const_like(x, 0.1 + i)),
    "rows": lambda x, i: build.exp(cut(x, (i, i + 2), ALL4, ALL3)),
    "columns": lambda x, i: build.exp(cut(x, (0, 5), (i, i + 2), ALL3)),
    "places": lambda x, i: build.pad(build.exp(x), (i, 0, 0), (3 - i, 0, 0)),
}


@pytest.mark.parametrize("name", SAME)
def test_graphs_that_differ_in_values_have_one_form(name: str) -> None:
    first, second = (form_of([SAME[name](x, i)]) for x, i in ((X, 1), (Y, 2)))
    assert first.rows == second.rows
    assert (first.values == second.values) == (name == "rows"), "parts are leaves, not values"


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (build.power(X, build.const_like(X, 2.0)), build.power(X, build.const_like(X, 3.0))),
        (cut(X, (0, 5), (1, 3), ALL3), cut(X, (0, 5), (1, 4), ALL3)),
        (build.mul(X, build.const_like(X, 2.0)), build.add(X, build.const_like(X, 2.0))),
        (build.mul(X, Y), build.mul(X, X)),
    ],
)
def test_what_rules_and_shapes_need_is_of_the_form(a: Node, b: Node) -> None:
    assert form_of([a]).rows != form_of([b]).rows


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("i", [0, 1, 2])
def test_inputs_give_what_values_gave(name: str, i: int) -> None:
    node = SAME[name](X, i)
    (general,) = with_all_values([node])
    assert (value(general) == value(node)).all()
    assert form_of([general]).values == () or name == "places"


def test_of_a_pad_only_its_zero_and_bounds_stay() -> None:
    node = build.pad(build.exp(X), (1, 0, 2), (0, 3, 0))
    (general,) = with_all_values([node])
    assert (value(general) == value(node)).all()
    assert not any(site.node.op is Op.PAD for site in form_of([general]).sites)


def test_strided_slices_from_a_place() -> None:
    node = build.slice_(build.exp(X), (1, 1, 0), (5, 4, 3), (2, 2, 1))
    (general,) = with_all_values([node])
    assert (value(general) == value(node)).all()


def test_random_graphs_compute_the_same() -> None:
    @settings(max_examples=60)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        nodes = [t._node for t in data.draw(graphs("numpy"))]
        general = with_all_values(nodes)
        for got, want in zip(map(held, general), map(held, nodes), strict=True):
            np.testing.assert_array_equal(got, want)

    check()


def with_other_numbers(outputs: Sequence[Node], numbers: Mapping[Site, float]) -> list[np.ndarray]:
    """The values of a graph, with other numbers at some of its sites: node by node on arrays that
    lie row by row, since NumPy's products round by how their operands lie."""
    known: dict[Node, np.ndarray] = {}
    for node in toposort(outputs):
        if node.op in (Op.BUFFER, Op.CONST) or not node.inputs:
            known[node] = held(node)
            continue
        operands = []
        for i, x in enumerate(node.inputs):
            if Site(node, i) in numbers:
                operands.append(np.full(x.shape, numbers[Site(node, i)], x.dtype.numpy))
            else:
                is_own = constant_of(x) is not None and node.op is not Op.CUSTOM_VJP
                operands.append(held(x) if is_own else known[x])
        known[node] = held(make(node.op, *map(leaf_of, operands), **dict(node.attrs)))
    return [known[n] for n in outputs]


def leaf_of(array: np.ndarray) -> Node:
    return leaf(array, dt.from_numpy(array.dtype))


@pytest.mark.parametrize("kind", ["constants", "marked constants"])
def test_a_number_varies_where_it_stands_alone(kind: str) -> None:
    """Though all numbers were equal when the graph was made."""
    one = build.const(1.0, dt.float32, X.shape)
    if kind == "marked constants":
        one = make(Op.CUSTOM_VJP, one, rule="leaf", params=(1,))
    fixed = build.const(1.0, dt.float32, X.shape)
    output = make(Op.ADD, make(Op.MUL, make(Op.EXP, one), X), make(Op.MAXIMUM, X, fixed))
    form = form_of([output])
    assert len(form.sites) >= 2
    for chosen in form.sites:
        given = {chosen: leaf(3.0, chosen.dtype)}
        leaves = {n: n for n in form.leaves}
        (have,) = values(*with_inputs([output], leaves, given))
        (want,) = with_other_numbers([output], {chosen: 3.0})
        np.testing.assert_array_equal(have, want)


def test_random_numbers_vary_where_they_stand() -> None:
    """Some numbers of random graphs become inputs, and take other values than they had."""

    @settings(max_examples=40)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        nodes = [t._node for t in data.draw(graphs("numpy"))]
        form = form_of(nodes)
        alike = [s for s in form.sites if not s.is_start and s.dtype.is_float]
        chosen = data.draw(st.lists(st.sampled_from(alike), unique=True)) if alike else []
        numbers = {s: float(s.number) + 0.75 for s in chosen}
        leaves = {n: n if n.op is Op.BUFFER else leaf(held(n), n.dtype) for n in form.leaves}
        inputs = {s: leaf(number, s.dtype) for s, number in numbers.items()}
        with np.errstate(all="ignore"):
            got = with_other_numbers(with_inputs(nodes, leaves, inputs), {})
            for have, want in zip(got, with_other_numbers(nodes, numbers), strict=True):
                np.testing.assert_array_equal(have, want)

    check()


def test_marks_count_as_their_results() -> None:
    mark = make(Op.CUSTOM_VJP, X, rule="leaf", params=(1,))
    assert form_of([build.exp(mark)]).rows == form_of([build.exp(X)]).rows
    assert values(*with_inputs([mark], {X: Y}, {}))[0] is not None
