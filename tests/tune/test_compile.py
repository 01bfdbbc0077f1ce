"""`tgrad.compile(autotune=...)` tunes when asked, once; else stored choices are used unchanged."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import OrderedDict
from dataclasses import replace

import pytest

import tgrad
from tests.tune.records import ELSEWHERE, record_of, with_choice
from tests.tune.regions import program_of, region_of
from tests.tune.test_end_to_end import environment, run
from tgrad import cpu_fallback, pipeline, realizing
from tgrad.runtime.plan import record_plans
from tgrad.settings import settings
from tgrad.tune import stored
from tgrad.tune.lookup import Choices
from tgrad.tune.record import make_record
from tgrad.tune.store import Store

PROGRAM = """
import json, time
import tgrad
from tgrad.autotuning.session import Session
sessions = []
begun = Session.__enter__
Session.__enter__ = lambda self: sessions.append(1) or begun(self)
a, b = tgrad.ones(96, 80), tgrad.ones(80, 64)

@tgrad.compile(autotune="5s")
def product(a, b):
    return a @ b

values = [float(product(a, b)[1, 2].item()) for _ in range(3)]
origins = sorted({k.config.origin for k in product.plans[0].kernels})
plain = tgrad.compile(lambda a, b: a @ b)
plain(a, b)
others = [k.config.origin for k in plain.plans[0].kernels]
print(json.dumps([values, origins, others, product.traces]))
"""


def test_tunes_when_asked_and_keeps_what_it_found(tmp_path):
    program, cache = tmp_path / "program.py", tmp_path / "cache"
    program.write_text(PROGRAM)
    for _ in range(2):
        assert json.loads(run(cache, program)) == [[80.0] * 3, ["stored"], ["stored"], 1]
    assert len(Store(cache).records()) == 1


def test_without_it_nothing_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr("tgrad.autotuning.session.Session.__enter__", pytest.fail)
    assert tgrad.compile(lambda x: x + 1)(tgrad.ones(3)).tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("wrong", ["soon", "-3s", 0, "0s"])
def test_times_that_are_none(wrong):
    with pytest.raises(ValueError, match="is not a time"):
        tgrad.compile(lambda x: x, autotune=wrong)


def test_a_store_that_cannot_be_written(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "autotune.db").write_bytes(b"something else " * 100)
    answer = subprocess.run(
        [sys.executable, str(program)], env=environment(cache), capture_output=True, text=True
    )
    assert answer.returncode == 1
    assert "CacheError" in answer.stderr and "autotune.db cannot be used" in answer.stderr


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache directory of the test's own, for plans of this process."""
    own = replace(settings, cache_dir=tmp_path / "cache", use_stored=True)
    monkeypatch.setattr(pipeline, "settings", own)
    stored.refresh()
    yield own.cache_dir
    stored.refresh()


def origin_of(kind: str, size: int) -> str:
    """Where the configuration of a kernel comes from, in a new plan."""
    plan = tgrad.explain(program_of(kind, size))
    found = max(plan.kernels, key=lambda k: k.flops + k.bytes).config
    assert found is not None
    return found.origin


def test_the_rule_of_the_nearest(own_cache):
    """The very region; else the nearest of its class within a factor of two, if that had gained."""
    Store(own_cache).put([record_of("matmul", 64), record_of("softmax", 64, place=ELSEWHERE)])
    stored.refresh()
    assert origin_of("matmul", 64) == "stored"
    assert origin_of("matmul", 128) == "nearest"
    assert origin_of("matmul", 160) == "heuristic"
    assert origin_of("batched", 64) == "heuristic"
    assert origin_of("softmax", 64) == "heuristic"


def test_of_several_near_records_the_nearest(own_cache):
    near, far = record_of("matmul", 80), record_of("matmul", 48)
    far = with_choice(far, k_block=48)
    choices = Choices(cpu_fallback.place(settings), [[far, near]])
    found = choices.match(region_of("matmul", 72))
    assert found is not None and found.record is near and not found.is_exact
    unchanged = replace(near, tuned=near.heuristic)
    choices = Choices(cpu_fallback.place(settings), [[unchanged]])
    assert choices.config(region_of("matmul", 72), cpu_fallback.search_space) is None
    assert choices.config(region_of("matmul", 80), cpu_fallback.search_space) is not None


def test_a_choice_outside_of_the_space_is_not_used(own_cache):
    Store(own_cache).put([with_choice(record_of("matmul", 64), k_block=7)])
    stored.refresh()
    assert origin_of("matmul", 64) == "heuristic"


def test_a_broken_store_is_said_and_the_heuristics_stand(own_cache):
    own_cache.mkdir()
    (own_cache / "autotune.db").write_bytes(b"something else " * 100)
    stored.refresh()
    with pytest.warns(UserWarning, match="cannot be used: file is not a database"):
        assert origin_of("matmul", 56) == "heuristic"


@pytest.mark.parametrize("name", ["program.tune.json", "tgrad-tune.json"])
def test_an_export_beside_the_program_is_found(tmp_path, name):
    program = tmp_path / "program.py"
    program.write_text(
        "import tgrad\n"
        "a = tgrad.ones(64, 64)\na.numpy()\n"
        "print(*(k.config.origin for k in tgrad.explain(a @ a).kernels))\n"
    )
    cache = tmp_path / "cache"
    assert run(cache, program) == "heuristic\n"
    same = tmp_path / "same.py"
    same.write_text(
        "import tgrad\n"
        "from pathlib import Path\n"
        "from tgrad import cpu_fallback\n"
        "from tgrad.settings import settings\n"
        "from tgrad.tune.exchange import text_of\n"
        "from tgrad.tune.record import make_record\n"
        "a = tgrad.ones(64, 64)\na.numpy()\n"
        "region = tgrad.explain(a @ a).kernels[0].region\n"
        "space = cpu_fallback.search_space(region)\n"
        "choice, place = space.named(space.start), cpu_fallback.place(settings)\n"
        "record = make_record(region, place, '', choice, 2, 1)\n"
        f"Path({str(tmp_path / name)!r}).write_text(text_of([record]))\n"
    )
    run(cache, same)
    assert run(cache, program) == "stored\n"
    (tmp_path / name).write_text("{")
    broken = subprocess.run(
        [sys.executable, str(program)], env=environment(cache), capture_output=True, text=True
    )
    assert broken.stdout == "heuristic\n" and "is cut off or no JSON" in broken.stderr


def test_a_number_that_became_an_input_takes_what_is_stored_for_one_written(monkeypatch):
    """As in the second step of a loop whose first step alone was tuned."""
    x = tgrad.ones(64, 64)
    x.numpy()
    monkeypatch.setattr(pipeline, "_plans", OrderedDict())
    monkeypatch.setattr(realizing, "_seen", OrderedDict())
    with record_plans() as plans:
        for number in (2.0, 3.0):
            (x @ x * number + 1).numpy()
    written, shared = (plan.kernels[0].region for plan in plans)
    space, place = cpu_fallback.search_space(written), cpu_fallback.place(settings)
    record = make_record(written, place, "out = a", space.named(space.start), 2e-3, 1e-3, 7)
    choices = Choices(place, [[record]])
    for region, origin in ((written, "stored"), (shared, "nearest")):
        config = choices.config(region, cpu_fallback.search_space)
        assert config is not None and config.origin == origin
    standing = Choices(place, [[replace(record, tuned=record.heuristic)]])
    assert standing.config(shared, cpu_fallback.search_space) is None
