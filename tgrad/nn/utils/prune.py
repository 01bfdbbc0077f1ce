"""Weights of which some elements are held at 0.

In: a module and the name of a parameter. Out: the module, where that name is `name_orig` times
`name_mask`. Invariant: PyTorch's names in the state; the product is computed where it is read, so
what trains is the parameter, and only where the mask is 1. Source:
https://docs.pytorch.org/docs/stable/nn.html#utilities
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from tgrad.creation import ones_like
from tgrad.errors import ShapeError, UnsupportedError
from tgrad.grad_mode import no_grad
from tgrad.joining import cat
from tgrad.nn.module import Module
from tgrad.nn.utils.pruning_methods import (
    BasePruningMethod,
    CustomFromMask,
    Identity,
    L1Unstructured,
    LnStructured,
    Pruned,
    PruningContainer,
    RandomStructured,
    RandomUnstructured,
)
from tgrad.tensor import Tensor

M = TypeVar("M", bound=Module)

__all__ = [
    "BasePruningMethod", "CustomFromMask", "Identity", "L1Unstructured", "LnStructured",
    "PruningContainer", "RandomStructured", "RandomUnstructured", "custom_from_mask",
    "global_unstructured", "identity", "is_pruned", "l1_unstructured", "ln_structured",
    "random_structured", "random_unstructured", "remove",
]  # fmt: skip


def identity(module: M, name: str) -> M:
    """Prune nothing: the parameter gets a mask of ones."""
    Identity.apply(module, name)
    return module


def random_unstructured(module: M, name: str, amount: int | float) -> M:
    """Prune elements at random.

    Args:
        module, name: the parameter.
        amount: how many of those that are left, or for a float which part of them.
    """
    RandomUnstructured.apply(module, name, amount)
    return module


def l1_unstructured(
    module: M, name: str, amount: int | float, importance_scores: Tensor | None = None
) -> M:
    """Prune the elements with the smallest absolute values.

    Args:
        module, name: the parameter.
        amount: how many of those that are left, or for a float which part of them.
        importance_scores: in place of the parameter's elements.

    >>> import tgrad
    >>> layer = tgrad.nn.Linear(2, 2)
    >>> _ = layer.weight.data.copy_(tgrad.tensor([[1.0, -4.0], [3.0, 2.0]]))
    >>> tgrad.nn.utils.prune.l1_unstructured(layer, "weight", amount=0.5).weight.tolist()
    [[0.0, -4.0], [3.0, 0.0]]
    >>> list(layer.state_dict())
    ['bias', 'weight_orig', 'weight_mask']
    """
    L1Unstructured.apply(module, name, amount, importance_scores=importance_scores)
    return module


def random_structured(module: M, name: str, amount: int | float, dim: int) -> M:
    """Prune slices of axis `dim` at random; `amount` as of `random_unstructured`."""
    RandomStructured.apply(module, name, amount, dim)
    return module


def ln_structured(
    module: M,
    name: str,
    amount: int | float,
    n: Any,
    dim: int,
    importance_scores: Tensor | None = None,
) -> M:
    """Prune the slices of axis `dim` with the smallest norms.

    Args:
        module, name: the parameter.
        amount: how many of those that are left, or for a float which part of them.
        n: of the norm, as of `tgrad.norm`.
        dim: the axis.
        importance_scores: in place of the parameter's elements.
    """
    LnStructured.apply(module, name, amount, n, dim, importance_scores=importance_scores)
    return module


def global_unstructured(
    parameters: Iterable[tuple[Module, str]],
    pruning_method: type[BasePruningMethod],
    importance_scores: dict[tuple[Module, str], Tensor] | None = None,
    **kwargs: Any,
) -> None:
    """Prune the elements of several parameters as if they were one.

    Args:
        parameters: modules and names.
        pruning_method: such as `L1Unstructured`.
        importance_scores: by module and name, in place of the parameters' elements.
        kwargs: of the method, such as amount.

    Raises:
        UnsupportedError: the method is not unstructured.

    >>> import tgrad
    >>> from tgrad.nn.utils import prune
    >>> net = tgrad.nn.Sequential(tgrad.nn.Linear(10, 4), tgrad.nn.Linear(4, 1))
    >>> weights = [(net[0], "weight"), (net[1], "weight")]
    >>> prune.global_unstructured(weights, prune.L1Unstructured, amount=10)
    >>> sum(int((mask == 0).sum()) for mask in net.buffers())
    10
    """
    method, pairs, given = pruning_method(**kwargs), list(parameters), importance_scores or {}
    if method.PRUNING_TYPE != "unstructured":
        raise UnsupportedError(
            f"global_unstructured with {pruning_method.__name__}.",
            "Its PRUNING_TYPE must be unstructured.",
        )
    with no_grad():
        weights = [getattr(module, name) for module, name in pairs]
        scores = [given.get(pair, weight) for pair, weight in zip(pairs, weights)]
        masks = [
            getattr(module, f"{name}_mask", ones_like(weight))
            for (module, name), weight in zip(pairs, weights)
        ]
        whole = PruningContainer(method).compute_mask(
            cat([s.flatten() for s in scores]), default_mask=cat([m.flatten() for m in masks])
        )
        parts = whole.split([m.numel() for m in masks])
    for (module, name), mask, part in zip(pairs, masks, parts):
        custom_from_mask(module, name, part.reshape(mask.shape))


def custom_from_mask(module: M, name: str, mask: Tensor) -> M:
    """Prune what a mask of the parameter's shape has a 0 for."""
    CustomFromMask.apply(module, name, mask)
    return module


def remove(module: M, name: str) -> M:
    """Make a pruned weight a parameter again, with zeros where it was pruned.

    Raises:
        ShapeError: it is not pruned.
    """
    rule = module._derived.get(name)
    if not isinstance(rule, Pruned):
        raise ShapeError(
            f"prune.remove: {name!r} of {type(module).__name__} is not pruned.", "Prune it first."
        )
    rule.method.remove(module)
    return module


def is_pruned(module: Module) -> bool:
    """Whether a parameter of the module or of one below it is pruned.

    >>> import tgrad
    >>> from tgrad.nn.utils import prune
    >>> layer = tgrad.nn.Linear(2, 2)
    >>> prune.is_pruned(layer), prune.is_pruned(prune.identity(layer, "bias"))
    (False, True)
    """
    rules = (rule for part in module.modules() for rule in part._derived.values())
    return any(isinstance(rule, Pruned) for rule in rules)
