"""Gradients of gradients of PyTorch's operator database, in float64, beside PyTorch's own.

Every operator of the list in tests/ops that has a gradient has a second one. The table of ops is
held by finite differences in test_vjps.py; this holds what is composed of them, with VJPs of their
own (softmax, norms, attention, convolution, losses, scans, linear algebra). Of each operator one
sample counts: the first whose second derivative is not zero. Where PyTorch has no second derivative
(`NONE_IN_PYTORCH`), differences of its first one stand in.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing._internal.opinfo.core import OpInfo, SampleInput

import tgrad
from tests.front.checking import to_numpy
from tests.ops.opinfo import Case, NothingInTorch, flat, made_samples, operators, read_passes
from tgrad.tensor import Tensor

DRAWN, LOOKED_AT = 20, 6
"""Samples made of an operator, and how many of them are looked at for a curved one."""
LARGEST = 500
"""Elements of a sample's input, where it has one that small."""
TOLERANCE = 1e-7
"""Of the largest element, in float64."""
STEP, TOLERANCE_OF_DIFFERENCES = 1e-5, 1e-6

NONE_IN_PYTORCH = {
    "cdist": "the derivative for '_cdist_backward' is not implemented",
    "nn.functional.embedding_bag": "_embedding_bag_per_sample_weights_backward is not implemented",
    "nn.functional.hardsigmoid": "hardsigmoid_backward is not implemented",
    "nn.functional.multi_margin_loss": "multi_margin_loss_backward is not implemented",
    "nn.functional.multilabel_margin_loss": "multilabel_margin_loss_backward is not implemented",
    "nn.functional.pdist": "the derivative for '_pdist_backward' is not implemented",
}
"""Operators of which PyTorch has a first derivative only, and what it says when asked for more."""

DIFFERENTIABLE = [
    name
    for name, line in read_passes().items()
    if line.endswith("backward")
    and name in operators()  # an older PyTorch has fewer
    and torch.float64 in operators()[name].supported_dtypes("cpu")
]
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def samples(op: OpInfo) -> list[SampleInput]:
    """Some samples of an operator, spread evenly, whose inputs are not large."""
    found = list(islice(made_samples(op, torch.float64, requires_grad=True), DRAWN))
    small = [s for s in found if sum(x.numel() for x in tensors(s)) <= LARGEST] or found
    count = min(LOOKED_AT, len(small))
    return [small[i * (len(small) - 1) // max(count - 1, 1)] for i in range(count)]


def tensors(sample: SampleInput) -> list[torch.Tensor]:
    given = flat([sample.input, *sample.args, *sample.kwargs.values()])
    return [x for x in given if isinstance(x, torch.Tensor)]


def weights(like: list[torch.Tensor], first: int) -> list[np.ndarray]:
    rngs = (np.random.default_rng(first + i) for i in range(len(like)))
    return [np.asarray(rng.normal(size=tuple(t.shape))) for rng, t in zip(rngs, like)]


def gradient_of_torch(op: OpInfo, sample: SampleInput) -> tuple[list[Any], Any]:
    """First derivatives along one direction, and their sum along another; 0.0 if that is flat."""
    made = flat(sample.output_process_fn_grad(op.op(sample.input, *sample.args, **sample.kwargs)))
    outputs = [y for y in made if isinstance(y, torch.Tensor) and y.requires_grad]
    inputs = [x for x in tensors(sample) if x.requires_grad]
    w = [torch.from_numpy(a) for a in weights(outputs, 10)]
    first = torch.autograd.grad(outputs, inputs, w, create_graph=True, allow_unused=True)
    along = [torch.from_numpy(v) for v in weights(inputs, 50)]
    return list(first), sum((g * v).sum() for g, v in zip(first, along) if g is not None)


def second_of_torch(op: OpInfo, sample: SampleInput) -> tuple[list[Any], list[Any]]:
    """First and second derivatives; None for one that is zero whatever the input."""
    inputs = [x for x in tensors(sample) if x.requires_grad]
    first, total = gradient_of_torch(op, sample)
    if not isinstance(total, torch.Tensor) or not total.requires_grad:
        return first, [None] * len(inputs)
    return first, list(torch.autograd.grad(total, inputs, allow_unused=True))


def second_of_tgrad(case: Case) -> tuple[list[Any], list[Any]]:
    pairs = list(zip(case.ours, case.theirs))
    pairs = [(m, t) for m, t in pairs if isinstance(t, torch.Tensor) and t.requires_grad]
    inputs = [(m, t) for t, m in case.leaves if t.requires_grad]
    total: Any = 0.0
    for (m, _), w in zip(pairs, weights([t for _, t in pairs], 10)):
        total = total + (m * tgrad.tensor(w, device="numpy")).sum()
    leaves = [m for m, _ in inputs]
    first = gradient(total, leaves)
    along = weights([t for _, t in inputs], 50)
    total = 0.0
    for g, v in zip(first, along):
        if g is not None:
            total = total + (g * tgrad.tensor(v, device="numpy")).sum()
    return first, gradient(total, leaves)


def gradient(total: Any, leaves: list[Tensor]) -> list[Tensor | None]:
    if not isinstance(total, Tensor) or not total.requires_grad:
        return [None] * len(leaves)
    return list(tgrad.autograd.grad(total, leaves, create_graph=True, allow_unused=True))


def assert_same(have: list[Any], want: list[Any], what: str) -> None:
    for i, (a, b) in enumerate(zip(have, want, strict=True)):
        mine = np.zeros(()) if a is None else to_numpy(a)
        theirs = np.zeros(()) if b is None else to_numpy(b + torch.zeros(()))
        finite = np.abs(theirs[np.isfinite(theirs)])
        scale = max(1.0, float(finite.max(initial=0.0)))
        np.testing.assert_allclose(
            mine + 0 * theirs, theirs + 0 * mine, rtol=0, atol=TOLERANCE * scale,
            err_msg=f"{what} of input {i}",
        )  # fmt: skip


def is_curved(second: list[Any]) -> bool:
    return any(g is not None and bool((g.nan_to_num() != 0).any()) for g in second)


def check_beside_torch(op: OpInfo) -> None:
    """The first curved sample; the last one where none is."""
    for sample in samples(op):
        want = second_of_torch(op, sample)
        if is_curved(want[1]):
            break
    case = Case(op, sample, "numpy")
    with NothingInTorch():
        have = second_of_tgrad(case)
    assert_same(have[0], want[0], "the gradient")
    assert_same(have[1], want[1], "the second derivative")


def refused_sample(op: OpInfo, reason: str) -> SampleInput:
    """The first sample whose second derivative PyTorch refuses for this reason."""
    for sample in samples(op):
        try:
            second_of_torch(op, sample)
        except (RuntimeError, NotImplementedError) as error:
            assert reason in str(error)
            return sample
    raise AssertionError("PyTorch has second derivatives: take the name off NONE_IN_PYTORCH.")


def check_by_differences(op: OpInfo, reason: str) -> None:
    """Along one direction: of PyTorch's first derivatives at two points close by."""
    sample = refused_sample(op, reason)
    first, _ = gradient_of_torch(op, sample)
    case = Case(op, sample, "numpy")
    with NothingInTorch():
        have = second_of_tgrad(case)
    assert_same(have[0], first, "the gradient")
    inputs = [x for x in tensors(sample) if x.requires_grad]
    direction = weights(inputs, 90)
    ours = sum(float((to_numpy(g) * u).sum()) for g, u in zip(have[1], direction) if g is not None)
    ends = []
    for sign in (1, -2):  # to x + h u, and from there to x - h u
        with torch.no_grad():
            for x, u in zip(inputs, direction):
                x += sign * STEP * torch.from_numpy(u)
        ends.append(float(gradient_of_torch(op, sample)[1]))
    theirs = (ends[0] - ends[1]) / (2 * STEP)
    assert abs(ours - theirs) <= TOLERANCE_OF_DIFFERENCES * max(1.0, abs(theirs))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_second_order(name: str) -> None:
    op = operators()[name]
    if name in NONE_IN_PYTORCH:
        check_by_differences(op, NONE_IN_PYTORCH[name])
    else:
        check_beside_torch(op)


def test_each_name_without_a_second_derivative_is_checked() -> None:
    assert set(NONE_IN_PYTORCH) <= set(DIFFERENTIABLE)
