"""What all distributions share.

In: parameters, as tensors or numbers. Out: lazy tensors: samples, densities, entropies. Invariant:
nothing is computed on the host, so sampling and log_prob are part of a compiled step; for the same
reason only values that are known already are checked (see validation.py). Source:
https://docs.pytorch.org/docs/stable/distributions.html
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from copy import copy
from types import MappingProxyType
from typing import Any, ClassVar

from tgrad.creation import as_tensor
from tgrad.distributions.validation import check_parameter, check_sample
from tgrad.errors import UnsupportedError
from tgrad.grad_mode import no_grad
from tgrad.methods.elementwise import broadcast_shapes, result_type
from tgrad.queries import finfo
from tgrad.random import rand
from tgrad.tensor import Tensor

Parameter = Tensor | float
Shape = Sequence[int]

TINY = 2.0**-126
"""The least normal number of float32."""
REQUIRED = inspect.Parameter.empty
"""In place of a default: the parameter must be given."""


class Distribution:
    """Base of all distributions.

    Args:
        batch_shape, event_shape: see below.
        validate_args: whether values are checked, as far as they are known: constants and tensors
            stored on the host. None: yes, unless Python runs with -O.
        given: parameters that are no attributes.

    Attributes:
        arg_constraints: of parameters, by name.
        batch_shape: shape of the parameters, each of which is a distribution.
        event_shape: shape of one draw.
        has_rsample: whether draws have gradients with respect to the parameters.
    """

    has_rsample = False
    arg_constraints: Mapping[str, Any] = MappingProxyType({})
    _validate_args = __debug__

    def __init__(
        self,
        batch_shape: Shape = (),
        event_shape: Shape = (),
        validate_args: bool | None = None,
        **given: Any,
    ):
        self.batch_shape, self.event_shape = tuple(batch_shape), tuple(event_shape)
        if validate_args is not None:
            self._validate_args = validate_args
        if self._validate_args:
            known = {**vars(self), **given}
            for name, constraint in self.arg_constraints.items():
                if known.get(name) is not None:
                    check_parameter(type(self).__name__, name, known[name], constraint)

    @staticmethod
    def set_default_validate_args(value: bool) -> None:
        """Whether distributions made from now on check values, where `validate_args` is None.

        Raises:
            ValueError: it is neither True nor False.
        """
        if value not in (True, False):
            raise ValueError(f"set_default_validate_args({value!r}): give True or False.")
        Distribution._validate_args = value

    def _validate_sample(self, value: Any) -> None:
        """Refuse a value of another shape than draws, or known to be outside of the support."""
        check_sample(self, value)

    @property
    def mean(self) -> Tensor:
        raise self._has_no("mean")

    @property
    def variance(self) -> Tensor:
        raise self._has_no("variance")

    @property
    def stddev(self) -> Tensor:
        return self.variance.sqrt()

    @property
    def mode(self) -> Tensor:
        """The most likely value.

        >>> import tgrad
        >>> tgrad.distributions.Categorical(tgrad.tensor([0.2, 0.8])).mode.item()
        1
        """
        from tgrad.distributions.modes import MODES

        for kind in type(self).__mro__:
            if kind.__name__ in MODES:
                return MODES[kind.__name__](self)
        raise self._has_no("mode")

    @property
    def support(self) -> Any:
        """The constraint of values that it may draw.

        >>> import tgrad
        >>> tgrad.distributions.Exponential(1.0).support
        GreaterThanEq(lower_bound=0.0)
        """
        from tgrad.distributions.supports import SUPPORTS

        for kind in type(self).__mro__:
            if kind.__name__ in SUPPORTS:
                return SUPPORTS[kind.__name__](self)
        raise self._has_no("support")

    @property
    def has_enumerate_support(self) -> bool:
        """Whether it has a fixed number of values, which `enumerate_support` lists."""
        from tgrad.distributions.enumerations import has_values

        return has_values(self)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All values, along a first axis: of shape (n, *batch_shape, *event_shape).

        Args:
            expand: whether the values are repeated for the batch; else its sizes are 1.

        Raises:
            UnsupportedError: it has no fixed number of values.

        >>> import tgrad
        >>> tgrad.distributions.Bernoulli(tgrad.ones(2) / 2).enumerate_support().tolist()
        [[0.0, 0.0], [1.0, 1.0]]
        """
        from tgrad.distributions.enumerations import values_of

        found = values_of(self)
        ones = (1,) * len(self.batch_shape)
        found = found.reshape((found.shape[0], *ones, *self.event_shape))
        wide = (found.shape[0], *self.batch_shape, *self.event_shape)
        return found.expand(wide) if expand else found

    def expand(self, batch_shape: Shape) -> Any:
        """The same distribution with parameters of that shape.

        >>> import tgrad
        >>> tgrad.distributions.Normal(0.0, 1.0).expand((2, 3)).sample().shape
        (2, 3)
        """
        wide, rank = copy(self), len(self.batch_shape)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(wide, name, value.expand(*batch_shape, *value.shape[rank:]))
            elif isinstance(value, Distribution):
                inner = value.batch_shape[rank:]
                setattr(wide, name, value.expand((*batch_shape, *inner)))
        wide.batch_shape = tuple(batch_shape)
        return wide

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Draws of shape sample_shape + batch_shape + event_shape, without gradients."""
        with no_grad():
            return self.rsample(sample_shape)

    def sample_n(self, n: int) -> Tensor:
        """`sample((n,))`, under its older name; warns."""
        warnings.warn("sample_n(n) is sample((n,)).", FutureWarning, stacklevel=2)
        return self.sample((n,))

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        """Draws with gradients with respect to the parameters.

        Raises:
            UnsupportedError: they have none.
        """
        raise UnsupportedError(
            f"draws of {type(self).__name__} have no gradient.",
            "Use .sample() and log_prob, or tgrad.nn.functional.gumbel_softmax.",
        )

    def log_prob(self, value: Any) -> Tensor:
        """The logarithm of the density, or of the probability, at `value`."""
        raise self._has_no("log_prob")

    def cdf(self, value: Any) -> Tensor:
        """The probability of at most `value`."""
        raise self._has_no("cdf")

    def icdf(self, value: Any) -> Tensor:
        """Where the probability of at most that is `value`."""
        raise self._has_no("icdf")

    def entropy(self) -> Tensor:
        """In nats, of shape batch_shape."""
        raise self._has_no("entropy")

    def perplexity(self) -> Tensor:
        """exp of the entropy."""
        return self.entropy().exp()

    def _has_no(self, name: str) -> UnsupportedError:
        return UnsupportedError(f"{type(self).__name__} has no {name} here.")

    def _shape(self, sample_shape: Shape) -> tuple[int, ...]:
        return (*sample_shape, *self.batch_shape, *self.event_shape)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(batch {self.batch_shape}, event {self.event_shape})"


def named(**defaults: Any) -> Mapping[str, Any]:
    """Names of parameters, in the order of the arguments, with their defaults."""
    return MappingProxyType(defaults)


class Elementwise(Distribution):
    """A distribution of numbers, whose parameters are attributes of one shape and dtype.

    Subclasses give:
        parameters: names, with defaults or REQUIRED.
    """

    parameters: ClassVar[Mapping[str, Any]] = named()
    __signature__: ClassVar[inspect.Signature]

    def __init_subclass__(cls) -> None:
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        cls.__signature__ = inspect.Signature([
            inspect.Parameter(name, kind, default=default)
            for name, default in {**cls.parameters, "validate_args": None}.items()
        ])  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any):
        bound = self.__signature__.bind(*args, **kwargs)
        bound.apply_defaults()
        validate_args = bound.arguments.pop("validate_args")
        made = together(*bound.arguments.values())
        for name, value in zip(bound.arguments, made):
            setattr(self, name, value)
        super().__init__(made[0].shape, (), validate_args)


class ByQuantile(Elementwise):
    """A distribution whose draws are quantiles of uniform numbers."""

    has_rsample = True

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        like = getattr(self, next(iter(self.parameters)))
        return self.icdf(uniform(like, self._shape(sample_shape)).maximum(TINY))


def together(*values: Parameter) -> list[Tensor]:
    """Parameters as floats of one shape, dtype and device."""
    tensors = [p for p in values if isinstance(p, Tensor)]
    device = tensors[0].device if tensors else None
    dtype = result_type(*tensors, 1.0)
    made = [as_tensor(p, dtype=dtype, device=device) for p in values]
    shape = broadcast_shapes(*(p.shape for p in made))
    return [p.expand(*shape) for p in made]


def uniform(like: Tensor, shape: Shape) -> Tensor:
    """In [0, 1)."""
    return rand(*shape, dtype=like.dtype, device=like.device)


def check_one(name: str, probs: object, logits: object) -> None:
    """Refuse both of probs and logits, and neither."""
    if (probs is None) == (logits is None):
        raise UnsupportedError(f"{name} of probs and logits.", "Give one of the two.")


def inside(probs: Tensor) -> Tensor:
    """Probabilities whose logarithms are finite, as PyTorch takes them."""
    eps = finfo(probs.dtype).eps
    return probs.clamp(eps, 1.0 - eps)


def sum_last(x: Tensor, count: int) -> Tensor:
    """The sum over the last `count` axes."""
    return x.sum(tuple(range(-count, 0))) if count else x
