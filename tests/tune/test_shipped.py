"""What tgrad ships for some devices is asked last."""

from __future__ import annotations

from dataclasses import replace

import pytest

import tgrad
from tests.devices.test_fuzz import needs_triton
from tests.tune.records import record_of, with_choice
from tests.tune.regions import program_of
from tgrad import cpu_fallback, pipeline, triton_gen
from tgrad.fusion.region import Region
from tgrad.kernel.ir import Config
from tgrad.runtime.planning import planning
from tgrad.settings import settings
from tgrad.tune import stored
from tgrad.tune.exchange import text_of
from tgrad.tune.lookup import Choices
from tgrad.tune.record import make_record
from tgrad.tune.store import Store


def test_the_order_of_the_origins(tmp_path, monkeypatch):
    own = replace(settings, cache_dir=tmp_path / "cache", use_stored=True)
    monkeypatch.setattr(stored, "SHIPPED", tmp_path / "shipped")
    stored.refresh()

    def asked() -> object:
        stored.refresh()
        choices = stored.stored_choices(own, lambda: cpu_fallback.place(settings))
        found = None if choices is None else choices.match(record.work)
        return None if found is None else found.record.choice["k_block"]

    record = record_of("matmul", 64)
    assert asked() is None
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "sm_90.json").write_text("of another device, and never read")
    assert asked() is None
    name = f"{cpu_fallback.place(settings).kind[0]}.json"
    (tmp_path / "shipped" / name).write_text(text_of([with_choice(record, k_block=16)]))
    assert asked() == 16
    Store(own.cache_dir).put([with_choice(record, k_block=32)])
    assert asked() == 32
    stored.refresh()


@needs_triton
def test_every_user_of_a_gpu_gets_what_is_shipped_for_it(tmp_path, monkeypatch):
    """On a machine without that GPU: the plan for it has the choice, and nothing is searched."""
    monkeypatch.setattr(stored, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(
        pipeline, "settings", replace(settings, cache_dir=tmp_path, use_stored=True)
    )
    monkeypatch.setattr("tgrad.autotuning.session.Session.__enter__", pytest.fail)
    target = triton_gen.target_by_name("sm_90")

    def config() -> Config | None:
        stored.refresh()
        with planning("sm_90"):
            (kernel,) = tgrad.explain(program_of("matmul", 256)).kernels
            regions.append(kernel.region)
            return kernel.config

    regions: list[Region] = []
    heuristic = config()
    assert heuristic is not None and heuristic.origin == "heuristic"
    space = triton_gen.search_space(regions[0], target)
    other = next(c for c in space.choices() if c[0] != space.start[0] and space.config(c))
    place = triton_gen.place(target)
    record = make_record(regions[0], place, "", space.named(other), 2e-5, 1e-5, 40)
    (tmp_path / "shipped").mkdir()
    file = tmp_path / "shipped" / "sm_90.json"
    file.write_text(text_of([record]))
    found = config()
    assert found is not None and found.origin == "stored" and found.axes != heuristic.axes
    version = replace(record, generator=place.generator.rpartition(" ")[0] + " 3.0.0")
    file.write_text(text_of([version]))
    assert config() == heuristic, "measured with another Triton: where a search would start"
    assert Choices(place, [[version]]).ranked(regions[0]) == [version]
    stored.refresh()
