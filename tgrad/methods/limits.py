"""Where elements may not be: beyond the limits of `clamp`, and 0 as the divisor of integers.

In: tensors and limits, or divisors. Out: PyTorch's results and gradients. Invariant: a NaN among
element and limits is the result; a divisor is looked at where its values are known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tgrad.errors import DivisionByZeroError
from tgrad.graph.op import Op
from tgrad.methods.slopes import define_vjp, paired

if TYPE_CHECKING:
    from tgrad.tensor import Tensor


def limited(x: Any, limit: Any, is_beyond: Callable[[Any, Any], Tensor]) -> Tensor:
    """`limit` where the element is beyond it (or the limit NaN), else the element."""
    from tgrad.tensor import Tensor

    if not isinstance(limit, Tensor):
        return x.where(~is_beyond(x, limit) if limit == limit else x != x, limit)
    a, b = paired(x, limit, floats=False)
    return b.where(is_beyond(a, b) | (b != b), a)


def with_slopes(x: Any, y: Any, least: Any, most: Any) -> Tensor:
    """What `x` limited gives, with gradients for it and those limits that are tensors."""
    from tgrad.tensor import Tensor, with_vjp

    limits = {"least": least, "most": most}
    given = {name: t for name, t in limits.items() if isinstance(t, Tensor)}
    numbers = tuple(None if n in given else limit for n, limit in limits.items())
    operands = [y._operand(t, y.dtype, y.shape) for t in (x, *given.values())]
    return with_vjp("clamp", y, *operands, params=(tuple(given), *numbers))


@define_vjp("clamp")
def _clamp_backward(g: Any, y: Any, x: Any, *rest: Any) -> tuple[Tensor, ...]:
    """g where least <= x <= most. Of least, where it is larger than x and smaller than most; of
    most, where it is smaller than either. NaN is none of it."""
    *tensors, names, least, most = rest
    given = dict(zip(names, tensors))
    low, high = given.get("least", least), given.get("most", most)
    inside = [x >= low] if low is not None else []
    inside += [x <= high] if high is not None else []
    slopes = {"x": inside[0] if len(inside) == 1 else inside[0] & inside[1]}
    if "least" in given:
        slopes["least"] = x < low if high is None else (x < low) & (low < high)
    if "most" in given:
        slopes["most"] = x > high if low is None else (x > high) | (high < low)
    return tuple(g.where(slope, 0.0) for slope in slopes.values())


def divided(x: Any, op: Op, other: Any, swap: bool = False) -> Tensor:
    """A quotient rounded down, or its remainder, by the op; `swap` for other / x.

    Raises:
        DivisionByZeroError: of integers, where the divisor is known and a 0 is among it.
    """
    check_divisor(other if not swap else x, x if not swap else other)
    result: Tensor = x._binary(op, other, swap=swap)
    return result


def check_divisor(divisor: Any, dividend: Any) -> None:
    """
    Raises:
        DivisionByZeroError: see `divided`.
    """
    if not (_is_whole(divisor) and _is_whole(dividend)):
        return
    if isinstance(divisor, int):
        _refuse_zero(np.array(divisor))
        return
    from tgrad.known import check_elements

    check_elements(divisor, _refuse_zero)


def _is_whole(x: Any) -> bool:
    """Whether it is an integer, or has some."""
    return isinstance(x, int) or getattr(getattr(x, "dtype", None), "kind", "") in ("i", "u")


def _refuse_zero(values: np.ndarray) -> None:
    if not values.all():
        raise DivisionByZeroError(
            "integers are divided by 0.",
            "Use a divisor without zeros, such as d.where(d != 0, 1), or floating-point numbers.",
        )
