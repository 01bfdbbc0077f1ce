"""Training steps with the kernels of a GPU: no two programs of a launch touch one element of which
one writes it, and no kernel reads what no other has written."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from bench import architectures, models, steps
from bench.architectures import LlamaSizes
from bench.models import GPTSizes
from tests.races import Accesses, gpu_in_interpreter, poisoned, recorded
from tgrad import nn
from tgrad.tensor import Tensor

pytest.importorskip("triton")

Batch = tuple[np.ndarray, np.ndarray]
rng = np.random.default_rng(0)


def text(count: int, length: int, vocabulary: int) -> Batch:
    tokens, targets = rng.integers(0, vocabulary, (2, count, length))
    return tokens, targets


def images(of: Any, functional: Any, library: Any) -> Any:
    """Convolutions with and without a stride, norms, pooling, a residual."""

    class Net(of.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = of.Conv2d(3, 16, 3, padding=1), of.Conv2d(16, 16, 3, 2, 1)
            self.short = of.Conv2d(16, 16, 1, 2)
            self.norms = of.ModuleList([of.BatchNorm2d(16) for _ in range(2)])
            self.head = of.Linear(16, 10)

        def forward(self, x: Any) -> Any:
            x = functional.max_pool2d(functional.relu(self.norms[0](self.first(x))), 2)
            x = functional.relu(self.norms[1](self.second(x)) + self.short(x))
            return self.head(x.mean((2, 3)))

    return Net()


MODELS: dict[str, tuple[Any, Callable[[], Batch], Any]] = {
    "gpt": (partial(models.gpt, sizes=GPTSizes(131, 20, 32, 2, 1)), lambda: text(2, 20, 131),
            steps.adamw),
    "llama": (partial(architectures.llama, sizes=LlamaSizes(97, 32, 4, 2, 48, 1)),
              lambda: text(2, 20, 97), steps.adamw),
    "images": (images, lambda: (rng.standard_normal((3, 3, 14, 14), np.float32),
                                rng.integers(0, 10, 3)), steps.sgd),
}  # fmt: skip


def losses(device: str, name: str, batch: Batch) -> list[float]:
    """Of two compiled steps in bfloat16."""
    make, _, optimizer_of = MODELS[name]
    tgrad.manual_seed(0)
    model: nn.Module = make(tgrad.nn, F, tgrad).to(tgrad.bfloat16).to(device)
    optimizer = optimizer_of(tgrad.optim, model.parameters())

    @tgrad.compile
    def step(inputs: Tensor, targets: Tensor) -> Tensor:
        loss = steps.classification_loss(F, model, inputs, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    inputs = [tgrad.tensor(a, device=device) for a in batch]
    inputs[0] = inputs[0].to(tgrad.bfloat16) if inputs[0].dtype.is_float else inputs[0]
    return [step(*inputs).item() for _ in range(2)]


@pytest.mark.parametrize("name", MODELS)
def test_no_races_and_nothing_unwritten_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = MODELS[name][1]()
    want = losses("cpu", name, batch)
    with gpu_in_interpreter(monkeypatch), recorded(monkeypatch) as races, poisoned(monkeypatch):
        have = losses("interpret", name, batch)
    assert races.launches > 20 and not races.conflicts
    np.testing.assert_allclose(have, want, rtol=1e-2)


def test_what_is_a_conflict() -> None:
    def found(*accesses: tuple[int, int, list[int]]) -> list[int]:
        log = Accesses()
        for kind, program, places in accesses:
            log.add(kind, program, np.array(places, np.uint64), np.ones(len(places), bool))
        return log.conflicts().tolist()

    read, write, add = range(3)
    assert found((write, 0, [4, 8]), (write, 1, [12]), (read, 0, [4]), (read, 1, [0, 12])) == []
    assert found((write, 0, [4, 8]), (write, 1, [8])) == [8]
    assert found((write, 0, [4]), (read, 1, [4])) == [4]
    assert found((read, 1, [4]), (write, 0, [4])) == [4]
    assert found((add, 0, [4]), (add, 1, [4])) == []
    assert found((add, 0, [4]), (write, 1, [4])) == [4]
    assert found((add, 0, [4]), (read, 1, [4])) == [4]
