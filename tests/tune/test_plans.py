"""Choices for whole plans: named alike everywhere, right whichever way, searched and stored."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tests.tune.test_end_to_end import ROOT, tgrad_command
from tgrad import cpu_fallback, pipeline
from tgrad.autotuning import plans as searching
from tgrad.autotuning.plans import tune_graphs
from tgrad.autotuning.session import Request, Session, Silent
from tgrad.autotuning.whole import compare, message_of
from tgrad.backend import backend_of
from tgrad.device import Device
from tgrad.fusion.choices import AS_PLANNED, LAYOUT, NO_CHOICES, PlanChoices
from tgrad.runtime.device import open_device
from tgrad.runtime.plan import Plan, PlannedGraph, record_graphs, record_plans
from tgrad.runtime.planning import planning
from tgrad.settings import settings
from tgrad.tensor import Tensor
from tgrad.tune import stored
from tgrad.tune.exchange import ExchangeError, records_of, text_of
from tgrad.tune.record import Record, plan_record
from tgrad.tune.store import Store

CPU = Device("cpu")
HERE = cpu_fallback.place(settings)


def data(*shape: int, seed: int = 0) -> Tensor:
    return tgrad.tensor(np.random.default_rng(seed).standard_normal(shape, np.float32))


def shared_value() -> list[Tensor]:
    """A long elementwise value that two kernels read."""
    x = (data(96, 128) * 0.5).exp().sin() + 1
    value = x.log().tanh() * x
    return [value @ data(128, 80, seed=1), value.t().cumsum(0)]


def operand() -> list[Tensor]:
    """A dot that would compute its operand again for each of its tiles."""
    return [F.gelu(data(256, 96)) @ data(96, 400, seed=1)]


def rows_and_columns() -> list[Tensor]:
    """A value that one kernel computes twice, by rows and by columns."""
    x = (data(320, 320) * 0.5).exp() + 1
    value = (x.log() * x.sin()).tanh()
    more, other = data(320, 320, seed=1), data(320, 320, seed=2)
    return [(value * 2 + more).sum(1) + (value + other).amax(0)]


def few_results() -> list[Tensor]:
    return [data(8, 20000) @ data(20000, 4, seed=1), data(300, 300).sum()]


def images() -> list[Tensor]:
    x, w = data(4, 8, 14, 14), data(8, 8, 3, 3, seed=1)
    y = F.relu(F.conv2d(x, w, padding=1))
    return [F.conv2d(y, w, padding=1), y.sum((0, 2, 3))]


def small_updates() -> list[Tensor]:
    return [data(64, 100 + n, seed=n) * 2 + 1 for n in range(6)]


PROGRAMS = (shared_value, operand, rows_and_columns, few_results, images, small_updates)


def planned(program: Callable[[], list[Tensor]]) -> PlannedGraph:
    """The graph of a program, planned and not run."""
    pipeline._plans.clear()
    with planning(), record_graphs() as graphs:
        pipeline.compile_graph([t._node for t in program()], CPU)
    return graphs[-1]


def other_ways(graph: PlannedGraph) -> list[tuple[str, str]]:
    """Places whose other way makes another plan."""
    keys = [k.region for k in graph.planned.plan.kernels]
    found = []
    for site in graph.places(NO_CHOICES):
        other = graph.again(PlanChoices().also(site.name, site.other))
        if [k.region for k in other.plan.kernels] != keys:
            found.append((site.name, site.other))
    return found


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache directory of the test's own, for plans of this process."""
    own = replace(settings, cache_dir=tmp_path / "cache", use_stored=True)
    monkeypatch.setattr(pipeline, "settings", own)
    stored.refresh()
    yield own.cache_dir
    stored.refresh()


def put(cache: Path, key: str, choice: dict[str, str]) -> Record:
    record = plan_record(key, "plan of a test", HERE, choice, 2e-3, 1e-3, 1)
    Store(cache).put([record])
    stored.refresh()
    return record


KINDS = {"value", "join", "split", "layout", "launches"}


def test_every_kind_of_choice_has_a_program():
    found = {name.split()[0] for p in PROGRAMS for name, _ in other_ways(planned(p))}
    assert found == KINDS


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_results_are_the_same_whichever_way(program, own_cache):
    graph = planned(program)
    outputs = program()
    wanted = [t.numpy() for t in outputs]
    ways = other_ways(graph)
    assert ways
    for name, value in ways:
        put(own_cache, graph.key, {name: value})
        nodes = [t._node for t in program()]
        compiled, leaves = pipeline.compile_graph(nodes, CPU)
        assert compiled.plan.choices.decided == ((name, value),)
        made = pipeline.run(compiled, [leaf.attr("storage").memory for leaf in leaves])
        for array, node, memory in zip(wanted, nodes, made):
            got = open_device(CPU).read(memory, node.dtype, node.shape)
            rounding = 1e-5 * float(np.abs(array).max())
            np.testing.assert_allclose(got, array, rtol=1e-5, atol=rounding, err_msg=name)


def test_names_are_the_same_in_every_process():
    program = (
        "from tests.tune.test_plans import *\n"
        "for p in PROGRAMS:\n"
        "    g = planned(p)\n"
        "    print(g.key, [s.name for s in g.places(NO_CHOICES)])"
    )
    texts = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert texts[0] == texts[1] and len(texts[0].splitlines()) == len(PROGRAMS)


class FakeClock:
    """A measurer whose times are given: seconds of the steps that differ, by their number."""

    def __init__(self, seconds: Callable[[int], float], failure: str = ""):
        self.seconds, self.failure, self.asked = seconds, failure, 0

    def ask(self, message, patience):
        assert message["do"] == "compare"
        self.asked += 1
        if self.failure:
            return {"failure": self.failure}
        counts = [len(p["changed"]) for p in message["plans"]]
        return {"seconds": [[self.seconds(n)] * message["rounds"] for n in counts]}

    def stop(self):
        pass


def search(
    cache: Path, clock: FakeClock, graphs: Sequence[PlannedGraph], budget: float = 60.0
) -> list[Plan]:
    own = replace(settings, cache_dir=cache, use_stored=True)
    with Session(backend_of(CPU), Request(budget), own, Silent()) as session:
        session.measurer = clock  # type: ignore[assignment]
        return tune_graphs(session, graphs)[0]


def test_what_is_quicker_is_stored_and_used_without_measuring(own_cache):
    """Two kernels in place of one take half of the time, says the clock."""
    graph, clock = planned(rows_and_columns), FakeClock(lambda n: 2e-3 / n)
    (plan,) = search(own_cache, clock, [graph])
    assert plan.launches == 2 and graph.planned.plan.launches == 1
    (record,) = Store(own_cache).records()
    (taken,) = [name for name, value in record.choice.items() if value != AS_PLANNED]
    assert taken.startswith("join tanh_320x320_f32") and record.choice[taken] == "apart"
    assert record.key == graph.key and record.gain > 1.2
    stored.refresh()
    pipeline._plans.clear()
    with record_plans() as plans:
        tgrad.explain(*rows_and_columns())
    assert plans[-1].launches == 2
    text = plans[-1].explain()
    assert f"stored choice: {taken}: apart" in text
    assert plans[-1].to_json()["choices"] == {taken: "apart"}
    reasons = [r for k in plans[-1].kernels for r in k.reasons]
    assert any("measured to be quicker apart" in r for r in reasons)


def test_without_stored_choices_it_is_as_it_was(own_cache, monkeypatch):
    graph = planned(rows_and_columns)
    ((name, value), *_) = other_ways(graph)
    put(own_cache, graph.key, {name: value})
    monkeypatch.setattr(pipeline, "settings", replace(pipeline.settings, use_stored=False))
    pipeline._plans.clear()
    assert not tgrad.explain(*rows_and_columns()).choices


def test_what_is_not_quicker_is_noted_and_not_tried_again(own_cache):
    graph, clock = planned(rows_and_columns), FakeClock(lambda n: 1e-3 * n)
    (plan,) = search(own_cache, clock, [graph])
    assert plan.launches == 1 and clock.asked > 0
    (record,) = Store(own_cache).records()
    assert set(record.choice.values()) == {AS_PLANNED} and record.gain == 1
    again = FakeClock(lambda n: 1e-3 * n)
    search(own_cache, again, [planned(rows_and_columns)])
    assert again.asked == 0


def test_a_session_that_ended_goes_on(own_cache):
    """One place is tried in each session; the next one starts with those known."""
    names: list[set[str]] = []
    for _ in range(2):
        search(own_cache, FakeClock(lambda n: 1e-3), [planned(images)], budget=3.75)
        (record,) = Store(own_cache).records()
        names.append(set(record.choice))
        assert record.trials == len(names)
    assert names[0] < names[1]


@pytest.mark.parametrize(
    ("failure", "limit"), [("result 0 is wrong in 40.00% of its elements", 1 << 30), ("", 0)]
)
def test_wrong_results_and_more_memory_are_refused(own_cache, monkeypatch, failure, limit):
    monkeypatch.setattr(searching, "MORE_BYTES", limit)
    graph = planned(rows_and_columns)
    (plan,) = search(own_cache, FakeClock(lambda n: 1e-3 / n, failure), [graph])
    assert plan.launches == 1


def test_a_place_where_the_model_is_sure_is_not_measured(own_cache, monkeypatch):
    monkeypatch.setattr(searching, "UNSURE", 0.5)
    clock = FakeClock(lambda n: 1e-3 / n)
    search(own_cache, clock, [planned(rows_and_columns)])
    assert clock.asked == 0 and not Store(own_cache).records()


@pytest.mark.parametrize("program", PROGRAMS[:3], ids=lambda p: p.__name__)
def test_a_worker_runs_both_plans_and_compares_them(program):
    graph = planned(program)
    name, value = other_ways(graph)[0]
    other = graph.again(PlanChoices().also(name, value))
    before, after = searching._changed(graph.planned.plan, other.plan)
    messages = [
        json.loads(json.dumps(message_of(c, graph.leaves, steps)))
        for c, steps in ((graph.planned, before), (other, after))
    ]
    reply = compare(backend_of(CPU), CPU, settings, messages, 3, 0)
    assert [len(times) for times in reply["seconds"]] == [3, 3]
    assert min(map(min, reply["seconds"])) > 0
    text = json.dumps(messages[1]).replace('"tanh"', '"sin"').replace('"erf"', '"sin"')
    reply = compare(backend_of(CPU), CPU, settings, [messages[0], json.loads(text)], 3, 0)
    assert "is wrong in" in reply["failure"]


def test_files_carry_choices_and_refuse_wrong_ones(tmp_path):
    record = plan_record("k" * 24, "plan of 3 kernels, a", HERE, {LAYOUT: "dots"}, 2e-3, 1e-3, 4)
    (back,) = records_of(text_of([record]), "x")
    assert back == record and back.is_plan
    with pytest.raises(ExchangeError, match="is of a whole graph and has a region"):
        records_of(text_of([replace(record, region="{}")]), "x")
    bad = tmp_path / "bad.json"
    bad.write_text(text_of([replace(record, choice={LAYOUT: "sideways"})]))
    cache = tmp_path / "cache"
    answer = tgrad_command(cache, "autotune", "import", str(bad))
    assert answer.returncode == 1 and "cannot be 'sideways'" in answer.stderr + answer.stdout
    good = tmp_path / "good.json"
    good.write_text(text_of([record]))
    assert tgrad_command(cache, "autotune", "import", str(good)).returncode == 0
    for command in ("show", "verify", "prune"):
        assert tgrad_command(cache, "autotune", command).returncode == 0
    shown = tgrad_command(cache, "autotune", "show").stdout
    assert "plan of 3 kernels, a" in shown and "layout of images=dots" in shown
    assert tgrad_command(cache, "autotune", "diff", str(good)).returncode == 0
