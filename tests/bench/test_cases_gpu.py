"""The GPU's table, at its small sizes and in float32 on the CPU: its rows are what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from bench import cases_gpu
from bench.case import FunctionCase, StepCase, error_of
from bench.peers.tgrad import TgradPeer
from bench.peers.torch import TorchPeer
from bench.planned import planned
from bench.session import Plan, chosen_cases, run
from tests.bench.running import OURS, spec

CASES = {c.key: c for c in cases_gpu.cases("small")}
FUNCTIONS = [key for key, case in CASES.items() if isinstance(case, FunctionCase)]


@pytest.mark.parametrize("key", FUNCTIONS)
def test_functions_agree_with_the_reference(key: str) -> None:
    case = CASES[key]
    assert isinstance(case, FunctionCase)
    case = replace(case, dtype="float32")
    arrays = case.arrays()
    results = []
    for peer in (TgradPeer("cpu"), TorchPeer("float64", "cpu")):
        loaded = peer.load(case, arrays, copies=2)
        first, second = (loaded.read(call()) for call in loaded.calls)
        assert error_of(second, first) < 1e-6
        results.append(first)
    assert error_of(*results) < 1e-5


STEPS = [key for key, case in CASES.items() if isinstance(case, StepCase)]


@pytest.mark.parametrize("key", STEPS)
def test_losses_agree_with_the_reference(key: str) -> None:
    case = replace(CASES[key], dtype="float32")
    arrays = case.arrays()
    results = []
    for peer in (TgradPeer("numpy"), TorchPeer("float64", "cpu")):
        loaded = peer.load(case, arrays)
        results.append(np.stack([loaded.read(loaded.calls[0]()) for _ in range(2)]))
    assert error_of(*results) < 2e-4


@pytest.mark.parametrize("key", STEPS)
def test_steps_are_planned_in_bfloat16(key: str) -> None:
    assert CASES[key].dtype == "bfloat16"
    assert planned(CASES[key], "sm_90").launches > 10


@pytest.mark.parametrize("key", [key for key in FUNCTIONS if "float8" in key])
def test_products_of_8_bit_floats_are_planned(key: str) -> None:
    assert planned(CASES[key], "sm_90").launches == 1


def test_images_lie_channels_last_in_pytorch() -> None:
    import torch

    case = CASES["conv_8_8_3_1_8"]
    peer = TorchPeer("", "cpu")
    assert case.channels_last
    image = peer.stored(case.arrays()["x"], case)
    assert image.is_contiguous(memory_format=torch.channels_last)
    assert not image.is_contiguous()


def test_a_run_of_the_table_where_there_is_no_gpu() -> None:
    keys = ("softmax_48x64_backward", "linear_int4_4x128x48")
    torch, reference = (spec(o, o, "bench.peers.torch") for o in ("", "float64"))
    plan = Plan(
        "gpu", "bench.cases_gpu", "small", "cpu", [OURS, replace(torch, name="torch")], reference,
        only=keys, rounds=2, seconds=0.002, rotate=1 << 16, preliminary=True,
    )  # fmt: skip
    found = run(plan, chosen_cases(cases_gpu.cases("small"), keys), lambda line: None)
    for row in found.rows:
        for cell in row.cells.values():
            assert cell.reason == "" and cell.median is not None
            assert cell.error is not None and 1e-4 < cell.error < cases_gpu.TOLERANCE


def test_keys_are_unique_in_both_sizes() -> None:
    for sizes in ("small", "full"):
        keys = [c.key for c in cases_gpu.cases(sizes)]
        assert len(keys) == len(set(keys))
