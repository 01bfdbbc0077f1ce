"""`python -m bench compare`: what is slower beyond the noise, and what is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench import results
from bench.__main__ import main
from bench.compare import compare
from bench.results import Cell, Limits, Machine, Results, Row
from tests.bench.running import OURS, short_run, spec

MACHINE = Machine("a processor", 2, 1 << 30, "Linux x86_64")


def made(*cells: Cell) -> Results:
    """A run with a row for each cell."""
    rows = [Row(f"case{i}", f"case {i}", 1, 1, 1, 0, {"tgrad": c}) for i, c in enumerate(cells)]
    return Results("cpu", "2026-01-01", "abc", False, MACHINE, {}, Limits(1, 1), ["tgrad"], rows)


def around(median: float, spread: float = 0.01) -> Cell:
    return Cell(median, median * (1 - spread), median * (1 + spread), 10)


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (around(1.0), around(1.2), "slower"),
        (around(1.0), around(0.8), "faster"),
        (around(1.0), around(1.04), "same"),  # within the margin
        (around(1.0, 0.3), around(1.4, 0.2), "same"),  # within the noise
        (around(1.0), Cell(reason="wrong result"), "lost"),
        (Cell(reason="was not there"), around(1.0), "new"),
    ],
)
def test_verdicts(before: Cell, after: Cell, verdict: str) -> None:
    (change,) = compare(made(before), made(after))
    assert change.verdict == verdict


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        (1.2, 1.2, "same"),  # the machine
        (1.5, 1.2, "slower"),
        (1.2, 0.8, "slower"),
        (1.0, 0.8, "same"),  # a peer that got faster makes nobody slower
        (0.8, 0.8, "same"),
        (0.6, 0.8, "faster"),
        (0.8, 1.2, "faster"),
    ],
)
def test_what_peers_lost_too_is_the_machines(ours: float, theirs: float, verdict: str) -> None:
    before, after = made(around(1.0)), made(around(ours))
    before.rows[0].cells["torch"], after.rows[0].cells["torch"] = around(2.0), around(2.0 * theirs)
    (change,) = compare(before, after)
    assert change.verdict == verdict


def test_a_row_that_is_gone_is_lost() -> None:
    before = made(around(1.0), around(1.0))
    assert [c.verdict for c in compare(before, made(around(1.0)))] == ["same", "lost"]


def test_other_machines_are_refused() -> None:
    other = replace(made(around(1.0)), machine=replace(MACHINE, cores=4))
    with pytest.raises(ValueError, match="different machines"):
        compare(made(around(1.0)), other)


def test_the_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fast, slow = tmp_path / "fast.json", tmp_path / "slow.json"
    results.write(made(around(1.0)), fast)
    results.write(made(around(1.3)), slow)
    assert main(["compare", str(fast), str(slow)]) == 1
    output = capsys.readouterr().out
    assert "slower beyond the noise: case0" in output
    assert "[quartiles]" in output
    assert main(["compare", str(slow), str(fast)]) == 0
    assert "nothing is slower" in capsys.readouterr().out
    assert main(["compare", str(fast), str(tmp_path / "none.json")]) == 2


def test_a_delayed_kernel_is_slower() -> None:
    before = short_run(OURS)
    after = short_run(spec("tgrad", "delayed"))
    (change,) = compare(before, after)
    assert change.verdict == "slower"
