"""Mistakes in compiled functions: one a test, with the whole message."""

from __future__ import annotations

import linecache
from typing import Any

import numpy as np
import pytest

import tgrad
from tgrad import nn, optim
from tgrad.errors import GradientError, OutOfRangeError, TgradError, TraceError, UnsupportedError

WAYS_OUT = (
    "Use tgrad.where to choose between values or tgrad.cond between computations, return the "
    "tensor and look at it there, or move this outside the compiled function."
)
ONE = tgrad.ones(1)


def check(kind: type[TgradError], call: Any, what: str, hint: str, line: int, of: Any) -> None:
    """Assert the whole message; `line` counts from the first line of the function `of`."""
    with pytest.raises(kind) as info:
        call()
    code = of.__code__
    number = code.co_firstlineno + line
    text = linecache.getline(code.co_filename, number).strip()
    assert str(info.value) == f"{what}\n  at {code.co_filename}:{number}: {text}\n  {hint}"


@pytest.mark.parametrize("read", ["item", "numpy", "tolist", "__bool__", "realize", "__float__"])
def test_a_value_is_read(read: str) -> None:
    def f(x: tgrad.Tensor) -> Any:
        y = x * 2
        return getattr(y, read)()

    what = "the value of a tensor is read while tgrad.compile traces 'f'."
    check(TraceError, lambda: tgrad.compile(f)(ONE), what, WAYS_OUT, 2, f)


def test_a_branch_on_the_value_of_an_argument_or_of_state() -> None:
    held = tgrad.ones(1)

    def f(x: tgrad.Tensor) -> Any:
        if x > 0:
            return x
        return -x

    def g() -> Any:
        return 1 if held.sum() > 0 else 2

    what = "the value of a tensor is read while tgrad.compile traces {!r}."
    check(TraceError, lambda: tgrad.compile(f)(ONE), what.format("f"), WAYS_OUT, 1, f)
    check(TraceError, lambda: tgrad.compile(g)(), what.format("g"), WAYS_OUT, 1, g)


def test_a_random_stream_is_seeded_inside() -> None:
    def f() -> Any:
        tgrad.manual_seed(0)
        return tgrad.rand(2)

    hint = "Do it outside the compiled function; its draws advance by themselves."
    what = "the seed of a generator is set while tgrad.compile traces 'f'."
    check(TraceError, lambda: tgrad.compile(f)(), what, hint, 1, f)


CHANGED_HINT = (
    "Change it outside the compiled function, or make it a tensor and change that in place."
)


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def forward(self, x: tgrad.Tensor) -> tgrad.Tensor:
        self.count += 1
        return x * self.count


def test_a_number_of_a_module_changes_inside() -> None:
    model = Counting()

    def f(x: tgrad.Tensor) -> tgrad.Tensor:
        return model(x)

    what = (
        "model.count changes from 0 to 1 while tgrad.compile traces 'f': replays would not change "
        "it."
    )
    check(TraceError, lambda: tgrad.compile(f)(ONE), what, CHANGED_HINT, 0, f)


def test_a_number_of_the_closure_changes_inside() -> None:
    calls, losses = 0, []

    def f(x: tgrad.Tensor) -> tgrad.Tensor:
        nonlocal calls
        calls += 1
        return x

    def g(x: tgrad.Tensor) -> tgrad.Tensor:
        losses.append(x * 2)
        return x

    what = "calls changes from 0 to 1 while tgrad.compile traces 'f': replays would not change it."
    check(TraceError, lambda: tgrad.compile(f)(ONE), what, CHANGED_HINT, 0, f)
    what = (
        "losses changes from [] to [a Tensor] while tgrad.compile traces 'g': replays would not "
        "change it."
    )
    check(TraceError, lambda: tgrad.compile(g)(ONE), what, CHANGED_HINT, 0, g)


def test_a_schedule_steps_inside() -> None:
    w = nn.Parameter(tgrad.ones(1))
    optimizer = optim.SGD([w], lr=1.0)
    schedule = optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)

    def f() -> None:
        w.sum().backward()
        optimizer.step()
        schedule.step()

    what = "StepLR.step() is called while tgrad.compile traces 'f'."
    hint = "Call it after the compiled step, which reads the rates at every call."
    check(TraceError, lambda: tgrad.compile(f)(), what, hint, 3, f)
    assert schedule.last_epoch == 0
    for make in (  # none of which changes the rate at its first step
        lambda s: s.StepLR(optimizer, 5),
        lambda s: s.SequentialLR(optimizer, [s.ConstantLR(optimizer), s.StepLR(optimizer, 2)], [9]),
        lambda s: s.ChainedScheduler([s.StepLR(optimizer, 5)]),
        lambda s: s.CosineAnnealingWarmRestarts(optimizer, 5),
        lambda s: s.ReduceLROnPlateau(optimizer),
    ):
        other = make(optim.lr_scheduler)
        args = (1.0,) if type(other).__name__ == "ReduceLROnPlateau" else ()
        with pytest.raises(TraceError, match=f"{type(other).__name__}.step\\(\\) is called"):
            tgrad.compile(lambda other=other, args=args: other.step(*args))()


def test_an_argument_list_changes_inside() -> None:
    def f(items: list) -> None:
        items.append(items[0] * 2)

    what = "an argument of 'f' changes while tgrad.compile traces it: replays would not change it."
    check(TraceError, lambda: tgrad.compile(f)([ONE]), what, "Return the new value instead.", 0, f)


def test_backward_through_a_plan() -> None:
    w = tgrad.ones(1, requires_grad=True)

    def f(x: tgrad.Tensor) -> tgrad.Tensor:
        return (x * w).sum()

    what = (
        "a result of 'f', compiled, requires a gradient, and backward() through a plan is not "
        "supported."
    )
    hint = "Compile the whole step, backward included, or call it under tgrad.no_grad()."
    check(UnsupportedError, lambda: tgrad.compile(f, memory_limit="1GiB")(ONE), what, hint, 0, f)
    with tgrad.no_grad():
        assert tgrad.compile(f, memory_limit="1GiB")(ONE).item() == 1.0


def test_an_argument_with_a_history() -> None:
    w = tgrad.ones(1, requires_grad=True)
    f = tgrad.compile(lambda x: (x * 2).sum().backward(), memory_limit="1GiB")
    with pytest.raises(UnsupportedError) as info:
        f(w * 2)
    assert info.value.what == (
        "tensor 0 among the arguments of a compiled function was computed from tensors that "
        "require gradients."
    )
    assert info.value.hint == ("Compute it inside the compiled function, or pass .detach() of it.")


def test_a_numpy_array_as_argument() -> None:
    f = tgrad.compile(lambda x: tgrad.tensor(x))
    with pytest.raises(UnsupportedError) as info:
        f(np.ones(2))
    assert info.value.what == "argument 0 of a compiled function is a NumPy array."
    assert info.value.hint == ("Pass tgrad.tensor(array): its values are then read at every call.")


class Hiding:
    """Leads to a tensor by a way that is not followed."""

    def __init__(self, held: tgrad.Tensor):
        self.__dict__["hidden"] = held

    def __getitem__(self, name: str) -> tgrad.Tensor:
        return vars(self)["hid" + name]


def test_a_tensor_that_is_not_found() -> None:
    hiding = Hiding(tgrad.tensor([1.0, 2.0]).realize())

    def f() -> tgrad.Tensor:
        return hiding["den"] * 2

    what = (
        "'f' reads a tensor of shape (2,) that tgrad.compile does not find from its closure, "
        "globals and arguments."
    )
    hint = "Pass it as an argument, so that its values are read at every call."
    with pytest.raises(TraceError) as info:
        tgrad.compile(f)()
    assert (info.value.what, info.value.hint) == (what, hint)


def test_a_tensor_that_leaks() -> None:
    leaked: dict[str, Any] = {}

    class Sink:
        def put(self, x: tgrad.Tensor) -> None:
            leaked["x"] = x

    sink = Sink()
    f = tgrad.compile(lambda x: getattr(sink, "pu" + "t")(x * 2))
    f(tgrad.ones(1))
    with pytest.raises(TraceError) as info:
        leaked["x"].item()
    assert info.value.what == (
        "a tensor that was made while tgrad.compile traced '<lambda>' is used after it."
    )
    assert info.value.hint == "Return it from the compiled function."


def test_an_index_out_of_range_at_a_later_call() -> None:
    table = nn.Embedding(4, 2)
    f = tgrad.compile(lambda i: table(i).detach())
    assert f(tgrad.tensor([0, 3])).shape == (2, 2)
    with pytest.raises(OutOfRangeError, match="index 4 is out of range for an axis of size 4"):
        f(tgrad.tensor([0, 4]))


def test_what_is_no_function() -> None:
    with pytest.raises(UnsupportedError) as info:
        tgrad.compile(3)
    assert info.value.what == "tgrad.compile of a int."
    assert info.value.hint == "Give a function or a Module."


def test_a_parameter_changes_in_place_with_gradients_on() -> None:
    w = nn.Parameter(tgrad.ones(1))
    with pytest.raises(GradientError):
        tgrad.compile(lambda: w.add_(1))()
    assert w.item() == 1.0
