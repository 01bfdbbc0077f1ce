"""Stochastic gradient descent.

In: parameters with gradients. Out: new parameters and momentum buffers. Invariant: PyTorch's
update. Source: Sutskever et al. 2013; https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tgrad.arguments import refuse
from tgrad.errors import OutOfRangeError
from tgrad.optim.optimizer import Group, Optimizer, Update, check_settings
from tgrad.tensor import Tensor
from tgrad.tracing import tracer


class SGD(Optimizer):
    """param -= lr * d, with d the gradient or its momentum.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        momentum: share of the last d in the next.
        dampening: share of the gradient that does not enter the momentum.
        weight_decay: times the parameter, added to the gradient.
        nesterov: look ahead; needs momentum and no dampening.
        maximize: ascend.
        foreach, fused: accepted; tgrad fuses by itself.
        differentiable: not supported.

    >>> import tgrad
    >>> w = tgrad.ones(1, requires_grad=True)
    >>> optimizer = tgrad.optim.SGD([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.tolist()
    [0.0]
    """

    repeats = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        refuse("SGD", differentiable=differentiable)
        check_settings("SGD", lr=lr, momentum=momentum, weight_decay=weight_decay)  # type: ignore
        if nesterov and (momentum <= 0 or dampening != 0):
            raise OutOfRangeError(
                f"SGD: nesterov=True with momentum={momentum}, dampening={dampening}.",
                "It needs momentum above 0 and no dampening.",
            )
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
                "foreach": foreach,
                "differentiable": differentiable,
                "fused": fused,
            },
        )

    def update(self, u: Update, group: Group) -> Tensor:
        direction = u.grad
        if group["weight_decay"]:
            direction = direction + u.value * group["weight_decay"]
        if group["momentum"]:
            direction = self._with_momentum(u, direction, group)
        return u.value - direction * u.setting("lr")

    def _with_momentum(self, u: Update, d: Tensor, group: Group) -> Tensor:
        """buffer = momentum * buffer + (1 - dampening) * d; the first one is d itself.

        The first buffer comes from zeros and a dampening of 0, so its graph is that of the others.
        """
        is_first, momentum = u.state.get("momentum_buffer") is None, u.setting("momentum")
        before = u.start("momentum_buffer")
        if group["dampening"]:
            kept = 1.0 if is_first else 1.0 - group["dampening"]
            trace = tracer()
            if is_first and trace is not None:
                trace.keep_once()
            name = f"kept {kept}"
            d = d * self.as_number(-1, name, kept, u.param.device, d.dtype)
        buffer = u.keep("momentum_buffer", before * momentum + d)
        return d + buffer * momentum if group["nesterov"] else buffer
