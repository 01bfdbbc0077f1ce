"""Memory of whole training steps: the arena is packed close to what must be alive."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import tests.training.convnet as convnet
import tests.training.gpt as gpt
import tgrad
import tgrad.nn.functional as F
from tgrad import optim
from tgrad.runtime.memory import Lifetime, lower_bound
from tgrad.runtime.plan import Plan
from tgrad.runtime.planning import planning
from tgrad.runtime.report import report_plan


def convnet_step(batch: int) -> Plan:
    ours, _ = convnet.twins("cpu")
    optimizer = optim.Adam(ours.parameters())

    @tgrad.compile
    def step(x: tgrad.Tensor, y: tgrad.Tensor) -> tgrad.Tensor:
        loss = F.cross_entropy(ours(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    images, labels = convnet.batches(1, batch)[0]
    with planning():
        step(tgrad.tensor(images), tgrad.tensor(labels))
    return step.plans[0]


def gpt_step(layers: int, batch: int) -> Plan:
    ours, _ = gpt.twins("cpu", layers=layers)
    optimizer = optim.AdamW(ours.parameters())

    @tgrad.compile
    def step(x: tgrad.Tensor, y: tgrad.Tensor) -> tgrad.Tensor:
        loss = ours(x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    tokens, targets = gpt.batches(1, batch)[0]
    with planning():
        step(tgrad.tensor(tokens), tgrad.tensor(targets))
    return step.plans[0]


@pytest.mark.parametrize(
    "make",
    [lambda: convnet_step(64), lambda: convnet_step(7), lambda: gpt_step(4, 12),
     lambda: gpt_step(12, 3)],
    ids=["convnet", "convnet of 7", "gpt of 4 layers", "gpt of 12 layers"],
)  # fmt: skip
def test_the_arena_is_within_5_percent_of_its_lower_bound(make: Callable[[], Plan]) -> None:
    report = report_plan(make())
    alive = [Lifetime(b.nbytes, b.first, b.last) for b in report.buffers if b.kind == "temp"]
    assert alive
    assert report.plan.arena_bytes <= 1.05 * lower_bound(alive)


def test_each_layer_adds_what_it_keeps_and_no_more() -> None:
    """A layer keeps its two norms' results and sums, queries to values, probabilities, the mixed
    values, and before and after the GELU: 16 rows of the width, and the probabilities."""
    batch, rows = 4, 4 * gpt.CONTEXT
    kept = 16 * rows * gpt.WIDTH * 4 + batch * gpt.HEADS * gpt.CONTEXT**2 * 4
    few, many = (gpt_step(layers, batch).arena_bytes for layers in (4, 8))
    assert (many - few) / 4 <= 1.02 * kept


def test_updates_are_in_place() -> None:
    """No parameter or moment has a second copy: the loss is all that a step makes."""
    assert gpt_step(2, 2).output_bytes == 4
    assert convnet_step(8).output_bytes == 4
