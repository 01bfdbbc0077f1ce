"""autocast and GradScaler beside PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import tgrad
from tests.ops.opinfo import Case, operators, read_passes, samples_of
from tgrad import autocasting, nn, optim
from tgrad.autocasting import CPU, GPU
from tgrad.errors import DTypeError, OutOfRangeError, UnsupportedError
from tgrad.nn import functional as F
from tgrad.tensor import Tensor

OPERATORS = operators()
RULED = {name.strip("_") for names in (*CPU.values(), *GPU.values()) for name in names.split()}
LISTED = [name for name in sorted(read_passes()) if not name.startswith("linalg.pinv")]
SOME = [n for i, n in enumerate(LISTED) if i % 4 == 0 or n.split(".")[-1] in RULED]
"""Operators that the rules name, and some of the others. PyTorch's pinv is made of products that
follow the rules, and fails where its samples are small."""
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.mark.parametrize("name", SOME)
def test_results_have_pytorch_s_dtypes(name: str) -> None:
    sample = samples_of(OPERATORS[name], 2)[-1]
    with torch.autocast("cpu", torch.bfloat16), tgrad.autocast("cpu"):
        case = Case(OPERATORS[name], sample, "numpy")
    ours = [y.dtype.name for y in case.ours if isinstance(y, Tensor)]
    theirs = [str(y.dtype)[6:] for y in case.theirs if isinstance(y, torch.Tensor)]
    assert ours == theirs


@pytest.mark.parametrize(
    ("call", "shapes"),
    [
        (lambda t, x, y: t.inner(x, y), [(3, 4), (2, 4)]),
        (lambda t, x, y: t.inner(x, y), [(4,), (4,)]),
        (lambda t, x, y: t.inner(x, y), [(), (4,)]),
        (lambda t, x, y: t.inner(x, y), [(1, 4), (4,)]),
        (lambda t, x, y: t.tensordot(x, y, 1), [(2, 3), (3, 2)]),
        (lambda t, x, y: t.tensordot(x, y, ([0], [1])), [(2, 3), (3, 2)]),
        *((lambda t, x, n=n: t.matrix_power(x, n), [(3, 3)]) for n in (0, 1, 2, 5, -1, -3)),
    ],
)
def test_what_is_made_of_products_follows_their_rule(call: Any, shapes: Any) -> None:
    arrays = [np.random.default_rng(0).normal(size=s).astype(np.float32) for s in shapes]
    with torch.autocast("cpu", torch.bfloat16), tgrad.autocast("cpu"):
        theirs = call(torch, *map(torch.tensor, arrays))
        ours = call(tgrad, *(tgrad.tensor(a, device="numpy") for a in arrays))
    assert ours.dtype.name == str(theirs.dtype)[6:]
    np.testing.assert_allclose(ours.float().numpy(), theirs.float(), rtol=0.03, atol=0.03)


def test_the_table_of_gpus_is_pytorch_s() -> None:
    """PyTorch's own lists of what to test on a GPU."""
    lists = pytest.importorskip("torch.testing._internal.autocast_test_lists")
    theirs = lists.AutocastTestLists(torch.device("cpu"))
    groups = {
        "low": ("torch_fp16", "nn_fp16", "methods_fp16"),
        "float32": ("torch_fp32", "nn_fp32", "methods_fp32"),
        "widest": ("torch_need_autocast_promote",),
        "refused": ("banned",),
    }
    composite = {"einsum"}  # follows the rule of its products
    places: Any = (tgrad, F, Tensor)
    for rule, names in groups.items():
        wanted = {row[0] for group in names for row in getattr(theirs, group)} - composite
        known = {name for name in wanted if any(hasattr(place, name) for place in places)}
        assert len(known) > len(wanted) // 2
        assert known - {"index_put"} <= set(GPU[rule].split())


@pytest.mark.parametrize(
    ("call", "want"),
    [
        (lambda x: x @ x, "float16"),
        (lambda x: F.linear(x, x), "float16"),
        (lambda x: x.half().softmax(0), "float32"),
        (lambda x: F.softmax(x.half(), 0), "float32"),
        (lambda x: F.layer_norm(x.half(), (2,)), "float32"),
        (lambda x: x.half().sum(), "float32"),
        (lambda x: x.half() ** 2, "float32"),
        (lambda x: x.half().exp(), "float32"),
        (lambda x: F.gelu(x.half()), "float16"),
        (lambda x: x.half().sigmoid(), "float16"),
        (lambda x: F.silu(x.half()), "float16"),
        (lambda x: x.half().mean(), "float16"),
        (lambda x: F.mse_loss(x.half(), x.half()), "float32"),
        (lambda x: tgrad.tensordot(x, x.half()), "float32"),
        (lambda x: x.double() @ x.double(), "float64"),
        (lambda x: tgrad.einsum("ij,jk->ik", x, x), "float16"),
    ],
)
def test_rules_of_gpus(call: Any, want: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autocasting, "_kind_of", lambda kind: "cuda")
    with tgrad.autocast("cuda"):
        y = call(tgrad.ones(2, 2, device="numpy"))
    assert y.dtype.name == want and np.isfinite(y.numpy()).all()


def test_a_loss_that_overflows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autocasting, "_kind_of", lambda kind: "cuda")
    x = tgrad.ones(2)
    with tgrad.autocast("cuda"), pytest.raises(UnsupportedError, match="loss of logits"):
        F.binary_cross_entropy(x, x)


def test_switches() -> None:
    a = tgrad.ones(2, 2)
    assert not tgrad.is_autocast_enabled("cpu")
    with tgrad.autocast("cpu", tgrad.float16):
        assert tgrad.is_autocast_enabled("cpu") and not tgrad.is_autocast_enabled("cuda")
        assert tgrad.get_autocast_dtype("cpu") is tgrad.float16
        assert (a @ a).dtype is tgrad.float16
        with tgrad.autocast("cpu", enabled=False):
            assert (a @ a).dtype is tgrad.float32
        with tgrad.autocast("cuda"):
            assert (a @ a).dtype is tgrad.float16
    assert (a @ a).dtype is tgrad.float32
    assert tgrad.autocast("cpu")(lambda x: x @ x)(a).dtype is tgrad.bfloat16
    with pytest.raises(DTypeError, match="float64"):
        tgrad.autocast("cpu", tgrad.float64)
    with pytest.raises(UnsupportedError, match="mps"):
        tgrad.autocast("mps")


# -- training ------------------------------------------------------------------------------------


def models() -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    make = lambda of: of.Sequential(  # noqa: E731
        of.Conv2d(1, 4, 3), of.BatchNorm2d(4), of.GELU(), of.Flatten(), of.Linear(144, 10)
    )
    ours, theirs = make(nn), make(torch.nn)
    ours.load_state_dict({k: tgrad.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
    return ours, theirs


BATCHES = [
    (random.standard_normal((6, 1, 8, 8)).astype(np.float32), random.integers(0, 10, 6))
    for random in map(np.random.default_rng, range(5))
]


def test_autocast_is_switched_by_calls() -> None:
    found = []
    for library in (tgrad, torch):
        a = library.ones(2, 2)
        seen: list[Any] = []

        def note(library: Any = library, a: Any = a, seen: list[Any] = seen) -> None:
            dtypes = (library.get_autocast_dtype("cpu"), (a @ a).dtype)
            seen.append([str(d).split(".")[-1] for d in dtypes])
            seen.append(library.is_autocast_enabled("cpu"))

        note()
        library.set_autocast_enabled("cpu", True)
        note()
        library.set_autocast_dtype("cpu", library.float16)
        note()
        library.set_autocast_enabled("cpu", False)
        note()
        with library.autocast("cpu"):
            note()
        library.set_autocast_cpu_dtype(library.bfloat16)
        note()
        before = library.is_autocast_cache_enabled()
        library.set_autocast_cache_enabled(False)
        seen += [before, library.is_autocast_cache_enabled(), library.clear_autocast_cache()]
        library.set_autocast_cache_enabled(True)
        seen += [library.autocast_increment_nesting(), library.autocast_decrement_nesting()]
        found.append(seen)
    assert found[0] == found[1]
    with pytest.raises(DTypeError, match="autocast to float64"):
        tgrad.set_autocast_dtype("cpu", tgrad.float64)


def test_training_in_bfloat16_has_pytorch_s_losses() -> None:
    ours, theirs = models()
    a, b = optim.AdamW(ours.parameters(), lr=1e-3), torch.optim.AdamW(theirs.parameters(), lr=1e-3)
    for images, labels in BATCHES:
        with tgrad.autocast("cpu", tgrad.bfloat16):
            loss = F.cross_entropy(ours(tgrad.tensor(images)), tgrad.tensor(labels))
        with torch.autocast("cpu", torch.bfloat16):
            want = torch.nn.functional.cross_entropy(
                theirs(torch.tensor(images)), torch.tensor(labels)
            )
        assert loss.dtype is tgrad.float32
        for optimizer, value in ((a, loss), (b, want)):
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        assert all(p.grad.dtype is tgrad.float32 for p in ours.parameters())
        assert loss.item() == pytest.approx(want.item(), rel=2e-3)


def test_compiled_functions_follow_autocast() -> None:
    multiply = tgrad.compile(lambda x: x @ x)
    x = tgrad.ones(2, 2)
    for want in ("float32", "bfloat16", "float16", "float32"):
        with tgrad.autocast("cpu", None if want[0] == "b" else tgrad.float16, want != "float32"):
            assert multiply(x).dtype.name == want


def losses_of(library: Any, model: Any, optimizer: Any, scaler: Any, compiles: bool) -> list[Any]:
    """Losses and scales; the gradient of the third batch overflows."""
    functional = F if library is tgrad else torch.nn.functional

    def step(images: Any, labels: Any, factor: Any) -> Any:
        loss = functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        scaler.scale(loss * factor).backward()
        scaler.unscale_(optimizer)
        clip = (nn if library is tgrad else torch.nn).utils.clip_grad_norm_
        clip(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        return loss

    run = tgrad.compile(step) if compiles else step
    found = []
    for number, (images, labels) in enumerate(BATCHES):
        factor = library.tensor(float("inf") if number == 2 else 1.0)
        loss = run(library.tensor(images), library.tensor(labels), factor)
        found += [loss.item(), scaler.get_scale()]
    return found


@pytest.mark.parametrize("compiles", [False, True])
@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
def test_steps_that_overflow_change_nothing(kind: str, compiles: bool) -> None:
    ours, theirs = models()
    settings: Any = {"lr": 1e-2, "momentum": 0.9} if kind == "SGD" else {"lr": 1e-3}
    options = {"init_scale": 1024.0, "growth_interval": 2}
    have = losses_of(
        tgrad,
        ours,
        getattr(optim, kind)(ours.parameters(), **settings),
        tgrad.amp.GradScaler("cpu", **options),
        compiles,
    )
    want = losses_of(
        torch,
        theirs,
        getattr(torch.optim, kind)(theirs.parameters(), **settings),
        torch.amp.GradScaler("cpu", **options),
        False,
    )
    assert want[1::2] == [1024.0, 2048.0, 1024.0, 1024.0, 2048.0]
    assert have[1::2] == want[1::2]
    np.testing.assert_allclose(have[::2], want[::2], rtol=2e-5)


def test_the_first_step_may_overflow() -> None:
    w = tgrad.ones(2, requires_grad=True)
    optimizer, scaler = optim.AdamW([w], lr=0.1), tgrad.amp.GradScaler("cpu")
    scaler.scale((w * float("inf")).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert w.tolist() == [1.0, 1.0] and scaler.get_scale() == 2.0**15
    assert {float(t.sum().item()) for t in optimizer.state[w].values()} == {0.0}


def test_the_state_of_a_scaler() -> None:
    theirs = torch.amp.GradScaler("cpu", init_scale=8.0)
    theirs.scale(torch.ones(()))
    ours = tgrad.amp.GradScaler("cpu")
    ours.load_state_dict(theirs.state_dict())
    assert ours.state_dict() == theirs.state_dict() and ours.get_scale() == 8.0
    assert ours.scale(tgrad.ones(2)).tolist() == [8.0, 8.0]
    assert [t.item() for t in ours.scale([tgrad.ones(()), tgrad.ones(())])] == [8.0, 8.0]
    ours.update(4.0)
    assert ours.get_scale() == 4.0
    off = tgrad.amp.GradScaler("cpu", enabled=False)
    x = tgrad.ones(1)
    assert off.scale(x) is x and off.get_scale() == 1.0 and off.state_dict() == {}


def test_mistakes_with_scalers() -> None:
    w = tgrad.ones(2, requires_grad=True)
    optimizer, scaler = optim.SGD([w], lr=0.1), tgrad.amp.GradScaler("cpu")
    with pytest.raises(UnsupportedError, match=r"Call scale\(loss\)"):
        scaler.step(optimizer)
    scaler.scale(w.sum()).backward()
    scaler.unscale_(optimizer)
    with pytest.raises(UnsupportedError, match="twice"):
        scaler.unscale_(optimizer)
    with pytest.raises(UnsupportedError, match="closure"):
        scaler.step(optimizer, closure=lambda: 1.0)
    with pytest.raises(OutOfRangeError, match=r"growth_factor=0\.5"):
        tgrad.amp.GradScaler("cpu", growth_factor=0.5)
    with pytest.raises(OutOfRangeError, match=r"backoff_factor=2"):
        tgrad.amp.GradScaler("cpu", backoff_factor=2.0)


@pytest.mark.parametrize("compiles", [False, True])
def test_factors_change_between_steps(compiles: bool) -> None:
    found = []
    for library in (tgrad, torch):
        w = library.ones(2, requires_grad=True)
        optimizer = library.optim.SGD([w], lr=0.0)
        scaler = library.amp.GradScaler("cpu", init_scale=4.0, growth_interval=1)

        def step(x: Any, w: Any = w, optimizer: Any = optimizer, scaler: Any = scaler) -> None:
            optimizer.zero_grad()
            scaler.scale((w * x).sum()).backward()
            scaler.step(optimizer)
            scaler.update()

        run = tgrad.compile(step) if compiles and library is tgrad else step
        good, bad = library.ones(2), library.full((2,), float("inf"))
        seen = []
        for name, value in (
            ("growth_factor", 3.0),
            ("growth_interval", 2),
            ("backoff_factor", 0.1),
        ):
            for x in (good, bad, good):
                run(x)
                seen.append(scaler.get_scale())
            getattr(scaler, f"set_{name}")(value)
            assert getattr(scaler, f"get_{name}")() == value
        state = scaler.state_dict()
        for x in (good, bad, good, good):
            run(x)
            seen.append(scaler.get_scale())
        scaler.load_state_dict({**state, "growth_factor": 5.0, "scale": 7.0})
        for x in (good, good, bad):
            run(x)
            seen.append(scaler.get_scale())
        found.append(seen)
    np.testing.assert_allclose(*found, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "value"), [("growth_factor", 1.0), ("backoff_factor", 1.0), ("growth_interval", 0)]
)
def test_factors_that_a_scaler_refuses(name: str, value: float) -> None:
    with pytest.raises(OutOfRangeError, match=f"{name}={value}"):
        getattr(tgrad.amp.GradScaler("cpu"), f"set_{name}")(value)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"])
@pytest.mark.parametrize("rules", ["cpu", "cuda"])
def test_recurrent_modules(kind: str, rules: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autocasting, "_kind_of", lambda _: rules)
    module, x = getattr(nn, kind)(4, 4), tgrad.ones(3, 4) / 8
    have = module(x)
    with tgrad.autocast(rules):
        low = module(x.bfloat16())
    while isinstance(have, tuple):
        have, low = have[0], low[0]
    if rules == "cuda":
        assert low.dtype is tgrad.float16
    np.testing.assert_allclose(low.float().tolist(), have.tolist(), atol=0.02)


def test_gradients_of_float64_keep_their_digits() -> None:
    w = tgrad.ones(2, dtype=tgrad.float64, requires_grad=True)
    optimizer, scaler = optim.SGD([w], lr=1.0), tgrad.amp.GradScaler("cpu", init_scale=3.0)
    scaler.scale((w * (1 / 3)).sum()).backward()
    scaler.unscale_(optimizer)
    assert w.grad is not None and abs(w.grad.numpy() - 1 / 3).max() < 1e-15


@pytest.mark.parametrize("casts", [False, True])
def test_functions_under_autocast(casts):
    """What forward and backward compute in, with and without autocast around them."""

    def script(library):
        seen = []
        inputs = {"cast_inputs": library.float32} if casts else {}

        class Product(library.autograd.Function):
            @staticmethod
            @library.amp.custom_fwd(device_type="cpu", **inputs)
            def forward(ctx, x, w, n):
                ctx.save_for_backward(x, w)
                y = x @ w
                seen.append((str(x.dtype)[-8:], str(y.dtype)[-8:], n))
                return y

            @staticmethod
            @library.amp.custom_bwd(device_type="cpu")
            def backward(ctx, g):
                x, w = ctx.saved_tensors
                seen.append(str((g @ w.t()).dtype)[-8:])
                return (g @ w.t()).to(x.dtype), (x.t() @ g).to(w.dtype), None

        x, w = (library.ones((2, 2), requires_grad=True) for _ in range(2))
        for is_on in (False, True):
            with library.autocast("cpu", library.bfloat16, enabled=is_on):
                y = Product.apply(x, w, 3)
            y.float().sum().backward()
            seen.append(x.grad.tolist())
        return seen

    assert script(tgrad) == script(torch)
