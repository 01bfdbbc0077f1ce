"""Mistakes with symbolic sizes: one a test, with the whole message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import tgrad
from tests.compile.test_mistakes import check
from tgrad.errors import ShapeError, TgradError, TraceError, UnsupportedError

NUMBER_HINT = (
    "Compute with it as it is: shapes, slices, comparisons, +, -, *, n ** 0.5 and arithmetic with "
    "tensors take it. Or leave it out of dynamic=."
)
AXIS_HINT = "Leave that axis out of dynamic=, or do this outside the compiled function."
FORMS = (
    "Give {'x': {axis: (smallest, largest)}} for axes of a tensor, {'n': (smallest, largest)} for "
    "an int; sizes that are always equal get one name: ('T', smallest, largest)."
)
X = tgrad.ones(3, 2)


def message_of(kind: type[TgradError], call: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(kind) as info:
        call()
    return info.value.what, info.value.hint


def f(x: Any, y: Any = None) -> Any:
    return x if y is None else x + y


def refused(spec: Any, *args: Any) -> tuple[str, str]:
    kind: Any = (ShapeError, UnsupportedError)
    return message_of(kind, lambda: tgrad.compile(f, dynamic=spec)(*args))


def test_what_dynamic_says() -> None:
    assert refused(3) == ("compile: dynamic=3.", FORMS)
    assert refused({"x": {0: 5}}) == ("compile: dynamic= says 5 of x.shape[0].", FORMS)
    assert refused({"z": {0: (1, 8)}}) == (
        "compile: dynamic= names 'z', which is no parameter of 'f'.", "Its parameters are x, y."
    )  # fmt: skip
    assert refused({"x": {0: (4, 4)}}) == (
        "compile: dynamic= says that x.shape[0] is 4 to 4.",
        "Give a smallest of 0 or more and a largest above it.",
    )
    assert refused({"x": {0: ("N", 1, 8)}, "y": {0: ("N", 1, 9)}}) == (
        "compile: dynamic= gives 'N' two ranges, 1 to 8 and 1 to 9.",
        "Sizes of one name are equal: give them one range.",
    )


@pytest.mark.parametrize("rows", [lambda x, n: x[:, :n], lambda x, n: x.transpose(0, 1)])
def test_a_write_through_a_reshape_that_is_a_copy_for_some_sizes(rows: Callable[..., Any]) -> None:
    """PyTorch's is a view where there is one row, or where nothing was cut off."""

    def g(x: Any, n: int) -> Any:
        y = x * 1
        rows(y, n).reshape(-1).mul_(2)
        return y

    write = tgrad.compile(g, dynamic={"x": {0: (1, 8)}, "n": (1, 2)})
    assert message_of(UnsupportedError, lambda: write(X, 1)) == (
        "an in-place change of memory of which a reshape may or may not be a copy.",
        "Use .view() or .clone() in place of the reshape.",
    )


def test_a_window_longer_than_the_axis() -> None:
    windows = tgrad.compile(lambda x: x.unfold(0, 4, 1).sum(-1), dynamic={"x": {0: (1, 8)}})
    assert windows(tgrad.ones(6)).tolist() == [4.0] * 3
    assert message_of(ShapeError, lambda: windows(tgrad.ones(3))) == (
        "a window of 4 elements, 1 apart, does not fit axis 0 of shape (x.shape[0],).",
        "Pad the input or take a smaller window.",
    )


def test_a_size_out_of_its_range() -> None:
    assert refused({"x": {0: (4, 8)}}, X) == (
        "x.shape[0] is 3 in a call of 'f', compiled for 4 to 8.",
        "Give dynamic= a larger range; memory is laid out for its largest size.",
    )


def test_sizes_of_one_name_that_differ() -> None:
    spec = {"x": {0: ("N", 1, 8)}, "y": {0: ("N", 1, 8)}}
    assert refused(spec, X, tgrad.ones(2, 2)) == (
        "x.shape[0] is 3 and y.shape[0] is 2 in a call of 'f'; dynamic= says that both are 'N'.",
        "Pass equal sizes, or give them different names.",
    )


def test_sizes_of_two_names_do_not_broadcast() -> None:
    what, hint = refused({"x": {0: (1, 8)}, "y": {0: (1, 8)}}, X, tgrad.ones(3, 2))
    assert what == (
        "shapes (x.shape[0], 2) and (y.shape[0], 2) cannot be broadcast together: sizes "
        "x.shape[0] and y.shape[0] at axis -2."
    )
    assert hint == "Sizes must be equal or 1, counted from the last axis."


def test_arguments_of_another_kind() -> None:
    hint = "Pass a tensor; tensors in lists, tuples and dicts have fixed sizes."
    assert refused({"x": {0: (1, 8)}}, [X]) == (
        "the argument 'x' of 'f', compiled, is a list, and dynamic= gives sizes of axes of a "
        "tensor.", hint
    )  # fmt: skip
    assert refused({"x": (1, 8)}, X)[0] == (
        "the argument 'x' of 'f', compiled, is a Tensor, and dynamic= gives the range of an int."
    )
    assert refused({"x": {2: (1, 8)}}, X) == (
        "dynamic= names axis 2 of 'x', which has the shape (3, 2) in this call of 'f'.",
        "Name axes that it has.",
    )
    assert refused({"x": {0: (1, 8)}}, tgrad.ones(3).requires_grad_()) == (
        "the argument 'x' of 'f', compiled, requires a gradient and has sizes in dynamic=.",
        "Pass .detach() of it; parameters have fixed sizes.",
    )


def as_int(x: Any) -> Any:
    return x * int(x.shape[0])


def as_range(x: Any) -> Any:
    return [x for _ in range(x.shape[0])]


def as_length(x: Any) -> Any:
    return len(x)


def as_float(x: Any) -> Any:
    return x * float(x.shape[0])


@pytest.mark.parametrize("g", [as_int, as_range, as_length, as_float])
def test_a_symbolic_size_is_read_as_a_number(g: Any) -> None:
    what = (
        f"the size x.shape[0] is read as a number while tgrad.compile traces {g.__name__!r}, where "
        "it stands for every size of its range."
    )
    compiled = tgrad.compile(g, dynamic={"x": {0: (1, 8)}})
    check(TraceError, lambda: compiled(X), what, NUMBER_HINT, 1, g)


def flips(x: Any) -> Any:
    return x.T.reshape(-1).flip(0)


def windows(x: Any) -> Any:
    return x.unfold(0, 1, 2)


def splits(x: Any) -> Any:
    return x.reshape(2, -1)


def sorts(x: Any) -> Any:
    return x.T.reshape(-1).argsort()


def picks(x: Any) -> Any:
    return x.T.reshape(-1)[tgrad.zeros(2, dtype=tgrad.int64)]


def cuts(x: Any) -> Any:
    return x.T.reshape(-1)[2:] + 1


REFUSED = {
    flips: "flip along axes of symbolic size that a reshape merged is not supported.",
    windows: "window is not supported on an axis of symbolic size.",
    splits: "reshape from (x.shape[0], 2) to (2, 8) splits an axis of symbolic size.",
    sorts: "argsort along axes of symbolic size that a reshape merged is not supported.",
    picks: "gather along axes of symbolic size that a reshape merged is not supported.",
    cuts: "slice [2:16:1] of an axis of size 2*x.shape[0], which may end before.",
}


@pytest.mark.parametrize("g", REFUSED)
def test_an_op_that_needs_static_sizes(g: Any) -> None:
    compiled = tgrad.compile(g, dynamic={"x": {0: (2, 8)}})
    check(TraceError, lambda: compiled(X), REFUSED[g], AXIS_HINT, 1, g)


def test_sizes_that_are_not_largest_together() -> None:
    flat = tgrad.compile(
        lambda x: x[:, x.shape[0] :].reshape(-1) * 2,
        dynamic={"x": {0: ("A", 1, 3), 1: ("B", 4, 8)}},
    )
    assert message_of(TraceError, lambda: flat(tgrad.ones(2, 5))) == (
        "reshape from (A, -A + B) to (-A*A + A*B,) merges axes of symbolic sizes that are not "
        "largest together.",
        "Leave one of them out of dynamic=, or reshape outside the compiled function.",
    )


def test_a_slice_with_a_step() -> None:
    compiled = tgrad.compile(lambda x: x[::2], dynamic={"x": {0: (2, 8)}})
    assert message_of(TraceError, lambda: compiled(X)) == (
        "a slice by 2 of an axis of size x.shape[0].",
        "Slice an axis of symbolic size by 1, or leave it out of dynamic=.",
    )


def test_a_size_is_divided() -> None:
    compiled = tgrad.compile(lambda x: x[: x.shape[0] // 2], dynamic={"x": {0: (2, 8)}})
    what, hint = message_of(TraceError, lambda: compiled(X))
    assert what == (
        "x.shape[0] is divided by 2 while tgrad.compile traces '<lambda>', where it stands for "
        "every size of its range."
    )
    assert hint == NUMBER_HINT


def test_the_largest_of_none() -> None:
    compiled = tgrad.compile(lambda x: x.amax(0), dynamic={"x": {0: (0, 8)}})
    assert message_of(TraceError, lambda: compiled(X)) == (
        "reduce_max over an axis of size x.shape[0], which may be 0.",
        "Give a range in dynamic= that starts at 1.",
    )


def test_sizes_merged_in_two_orders() -> None:
    def g(x: Any, y: Any) -> Any:
        return x.reshape(-1) + y.reshape(-1)

    axes = tgrad.Dim("A", 1, 4), tgrad.Dim("B", 1, 4)
    spec = {"x": {0: axes[0], 1: axes[1]}, "y": {0: axes[1], 1: axes[0]}}
    compiled = tgrad.compile(g, dynamic=spec)
    what, hint = message_of(TraceError, lambda: compiled(tgrad.ones(3, 2), tgrad.ones(2, 3)))
    assert what == "add of axes of sizes A*B and A*B, which stand at different places in memory."
    assert hint == (
        "Sizes that are always equal need one name: dynamic={'x': {0: ('N', 1, 64)}, 'y': {0: "
        "('N', 1, 64)}}. Sizes merged by reshape must be merged in one order."
    )


def test_state_of_a_symbolic_size() -> None:
    held = tgrad.ones(3)

    def g(x: Any) -> None:
        held.data = x.sum(1)

    compiled = tgrad.compile(g, dynamic={"x": {0: (1, 8)}})
    assert message_of(TraceError, lambda: compiled(X)) == (
        "a tensor that outlives 'g' gets a write of shape (x.shape[0],), whose size differs from "
        "call to call.",
        "Return it instead.",
    )


def test_a_size_that_outlives_the_trace() -> None:
    kept: list[Any] = []
    getter = iter([kept])  # what the trace does not look into

    def g(x: Any) -> Any:
        next(getter).append(x.shape[0])
        return x * 1

    tgrad.compile(g, dynamic={"x": {0: (1, 8)}})(X)
    assert message_of(TraceError, lambda: kept[0] > 2) == (
        "the size -x.shape[0] + 3 is compared after the trace of 'g' that it belongs to.",
        "Return it from the compiled function: it is an int there.",
    )
