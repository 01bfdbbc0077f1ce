"""Random step functions, compiled and not: equal results and equal state, call after call.

A step takes rows (another number of them in each call), their places in a table and a Python
number (another in each call); it reads and changes three tensors in place, and may train the weight
it multiplies by. A failure prints the program, which `Program` runs as printed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tgrad
import tgrad.nn.functional as F
from tgrad.tensor import Tensor

COLUMNS, TABLE, LARGEST = 4, 5, 6
TOLERANCE = 1e-5
"""Of the largest element: one plan may round where two do not."""


@dataclass
class State:
    """What a step changes: a vector, a table of rows, a matrix that rows are multiplied by."""

    bias: Tensor
    table: Tensor
    weight: Tensor

    @classmethod
    def new(cls, device: str) -> State:
        rng = np.random.default_rng(3)
        shapes = (COLUMNS,), (TABLE, COLUMNS), (COLUMNS, COLUMNS)
        bias, table, weight = (
            tgrad.tensor(rng.standard_normal(s).astype(np.float32), device=device) for s in shapes
        )
        return cls(bias, table, weight.requires_grad_())


@dataclass
class Values:
    """What one call has to work with."""

    state: State
    x: Tensor
    places: Tensor
    number: float


Step = Callable[[Values, Tensor, Tensor], Tensor]

STEPS: dict[str, Step] = {
    "tanh": lambda v, a, b: a.tanh(),
    "silu": lambda v, a, b: F.silu(a),
    "add": lambda v, a, b: a + b,
    "multiply": lambda v, a, b: (a * b).tanh(),
    "divide": lambda v, a, b: a / (b.abs() + 1),
    "where": lambda v, a, b: a.where(v.x > 0.1, b),
    "above the number": lambda v, a, b: a.where(v.x > v.number, b),
    "number": lambda v, a, b: a * v.number - v.number,
    "over the number": lambda v, a, b: a / (v.number + 2),
    "branch": lambda v, a, b: a + 1 if v.number > 0.5 else b,
    "rows": lambda v, a, b: a / (a.shape[0] + 1),
    "bias": lambda v, a, b: a + v.state.bias,
    "matmul": lambda v, a, b: (a @ v.state.weight) * 0.3,
    "between rows": lambda v, a, b: ((a @ b.T) * 0.2).softmax(-1) @ a,
    "gather": lambda v, a, b: a + v.state.table[v.places],
    "gather of this": lambda v, a, b: a.gather(1, (v.places % COLUMNS).unsqueeze(1)) + b,
    "softmax": lambda v, a, b: a.softmax(-1),
    "norm": lambda v, a, b: F.layer_norm(a, (COLUMNS,), eps=0.1),
    "sum of rows": lambda v, a, b: a + a.sum(0, keepdim=True) * 0.1,
    "largest": lambda v, a, b: a - a.amax(1, keepdim=True),
    "cumsum": lambda v, a, b: a.cumsum(0) * 0.3,
    "join": lambda v, a, b: tgrad.cat([a, b], 1)[:, 1 : COLUMNS + 1],
    "flip": lambda v, a, b: a.flip(1),
}
"""What makes rows of rows."""


def _row(v: Values, a: Tensor) -> None:
    v.state.table[1] = a.sum(0) * 0.1


def _column(v: Values, a: Tensor) -> None:
    v.state.table[:, 2] += v.number


def _view(v: Values, a: Tensor) -> None:
    first = v.state.table.view(-1)[: 2 * COLUMNS]
    first.mul_(0.5)


CHANGES: dict[str, Callable[[Values, Tensor], Any]] = {
    "decay": lambda v, a: v.state.bias.mul_(0.9),
    "average": lambda v, a: v.state.bias.lerp_(a.sum(0).tanh(), 0.25),
    "number": lambda v, a: v.state.bias.add_(v.number),
    "copy": lambda v, a: v.state.bias.copy_(a.sum(0).tanh()),
    "scatter": lambda v, a: v.state.table.index_add_(0, v.places, a * 0.1),
    "row": _row,
    "column": _column,
    "view": _view,
    "clamp": lambda v, a: v.state.table.clamp_(-1, 1),
    "argument": lambda v, a: v.x.mul_(0.5).add_(v.number),
    "first of the argument": lambda v, a: v.x[:1].copy_(v.state.bias),
}
"""What changes the state in place, by rows without a gradient."""


@dataclass(frozen=True)
class Program:
    """Instructions: names of STEPS with the two rows they read, counted from the latest, or names
    of CHANGES with one."""

    instructions: tuple[tuple[str, int, int], ...]
    trains: bool

    def run(self, state: State, x: Tensor, places: Tensor, number: float) -> tuple[Any, ...]:
        """The latest rows, a sum of earlier ones, a tensor of the state and a number."""
        values, rows = Values(state, x, places, number), [x]
        for name, first, second in self.instructions:
            a, b = rows[-1 - first % len(rows)], rows[-1 - second % len(rows)]
            if name.startswith("change "):
                CHANGES[name.removeprefix("change ")](values, a.detach())
            else:
                rows.append(STEPS[name](values, a, b))
        if self.trains and rows[-1].requires_grad:
            (g,) = tgrad.autograd.grad(rows[-1].square().sum(), [state.weight])
            with tgrad.no_grad():
                state.weight.sub_(g.clamp(-1, 1) * (0.1 * number))
        return rows[-1].detach(), rows[-1 - len(rows) // 2].detach().sum(), state.bias, number * 2


OF_FIXED_SIZE = "change first of the argument"
"""A TraceError where the argument's size is dynamic: its place in memory is another then."""
NAMES = [*STEPS, *(f"change {name}" for name in CHANGES)]


NO_GRADIENT = "cumsum"
"""One where it trains: the gradient walks rows, of a dynamic number, from the last."""


def programs(dynamic: bool) -> st.SearchStrategy[Program]:
    names = [name for name in NAMES if not dynamic or name != OF_FIXED_SIZE]
    trained = [name for name in names if not dynamic or name != NO_GRADIENT]

    def of(names: list[str], trains: bool) -> st.SearchStrategy[Program]:
        instruction = st.tuples(st.sampled_from(names), st.integers(0, 3), st.integers(0, 3))
        instructions = st.lists(instruction, min_size=2, max_size=8).map(tuple)
        return st.builds(Program, instructions, st.just(trains))

    return of(names, False) | of(trained, True)


CALLS = st.lists(
    st.tuples(st.integers(0, LARGEST), st.sampled_from([0.25, 0.75, 1.0, 1, 2])),
    min_size=3,
    max_size=3,
)  # fmt: skip
RANGE = {"x": {0: ("N", 1, LARGEST)}, "places": {0: ("N", 1, LARGEST)}}


def assert_equal(found: Tensor, wanted: Tensor, what: str) -> None:
    have, want = found.detach().numpy(), wanted.detach().numpy()
    assert have.shape == want.shape and have.dtype == want.dtype, what
    scale = max(1.0, float(np.abs(want).max(initial=0)))
    np.testing.assert_allclose(have, want, rtol=0, atol=TOLERANCE * scale, err_msg=what)


def check(program: Program, calls: list[tuple[int, float]], dynamic: bool, device: str) -> None:
    """Call after call, each on a state of its own that the calls before have changed."""
    eager, other = State.new(device), State.new(device)

    def step(x: Tensor, places: Tensor, number: float) -> tuple[Any, ...]:
        return program.run(other, x, places, number)

    compiled = tgrad.compile(step, dynamic=RANGE) if dynamic else tgrad.compile(step)
    for turn, (rows, number) in enumerate(calls):
        rows = max(rows, 1) if dynamic else rows
        rng = np.random.default_rng(turn)
        x = tgrad.tensor(rng.standard_normal((rows, COLUMNS)).astype(np.float32), device=device)
        places = tgrad.tensor(rng.integers(0, TABLE, rows), device=device)
        y = x.clone().realize()
        wanted, found = program.run(eager, x, places, number), compiled(y, places, number)
        assert found[3] == wanted[3] and type(found[3]) is type(wanted[3])
        for i in range(3):
            assert_equal(found[i], wanted[i], f"result {i} of call {turn}")
        assert_equal(y, x, f"the argument after call {turn}")
        for name in ("bias", "table", "weight"):
            assert_equal(getattr(other, name), getattr(eager, name), f"{name} after call {turn}")


def quickly(examples: int) -> Any:
    return settings(
        max_examples=examples,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.parametrize("dynamic", [False, True], ids=["traced", "dynamic"])
def test_random_steps(dynamic: bool) -> None:
    @quickly(40)
    @given(programs(dynamic), CALLS)
    def run(program: Program, calls: list[tuple[int, float]]) -> None:
        check(program, calls, dynamic, "numpy")

    run()


def test_random_steps_as_generated_code() -> None:
    @quickly(5)
    @given(programs(dynamic=True), CALLS, st.booleans())
    def run(program: Program, calls: list[tuple[int, float]], dynamic: bool) -> None:
        check(program, calls, dynamic, "cpu")

    run()


def _other_memory(s: State) -> None:
    s.bias.data = s.bias.detach() + 1


BETWEEN: dict[str, Callable[[State], Any]] = {
    "nothing": lambda s: None,
    "values": lambda s: s.table.tolist(),
    "view": lambda s: s.table[1:3],
    "graph": lambda s: s.bias * 2,
    "change": lambda s: s.bias.mul_(0.5),
    "other memory": _other_memory,
    "gradient": lambda s: (s.weight * s.weight).sum().backward(),
}
"""What may come between two equal calls."""


def check_equal_calls(program: Program, between: list[str], device: str) -> None:
    """Calls with the same kinds of arguments, of which most find nothing changed since the last."""
    eager, other = State.new(device), State.new(device)

    def step(x: Tensor, places: Tensor) -> tuple[Tensor, ...]:
        return program.run(other, x, places, 0.75)[:2]

    compiled, kept = tgrad.compile(step), list[tuple[Any, Any]]()
    for turn, name in enumerate(["nothing"] * 3 + between + ["nothing"] * 2):
        kept.append((BETWEEN[name](eager), BETWEEN[name](other)))
        rng = np.random.default_rng(turn)
        x = tgrad.tensor(rng.standard_normal((LARGEST, COLUMNS)).astype(np.float32), device=device)
        places = tgrad.tensor(rng.integers(0, TABLE, LARGEST), device=device)
        y = x.clone().realize()
        wanted, found = program.run(eager, x, places, 0.75), compiled(y, places)
        for i in range(2):
            assert_equal(found[i], wanted[i], f"result {i} of call {turn}")
        assert_equal(y, x, f"the argument after call {turn}")
    for a, b in (pair for pair in kept if isinstance(pair[0], Tensor)):
        assert_equal(b, a, "what was made between")
    for name in ("bias", "table", "weight"):
        assert_equal(getattr(other, name), getattr(eager, name), f"{name} at the end")


def test_equal_calls_as_generated_code() -> None:
    @quickly(5)
    @given(
        programs(dynamic=True),
        st.lists(st.sampled_from(sorted(BETWEEN)), min_size=1, max_size=5),
    )
    def run(program: Program, between: list[str]) -> None:
        check_equal_calls(program, between, "cpu")

    run()
