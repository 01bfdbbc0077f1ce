"""`Module.compile`: a module whose forward is a plan, and which stays what it is."""

from __future__ import annotations

import copy
import io
import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

import tgrad
from tgrad import nn
from tgrad.errors import ShapeError
from tgrad.tensor import Tensor


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 3)
        self.norm = nn.BatchNorm1d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.norm(self.first(x)).relu())


def steps(model: Any, library: Any, count: int = 4) -> list[Any]:
    """Losses of training, and what it gives in evaluation."""
    rng = np.random.default_rng(0)
    optimizer = library.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    found = []
    for _ in range(count):
        x = library.tensor(rng.standard_normal((5, 6)).astype(np.float32))
        optimizer.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    model.eval()
    with library.no_grad():
        found += [model(x * k).sum().item() for k in (1, 2, 3)]
    return found


def test_training_and_evaluation_are_those_of_the_module() -> None:
    plain = Net()
    compiled = copy.deepcopy(plain)
    assert compiled.compile() is None and isinstance(compiled, Net)
    assert steps(compiled, tgrad) == pytest.approx(steps(plain, tgrad), rel=1e-5)
    assert compiled.forward.traces >= 1 and list(compiled.state_dict()) == list(plain.state_dict())
    theirs = torch.nn.Sequential(
        torch.nn.Linear(6, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 3)
    )
    ours = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    state = {name: tgrad.tensor(value.numpy()) for name, value in theirs.state_dict().items()}
    ours.load_state_dict(state)
    ours.compile()
    assert steps(ours, tgrad) == pytest.approx(steps(theirs, torch), rel=1e-4)


def test_evaluation_is_one_plan() -> None:
    net = Net().eval()
    net.compile()
    with tgrad.no_grad():
        for _ in range(3):
            net(tgrad.ones(2, 6))
        assert net.forward.traces == 1
        net.train()
        net(tgrad.ones(2, 6))
        assert net.forward.traces == 2


def test_as_a_part_of_what_is_compiled() -> None:
    net = Net().eval()
    net.compile()
    with tgrad.no_grad():
        outer = tgrad.compile(lambda x: net(x) + 1)
        have = [outer(tgrad.ones(2, 6)).tolist() for _ in range(3)]
        np.testing.assert_allclose(have[2], net(tgrad.ones(2, 6)).numpy() + 1, rtol=1e-5)


def test_hooks_run_around_it() -> None:
    net, seen = Net().eval(), []
    net.compile()
    handle = net.register_forward_hook(lambda module, args, result: result * 0 + 7)
    net.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
    with tgrad.no_grad():
        assert set(net(tgrad.ones(2, 6)).reshape(-1).tolist()) == {7.0} and seen == [(2, 6)]
        handle.remove()
        assert set(net(tgrad.ones(2, 6)).reshape(-1).tolist()) != {7.0}


def test_options_are_those_of_compile() -> None:
    net = Net().eval()
    net.compile(dynamic={"x": {0: (1, 16)}})
    with tgrad.no_grad():
        for rows in (1, 5, 16):
            assert net(tgrad.ones(rows, 6)).shape == (rows, 3)
        assert net.forward.traces == 1
        with pytest.raises(ShapeError):
            net(tgrad.ones(17, 6))
        net.compile()  # anew, without the option
        assert net(tgrad.ones(17, 6)).shape == (17, 3)


def test_copies_and_files_are_not_compiled() -> None:
    net = Net().eval()
    net.compile()
    x = tgrad.ones(2, 6)
    with tgrad.no_grad():
        want = net(x).tolist()
        file = io.BytesIO()
        tgrad.save(net, file)
        file.seek(0)
        for twin in (
            copy.deepcopy(net),
            copy.copy(net),
            pickle.loads(pickle.dumps(net)),
            tgrad.load(file, weights_only=False),
        ):
            assert "forward" not in vars(twin)
            np.testing.assert_allclose(twin(x).numpy(), want, rtol=1e-5)
        net.first.weight.zero_()
        assert net(x).tolist() != want


def test_a_forward_of_its_own_is_kept() -> None:
    net = Net()
    net.forward = lambda x: x + 1
    twin = copy.copy(net)
    assert twin(tgrad.ones(1)).item() == 2.0
    net.compile()
    assert net(tgrad.ones(1)).item() == 2.0


def test_copies_of_compiled_functions_are_traced_anew() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        with tgrad.no_grad():
            return net(x)

    x, net = tgrad.ones(1, 6), Net().eval()
    net.run = tgrad.compile(partial(forward, net))
    want = net.run(x).tolist()
    twin = copy.deepcopy(net)
    with tgrad.no_grad():
        net.second.weight.zero_()
    assert twin.run.traces == 0 and twin.run(x).tolist() == want != net.run(x).tolist()
