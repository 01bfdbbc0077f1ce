"""Rprop: steps from the signs of the gradient alone.

In: parameters with gradients. Out: new parameters and step sizes. Invariant: PyTorch's update.
Source: Riedmiller and Braun 1993;
https://docs.pytorch.org/docs/stable/generated/torch.optim.Rprop.html
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tgrad.arguments import refuse
from tgrad.errors import OutOfRangeError
from tgrad.optim.optimizer import Group, Optimizer, Update, check_settings
from tgrad.tensor import Tensor


class Rprop(Optimizer):
    """param -= sign(g) * size; an element's size grows while its gradient keeps its sign, and
    shrinks, with no step, when it changes.

    Args:
        params: parameters or groups of them.
        lr: the first sizes.
        etas: factors by which sizes shrink and grow.
        step_sizes: the least and the largest size.
        foreach, capturable: accepted; tgrad fuses by itself.
        maximize: ascend.
        differentiable: not supported.

    >>> import tgrad
    >>> w = tgrad.ones(1, requires_grad=True)
    >>> optimizer = tgrad.optim.Rprop([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.tolist()
    [0.75]
    """

    counts_steps = repeats = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ):
        refuse("Rprop", differentiable=differentiable)
        check_settings("Rprop", lr=lr)  # type: ignore[arg-type]
        if not 0 < etas[0] < 1 < etas[1]:
            raise OutOfRangeError(f"Rprop: etas={etas}.", "One is in (0, 1), the other above 1.")
        settings = {
            "lr": lr, "etas": etas, "step_sizes": step_sizes, "foreach": foreach,
            "maximize": maximize, "differentiable": differentiable, "capturable": capturable,
        }  # fmt: skip
        super().__init__(params, settings)

    def update(self, u: Update, group: Group) -> Tensor:
        shrink, grow = group["etas"]
        is_first = u.state.get("step_size") is None
        size = u.start("step_size", float(dict.__getitem__(group, "lr")) if is_first else 0.0)
        agreement = u.grad * u.start("prev")
        one = agreement._constant(1, agreement.dtype)
        factor = (one * grow).where(agreement > 0, (one * shrink).where(agreement < 0, 1.0))
        size = u.keep("step_size", (size * factor).clamp(*group["step_sizes"]))
        grad = u.keep("prev", u.grad.where(agreement >= 0, 0.0))
        return u.value - grad.sign() * size
