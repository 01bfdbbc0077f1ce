"""Each stage from Python calls to kernels, for the training graphs of three models; and replay."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tgrad
import tgrad.nn.functional as F
from bench.case import StepCase, batch_of, state_of
from bench.conftest import stored
from bench.planned import differentiated
from bench.steps import step_cases
from tgrad import pipeline
from tgrad.backend import backend_by_name
from tgrad.cpu_fallback import compile_drafts
from tgrad.graph.node import Node
from tgrad.settings import settings

KEYS = ["step_convnet", "step_gpt", "step_gpt2"]
CASES: dict[str, StepCase] = {c.key: c for c in step_cases("small")}
TARGETS = ["cpu", "sm_90"]

pytestmark = pytest.mark.quick


class Training:
    """A model and its batch; `build` makes the graph of the loss and the gradients."""

    def __init__(self, key: str):
        case = CASES[key]
        arrays = case.arrays()
        self.case = case
        self.model = case.model(tgrad.nn, F, tgrad)
        self.model.load_state_dict({k: tgrad.tensor(a) for k, a in state_of(arrays).items()})
        self.batch = [stored(a, case.dtype, "cpu") for a in batch_of(arrays)]

    def build(self) -> list[Node]:
        """Forward and backward; nothing runs."""
        return differentiated(self.case, self.model, self.batch)


@pytest.mark.parametrize("key", KEYS)
def test_building_the_graph(benchmark: Any, key: str) -> None:
    benchmark(Training(key).build)


@pytest.mark.parametrize("key", KEYS)
def test_rewriting(benchmark: Any, key: str) -> None:
    benchmark(pipeline.canonical_bases, Training(key).build())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("key", KEYS)
def test_partitioning(benchmark: Any, key: str, target: str) -> None:
    bases = pipeline.canonical_bases(Training(key).build())
    fused = benchmark(pipeline.cut_graph, bases, backend_by_name(target).limits)
    benchmark.extra_info["kernels"] = len(fused)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("key", KEYS)
def test_emission(benchmark: Any, key: str, target: str) -> None:
    backend = backend_by_name(target)
    bases = pipeline.canonical_bases(Training(key).build())
    regions = [f.region for f in pipeline.cut_graph(bases, backend.limits)]
    drafts, _ = benchmark(backend.generate, regions, settings, [None] * len(regions))
    benchmark.extra_info["lines"] = sum(d.source.count("\n") for d in drafts)


@pytest.mark.parametrize("state", ["cold", "warm"])
@pytest.mark.parametrize("key", KEYS[:2])
def test_compiling(benchmark: Any, key: str, state: str, tmp_path: Path) -> None:
    backend = backend_by_name("cpu")
    bases = pipeline.canonical_bases(Training(key).build())
    regions = [f.region for f in pipeline.cut_graph(bases, backend.limits)]
    drafts, _ = backend.generate(regions, settings, [None] * len(regions))
    numbers = itertools.count()

    def compile_from(cache: Path) -> None:
        compile_drafts(drafts, replace(settings, cache_dir=cache))

    if state == "warm":
        compile_from(tmp_path)
        benchmark(compile_from, tmp_path)
    else:
        benchmark.pedantic(
            compile_from, setup=lambda: ((tmp_path / str(next(numbers)),), {}), rounds=2
        )


@pytest.mark.parametrize("count", [1, 16])
def test_replaying_kernels_of_no_work(benchmark: Any, count: int) -> None:
    """Host time of a call: kernels of one element that cannot share a launch."""
    x = tgrad.ones(64).realize()

    @tgrad.compile
    def chain(x: tgrad.Tensor) -> tgrad.Tensor:
        for _ in range(count):
            x = x - x.sum()
        return x

    chain(x)
    benchmark.extra_info["launches"] = chain.plans[0].launches
    benchmark(chain, x)
