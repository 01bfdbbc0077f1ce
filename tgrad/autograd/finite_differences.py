"""Gradients compared with finite differences, as torch.autograd.gradcheck.

In: a function and inputs in float64. Out: True, or an error that shows both Jacobians. Invariant:
the function is called with leaves of the inputs' values; the inputs stay as they are.
Source: https://docs.pytorch.org/docs/stable/generated/torch.autograd.gradcheck.gradcheck.html
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tgrad import dtype as dt
from tgrad.arguments import refuse
from tgrad.autograd import grad
from tgrad.errors import GradientError
from tgrad.grad_mode import enable_grad
from tgrad.random import randn
from tgrad.tensor import Tensor, realize_tensors, tensor

__all__ = ["GradcheckError", "gradcheck", "gradgradcheck"]

Function = Callable[..., Any]
Array = np.ndarray

EMPTY = np.zeros((0, 0))


class GradcheckError(GradientError):
    """A derivative is not what finite differences show."""


@dataclass(frozen=True)
class Tolerances:
    """How far two Jacobians may be apart, and how far two runs of a backward."""

    atol: float
    rtol: float
    nondet_tol: float


def gradcheck(
    func: Function,
    inputs: Sequence[Any] | Tensor,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Whether the gradients of a function are those that finite differences show.

    Args:
        func: of the inputs; gives a tensor or several.
        inputs: those that require gradients are checked; float64, or the differences say little.
        eps: the step: (f(x + eps) - f(x - eps)) / (2 * eps).
        atol, rtol: how far the two may be apart: atol + rtol * |difference quotient|.
        raise_exception: whether a failure raises; else the result is False.
        nondet_tol: how far two runs of the backward may be apart.
        check_undefined_grad, check_grad_dtypes: accepted: each result is differentiated by itself,
            so backward meets results without a gradient; gradients always have their input's dtype.
        fast_mode: compare one random combination of rows and columns, not all.
        check_batched_grad, check_batched_forward_grad, check_forward_ad, masked: not supported.
        check_backward_ad: only True.

    Raises:
        GradcheckError: they are not.
        GradientError: no input requires a gradient.

    >>> import tgrad
    >>> x = tgrad.tensor([0.5, 2.0], dtype=tgrad.float64, requires_grad=True)
    >>> tgrad.autograd.gradcheck(lambda x: x.exp() * x, x)
    True
    """
    refuse(
        "gradcheck", check_batched_grad=check_batched_grad, check_forward_ad=check_forward_ad,
        check_batched_forward_grad=check_batched_forward_grad, masked=masked,
    )  # fmt: skip
    refuse("gradcheck", **({} if check_backward_ad else {"check_backward_ad": "False"}))
    given = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    checked = [i for i, x in enumerate(given) if isinstance(x, Tensor) and x.requires_grad]
    if not checked:
        raise GradientError("gradcheck: no input requires a gradient.", "Call requires_grad_().")
    if any(given[i].dtype is not dt.float64 for i in checked):
        warnings.warn("gradcheck needs float64: differences of less say little.", stacklevel=2)
    try:
        with enable_grad():
            _check(func, given, checked, eps, Tolerances(atol, rtol, nondet_tol), fast_mode)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(
    func: Function,
    inputs: Sequence[Any] | Tensor,
    grad_outputs: Sequence[Tensor] | Tensor | None = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool | None = False,
) -> bool:
    """`gradcheck` of the gradients of a function: whether its second derivatives are right, by the
    inputs and by the gradients of the results.

    Args:
        grad_outputs: the gradients of the results; normal numbers where they are not given.
        gen_non_contig_grad_outputs: accepted: tensors of tgrad have no strides that could matter.
        check_fwd_over_rev: not supported.
        check_rev_over_rev: only True.

    >>> import tgrad
    >>> x = tgrad.tensor([0.5, 2.0], dtype=tgrad.float64, requires_grad=True)
    >>> tgrad.autograd.gradgradcheck(lambda x: x.exp() * x, x)
    True
    """
    refuse("gradgradcheck", check_fwd_over_rev=check_fwd_over_rev)
    refuse("gradgradcheck", **({} if check_rev_over_rev else {"check_rev_over_rev": "False"}))
    given = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    checked = [i for i, x in enumerate(given) if isinstance(x, Tensor) and x.requires_grad]
    if grad_outputs is None:
        results = _results(func(*given))
        grad_outputs = [randn(y.shape, dtype=y.dtype, device=y.device) for y in results]
    given_grads = [grad_outputs] if isinstance(grad_outputs, Tensor) else list(grad_outputs)
    cotangents = [g.detach().requires_grad_() for g in given_grads]

    def gradients(*args: Any) -> list[Tensor]:
        own, weights = args[: len(given)], args[len(given) :]
        wanted = [own[i] for i in checked]
        found = grad(
            _results(func(*own)), wanted, weights, create_graph=True, materialize_grads=True
        )
        return [g for g in found if g is not None]

    return gradcheck(
        gradients, [*given, *cotangents], eps=eps, atol=atol, rtol=rtol,
        raise_exception=raise_exception, nondet_tol=nondet_tol, fast_mode=fast_mode,
        check_undefined_grad=check_undefined_grad, check_grad_dtypes=check_grad_dtypes,
        check_batched_grad=check_batched_grad, masked=masked,
    )  # fmt: skip


def _check(
    func: Function, given: list[Any], checked: list[int], eps: float, within: Tolerances, fast: bool
) -> None:
    """Compare wᵀ J d for directions d of the inputs and w of the results: all units, or one."""
    rng = np.random.default_rng(0)
    count = len(_results(func(*_leaves(given, checked))))
    by_differences: dict[tuple[int, int], Array] = {}
    directions = {i: _directions(given[i].numel(), fast, rng) for i in checked}
    for i in checked:
        columns = [_quotient(func, given, checked, i, eps, d) for d in directions[i]]
        for k in range(count):
            by_differences[k, i] = np.stack([c[k] for c in columns], 1) if columns else EMPTY
    for k in range(count):
        size = max(by_differences[k, i].shape[0] for i in checked)
        weights = _directions(size, fast, rng)
        first, again = (_pulled(func, given, checked, k, weights) for _ in range(2))
        for number, i in enumerate(checked):
            if not given[i].numel():
                continue
            rows, other = first[number], again[number]
            if rows.size and np.abs(rows - other).max() > within.nondet_tol:
                raise GradcheckError(
                    f"gradcheck: two runs of the backward of result {k} by input {i} are "
                    f"{np.abs(rows - other).max():g} apart.",
                    "Pass nondet_tol if they may be.",
                )
            _compare(weights @ by_differences[k, i], rows @ directions[i].T, k, i, within)


def _compare(quotients: Array, gradients: Array, k: int, i: int, within: Tolerances) -> None:
    near = np.allclose(gradients, quotients, within.rtol, within.atol, equal_nan=True)
    if not near:
        raise GradcheckError(
            f"gradcheck: the Jacobian of result {k} by input {i} is\n{gradients.T}\n"
            f"by backward, and\n{quotients.T}\nby finite differences.",
            "Look at the backward of the function, or at inputs where it has a kink.",
        )


def _directions(size: int, fast: bool, rng: np.random.Generator) -> Array:
    """One a row."""
    if not fast:
        return np.eye(size)
    drawn = rng.standard_normal((1, size))
    return drawn / max(float(np.linalg.norm(drawn)), 1e-30)


def _leaves(given: list[Any], checked: list[int], moved: int = -1, by: Any = 0.0) -> list[Any]:
    """The inputs as leaves of their own, one of them moved."""
    made = list(given)
    for i in checked:
        x = given[i]
        values = x.detach().numpy() + (by if i == moved else 0.0)
        made[i] = tensor(values, dtype=x.dtype, device=x.device, requires_grad=True)
    return made


def _quotient(
    func: Function, given: list[Any], checked: list[int], i: int, eps: float, direction: Array
) -> list[Array]:
    """(f(x + eps d) - f(x - eps d)) / (2 eps) of each result, flat."""
    step = eps * direction.reshape(given[i].shape)
    ends: list[list[Array]] = []
    for by in (step, -step):
        results = [y.detach() for y in _results(func(*_leaves(given, checked, i, by)))]
        realize_tensors(results)
        ends.append([y.numpy().astype(np.float64).reshape(-1) for y in results])
    return [(high - low) / (2 * eps) for high, low in zip(*ends)]


def _pulled(
    func: Function, given: list[Any], checked: list[int], k: int, weights: Array
) -> list[Array]:
    """Rows wᵀ J of result k by each input, for each w."""
    leaves = _leaves(given, checked)
    y = _results(func(*leaves))[k]
    wanted = [leaves[i] for i in checked]
    found: list[Any] = []
    for w in weights:
        cotangent = tensor(w.reshape(y.shape), dtype=y.dtype, device=y.device)
        if y.requires_grad:
            found.append(grad(y, wanted, cotangent, allow_unused=True))
        else:
            found.append([None] * len(wanted))
    realize_tensors([g for row in found for g in row if g is not None])
    return [
        np.array([
            np.zeros(x.numel()) if row[n] is None else row[n].numpy().reshape(-1) for row in found
        ]).reshape(len(weights), x.numel())
        for n, x in enumerate(wanted)
    ]  # fmt: skip


def _results(found: Any) -> list[Tensor]:
    """The floating-point tensors among what a function gives."""
    every = [found] if isinstance(found, Tensor) else list(found)
    return [y for y in every if isinstance(y, Tensor) and y.dtype.is_float]
