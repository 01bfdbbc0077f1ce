"""Launches and memory of training steps: what is counted, and for whom."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench import looking
from bench.first_step import measure_first_steps
from bench.peers import StepCounts, StepMemory
from bench.planned import planned_step
from bench.steps import step_case
from bench.tables import markdown
from tests.bench.running import OURS, spec

CODE = """
def call(self, args):
    primals_1, = args
    buf0 = empty_strided_cpu((2, 2), (2, 1), torch.float32)
    cpp_fused_add_0(primals_1, buf0)
    extern_kernels.mm(buf0, reinterpret_tensor(buf0, (2, 2), (1, 2), 0), out=buf1)
    buf2 = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default(buf1, buf1, buf1)
    buf3 = buf2[0]
    assert_size_stride(buf3, (2, 2), (2, 1))
    buf4 = torch.ops.mkldnn._convolution_pointwise.default(buf3)
    del buf2
cpp_fused_add_0 = async_compile.cpp_pybinding(['const float*'])
"""


def test_calls_that_do_work_are_counted() -> None:
    pytest.importorskip("torch")
    from bench.peers.torch import calls_of

    assert calls_of(CODE) == 4


def test_launches_of_the_update_alone() -> None:
    plan = planned_step(step_case("step_mlp", "small"))
    counts = looking.launches_of(plan)
    assert counts.launches == plan.launches
    assert counts.bytes == plan.bytes
    assert counts.update == sum(k.name.startswith("sgd") for k in plan.kernels)


def test_memory_is_held_and_at_the_peak() -> None:
    plan = planned_step(step_case("step_mlp", "small"))
    memory = looking.memory_of(plan)
    weights = 784 * 512 + 512 * 512 + 512 * 10 + 512 + 512 + 10
    batch = 16 * 784 * 4 + 16 * 8
    numbers = 4  # the learning rate, which is an input
    assert memory.held == 2 * 4 * weights + batch + numbers
    assert memory.peak == memory.held + plan.peak_bytes


def test_pytorch_holds_the_same() -> None:
    pytest.importorskip("torch")
    case = step_case("step_mlp", "small")
    torch = spec("torch", "", "bench.peers.torch")
    (found,) = looking.look("peak_memory", "small", [case], [torch], 1)
    ours, theirs = found.found[looking.OURS], found.found["torch"]
    assert isinstance(ours, StepMemory) and isinstance(theirs, StepMemory)
    assert theirs.held == ours.held - 4
    assert theirs.peak > theirs.held


def test_a_peer_that_cannot_say_is_a_dash_with_a_reason() -> None:
    case = step_case("step_mlp", "small")
    (found,) = looking.look("count_launches", "small", [case], [spec("right", "right")], 1)
    assert isinstance(found.found[looking.OURS], StepCounts)
    text = markdown(looking.launch_table([found]))
    assert "right | – | – | – |" in text
    assert "- right (step_mlp): Unsupported: count_launches is not there for this peer" in text


def test_first_steps_of_fresh_processes() -> None:
    case = step_case("step_mlp", "small")
    absent = replace(spec("absent", "absent"), name="absent")
    ours, other = measure_first_steps("bench.steps", "small", [case], [OURS, absent], 1)
    assert ours.reason == ""
    assert ours.cold is not None and ours.cold_call is not None and ours.cold > ours.cold_call
    assert ours.warm is not None and ours.warm_call is not None
    assert (other.cold, other.reason) == (None, "ImportError: No module named 'absent'")
