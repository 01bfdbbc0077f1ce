"""Tensors that do not lie row by row under `torch.compile` with tgrad, such as images with channels
last: read where they are, and results lie as PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tests.front.torch_only import halved
from tgrad.interop import torch_replay
from tgrad.interop.torch_compile import backend


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 6, 3, stride=2),
    )  # fmt: skip


def images(last: bool) -> torch.Tensor:
    x = torch.randn(2, 3, 12, 10)
    return x.to(memory_format=torch.channels_last) if last else x


@pytest.mark.parametrize("last", [False, True])
def test_images_lie_as_in_pytorch(last: bool) -> None:
    model = network()
    if last:
        model = model.to(memory_format=torch.channels_last)
    run = torch.compile(model, backend=backend)
    for _ in range(3):
        x = images(last).requires_grad_()
        found = []
        for f in (run, model):
            model.zero_grad()
            x.grad = None
            y = f(x)
            y.square().sum().backward()
            found.append((y, x.grad, *(p.grad for p in model.parameters())))
        for mine, theirs in zip(*found):
            assert mine is not None and theirs is not None
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
        assert found[0][0].stride() == found[1][0].stride()


def test_later_calls_copy_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network().eval().to(memory_format=torch.channels_last)
    run = torch.compile(model, backend=backend)
    copied: list[torch.Tensor] = []
    plain = torch_replay.lies_plainly

    def noted(t: torch.Tensor) -> bool:
        copied.extend([] if plain(t) else [t])
        return plain(t)

    with torch.no_grad():
        run(images(True))
        monkeypatch.setattr(torch_replay, "lies_plainly", noted)
        x = images(True)
        torch.testing.assert_close(run(x), model(x), rtol=1e-4, atol=1e-5)
    assert not copied


@pytest.mark.parametrize("first", [False, True])
def test_another_layout_than_at_first(first: bool) -> None:
    run = torch.compile(lambda x: x * 2 + x.amax(1, keepdim=True), backend=backend, dynamic=False)
    for last in (first, not first, first):
        x = images(last)
        torch.testing.assert_close(run(x), x * 2 + x.amax(1, keepdim=True))


def test_transposed_results_and_arguments() -> None:
    def function(x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = x @ w
        return y.t(), y.t().exp(), x.t(), y.view(2, 2, 5).permute(2, 0, 1)

    run = torch.compile(function, backend=backend)
    x, w = torch.randn(4, 6), torch.randn(5, 6)
    for given in ((x, w.t()), (x.t().contiguous().t(), w.t()), (x, w.t().contiguous())):
        for _ in range(2):
            for mine, theirs in zip(run(*given), function(*given)):
                torch.testing.assert_close(mine, theirs)


def test_weights_with_channels_last_are_state() -> None:
    """They are bound once; a step of the optimizer changes them in place."""
    model = network().to(memory_format=torch.channels_last)
    run = torch.compile(model, backend=backend)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses: dict[str, list[Any]] = {"mine": [], "theirs": []}
    start = {k: v.clone() for k, v in model.state_dict().items()}
    for name, f in (("mine", run), ("theirs", model)):
        model.load_state_dict(start)
        torch.manual_seed(1)
        for _ in range(5):
            loss = f(images(True)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[name].append(loss.item())
    torch.testing.assert_close(*(torch.tensor(v) for v in losses.values()), rtol=1e-4, atol=1e-5)


VIEWS: dict[str, Callable[[torch.Tensor], Any]] = {
    "expanded": lambda x: x[:, None].expand(-1, 3, *x.shape[1:]),
    "a column": lambda x: x[:, -1],
    "every second row": lambda x: x[1::2],
    "transposed part": lambda x: x.mT[1:],
    "in other sizes": lambda x: x.view(-1),
    "of another result": lambda x: (y := x * 2, y.mT, y[:, 1:]),
    "of a part": lambda x: (x[1:], x[1:].mT),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize("name", VIEWS)
def test_views_in_sizes_that_change(name: str, dtype: torch.dtype) -> None:
    """PyTorch reads an argument's memory by the strides of the result that is a view of it."""
    run = torch.compile(VIEWS[name], backend="tgrad", fullgraph=True, dynamic=True)
    for rows, columns in ((4, 6), (5, 7), (9, 3)):
        wide = torch.randn(rows + 1, columns + 2, dtype=dtype)
        for x in (wide[1:, 1:-1].contiguous(), wide[1:, 1:-1]) if "other" not in name else (wide,):
            found, want = run(x), VIEWS[name](x)
            for mine, theirs in zip(
                *((r if isinstance(r, tuple) else (r,)) for r in (found, want))
            ):
                torch.testing.assert_close(mine, theirs)
                assert mine.stride() == theirs.stride()
            if not isinstance(found, tuple):
                assert found.data_ptr() == want.data_ptr()


def test_views_of_arguments_beside_what_pytorch_runs() -> None:
    """Of an argument between whose elements others lie, in sizes that change."""

    def function(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return x[:, -1], halved(x)

    options = {"fallback": True}
    with pytest.warns(UserWarning, match="PyTorch runs tgradtests.halved"):
        run = torch.compile(function, backend="tgrad", dynamic=True, options=options)
        for rows in (4, 5):
            x = torch.randn(rows, 9)[:, 1:-1]
            for mine, theirs in zip(run(x), function(x)):
                torch.testing.assert_close(mine, theirs)


def test_complex_results_lie_as_pytorchs() -> None:
    def function(x: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (
            torch.fft.fft(x, dim=0),
            (z * 2).permute(2, 0, 1),
            torch.stft(x[0], 4, window=torch.ones(4), return_complex=True),
        )

    run = torch.compile(function, backend=backend)
    x, z = torch.randn(3, 16), torch.randn(2, 3, 4, dtype=torch.complex64)
    for given in (z, z.permute(1, 2, 0), z.conj().permute(1, 2, 0)):
        for _ in range(2):
            for mine, theirs in zip(run(x, given), function(x, given)):
                torch.testing.assert_close(mine, theirs)
                assert mine.stride() == theirs.stride()
