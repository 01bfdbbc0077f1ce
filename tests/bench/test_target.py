"""Training to a target: same data for all, stops at the goal, or says that it was not reached."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import target
from bench.case import Arrays, Case
from bench.process import PeerSpec
from bench.tables import markdown
from bench.target import TASKS, Task, run_task, table_of
from tests.bench.running import OURS, spec

pytest.importorskip("torch")

STEPS = 8


def data(folder: Path) -> Arrays:
    """Digits that are told apart by one bright pixel each."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 40)
    images = 0.1 * random.standard_normal((40, 1, 28, 28), dtype=np.float32)
    images[np.arange(40), 0, 2 * labels, 2 * labels] = 5
    order = random.integers(0, 40, (STEPS, 4))
    return {
        "inputs": images, "targets": labels, "order": order,
        "held_inputs": images[:10], "held_targets": labels[:10],
    }  # fmt: skip


TASK = replace(TASKS[0], data=data, every=3, size=10)


def cases(sizes: str) -> list[Case]:
    """For the workers."""
    return [TASK.case]


def trained(task: Task, *others: PeerSpec) -> list[target.Reached]:
    peers = [OURS, *others]
    return run_task(task, Path(), peers, 1, lambda line: None, "tests.bench.test_target")


def test_the_goal_ends_it_and_both_walk_the_same_way() -> None:
    peers = spec("torch", "", "bench.peers.torch"), spec("right", "right")
    ours, theirs, other = trained(replace(TASK, measure="loss", goal=100.0), *peers)
    assert (ours.steps, theirs.steps) == (3, 3)
    assert ours.seconds is not None and theirs.seconds is not None
    assert ours.value == pytest.approx(theirs.value, rel=1e-2)
    assert other.reason == "Unsupported: no training is written for this peer"


def test_a_goal_that_is_not_reached_is_a_dash() -> None:
    found = trained(replace(TASK, goal=1.1))
    assert [r.steps for r in found] == [STEPS]
    assert found[0].seconds is None
    assert found[0].reason == f"not reached in {STEPS} steps"
    assert f"not reached in {STEPS} steps" in markdown(table_of(found))


def test_missing_data_is_named(tmp_path: Path) -> None:
    for task in TASKS:
        with pytest.raises(FileNotFoundError, match="is not there"):
            task.data(tmp_path)


def test_windows_of_text(tmp_path: Path) -> None:
    (tmp_path / "tinyshakespeare.txt").write_text("To be, or not to be. " * 200)
    found = target.text_data(tmp_path, steps=3)
    assert found["inputs"].shape == (3 * target.TEXT_BATCH, target.TEXT.context)
    np.testing.assert_array_equal(found["inputs"][:, 1:], found["targets"][:, :-1])
    assert found["held_inputs"].shape == (target.TEXT_HELD, target.TEXT.context)
