"""Hooks, functions with a backward of their own, and checkpoints."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.utils.checkpoint

import tgrad
from tests.front.checking import normal
from tgrad import nn
from tgrad.errors import GradientError, UnsupportedError
from tgrad.utils.checkpoint import checkpoint, checkpoint_sequential

X = normal(1, 3, 4).astype(np.float64)


def leaf(library: Any) -> Any:
    if library is torch:
        return torch.tensor(X, requires_grad=True)
    return tgrad.tensor(X, device="numpy", requires_grad=True)


def same(mine: Any, theirs: Any) -> None:
    np.testing.assert_allclose(mine.numpy(), theirs.detach().numpy(), rtol=1e-9)


@pytest.mark.parametrize("when", ["before", "after", "stored"])
def test_hooks_see_and_replace_gradients(when: str) -> None:
    seen, found = [], []
    for library in (tgrad, torch):
        x = leaf(library)
        y = x * 3

        def hook(g: Any) -> Any:
            seen.append(g.tolist())
            return g * 2

        if when == "before":
            y.register_hook(hook)
        z = (y * y).sum()
        if when == "stored" and library is tgrad:
            y.realize()
        if when != "before":
            y.register_hook(hook)
        removed = x.register_hook(lambda g: g + 100)
        removed.remove()
        x.register_hook(lambda g: g + 1)
        z.backward()
        found.append(x.grad)
    assert seen[0] == seen[1]
    same(*found)


def test_hooks_of_gradients_of_gradients() -> None:
    found = []
    for library in (tgrad, torch):
        x = leaf(library)
        x.register_hook(lambda g: g * g)
        (g,) = library.autograd.grad((x**3).sum(), x, create_graph=True)
        found.append(library.autograd.grad(g.sum(), x)[0])
    same(*found)


def test_hooks_after_accumulation_and_retained_gradients() -> None:
    calls: list[list[Any]] = []
    for library in (tgrad, torch):
        x, mine = leaf(library), []
        y = x * 2
        y.retain_grad()
        handle = x.register_post_accumulate_grad_hook(lambda p, m=mine: m.append(p.grad.tolist()))
        for _ in range(2):
            (y * y).sum().backward(retain_graph=True)
        handle.remove()
        y.sum().backward()
        calls.append([mine, y.grad.tolist(), x.grad.tolist()])
    assert calls[0] == calls[1]


def change_after_retaining(y: Any) -> Any:
    y.retain_grad()
    return y.mul_(3)


def change_a_part_after_retaining(y: Any) -> Any:
    y.retain_grad()
    y[0].mul_(3)
    return y


def hooks_around_retaining(y: Any) -> Any:
    y.register_hook(lambda g: g * 2)
    y.retain_grad()
    y.register_hook(lambda g: g * 5)
    return y


@pytest.mark.parametrize(
    "change", [change_after_retaining, change_a_part_after_retaining, hooks_around_retaining]
)
def test_retained_gradients_are_those_that_flow_on(change: Any) -> None:
    found: list[Any] = []
    for library in (tgrad, torch):
        x = leaf(library)
        y = x * 2
        change(y).square().sum().backward()
        found.append([y.grad.tolist(), x.grad.tolist()])
    np.testing.assert_allclose(*found, rtol=1e-9)


def test_hooks_on_a_copy_leave_what_it_was_copied_from() -> None:
    found: list[Any] = []
    for library in (tgrad, torch):
        x = leaf(library)
        y = x.exp()
        reversed_, kept = y.clone(), y.clone().clone()
        reversed_.register_hook(lambda g: -g)
        kept.retain_grad()
        loss = (reversed_.sin() + y * y + kept.cos()).sum()
        (g,) = library.autograd.grad(loss, reversed_, retain_graph=True)
        loss.backward()
        found.append([x.grad.tolist(), kept.grad.tolist(), g.tolist()])
    np.testing.assert_allclose(*found, rtol=1e-9)


EQUALS: dict[str, Any] = {
    "computed": lambda y: y * 2,
    "called": lambda y: y.relu(),
    "permuted": lambda y: y.permute(1, 0),
    "a part": lambda y: y[:, :4],
    "the same shape": lambda y: y.view(3, 4),
    "viewed as itself": lambda y: y.view_as(y),
}


@pytest.mark.parametrize("when", ["before", "between", "after"])
@pytest.mark.parametrize("make", EQUALS.values(), ids=EQUALS)
def test_hooks_on_one_of_two_equal_tensors_leave_the_other(make: Any, when: str) -> None:
    found: list[Any] = []
    for library in (tgrad, torch):
        x, seen = leaf(library), []
        y = x * 1.5
        first = make(y)
        if when == "before":
            first.register_hook(lambda g, seen=seen: seen.append(g.tolist()))
        loss = (first * 3).sum() + (y * 7).sum()
        second = make(y)
        if when != "after":
            second.register_hook(lambda g: -g)
        loss = loss + (second * 5).sum()
        first.retain_grad()
        second.retain_grad()
        (g,) = library.autograd.grad(loss, first, retain_graph=True)
        loss.backward()
        found.append([g.tolist(), first.grad.tolist(), second.grad.tolist(), x.grad.tolist(), seen])
    assert found[0] == found[1]


def test_equal_tensors_under_vmap_have_gradients_of_their_own() -> None:
    found: list[Any] = []
    for library in (tgrad, torch):
        x = leaf(library)

        def row(v: Any) -> Any:
            return (v * 2) * 3 + (v * 2).sin()

        y = library.func.vmap(row)(x)
        (g,) = library.autograd.grad(y.sum(), x, create_graph=True)
        (h,) = library.autograd.grad(g.sum(), x)
        found.append([g.tolist(), h.tolist()])
    np.testing.assert_allclose(*found, rtol=1e-9)


def test_mistakes_with_hooks() -> None:
    x = tgrad.ones(2, device="numpy")
    with pytest.raises(GradientError, match="a hook on a tensor that does not require"):
        x.register_hook(print)
    with pytest.raises(GradientError, match="of a tensor that is no leaf"):
        (leaf(tgrad) * 2).register_post_accumulate_grad_hook(print)
    y = leaf(tgrad)
    y.register_hook(lambda g: g.sum())
    with pytest.raises(GradientError, match=r"a hook returns float64 of shape \(\)"):
        y.sum().backward()


def functions(library: Any) -> Any:
    """The same classes over either library."""

    class Cube(library.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, scale: float) -> Any:
            ctx.save_for_backward(x)
            ctx.scale = scale
            return x * x * x * scale

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            return g * 3 * x * x * ctx.scale, None

    class Exp(library.autograd.Function):
        @staticmethod
        def forward(x: Any) -> Any:
            return x.exp()

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.save_for_backward(output)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (y,) = ctx.saved_tensors
            return g * y

    class Both(library.autograd.Function):
        @staticmethod
        def forward(ctx: Any, a: Any, b: Any) -> Any:
            ctx.save_for_backward(a, b)
            places = (a > b).to(a.dtype)
            ctx.mark_non_differentiable(places)
            return a * b, a + b, places

        @staticmethod
        def backward(ctx: Any, g: Any, h: Any, _: Any) -> Any:
            a, b = ctx.saved_tensors
            return (g * b + h if ctx.needs_input_grad[0] else None), g * a + h

    return Cube, Exp, Both


def test_functions_to_second_order() -> None:
    found = []
    for library in (tgrad, torch):
        cube, exp, both = functions(library)
        x = leaf(library)
        p, q, r = both.apply(cube.apply(x, 2.0), exp.apply(x))
        assert not r.requires_grad and p.requires_grad
        y = (p * q).sum() + q.sum()
        (g,) = library.autograd.grad(y, x, create_graph=True)
        found.append([y, g, library.autograd.grad((g * g).sum(), x)[0]])
    for mine, theirs in zip(*found):
        same(mine, theirs)


def test_functions_in_a_compiled_step() -> None:
    cube, *_ = functions(tgrad)
    w = nn.Parameter(tgrad.ones(3))
    optimizer = tgrad.optim.SGD([w], lr=0.01)

    @tgrad.compile
    def step() -> Any:
        loss = cube.apply(w, 1.0).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    assert step().item() == 3.0 and step().item() == pytest.approx(3 * 0.97**3)
    assert step.traces == 1


def test_mistakes_in_functions() -> None:
    class Wrong(tgrad.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, y: Any) -> Any:
            return x + y

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g

    x = leaf(tgrad)
    with pytest.raises(GradientError, match=r"Wrong.backward returns 1 gradients for 2 inputs"):
        Wrong.apply(x, x).sum().backward()
    with pytest.raises(UnsupportedError, match="mark_dirty"):
        tgrad.autograd.FunctionCtx().mark_dirty(x)


def test_grad_of_several_outputs() -> None:
    found = []
    for library in (tgrad, torch):
        x, unused = leaf(library), leaf(library)
        outputs = [(x * x).sum(), x.sin()]
        weights = [None, library.ones_like(x)]
        g, none = library.autograd.grad(outputs, [x, unused], weights, materialize_grads=True)
        library.autograd.backward([x.sum(), x * 2], [None, library.ones_like(x)])
        found.append([g, none, x.grad])
    for mine, theirs in zip(*found):
        same(mine, theirs)


def test_inference_mode() -> None:
    x = leaf(tgrad)
    with tgrad.inference_mode():
        assert not (x * 2).requires_grad
    with tgrad.inference_mode(False):
        assert (x * 2).requires_grad


def block(x: Any, a: Any, b: Any) -> Any:
    return ((x @ a).tanh() @ b).exp().sin().softmax(-1) + x


def test_a_checkpoint_computes_again() -> None:
    """Equal values and gradients, more work, less memory."""
    weights = [nn.Parameter(tgrad.randn(64, 64) * 0.1) for _ in range(16)]
    x = tgrad.randn(1024, 64)
    plans, gradients = [], []
    for kept in (True, False):
        for w in weights:
            w.grad = None
        y = x
        for a, b in zip(weights[::2], weights[1::2]):
            y = block(y, a, b) if kept else checkpoint(block, y, a, b, use_reentrant=False)
        loss = (y * y).mean()
        loss.backward()
        plans.append(tgrad.explain(loss, *[w.grad for w in weights]))
        gradients.append([w.grad.numpy() for w in weights])
    for want, got in zip(*gradients):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-8)
    assert plans[1].peak_bytes < 0.65 * plans[0].peak_bytes
    assert plans[0].flops < plans[1].flops < 1.5 * plans[0].flops


def test_checkpoints_draw_the_same_numbers() -> None:
    found = []
    for wrap in (lambda f, *a: f(*a), checkpoint):
        tgrad.manual_seed(5)
        w = nn.Parameter(tgrad.ones(50, device="numpy"))
        first = wrap(lambda w: tgrad.nn.functional.dropout(w, 0.5).exp() * w, w)
        y = wrap(lambda t: (t * t, 3), first)
        (y[0].sum() * y[1]).backward()
        found.append(w.grad.numpy())
    np.testing.assert_allclose(*found, rtol=1e-6)


def test_checkpoints_of_checkpoints_to_second_order() -> None:
    found = []
    for library, wrap in ((tgrad, checkpoint), (torch, torch.utils.checkpoint.checkpoint)):
        x = leaf(library)
        arguments = {"use_reentrant": False} if library is torch else {}

        def inner(t: Any, wrap: Any = wrap, arguments: Any = arguments) -> Any:
            return wrap(lambda u: u.sin() * u, t, **arguments).exp()

        y = wrap(inner, x, **arguments)
        (g,) = library.autograd.grad(y.sum(), x, create_graph=True)
        found.append([y, g, library.autograd.grad((g * g).sum(), x)[0]])
    for mine, theirs in zip(*found):
        same(mine, theirs)


def test_hooks_inside_of_checkpoints_see_the_whole_gradient() -> None:
    found = []
    for library, wrap in ((tgrad, checkpoint), (torch, torch.utils.checkpoint.checkpoint)):
        x, seen = leaf(library), []

        def two(x: Any, seen: Any = seen) -> Any:
            h = x * 2
            h.register_hook(lambda g: (seen.append(g), g.clamp(-0.5, 0.5))[1])
            return h.sin(), h.cos()

        a, b = wrap(two, x, use_reentrant=False)
        (a + b).sum().backward()
        found.append((x.grad, *seen))
    assert len(found[0]) == 2
    for mine, theirs in zip(*found, strict=True):
        same(mine, theirs)


def test_gradients_inside_of_checkpoints_are_retained() -> None:
    kept = []

    def inner(x: Any) -> Any:
        kept.append(x * 2)
        kept[0].retain_grad()
        return kept[0].square()

    checkpoint(inner, tgrad.ones(2, requires_grad=True)).sum().backward()
    assert kept[0].grad.tolist() == [4, 4]


def test_checkpoint_sequential() -> None:
    x = leaf(tgrad)
    steps = [tgrad.sin, tgrad.exp, tgrad.tanh, tgrad.square]
    y = checkpoint_sequential(steps, 2, x)
    same(y, torch.tensor(X).sin().exp().tanh().square())
    with pytest.raises(UnsupportedError, match="preserve_rng_state=False"):
        checkpoint(tgrad.sin, x, preserve_rng_state=False)


def gradients_under_hooks(library: Any, needs_input: bool, replaces: bool) -> list[Any]:
    """What hooks on a layer in the middle see, and the gradients that leave it."""
    seen: list[Any] = []
    first, layer = library.nn.Linear(4, 3), library.nn.Linear(3, 2)
    for number, module in enumerate((first, layer)):
        state = {k: normal(number, *v.shape) for k, v in module.state_dict().items()}
        module.load_state_dict({k: library.tensor(v) for k, v in state.items()})

    def before(module: Any, outputs: Any) -> Any:
        seen.extend(outputs)
        return (outputs[0] * 2,) if replaces else None

    def hook(module: Any, inputs: Any, outputs: Any) -> Any:
        assert module is layer and len(inputs) == len(outputs) == 1
        seen.extend([*outputs, *(g for g in inputs if g is not None)])
        return (inputs[0] * 3,) if replaces and needs_input else None

    handles = [layer.register_full_backward_pre_hook(before)]
    handles.append(layer.register_full_backward_hook(hook))
    x = library.tensor(X.astype(np.float32))
    y = layer(first(x) if needs_input else x[:, :3])
    (y * y).sum().backward()
    for handle in handles:
        handle.remove()
    count = len(seen)
    layer(x[:, :3]).sum()
    assert len(seen) == count > 1
    return [*seen, *(p.grad for m in (first, layer) for p in m.parameters() if p.grad is not None)]


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("needs_input", [True, False])
@pytest.mark.parametrize("replaces", [True, False])
def test_hooks_of_modules_on_gradients(needs_input: bool, replaces: bool) -> None:
    ours, theirs = (gradients_under_hooks(t, needs_input, replaces) for t in (tgrad, torch))
    for g, h in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(g.numpy(), h.numpy(), rtol=1e-5, atol=1e-5)


def test_compiled_steps_call_hooks_of_modules() -> None:
    layer = nn.ReLU()
    x = tgrad.tensor([-1.0, 2.0], requires_grad=True)

    @tgrad.compile
    def step() -> Any:
        return tgrad.autograd.grad(layer(x * 1).sum(), x)[0]

    assert step().tolist() == [0.0, 1.0]
    handle = layer.register_full_backward_hook(lambda module, inputs, outputs: (inputs[0] * 5,))
    assert step().tolist() == step().tolist() == [0.0, 5.0]
    handle.remove()
    assert step().tolist() == [0.0, 1.0]


def test_hooks_of_modules_that_are_not_supported() -> None:
    x = tgrad.ones(1, 2, 2, requires_grad=True)
    for layer, args, what in (
        (nn.Bilinear(2, 2, 1), (x[0], x[0] * 1), "Bilinear with 2 inputs that require gradients"),
        (nn.GRU(2, 2), (x,), "GRU, which returns a tuple"),
    ):
        layer.register_full_backward_hook(lambda *given: None)
        with pytest.raises(UnsupportedError, match=f"backward hooks of {what}"):
            layer(*args)
    layer = nn.ReLU()
    layer.register_full_backward_hook(lambda *given: (x, x))
    with pytest.raises(GradientError, match="a backward hook returns 2 gradients"):
        layer(x).sum().backward()


@pytest.mark.parametrize("compiled", [True, False])
def test_hooks_of_optimizers(compiled: bool) -> None:
    """They come and go with their plans, and what they do is part of the step."""
    kept = []
    for library in (tgrad, torch):
        w = library.ones(2, requires_grad=True)
        optimizer = library.optim.SGD([w], lr=1.0)

        def step(w: Any = w, optimizer: Any = optimizer) -> None:
            optimizer.zero_grad()
            (w * w * 3).sum().backward()
            optimizer.step()

        run = tgrad.compile(step) if compiled and library is tgrad else step

        def limit(o: Any, args: Any, kwargs: Any, w: Any = w, library: Any = library) -> None:
            assert args[0] is o and not kwargs
            with library.no_grad():
                w.clamp_(-2.0, 2.0)

        def double(o: Any, args: Any, kwargs: Any, w: Any = w) -> None:
            w.grad = w.grad * 2

        values = []
        for number in range(6):
            if number == 1:
                handle = optimizer.register_step_post_hook(limit)
            if number == 3:
                optimizer.register_step_pre_hook(double)
            if number == 4:
                handle.remove()
            run()
            values.append(w.tolist())
        kept.append(values)
    np.testing.assert_allclose(*kept, rtol=1e-6)


def test_a_hook_before_a_step_changes_no_arguments() -> None:
    optimizer = tgrad.optim.SGD([tgrad.ones(1, requires_grad=True)], lr=1.0)
    optimizer.register_step_pre_hook(lambda o, args, kwargs: (args, kwargs))
    with pytest.raises(UnsupportedError, match="returns other arguments"):
        optimizer.step()


@pytest.mark.parametrize("own", [True, False], ids=["own", "library"])
def test_compiled_functions_see_what_hooks_read(own: bool) -> None:
    """Of modules of every class; and hooks that come and go."""

    class Line(tgrad.nn.Linear):
        pass

    factor = 2.0
    layer = (Line if own else tgrad.nn.Linear)(3, 3, bias=False)
    x = tgrad.ones(3)
    plain = layer(x).numpy()
    run = tgrad.compile(lambda x: layer(x))
    np.testing.assert_allclose(run(x).numpy(), plain, rtol=1e-6)
    handle = layer.register_forward_hook(lambda module, args, y: y * factor)
    for factor in (2.0, 3.0, 3.0, 5.0):
        np.testing.assert_allclose(run(x).numpy(), plain * factor, rtol=1e-6)
    handle.remove()
    np.testing.assert_allclose(run(x).numpy(), plain, rtol=1e-6)


def test_contexts_of_checkpoints():
    from tgrad.utils.checkpoint import (
        noop_context_fn,
        set_checkpoint_debug_enabled,
        set_checkpoint_early_stop,
    )

    x = tgrad.ones(2, requires_grad=True)
    with set_checkpoint_early_stop(False), set_checkpoint_debug_enabled(None):
        checkpoint(lambda x: x.exp().sum(), x, context_fn=noop_context_fn).backward()
    np.testing.assert_allclose(x.grad.numpy(), np.e, rtol=1e-6)
    with noop_context_fn()[0], pytest.raises(UnsupportedError, match="debug_enabled"):
        set_checkpoint_debug_enabled(True).__enter__()


def test_the_older_name_of_backward_hooks_warns():
    layer, seen = nn.ReLU(), []
    with pytest.warns(FutureWarning, match="gradients of the module's inputs"):
        handle = layer.register_backward_hook(lambda module, g, out: seen.append(g[0].tolist()))
    x = tgrad.tensor([-1.0, 2.0], requires_grad=True)
    layer(x).sum().backward()
    handle.remove()
    layer(x).sum().backward()
    assert seen == [[0.0, 1.0]]
