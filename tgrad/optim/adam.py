"""Adam and AdamW.

In: parameters with gradients. Out: new parameters and moments. Invariant: PyTorch's update; the
bias corrections are made once a step, from the counter, and shared by all parameters of that count.
Source: Kingma and Ba 2015; Loshchilov and Hutter 2019; Reddi et al. 2018;
https://docs.pytorch.org/docs/stable/generated/torch.optim.AdamW.html
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from typing import Any

from tgrad.arguments import refuse
from tgrad.optim.optimizer import Group, Optimizer, Update, check_betas, check_settings
from tgrad.tensor import Tensor


class Adam(Optimizer):
    """param -= lr * m / (sqrt(v) + eps), with m and v the corrected moving averages of the gradient
    and its square.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        betas: how much of the averages stays at each step.
        eps: added to the root.
        weight_decay: times the parameter, added to the gradient.
        amsgrad: use the largest v so far.
        foreach, fused, capturable: accepted; tgrad fuses by itself.
        maximize: ascend.
        differentiable: not supported.
        decoupled_weight_decay: decay as AdamW does.

    >>> import tgrad
    >>> w = tgrad.ones(1, requires_grad=True)
    >>> optimizer = tgrad.optim.Adam([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 4)
    0.5
    """

    counts_steps = repeats = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ):
        name = type(self).__name__
        refuse(name, differentiable=differentiable)
        check_settings(name, lr=lr, eps=eps, weight_decay=weight_decay)  # type: ignore[arg-type]
        check_betas(name, betas)
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
                "foreach": foreach,
                "capturable": capturable,
                "differentiable": differentiable,
                "fused": fused,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
        )

    def update(self, u: Update, group: Group) -> Tensor:
        beta1, beta2, lr = u.setting("beta1"), u.setting("beta2"), u.setting("lr")
        decay, value, grad = group["weight_decay"], u.value, u.grad
        if decay and group["decoupled_weight_decay"]:
            value = value - value * u.share(("decay", setting_key(lr), decay), lambda: lr * decay)
        elif decay:
            grad = grad + value * decay
        first, second = u.start("exp_avg"), u.start("exp_avg_sq")
        m = u.keep("exp_avg", first + (grad - first) * (1 - beta1))
        v = u.keep("exp_avg_sq", second * beta2 + grad * grad * (1 - beta2))
        if group["amsgrad"]:
            v = u.keep("max_exp_avg_sq", u.start("max_exp_avg_sq").maximum(v))
        size = u.share(
            ("size", setting_key(lr), setting_key(beta1)),
            lambda: lr / bias_correction(u.step, beta1),
        )
        root = u.share(("root", setting_key(beta2)), lambda: bias_correction(u.step, beta2).rsqrt())
        return value - m * size / (v.sqrt() * root + group["eps"])


def setting_key(number: float | Tensor) -> Hashable:
    """What tells settings apart that are numbers or tensors, which are made anew by each look."""
    return number._node if isinstance(number, Tensor) else number


def bias_correction(step: Tensor, beta: float | Tensor) -> Tensor:
    """1 - beta ** step, right to the last digits of float32, where 1 - 0.999 ** 1 itself would lose
    three of seven: 2 t / (1 + t) with t = tanh(-step * ln(beta) / 2)."""
    if isinstance(beta, Tensor):
        t = (step * beta.log() * -0.5).tanh()
    elif beta == 0:
        return step._constant(1, step.dtype)
    else:
        t = (step * (-0.5 * math.log(beta))).tanh()
    return t * 2.0 / (t + 1.0)


class AdamW(Adam):
    """Adam with decoupled weight decay: param -= lr * weight_decay * param, beside the step.

    Arguments are those of `Adam`.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )
