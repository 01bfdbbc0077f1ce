"""What is run first on a GPU: whether steps are right, and what else a kernel could be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.cases_gpu import whole_steps
from bench.confirm import confirm_step
from bench.variants import chosen, neighbours
from tgrad import cpu_fallback
from tgrad.kernel.ir import Executable
from tgrad.runtime.cpu import CpuRuntime, HostMemory

pytest.importorskip("torch")


def test_a_right_step(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "confirmed.json"
    line = ["confirm", "step_gpt2", "--device", "cpu", "--small", "--check", "always"]
    assert main([*line, "--json", str(path)]) == 0
    out = capsys.readouterr().out
    assert "step_gpt2: right" in out and "all right" in out
    (found,) = json.loads(path.read_text())
    assert set(found["losses"]) == {"reference", "torch", "whole", "launches"}
    assert len(found["checked"]) > 20 and not found["wrong"]
    assert found["losses"]["whole"] == found["losses"]["launches"]


def test_a_wrong_kernel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step's losses say that it is wrong, and the kernels which one is."""
    launch = CpuRuntime.launch

    def doubled(self: CpuRuntime, artifact: Executable, memories: Sequence[HostMemory]) -> None:
        launch(self, artifact, memories)
        if artifact.name.startswith("layer_norm_2x8x16"):
            memories[-1].block[1::2] ^= 0x80  # the signs

    monkeypatch.setattr(CpuRuntime, "launch", doubled)
    said: list[str] = []
    (case,) = (c for c in whole_steps("small") if c.key == "step_gpt2")
    found = confirm_step(case, "cpu", "auto", False, said.append)
    assert not found.is_right
    assert found.wrong and all(name.startswith("layer_norm_2x8x16") for name in found.wrong)
    assert any("the first is layer_norm_2x8x16" in line for line in said)


def test_variants_differ_in_one_thing_and_are_checked(capsys: Any) -> None:
    (case,) = chosen(["softmax_*"], "small")[:1]
    assert main(["variants", case.key, "--device", "cpu", "--small", "--rounds", "2"]) == 0
    out = capsys.readouterr().out
    assert f"{case.key} softmax" in out and " us, " in out and "WRONG" not in out
    with pytest.raises(ValueError, match="no row is named nothing"):
        chosen(["nothing"], "small")


def test_neighbours() -> None:
    from tests.triton_gen.patterns import linear
    from tgrad.dtype import float32

    space = cpu_fallback.search_space(linear(256, 256, 256, float32))
    found = dict(neighbours(space))
    assert found
    for choice in found.values():
        assert sum(x != y for x, y in zip(choice, space.start)) == 1
