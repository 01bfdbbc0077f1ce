"""`tgrad.cond`: values and gradients of the chosen function, compiled and not; its refusals."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tgrad import nn, optim
from tgrad.errors import DTypeError, ShapeError, TgradError, TraceError

torch = pytest.importorskip("torch")

X = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, -6.0]], np.float32)


def both(x: Any, threshold: float, choose: Callable[..., Any]) -> Any:
    """The same program for tgrad and PyTorch."""
    return choose(
        x.sum() > threshold,
        lambda x, y: (x.exp(), [x * y, {"sum": x.sum()}]),
        lambda x, y: (-x, [y.sin(), {"sum": y.sum() * 2}]),
        (x, x * x),
    )


def chosen_by_python(pred: Any, true_fn: Any, false_fn: Any, operands: Any) -> Any:
    return (true_fn if bool(pred) else false_fn)(*operands)


@pytest.mark.parametrize("compiled", [False, True], ids=["lazy", "compiled"])
@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_values_and_gradients_are_those_of_the_branch(
    threshold: float, compiled: bool, device: str
) -> None:
    theirs = torch.tensor(X, requires_grad=True)
    want = both(theirs, threshold, chosen_by_python)
    (want[0].sum() + want[1][0].square().sum() + want[1][1]["sum"]).backward()

    def run(x: tgrad.Tensor) -> Any:
        found = both(x, threshold, tgrad.cond)
        total = found[0].sum() + found[1][0].square().sum() + found[1][1]["sum"]
        total.backward()
        return found[0].detach(), found[1][0].detach(), found[1][1]["sum"].detach()

    x = tgrad.tensor(X, device=device, requires_grad=True)
    got = (tgrad.compile(run) if compiled else run)(x)
    expected = (want[0], want[1][0], want[1][1]["sum"])
    for ours, other in zip(got, expected):
        np.testing.assert_allclose(ours.numpy(), other.detach().numpy(), rtol=1e-5)
    np.testing.assert_allclose(x.grad.numpy(), theirs.grad.numpy(), rtol=1e-5)


def test_one_plan_serves_both_choices() -> None:
    f = tgrad.compile(lambda x: tgrad.cond(x.sum() > 0, lambda x: x * 2, lambda x: x - 1, (x,)))
    for value in (1.0, -1.0, 1.0):
        assert f(tgrad.tensor([value])).item() == (value * 2 if value > 0 else value - 1)
    assert f.traces == len(f.plans) == 1


def test_a_step_is_skipped_where_its_loss_is_not_finite() -> None:
    """Branches with modules, parameters from the closure, and the choice used for an update."""
    tgrad.manual_seed(2)
    a, b = nn.Linear(3, 2), nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    optimizer = optim.SGD([*a.parameters(), *b.parameters()], lr=0.1)

    @tgrad.compile
    def step(x: tgrad.Tensor, first: tgrad.Tensor) -> tgrad.Tensor:
        optimizer.zero_grad()
        loss = tgrad.cond(first, lambda: a(x), lambda: b(x)).square().sum()
        loss.backward()
        optimizer.step()
        return loss

    before = [p.numpy() for p in (*a.parameters(), *b.parameters())]
    step(tgrad.tensor(X), tgrad.tensor([True]))
    after = [p.numpy() for p in (*a.parameters(), *b.parameters())]
    moved = [not np.array_equal(p, q) for p, q in zip(before, after)]
    assert moved == [True, True, False, False, False, False]


def test_predicates() -> None:
    x = tgrad.ones(2)
    calls: list[str] = []

    def note(name: str) -> Callable[[tgrad.Tensor], tgrad.Tensor]:
        def branch(x: tgrad.Tensor) -> tgrad.Tensor:
            calls.append(name)
            return x * (2 if name == "true" else 3)

        return branch

    for pred, want in (
        (True, 2.0),
        (False, 3.0),
        (tgrad.tensor(2), 2.0),
        (tgrad.tensor([0.0]), 3.0),
    ):
        assert tgrad.cond(pred, note("true"), note("false"), [x]).tolist() == [want] * 2
    assert calls == ["true", "false", "true", "false", "true", "false"]
    assert tgrad.cond(tgrad.tensor(True), lambda: (1, None, x), lambda: (1, None, -x))[2] is not x


@pytest.mark.parametrize("compiled", [False, True], ids=["lazy", "compiled"])
def test_random_numbers_are_drawn_by_both(compiled: bool) -> None:
    def f(x: tgrad.Tensor) -> tgrad.Tensor:
        dropped = tgrad.cond(x.sum() > 0, lambda: F.dropout(x, 0.5), lambda: tgrad.rand(3) + x)
        return dropped + tgrad.rand(3)

    tgrad.manual_seed(5)
    x = tgrad.ones(3)
    want = [F.dropout(x, 0.5), tgrad.rand(3), tgrad.rand(3)]
    tgrad.manual_seed(5)
    got = (tgrad.compile(f) if compiled else f)(x)
    np.testing.assert_array_equal(got.numpy(), (want[0] + want[2]).numpy())


ONLY = (
    "Both functions are computed, whichever is chosen, so they only compute: return new values, "
    "and change tensors outside with what cond returns."
)
YES = tgrad.tensor(True)


def check(
    kind: type[TgradError], what: str, hint: str, call: Callable[[], Any], line: int, of: Any
) -> None:
    with pytest.raises(kind) as info:
        call()
    code = of.__code__
    number = code.co_firstlineno + line
    text = linecache.getline(code.co_filename, number).strip()
    assert str(info.value) == f"{what}\n  at {code.co_filename}:{number}: {text}\n  {hint}"


@pytest.mark.parametrize("compiled", [False, True], ids=["lazy", "compiled"])
def test_branches_with_side_effects(compiled: bool) -> None:
    held, w = tgrad.tensor([1.0, 1.0]), tgrad.ones(2, requires_grad=True)
    optimizer = optim.Adam([w])
    w.grad = tgrad.ones(2)

    def changes() -> tgrad.Tensor:
        return held.add_(1)

    def reads() -> tgrad.Tensor:
        return held * held.sum().item()

    def seeds() -> tgrad.Tensor:
        tgrad.manual_seed(0)
        return held

    def differentiates() -> tgrad.Tensor:
        (w * 2).sum().backward()
        return held

    def steps() -> tgrad.Tensor:
        optimizer.step()
        return held

    cases = [
        (changes, "a tensor of shape (2,) is changed", 1),
        (reads, "the value of a tensor is read", 1),
        (seeds, "the seed of a generator is set", 1),
        (differentiates, "the gradient of a tensor of shape (2,) is set", 1),
    ]
    for branch, what, line in cases:

        def choose(branch: Any = branch) -> tgrad.Tensor:
            return tgrad.cond(YES, lambda: held * 1, branch)

        call = tgrad.compile(choose) if compiled else choose
        check(TraceError, f"{what} in false_fn of tgrad.cond.", ONLY, call, line, branch)
    with pytest.raises(TraceError):
        tgrad.cond(YES, steps, lambda: held)
    assert held.tolist() == [1.0, 1.0] and w.tolist() == [1.0, 1.0]
    assert w.grad is not None and w.grad.tolist() == [1.0, 1.0]
    assert not any(optimizer.state.values())


def test_results_that_do_not_fit() -> None:
    x = tgrad.ones(2)

    def shapes() -> Any:
        return tgrad.cond(YES, lambda: x, lambda: x.sum())

    def dtypes() -> Any:
        return tgrad.cond(YES, lambda: x, lambda: x.double())

    def nests() -> Any:
        return tgrad.cond(YES, lambda: (x, x), lambda: x)

    def numbers() -> Any:
        return tgrad.cond(YES, lambda: (x, 1), lambda: (x, 2))

    def many() -> Any:
        return tgrad.cond(x > 0, lambda: x, lambda: -x)

    def other() -> Any:
        return tgrad.cond(1.0, lambda: x, lambda: -x)  # type: ignore[arg-type]

    def operands() -> Any:
        return tgrad.cond(YES, lambda x: x, lambda x: -x, x)  # type: ignore[arg-type]

    what = "the functions of cond return shapes (2,) and ()."
    check(
        ShapeError, what, "Give both results one shape, for example by expand.", shapes, 1, shapes
    )
    what = "the functions of cond return float32 and float64."
    check(DTypeError, what, "Convert one of them with .to(dtype).", dtypes, 1, dtypes)
    what = "the functions of cond return different things beside tensors, or other nests of them."
    hint = "Return as many tensors from both, in the same lists, tuples and dicts."
    check(ShapeError, what, hint, nests, 1, nests)
    check(ShapeError, what, hint, numbers, 1, numbers)
    what = "cond of a predicate of shape (2,)."
    check(
        ShapeError, what, "Give one element; tgrad.where chooses element by element.", many, 1, many
    )
    what = "cond of a float."
    check(DTypeError, what, "Give a bool or a tensor of one element.", other, 1, other)
    what = "cond with operands of type Tensor."
    check(DTypeError, what, "Give a tuple of them.", operands, 1, operands)
