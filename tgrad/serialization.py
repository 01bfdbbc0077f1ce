"""Tensors in files, in the safetensors format.

In: a dictionary of tensors, nested or not. Out: a file that any safetensors reader reads.
Invariant: what is loaded has the dtypes, shapes and bits of what was saved; a killed save to a path
leaves no half file.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from tgrad import dtype as dt
from tgrad.arguments import refuse
from tgrad.device import Device
from tgrad.errors import DataError, UnsupportedError
from tgrad.tensor import Tensor, realize_tensors, tensor

_FLOAT8 = {"F8_E4M3": dt.float8_e4m3fn, "F8_E5M2": dt.float8_e5m2}
"""Names in the file of what NumPy cannot name."""

STRUCTURE = "tgrad"
"""Key of the file's metadata under which the structure of nested objects stands, as JSON."""


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
            values around tensors, such as `optimizer.state_dict()`, are written too.
        f: a path, or a file opened for writing bytes, such as io.BytesIO().
        pickle_module, pickle_protocol: not supported; nothing is pickled.

    Raises:
        DataError: the file cannot be written.
        UnsupportedError: safetensors is not installed, or an object is not plain data.

    >>> import tempfile, tgrad
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     tgrad.save({"w": tgrad.ones(2)}, file.name)
    ...     tgrad.load(file.name)["w"].tolist()
    [1.0, 1.0]
    """
    refuse("save", pickle_module=pickle_module, pickle_protocol=pickle_protocol)
    library = _safetensors()
    tensors: dict[str, Tensor] = {}
    structure = _flatten(obj, "", tensors)
    realize_tensors(list(tensors.values()))
    arrays = {name: t.numpy() for name, t in tensors.items()}
    flat = isinstance(obj, dict) and all(isinstance(v, Tensor) for v in obj.values())
    metadata = None if flat else {STRUCTURE: json.dumps(structure)}
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
    map_location: str | Device | None = None,
    pickle_module: Any = None,
    *,
    weights_only: bool | None = None,
    mmap: bool | None = None,
) -> Any:
    """What `save` wrote, or the tensors of any safetensors file.

    Args:
        f: its path, or a file opened for reading bytes, which is read from where it stands to its
            end.
        map_location: device of the tensors; by default TGRAD_DEVICE, else "cpu".
        pickle_module: not supported; nothing is pickled.
        weights_only: accepted; a file holds tensors and plain values, and never code.
        mmap: accepted; how a file is read makes no difference to what it holds.

    Raises:
        DataError: the file is missing or is not a safetensors file.
        UnsupportedError: safetensors is not installed.
    """
    refuse("load", pickle_module=pickle_module)
    if isinstance(f, (str, os.PathLike)):
        return _read(Path(f), os.fspath(f), map_location)
    with tempfile.TemporaryDirectory(prefix="tgrad-") as folder:
        copy = Path(folder, "read.safetensors")
        copy.write_bytes(f.read())
        return _read(copy, f"The file {getattr(f, 'name', 'object')}", map_location)


def _read(path: Path, called: str, device: str | Device | None) -> Any:
    """The objects of a file, which errors call so."""
    library = _safetensors()
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
    return _unflatten(json.loads(metadata[STRUCTURE]), tensors)


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
    """
    if isinstance(obj, Tensor):
        while path in tensors:
            path += "'"
        tensors[path] = obj
        return {"tensor": path}
    if getattr(obj, "is_complex_tensor", False):
        return {"complex": _flatten(obj.pairs(), path, tensors)["tensor"]}
    if isinstance(obj, dict):
        pairs = [
            [key, _flatten(value, f"{path}.{key}" if path else str(key), tensors)]
            for key, value in obj.items()
        ]
        return {"dict": pairs}
    if isinstance(obj, (list, tuple)):
        items = [_flatten(v, f"{path}.{i}" if path else str(i), tensors) for i, v in enumerate(obj)]
        return {"tuple" if isinstance(obj, tuple) else "list": items}
    if obj is None or isinstance(obj, (bool, int, float, str)):
        return {"value": obj}
    raise UnsupportedError(
        f"save: a {type(obj).__name__} at {path!r}.",
        "Tensors, dictionaries, lists, numbers and strings can be saved.",
    )


def _unflatten(plain: Any, tensors: dict[str, Tensor]) -> Any:
    ((kind, value),) = plain.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "complex":
        from tgrad.complex_numbers import view_as_complex

        return view_as_complex(tensors[value])
    if kind == "dict":
        return {key: _unflatten(item, tensors) for key, item in value}
    if kind == "value":
        return value
    items = [_unflatten(item, tensors) for item in value]
    return tuple(items) if kind == "tuple" else items
