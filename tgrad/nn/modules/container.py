"""Modules made of modules.

In: modules. Out: a module. Invariant: names are "0", "1", ... or the keys given, as in PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, TypeVar

from tgrad.errors import OutOfRangeError
from tgrad.nn.module import Module
from tgrad.nn.parameter import Parameter
from tgrad.tensor import Tensor
from tgrad.tracing import versions

T = TypeVar("T", bound="_Numbered")


class _Numbered(Module):
    """Modules under the names "0", "1", ..."""

    def _at(self, index: int) -> str:
        names = list(self._modules)
        if not -len(names) <= index < len(names):
            raise OutOfRangeError(f"module {index} of {len(names)}.")
        return names[index]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self._part(index)
        return self._modules[self._at(index)]

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._at(index), module)

    def __delitem__(self, index: int | slice) -> None:
        kept = list(self)
        del kept[index]
        self._replace(kept)

    def _like(self, modules: list[Module]) -> Module:
        raise NotImplementedError

    def _part(self, index: slice) -> Module:
        return self._like(list(self)[index])

    def _extend(self, modules: Iterable[Module]) -> None:
        for module in modules:
            self.add_module(str(len(self)), module)

    def _replace(self, modules: Iterable[Module]) -> None:
        self._modules.clear()
        self._extend(modules)

    def insert(self: T, index: int, module: Module) -> T:
        """Put a module before the one at that place."""
        kept = list(self)
        kept.insert(index, module)
        self._replace(kept)
        return self

    def pop(self, key: int | slice) -> Any:
        """Take modules out."""
        found = self[key]
        del self[key]
        return found

    def extend(self: T, modules: Iterable[Module]) -> T:
        """Add modules at the end."""
        self._extend(modules)
        return self

    def append(self: T, module: Module) -> T:
        """Add a module at the end."""
        self._extend([module])
        return self

    def __iadd__(self: T, modules: Iterable[Module]) -> T:
        return self.extend(modules)

    def __add__(self, modules: Iterable[Module]) -> Any:
        return self._like([*self, *modules])


class Sequential(_Numbered):
    """Each module on what the one before gives.

    Args:
        args: modules, or one dictionary of them.

    >>> import tgrad
    >>> net = tgrad.nn.Sequential(tgrad.nn.Linear(2, 3), tgrad.nn.ReLU())
    >>> list(net.state_dict())
    ['0.weight', '0.bias']
    """

    def __init__(self, *args: Any):
        super().__init__()
        if len(args) == 1 and isinstance(args[0], Mapping):
            for name, module in args[0].items():
                self.add_module(name, module)
        else:
            self._extend(args)

    def forward(self, input: Any) -> Any:
        for module in self:
            input = module(input)
        return input

    def _like(self, modules: list[Module]) -> Module:
        return Sequential(*modules)

    def _part(self, index: slice) -> Module:
        """Some of the modules, under their names."""
        return type(self)(dict(list(self._modules.items())[index]))

    def __mul__(self, other: int) -> Sequential:
        return Sequential(*list(self) * other)

    __rmul__ = __mul__

    def __imul__(self, other: int) -> Sequential:
        self._extend(list(self) * (other - 1))
        return self


class ModuleList(_Numbered):
    """A list of modules, to be called one by one."""

    def __init__(self, modules: Iterable[Module] | None = None):
        super().__init__()
        self._extend(modules or ())

    def _like(self, modules: list[Module]) -> Module:
        return ModuleList(modules)

    def _part(self, index: slice) -> Module:
        return type(self)(list(self)[index])

    def __repr__(self) -> str:
        """Modules alike that follow each other are one line."""
        if not len(self):
            return f"{self._get_name()}()"
        lines, first = [], 0
        for text, alike in groupby(map(repr, self)):
            count = len(list(alike))
            last = first + count - 1
            head = f"({first}): " if count == 1 else f"({first}-{last}): {count} x "
            lines.append((head + text).replace("\n", "\n  "))
            first = last + 1
        return "\n  ".join([f"{self._get_name()}(", *lines]) + "\n)"


class ModuleDict(Module):
    """Modules by name, to be called one by one.

    Args:
        modules: a dictionary, or (name, module) pairs.
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None):
        super().__init__()
        self.update(modules or {})

    def __getitem__(self, key: str) -> Module:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        versions.guards += 1
        del self._modules[key]

    def pop(self, key: str) -> Module:
        """Take a module out."""
        found = self[key]
        del self[key]
        return found

    def clear(self) -> None:
        """Take all modules out."""
        for key in list(self):
            del self[key]

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add modules, in place of those of the same names."""
        for name, module in dict(modules).items():
            self[name] = module

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: str) -> bool:
        return key in self._modules

    def keys(self) -> Iterable[str]:
        return self._modules.keys()

    def values(self) -> Iterable[Module]:
        return self._modules.values()

    def items(self) -> Iterable[tuple[str, Module]]:
        return self._modules.items()


class ParameterList(Module):
    """A list of parameters; tensors become parameters.

    >>> import tgrad
    >>> list(tgrad.nn.ParameterList([tgrad.ones(2)]).state_dict())
    ['0']
    """

    def __init__(self, values: Iterable[Tensor] | None = None):
        super().__init__()
        self.extend(values or ())

    def append(self, value: Tensor) -> ParameterList:
        """Add a parameter at the end."""
        self.register_parameter(str(len(self)), as_parameter(value))
        return self

    def extend(self, values: Iterable[Tensor]) -> ParameterList:
        """Add parameters at the end."""
        for value in values:
            self.append(value)
        return self

    def __iadd__(self, values: Iterable[Tensor]) -> ParameterList:
        return self.extend(values)

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._parameters.values())

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return ParameterList(list(self)[index])
        return self._parameters[self._name(index)]

    def __setitem__(self, index: int, value: Tensor) -> None:
        setattr(self, self._name(index), as_parameter(value))

    def extra_repr(self) -> str:
        return _listed(self._parameters)

    def _name(self, index: int) -> str:
        if not -len(self) <= index < len(self):
            raise OutOfRangeError(f"parameter {index} of {len(self)}.")
        return str(index % len(self))


class ParameterDict(Module):
    """Parameters by name; tensors become parameters.

    Args:
        parameters: a dictionary, or (name, tensor) pairs.

    >>> import tgrad
    >>> tgrad.nn.ParameterDict([("a", tgrad.ones(2))])
    ParameterDict(  (a): Parameter containing: [tgrad.float32 of size 2])
    """

    def __init__(
        self, parameters: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]] | None = None
    ):
        super().__init__()
        self.update(parameters or {})

    def update(self, parameters: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]) -> None:
        """Add or replace parameters."""
        for name, value in dict(parameters).items():
            self[name] = value

    def __getitem__(self, key: str) -> Any:
        return self._parameters[key]

    def __setitem__(self, key: str, value: Tensor) -> None:
        self.register_parameter(key, as_parameter(value))

    def __delitem__(self, key: str) -> None:
        del self._parameters[key]

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __contains__(self, key: str) -> bool:
        return key in self._parameters

    def keys(self) -> Iterable[str]:
        return self._parameters.keys()

    def values(self) -> Iterable[Any]:
        return self._parameters.values()

    def items(self) -> Iterable[tuple[str, Any]]:
        return self._parameters.items()

    def get(self, key: str, default: Any = None) -> Any:
        """The parameter of that name, or `default`."""
        return self._parameters.get(key, default)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The parameter of that name, after it was set to `default` if there was none."""
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, key: str) -> Any:
        """Take a parameter out."""
        value = self[key]
        del self[key]
        return value

    def clear(self) -> None:
        """Take all parameters out."""
        for key in list(self):
            del self[key]

    def popitem(self) -> tuple[str, Any]:
        """Take the last parameter out, with its name."""
        name = list(self)[-1]
        return name, self.pop(name)

    def copy(self) -> ParameterDict:
        """Another dictionary of the same parameters."""
        return ParameterDict(self._parameters)

    def fromkeys(self, keys: Iterable[str], default: Any = None) -> ParameterDict:
        """Another dictionary, of parameters with the values of `default`."""
        return ParameterDict(dict.fromkeys(keys, default))

    def __or__(self, other: ParameterDict) -> ParameterDict:
        return ParameterDict({**self._parameters, **other._parameters})

    def __ior__(self, other: ParameterDict) -> ParameterDict:
        self.update(other._parameters)
        return self

    def __reversed__(self) -> Iterator[str]:
        return reversed(list(self))

    def extra_repr(self) -> str:
        return _listed(self._parameters)


def _listed(parameters: Mapping[str, Any]) -> str:
    """Kind and size of each parameter, for `repr`."""
    return "\n".join(
        f"  ({name}): Parameter containing: [{p.dtype} of size {'x'.join(map(str, p.shape))}]"
        for name, p in parameters.items()
    )


def as_parameter(value: Tensor) -> Parameter:
    """The tensor itself if it is a parameter, else a parameter of its values."""
    return value if isinstance(value, Parameter) else Parameter(value)
