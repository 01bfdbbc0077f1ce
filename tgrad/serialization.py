"""Tensors in files, in the safetensors format.

In: a dictionary of tensors, nested or not, or any object that has tensors. Out: a file that any
safetensors reader reads. Invariant: what is loaded has the dtypes, shapes and bits of what was
saved; a killed save to a path leaves no half file; a file runs code only where `weights_only=False`
says that it may.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from tgrad import dtype as dt
from tgrad.arguments import refuse
from tgrad.device import Device, as_device, get_default_device
from tgrad.errors import DataError, UnsupportedError
from tgrad.methods.interchange import unpickled
from tgrad.shapes import Size
from tgrad.tensor import Tensor, realize_tensors, tensor

_FLOAT8 = {"F8_E4M3": dt.float8_e4m3fn, "F8_E5M2": dt.float8_e5m2}
"""Names in the file of what NumPy cannot name."""

STRUCTURE = "tgrad"
"""Key of the file's metadata under which the structure of nested objects stands, as JSON."""
PICKLE = "pickle"
"""Key of that structure, and a tensor of the file: the bytes of a pickled object."""

kinds: dict[str, Callable[[Tensor], Tensor]] = {"leaf": lambda t: t}
"""What leaves are made by, by their kind in that structure; tgrad.nn adds its own."""
_KEYS = (bool, int, float, str, type(None))


class _NotPlainError(Exception):
    """An object is no plain data."""


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise UnsupportedError(
            "saving and loading needs the package safetensors.", "pip install safetensors"
        ) from None
    return safetensors


def save(
    obj: Any,
    f: str | os.PathLike[str] | IO[bytes],
    pickle_module: Any = None,
    pickle_protocol: int | None = None,
) -> None:
    """Write tensors to a file.

    Args:
        obj: a dictionary of tensors such as `model.state_dict()`; dictionaries, lists and plain
            values around tensors, such as `optimizer.state_dict()`, are written too. Other objects,
            such as a model, are pickled around their tensors.
        f: a path, or a file opened for writing bytes, such as io.BytesIO().
        pickle_module, pickle_protocol: not supported; Python's pickle chooses.

    Raises:
        DataError: the file cannot be written.
        UnsupportedError: safetensors is not installed, or an object cannot be pickled.

    >>> import tempfile, tgrad
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     tgrad.save({"w": tgrad.ones(2)}, file.name)
    ...     tgrad.load(file.name)["w"].tolist()
    [1.0, 1.0]
    """
    refuse("save", pickle_module=pickle_module, pickle_protocol=pickle_protocol)
    library = _safetensors()
    tensors: dict[str, Tensor] = {}
    try:
        structure = _flatten(obj, "", tensors)
    except _NotPlainError:
        tensors.clear()
        structure = _pickled(obj, tensors)
    realize_tensors(list(tensors.values()))
    arrays = {name: t.numpy() for name, t in tensors.items()}
    is_flat = PICKLE not in structure and isinstance(obj, dict) \
        and all(isinstance(k, str) and _is_plain_tensor(v) for k, v in obj.items())  # fmt: skip
    metadata = None if is_flat else {STRUCTURE: json.dumps(structure)}
    if not isinstance(f, (str, os.PathLike)):
        f.write(library.numpy.save(arrays, metadata))
        return
    target = Path(f)
    partial = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        library.numpy.save_file(arrays, partial, metadata)
        os.replace(partial, target)
    except (OSError, library.SafetensorError) as error:
        raise DataError(f"{target} cannot be written: {error}.", "Choose another path.") from None
    finally:
        partial.unlink(missing_ok=True)


def load(
    f: str | os.PathLike[str] | IO[bytes],
    map_location: Any = None,
    pickle_module: Any = None,
    *,
    weights_only: bool | None = None,
    mmap: bool | None = None,
) -> Any:
    """What `save` wrote, the tensors of any safetensors file, or, where PyTorch is installed, what
    its `save` wrote.

    Args:
        f: its path, or a file opened for reading bytes, which is read from where it stands to its
            end.
        map_location: device of the tensors, by default that of `get_default_device`; or what gives
            it for that one, a dictionary or a function, which is called with something that has
            `device`, `cpu()` and `cuda()`: a file holds values, and not where they were.
        pickle_module: not supported; Python's pickle is used.
        weights_only: whether only tensors and plain values are read, which is so by default. A file
            of other objects is read with False, if you trust it: it runs what it names.
        mmap: accepted; how a file is read makes no difference to what it holds.

    Raises:
        DataError: the file is missing or is not a safetensors file.
        UnsupportedError: safetensors is not installed; the file has other objects, and weights_only
            is not False.
    """
    refuse("load", pickle_module=pickle_module)
    may_run, map_location = weights_only is False, _place(map_location)
    if isinstance(f, (str, os.PathLike)):
        return _read(Path(f), os.fspath(f), map_location, may_run)
    with tempfile.TemporaryDirectory(prefix="tgrad-") as folder:
        copy = Path(folder, "read.safetensors")
        copy.write_bytes(f.read())
        return _read(copy, f"The file {getattr(f, 'name', 'object')}", map_location, may_run)


@dataclass(frozen=True)
class _Place:
    """What a program's function of a storage and its place is given, and gives back."""

    device: Device

    def cpu(self) -> _Place:
        """It, in the host's memory."""
        return _Place(as_device("cpu"))

    def cuda(self, device: Any = None) -> _Place:
        """It, in a GPU's."""
        name = "cuda" if device is None else f"cuda:{device}"
        return _Place(as_device(name if device is None or isinstance(device, int) else device))


def _place(map_location: Any) -> str | Device | None:
    """The device that `map_location` of `load` means."""
    usual = get_default_device()
    if isinstance(map_location, Mapping):
        named = {str(key): value for key, value in map_location.items()}
        found: str | Device = named.get(str(usual), usual)
        return found
    if not callable(map_location):
        device: str | Device | None = map_location
        return device
    placed = map_location(_Place(usual), str(usual))
    return usual if placed is None else as_device(str(placed.device))


def _read(path: Path, called: str, device: str | Device | None, may_run: bool) -> Any:
    """The objects of a file, which errors call so."""
    library = _safetensors()
    if _is_of_torch(path):
        return _read_with_torch(path, called, device, may_run)
    try:
        with library.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            kinds = {name: file.get_slice(name).get_dtype() for name in list(file.keys())}
            plain = [name for name, kind in kinds.items() if kind not in _FLOAT8]
            arrays = {name: file.get_tensor(name) for name in plain}
        if len(plain) < len(kinds):
            arrays |= _float8_arrays(library.deserialize(path.read_bytes()))
    except (OSError, library.SafetensorError) as error:
        raise DataError(
            f"{called} cannot be read: {error}.", "Give a file that tgrad.save wrote."
        ) from None
    tensors = {name: tensor(array, device=device) for name, array in arrays.items()}
    if STRUCTURE not in metadata:
        return tensors
    structure = json.loads(metadata[STRUCTURE])
    if PICKLE not in structure:
        return _unflatten(structure, tensors)
    try:
        return _Unpickler(io.BytesIO(arrays[structure[PICKLE]].tobytes()), tensors, may_run).load()
    except _NotSafeError as error:
        raise UnsupportedError(
            f"{called} holds a {structure['of']}, which may run code as it is loaded.",
            f"Give weights_only=False if you trust the file, or add_safe_globals for {error}.",
        ) from None


def _is_of_torch(path: Path) -> bool:
    """Whether it looks like what PyTorch writes: a zip archive, or formerly a pickle."""
    try:
        with path.open("rb") as file:
            return file.read(4).startswith((b"PK\x03\x04", b"\x80\x02\x8a"))
    except OSError:
        return False


def _read_with_torch(path: Path, called: str, device: str | Device | None, may_run: bool) -> Any:
    """What PyTorch wrote, with tgrad's tensors."""
    try:
        import torch
    except ImportError:
        raise DataError(
            f"{called} is a file of PyTorch's, which is not installed.",
            "Install torch, or convert the file to safetensors.",
        ) from None
    try:
        with torch.serialization.safe_globals(get_safe_globals()):
            found = torch.load(path, map_location="cpu", weights_only=not may_run)
    except pickle.UnpicklingError:
        raise UnsupportedError(
            f"{called} holds objects that may run code as they are loaded.",
            "Give weights_only=False if you trust the file.",
        ) from None
    except (RuntimeError, EOFError) as error:
        raise DataError(f"{called} cannot be read: {error}.", "It is damaged.") from None

    def taken(obj: Any) -> Any:
        if isinstance(obj, torch.Tensor):
            values = tensor(obj, device=device)
            kind = "parameter" if isinstance(obj, torch.nn.Parameter) else "leaf"
            return _as_leaf(values, kind, obj.is_leaf and obj.requires_grad)
        if isinstance(obj, dict):
            return {key: taken(value) for key, value in obj.items()}
        if type(obj) in (list, tuple):
            return type(obj)(taken(value) for value in obj)
        return obj

    return taken(found)


def _float8_arrays(entries: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, np.ndarray]:
    """What safetensors gives as bytes, since NumPy has no such dtype."""
    return {
        name: np.frombuffer(entry["data"], _FLOAT8[entry["dtype"]].numpy).reshape(entry["shape"])
        for name, entry in entries
        if entry["dtype"] in _FLOAT8
    }


def _flatten(obj: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Plain JSON for the object; its tensors go to `tensors` under their paths.

    A dictionary becomes a list of pairs, since keys may be integers.

    Raises:
        _NotPlainError: there is an object that JSON has no place for.
    """
    if isinstance(obj, Tensor):
        path = _put(obj, path, tensors)
        return {"tensor": path} if _is_plain_tensor(obj) else _leaf(obj, path)
    if getattr(obj, "is_complex_tensor", False):
        return {"complex": _put(obj.pairs(), path, tensors)}
    if isinstance(obj, dict) and all(isinstance(k, _KEYS) for k in obj):
        pairs = [
            [key, _flatten(value, f"{path}.{key}" if path else str(key), tensors)]
            for key, value in obj.items()
        ]
        return {"dict": pairs}
    if isinstance(obj, list) or type(obj) in (tuple, Size):
        items = [_flatten(v, f"{path}.{i}" if path else str(i), tensors) for i, v in enumerate(obj)]
        return {type(obj).__name__.lower() if isinstance(obj, tuple) else "list": items}
    if obj is None or isinstance(obj, (bool, int, float, str)):
        return {"value": obj}
    raise _NotPlainError


def _unflatten(plain: Any, tensors: dict[str, Tensor]) -> Any:
    ((kind, value),) = plain.items()
    if kind == "tensor":
        return tensors[value]
    if kind in ("parameter", "leaf"):
        path, requires_grad = value
        return _as_leaf(tensors[path], kind, requires_grad)
    if kind == "complex":
        from tgrad.complex_numbers import view_as_complex

        return view_as_complex(tensors[value])
    if kind == "dict":
        return {key: _unflatten(item, tensors) for key, item in value}
    if kind == "value":
        return value
    items = [_unflatten(item, tensors) for item in value]
    return {"tuple": tuple, "size": Size}.get(kind, list)(items)


def _put(t: Tensor, path: str, tensors: dict[str, Tensor]) -> str:
    """Add a tensor to those of the file; its path there."""
    while path in tensors:
        path += "'"
    tensors[path] = t
    return path


def _is_plain_tensor(obj: Any) -> bool:
    """Whether values are all that there is to a tensor: it requires no gradient, and is no
    parameter."""
    return isinstance(obj, Tensor) and type(obj) is Tensor and not obj.requires_grad


def _leaf(t: Tensor, path: str) -> dict[str, Any]:
    return {"leaf" if type(t) is Tensor else "parameter": [path, t.requires_grad]}


def _as_leaf(t: Tensor, kind: str, requires_grad: bool) -> Tensor:
    return kinds[kind](t).requires_grad_(requires_grad)


# -- objects that are no plain data --------------------------------------------------------------


def _pickled(obj: Any, tensors: dict[str, Tensor]) -> dict[str, str]:
    """The object as bytes among the tensors of the file; what it has of tensors goes beside it.

    Raises:
        UnsupportedError: pickle cannot write it.
    """
    file = io.BytesIO()
    try:
        _Pickler(file, tensors).dump(obj)
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        raise UnsupportedError(
            f"save of a {type(obj).__name__}: {error}.",
            "Save its state_dict(), or tensors, dictionaries, lists, numbers and strings.",
        ) from None
    values = tensor(np.frombuffer(file.getvalue(), np.uint8), device="numpy")
    return {PICKLE: _put(values, PICKLE, tensors), "of": type(obj).__name__}


class _Pickler(pickle.Pickler):
    """Pickle that leaves tensors to the file around it."""

    def __init__(self, file: IO[bytes], tensors: dict[str, Tensor]):
        super().__init__(file)
        self.tensors = tensors
        self.paths: dict[int, Any] = {}

    def persistent_id(self, obj: Any) -> Any:
        """The place of a tensor among those of the file, and what else there is to it."""
        if not isinstance(obj, Tensor):
            return None
        if id(obj) not in self.paths:
            make, arguments, *own = obj.__reduce_ex__(pickle.DEFAULT_PROTOCOL)
            if make is not unpickled:
                return None  # it has no values yet
            kind, _, _, requires_grad = arguments
            path = _put(obj, str(len(self.tensors)), self.tensors)
            self.paths[id(obj)] = path, kind, requires_grad, *own
        return self.paths[id(obj)]


class _Unpickler(pickle.Unpickler):
    """What `_Pickler` wrote, around the tensors of the file.

    Args:
        may_run: whether it may name anything, or what is known as safe alone.
    """

    def __init__(self, file: IO[bytes], tensors: dict[str, Tensor], may_run: bool):
        super().__init__(file)
        self.tensors, self.may_run = tensors, may_run
        self.made: dict[str, Tensor] = {}

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """What the file names.

        Raises:
            _NotSafeError: it is not known as safe.
        """
        name = f"{module_name}.{global_name}"
        if self.may_run or name in _OWN:
            return super().find_class(module_name, global_name)
        if name not in _safe:
            raise _NotSafeError(name)
        return _safe[name]

    def persistent_load(self, pid: Any) -> Tensor:
        """A tensor of the file, one for each place."""
        path, kind, requires_grad, *own = pid
        if path not in self.made:
            values = self.tensors[path]
            made = values if kind is Tensor else kind(values)
            self.made[path] = made.requires_grad_(requires_grad)
            for name, value in ((own and own[0]) or {}).items():
                setattr(made, name, value)
        return self.made[path]


class _NotSafeError(Exception):
    """A file names what is not known as safe."""


def _named(found: Any) -> dict[str, Any]:
    """Objects by the names that files have for them."""
    pairs = [item if isinstance(item, tuple) else (item, None) for item in found]
    return {name or f"{item.__module__}.{item.__qualname__}": item for item, name in pairs}


_DEFAULT = _named([OrderedDict, Size, Tensor, dt.by_name, set])
_KINDS = ("Buffer", "PairsBuffer", "PairsParameter", "Parameter")
_OWN = frozenset(f"tgrad.nn.parameter.{kind}" for kind in _KINDS)
_safe: dict[str, Any] = dict(_DEFAULT)
"""What a file may name though it is read with `weights_only`."""


def add_safe_globals(safe_globals: Sequence[Any]) -> None:
    """Let files that are read with `weights_only` name these classes and functions.

    Args:
        safe_globals: the objects; or pairs of one and the name that files have for it.

    >>> import argparse, io, tgrad
    >>> tgrad.save(argparse.Namespace(rate=0.1), file := io.BytesIO())
    >>> _ = file.seek(0)
    >>> with tgrad.serialization.safe_globals([argparse.Namespace]):
    ...     tgrad.load(file)
    Namespace(rate=0.1)
    """
    _safe.update(_named(safe_globals))


def get_safe_globals() -> list[Any]:
    """What `add_safe_globals` was given."""
    return [item for name, item in _safe.items() if name not in _DEFAULT]


def clear_safe_globals() -> None:
    """Forget all that `add_safe_globals` was given."""
    for name in _safe.keys() - _DEFAULT.keys():
        del _safe[name]


@contextmanager
def safe_globals(safe_globals: Sequence[Any]) -> Iterator[None]:
    """`add_safe_globals`, inside."""
    before = dict(_safe)
    add_safe_globals(safe_globals)
    try:
        yield
    finally:
        _safe.clear()
        _safe.update(before)
