"""ASGD: stochastic gradient descent with an average of the parameters.

In: parameters with gradients. Out: new parameters and averages. Invariant: PyTorch's update; the
step size of a step is state, made at the step before. Source: Polyak and Juditsky 1992;
https://docs.pytorch.org/docs/stable/generated/torch.optim.ASGD.html
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tgrad.arguments import refuse
from tgrad.optim.optimizer import Group, Optimizer, Update, check_settings
from tgrad.tensor import Tensor


class ASGD(Optimizer):
    """param -= eta * (g + lambd * param), with eta = lr / (1 + lambd * lr * t) ** alpha; the state
    "ax" is the average of the parameters since step t0.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        lambd: decay of the parameters.
        alpha: power by which eta falls.
        t0: step at which averaging starts.
        weight_decay: times the parameter, added to the gradient.
        foreach, capturable: accepted; tgrad fuses by itself.
        maximize: ascend.
        differentiable: not supported.

    >>> import tgrad
    >>> w = tgrad.ones(1, requires_grad=True)
    >>> optimizer = tgrad.optim.ASGD([w], lr=0.5, lambd=0)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.tolist()
    [0.0]
    """

    counts_steps = repeats = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ):
        refuse("ASGD", differentiable=differentiable)
        check_settings("ASGD", lr=lr, weight_decay=weight_decay)  # type: ignore[arg-type]
        settings = {
            "lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay,
            "foreach": foreach, "maximize": maximize, "differentiable": differentiable,
            "capturable": capturable,
        }  # fmt: skip
        super().__init__(params, settings)

    def update(self, u: Update, group: Group) -> Tensor:
        lr, lambd, decay = u.setting("lr"), group["lambd"], group["weight_decay"]
        grad = u.grad + u.value * decay if decay else u.grad
        is_first = u.state.get("eta") is None
        eta = u.start("eta", float(dict.__getitem__(group, "lr")) if is_first else 0.0, ())
        mu = u.start("mu", 1.0, ())
        value = u.value * (1.0 - eta * lambd) - grad * eta
        before = u.start("ax")
        u.keep("ax", value.where(mu == 1, before + (value - before) * mu))
        u.keep("eta", lr / (u.step * (lr * lambd) + 1.0) ** group["alpha"])
        u.keep("mu", 1.0 / (u.step - group["t0"]).maximum(1.0))
        return value
