"""What tgrad ships for some devices is asked last."""

from __future__ import annotations

from dataclasses import replace

from tests.tune.records import record_of, with_choice
from tgrad import cpu_fallback
from tgrad.settings import settings
from tgrad.tune import stored
from tgrad.tune.exchange import text_of
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
    (tmp_path / "shipped" / "cpu.json").write_text(text_of([with_choice(record, k_block=16)]))
    assert asked() == 16
    Store(own.cache_dir).put([with_choice(record, k_block=32)])
    assert asked() == 32
    stored.refresh()
