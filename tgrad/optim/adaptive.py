"""Optimizers with a step size for each element: RMSprop, Adagrad, Adadelta, Adamax, NAdam, RAdam.

In: parameters with gradients. Out: new parameters and averages. Invariant: PyTorch's updates and
names of state. Sources: Hinton 2012 (lecture 6e); Duchi et al. 2011; Zeiler 2012; Kingma and Ba
2015; Dozat 2016; Liu et al. 2020; https://docs.pytorch.org/docs/stable/optim.html
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from tgrad.arguments import refuse
from tgrad.errors import OutOfRangeError
from tgrad.optim.adam import bias_correction, setting_key
from tgrad.optim.optimizer import Group, Optimizer, Update, check_betas, check_settings
from tgrad.tensor import Tensor


class _Adaptive(Optimizer):
    """Checks and groups of these optimizers; gradients with the decay that is not decoupled."""

    counts_steps = True

    def _start(self, params: Iterable[Any], **settings: Any) -> None:
        name = type(self).__name__
        refuse(name, differentiable=settings["differentiable"])
        signs = ("lr", "eps", "weight_decay", "momentum", "lr_decay", "initial_accumulator_value")
        check_settings(name, **{k: v for k, v in settings.items() if k in signs})
        for share in ("alpha", "rho"):
            if not 0 <= settings.get(share, 0) <= 1:
                raise OutOfRangeError(f"{name}: {share}={settings[share]}.", "Use 0 to 1.")
        if "betas" in settings:
            check_betas(name, settings["betas"])
        super().__init__(params, settings)

    def _gradient(self, u: Update, group: Group) -> Tensor:
        decay = group["weight_decay"]
        return u.grad + u.value * decay if decay else u.grad


class RMSprop(_Adaptive):
    """param -= lr * g / (sqrt(v) + eps), with v the moving average of the squared gradient.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        alpha: how much of the average stays at each step.
        eps: added to the root.
        weight_decay: times the parameter, added to the gradient.
        momentum: share of the last direction in the next.
        centered: v is the variance: less the square of the average gradient.
        capturable, foreach: accepted; tgrad fuses by itself.
        maximize: ascend.
        differentiable: not supported.

    >>> import tgrad
    >>> w = tgrad.ones(1, requires_grad=True)
    >>> optimizer = tgrad.optim.RMSprop([w], lr=0.05)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 4)
    0.5
    """

    repeats = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ):
        self._start(
            params, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum,
            centered=centered, capturable=capturable, foreach=foreach, maximize=maximize,
            differentiable=differentiable,
        )  # fmt: skip

    def update(self, u: Update, group: Group) -> Tensor:
        alpha, grad = group["alpha"], self._gradient(u, group)
        v = u.keep("square_avg", u.start("square_avg") * alpha + grad * grad * (1 - alpha))
        if group["centered"]:
            before = u.start("grad_avg")
            mean = u.keep("grad_avg", before + (grad - before) * (1 - alpha))
            v = v - mean * mean
        direction = grad / (v.sqrt() + group["eps"])
        if group["momentum"]:
            before = u.start("momentum_buffer")
            direction = u.keep("momentum_buffer", before * u.setting("momentum") + direction)
        return u.value - direction * u.setting("lr")


class Adagrad(_Adaptive):
    """param -= lr * g / (sqrt(s) + eps), with s the sum of all squared gradients.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        lr_decay: lr is divided by 1 + lr_decay for each step before.
        weight_decay: times the parameter, added to the gradient.
        initial_accumulator_value: first value of s.
        eps: added to the root.
        foreach, fused: accepted; tgrad fuses by itself.
        maximize: ascend.
        differentiable: not supported.
    """

    repeats = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        self._start(
            params, lr=lr, lr_decay=lr_decay, eps=eps, weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value, foreach=foreach,
            maximize=maximize, differentiable=differentiable, fused=fused,
        )  # fmt: skip

    def update(self, u: Update, group: Group) -> Tensor:
        grad, lr, decay = self._gradient(u, group), u.setting("lr"), group["lr_decay"]
        if decay:
            lr = u.share(("lr", setting_key(lr), decay), lambda: lr / ((u.step - 1) * decay + 1))
        total = u.keep("sum", u.start("sum", group["initial_accumulator_value"]) + grad * grad)
        return u.value - grad * lr / (total.sqrt() + group["eps"])


class Adadelta(_Adaptive):
    """param -= lr * d, with d = g * sqrt(a + eps) / sqrt(v + eps), v and a the moving averages of
    the squared g and the squared d before.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        rho: how much of the averages stays at each step.
        eps: added under the roots.
        weight_decay: times the parameter, added to the gradient.
        foreach, capturable: accepted; tgrad fuses by itself.
        maximize: ascend.
        differentiable: not supported.
    """

    repeats = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ):
        self._start(
            params, lr=lr, rho=rho, eps=eps, weight_decay=weight_decay, foreach=foreach,
            capturable=capturable, maximize=maximize, differentiable=differentiable,
        )  # fmt: skip

    def update(self, u: Update, group: Group) -> Tensor:
        rho, eps, grad = group["rho"], group["eps"], self._gradient(u, group)
        v = u.keep("square_avg", u.start("square_avg") * rho + grad * grad * (1 - rho))
        before = u.start("acc_delta")
        delta = grad * ((before + eps).sqrt() / (v + eps).sqrt())
        u.keep("acc_delta", before * rho + delta * delta * (1 - rho))
        return u.value - delta * u.setting("lr")


class Adamax(_Adaptive):
    """param -= lr * m / n, with m the corrected moving average of the gradient and n its largest
    magnitude, which fades.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        betas: how much of the average, and of the largest magnitude, stays at each step.
        eps: added to the gradient's magnitude.
        weight_decay: times the parameter, added to the gradient.
        foreach, capturable: accepted; tgrad fuses by itself.
        maximize: ascend.
        differentiable: not supported.
    """

    repeats = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ):
        self._start(
            params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, foreach=foreach,
            maximize=maximize, differentiable=differentiable, capturable=capturable,
        )  # fmt: skip

    def update(self, u: Update, group: Group) -> Tensor:
        beta1, beta2, lr = u.setting("beta1"), u.setting("beta2"), u.setting("lr")
        grad, before = self._gradient(u, group), u.start("exp_avg")
        m = u.keep("exp_avg", before + (grad - before) * (1 - beta1))
        largest = (u.start("exp_inf") * beta2).maximum(grad.abs() + group["eps"])
        n = u.keep("exp_inf", largest)
        size = u.share(
            ("size", setting_key(lr), setting_key(beta1)),
            lambda: lr / bias_correction(u.step, beta1),
        )
        return u.value - m * size / n


class NAdam(_Adaptive):
    """Adam whose step looks ahead along m, as Nesterov's momentum does.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        betas: how much of the averages stays at each step.
        eps: added to the root.
        weight_decay: times the parameter, added to the gradient.
        momentum_decay: how fast the share of m rises to betas[0].
        decoupled_weight_decay: decay as AdamW does.
        foreach, capturable: accepted; tgrad fuses by itself.
        maximize: ascend.
        differentiable: not supported.
    """

    repeats = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ):
        self._start(
            params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay,
            momentum_decay=momentum_decay, decoupled_weight_decay=decoupled_weight_decay,
            maximize=maximize, foreach=foreach, capturable=capturable,
            differentiable=differentiable,
        )  # fmt: skip

    def update(self, u: Update, group: Group) -> Tensor:
        beta1, beta2, lr = u.setting("beta1"), u.setting("beta2"), u.setting("lr")
        value, grad = u.value, u.grad
        if group["decoupled_weight_decay"]:
            value = value - value * (lr * group["weight_decay"])
        else:
            grad = self._gradient(u, group)
        first, second = u.start("exp_avg"), u.start("exp_avg_sq")
        m = u.keep("exp_avg", first + (grad - first) * (1 - beta1))
        v = u.keep("exp_avg_sq", second * beta2 + grad * grad * (1 - beta2))
        key, decay = setting_key(beta1), group["momentum_decay"] * math.log(0.96)

        def share_of_m(ahead: int) -> Tensor:
            return (1.0 - ((u.step + ahead) * decay).exp() * 0.5) * beta1

        now = u.share(("now", key, decay), lambda: share_of_m(0))
        then = u.share(("then", key, decay), lambda: share_of_m(1))
        product = u.keep("mu_product", u.start("mu_product", 1.0, ()) * now)
        root = u.share(("root", setting_key(beta2)), lambda: bias_correction(u.step, beta2).rsqrt())
        direction = grad * ((1.0 - now) / (1.0 - product)) + m * (then / (1.0 - product * then))
        return value - direction * lr / (v.sqrt() * root + group["eps"])


class RAdam(_Adaptive):
    """Adam whose step is rectified: a plain step along m while v has seen too few gradients.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        betas: how much of the averages stays at each step.
        eps: added to the root.
        weight_decay: times the parameter, added to the gradient.
        decoupled_weight_decay: decay as AdamW does.
        foreach, capturable: accepted; tgrad fuses by itself.
        maximize: ascend.
        differentiable: not supported.
    """

    repeats = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ):
        self._start(
            params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay,
            decoupled_weight_decay=decoupled_weight_decay, foreach=foreach, maximize=maximize,
            capturable=capturable, differentiable=differentiable,
        )  # fmt: skip

    def update(self, u: Update, group: Group) -> Tensor:
        beta1, beta2, lr = u.setting("beta1"), u.setting("beta2"), u.setting("lr")
        value, grad = u.value, u.grad
        if group["decoupled_weight_decay"]:
            value = value - value * (lr * group["weight_decay"])
        else:
            grad = self._gradient(u, group)
        first, second = u.start("exp_avg"), u.start("exp_avg_sq")
        m = u.keep("exp_avg", first + (grad - first) * (1 - beta1))
        v = u.keep("exp_avg_sq", second * beta2 + grad * grad * (1 - beta2))
        key = (setting_key(lr), setting_key(beta1), setting_key(beta2))
        size = u.share(("size", *key), lambda: lr / bias_correction(u.step, beta1))
        rectified = u.share(("rectified", *key), lambda: _rectification(u.step, beta2))
        adaptive = rectified / (v.sqrt() + group["eps"])
        return value - m * size * adaptive.where(rectified > 0, 1.0)


def _rectification(step: Tensor, beta2: float | Tensor) -> Tensor:
    """sqrt(1 - beta2^t) times the factor by which the variance of 1 / sqrt(v) is off at step t; 0
    while the average is as good as that of at most 5 gradients."""
    correction = bias_correction(step, beta2)
    most = 2.0 / (1.0 - beta2) - 1.0
    length = -(step * 2.0) * ((1.0 - correction) / correction) + most
    ratio = (length - 4) * (length - 2) * most / (length * ((most - 4) * (most - 2)))
    return (ratio.maximum(0.0) * correction).sqrt().where(length > 5, 0.0)
