"""docs/architecture.md: what it shows happens, and what it names is there."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
TEXT = PAGE.read_text()
PASSES = re.findall(r"^\| `(\w+)` \| `([\w/]+)\.py` \|", TEXT, re.MULTILINE)


def test_the_examples_run() -> None:
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    failed, ran = doctest.testfile(str(PAGE), module_relative=False, optionflags=options)
    assert ran > 10
    assert failed == 0


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`([\w/]+(?:\.py|/))`", TEXT))))
def test_each_module_and_folder_is_there(path: str) -> None:
    base = ROOT if path.startswith("tests/") else ROOT / "tgrad"
    assert (base / path).exists()


@pytest.mark.parametrize(
    ("name", "module"), re.findall(r"`(\w+)`\s\(`([\w/]+)\.py`[,)]", TEXT) + PASSES
)
def test_each_name_is_in_its_module(name: str, module: str) -> None:
    found = importlib.import_module("tgrad." + module.replace("/", "."))
    assert hasattr(found, name)


def test_the_passes_over_outputs_are_those_of_the_pipeline() -> None:
    """None is forgotten, and they stand in its order."""
    tree = ast.parse((ROOT / "tgrad" / "pipeline.py").read_text())
    passes = {
        alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tgrad.fusion.")
        for alias in node.names
    }
    functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    planners = functions["_over_outputs"], functions["_compile"]
    calls = [n for f in planners for n in ast.walk(f) if isinstance(n, ast.Call)]
    calls.sort(key=lambda n: (n.lineno, -n.col_offset))
    called = [n.func.id for n in calls if isinstance(n.func, ast.Name) and n.func.id in passes]
    named = [name for name, _ in PASSES if name in called]
    assert [name for name in called if name != "unordered"] == named


def test_a_day_s_reading_is_what_the_page_says() -> None:
    """The files of the table are less than ten thousand lines."""
    rows = re.findall(r"^\| \d \| (.*?) \|", TEXT, re.MULTILINE)
    paths = [path for row in rows for path in re.findall(r"`([\w/]+\.py)`", row)]
    lines = [len((ROOT / "tgrad" / path).read_text().splitlines()) for path in paths]
    assert len(rows) == 8
    assert len(set(paths)) == len(paths)
    assert 9000 < sum(lines) < 10000
