"""A run: results are checked before times count, and a peer that fails is a dash with a reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench import cases_cpu, cases_gpu, machine, results
from bench.process import PeerFailure, PeerTimeout, Process, worker_environment
from bench.results import Results, fastest_peer, ratio_of
from bench.session import chosen_cases, in_turn
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
    assert cell.reason == "wrong result: relative error 1.0e-02"


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


def test_tgrad_under_torch_compile_is_no_rival(found: Results) -> None:
    row = found.rows[0]
    cells = {**row.cells, "backend": replace(row.cells["right"], median=1e-12)}
    assert fastest_peer(replace(row, cells=cells)) == fastest_peer(row)


def test_tables_name_the_reasons(found: Results) -> None:
    text = markdown(main_table(found))
    assert "- wrong: wrong result: relative error 1.0e-02\n" in text
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


def test_all_peers_may_load_at_once() -> None:
    found = short_run(OURS, spec("right", "right"), spec("dying", "dying"), is_side_by_side=True)
    (row,) = found.rows
    assert row.cells["dying"].reason == "exit status 3: no message"
    for name in ("tgrad", "right"):
        assert row.cells[name].reason == "" and row.cells[name].median is not None


def test_a_peer_that_loads_too_long_has_no_time_and_the_run_goes_on() -> None:
    peers = (spec("sleeping", "sleeping"), spec("right", "right"))
    found = short_run(
        OURS, *peers, only=("softmax", "sum_rows"), is_side_by_side=True, patience=5.0
    )
    assert [row.key for row in found.rows] == ["sum_rows", "softmax"]
    for row in found.rows:
        assert row.cells["sleeping"].reason == "took longer than 5 s to compile"
        assert row.cells["right"].median is not None
    assert found.not_reached == []


def test_cases_that_come_after_the_budget_are_named(tmp_path: Path) -> None:
    found = short_run(OURS, only=("softmax", "sum_rows"), budget=0.0)
    assert found.rows == [] and found.not_reached == ["sum_rows", "softmax"]
    text = markdown(main_table(found))
    assert "- not reached in the time of this run, 2 rows: sum_rows, softmax\n" in text
    results.write(found, tmp_path / "a.json")
    assert results.read(tmp_path / "a.json").not_reached == ("sum_rows", "softmax")


def test_a_case_that_the_budget_ends_in_is_not_reached() -> None:
    found = short_run(spec("sleeping", "sleeping"), budget=4.0)
    assert found.rows == [] and found.not_reached == ["softmax"]


def test_what_there_is_is_kept_after_each_case() -> None:
    kept: list[Results] = []
    found = short_run(spec("right", "right"), only=("softmax", "sum_rows"), keep=kept.append)
    assert [len(k.rows) for k in kept] == [1, 2, 2]
    assert [list(k.not_reached) for k in kept] == [["softmax"], [], []]
    assert kept[-1] == found


def test_a_file_is_replaced_as_a_whole(found: Results, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("before")
    with path.open() as reader:
        results.write(found, path)
        assert reader.read() == "before"
    assert results.read(path).rows and list(tmp_path.iterdir()) == [path]


def test_searching_peers_take_part_where_it_is_worth_it() -> None:
    found = short_run(OURS, spec("right", "right"), searching=("right",))
    assert found.rows[0].cells["right"].reason.startswith("searches for kernels of products")
    assert found.rows[0].cells["tgrad"].median is not None


def test_failures_leave_a_traceback_where_logs_are_wanted(tmp_path: Path) -> None:
    short_run(spec("absent", "absent"), logs=tmp_path / "logs")
    text = (tmp_path / "logs" / "absent.log").read_text()
    assert "Traceback" in text and "No module named 'absent'" in text


def test_a_peer_that_is_stopped_ends_with_what_it_started() -> None:
    process = Process(spec("sleeping", "sleeping"), "cpu", 1)
    process.send("open")
    with pytest.raises(PeerTimeout, match="no answer to 'open' within 0 s"):
        process.receive(timeout=0)
    with pytest.raises(PeerFailure, match="it was stopped"):
        process.ask("open")


def test_cases_are_chosen_by_keys_and_patterns() -> None:
    cases = cases_cpu.cases("small")
    assert [c.key for c in chosen_cases(cases, ["s[ou]*_rows", "softmax"])] == [
        "sum_rows", "softmax",
    ]  # fmt: skip
    assert chosen_cases(cases, []) == cases
    with pytest.raises(ValueError, match=r"no case 'nothing_\*'; the cases are elementwise, "):
        chosen_cases(cases, ["softmax", "nothing_*"])


def test_the_most_telling_cases_come_first() -> None:
    cases = cases_gpu.cases("full")
    order = in_turn(cases)
    assert sorted(c.key for c in order) == sorted(c.key for c in cases)
    assert [c.rank for c in order] == sorted(c.rank for c in cases)
    begin = [c.key for c in order[:11]]
    assert begin == [
        "chain_16384x16384", "sum_rows_16384x16384", "softmax_16384x16384",
        "layer_norm_16384x16384", "rms_norm_16384x16384", "cross_entropy_8192x50304",
        "linear_cross_entropy_8192x2048x50304", "matmul_4096_4096_4096",
        "attention_causal_4096_128", "conv_64_64_3_1_56", "chain_16384x16384_backward",
    ]  # fmt: skip
