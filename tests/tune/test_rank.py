"""`--compile-only`: choices for a GPU that is not here."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.devices.test_fuzz import needs_triton
from tests.tune.test_end_to_end import environment, tgrad_command
from tgrad import triton_gen
from tgrad.autotuning.rank import penalty
from tgrad.kernel.ir import StaticFigures
from tgrad.tune.exchange import records_of

PROGRAM = """
import tgrad
a = tgrad.ones(256, 256, dtype=tgrad.float16)
a.numpy()
print((a @ a)[0, 0].item())
"""


@needs_triton
def test_a_ranking_is_written_and_nothing_is_stored(tmp_path):
    program, cache, file = tmp_path / "program.py", tmp_path / "cache", tmp_path / "x.json"
    program.write_text(PROGRAM)
    answer = tgrad_command(
        cache, "autotune", str(program), "--target", "sm_90", "--compile-only",
        "--budget", "12s", "--kernels", "matmul*", "--output", str(file),
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert "nothing was measured" in answer.stdout
    (record,) = records_of(file.read_text(), "x")
    assert record.device == "sm_90, 132 multiprocessors" and not record.is_measured
    space = triton_gen.search_space(record.work, triton_gen.target_by_name("sm_90"))
    assert space.find(record.choice) is not None
    assert not (cache / "autotune.db").exists()
    refused = tgrad_command(cache, "autotune", "import", str(file))
    assert refused.returncode == 1 and "sm_90" in refused.stderr
    assert json.loads(file.read_text())["layout"] == 1


@pytest.mark.parametrize(
    "options",
    [
        ["--target", "sm_90"],
        ["--compile-only"],
        ["--output", "x.json"],
        ["--device", "tpu"],
        ["--budget", "soon"],
    ],
)
def test_options_that_do_not_go_together(tmp_path, options):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    answer = tgrad_command(tmp_path / "cache", "autotune", str(program), *options)
    assert answer.returncode == 2, answer.stdout


def test_targets_and_scripts_that_are_none(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    wrong = ["--target", "sm_1", "--compile-only"]
    answer = tgrad_command(tmp_path / "cache", "autotune", str(program), *wrong)
    assert answer.returncode == 1 and "is not a target of tgrad" in answer.stderr
    answer = tgrad_command(tmp_path / "cache", "autotune", str(tmp_path / "none.py"))
    assert answer.returncode == 1 and "is not a file" in answer.stderr


@pytest.mark.parametrize(
    ("options", "text", "reason"),
    [
        (["--kernels", "zzz*"], PROGRAM, "'zzz*' fits none of ones_256x256_f16, "),
        (["--budget", "0.1s"], PROGRAM, "0.1 s are too little for the first kernel."),
        (["--log", "/none/x"], PROGRAM, "/none/x cannot be written: No such file"),
        ([], "raise ValueError('mine')", "raised ValueError before it computed anything"),
        ([], "print('nothing')", "made no plan: nothing was computed."),
    ],
)
def test_sessions_with_nothing_to_do_say_why(tmp_path, options, text, reason):
    program = tmp_path / "program.py"
    program.write_text(text)
    answer = tgrad_command(tmp_path / "cache", "autotune", str(program), *options)
    assert answer.returncode == 1 and reason in answer.stderr, answer.stderr
    assert "runpy" not in answer.stderr
    assert not (tmp_path / "cache" / "autotune.db").exists()


def test_without_a_compiler(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    answer = subprocess.run(
        [sys.executable, "-m", "tgrad.cli.main", "autotune", str(program)],
        env=environment(tmp_path / "cache", TGRAD_CC="/none/cc"),
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 1 and "Traceback" not in answer.stderr
    assert "'/none/cc' was not found" in answer.stderr and "TGRAD_CC" in answer.stderr


def test_penalties():
    best = StaticFigures(widest_load=128, matrix_instruction="wgmma", async_copies=4)
    assert penalty(best, best) == 1
    assert (
        penalty(StaticFigures(widest_load=128, matrix_instruction="mma", async_copies=1), best) == 4
    )
    assert penalty(StaticFigures(widest_load=32), best) == 16
