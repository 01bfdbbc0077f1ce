"""einops with tensors of tgrad: `rearrange`, `reduce`, `repeat`, `pack`, and its layers.

In: einops, when a program imports it. Out: a backend that it finds by tgrad's name, as it finds
those of other libraries. Invariant: einops is never imported by tgrad before the program does.
Source: https://einops.rocks/api/rearrange
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_BACKENDS = "einops._backends"


class _Loading(Loader):
    """Loads einops' backends, and adds tgrad's."""

    def __init__(self, loader: Loader):
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        add_backend(module)


class _Finder(MetaPathFinder):
    """Finds that one module, where everybody finds it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name == _BACKENDS else None
        if spec is not None and spec.loader is not None:
            spec.loader = _Loading(spec.loader)
        return spec


def register() -> None:
    """Add tgrad's backend to einops: now, or when it is imported."""
    loaded = sys.modules.get(_BACKENDS)
    if loaded is not None:
        add_backend(loaded)
    else:
        sys.meta_path.insert(0, _Finder())


def add_backend(backends: ModuleType) -> None:
    """Define tgrad's backend where einops looks for them: among the subclasses of its own."""

    class TgradBackend(backends.AbstractBackend):  # type: ignore[name-defined]
        """Tensors of tgrad."""

        framework_name = "tgrad"

        def is_appropriate_type(self, tensor: Any) -> bool:
            return _tgrad().is_tensor(tensor)

        def from_numpy(self, x: Any) -> Any:
            return _tgrad().from_numpy(x)

        def to_numpy(self, x: Any) -> Any:
            return x.detach().numpy()

        def arange(self, start: int, stop: int) -> Any:
            return _tgrad().arange(start, stop)

        def reduce(self, x: Any, operation: str, reduced_axes: Sequence[int]) -> Any:
            name = {"min": "amin", "max": "amax"}.get(operation, operation)
            if name in ("any", "all", "prod"):
                for axis in sorted(reduced_axes, reverse=True):
                    x = getattr(x, name)(dim=axis)
                return x
            return getattr(x, name)(dim=tuple(reduced_axes))

        def transpose(self, x: Any, axes: Sequence[int]) -> Any:
            return x.permute(tuple(axes))

        def stack_on_zeroth_dimension(self, tensors: Sequence[Any]) -> Any:
            return _tgrad().stack(tensors)

        def add_axes(self, x: Any, n_axes: int, pos2len: dict[int, int]) -> Any:
            sizes = [-1] * n_axes
            for position, length in pos2len.items():
                x, sizes[position] = x.unsqueeze(position), length
            return x.expand(sizes)

        def tile(self, x: Any, repeats: Sequence[int]) -> Any:
            return x.repeat(tuple(repeats))

        def concat(self, tensors: Sequence[Any], axis: int) -> Any:
            return _tgrad().cat(tensors, axis)

        def add_axis(self, x: Any, new_position: int) -> Any:
            return x.unsqueeze(new_position)

        def is_float_type(self, x: Any) -> bool:
            return bool(x.is_floating_point())

        def einsum(self, pattern: str, *x: Any) -> Any:
            return _tgrad().einsum(pattern, *x)

    backends.TgradBackend = TgradBackend  # type: ignore[attr-defined]  # einops holds none


def _tgrad() -> Any:
    import tgrad

    return tgrad


def _layers() -> dict[str, Any]:
    """einops' layers as modules of tgrad."""
    layers: Any = import_module("einops.layers")
    einmix: Any = import_module("einops.layers._einmix")

    from tgrad import einsum, zeros
    from tgrad.nn import Module, Parameter

    class Rearrange(layers.RearrangeMixin, Module):
        """`einops.rearrange` as a module."""

        def forward(self, x: Any) -> Any:
            return self._apply_recipe(x)

    class Reduce(layers.ReduceMixin, Module):
        """`einops.reduce` as a module."""

        def forward(self, x: Any) -> Any:
            return self._apply_recipe(x)

    class EinMix(einmix._EinmixMixin, Module):
        """A product with a weight and a bias by a pattern, as einops.layers.torch.EinMix."""

        def _create_parameters(
            self, weight_shape: Any, weight_bound: float, bias_shape: Any, bias_bound: float
        ) -> None:
            self.weight = Parameter(zeros(weight_shape).uniform_(-weight_bound, weight_bound))
            self.bias = None
            if bias_shape is not None:
                self.bias = Parameter(zeros(bias_shape).uniform_(-bias_bound, bias_bound))

        def _create_rearrange_layers(
            self, pre_pattern: Any, pre_lengths: Any, post_pattern: Any, post_lengths: Any
        ) -> None:
            made: dict[str, Any] = globals()
            self.pre_rearrange = pre_pattern and made["Rearrange"](pre_pattern, **pre_lengths)
            self.post_rearrange = post_pattern and made["Rearrange"](post_pattern, **post_lengths)

        def forward(self, x: Any) -> Any:
            x = self.pre_rearrange(x) if self.pre_rearrange else x
            x = einsum(self.einsum_pattern, x, self.weight)
            x = x if self.bias is None else x + self.bias
            return self.post_rearrange(x) if self.post_rearrange else x

    return {"Rearrange": Rearrange, "Reduce": Reduce, "EinMix": EinMix}


def __getattr__(name: str) -> Any:
    if name in ("EinMix", "Rearrange", "Reduce"):
        globals().update(_layers())
        return globals()[name]
    raise AttributeError(f"module 'tgrad.interop.einops' has no attribute {name!r}")
