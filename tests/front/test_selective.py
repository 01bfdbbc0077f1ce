"""Checkpoints that keep the results of some operations."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import create_selective_checkpoint_contexts as theirs_of

import tgrad
from tgrad.errors import UnsupportedError
from tgrad.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
    noop_context_fn,
)

X = np.random.default_rng(0).standard_normal((32, 16)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).standard_normal((3, 16, 16)).astype(np.float32) / 4


def block(module, x, weights):
    for w in weights:
        x = module.nn.functional.gelu(module.matmul(x, w)).exp().softmax(-1)
    return x


def run(wrap):
    """The gradients, and how many products the plan has that computes them."""
    weights = [tgrad.tensor(w, requires_grad=True) for w in WEIGHTS]
    x = tgrad.tensor(X, requires_grad=True)
    (wrap(lambda x: block(tgrad, x, weights), x) ** 2).sum().backward()
    found = [x.grad, *(w.grad for w in weights)]
    plan = tgrad.explain(*found)
    dots = [k for k in plan.kernels if k.region.space.kind == "dot"]
    return [g.numpy() for g in found], len(dots)


def contexts(policy):
    return {"context_fn": partial(create_selective_checkpoint_contexts, policy)}


def test_kept_products_are_not_computed_again():
    plain, forward_and_backward = run(lambda f, x: f(x))
    again, with_forward_again = run(checkpoint)
    assert with_forward_again == forward_and_backward + 3
    kept = []
    for policy in (
        [tgrad.matmul],
        ["matmul"],
        lambda context, op: (
            CheckpointPolicy.MUST_SAVE
            if op == "matmul" and not context.is_recompute
            else CheckpointPolicy.PREFER_RECOMPUTE
        ),
        lambda context, op, *args, **kwargs: op == "matmul",
    ):
        gradients, dots = run(partial(checkpoint, use_reentrant=False, **contexts(policy)))
        assert dots == forward_and_backward
        kept.append(gradients)
    other, dots = run(partial(checkpoint, **contexts(["softmax"])))
    assert dots == with_forward_again  # the derivative of gelu reads them
    for found in (again, other, *kept):
        for a, b in zip(found, plain):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_values_are_those_of_pytorch():
    weights = [torch.tensor(w, requires_grad=True) for w in WEIGHTS]
    x = torch.tensor(X, requires_grad=True)
    y = torch.utils.checkpoint.checkpoint(
        lambda x: block(torch, x, weights), x, use_reentrant=False,
        context_fn=partial(theirs_of, [torch.ops.aten.mm.default]),
    )  # fmt: skip
    (y**2).sum().backward()
    gradients, _ = run(partial(checkpoint, **contexts(["matmul"])))
    for found, want in zip(gradients, (x, *weights)):
        np.testing.assert_allclose(found, want.grad.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["exp", "scaled_dot_product_attention", "gelu", "dropout"])
def test_second_order(name):
    def function(x):
        heads = x.reshape(2, 16, 16)
        y = tgrad.nn.functional.scaled_dot_product_attention(heads, heads, heads).exp()
        return tgrad.nn.functional.dropout(tgrad.nn.functional.gelu(y), 0.5)

    found = []
    for wrap in (lambda f, x: f(x), partial(checkpoint, **contexts([name]))):
        tgrad.manual_seed(3)
        x = tgrad.tensor(X, requires_grad=True)
        (g,) = tgrad.autograd.grad(wrap(function, x).sum(), x, create_graph=True)
        found.append((g, tgrad.autograd.grad((g * g).sum(), x)[0]))
    for a, b in zip(*found):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-4, atol=1e-4)


def test_no_policy():
    _, dots = run(partial(checkpoint, context_fn=lambda: noop_context_fn()))
    assert dots == run(checkpoint)[1]


MISTAKES = {
    "torch's operator": (
        [torch.ops.aten.mm.default],
        "a checkpoint that keeps the results of aten.mm.default.\n"
        'Name the operation as tgrad does, such as "matmul" or tgrad.matmul.',
    ),
    "to the host": (
        lambda context, op: CheckpointPolicy.MUST_CPU_OFFLOAD,
        "a checkpoint with CheckpointPolicy.MUST_CPU_OFFLOAD.\n"
        "Use MUST_SAVE, or MUST_RECOMPUTE, which takes no room.",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    policy, message = MISTAKES[name]
    with pytest.raises(UnsupportedError) as caught:
        run(partial(checkpoint, **contexts(policy)))
    lines = [line.strip() for line in str(caught.value).splitlines()]
    assert [line for line in lines if not line.startswith("at ")] == message.splitlines()


def test_own_contexts_are_refused():
    with pytest.raises(UnsupportedError, match="contexts of your own") as caught:
        run(partial(checkpoint, context_fn=lambda: (tgrad.no_grad(), tgrad.no_grad())))
    assert "memory_limit=" in str(caught.value)
