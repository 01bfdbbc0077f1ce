"""The GPU's table, at its small sizes and in float32 on the CPU: its rows are what they say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import tgrad
from bench import cases_gpu, results
from bench.__main__ import main
from bench.case import (
    BLOCK,
    SAMPLE,
    FunctionCase,
    Repeated,
    StepCase,
    error_of,
    sampled,
    stored_bytes,
)
from bench.pages import dated_path, page
from bench.peers import torch_arrays
from bench.peers.tgrad import TgradPeer, stored
from bench.peers.torch import TorchPeer
from bench.planned import planned
from bench.session import Plan, Session, chosen_cases, run
from bench.worker import read_inputs, save_inputs
from tests.bench.running import OURS, spec
from tests.bench.test_compare import made

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


@pytest.mark.parametrize("key", ["conv_8_8_3_1_8_backward", "softmax_48x64"])
def test_tgrad_under_torch_compile_agrees_too(key: str) -> None:
    case = CASES[key]
    assert isinstance(case, FunctionCase)
    case = replace(case, dtype="float32")
    arrays, found = case.arrays(), []
    for option in ("tgrad", "float64"):
        loaded = TorchPeer(option, "cpu").load(case, arrays)
        found.append(loaded.read(loaded.calls[0]()))
    assert error_of(*found) < 1e-5


STEPS = [key for key, case in CASES.items() if isinstance(case, StepCase)]


@pytest.mark.parametrize("key", STEPS)
def test_losses_agree_with_the_reference(key: str) -> None:
    case = replace(CASES[key], dtype="float32")
    arrays = case.arrays()
    results = []
    for peer in (TgradPeer("numpy"), TorchPeer("float64", "cpu")):
        loaded = peer.load(case, arrays)
        results.append([np.stack([loaded.read(loaded.calls[0]())[0] for _ in range(2)])])
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


def test_images_lie_channels_last_in_tgrad_too() -> None:
    """As in PyTorch's tensors: what a row measures is a convolution, and no change of layout."""
    table = {c.key: c for c in cases_gpu.cases("full")}
    assert planned(table["conv_64_64_3_1_56"], "sm_90").launches == 1
    both = planned(table["conv_64_64_3_1_56_backward"], "sm_90")
    image = 128 * 64 * 56 * 56 * 2
    assert sum(k.bytes >= image for k in both.kernels) == 3
    assert sum(k.flops == 0 for k in both.kernels) == 0


def test_a_run_of_the_table_where_there_is_no_gpu() -> None:
    keys = ("softmax_48x64_backward", "linear_int4_4x128x48")
    torch, reference = (spec(o, o, "bench.peers.torch") for o in ("", "float32"))
    plan = Plan(
        "gpu", "bench.cases_gpu", "small", "cpu", [OURS, replace(torch, name="torch")], reference,
        rounds=2, seconds=0.002, rotate=1 << 16, preliminary=True,
        is_side_by_side=True,
    )  # fmt: skip
    found = run(plan, chosen_cases(cases_gpu.cases("small"), keys), lambda line: None)
    for row in found.rows:
        for cell in row.cells.values():
            assert cell.reason == "" and cell.median is not None
            assert cell.error is not None and 1e-4 < cell.error < cases_gpu.TOLERANCE


@pytest.mark.parametrize("shape", [(), (3,), (5, 7), (0, 4)])
def test_repeated_inputs_are_the_same_everywhere(shape: tuple[int, ...], tmp_path: Path) -> None:
    value = Repeated(np.array([1.5, -2.0, 3.25, 1e-3], np.float32), shape)
    save_inputs(tmp_path / "a.npz", {"x": value, "y": np.arange(3), "z": value})
    inputs = read_inputs(tmp_path / "a.npz")
    assert list(inputs) == ["x", "y", "z"]
    read = inputs["x"]
    assert isinstance(read, Repeated) and read.shape == shape
    want = np.resize(value.block, shape)
    assert np.array_equal(read.expanded(), want)
    assert np.array_equal(torch_arrays.stored(read, "cpu", "float32").numpy(), want)
    assert np.array_equal(stored(read, "float32", "cpu").numpy(), want)
    by_torch = torch_arrays.stored(read, "cpu", "bfloat16").float().numpy()
    assert np.array_equal(stored(read, "bfloat16", "cpu").to(tgrad.float32).numpy(), by_torch)


def test_inputs_travel_as_what_they_repeat(tmp_path: Path) -> None:
    case = next(c for c in cases_gpu.cases("full") if c.key == "softmax_16384x16384")
    inputs = case.arrays()
    save_inputs(tmp_path / "a.npz", inputs)
    assert (tmp_path / "a.npz").stat().st_size < 4 * BLOCK + 10_000
    assert stored_bytes(case, inputs) == 2 * 16384**2


def test_copies_are_of_bytes_in_the_dtype_of_the_case() -> None:
    plan = Plan("gpu", "bench.cases_gpu", "small", "cpu", (), None, rotate=1 << 14)
    with Session(plan, lambda line: None) as session:
        case = CASES["softmax_48x64"]
        assert session._copies(case, case.arrays()) == -(-(1 << 14) // (2 * 48 * 64))


def test_large_results_are_compared_in_part_and_infinities_found_everywhere() -> None:
    import torch

    values = torch.arange(SAMPLE + 5, dtype=torch.float32)
    for few in (torch_arrays.sampled(values), sampled(values.numpy())):
        assert few.tolist()[:3] == [0.0, 2.0, 4.0] and len(few) == SAMPLE // 2 + 3
    values[7] = float("inf")  # not among those
    for few in (torch_arrays.sampled(values), sampled(values.numpy())):
        assert np.isnan(few[0]) and error_of([few], [few]) == float("inf")
    transposed = torch.arange(6.0).reshape(2, 3).t()
    assert torch_arrays.sampled(transposed).tolist() == [[0, 3], [1, 4], [2, 5]]


def test_each_part_of_a_result_is_compared_by_its_own_size() -> None:
    large, small = np.array([1000.0]), np.array([1.0])
    assert error_of([large, small + 0.5], [large, small]) == 0.5
    assert error_of([large], [large, small]) == float("inf")


def test_many_small_values_count_beside_a_few_large_ones() -> None:
    want = np.concatenate([np.full(8, 4.0), np.full(4000, 0.03)])
    lost = np.where(want < 1, 0.0, want)
    assert np.abs(lost - want).max() / want.max() < 0.01
    assert error_of([lost], [want]) > 0.1


def test_what_was_compiled_for_a_case_is_not_kept_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda call: real(call, backend="eager"))
    peer = TorchPeer("compile", "cpu")
    limits = {"recompile_limit": 2, "fail_on_recompile_limit_hit": True}
    with torch._dynamo.config.patch(limits):
        for key in ("chain_48x64", "sum_rows_48x64", "softmax_48x64", "rms_norm_48x64"):
            case = replace(CASES[key], dtype="float32")
            peer.load(case, case.arrays()).calls[0]()


def test_a_step_with_a_repeated_state_is_the_same_everywhere() -> None:
    case = replace(CASES["step_llama"], dtype="float32")
    inputs = case.arrays()
    name = "state:head.weight"
    inputs = {**inputs, name: Repeated(np.arange(7, dtype=np.float32) / 7, inputs[name].shape)}
    losses = []
    for peer in (TgradPeer("cpu"), TorchPeer("float32", "cpu")):
        loaded = peer.load(case, inputs)
        losses.append([np.stack([loaded.read(loaded.calls[0]())[0] for _ in range(2)])])
    assert error_of(*losses) < 2e-4


def test_a_whole_run_by_its_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["gpu", "--help"])
    assert "--minutes" in capsys.readouterr().out
    path = dated_path("NVIDIA H100 80GB HBM3", "2026-01-31", tmp_path)
    assert path.name == "nvidia-h100-80gb-hbm3-2026-01-31.json"
    results.write(replace(made(), kind="gpu", not_reached=("softmax_48x64",)), path)
    text = page(tmp_path)
    assert "- not reached in the time of this run, 1 rows: softmax_48x64\n" in text
    assert text.index("## GPU: a processor") < text.index("## On a GPU")


def test_keys_are_unique_in_both_sizes() -> None:
    for sizes in ("small", "full"):
        keys = [c.key for c in cases_gpu.cases(sizes)]
        assert len(keys) == len(set(keys))
