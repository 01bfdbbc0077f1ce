"""Parameters and buffers that are computed from others.

In: a module, the name of one of its tensors, and a module that computes it. Out: the module, whose
tensor is computed each time that it is read. Invariant: PyTorch's names,
`parametrizations.weight.original` and, where a right inverse gives several tensors, `original0`,
`original1` and so on. Source:
https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.parametrize.register_parametrization.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from tgrad.errors import DTypeError, ShapeError, UnsupportedError
from tgrad.grad_mode import no_grad
from tgrad.nn.module import Module
from tgrad.nn.modules.container import ModuleDict, ModuleList
from tgrad.nn.parameter import Parameter, replace
from tgrad.tensor import Tensor
from tgrad.tracing import Tracer, tracer

T = TypeVar("T", bound=Module)


class _Cache:
    """What was computed inside `cached()`: by the trace that runs, module and name."""

    def __init__(self) -> None:
        self.depth = 0
        self.values: dict[tuple[Tracer | None, Module, str], Tensor] = {}


_cache = _Cache()


@contextmanager
def cached() -> Iterator[None]:
    """Compute each parametrized tensor once inside, however often it is read.

    >>> import tgrad
    >>> P = tgrad.nn.utils.parametrize
    >>> layer = tgrad.nn.utils.parametrizations.weight_norm(tgrad.nn.Linear(2, 2))
    >>> with P.cached():
    ...     layer.weight is layer.weight
    True
    """
    _cache.depth += 1
    try:
        yield
    finally:
        _cache.depth -= 1
        if not _cache.depth:
            _cache.values = {}


class _Parametrized:
    """The rule of an attribute that a ParametrizationList computes."""

    def __init__(self, name: str):
        self.name = name

    def read(self, module: Module) -> Tensor:
        """What the parametrizations compute."""
        compute = module.parametrizations[self.name]
        if not _cache.depth:
            return compute()
        key = tracer(), module, self.name
        if key not in _cache.values:
            _cache.values[key] = compute()
        return _cache.values[key]

    def write(self, module: Module, value: Any) -> None:
        """Give the originals values that compute to this one."""
        module.parametrizations[self.name].right_inverse(value)


class ParametrizationList(ModuleList):
    """The parametrizations of one tensor, and what they compute it from.

    Args:
        modules: the parametrizations, in the order in which they are applied.
        original: the tensor, a parameter or a buffer.
        unsafe: whether the dtype and the shape may change.

    Attributes:
        is_tensor: whether the original is one tensor, `original`; else they are several.
        ntensors: how many.
    """

    unsafe: bool
    is_tensor: bool
    ntensors: int

    def __init__(self, modules: Sequence[Module], original: Tensor, unsafe: bool = False):
        super().__init__(modules)
        self.unsafe = unsafe
        shape, dtype = original.shape, original.dtype
        with no_grad():
            found: Any = original
            for module in reversed(list(self)):
                found = _inverted(module, found)
        self.is_tensor = isinstance(found, Tensor)
        if self.is_tensor:
            self.ntensors = 1
            _check_like("right_inverse", found, shape, dtype, any_shape=True)
            _set(original, found)
            register_tensor(self, "original", original)
        else:
            self.ntensors = len(_tensors(found))
            for number, each in enumerate(found):
                if isinstance(original, Parameter):
                    each = Parameter(each, original.requires_grad)
                register_tensor(self, f"original{number}", each)
        if not unsafe:
            _check_like("A parametrization", self.forward(), shape, dtype)

    @property
    def originals(self) -> list[Tensor]:
        """What the first parametrization takes."""
        if self.is_tensor:
            return [self.original]
        return [getattr(self, f"original{number}") for number in range(self.ntensors)]

    def right_inverse(self, value: Tensor) -> None:
        """Give the originals values that compute to this one.

        Raises:
            UnsupportedError: a parametrization has no `right_inverse`.
        """
        found: Any = value
        with no_grad():
            for module in reversed(list(self)):
                if not hasattr(module, "right_inverse"):
                    raise UnsupportedError(
                        f"a parametrized tensor is set, and {type(module).__name__} has no "
                        "right_inverse.",
                        "Define it, or set the original.",
                    )
                found = module.right_inverse(found)
        given = [found] if self.is_tensor else _tensors(found)
        if len(given) != self.ntensors:
            raise ShapeError(
                f"right_inverse returns {len(given)} tensors.", f"There are {self.ntensors}."
            )
        for original, each in zip(self.originals, given):
            _check_like("right_inverse", each, original.shape, original.dtype, any_shape=True)
            _set(original, each)

    def forward(self) -> Any:
        first, *rest = list(self)
        value = first(*self.originals)
        for module in rest:
            value = module(value)
        return value


def register_tensor(module: Module, name: str, value: Tensor) -> None:
    """Make a tensor a parameter or a buffer, as it is one."""
    if isinstance(value, Parameter):
        module.register_parameter(name, value)
    else:
        module.register_buffer(name, value)


def _inverted(module: Module, value: Any) -> Any:
    """What the module computes `value` from; the value itself where it does not say."""
    if not hasattr(module, "right_inverse"):
        return value
    try:
        return module.right_inverse(value)
    except UnsupportedError:
        raise
    except NotImplementedError:
        return value


def _tensors(value: Any) -> Sequence[Tensor]:
    if not isinstance(value, Sequence) or not all(isinstance(each, Tensor) for each in value):
        raise ShapeError(
            f"right_inverse returns a {type(value).__name__}.", "Return a tensor or several."
        )
    return value


def _set(target: Tensor, value: Tensor) -> None:
    """Give a parameter or buffer new values, of another shape too, in memory of its own: tensors
    that shared the old one keep it, as with torch's `set_`. A trace writes them in place."""
    if value is target:
        return
    if tracer() is None or value.shape != target.shape:
        replace(target, value)
        return
    with no_grad():
        target.copy_(value)


def _check_like(
    what: str, value: Any, shape: tuple[int, ...], dtype: Any, any_shape: bool = False
) -> None:
    hint = "It stays what it was, unless unsafe=True."
    if not isinstance(value, Tensor):
        raise ShapeError(f"{what} returns a {type(value).__name__}.", "Return a tensor.")
    if value.dtype is not dtype:
        raise DTypeError(f"{what} makes {value.dtype.name} of {dtype.name}.", hint)
    if not any_shape and value.shape != shape:
        raise ShapeError(f"{what} makes shape {value.shape} of {shape}.", hint)


def register_parametrization(
    module: T, tensor_name: str, parametrization: Module, *, unsafe: bool = False
) -> T:
    """Have a module compute one of another module's parameters or buffers.

    Args:
        module: has the tensor.
        tensor_name: its name.
        parametrization: `forward(original)` gives the tensor. `right_inverse(tensor)`, where it is
            defined, gives the original for the present values, or several: then `forward` takes
            them all. More than one may be registered, each on what the one before gives.
        unsafe: whether dtype and shape may change; nothing is checked then.

    Returns:
        The module.

    Raises:
        ShapeError: there is no such tensor, or its shape changes.
        DTypeError: its dtype changes.

    >>> import tgrad
    >>> class Symmetric(tgrad.nn.Module):
    ...     def forward(self, x):
    ...         return x.triu() + x.triu(1).T
    >>> layer = tgrad.nn.Linear(2, 2, bias=False)
    >>> layer = tgrad.nn.utils.parametrize.register_parametrization(layer, "weight", Symmetric())
    >>> bool((layer.weight == layer.weight.T).all()), list(layer.state_dict())
    (True, ['parametrizations.weight.original'])
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        if not unsafe:
            _check_another(getattr(module, tensor_name), parametrization)
        parametrizations = module.parametrizations[tensor_name]
        parametrizations.append(parametrization)
        parametrizations.unsafe |= unsafe
        return module
    if tensor_name not in {**module._parameters, **module._buffers}:
        raise ShapeError(
            f"register_parametrization: {type(module).__name__} has no parameter or buffer "
            f"{tensor_name!r}.",
            f"It has {', '.join([*module._parameters, *module._buffers])}.",
        )
    made = ParametrizationList([parametrization], getattr(module, tensor_name), unsafe)
    if not is_parametrized(module):
        module.parametrizations = ModuleDict()
    module._register_derived(tensor_name, _Parametrized(tensor_name))
    module.parametrizations[tensor_name] = made
    return module


def _check_another(value: Tensor, parametrization: Module) -> None:
    """Check one more parametrization on what the others give."""
    made = parametrization.forward(value)
    _check_like("A parametrization", made, value.shape, value.dtype)
    _check_like("right_inverse", _inverted(parametrization, made), value.shape, value.dtype)


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether a tensor of the module is computed by parametrizations; or any of its tensors."""
    table = module._modules.get("parametrizations")
    if not isinstance(table, ModuleDict):
        return False
    return len(table) > 0 if tensor_name is None else tensor_name in table


def remove_parametrizations(module: T, tensor_name: str, leave_parametrized: bool = True) -> T:
    """Make a parametrized tensor an ordinary one again.

    Args:
        leave_parametrized: whether it keeps the values that are computed now, or gets the
            original's, where that is one tensor.

    Returns:
        The module.

    Raises:
        ShapeError: it is not parametrized, or has several originals and `leave_parametrized` is
            False.
    """
    if not is_parametrized(module, tensor_name):
        raise ShapeError(
            f"remove_parametrizations: {tensor_name!r} of {type(module).__name__} has none.",
            "Register one first.",
        )
    made = module.parametrizations[tensor_name]
    if not leave_parametrized and not made.is_tensor:
        raise ShapeError(
            f"remove_parametrizations: {tensor_name!r} has {made.ntensors} originals.",
            "Pass leave_parametrized=True.",
        )
    value: Tensor = made.original if made.is_tensor else getattr(module, tensor_name)
    if not made.is_tensor and value.requires_grad:
        value = Parameter(value)
    elif leave_parametrized and made.is_tensor:
        with no_grad():
            _set(value, getattr(module, tensor_name))
    delattr(module, tensor_name)
    del module.parametrizations[tensor_name]
    register_tensor(module, tensor_name, value)
    if not is_parametrized(module):
        delattr(module, "parametrizations")
    return module


def type_before_parametrizations(module: Module) -> type:
    """The module's type, which parametrizations leave as it is."""
    return type(module)
