"""Training steps over a range of sizes: as with PyTorch, in results and in what they leave."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
from tests.compile.dynamic_checking import poison as poison
from tests.compile.dynamic_steps import Program


@pytest.mark.parametrize("seed", range(16))
def test_random_training_steps(seed: int) -> None:
    program = Program(seed)
    mine, theirs = program.build(tgrad), program.build(torch)
    compiled = tgrad.compile(mine.run, dynamic=program.dynamic)
    for call, shape in enumerate(program.shapes):
        found = compiled(*program.arguments(tgrad, call))
        wanted = theirs.run(*program.arguments(torch, call))
        for step in (mine, theirs):
            step.schedule()
        pairs = [
            (f"result {i}", a.numpy(), b.numpy()) for i, (a, b) in enumerate(zip(found, wanted))
        ]
        state, other = mine.state(), theirs.state()
        pairs += [(name, state[name], other[name]) for name in state if name in other]
        for name, ours, expected in pairs:
            message = f"{name} of call {call}, {shape}, of {program}"
            np.testing.assert_allclose(ours, expected, 1e-6, 1e-6, err_msg=message)
    assert compiled.traces == 1
