"""Adafactor: second moments of matrices as one row and one column.

In: parameters with gradients. Out: new parameters and averages. Invariant: PyTorch's update; norms
of parameters and updates stay on the device. Source: Shazeer and Stern 2018;
https://docs.pytorch.org/docs/stable/generated/torch.optim.Adafactor.html
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tgrad import dtype as dt
from tgrad.errors import OutOfRangeError
from tgrad.optim.adam import setting_key
from tgrad.optim.optimizer import Group, Optimizer, Update, check_settings
from tgrad.tensor import Tensor

EPSILON = {dt.float64: 2.0**-52, dt.float32: 2.0**-23, dt.float16: 2.0**-10, dt.bfloat16: 2.0**-7}
"""The distance from 1 to the next number."""


class Adafactor(Optimizer):
    """param -= size * g / sqrt(v), where v of a matrix is the product of its rows' and columns'
    averages, the size is relative to the parameter's, and updates are limited in size.

    Args:
        params: parameters or groups of them.
        lr: the largest relative step.
        beta2_decay: power of the step by which the averages move, 0 or less.
        eps: added under the root (by default the dtype's epsilon), and the least size of a
            parameter.
        d: updates are scaled to a root mean square of at most this.
        weight_decay: times lr and the parameter.
        foreach: accepted; tgrad fuses by itself.
        maximize: ascend.
    """

    counts_steps = repeats = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ):
        check_settings("Adafactor", lr=lr, weight_decay=weight_decay)  # type: ignore[arg-type]
        check_settings("Adafactor", eps1=eps[0] or 0.0, eps2=eps[1])
        if beta2_decay > 0 or d < 1:
            raise OutOfRangeError(
                f"Adafactor: beta2_decay={beta2_decay}, d={d}.", "Use 0 or less, and 1 or more."
            )
        settings = {
            "lr": lr, "beta2_decay": beta2_decay, "eps": eps, "d": d,
            "weight_decay": weight_decay, "foreach": foreach, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, settings)

    def update(self, u: Update, group: Group) -> Tensor:
        lr, (eps, least), value = u.setting("lr"), group["eps"], u.value
        eps = EPSILON[u.param.dtype] if eps is None else eps
        moved = u.share(("moved", group["beta2_decay"]), lambda: u.step ** group["beta2_decay"])
        largest = u.share(("largest", setting_key(lr)), lambda: u.step.rsqrt().minimum(lr))
        size = _root_mean_square(value).maximum(least) * largest
        if group["weight_decay"]:
            value = value - value * (lr * group["weight_decay"])
        v = self._factored(u, moved, eps) if u.grad.ndim > 1 else self._plain(u, moved)
        direction = u.grad * v.maximum(eps * eps).rsqrt()
        limit = (_root_mean_square(direction) * (1.0 / group["d"])).maximum(1.0)
        return value - direction * (size / limit)

    def _factored(self, u: Update, moved: Tensor, eps: float) -> Tensor:
        """The averages of the squares over rows and columns, multiplied."""
        square, shape = u.grad * u.grad, u.param.shape
        row = u.start("row_var", 0.0, (*shape[:-1], 1))
        row = u.keep("row_var", row + (square.mean(-1, keepdim=True) - row) * moved)
        column = u.start("col_var", 0.0, (*shape[:-2], 1, shape[-1]))
        column = u.keep("col_var", column + (square.mean(-2, keepdim=True) - column) * moved)
        return row * column / row.mean(-2, keepdim=True).maximum(eps)

    def _plain(self, u: Update, moved: Tensor) -> Tensor:
        before = u.start("variance")
        return u.keep("variance", before + (u.grad * u.grad - before) * moved)


def _root_mean_square(x: Tensor) -> Tensor:
    return (x * x).mean().sqrt()
