"""Which elements of a weight a pruning leaves: PyTorch's rules, and sequences of them.

In: scores, one an element, and the mask of what earlier rules left. Out: a mask, 1 for what stays.
Invariant: what a mask hides stays hidden; a rule ranks only what is not.
Source: https://docs.pytorch.org/tutorials/intermediate/pruning_tutorial.html
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, ClassVar

from tgrad.creation import ones_like
from tgrad.errors import DTypeError, OutOfRangeError, ShapeError, UnsupportedError
from tgrad.grad_mode import no_grad
from tgrad.nn.module import Module
from tgrad.nn.parameter import mark_fresh
from tgrad.nn.utils.derived import DerivedWeight
from tgrad.random import rand
from tgrad.tensor import Tensor


class Pruned(DerivedWeight):
    """The rule of an attribute that is a parameter times a mask.

    Args:
        name: of the attribute.
        method: that made the mask, or all of them.
    """

    function, parts = "prune", ("orig", "mask")

    def __init__(self, name: str, method: BasePruningMethod):
        super().__init__(name)
        self.method = method

    def value(self, module: Module) -> Tensor:
        """mask * orig"""
        return self.method.apply_mask(module)

    def write(self, module: Module, value: Any) -> None:
        """Refused: it is a result."""
        raise UnsupportedError(
            f"{type(module).__name__}.{self.name} is set, which is pruned.",
            f"Set {self.name}_orig, or call prune.remove first.",
        )


class BasePruningMethod(ABC):
    """Base of rules: a subclass gives PRUNING_TYPE and `compute_mask`.

    Attributes:
        PRUNING_TYPE: what a second pruning of one weight shows the rule: "unstructured", the
            elements that are left; "structured", the slices of axis `self.dim` of which any are;
            "global", everything.

    >>> import tgrad
    >>> from tgrad.nn.utils import prune
    >>> class EverySecond(prune.BasePruningMethod):
    ...     PRUNING_TYPE = "unstructured"
    ...     def compute_mask(self, t, default_mask):
    ...         return default_mask * (tgrad.arange(t.numel()) % 2).reshape(t.shape)
    >>> EverySecond().prune(tgrad.tensor([1.0, 2.0, 3.0])).tolist()
    [0.0, 2.0, 0.0]
    """

    PRUNING_TYPE: ClassVar[str]
    _tensor_name: str | None = None

    @abstractmethod
    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """1 for each element that stays.

        Args:
            t: scores; the smallest go.
            default_mask: 0 for what is gone already; of the same shape.
        """

    def apply_mask(self, module: Any) -> Tensor:
        """The parameter `name_orig` of a module times its mask."""
        name = self._tensor_name
        assert name is not None, "The method has not been applied to a parameter."
        orig, mask = (getattr(module, f"{name}_{part}") for part in Pruned.parts)
        pruned: Tensor = mask.to(orig.dtype) * orig
        return pruned

    def prune(
        self,
        t: Tensor,
        default_mask: Tensor | None = None,
        importance_scores: Tensor | None = None,
    ) -> Tensor:
        """A tensor times the mask of its scores, by default its own elements."""
        scores = _scores(t, importance_scores, "the tensor")
        mask = ones_like(t) if default_mask is None else default_mask
        return t * self.compute_mask(scores, default_mask=mask)

    @classmethod
    def apply(
        cls,
        module: Module,
        name: str,
        *args: Any,
        importance_scores: Tensor | None = None,
        **kwargs: Any,
    ) -> BasePruningMethod:
        """Prune a parameter: afterwards it is `name_orig`, the buffer `name_mask` tells what stays,
        and `name` is their product. Once more, it prunes what is left.

        Args:
            module, name: the parameter.
            args, kwargs: of the method.
            importance_scores: of the parameter's shape; by default the parameter itself.

        Returns:
            The method, or the container of all that the parameter has been pruned by.

        Raises:
            ShapeError: there is no such parameter; the scores have another shape.
            UnsupportedError: the parameter is computed, and not by pruning.
        """
        method = cls(*args, **kwargs)
        method._tensor_name = name
        rule = module._derived.get(name)
        made = Pruned(name, method)
        with no_grad():
            if isinstance(rule, Pruned):
                made.method = (
                    rule.method
                    if isinstance(rule.method, PruningContainer)
                    else (PruningContainer(rule.method))
                )
                made.method.add_pruning_method(method)
                weight, before = rule.value(module), getattr(module, f"{name}_mask")
            else:
                weight = made.take_over(module)
                before = ones_like(weight)
            scores = _scores(weight, importance_scores, f"parameter {name!r}")
            mask = made.method.compute_mask(scores.detach(), default_mask=before.detach().clone())
        mark_fresh(mask)
        if not isinstance(rule, Pruned):
            orig = module._parameters[name]
            module._register_derived(name, made)
            module.register_parameter(f"{name}_orig", orig)
        module._derived[name] = made
        module.register_buffer(f"{name}_mask", mask)
        return made.method

    def remove(self, module: Module) -> None:
        """Make the pruned weight a parameter again, the one it was made of.

        Raises:
            ValueError: the module has none.
        """
        name = self._tensor_name
        assert name is not None, "The method has not been applied to a parameter."
        with no_grad():
            weight, orig = self.apply_mask(module), module._parameters[f"{name}_orig"]
            assert orig is not None
            orig.copy_(weight)
        for each in (name, *(f"{name}_{part}" for part in Pruned.parts)):
            delattr(module, each)
        module.register_parameter(name, orig)


class PruningContainer(BasePruningMethod):
    """Methods that prune one parameter after another: the last one ranks what the others left."""

    def __init__(self, *args: BasePruningMethod):
        self._pruning_methods: tuple[BasePruningMethod, ...] = ()
        if args:
            self._tensor_name = args[0]._tensor_name
        for method in args:
            self.add_pruning_method(method)

    def add_pruning_method(self, method: BasePruningMethod) -> None:
        """Append a method.

        Raises:
            DTypeError: it is none.
            ShapeError: it prunes another parameter.
        """
        if not isinstance(method, BasePruningMethod):
            raise DTypeError(f"PruningContainer of a {type(method).__name__}.")
        if method._tensor_name != self._tensor_name:
            raise ShapeError(
                f"PruningContainer of {self._tensor_name!r} gets a method of "
                f"{method._tensor_name!r}.",
                "All of a container prune one parameter.",
            )
        self._pruning_methods += (method,)

    def __len__(self) -> int:
        return len(self._pruning_methods)

    def __iter__(self) -> Iterator[BasePruningMethod]:
        return iter(self._pruning_methods)

    def __getitem__(self, index: int) -> BasePruningMethod:
        return self._pruning_methods[index]

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """What the last method leaves of what the mask does."""
        method, mask = self._pruning_methods[-1], default_mask.to(t.dtype)
        kind = getattr(method, "PRUNING_TYPE", None)
        if kind == "global":
            return method.compute_mask(t, default_mask=mask).to(t.dtype)
        if kind == "unstructured":
            flat, dim = mask.flatten(), 0
            places = flat.nonzero().flatten()
            scores = t.flatten().index_select(0, places)
        elif kind == "structured":
            flat, dim = mask, _axis(t, method.dim)  # type: ignore[attr-defined]
            places = mask.movedim(dim, 0).flatten(1).any(1).nonzero().flatten()
            scores = t.index_select(dim, places)
        else:
            raise UnsupportedError(
                f"{type(method).__name__}.PRUNING_TYPE is {kind!r}.",
                "Say unstructured, structured or global.",
            )
        found = method.compute_mask(scores, default_mask=flat.index_select(dim, places))
        return flat.index_copy(dim, places, found.to(t.dtype)).reshape(t.shape)


class Identity(BasePruningMethod):
    """Everything stays."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        return default_mask


class _Ranked(BasePruningMethod):
    """A method that takes away what has the lowest of some numbers.

    Args:
        amount: how many, or for a float which part.
    """

    def __init__(self, amount: int | float):
        check_amount(amount)
        self.amount = amount

    def _lowest(self, ranks: Tensor) -> Tensor:
        """1 for all numbers but the lowest."""
        count = count_of(self.amount, ranks.numel())
        kept = ones_like(ranks)
        return kept.index_fill(0, ranks.topk(count, largest=False).indices, 0) if count else kept


class RandomUnstructured(_Ranked):
    """Elements go at random."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        kept = self._lowest(rand(t.numel(), device=t.device))
        return default_mask * kept.reshape(t.shape).to(default_mask.dtype)


class L1Unstructured(_Ranked):
    """Elements with the smallest absolute scores go."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        kept = self._lowest(t.abs().flatten())
        return default_mask * kept.reshape(t.shape).to(default_mask.dtype)


class _Slices(_Ranked):
    """A method that takes away slices of an axis."""

    PRUNING_TYPE = "structured"

    def __init__(self, amount: int | float, dim: int = -1):
        super().__init__(amount)
        self.dim = dim

    def _ranks(self, t: Tensor, dim: int) -> Tensor:
        raise NotImplementedError

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        if t.ndim < 2:
            raise ShapeError(
                f"{type(self).__name__} of shape {t.shape}.", "Slices are of two axes or more."
            )
        dim = _axis(t, self.dim)
        kept = self._lowest(self._ranks(t, dim))
        return default_mask * kept.reshape(-1, *(1,) * (t.ndim - 1 - dim)).to(default_mask.dtype)


class RandomStructured(_Slices):
    """Slices go at random."""

    def _ranks(self, t: Tensor, dim: int) -> Tensor:
        return rand(t.shape[dim], device=t.device)


class LnStructured(_Slices):
    """Slices with the smallest norms go.

    Args:
        amount: how many, or for a float which part.
        n: of the norm, as of `tgrad.norm`.
        dim: the axis.
    """

    def __init__(self, amount: int | float, n: Any, dim: int = -1):
        super().__init__(amount, dim)
        self.n = n

    def _ranks(self, t: Tensor, dim: int) -> Tensor:
        return t.norm(p=self.n, dim=tuple(d for d in range(t.ndim) if d != dim))


class CustomFromMask(BasePruningMethod):
    """What a given mask says."""

    PRUNING_TYPE = "global"

    def __init__(self, mask: Tensor):
        self.mask = mask

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        if default_mask.shape != self.mask.shape:
            raise ShapeError(f"a mask of shape {self.mask.shape} for {default_mask.shape}.")
        return default_mask * self.mask.to(default_mask)


def check_amount(amount: Any) -> None:
    """Raise unless it is a number of elements or a part of them."""
    if not isinstance(amount, Real):
        raise DTypeError(f"amount={amount!r}.", "Give an int or a float.")
    if float(amount) < 0 or (not isinstance(amount, Integral) and float(amount) > 1):
        raise OutOfRangeError(f"amount={amount}.", "Give a count, or a part from 0.0 to 1.0.")


def count_of(amount: int | float, size: int) -> int:
    """How many of `size` that is."""
    count = int(amount) if isinstance(amount, Integral) else round(amount * size)
    if count > size:
        raise OutOfRangeError(f"amount={amount} of {size}.", "There are not as many.")
    return count


def _axis(t: Tensor, dim: int) -> int:
    if not -t.ndim <= dim < t.ndim:
        raise OutOfRangeError(f"dim={dim} of shape {t.shape}.", "Name one of its axes.")
    return dim % t.ndim


def _scores(t: Tensor, given: Tensor | None, what: str) -> Tensor:
    if given is not None and given.shape != t.shape:
        raise ShapeError(f"importance_scores of shape {given.shape} for {what} of {t.shape}.")
    return t if given is None else given
