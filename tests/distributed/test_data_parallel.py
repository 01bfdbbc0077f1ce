"""DistributedDataParallel and SyncBatchNorm beside PyTorch's, in two processes."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tgrad import nn
from tgrad.errors import DistributedError, TraceError, UnsupportedError
from tgrad.nn.parallel import DistributedDataParallel

ROOT = Path(__file__).resolve().parents[2]


def network(library: Any, seed: int) -> Any:
    """A small convnet of either library; of each seed other values."""
    modules = library.nn
    net = modules.Sequential(
        modules.Conv2d(3, 8, 3, padding=1), modules.BatchNorm2d(8), modules.ReLU(),
        modules.Flatten(), modules.Linear(8 * 36, 32), modules.ReLU(), modules.Linear(32, 5),
    )  # fmt: skip
    random = np.random.default_rng(seed)
    values = {
        name: random.standard_normal(tuple(t.shape)).astype(np.float32) / 8
        for name, t in net.state_dict().items()
        if "num_batches" not in name
    }
    values["1.running_var"] = abs(values["1.running_var"]) + 1
    net.load_state_dict({k: library.tensor(v) for k, v in values.items()}, strict=False)
    return net


def batch(rank: int, step: int, size: int = 6) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng([rank, step])
    images = random.standard_normal((size, 3, 6, 6)).astype(np.float32)
    return images, random.integers(0, 5, size)


def values_of(module: Any) -> dict[str, np.ndarray]:
    return {name: t.detach().numpy().copy() for name, t in module.state_dict().items()}


def _train(rank: int, library: str, mode: str) -> Any:
    import torch
    from torch.nn.parallel import DistributedDataParallel as Theirs

    lib: Any = tgrad if library == "tgrad" else torch
    wrap: Any = DistributedDataParallel if lib is tgrad else Theirs
    model = wrap(network(lib, rank), bucket_cap_mb=0.01)
    optimizer = lib.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(images: Any, labels: Any) -> Any:
        optimizer.zero_grad()
        loss = lib.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        lib.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    def accumulate(images: Any, labels: Any) -> Any:
        optimizer.zero_grad()
        with model.no_sync():
            lib.nn.functional.cross_entropy(model(images[:2]), labels[:2]).backward()
        loss = lib.nn.functional.cross_entropy(model(images[2:]), labels[2:])
        loss.backward()
        optimizer.step()
        return loss

    run: Any = accumulate if "accumulated" in mode else step
    if lib is tgrad and "compiled" in mode:
        run = tgrad.compile(run)
    losses = []
    for number in range(5):
        losses.append(run(*map(lib.tensor, batch(rank, number))).item())
    model.eval()
    with lib.no_grad():
        scores = model(lib.tensor(batch(rank, 9)[0])).numpy()
    return losses, scores, values_of(model)


@pytest.mark.parametrize("mode", ["plain", "compiled", "accumulated", "compiled accumulated"])
def test_training_is_that_of_pytorch(pair, mode) -> None:
    results, known = pair.run(_train, "tgrad", mode), pair.run(_train, "torch", mode)
    for (losses, scores, values), (their_losses, their_scores, theirs) in zip(results, known):
        np.testing.assert_allclose(losses, their_losses, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(scores, their_scores, rtol=1e-4, atol=1e-5)
        assert values.keys() == theirs.keys() and "module.0.weight" in values
        for name, array in values.items():
            np.testing.assert_allclose(array, theirs[name], rtol=1e-4, atol=1e-5, err_msg=name)
    for name, array in results[0][2].items():
        if "running" not in name:
            np.testing.assert_array_equal(array, results[1][2][name], err_msg=name)


# -- parameters that a backward leaves out -------------------------------------------------------


def _copies_and_parts(rank: int) -> list[Any]:
    model = DistributedDataParallel(nn.Linear(2, 1, bias=False))
    x = tgrad.full((1, 2), rank + 1.0)
    twin = copy.deepcopy(model)
    twin(x).sum().backward()
    found = [twin.module.weight.grad.tolist(), model.module.weight.grad]
    forward = tgrad.compile(model)  # the graph of backward is made outside
    for _ in range(3):
        forward(x).sum().backward()
    found.append(model.module.weight.grad.tolist())

    @tgrad.compile
    def step(x: tgrad.Tensor) -> None:
        model(x).sum().backward()

    model.module.weight.grad = None
    for number in range(6):
        if number % 3 == 2:
            step(x)
        else:
            with model.no_sync():
                step(x)
    return [*found, model.module.weight.grad.tolist(), len(step.plans)]


def test_copies_parts_and_steps_without_exchange(pair) -> None:
    """Means of 1 and 2; three times that, and twice three."""
    three, six = [[4.5, 4.5]], [[9.0, 9.0]]
    for found in pair.run(_copies_and_parts):
        assert found[:4] == [[[1.5, 1.5]], None, three, six] and found[4] <= 5


class Branches(nn.Module):
    """Uses one of three layers, and never the last."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 2, bias=False) for _ in range(3)])

    def forward(self, x: tgrad.Tensor, branch: int) -> tgrad.Tensor:
        return self.layers[branch](x).sum()


def _unused(rank: int) -> list[Any]:
    model = DistributedDataParallel(Branches(), find_unused_parameters=True)
    x = tgrad.full((1, 2), rank + 1.0)
    model(x, rank).backward()
    grads = [layer.weight.grad for layer in model.module.layers]
    strict = DistributedDataParallel(Branches())
    with pytest.raises(DistributedError, match=r"leaves out 2 parameters: layers\.2\.weight"):
        strict(x, 0).backward()
    with pytest.raises(TraceError, match="find_unused_parameters=True asks other processes"):
        tgrad.compile(lambda x: model(x, 0).backward())(x)
    model.zero_grad()
    model(x, 0).backward()  # after errors all is as before
    again = model.module.layers[0].weight.grad
    return [*(None if g is None else g.tolist() for g in grads), again.tolist()]


def test_parameters_that_are_left_out(pair) -> None:
    mean, half = [[1.5] * 2] * 2, [[0.5] * 2] * 2
    assert pair.run(_unused) == [[half, [[1.0] * 2] * 2, None, mean]] * 2


def _mistakes(rank: int) -> None:
    with pytest.raises(DistributedError, match=r"processes 0 and 1 differ: \('weight', \(2, 2\)"):
        DistributedDataParallel(nn.Linear(2, 2 + rank))
    with pytest.raises(DistributedError, match=r"differ: \('2.weight'|differ: 2 parameters and 4"):
        layers = [nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)]
        DistributedDataParallel(nn.Sequential(*layers[: 1 + 2 * rank]))
    with pytest.raises(DistributedError, match="without parameters that require gradients"):
        DistributedDataParallel(nn.ReLU())
    with pytest.raises(UnsupportedError, match=r"device_ids=\[0, 1\]"):
        DistributedDataParallel(nn.Linear(2, 2), device_ids=[0, 1])
    with pytest.raises(TypeError, match="no argument 'find_unused'"):
        DistributedDataParallel(nn.Linear(2, 2), find_unused=False)
    with pytest.raises(UnsupportedError, match="mixed_precision"):
        DistributedDataParallel(nn.Linear(2, 2), mixed_precision=tgrad.bfloat16)


def test_mistakes_say_what_to_do(pair) -> None:
    pair.run(_mistakes)


def _inputs_move(rank: int) -> list[str]:
    class Looks(nn.Linear):
        def forward(self, given: dict[str, Any], *, scale: tgrad.Tensor) -> tgrad.Tensor:
            seen.extend(str(t.device) for t in (*given["x"], scale))
            return super().forward(given["x"][0]) * scale

    seen: list[str] = []
    model = DistributedDataParallel(Looks(2, 2), device_ids=["cpu"])
    x = tgrad.ones(1, 2, device="numpy")
    model({"x": [x, 3 * x]}, scale=tgrad.ones(1, device="numpy")).sum().backward()
    assert model.module.weight.grad is not None
    return seen


def test_inputs_move_to_the_process_s_device(pair) -> None:
    assert pair.run(_inputs_move) == [["cpu"] * 3] * 2


# -- SyncBatchNorm -------------------------------------------------------------------------------

CASES = {
    "plain": {},
    "no momentum": {"momentum": None},
    "no scales": {"affine": False},
    "no running": {"track_running_stats": False},
}


def _synchronised(rank: int, options: dict[str, Any], is_compiled: bool) -> list[np.ndarray]:
    norm = nn.SyncBatchNorm(4, **options)
    if norm.weight is not None:
        with tgrad.no_grad():
            norm.weight.copy_(tgrad.arange(4) + 0.5)
    random = np.random.default_rng(rank)
    found = []

    def step(x: tgrad.Tensor, g: tgrad.Tensor) -> Any:
        x = x.detach().requires_grad_()
        y = norm(norm(x) * 2 + x)
        (y * g).sum().backward()
        return y, x.grad

    run = tgrad.compile(step) if is_compiled else step
    for _ in range(2):
        x, g = (
            tgrad.tensor(random.standard_normal((3 + rank, 4, 5)) * (1 + rank) + rank)
            for _ in range(2)
        )
        found += [t.numpy() for t in run(x.float(), g.float())]
    norm.eval()
    found.append(norm(x.float()).detach().numpy())
    state = [t for _, t in sorted(norm.state_dict().items())]
    grads = [p.grad for p in norm.parameters()]
    return [*found, *(t.numpy() for t in (*state, *grads))]


@pytest.mark.parametrize("is_compiled", [False, True])
@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_statistics_are_those_of_all_processes(pair, options, is_compiled) -> None:
    """Beside BatchNorm of PyTorch on the whole batch in one process."""
    import torch

    results = pair.run(_synchronised, options, is_compiled)
    norm = torch.nn.BatchNorm1d(4, **options)
    if norm.weight is not None:
        with torch.no_grad():
            norm.weight.copy_(torch.arange(4) + 0.5)
    draws = [np.random.default_rng(rank) for rank in range(2)]
    place = 0
    for _ in range(2):
        parts = [
            [random.standard_normal((3 + r, 4, 5)) * (1 + r) + r for _ in range(2)]
            for r, random in enumerate(draws)
        ]
        x, g = (torch.tensor(np.concatenate([p[i] for p in parts])).float() for i in range(2))
        x.requires_grad_()
        y = norm(norm(x) * 2 + x)
        (y * g).sum().backward()
        for found, known in zip((0, 1), (y.detach(), x.grad)):
            whole = np.concatenate([result[place + found] for result in results])
            np.testing.assert_allclose(whole, known.numpy(), rtol=1e-4, atol=2e-5)
        place += 2
    norm.eval()
    if norm.track_running_stats:
        whole = np.concatenate([result[place] for result in results])
        known = norm(x).detach().numpy()
        np.testing.assert_allclose(whole, known, rtol=1e-4, atol=2e-5)
    state = [t.numpy() for _, t in sorted(norm.state_dict().items())]
    grads = [p.grad.numpy() for p in norm.parameters()]
    for number, known in enumerate((*state, *grads), start=place + 1):
        ours = [result[number] for result in results]
        total = sum(ours) if number > place + len(state) else ours[0]
        np.testing.assert_allclose(total, known, rtol=1e-4, atol=1e-4)


def test_converting_keeps_parameters_and_state() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.BatchNorm1d(3, eps=0.1)), nn.ReLU())
    net[1].eval()
    made = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    norm = made[1][0]
    assert type(norm) is nn.SyncBatchNorm and norm.eps == 0.1 and not norm.training
    assert made is net and list(net.state_dict()) == list(made.state_dict())
    x = tgrad.randn(4, 2)
    known = F.batch_norm(net[0](x), norm.running_mean, norm.running_var, eps=0.1).relu()
    np.testing.assert_allclose(made(x).detach().numpy(), known.detach().numpy(), rtol=1e-6)


# -- torch.compile -------------------------------------------------------------------------------


def _through_pytorch(rank: int, is_compiled: bool) -> Any:
    import torch
    from torch.nn.parallel import DistributedDataParallel as Theirs

    model: Any = Theirs(network(torch, rank))
    run: Any = torch.compile(model, backend="tgrad") if is_compiled else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for number in range(3):
        images, labels = map(torch.tensor, batch(rank, number))
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(run(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, values_of(model)


def test_pytorch_s_own_wrapper_under_torch_compile(pair) -> None:
    found, known = pair.run(_through_pytorch, True), pair.run(_through_pytorch, False)
    for (losses, values), (their_losses, theirs) in zip(found, known):
        np.testing.assert_allclose(losses, their_losses, rtol=1e-5, atol=1e-6)
        for name, array in values.items():
            np.testing.assert_allclose(array, theirs[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_the_example(tmp_path) -> None:
    pytest.importorskip("sklearn")
    torchrun = "from torch.distributed.run import main; main()"
    command = [sys.executable, "-c", torchrun, "--nproc-per-node", "2", "--standalone",
               "examples/data_parallel.py", "--steps", "60"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    losses = [float(line.split()[-1]) for line in done.stdout.splitlines() if "loss" in line]
    assert len(losses) == 2 and losses[1] < losses[0] / 4
    (accuracy,) = (line for line in done.stdout.splitlines() if "accuracy" in line)
    assert float(accuracy.split()[-1][:-1]) > 90
