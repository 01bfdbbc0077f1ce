"""Counts of every workload are those of bench/results/counts.json."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench import counts
from bench.__main__ import main
from bench.counts import Counts

COMMITTED = counts.read(counts.FILE)
NAMES = list(counts.work())
A = Counts(20, 15, 10, 8, 1000, 2000, 300, 400, 500, "abc", "123")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_changed_unnoticed(name: str) -> None:
    before = {name: COMMITTED[name]} if name in COMMITTED else {}
    lines = [line for line, _ in counts.differences(before, {name: counts.count(name)})]
    if lines:
        pytest.fail(counts.message_of(lines), pytrace=False)


def test_nothing_is_left_over() -> None:
    assert sorted(COMMITTED) == sorted(NAMES)


def test_worse_and_better_are_both_named() -> None:
    after = replace(A, nodes=21, launches=11, bytes=1900, regions="def", source="456")
    assert list(counts.differences({"a cpu": A}, {"a cpu": after})) == [
        ("a cpu: nodes 20 -> 21 (worse)", True),
        ("a cpu: launches 10 -> 11 (worse)", True),
        ("a cpu: bytes 2,000 -> 1,900 (better)", False),
        ("a cpu: regions changed", False),
        ("a cpu: source changed", False),
    ]
    assert list(counts.differences({"a cpu": A}, {"b cpu": A})) == [
        ("a cpu: gone", True),
        ("b cpu: new", False),
    ]


def test_the_message_says_what_to_do() -> None:
    text = counts.message_of(["a cpu: launches 10 -> 11 (worse)"])
    assert "  a cpu: launches 10 -> 11 (worse)\n" in text
    assert text.endswith("  python -m bench counts --json bench/results/counts.json")


def test_the_command_writes_and_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"a cpu": A}
    monkeypatch.setattr(counts, "count_all", lambda: found)
    path = tmp_path / "counts.json"
    assert main(["counts", "--json", str(path)]) == 0
    assert counts.read(path) == found
    assert main(["counts", "--check", str(path)]) == 0
    found["a cpu"] = replace(A, launches=9)
    assert main(["counts", "--check", str(path)]) == 1
    assert "launches 10 -> 9 (better)" in capsys.readouterr().err
