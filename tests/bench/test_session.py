"""A run: results are checked before times count, and a peer that fails is a dash with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import machine, results
from bench.process import worker_environment
from bench.results import Results, ratio_of
from bench.tables import main_table, markdown
from tests.bench.running import OURS, short_run, spec


@pytest.fixture(scope="module")
def found() -> Results:
    peers = (spec(name, name) for name in ("right", "wrong", "dying", "absent"))
    return short_run(OURS, *peers, only=("softmax", "sum_rows"))


@pytest.mark.parametrize("row", [0, 1])
def test_a_wrong_result_has_no_time(found: Results, row: int) -> None:
    cell = found.rows[row].cells["wrong"]
    assert cell.median is None
    assert cell.reason == "wrong result: error 1.0e-02 of the largest value"


@pytest.mark.parametrize("row", [0, 1])
def test_a_right_result_has_one(found: Results, row: int) -> None:
    for name in ("tgrad", "right"):
        cell = found.rows[row].cells[name]
        assert cell.reason == ""
        assert cell.median is not None and cell.low is not None and cell.high is not None
        assert 0 < cell.low <= cell.median <= cell.high
        assert cell.error is not None and cell.error < 1e-6


def test_a_peer_that_dies_or_is_absent_says_why(found: Results) -> None:
    for row in found.rows:
        assert row.cells["dying"].reason == "exit status 3: no message"
        assert row.cells["absent"].reason == "ImportError: No module named 'absent'"


def test_work_is_that_of_the_plan(found: Results) -> None:
    sum_rows, softmax = found.rows
    assert (softmax.launches, sum_rows.launches) == (1, 1)
    assert softmax.bytes == 2 * 32 * 32 * 4
    assert sum_rows.bytes == 32 * 32 * 4 + 32 * 4


def test_the_fastest_counts_peers_with_a_right_result_only(found: Results) -> None:
    for row in found.rows:
        ours, right = row.cells["tgrad"].median, row.cells["right"].median
        assert ours is not None and right is not None
        assert ratio_of(row) == right / ours


def test_tables_name_the_reasons(found: Results) -> None:
    text = markdown(main_table(found))
    assert "- wrong: wrong result: error 1.0e-02 of the largest value\n" in text
    assert "- absent: ImportError: No module named 'absent'\n" in text
    assert "PRELIMINARY" in text


def test_results_come_back_from_their_file(found: Results, tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    results.write(found, first)
    results.write(results.read(first), second)
    assert first.read_text() == second.read_text()
    assert results.read(first).machine == found.machine


def test_what_a_search_found_is_left_out_unless_asked_for(
    found: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found.versions["configurations"] == "heuristics"
    monkeypatch.setenv("TGRAD_STORED", "1")
    assert worker_environment(1)["TGRAD_STORED"] == "1"


def test_peers_keep_bytecode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert "PYTHONDONTWRITEBYTECODE" not in worker_environment(1)


def test_what_others_took_is_told(found: Results) -> None:
    assert found.others is not None and found.others >= 0
    assert f"other processes took {found.others:.1f} cores meanwhile" in markdown(main_table(found))


def test_what_the_run_takes_itself_is_not_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, readings in {
        "perf_counter": (0.0, 10.0), "_busy_seconds": (100.0, 130.0), "_own_seconds": (5.0, 15.0),
    }.items():  # fmt: skip
        monkeypatch.setattr(machine, name, iter(readings).__next__)
    assert machine.Others().cores() == 2.0
    assert machine.is_shared(2.0)
    assert not machine.is_shared(0.02) and not machine.is_shared(None)
