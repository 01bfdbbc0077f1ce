"""The committed table of compiled kernels: right in each column, and of the code as it is."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import pytest

from bench import static_quality as static
from bench.static_quality import CASES, TARGETS, File, Row

pytest.importorskip("torch")
pytest.importorskip("triton")

WORK = [(key, target) for target in TARGETS for key in CASES]
FIGURES = ("registers", "spills", "shared", "widest_load", "matrix_instruction", "async_copies")


@lru_cache(maxsize=2)
def committed(target: str) -> File:
    return static.read(static.path_of(target))


@pytest.mark.parametrize("target", TARGETS)
def test_every_column_is_as_it_should_be(target: str) -> None:
    file = committed(target)
    assert list(file.steps) == list(CASES)
    assert not static.faults_of(file)
    rows = [r for rows in file.steps.values() for r in rows]
    assert all(getattr(r, name) is not None for r in rows for name in FIGURES[:4])
    wanted = [w for r in rows for w in r.wants]
    assert wanted.count("wide") >= 20
    if target == "sm_90":
        assert wanted.count("wgmma") >= 150
        assert sum(w.startswith("copies") for w in wanted) >= 150
        assert wanted.count("matrix") == 1  # 32 rows and 25 columns are too few for wgmma
    else:
        assert wanted.count("matrix") >= 150


def chosen(rows: list[Row]) -> list[str]:
    """The kernel with the most registers, and the attention and the product with the most."""
    rows = sorted(rows, key=lambda r: (r.registers or 0, r.kernel), reverse=True)
    firsts = [
        rows[0],
        *(r for r in rows if r.kind == "chain"),
        *(r for r in rows if r.kind == "dot"),
    ]
    return list(dict.fromkeys(r.kernel for r in firsts))[:2]


@pytest.mark.parametrize(("key", "target"), WORK)
def test_the_table_is_of_the_code_as_it_is(
    key: str, target: str, request: pytest.FixtureRequest
) -> None:
    """Of all kernels the source; of two a step the compiler's figures, of all with
    --static-quality."""
    file, plan = committed(target), static.planned(key, target)
    changed = static.outdated(file, key, plan)
    if changed:
        pytest.fail(
            f"{len(changed)} kernels are not those of {static.path_of(target).name}: "
            f"{', '.join(changed[:8])}\nUpdate it and look at the difference:\n  {static.UPDATE}",
            pytrace=False,
        )
    if file.triton != version("triton"):
        pytest.skip(f"the table is of triton {file.triton}")
    rows = file.steps[key]
    names = None if request.config.getoption("static_quality") else chosen(rows)
    want = {r.kernel: r for r in rows if names is None or r.kernel in names}
    for row in static.rows_of(plan, names):
        assert asdict(row) == asdict(want[row.kernel])


@pytest.mark.parametrize("target", ["sm_80", "sm_100", "gfx1100"])
def test_other_gpus_compile_the_same_steps(target: str) -> None:
    """Two kernels of each step: no spills, and matrix instructions."""
    for key in ("convnet", "llama_block"):
        names = chosen(committed("gfx942" if target == "gfx1100" else "sm_90").steps[key])
        plan = static.planned(key, target)
        for row in static.rows_of(plan, [k.name for k in plan.kernels if k.name in names]):
            assert row.spills == 0, row
            assert row.matrix_instruction or row.kind not in ("dot", "chain"), row


GOOD = Row("k", "dot", "0", 128, 0, 4096, 128, "wgmma.mma_async", 8, ("wgmma", "copies 6"))


def test_what_is_wrong_is_named() -> None:
    def found(target: str = "sm_90", **changes: object) -> list[str]:
        return list(static.faults(replace(GOOD, **changes), target))  # type: ignore[arg-type]

    assert found() == []
    assert found(spills=4) == ["4 bytes or registers spilled"]
    assert found(matrix_instruction="mma.sync") == ["mma.sync in place of wgmma"]
    assert found(matrix_instruction=None) == ["no matrix instruction in place of wgmma"]
    assert found(async_copies=4) == ["4 asynchronous copies in a product's loop in place of 6"]
    assert found(wants=("wide",), widest_load=32) == ["loads of 32 bits"]
    assert found("gfx942", wants=("matrix",), matrix_instruction=None) == ["no matrix instruction"]
    assert found("gfx942", wants=(), matrix_instruction="v_wmma") == ["v_wmma in place of MFMA"]


def test_files_are_read_as_written(tmp_path: Path) -> None:
    file = File("sm_90", "3.7.1", {"a": [GOOD, replace(GOOD, kernel="l", wants=())], "b": []})
    static.write(file, tmp_path / "sm_90.json")
    assert static.read(tmp_path / "sm_90.json") == file
