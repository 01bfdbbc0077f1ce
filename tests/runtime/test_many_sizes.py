"""Eager work on many sizes: the third size of a graph gets a plan that serves others as well."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tests.compile.dynamic_checking import numbers
from tests.compile.test_dynamic import CASES, GRADIENTS, seeded_gpt, weights
from tests.fuzzing import SIZES as SHAPES
from tests.fuzzing import Outputs, check_nodes, random_graph, with_gradients
from tests.training.gpt import VOCABULARY
from tgrad import many_sizes, nn, optim
from tgrad.boxes import Box
from tgrad.compiling import function as compiled_function
from tgrad.graph.skeleton import fit
from tgrad.many_sizes import ENOUGH
from tgrad.runtime.device import open_device
from tgrad.runtime.plan import record_plans

QUICK = ("cpu",)
SIZES = (5, 7, 30, 17, 32)
"""All that come after the third fit in memory of the third."""


@pytest.fixture(autouse=True)
def poison(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """NaN, the largest integer or True wherever no element of an input exists."""
    filled = Box.filled

    def poisoned(self: Box, memory: Any, dtype: Any, device: Any, values: Sequence[int]) -> Any:
        found = filled(self, memory, dtype, device, values)
        if found is memory:
            return memory
        kind = dtype.numpy
        value = np.nan if dtype.is_float else True if dtype.is_bool else np.iinfo(kind).max
        array = np.full(self.capacities, value, kind)
        runtime = open_device(device)
        runtime.write(found, array)
        runtime.copy_box(found, self.capacities, memory, self.shape(values), dtype.itemsize)
        return found

    monkeypatch.setattr(Box, "filled", poisoned)
    yield


def check_sizes(
    function: Callable[..., tgrad.Tensor],
    shape: Sequence[int],
    axes: Sequence[int],
    device: str,
    tolerance: float = 1e-5,
    sizes: Sequence[int] = SIZES,
) -> list[int]:
    """Assert that the function gives at each size what the device "numpy" gives. Returns how many
    plans each size made."""
    made = []
    for n in sizes:
        size = [n if a in axes else m for a, m in enumerate(shape)]
        wanted = function(numbers(n, *size, device="numpy"))
        with record_plans() as plans:
            found = function(numbers(n, *size, device=device)).numpy()
        made.append(len(plans))
        assert found.shape == wanted.shape
        np.testing.assert_allclose(
            found, wanted.numpy(), rtol=tolerance, atol=tolerance, err_msg=f"size {n}"
        )
    return made


@pytest.mark.devices(*QUICK)
@pytest.mark.parametrize("name", CASES)
def test_a_plan_for_many_sizes(name: str, device: str) -> None:
    function, shape, axes = CASES[name]
    made = check_sizes(function, shape, axes, device)
    assert not any(made[ENOUGH:])


@pytest.mark.parametrize("name", ["softmax over it", "matmul over it", "causal attention"])
def test_in_the_interpreter_of_triton(name: str) -> None:
    pytest.importorskip("triton")
    function, shape, axes = CASES[name]
    assert not any(check_sizes(function, shape, axes, "interpret", sizes=(2, 5, 7, 6))[ENOUGH:])


@pytest.mark.devices(*QUICK)
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name: str, device: str) -> None:
    def gradient(x: tgrad.Tensor) -> tgrad.Tensor:
        w = numbers(5, 4, 4, device=x.device.type).requires_grad_()
        return tgrad.autograd.grad(GRADIENTS[name](x @ w).sum(), [w])[0]

    assert not any(check_sizes(gradient, (2, 0, 4), (1,), device, 2e-4)[ENOUGH:])


IMAGES: dict[str, Callable[[tgrad.Tensor], tgrad.Tensor]] = {
    "stride": lambda x: F.conv2d(x, weights(4, 3, 3, 3, device=x.device), stride=2, padding=1),
    "stem": lambda x: F.conv2d(x, weights(4, 3, 7, 7, device=x.device), stride=2, padding=3),
    "dilation": lambda x: F.conv2d(x, weights(4, 3, 3, 3, device=x.device), dilation=2),
    "largest": lambda x: F.max_pool2d(x, 3, 2, 1),
    "mean": lambda x: F.avg_pool2d(x, 2),
    "all": lambda x: F.adaptive_avg_pool2d(F.conv2d(x, weights(4, 3, 3, 3, device=x.device)), 1),
    "transposed": lambda x: F.conv_transpose2d(x, weights(3, 4, 2, 2, device=x.device), stride=2),
    "windows": lambda x: x.unfold(2, 4, 3).sum(-1),
}


@pytest.mark.devices(*QUICK)
@pytest.mark.parametrize("name", IMAGES)
def test_images_of_many_sizes(name: str, device: str) -> None:
    """Height and width that have nothing to do with each other, values and gradients."""
    made = []
    for height, width in ((9, 13), (12, 10), (14, 15), (11, 16), (16, 9), (10, 12)):
        found = []
        for on in (device, "numpy"):
            scale = numbers(3, 3, 1, 1, device=on).requires_grad_()
            x = numbers(height, 2, 3, height, width, device=on)
            with record_plans() as plans:
                y = IMAGES[name](x * scale)
                (slope,) = tgrad.autograd.grad((y * y).sum(), [scale])
                found.append((y.detach().numpy(), slope.numpy()))
            if on == device:
                made.append(len(plans))
        for ours, wanted in zip(*found):
            np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-4)
    if name in ("dilation", "largest", "all", "transposed"):
        assert not made[-1], "others have another graph for odd sizes than for even ones"


def trained(model: Any, batches: Sequence[tuple[int, int]], device: str) -> list[float]:
    """Losses of steps on batches of these sizes."""
    rng, losses = np.random.default_rng(1), []
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    for size in batches:
        tokens, targets = (
            tgrad.tensor(rng.integers(0, VOCABULARY, size), device=device) for _ in range(2)
        )
        optimizer.zero_grad()
        loss = model(tokens, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.devices(*QUICK)
def test_training_a_gpt_on_batches_of_many_sizes(device: str) -> None:
    batches = [(4, 9), (4, 32), (3, 17), (2, 25), (3, 30), (4, 18), (1, 20)]
    reference, model = seeded_gpt("numpy"), seeded_gpt(device)
    wanted = trained(reference, batches, "numpy")
    with record_plans() as plans:
        found = trained(model, batches, device)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    for mine, theirs in zip(model.parameters(), reference.parameters()):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-3, atol=1e-4)
    assert len(plans) < 2 * len(batches), "two by two sizes have their own, then others share"


@pytest.mark.devices(*QUICK)
def test_random_numbers_are_those_of_the_size(device: str) -> None:
    """What dropout drops does not depend on the plan that a size got."""

    def dropped(n: int) -> np.ndarray:
        tgrad.manual_seed(n)
        x = F.dropout(tgrad.ones(3, n, 5, device=device), 0.4) * tgrad.randn(n, 5, device=device)
        return x.numpy()

    for n in SIZES:
        tgrad.manual_seed(n)
        wanted = F.dropout(tgrad.ones(3, n, 5, device="numpy"), 0.4)
        wanted = wanted * tgrad.randn(n, 5, device="numpy")
        np.testing.assert_allclose(dropped(n), wanted.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.devices(*QUICK)
def test_a_cache_that_grows(device: str) -> None:
    """Ten lengths that double take as many plans as there are doublings, and the first two."""
    past, made = numbers(0, 2, 3, 4, device=device), []
    wanted = past.numpy()
    for i in range(40):
        new = numbers(i, 2, 1, 4, device=device)
        with record_plans() as plans:
            past = tgrad.cat([past, new], 1)
            found = (past.softmax(1) * past.shape[1]).sum(1).numpy()
        made.append(len(plans))
        wanted = np.concatenate([wanted, new.numpy()], 1)
        e = np.exp(wanted - wanted.max(1, keepdims=True))
        rows = (e / e.sum(1, keepdims=True) * wanted.shape[1]).sum(1)
        np.testing.assert_array_equal(past.numpy(), wanted)
        np.testing.assert_allclose(found, rows, rtol=1e-5)
    assert sum(map(bool, made)) <= 2 + 4, "8, 16, 32, 64"


@pytest.mark.devices(*QUICK)
def test_sizes_that_were_equal_by_chance(device: str) -> None:
    """A plan for equal sizes does not serve others: a new one is made, which serves both."""
    for m, n in ((5, 5), (7, 7), (9, 9), (11, 11), (12, 9), (13, 13), (9, 15)):
        x, y = numbers(m, m, 3, device=device), numbers(n, 3, n, device=device)
        found = (x @ y).softmax(1).sum(0).numpy()
        z = x.numpy() @ y.numpy()
        e = np.exp(z - z.max(1, keepdims=True))
        np.testing.assert_allclose(found, (e / e.sum(1, keepdims=True)).sum(0), rtol=1e-4)


@pytest.mark.devices(*QUICK)
def test_sizes_of_one_and_of_none_have_plans_of_their_own(device: str) -> None:
    for n in (5, 6, 7, 1, 0, 8, 1):
        x = numbers(n, n, 3, device=device)
        np.testing.assert_allclose((x * 2).sum(0).numpy(), x.numpy().sum(0) * 2, rtol=1e-5)
        assert (x.amax(1) + 1).numpy().shape == (n,)


@pytest.mark.devices(*QUICK)
def test_parts_of_a_buffer_and_numbers_that_vary(device: str) -> None:
    data = numbers(0, 200, 4, device=device)
    start, held = 0, []
    for n in (5, 9, 11, 14, 12, 13):
        part = data[start : start + n]
        held.append(((part - 0.1 * n) ** 2 / n, data.numpy()[start : start + n], n))
        held[-1][0].realize()
        start += n
    for found, rows, n in held:
        np.testing.assert_allclose(found.numpy(), (rows - 0.1 * n) ** 2 / n, rtol=1e-4, atol=1e-6)


@pytest.mark.devices(*QUICK)
def test_results_do_not_hold_memory_of_much_larger_ones(device: str) -> None:
    kept = []
    for n in (40, 50, 60, 33, 18):
        y = numbers(n, 8, n, device=device) * 2 + n
        kept.append((y.realize(), n))
    for y, n in kept:
        np.testing.assert_allclose(y.numpy(), numbers(n, 8, n, device="numpy").numpy() * 2 + n)
        storage = y._storage
        assert storage is not None
        y.add_(1)
        np.testing.assert_allclose(y.numpy(), numbers(n, 8, n, device="numpy").numpy() * 2 + n + 1)


@pytest.mark.devices(*QUICK)
def test_a_size_that_comes_often_gets_its_own_plan(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many_sizes, "OFTEN", 3)
    monkeypatch.setattr(compiled_function, "OFTEN", 3)
    double = tgrad.compile(lambda x: (x * 2).cumsum(0))
    for work in (lambda x: (x * 3).cumprod(0), double):
        made = []
        for n in (5, 6, 7, 8, 8, 8, 8, 8, 8):
            x = numbers(n, n, 3, device=device)
            with record_plans() as plans:
                found = work(x).numpy()
            made.append(len(plans))
            wanted = (
                np.cumprod(x.numpy() * 3, 0) if work is not double else np.cumsum(x.numpy() * 2, 0)
            )
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
        assert made == [1, 1, 1, 0, 0, 0, 1, 0, 0], "three times by a plan for many"


def test_threads_that_run_sizes_of_one_graph() -> None:
    """Eager and compiled, at once: each gets the values of its own sizes."""

    def step(x: tgrad.Tensor, w: tgrad.Tensor) -> tgrad.Tensor:
        return ((x @ w).softmax(0) * x.mean()).sum(0)

    compiled, wrong = tgrad.compile(step), []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        w = rng.standard_normal((8, 4), dtype=np.float32)
        for n in rng.integers(3, 40, 15):
            x = rng.standard_normal((n, 8), dtype=np.float32)
            found = (compiled if seed % 2 else step)(tgrad.tensor(x), tgrad.tensor(w)).numpy()
            e = np.exp(x @ w)
            if not np.allclose(found, (e / e.sum(0) * x.mean()).sum(0), 1e-4, 1e-5):
                wrong.append((seed, n))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# -- compiled functions ----------------------------------------------------------------------------


@pytest.mark.devices(*QUICK)
def test_a_compiled_step_of_many_sizes(device: str) -> None:
    """State, results and what is passed on are as they are without compile."""

    def fresh() -> tuple[Callable[..., Any], tgrad.Tensor, tgrad.Tensor]:
        weight = numbers(1, 8, 4, device=device).requires_grad_()
        total = tgrad.zeros(4, device=device)
        optimizer = optim.SGD([weight], lr=0.1, momentum=0.9)

        def step(batch: dict[str, tgrad.Tensor]) -> Any:
            x, y = batch["x"], batch["y"]
            out = F.dropout(x @ weight, 0.3).softmax(0)
            loss = (out * y).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total.add_(out.detach().sum(0))
            return loss.detach(), x.reshape(-1), x, out.argmax(1), x.shape[0], (x * 2).T

        return step, weight, total

    plain, *wanted_state = fresh()
    step, *state = fresh()
    step = tgrad.compile(step)
    results: list[list[Any]] = [[], []]
    for function, found in zip((plain, step), results):
        tgrad.manual_seed(0)
        for n in SIZES:
            x, y = numbers(n, n, 8, device=device), numbers(n + 1, n, 4, device=device)
            found.append(function({"x": x, "y": y}))
    for wanted, got in zip(*results):
        for a, b in zip(wanted, got):
            a, b = (t.numpy() if isinstance(t, tgrad.Tensor) else t for t in (a, b))
            np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)
    for a, b in zip(wanted_state, state):
        np.testing.assert_allclose(b.detach().numpy(), a.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert step.traces == len(SIZES)  # type: ignore[attr-defined]


@pytest.mark.devices(*QUICK)
def test_a_compiled_function_shares_its_own_plans_alone(device: str) -> None:
    made = []
    for scale in (2, 3, 4):
        double = tgrad.compile(lambda x, scale=scale: (x * scale).sum(0))
        with record_plans() as plans:
            for n in (5, 6, 7, 8, 6, 4)[scale - 2 :]:
                x = numbers(n, n, 3, device=device)
                np.testing.assert_allclose(
                    double(x).numpy(), x.numpy().sum(0) * scale, rtol=1e-5, atol=1e-5
                )
        made.append((len(double.plans), double.traces))
        assert len(plans) <= 3
    assert made == [(3, 5), (3, 4), (3, 4)]


@pytest.mark.devices(*QUICK)
def test_an_argument_of_many_sizes_that_is_changed_in_place(device: str) -> None:
    change = tgrad.compile(lambda x: x.mul_(2))
    for n in SIZES:
        x = numbers(n, n, 3, device=device)
        assert change(x) is x
        np.testing.assert_array_equal(x.numpy(), numbers(n, n, 3, device="numpy").numpy() * 2)


def test_how_sizes_follow_from_others() -> None:
    """B = 2, 3, 4 and T = 5, 9, 6: products, multiples, constants, sums, and what is free."""
    graphs = [
        (b * t, b, t, 3 * b, t + 1, b + t + 2, b * t * t, 2 * t + 7, free)
        for b, t, free in ((2, 5, 31), (3, 9, 17), (4, 6, 80))
    ]
    found = fit(graphs)
    assert [found.terms[i] for i in found.which] == [
        (((0, 1), 1),),
        (((0,), 1),),
        (((1,), 1),),
        (((0,), 3),),
        (((), 1), ((1,), 1)),
        (((), 2), ((0,), 1), ((1,), 1)),
        (((0, 1, 1), 1),),
        (((), 7), ((1,), 2)),
        (((2,), 1),),
    ]
    assert found.values((10 * 8, 8, 10, 24, 11, 20, 800, 27, 5)) == (8, 10, 5)
    assert found.values((10 * 8, 8, 10, 24, 12, 20, 800, 27, 5)) is None


# -- random graphs ---------------------------------------------------------------------------------

GROWN = (
    SHAPES,
    (1, 3, 5, 4, 7, 9, 20, 1, 5, 0, 40),
    (1, 4, 6, 6, 9, 12, 25, 1, 6, 0, 47),
    (1, 5, 8, 7, 8, 10, 18, 1, 8, 0, 35),
    (1, 2, 7, 8, 6, 15, 31, 1, 7, 0, 64),
)
"""What stands for each of the sizes that random graphs have, in graphs of one seed."""


class Grown:
    """Draws that depend on the seed and on how many there were, with other sizes.

    Args:
        seed: of the graph.
        sizes: for those of `SHAPES`.
    """

    def __init__(self, seed: int, sizes: Sequence[int]):
        self.rng, self.sizes = np.random.default_rng(seed), sizes

    def one_of(self, options: Sequence[Any]) -> Any:
        return (self.sizes if options is SHAPES else options)[self.between(0, len(options) - 1)]

    def between(self, low: int, high: int) -> int:
        return low + int(self.rng.random() * (high - low + 1))


@pytest.mark.devices(*QUICK)
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_random_graphs_of_many_sizes(seed: int, requires_grad: bool, device: str) -> None:
    """Sizes that keep the graph's form share a plan; where they change it, it has its own."""
    for sizes in GROWN:
        g = random_graph(Grown(seed, sizes), device, requires_grad)
        outputs = Outputs(g.outputs())
        outputs.leaves = g.leaves
        nodes = with_gradients(outputs) if requires_grad else [t._node for t in outputs]
        check_nodes(nodes, device)


def test_few_long_rows_after_many_short_ones_have_memory_of_their_own() -> None:
    """The larger of both sizes would be 32 times as much."""
    for shape in ((64, 100), (40, 90), (70, 200)):
        tgrad.zeros(shape).contiguous().realize().cumsum(1).realize()
    x = tgrad.rand(3, 7000).realize()
    with record_plans() as plans:
        x.cumsum(1).realize()
    (plan,) = plans
    (result,) = plan.outputs
    assert x.nbytes < result.nbytes <= 4 * x.nbytes
