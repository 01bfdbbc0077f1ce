"""docs/benchmarks.md and the README's section are what `python -m bench docs` prints."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from bench import pages, results
from bench.results import Cell, Row
from tests.bench.test_compare import around, made

UPDATE = "python -m bench docs writes it"


def test_the_page_is_generated() -> None:
    assert pages.PAGE.read_text() == pages.page(), UPDATE


def test_the_readme_is_generated() -> None:
    text = pages.README.read_text()
    assert text == pages.with_section(text, pages.readme_section()), UPDATE


def test_the_readme_has_no_other_figures_of_speed() -> None:
    text = pages.README.read_text()
    before, rest = text.split(pages.BEGIN)
    others = before + rest.split(pages.END)[1]
    assert re.findall(r"\d\s?(?:×|x faster|times faster|[mµn]s\b|GFLOP|GB/s)", others) == []


def test_losses_are_named_as_plainly_as_wins(tmp_path: Path) -> None:
    rows = [
        Row("fast", "a fast case", 1, 1, 1, 0, {"tgrad": around(0.001), "torch": around(0.004)}),
        Row("slow", "a slow case", 1, 1, 1, 0, {"tgrad": around(0.002), "torch": around(0.001)}),
        Row("none", "no peer", 1, 1, 1, 0, {"tgrad": around(0.002), "torch": Cell(reason="no")}),
    ]
    run = replace(made(), rows=rows, peers=["tgrad", "torch"], preliminary=True)
    results.write(run, tmp_path / "cpu.json")
    text = pages.page(tmp_path)
    assert "over 2 rows: **1.41×**" in text
    assert text.index("- a slow case: 0.50× (2 ms; torch 1 ms)") < text.index(
        "- a fast case: 4.00× (1 ms; torch 4 ms)"
    )
    assert "**Preliminary**" in text
    assert "- torch (none): no\n" in text
    assert "## GPU\n\nNot measured yet" in text
    short = pages.readme_section(tmp_path)
    assert "Preliminary, of no weight" in short
    assert "geometric mean 1.41× over 2 rows. Slower in 1: a slow case 0.50×. " in short


def test_tables_say_where_they_were_made(tmp_path: Path) -> None:
    machine = {"processor": "a processor", "cores": 2, "system": "Linux x86_64"}
    data = {
        "title": "memory", "header": ["step", "MB"], "rows": [["a step", "1.0"]],
        "notes": ["a note"], "machine": machine, "commit": "abc", "date": "2026-01-01",
        "preliminary": False, "others": 1.25,
    }  # fmt: skip
    (tmp_path / "memory.json").write_text(json.dumps(data))
    text = pages.page(tmp_path)
    assert "| a step | 1.0 |\n\n- a note\n" in text
    assert "- a processor, 2 cores, Linux x86_64; commit abc, 2026-01-01; other processes" in text


def test_a_readme_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"README\.md has no"):
        pages.with_section("nothing", "section")
