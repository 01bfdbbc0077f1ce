"""Muon: momentum of matrices, made orthogonal.

In: matrices with gradients. Out: new parameters and momentum buffers. Invariant: PyTorch's update;
the iteration that makes an update orthogonal is matrix products in bfloat16, part of the step's
plan. Source: Jordan 2024, https://kellerjordan.github.io/posts/muon/;
https://docs.pytorch.org/docs/stable/generated/torch.optim.Muon.html
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from tgrad import dtype as dt
from tgrad.errors import OutOfRangeError, ShapeError, UnsupportedError
from tgrad.optim.optimizer import Group, Optimizer, Update, check_settings
from tgrad.tensor import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(Optimizer):
    """param -= lr * ratio * O(d), with d the momentum and O the nearest orthogonal matrix.

    Args:
        params: matrices, or groups of them; embeddings, biases and gains belong to AdamW.
        lr: learning rate.
        weight_decay: times lr and the parameter.
        momentum: how much of the average stays at each step.
        nesterov: look ahead.
        ns_coefficients: a, b, c of the iteration x = a x + (b x x^T + c (x x^T)^2) x.
        eps: the least norm that a gradient is divided by.
        ns_steps: how many iterations, below 100.
        adjust_lr_fn: None or "original": ratio = sqrt(max(1, rows / columns));
            "match_rms_adamw": 0.2 sqrt(max(rows, columns)).

    Raises:
        ShapeError: a parameter is not a matrix.

    >>> import tgrad
    >>> w = tgrad.zeros(2, 2, requires_grad=True)
    >>> optimizer = tgrad.optim.Muon([w], lr=1.0)
    >>> (w * tgrad.eye(2)).sum().backward()
    >>> optimizer.step()
    >>> bool((w.diagonal() < -0.6).all())
    True
    """

    repeats = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = COEFFICIENTS,
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ):
        check_settings("Muon", lr=lr, weight_decay=weight_decay, momentum=momentum)  # type: ignore
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise UnsupportedError(
                f"Muon: adjust_lr_fn={adjust_lr_fn!r}.", 'Use "original" or "match_rms_adamw".'
            )
        if not 0 <= ns_steps < 100 or len(ns_coefficients) != 3:
            raise OutOfRangeError(
                f"Muon: ns_steps={ns_steps}, ns_coefficients={ns_coefficients}.",
                "Use less than 100 steps and three coefficients.",
            )
        settings = {
            "lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov,
            "ns_coefficients": ns_coefficients, "eps": eps, "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        }  # fmt: skip
        super().__init__(params, settings)
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim != 2:
                    raise ShapeError(
                        f"Muon of a parameter of shape {p.shape}.",
                        "Give matrices, and the rest to AdamW.",
                    )

    def update(self, u: Update, group: Group) -> Tensor:
        lr, momentum, grad = u.setting("lr"), u.setting("momentum"), u.grad
        before = u.start("momentum_buffer")
        buffer = u.keep("momentum_buffer", before + (grad - before) * (1 - momentum))
        direction = grad + (buffer - grad) * momentum if group["nesterov"] else buffer
        direction = _orthogonal(direction, group).to(u.value.dtype)
        value = u.value - u.value * (lr * group["weight_decay"])
        return value - direction * (lr * _ratio(group["adjust_lr_fn"], *u.param.shape))


def _orthogonal(x: Tensor, group: Group) -> Tensor:
    """Singular values near 1, by a Newton-Schulz iteration of degree 5 in bfloat16."""
    a, b, c = group["ns_coefficients"]
    is_tall = x.shape[0] > x.shape[1]
    x = x.to(dt.bfloat16)
    x = x.t() if is_tall else x
    x = x / x.norm().clamp(min=group["eps"])
    for _ in range(group["ns_steps"]):
        square = x @ x.t()
        x = x.addmm(square.addmm(square, square, beta=b, alpha=c), x, beta=a)
    return x.t() if is_tall else x


def _ratio(rule: str | None, rows: int, columns: int) -> float:
    if rule == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1.0, rows / columns))
