"""One plan for a range of sizes: equal to the uncompiled result at every size, traced once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import tgrad
import tgrad.nn.functional as F
from tests.compile.dynamic_checking import SIZES, check_range, numbers
from tests.compile.dynamic_checking import poison as poison
from tests.training.gpt import VOCABULARY, gpt
from tgrad import nn, optim
from tgrad.runtime.storage import Storage

QUICK = ("numpy", "cpu")
Case = Callable[[tgrad.Tensor], tgrad.Tensor]


def weights(*shape: int, device: Any) -> tgrad.Tensor:
    return numbers(99, *shape, device=str(device))


CASES: dict[str, tuple[Case, tuple[int, ...], tuple[int, ...]]] = {
    "elementwise": (lambda x: (x * 2 + 1).exp() / 3, (0, 5), (0,)),
    "softmax over it": (lambda x: F.softmax(x, -1), (3, 0), (1,)),
    "softmax beside it": (lambda x: F.softmax(x, 1), (0, 3), (0,)),
    "mean of all": (lambda x: x.mean(), (0, 3), (0,)),
    "mean over it": (lambda x: x.mean(1), (2, 0, 3), (1,)),
    "biased variance": (lambda x: x.var((0, 1), correction=0), (2, 0, 3), (1,)),
    "largest and where": (lambda x: x.amax(1) + x.argmin(1), (2, 0, 3), (1,)),
    "product": (lambda x: x.prod(1), (2, 0, 3), (1,)),
    "any": (lambda x: (x > 2).any(1), (2, 0, 3), (1,)),
    "logsumexp": (lambda x: x.logsumexp(1), (3, 0, 5), (1,)),
    "layer norm": (lambda x: F.layer_norm(x, (5,)), (3, 0, 5), (1,)),
    "layer norm over it": (lambda x: F.layer_norm(x, (x.shape[1],)), (3, 0), (1,)),
    "matmul of rows": (lambda x: x @ weights(5, 4, device=x.device), (0, 5), (0,)),
    "matmul over it": (lambda x: x.T @ x, (0, 5), (0,)),
    "batched matmul": (lambda x: x @ x.mT, (3, 0, 5), (1,)),
    "linear of flattened rows": (
        lambda x: F.linear(x.reshape(-1, 5), weights(4, 5, device=x.device)), (3, 0, 5), (1,)),
    "flattened and back": (
        lambda x: (x.reshape(-1, 5) * 2).reshape(3, x.shape[1], 5), (3, 0, 5), (1,)),
    "heads": (
        lambda x: x.reshape(2, x.shape[1], 2, 3).transpose(1, 2).flatten(2), (2, 0, 6), (1,)),
    "cross entropy": (
        lambda x: F.cross_entropy(x.reshape(-1, 5), x.argmax(-1).reshape(-1)), (3, 0, 5), (1,)),
    "causal attention": (
        lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True), (2, 3, 0, 8), (2,)),
    "first": (lambda x: x[:, 0], (3, 0, 5), (1,)),
    "last": (lambda x: x[:, -1], (3, 0, 5), (1,)),
    "without the last": (lambda x: x[:, :-1].sum(1), (3, 0, 5), (1,)),
    "shifted": (lambda x: x[:, 1:].exp(), (3, 0, 5), (1,)),
    "arange": (
        lambda x: x + tgrad.arange(x.shape[1], device=x.device).unsqueeze(1), (3, 0, 5), (1,)),
    "arange from": (
        lambda x: tgrad.arange(2, x.shape[1] + 2, device=x.device) * x.shape[1], (3, 0), (1,)),
    "zeros and ones": (
        lambda x: (tgrad.zeros(3, x.shape[1], device=x.device) + tgrad.ones_like(x)).sum(),
        (3, 0), (1,)),
    "size as a number": (lambda x: x.sum() * x.shape[0] + 1.0 / x.shape[0], (0, 3), (0,)),
    "rows of a table": (
        lambda x: x + weights(64, 5, device=x.device)[: x.shape[1]], (3, 0, 5), (1,)),
    "rows chosen by index": (
        lambda x: weights(64, 5, device=x.device)[x.argmax(1)], (0, 5), (0,)),
    "cat": (
        lambda x: tgrad.cat([weights(3, 2, 5, device=x.device), x, x * 2], 1), (3, 0, 5), (1,)),
    "stack": (lambda x: tgrad.stack([x, x * 2], 1), (3, 0, 5), (1,)),
    "pad": (lambda x: F.pad(x, (0, 0, 1, 2), value=3.0), (3, 0, 5), (1,)),
    "flip": (lambda x: x.flip(1, 2) * x, (3, 0, 5), (1,)),
    "convolution along it": (
        lambda x: F.conv1d(x, weights(4, 3, 5, device=x.device), padding=2), (2, 3, 0), (2,)),
    "windows": (lambda x: x.unfold(1, 1, 1).sum(-1), (3, 0, 5), (1,)),
    "tril": (lambda x: (x @ x.mT).tril(), (2, 0, 8), (1,)),
    "two merged axes": (lambda x: F.softmax(x.reshape(-1, 5), 0).amax(0), (0, 0, 5), (0, 1)),
    "batch norm": (
        lambda x: F.batch_norm(x, None, None, training=True), (0, 3, 4), (0,)),
    "assignment to a slice": (
        lambda x: _assigned(x), (3, 0, 5), (1,)),
    "repeat": (lambda x: x.repeat(1, 2, 1), (3, 0, 5), (1,)),
    "convolution of rows": (
        lambda x: F.conv2d(x, weights(4, 2, 3, 3, device=x.device), padding=1), (0, 2, 6, 6), (0,)),
}  # fmt: skip


def _written(x: tgrad.Tensor) -> tgrad.Tensor:
    y = x * 1
    y[:, :1].copy_(x[:, -1:] * 3)
    y[:, 0, 1:3].mul_(2)
    return y


def _assigned(x: tgrad.Tensor) -> tgrad.Tensor:
    y = x * 1
    y[:, -1] = 2.0
    y[:, 0:1, 1:3] = x[:, -1:, 1:3] * 3
    return y


def test_an_argument_written_through_a_view() -> None:
    def write(x: tgrad.Tensor) -> None:
        x[:1].copy_(tgrad.full((1, 3), 7.0))

    compiled = tgrad.compile(write, dynamic={"x": {0: (1, 8)}})
    for n in (3, 1, 8):
        x, wanted = numbers(n, n, 3, device="cpu"), numbers(n, n, 3, device="cpu")
        compiled(x)
        write(wanted)
        np.testing.assert_array_equal(x.numpy(), wanted.numpy())
    assert compiled.traces == 1


@pytest.mark.devices(*QUICK)
@pytest.mark.parametrize("name", CASES)
def test_a_range_of_sizes(name: str, device: str) -> None:
    function, shape, axes = CASES[name]
    check_range(function, shape, axes, device)


@pytest.mark.parametrize("name", ["softmax over it", "matmul over it", "causal attention"])
def test_in_the_interpreter_of_triton(name: str) -> None:
    pytest.importorskip("triton")
    function, shape, axes = CASES[name]
    check_range(function, shape, axes, "interpret", (1, 7))


GRADIENTS: dict[str, Case] = {
    "softmax": lambda y: F.softmax(y, 1) ** 2,
    "log softmax": lambda y: F.log_softmax(y, 1) ** 2,
    "largest": lambda y: y.amax(1),
    "variance": lambda y: y.var((0, 1)),
    "centred": lambda y: (y - y.mean(1, keepdim=True)) ** 2,
    "norm": lambda y: y.norm(dim=1),
    "slices": lambda y: y[:, 1:] * 2 + y[:, :-1] ** 2,
    "last": lambda y: y[:, -1] ** 2,
    "pad": lambda y: F.pad(y, (0, 0, 1, 2)) ** 3,
    "cat": lambda y: tgrad.cat([y, y * y, y[:, :1]], 1) ** 2,
    "attention": lambda y: F.scaled_dot_product_attention(y, y, y, is_causal=True) ** 2,
    "triangle": lambda y: (y @ y.mT).tril() @ y,
    "merged": lambda y: y.reshape(-1, 2).exp().mean(0) ** 2,
    "repeated": lambda y: y.repeat_interleave(2, 1) ** 2,
    "layer norm": lambda y: F.layer_norm(y, (4,)) ** 2,
    "flipped": lambda y: y.flip(1, 2) * y,
    "running sum": lambda y: y.cumsum(1) * y,
    "convolved": lambda y: F.conv1d(y.mT, weights(3, 4, 3, device=y.device), padding=1) ** 2,
    "gathered": lambda y: y.gather(1, y.argmax(1, keepdim=True)) ** 2,
    "written": lambda y: _written(y) ** 2,
    "ones": lambda y: y * tgrad.ones(2, y.shape[1], 4, device=y.device).sum(1, keepdim=True),
}


@pytest.mark.devices(*QUICK)
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_do_not_see_the_padding(name: str, device: str) -> None:
    weights = {d: numbers(5, 4, 4, device=d).requires_grad_() for d in ("numpy", device)}

    def gradient(x: tgrad.Tensor) -> tgrad.Tensor:
        w = weights[x.device.type]
        return tgrad.autograd.grad(GRADIENTS[name](x @ w).sum(), [w])[0]

    check_range(gradient, (2, 0, 4), (1,), device, (2, 5, 32), 2e-4)


def seeded_gpt(device: str) -> nn.Module:
    """A model of two layers whose weights are the same on every device."""
    tgrad.manual_seed(0)
    model: nn.Module = gpt(nn, F, tgrad, layers=2).to(device)
    return model


@pytest.mark.devices(*QUICK)
def test_a_gpt_of_any_length(device: str) -> None:
    reference, model = seeded_gpt("numpy"), seeded_gpt(device)
    compiled = tgrad.compile(model, dynamic={"tokens": {1: (1, 32)}})
    rng = np.random.default_rng(1)
    with tgrad.no_grad():
        for n in SIZES:
            tokens = tgrad.tensor(rng.integers(0, VOCABULARY, (2, n)), device=device)
            wanted, found = reference(tokens.to("numpy")), compiled(tokens)
            assert found.shape == (2, n, VOCABULARY)
            np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-5, atol=1e-5)
    assert (compiled.traces, len(compiled.plans)) == (1, 1)


@pytest.mark.devices(*QUICK)
def test_training_a_gpt_on_batches_of_many_sizes(device: str) -> None:
    rows, length = tgrad.Dim("rows", 1, 4), tgrad.Dim("length", 1, 32)
    axes = {0: rows, 1: length}
    models = [seeded_gpt("numpy"), seeded_gpt(device)]
    steps = [_step(m, optim.SGD(m.parameters(), lr=0.1, momentum=0.9)) for m in models]
    compiled = tgrad.compile(steps[1], dynamic={"tokens": axes, "targets": axes})
    rng = np.random.default_rng(1)
    for shape in ((2, 7), (4, 32), (1, 1), (3, 31), (2, 2), (4, 16)):
        tokens, targets = (
            tgrad.tensor(rng.integers(0, VOCABULARY, shape), device=device) for _ in range(2)
        )
        wanted = steps[0](tokens.to("numpy"), targets.to("numpy"))
        found = compiled(tokens, targets)
        assert abs(found.item() - wanted.item()) < 1e-4
    for mine, theirs in zip(models[1].parameters(), models[0].parameters()):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-4, atol=1e-4)
    assert (compiled.traces, len(compiled.plans)) == (1, 1)


def _step(model: nn.Module, optimizer: Any) -> Callable[..., tgrad.Tensor]:
    def step(tokens: tgrad.Tensor, targets: tgrad.Tensor) -> tgrad.Tensor:
        loss = model(tokens, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


@pytest.mark.devices(*QUICK)
def test_decoding_with_a_cache_of_keys_and_values(device: str) -> None:
    heads, width, length = 2, 8, 8
    query, key, value = (numbers(i, heads * width, heads * width, device=device) for i in range(3))
    x = numbers(4, 1, length, heads * width, device=device)

    def split(t: tgrad.Tensor) -> tgrad.Tensor:
        return t.reshape(1, -1, heads, width).transpose(1, 2)

    q, k, v = (split(x @ w) for w in (query, key, value))
    wanted = F.scaled_dot_product_attention(q, k, v, is_causal=True).numpy()
    keys, values = (tgrad.zeros(1, heads, length, width, device=device) for _ in range(2))

    @tgrad.compile(dynamic={"position": (0, length - 1)})
    def decode(token: tgrad.Tensor, position: int) -> tgrad.Tensor:
        keys[:, :, position : position + 1] = split(token @ key)
        values[:, :, position] = split(token @ value)[:, :, 0]
        seen = keys[:, :, : position + 1], values[:, :, : position + 1]
        return F.scaled_dot_product_attention(split(token @ query), *seen)

    for position in range(length):
        token = tgrad.tensor(x.numpy()[:, position : position + 1], device=device)
        found = decode(token, position).numpy()
        np.testing.assert_allclose(found[:, :, 0], wanted[:, :, position], rtol=1e-5, atol=1e-5)
    assert (decode.traces, len(decode.plans)) == (1, 1)


def test_a_cache_that_grows() -> None:
    compiled = tgrad.compile(
        lambda past, new: tgrad.cat([past, new], 1), dynamic={"past": {1: (1, 8)}}
    )
    for n in (5, 1, 8):
        past, new = numbers(n, 2, n, device="cpu"), numbers(0, 2, 1, device="cpu")
        wanted = np.concatenate([past.numpy(), new.numpy()], 1)
        np.testing.assert_array_equal(compiled(past, new).numpy(), wanted)
    assert compiled.traces == 1


def test_a_branch_on_the_size_is_a_guard() -> None:
    def f(x: tgrad.Tensor) -> tgrad.Tensor:
        return x * 2 if x.shape[0] > 4 else x * 3

    compiled = tgrad.compile(f, dynamic={"x": {0: (1, 8)}})
    for n, traces in ((2, 1), (4, 1), (5, 2), (8, 2), (1, 2)):
        assert compiled(tgrad.ones(n)).tolist() == [2.0 if n > 4 else 3.0] * n
        assert compiled.traces == traces


OF_REPEATS: dict[str, Any] = {
    "of a parameter": lambda x, w: w.repeat_interleave(2, 0) * 2 + w.repeat(2, 1),
    "expanded and joined": lambda x, w: w.unsqueeze(1).expand(3, 2, 4).reshape(6, 4),
    "of an argument": lambda x, w: x[:, 0].repeat_interleave(3, -1) / w[0, 0],
    "both": lambda x, w: x.repeat_interleave(3, 0)[:, 0] * w.sum(1).repeat(x.shape[0]),
}


@pytest.mark.parametrize("name", OF_REPEATS)
def test_gradients_of_repeats(name: str) -> None:
    """They raised, in traces of a range of sizes, be the repeats of fixed ones."""

    def step(m: Any, x: Any, w: Any) -> Any:
        y = OF_REPEATS[name](x, w)
        (gradient,) = m.autograd.grad((y * y.detach().cos()).sum(), [w])
        return y.detach(), gradient

    mine = numbers(0, 3, 4, device="numpy").requires_grad_()
    theirs = torch.tensor(mine.detach().numpy(), requires_grad=True)
    compiled = tgrad.compile(lambda x: step(tgrad, x, mine), dynamic={"x": {0: (1, 8)}})
    for n in (5, 1, 8):
        x = numbers(n, n, 4, device="numpy")
        for found, wanted in zip(compiled(x), step(torch, torch.tensor(x.numpy()), theirs)):
            np.testing.assert_allclose(found.numpy(), wanted.numpy(), 1e-5, 1e-5)


AT_ONE_SIZE: dict[str, tuple[int, Any]] = {
    "sum": (3, lambda m, x: x + m.ones(3)),
    "product": (3, lambda m, x: m.ones(2, 3) @ x),
    "stack": (3, lambda m, x: m.stack([x, m.ones(3)])),
    "expand": (1, lambda m, x: x.expand(4)),
    "argument": (3, lambda m, x: x.reshape(3, 1).expand(3, 2)[:, 0]),
}


@pytest.mark.parametrize("name", AT_ONE_SIZE)
def test_a_branch_for_one_size_sees_a_number(name: str) -> None:
    """What has that size otherwise fits what is symbolic; it raised a ShapeError."""
    only, branch = AT_ONE_SIZE[name]

    def f(m: Any, x: Any) -> Any:
        return branch(m, x) if x.shape[0] == only else x * 2

    compiled = tgrad.compile(lambda x: f(tgrad, x), dynamic={"x": {0: (1, 8)}})
    found, wanted = [], []
    for n in (only, 5, only, 8):
        x = numbers(n, n, device="cpu")
        found.append(compiled(x))
        wanted.append(f(torch, torch.tensor(x.numpy())))
    for mine, theirs in zip(found, wanted):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())
    assert compiled.traces == 2


def test_what_drops_all_but_the_last_rows_takes_one_row() -> None:
    """That x[-2:] is all of it leaves one row, and a norm keeps an axis of one."""
    compiled = tgrad.compile(lambda x: F.normalize(x + x[-2:].sum(), dim=0),
                             dynamic={"x": {0: (1, 8)}})  # fmt: skip
    for n in (1, 5):
        x = numbers(n, n, device="numpy")
        wanted = torch.tensor(x.numpy())
        wanted = torch.nn.functional.normalize(wanted + wanted[-2:].sum(), dim=0)
        np.testing.assert_allclose(compiled(x).numpy(), wanted.numpy(), 1e-5)


def test_sizes_and_arguments_come_back_as_they_are() -> None:
    def f(x: tgrad.Tensor, n: int) -> Any:
        return x.shape, x.numel() + 1, n - 1, x.mul_(2), {"rows": x.shape[0]}

    compiled = tgrad.compile(f, dynamic={"x": {0: (1, 8)}, "n": (0, 9)})
    for rows, n in ((2, 9), (5, 0)):
        x = tgrad.ones(rows, 3)
        found = compiled(x, n=n)
        assert found[:3] == ((rows, 3), 3 * rows + 1, n - 1)
        assert found[3] is x and x.tolist() == [[2.0] * 3] * rows
        assert found[4] == {"rows": rows}
    assert compiled.traces == 1


def test_results_are_of_their_size_and_of_their_own() -> None:
    compiled = tgrad.compile(lambda x: (x.T, x * 1), dynamic={"x": {0: (1, 8)}})
    x = numbers(0, 3, 2, device="cpu")
    first, second = compiled(x), compiled(x + 1)
    np.testing.assert_array_equal(first[0].numpy(), x.numpy().T)
    np.testing.assert_array_equal(second[1].numpy(), x.numpy() + 1)
    np.testing.assert_array_equal((first[0] @ second[1]).numpy(), x.numpy().T @ (x.numpy() + 1))


def test_results_that_are_an_argument_outlive_the_next_call() -> None:
    """Of the largest size, and of one near it, as of any other."""
    compiled = tgrad.compile(lambda x: x.transpose(0, 0), dynamic={"x": {0: (1, 8)}})
    arguments = [numbers(n, n, 2, device="cpu") for n in (5, 8, 7, 8, 2)]
    found = [compiled(x) for x in arguments]
    for x, result in zip(arguments, found):
        np.testing.assert_array_equal(result.numpy(), x.numpy())


def _last_added(x: Any) -> Any:
    y = x * 1
    y[-2:] += 7
    return y


def _last_rows(x: Any) -> Any:
    y = x * 1
    last = y[x.shape[0] - 2 :]
    last[1, :1].mul_(-3)
    y.add_(1)
    return y, last * 1


def _last_of_all(x: Any) -> Any:
    y = x * 1
    y[-1].clamp_(-0.1, 0.1)
    y.narrow(0, x.shape[0] - 2, 1).zero_()
    return y


@pytest.mark.parametrize("change", [_last_added, _last_rows, _last_of_all])
def test_writes_through_views_that_begin_at_a_symbolic_size(change: Callable[..., Any]) -> None:
    """They were lost."""
    compiled = tgrad.compile(change, dynamic={"x": {0: (2, 8)}})
    for n in (5, 2, 8):
        x = numbers(n, n, 3, device="numpy")
        found, wanted = compiled(x), change(torch.tensor(x.numpy()))
        for mine, theirs in zip(*((t if type(t) is tuple else (t,)) for t in (found, wanted))):
            np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


OF_A_NUMBER: dict[str, Any] = {
    "variance": lambda x: x.var(0),
    "quotient": lambda x: x.sum(0) + 1 / x.shape[0],
    "root": lambda x: x * (1 - x.shape[0] ** -0.5),
    "number first": lambda x: (1 - 0.3 * (2 / x.shape[0])) / x,
    "integers": lambda x: x.long() * (1 / x.shape[0]),
    "one half": lambda x: x.half().sum() * (1 / x.shape[0]),
    "comparison": lambda x: x > 1 / x.shape[0],
}


@pytest.mark.parametrize("name", OF_A_NUMBER)
def test_numbers_of_sizes_are_as_exact_as_python_s(name: str) -> None:
    """And leave dtypes alone as those do."""
    compiled = tgrad.compile(OF_A_NUMBER[name], dynamic={"x": {0: (2, 8)}})
    for n in (7, 5):
        values = np.random.default_rng(n).standard_normal((n, 3))
        found, wanted = compiled(tgrad.tensor(values)), OF_A_NUMBER[name](torch.tensor(values))
        assert str(found.dtype).split(".")[-1] == str(wanted.dtype).split(".")[-1]
        tolerance = 1e-14 if found.dtype is tgrad.float64 else 1e-3
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), tolerance, tolerance)


@pytest.mark.parametrize("dtype", [tgrad.float32, tgrad.float64])
def test_random_numbers_are_those_of_the_size(dtype: tgrad.DType) -> None:
    """Whatever the largest size is: a draw of a compiled step is that of an eager one."""

    def f(x: tgrad.Tensor) -> tuple[tgrad.Tensor, ...]:
        a, b = x.shape
        flat = tgrad.randint(0, 50, (a * b,))
        return tgrad.rand(3, b, dtype=dtype), tgrad.randn(a, 3, b, dtype=dtype), flat

    compiled = tgrad.compile(f, dynamic={"x": {0: (1, 4), 1: (1, 8)}})
    for shape in ((2, 8), (3, 3), (4, 7)):
        found = []
        for function in (compiled, f):
            tgrad.manual_seed(3)
            found.append([t.numpy() for t in function(tgrad.zeros(*shape))])
        for ours, wanted in zip(*found):
            np.testing.assert_array_equal(ours, wanted)
    assert compiled.traces == 1


def test_a_method_and_another_static_size() -> None:
    class Scale:
        def __init__(self) -> None:
            self.factor = tgrad.full((1,), 3.0)

        @tgrad.compile(dynamic={"x": {-1: (1, 8)}})
        def __call__(self, x: tgrad.Tensor) -> tgrad.Tensor:
            return (x * self.factor).sum(-1)

    scale = Scale()
    assert [scale.__call__(tgrad.ones(2, n)).tolist() for n in (1, 4)] == [[3.0] * 2, [12.0] * 2]
    assert scale.__call__(tgrad.ones(3, 4)).tolist() == [12.0] * 3


def test_a_plan_is_for_the_largest_size_and_says_so() -> None:
    from tgrad.runtime.plan import record_plans

    compiled = tgrad.compile(lambda x: x.exp().sum(1), dynamic={"x": {1: (1, 64)}})
    with record_plans() as plans:
        compiled(tgrad.ones(4, 3))
    assert [b.shape for b in plans[-1].inputs if b.shape] == [(4, 64)]


def test_memory_of_a_result_is_of_its_size() -> None:
    """Others copy it as a whole."""
    twice = tgrad.compile(lambda x: x * 2, dynamic={"x": {0: (1, 64)}})
    for count in (5, 64, 1):
        y = twice(tgrad.ones(count, 3))
        storage = y._storage
        memory = Storage(storage.device, y.dtype, y.shape, storage.copied_memory())
        np.testing.assert_array_equal(memory.numpy(), np.full((count, 3), 2.0))
