"""The compiler and its cache: what is compiled, what survives damage, what is refused and how."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cpu_fallback.cases import Draft, call, random_slots, settings_in
from tgrad import cpu_fallback
from tgrad.cpu_fallback import compile as cc
from tgrad.cpu_fallback import objects
from tgrad.cpu_fallback.compile import KernelSource, compile_kernels
from tgrad.errors import CacheError, CompileError, Source, TgradError, VerifyError
from tgrad.fusion.region import Region
from tgrad.graph.op import Op
from tgrad.settings import Settings


def region(number: int, name: str = "") -> Region:
    d = Draft(i=16)
    x = d.input("x", "i")
    for _ in range(number):
        x = d.op(Op.ADD, x, 0)
    d.store(d.op(Op.MUL, x, x), "i")
    return d.region(name or f"kernel_{number}", "map", parallel="i")


def forget() -> None:
    """As if this were a new process."""
    objects.loaded.clear()


def count_compilations(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    calls: list[list[str]] = []
    run = subprocess.run

    def counting(command: list[str], **rest: object) -> object:
        if "--version" not in command:
            calls.append(command)
        return run(command, **rest)  # type: ignore[call-overload]

    monkeypatch.setattr(cc.subprocess, "run", counting)
    return calls


def test_loops_call_no_function(tmp_path: Path) -> None:
    """A compiler makes no vectors of a loop with a call in it; a function that is named twice is
    too long for gcc to put into both places unasked."""
    d = Draft(i=64)
    once = d.op(Op.SIN, d.input("x", "i"))
    d.store(d.op(Op.SIN, once), "i")
    made = d.region("sine", "map", parallel="i")
    [artifact] = cpu_fallback.generate([made], settings_in(tmp_path))
    assert artifact.source.count("tg_sin(") == 2
    [library] = tmp_path.rglob("*.so")
    symbols = subprocess.run(["nm", library], capture_output=True, text=True, check=True).stdout
    assert "sine" in symbols and "tg_sin" not in symbols


def test_second_time_compiles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_in(tmp_path)
    regions = [region(n) for n in range(5)]
    cpu_fallback.generate(regions, settings)
    forget()
    calls = count_compilations(monkeypatch)
    cpu_fallback.generate(regions[2:], settings)
    assert calls == []
    cpu_fallback.generate([*regions, region(7)], settings)
    assert len(calls) == 1
    assert len(list((tmp_path / "c" / "objects").glob("*.so"))) == 2


def test_new_kernels_share_one_object(tmp_path: Path) -> None:
    cpu_fallback.generate([region(n) for n in range(12)], settings_in(tmp_path))
    assert len(list((tmp_path / "c" / "objects").glob("*.so"))) == 1


def test_one_name_for_two_kernels_is_a_defect(tmp_path: Path) -> None:
    with pytest.raises(VerifyError, match="named same"):
        cpu_fallback.generate([region(1, "same"), region(2, "same")], settings_in(tmp_path))
    twice = cpu_fallback.generate([region(1, "same"), region(1, "same")], settings_in(tmp_path))
    assert len(twice) == 2


def test_the_user_line_is_no_part_of_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    settings = settings_in(tmp_path)
    first = region(1)
    cpu_fallback.generate([first], settings)
    calls = count_compilations(monkeypatch)
    moved = dataclasses.replace(first, source=Source("train.py", 99))
    [artifact] = cpu_fallback.generate([moved], settings)
    assert calls == []
    assert "train.py:99" in artifact.source


@pytest.mark.parametrize("damage", ["truncate", "garbage", "delete", "entry", "empty entry"])
def test_damaged_entries_are_rebuilt(tmp_path: Path, damage: str) -> None:
    settings = settings_in(tmp_path)
    first = region(3)
    cpu_fallback.generate([first], settings)
    forget()
    [shared] = (tmp_path / "c" / "objects").glob("*.so")
    [entry] = (tmp_path / "c" / "kernels").glob("*.json")
    data = shared.read_bytes()
    shared.unlink()  # a new file: the old one stays mapped in this process
    if damage == "truncate":
        shared.write_bytes(data[: len(data) // 2])
    elif damage == "garbage":
        shared.write_bytes(b"\0" * len(data))
    elif damage == "entry":
        shared.write_bytes(data)
        entry.write_text('{"object": ')
    elif damage == "empty entry":
        shared.write_bytes(data)
        entry.write_text(json.dumps({}))
    [artifact] = cpu_fallback.generate([first], settings)
    arrays = random_slots(first)
    np.testing.assert_allclose(call(artifact.entry, arrays)[1], (4 * arrays[0]) ** 2, rtol=1e-6)


@pytest.mark.parametrize("times", [1, cc.ATTEMPTS])
def test_an_object_that_vanishes_before_it_is_loaded(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vanished, enter = [], cc._enter

    def enter_and_delete(*args: Any) -> Path:
        path = enter(*args)
        if len(vanished) < times:
            vanished.append(path)
            path.unlink()
        return path

    monkeypatch.setattr(cc, "_enter", enter_and_delete)
    if times < cc.ATTEMPTS:
        cpu_fallback.generate([region(0)], settings_in(tmp_path))
    else:
        with pytest.raises(CacheError, match="Call again"):
            cpu_fallback.generate([region(0)], settings_in(tmp_path))
    assert len(vanished) == times


def test_unwritable_cache_directory(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    with pytest.raises(CacheError) as error:
        cpu_fallback.generate([region(1)], settings_in(blocked / "cache"))
    assert isinstance(error.value, TgradError) and isinstance(error.value, OSError)
    assert str(blocked / "cache") in str(error.value)
    assert "TGRAD_CACHE_DIR" in str(error.value)


def test_missing_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CompileError, match=r"no-such-cc.*was not found"):
        cpu_fallback.generate([region(1)], settings_in(tmp_path, cc="no-such-cc"))
    cc._find_compiler.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CompileError, match="apt-get install gcc"):
        cc._find_compiler("", cpu_fallback.detect_machine())
    cc._find_compiler.cache_clear()


def test_refused_source_names_kernel_line_and_reason(tmp_path: Path) -> None:
    good = KernelSource("good", "void good(char *const *slots) {}\n", Source("train.py", 3))
    bad = KernelSource(
        "bad", "/* bad */\nvoid bad(char *const *slots) {\n  nonsense;\n}\n", Source("train.py", 8)
    )
    with pytest.raises(CompileError) as error:
        compile_kernels([good, bad], settings_in(tmp_path))
    text = str(error.value)
    assert "kernel bad" in text and "train.py:8" in text
    assert "bad.c:3" in text and "nonsense" in text


def _compile_some(folder: str) -> None:
    cpu_fallback.generate([region(n) for n in range(6)], settings_in(Path(folder)))


def test_many_processes_share_a_cache(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_compile_some, args=(str(tmp_path),)) for _ in range(3)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert [w.exitcode for w in workers] == [0, 0, 0]
    _compile_some(str(tmp_path))


def test_a_killed_process_leaves_no_broken_entry(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path\n"
        "from tests.cpu_fallback.test_compile import _compile_some\n"
        f"_compile_some({str(tmp_path)!r})\n"
    )
    for delay in (0.4, 0.7):
        worker = subprocess.Popen([sys.executable, "-c", script])
        time.sleep(delay)
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
    forget()
    _compile_some(str(tmp_path))


def test_sources_are_kept_under_the_kernel_s_name(settings: Settings) -> None:
    [artifact] = cpu_fallback.generate([region(2)], settings)
    path = Path(artifact.path)
    assert path.name.startswith("kernel_2-") and path.suffix == ".c"
    assert artifact.source in path.read_text()
    assert "train.py:7" in artifact.source


def test_number_of_threads_changes_no_bit(tmp_path: Path) -> None:
    """Sums, products and scatters with one thread and with two; OMP_NUM_THREADS is honoured."""
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.cpu_fallback.cases import call, dot_region, matmul, random_slots, settings_in\n"
        "from tests.cpu_fallback.test_patterns import reduction\n"
        "from tgrad import cpu_fallback, dtype\n"
        "from tgrad.graph.op import Op\n"
        "regions = [reduction(Op.REDUCE_SUM, dtype.float32, w, 300, 1000)\n"
        "           for w in ('row', 'column', 'full')] + [dot_region(matmul(200, 150, 900))]\n"
        f"artifacts = cpu_fallback.generate(regions, settings_in(Path({str(tmp_path)!r})))\n"
        "for r, a in zip(regions, artifacts):\n"
        "    sys.stdout.write(call(a.entry, random_slots(r))[-1].tobytes().hex())\n"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "OMP_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "2")
    ]
    assert outputs[0] == outputs[1] != ""


def test_torch_in_one_process(tmp_path: Path) -> None:
    """PyTorch brings an OpenMP runtime of its own."""
    torch = pytest.importorskip("torch")
    d = Draft(i=200_000)
    d.store(d.op(Op.EXP, d.input("x", "i")), "i")
    [artifact] = cpu_fallback.generate(
        [d.region("exp_big", "map", parallel="i")], settings_in(tmp_path)
    )
    x = np.linspace(-1, 1, 200_000).astype(np.float32)
    for _ in range(3):
        have = call(artifact.entry, [x, np.zeros_like(x)])[1]
        want = torch.exp(torch.from_numpy(x)) @ torch.ones(200_000)
        assert abs(have.sum() / float(want) - 1) < 1e-4
