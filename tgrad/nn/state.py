"""The state of a module: what `state_dict` gives and `load_state_dict` takes.

In: a tree of modules. Out: values by dotted names, and modules that hold such values. Invariant: a
`load_state_dict` that is refused, with no hook to run after it, has changed nothing. Source:
https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from tgrad.creation import as_tensor
from tgrad.dtype import by_name
from tgrad.errors import ShapeError, UnsupportedError
from tgrad.grad_mode import no_grad
from tgrad.hooks import RemovableHandle
from tgrad.methods.elementwise import is_complex
from tgrad.nn.parameter import PairsBuffer, Parameter, as_attribute, is_lazy
from tgrad.tensor import Tensor
from tgrad.tracing import versions

if TYPE_CHECKING:
    from tgrad.nn.module import Module

Hook = Callable[..., Any]
Hooks = dict[int, Any]

EXTRA = "_extra_state"
STATE_HOOKS = (
    "_state_dict_pre_hooks", "_state_dict_hooks", "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)  # fmt: skip


class Keys(NamedTuple):
    """Keys that `load_state_dict` did not find, and keys that it did not know."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"Keys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


class ModuleHook(RemovableHandle):
    """A hook of a module or an optimizer; plans that were traced before it came or went are not
    used."""

    def __init__(self, hooks: Hooks, hook: Hook, prepend: bool = False, with_kwargs: bool = False):
        later = dict(hooks) if prepend else {}
        if prepend:
            hooks.clear()
        super().__init__(hooks, (hook, with_kwargs))
        hooks.update(later)
        versions.guards += 1

    def remove(self) -> None:
        """Take the hook away."""
        super().remove()
        versions.guards += 1


class Stateful:
    """What a Module knows about its state."""

    _parameters: dict[str, Any]
    _buffers: dict[str, Any]
    _modules: dict[str, Any]
    _transient: set[str]
    _state_dict_pre_hooks: Hooks
    _state_dict_hooks: Hooks
    _load_state_dict_pre_hooks: Hooks
    _load_state_dict_post_hooks: Hooks

    def state_dict(
        self, *, destination: dict[str, Any] | None = None, prefix: str = "",
        keep_vars: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        """Parameters and buffers by dotted names, which share memory with the module, and extra
        states.

        Args:
            destination: a dictionary to add to.
            prefix: what the names start with.
            keep_vars: return the parameters themselves.
        """
        found: dict[str, Any] = {} if destination is None else destination
        for hook, _ in tuple(self._state_dict_pre_hooks.values()):
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(found, prefix, keep_vars)
        for name, child in self._modules.items():
            if child is not None:
                child.state_dict(destination=found, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for hook, _ in tuple(self._state_dict_hooks.values()):
            if hook(self, found, prefix, {}) is not None:
                raise UnsupportedError(
                    "a hook of state_dict returns a value.",
                    "Change the dictionary it is given.",
                )
        return found

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        """Add the state of this module alone; a subclass may add more, or other names."""
        for name, t in self._own_state():
            destination[prefix + name] = as_attribute(t if keep_vars else _without_gradient(t))
        if _overrides(self, "get_extra_state"):
            destination[prefix + EXTRA] = self.get_extra_state()

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], strict: bool,
        missing_keys: list[str], unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        """A subclass may change `state_dict`, a copy of what was given, or the module, before all
        is loaded; this one leaves both alone."""

    def _own_state(self) -> Iterator[tuple[str, Tensor]]:
        """The parameters and lasting buffers of this module alone."""
        for name, t in chain(self._parameters.items(), self._buffers.items()):
            if t is not None and name not in self._transient:
                yield name, t

    def get_extra_state(self) -> Any:
        """Defined by a subclass: what the `state_dict` is to hold besides tensors."""
        raise UnsupportedError(
            f"{type(self).__name__} has no get_extra_state.",
            "Define it, with set_extra_state, or leave it out.",
        )

    def set_extra_state(self, state: Any) -> None:
        """Defined by a subclass: takes what `get_extra_state` gave."""
        raise UnsupportedError(
            f"{type(self).__name__} has no set_extra_state.", "Define it beside get_extra_state."
        )

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Keys:
        """Copy values into the parameters and buffers of the same names.

        Args:
            state_dict: tensors, NumPy arrays, or anything that NumPy takes, such as the tensors of
                a PyTorch `state_dict`.
            strict: whether all names must agree.
            assign: whether the values take the places of the parameters and buffers, with their
                dtypes and devices, and are not copied into them.

        Returns:
            The names missing in `state_dict`, and its names that the module has not.

        Raises:
            ShapeError: names differ and strict is True, or a shape differs.
        """
        modules = list(cast("Module", self).named_modules(remove_duplicate=False))
        prefixes = [(f"{path}." if path else "", module) for path, module in modules]
        values = _prepared(state_dict, prefixes)
        own = self._places(prefixes)
        keys = Keys([n for n in own if n not in values], [n for n in values if n not in own])
        hooked = [m for m in _children_first(self) if m._load_state_dict_post_hooks]
        if not hooked:
            self._check_keys(keys, strict)
        known = {name: place for name, place in own.items() if name in values}
        for name, (module, last) in known.items():
            _check_shape(name, getattr(module, last, None), values[name])
        for name, (module, last) in known.items():
            _load(module, last, values[name], assign)
        for module in hooked:
            for hook, _ in tuple(module._load_state_dict_post_hooks.values()):
                if hook(module, keys) is not None:
                    raise UnsupportedError(
                        "a hook after load_state_dict returns a value.", "Change its lists of keys."
                    )
        self._check_keys(keys, strict)
        return keys

    def _places(self, prefixes: list[tuple[str, Module]]) -> dict[str, tuple[Module, str]]:
        """The module and attribute of each name that a `state_dict` has."""
        found: dict[str, tuple[Module, str]] = {}
        for prefix, module in prefixes:
            found.update((prefix + name, (module, name)) for name, _ in module._own_state())
            if _overrides(module, "get_extra_state") or _overrides(module, "set_extra_state"):
                found[prefix + EXTRA] = module, EXTRA
        return found

    def _check_keys(self, keys: Keys, strict: bool) -> None:
        if strict and (keys.missing_keys or keys.unexpected_keys):
            raise ShapeError(
                f"load_state_dict of {type(self).__name__}: missing keys {keys.missing_keys}, "
                f"unexpected keys {keys.unexpected_keys}.",
                "Pass strict=False to load what agrees.",
            )

    # -- hooks ------------------------------------------------------------------------------------

    def register_state_dict_pre_hook(self, hook: Hook) -> ModuleHook:
        """Call `hook(module, prefix, keep_vars)` before `state_dict` of this module.

        Returns:
            A handle whose `remove()` takes it away.
        """
        return ModuleHook(self._state_dict_pre_hooks, hook)

    def register_state_dict_post_hook(self, hook: Hook) -> ModuleHook:
        """Call `hook(module, state_dict, prefix, local_metadata)` when `state_dict` has collected
        this module and those below it; it may change the dictionary.

        Returns:
            A handle whose `remove()` takes it away.

        >>> import tgrad
        >>> layer = tgrad.nn.Linear(2, 1, bias=False)
        >>> def rename(module, state_dict, prefix, local_metadata):
        ...     state_dict[prefix + "kernel"] = state_dict.pop(prefix + "weight")
        >>> handle = layer.register_state_dict_post_hook(rename)
        >>> list(tgrad.nn.Sequential(layer).state_dict())
        ['0.kernel']
        """
        return ModuleHook(self._state_dict_hooks, hook)

    _register_state_dict_hook = register_state_dict_post_hook

    def register_load_state_dict_pre_hook(self, hook: Hook) -> ModuleHook:
        """Call a hook before `load_state_dict` of this module or one above it.

        Args:
            hook: `hook(module, state_dict, prefix, local_metadata, strict, missing_keys,
                unexpected_keys, error_msgs)` may change `state_dict`, a copy of what was given; of
                the other values only the prefix says anything.

        Returns:
            A handle whose `remove()` takes it away.
        """
        return ModuleHook(self._load_state_dict_pre_hooks, hook)

    def _register_load_state_dict_pre_hook(
        self, hook: Hook, with_module: bool = False
    ) -> ModuleHook:
        """The same; the hook gets no module unless `with_module`."""
        given = hook if with_module else (lambda module, *args: hook(*args))
        return self.register_load_state_dict_pre_hook(given)

    def register_load_state_dict_post_hook(self, hook: Hook) -> ModuleHook:
        """Call `hook(module, incompatible_keys)` after `load_state_dict` of this module or one
        above it; it may take keys out of the two lists, and so forgive them.

        Returns:
            A handle whose `remove()` takes it away.

        >>> import tgrad
        >>> layer = tgrad.nn.Linear(2, 1)
        >>> handle = layer.register_load_state_dict_post_hook(lambda m, keys: keys[0].clear())
        >>> layer.load_state_dict({"weight": tgrad.ones(1, 2)})
        <All keys matched successfully>
        """
        return ModuleHook(self._load_state_dict_post_hooks, hook)


def _overrides(module: Any, name: str) -> bool:
    return getattr(type(module), name) is not getattr(Stateful, name)


def _children_first(module: Any) -> Iterator[Module]:
    for child in module._modules.values():
        if child is not None:
            yield from _children_first(child)
    yield module


def _prepared(
    state_dict: Mapping[str, Any], prefixes: list[tuple[str, Module]]
) -> Mapping[str, Any]:
    """What the hooks of the modules, and their own ways to load, make of values to be loaded."""
    values = dict(state_dict)
    errors: list[str] = []
    for prefix, module in prefixes:
        for hook, _ in tuple(module._load_state_dict_pre_hooks.values()):
            hook(module, values, prefix, {}, True, [], [], errors)
        module._load_from_state_dict(values, prefix, {}, True, [], [], errors)
    if errors:
        raise ShapeError(f"load_state_dict: {' '.join(errors)}", "Give what the modules ask for.")
    return values


def _check_shape(name: str, target: Any, value: Any) -> None:
    if not isinstance(target, Tensor) or is_lazy(target):
        return
    if is_lazy(value):
        raise ShapeError(
            f"load_state_dict: {name!r} has shape {target.shape}, the value none yet.",
            "Call the model that was saved once before.",
        )
    shape = tuple(value.shape) if hasattr(value, "shape") else np.shape(value)
    if shape != target.shape:
        raise ShapeError(
            f"load_state_dict: {name!r} has shape {target.shape}, the value {shape}.",
            "Build the model with the sizes of the saved one.",
        )


def _load(module: Module, name: str, value: Any, assign: bool) -> None:
    if name == EXTRA:
        module.set_extra_state(value)
        return
    target = getattr(module, name)
    if is_lazy(value):
        return
    value = value if isinstance(value, Tensor) or is_complex(value) else _as_array(value)
    if is_lazy(target) and not assign:
        target.materialize(value.shape)
    if not assign:
        if target.is_meta and not getattr(value, "is_meta", False):
            text = (
                f"load_state_dict: {name!r} is on the device meta, and the value given for it is "
                "not kept. Use to_empty(device=...) before, or assign=True."
            )
            warnings.warn(text, stacklevel=2)
        with no_grad():
            target.copy_(as_tensor(value, device=target.device)._without_history())
        return
    made = as_tensor(value)
    if isinstance(target, Parameter) and not isinstance(made, Parameter):
        made = Parameter(made, target.requires_grad)
    setattr(module, name, made.requires_grad_(target.requires_grad))


def _without_gradient(t: Tensor) -> Tensor:
    """`detach()`; of pairs, pairs, and of what has no shape yet another that has none."""
    alias = t._without_history() if is_lazy(t) else t.detach()
    return PairsBuffer(alias) if t.holds_pairs else alias


def _as_array(value: Any) -> np.ndarray:
    """A NumPy array of a foreign tensor; what NumPy lacks goes through float32."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if value.is_complex():
            return np.asarray(value.numpy())
        if not by_name(str(value.dtype).removeprefix("torch.")).in_numpy:
            value = value.float()
        value = value.numpy()
    return np.asarray(value)
