"""Methods of Tensor that fill it with random numbers.

In: a tensor, parameters of a distribution, a generator. Out: the same tensor, with new values.
Invariant: all from the counter-based generator, so the same on every device and in every replay.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tgrad import dtype as dt
from tgrad.errors import DTypeError, OutOfRangeError

if TYPE_CHECKING:
    from tgrad.tensor import Tensor

WHOLE_BITS = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}
"""Integers up to 2 ** bits are exact."""


class DrawingMethods:
    """Random values in place; and `bernoulli`, which makes a tensor."""

    __slots__ = ()

    def bernoulli(self: Any, p: float | None = None, *, generator: Any = None) -> Tensor:
        """1 with the probability of each element, or with p, else 0."""
        from tgrad.random import bernoulli

        return bernoulli(self, p, generator=generator)

    def bernoulli_(self: Any, p: Any = 0.5, *, generator: Any = None) -> Tensor:
        """1 with probability p (a number or a tensor), else 0."""
        from tgrad.random import rand_like

        draw = rand_like(self, generator=generator, dtype=dt.float32)
        return self._assign((draw < p).to(self.dtype))

    def uniform_(
        self: Any, from_: float = 0.0, to: float = 1.0, *, generator: Any = None
    ) -> Tensor:
        """Uniform in [from_, to)."""
        from tgrad.random import rand_like

        draw = rand_like(self, generator=generator)
        return self._update(draw * (to - from_) + from_, "uniform_")

    def normal_(self: Any, mean: float = 0.0, std: float = 1.0, *, generator: Any = None) -> Tensor:
        """Normal with that mean and standard deviation."""
        from tgrad.random import randn_like

        return self._update(randn_like(self, generator=generator) * std + mean, "normal_")

    def log_normal_(
        self: Any, mean: float = 1.0, std: float = 2.0, *, generator: Any = None
    ) -> Tensor:
        """exp of a normal variable with that mean and standard deviation."""
        from tgrad.random import randn_like

        draw = randn_like(self, generator=generator, dtype=self.dtype.accumulator)
        return self._update((draw * std + mean).exp().to(self.dtype), "log_normal_")

    def exponential_(self: Any, lambd: float = 1.0, *, generator: Any = None) -> Tensor:
        """Exponential with rate `lambd`.

        Raises:
            OutOfRangeError: the rate is not positive.
        """
        if not lambd > 0:
            raise OutOfRangeError(f"exponential_: lambd={lambd}.", "Use more than 0.")
        return self._update((-_log_uniform(self, generator) / lambd).to(self.dtype), "exponential_")

    def cauchy_(
        self: Any, median: float = 0.0, sigma: float = 1.0, *, generator: Any = None
    ) -> Tensor:
        """median + sigma tan(pi (u - 1/2)), u uniform.

        Raises:
            OutOfRangeError: sigma is not positive.
        """
        from tgrad.random import rand_like

        if not sigma > 0:
            raise OutOfRangeError(f"cauchy_: sigma={sigma}.", "Use more than 0.")
        draw = rand_like(self, generator=generator, dtype=self.dtype.accumulator)
        made = ((draw - 0.5) * math.pi).tan() * sigma + median
        return self._update(made.to(self.dtype), "cauchy_")

    def geometric_(self: Any, p: float, *, generator: Any = None) -> Tensor:
        """Trials up to the first success of probability p: 1, 2, ...

        Raises:
            OutOfRangeError: p is not in (0, 1).
        """
        if not 0 < p < 1:
            raise OutOfRangeError(f"geometric_: p={p}.", "Use more than 0 and less than 1.")
        wide = self if self.dtype.is_float else self.to(dt.float32)
        trials = (_log_uniform(wide, generator) * (1.0 / math.log1p(-p))).ceil().maximum(1.0)
        return self._assign(trials.to(self.dtype))

    def random_(
        self: Any, from_: int | None = None, to: int | None = None, *, generator: Any = None
    ) -> Tensor:
        """Integers from `from_` to `to` - 1; with one argument from 0 to it; with none all that the
        dtype holds from 0 on (those that are exact, for floating-point dtypes).

        Raises:
            OutOfRangeError: there is no integer in the range.
        """
        from tgrad.random import randint

        if to is None:
            from_, to = 0, from_
        if to is None:
            to = _whole_numbers(self.dtype)
        low = 0 if from_ is None else from_
        if low >= to:
            raise OutOfRangeError(f"random_ from {low} to {to}.", "Give a range of integers.")
        made = randint(low, to, self.shape, generator=generator, device=self.device)
        return self._assign(made.to(self.dtype))


def _log_uniform(like: Any, generator: Any) -> Tensor:
    """log of a uniform variable in (0, 1], in the dtype that is computed in."""
    from tgrad.random import rand_like

    draw = rand_like(like, generator=generator, dtype=like.dtype.accumulator)
    return (-draw).log1p()


def _whole_numbers(dtype: Any) -> int:
    """How many integers from 0 on a dtype holds."""
    if dtype.is_bool:
        return 2
    if dtype.is_float:
        if dtype.name not in WHOLE_BITS:
            raise DTypeError(f"random_ of {dtype.name}.", "Give the range.")
        return int(2 ** WHOLE_BITS[dtype.name]) + 1
    bits = 8 * dtype.itemsize - (dtype.kind == "i")
    return int(2 ** min(bits, 63)) - (bits >= 63)
