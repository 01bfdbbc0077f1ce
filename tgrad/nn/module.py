"""Module: parameters, buffers and other modules under names.

In: attributes. Out: PyTorch's `state_dict` keys, training mode, device and dtype for all of them.
Invariant: a name is a parameter, a buffer or a module, in the order of assignment. Source:
https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, Protocol, TypeVar

from tgrad.arguments import check_memory_format
from tgrad.creation import DeviceLike, empty
from tgrad.device import Device, as_device, get_default_device
from tgrad.dtype import DType
from tgrad.errors import DTypeError, ShapeError, UnsupportedError
from tgrad.grad_mode import no_grad
from tgrad.methods.elementwise import is_complex
from tgrad.nn.compiled import CompilableModule
from tgrad.nn.forward_hooks import AlwaysCalled, HookedCall
from tgrad.nn.parameter import (
    Buffer,
    PairsBuffer,
    Parameter,
    as_attribute,
    moved,
    realize_parameters,
    replace,
)
from tgrad.nn.state import STATE_HOOKS, ModuleHook, Stateful
from tgrad.tensor import Tensor
from tgrad.tracing import versions

T = TypeVar("T", bound="Module")


HOOK_TABLES = (
    "_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks", *STATE_HOOKS,
)  # fmt: skip


class Derived(Protocol):
    """How an attribute that no table holds is computed from those that they hold."""

    def read(self, module: Module) -> Tensor:
        """The attribute, each time that it is read."""

    def write(self, module: Module, value: Any) -> None:
        """What it means to set it."""


class Module(Stateful, CompilableModule):
    """Base of all layers and models. Define `forward`; call the module.

    >>> import tgrad
    >>> [name for name, _ in tgrad.nn.Linear(2, 3).named_parameters()]
    ['weight', 'bias']
    """

    training: bool

    def __init__(self) -> None:
        for name in ("_parameters", "_buffers", "_modules", "_derived", *HOOK_TABLES):
            object.__setattr__(self, name, {})
        object.__setattr__(self, "_transient", set())
        object.__setattr__(self, "training", True)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise UnsupportedError(
            f"{type(self).__name__} has no forward.", "Define `def forward(self, ...)`."
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        realize_parameters()
        if (
            self._forward_pre_hooks
            or self._forward_hooks
            or self._backward_hooks
            or self._backward_pre_hooks
        ):
            return HookedCall(self, args, kwargs).run()
        return self.forward(*args, **kwargs)

    # -- hooks ----------------------------------------------------------------------------------

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> ModuleHook:
        """Call `hook(module, args)` before each forward.

        Args:
            hook: may return other arguments: a tuple, one value, or (args, kwargs) `with_kwargs`.
            prepend: whether it comes before the hooks that are there.
            with_kwargs: whether it takes keyword arguments too: `hook(module, args, kwargs)`.

        Returns:
            A handle whose `remove()` takes it away.
        """
        return ModuleHook(self._forward_pre_hooks, hook, prepend, with_kwargs)

    def register_forward_hook(
        self,
        hook: Callable[..., Any],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> ModuleHook:
        """Call `hook(module, args, result)` after each forward.

        Args:
            hook: may return another result.
            prepend: whether it comes before the hooks that are there.
            with_kwargs: whether it takes keyword arguments too:
                `hook(module, args, kwargs, result)`.
            always_call: whether it is called although forward or another hook raises; it gets None
                for a result that there is not.

        Returns:
            A handle whose `remove()` takes it away.

        >>> import tgrad
        >>> layer = tgrad.nn.Identity()
        >>> handle = layer.register_forward_hook(lambda module, args, result: result * 2)
        >>> layer(tgrad.ones(2)).tolist(), handle.remove(), layer(tgrad.ones(2)).tolist()
        ([2.0, 2.0], None, [1.0, 1.0])
        """
        hook = AlwaysCalled(hook) if always_call else hook
        return ModuleHook(self._forward_hooks, hook, prepend, with_kwargs)

    def register_full_backward_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> ModuleHook:
        """Call `hook(module, grad_input, grad_output)` when the gradients of a call are computed.

        The module must return a tensor, and have one positional argument that requires a gradient;
        another call raises UnsupportedError.

        Args:
            hook: gets a tuple for the positional arguments, None for what has no gradient, and a
                tuple for the result; may return others for the arguments.
            prepend: whether it comes before the hooks that are there.

        Returns:
            A handle whose `remove()` takes it away.

        >>> import tgrad
        >>> layer, x = tgrad.nn.ReLU(), tgrad.tensor([-1.0, 2.0], requires_grad=True)
        >>> handle = layer.register_full_backward_hook(lambda m, inputs, outputs: (inputs[0] * 5,))
        >>> layer(x).sum().backward()
        >>> x.grad.tolist()
        [0.0, 5.0]
        """
        return ModuleHook(self._backward_hooks, hook, prepend, False)

    def register_full_backward_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> ModuleHook:
        """Call `hook(module, grad_output)` before the gradients of a call are computed; it may
        return another tuple. See `register_full_backward_hook`."""
        return ModuleHook(self._backward_pre_hooks, hook, prepend, False)

    def register_backward_hook(self, hook: Callable[..., Any]) -> ModuleHook:
        """`register_full_backward_hook`, with a warning: PyTorch's older hooks get gradients of
        the last operation of forward, which are others where there are several."""
        warnings.warn(
            "register_backward_hook is register_full_backward_hook: hooks get the gradients of "
            "the module's inputs, where PyTorch's get those of its last operation.",
            FutureWarning,
            stacklevel=2,
        )
        return self.register_full_backward_hook(hook)

    # -- attributes -----------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        tables = self.__dict__
        versions.guards += 1
        if "_parameters" not in tables:
            return self._set_early(name, value)
        if is_complex(value) and value._base is not None and value._base.holds_pairs:
            value = value._base  # an nn.Parameter
        if name in tables["_derived"]:
            tables["_derived"][name].write(self, value)
        elif isinstance(value, Parameter):
            self._forget(name, "_parameters")
            tables["_parameters"][name] = value
        elif isinstance(value, Buffer):
            self._forget(name, "_buffers")
            self.register_buffer(name, value, getattr(value, "persistent", True))
        elif isinstance(value, Module):
            self._forget(name, "_modules")
            tables["_modules"][name] = value
        elif name in tables["_parameters"] and value is not None:
            raise DTypeError(
                f"parameter {name!r} is set to a {type(value).__name__}.",
                "Assign an nn.Parameter, or None.",
            )
        else:
            for table in ("_parameters", "_buffers", "_modules"):
                if name in tables[table]:
                    tables[table][name] = value
                    return
            object.__setattr__(self, name, value)

    def _set_early(self, name: str, value: Any) -> None:
        """Set an attribute before `Module.__init__`, which may be anything but a part."""
        is_part = isinstance(value, (Parameter, Buffer, Module))
        if is_part or (is_complex(value) and value._base is not None):
            raise UnsupportedError(
                f"{type(self).__name__}.{name} is set before Module.__init__.",
                "Call super().__init__() first.",
            )
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        attributes = self.__dict__
        for table in ("_parameters", "_buffers", "_modules"):
            if table in attributes and name in attributes[table]:
                value = attributes[table][name]
                return value if table == "_modules" else as_attribute(value)
        derived = self.__dict__.get("_derived", {}).get(name)
        if derived is not None:
            return derived.read(self)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __delattr__(self, name: str) -> None:
        if not self._forget(name):
            object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        return [
            *super().__dir__(),
            *self._parameters,
            *self._buffers,
            *self._modules,
            *self._derived,
        ]

    def _forget(self, name: str, kept: str = "") -> bool:
        """Take an attribute out; of the table `kept` it is not, so that its place stays its own."""
        versions.guards += 1
        tables = {"_derived": self._derived, "": self.__dict__}
        tables |= {n: getattr(self, n) for n in ("_parameters", "_buffers", "_modules")}
        found = [t.pop(name, self) is not self for n, t in tables.items() if n != (kept or None)]
        return any(found)

    def register_parameter(self, name: str, param: Any) -> None:
        """Make a parameter an attribute; None keeps the place free."""
        self._check_name(name)
        if is_complex(param) and param._base is not None:
            param = param._base
        if param is not None and not isinstance(param, Parameter):
            raise DTypeError(
                f"parameter {name!r} is set to a {type(param).__name__}.",
                "Give an nn.Parameter, or None.",
            )
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Make a tensor that is no parameter part of the module's state.

        Args:
            persistent: whether it is in the `state_dict`.
        """
        self._check_name(name)
        self._buffers[name] = PairsBuffer(tensor.pairs()) if is_complex(tensor) else tensor
        (self._transient.discard if persistent else self._transient.add)(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Make a module an attribute."""
        self._check_name(name)
        self._modules[name] = module

    register_module = add_module

    def _register_derived(self, name: str, rule: Derived) -> None:
        """Make what a rule computes an attribute, in place of what had its name."""
        self._forget(name)
        self._derived[name] = rule

    def _check_name(self, name: str) -> None:
        versions.guards += 1
        if not name or "." in name or (hasattr(self, name) and not self._knows(name)):
            raise ShapeError(f"{name!r} is not a name for a part of {type(self).__name__}.")

    def _knows(self, name: str) -> bool:
        return name in self._parameters or name in self._buffers or name in self._modules

    # -- walking --------------------------------------------------------------------------------

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module and all below it, with dotted names."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, child in self._modules.items():
            if child is not None:
                below = f"{prefix}.{name}" if prefix else name
                yield from child.named_modules(memo, below, remove_duplicate)

    def modules(self, remove_duplicate: bool = True) -> Iterator[Module]:
        return (m for _, m in self.named_modules(remove_duplicate=remove_duplicate))

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly below, each once."""
        seen: set[Module] = set()
        for name, child in self._modules.items():
            if child is not None and child not in seen:
                seen.add(child)
                yield name, child

    def children(self) -> Iterator[Module]:
        return (child for _, child in self.named_children())

    def _members(
        self, table: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        walk = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate)
        for path, module in walk if recurse else [(prefix, self)]:
            for name, member in getattr(module, table).items():
                if member is None or (remove_duplicate and id(member) in seen):
                    continue
                seen.add(id(member))
                yield (f"{path}.{name}" if path else name), member

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Parameters with dotted names, each once."""
        return self._members("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Buffers with dotted names, each once."""
        return self._members("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        return (b for _, b in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The module of that dotted name."""
        module: Module = self
        for name in target.split(".") if target else []:
            module = getattr(module, name)
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter of that dotted name."""
        path, _, name = target.rpartition(".")
        return getattr(self.get_submodule(path), name)

    def get_buffer(self, target: str) -> Tensor:
        """The buffer of that dotted name."""
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if name not in module._buffers:
            raise AttributeError(f"{target!r} is not a buffer of {type(self).__name__}")
        return module._buffers[name]

    def set_submodule(self, target: str, module: Module) -> None:
        """Put a module in the place of that dotted name."""
        path, _, name = target.rpartition(".")
        setattr(self.get_submodule(path), name, module)

    def apply(self: T, fn: Callable[[Module], None]) -> T:
        """Call `fn` on every module below, then on this one."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    # -- state ----------------------------------------------------------------------------------

    def train(self: T, mode: bool = True) -> T:
        """Switch this module to training, or with False to evaluation, and by their own `train`
        those below: it may be overridden, as where norms stay frozen."""
        if not isinstance(mode, bool):
            raise UnsupportedError(f"train({mode!r}).", "Give True or False.")
        if self.training is not mode:
            versions.guards += 1
            object.__setattr__(self, "training", mode)
        for child in self.children():
            child.train(mode)
        return self

    def eval(self: T) -> T:
        """Switch all modules to evaluation."""
        return self.train(False)

    def requires_grad_(self: T, requires_grad: bool = True) -> T:
        """Collect gradients for all parameters, or for none."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def share_memory(self: T) -> T:
        """`Tensor.share_memory_` of all parameters and buffers; see there.

        Raises:
            UnsupportedError: one is on the host.
        """
        return self._apply(lambda t: t.share_memory_())

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or set them to zero."""
        for p in self.parameters():
            if p.grad is not None and set_to_none:
                p.grad = None
            elif p.grad is not None:
                with no_grad():
                    p.grad.zero_()

    def to(
        self: T,
        *args: Any,
        device: Any = None,
        dtype: DType | None = None,
        non_blocking: bool = False,
        memory_format: Any = None,
    ) -> T:
        """Move all parameters and buffers, in place.

        Args:
            args: a device, a dtype, both, or a tensor to be like.
            device: where to.
            dtype: of the floating-point ones.
            non_blocking: accepted; when a copy runs makes no difference to its result.
            memory_format: a name of PyTorch's, accepted: plans choose layouts by themselves, and
                values and shapes stay what they are.
        """
        check_memory_format("Module.to", memory_format)
        for a in args:
            if isinstance(a, Tensor):
                device, dtype = a.device, a.dtype
            elif isinstance(a, DType):
                dtype = a
            else:
                device = a
        if dtype is not None and not dtype.is_float:
            raise DTypeError(f"Module.to({dtype.name}).", "Use a floating-point dtype.")
        target = None if device is None else as_device(device)
        return self._apply(lambda t: _converted(t, target, dtype))

    def _apply(self: T, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> T:
        """Give all parameters and buffers other places or dtypes; a subclass that keeps tensors
        elsewhere may change them here too."""
        for child in self.children() if recurse else ():
            child._apply(fn)
        for t in chain(self.parameters(False), self.buffers(False)):
            value = fn(t)
            if (value.device, value.dtype) == (t.device, t.dtype):
                continue
            replace(t, value)
            if t.grad is not None:
                t.grad = fn(t.grad)
        return self

    def to_empty(self: T, *, device: DeviceLike, recurse: bool = True) -> T:
        """Move all parameters and buffers, in place, without their values.

        Args:
            recurse: whether those of the modules below move too.
        """
        target = get_default_device() if device is None else as_device(device)
        for t in chain(self.parameters(recurse), self.buffers(recurse)):
            replace(t, empty(t.shape, dtype=t.dtype, device=target))
        return self

    def cpu(self: T) -> T:
        return self.to("cpu")

    def cuda(self: T, device: Any = None) -> T:
        return self.to("cuda" if device is None else device)

    def float(self: T) -> T:
        from tgrad.dtype import float32

        return self.to(float32)

    def double(self: T) -> T:
        from tgrad.dtype import float64

        return self.to(float64)

    def half(self: T) -> T:
        from tgrad.dtype import float16

        return self.to(float16)

    def bfloat16(self: T) -> T:
        from tgrad.dtype import bfloat16

        return self.to(bfloat16)

    def type(self: T, dst_type: Any) -> T:
        """All parameters and buffers in a dtype, or as `Tensor.type` takes it."""
        return self._apply(lambda t: t.type(dst_type))

    # -- printing -------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """The arguments, for `repr`."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        children = [
            f"({name}): " + repr(child).replace("\n", "\n  ")
            for name, child in self._modules.items()
        ]
        if not children and "\n" not in extra:
            return f"{self._get_name()}({extra})"
        lines = [*([extra.replace("\n", "\n  ")] if extra else []), *children]
        return "\n  ".join([f"{self._get_name()}(", *lines]) + "\n)"

    def _get_name(self) -> str:
        is_parametrized = self._derived and "parametrizations" in self._modules
        return f"{'Parametrized' if is_parametrized else ''}{type(self).__name__}"


def _converted(t: Tensor, device: Device | None, dtype: DType | None) -> Tensor:
    value = t._without_history() if device is None else moved(t, device)
    return value.to(dtype) if dtype is not None and value.dtype.is_float else value
