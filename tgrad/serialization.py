"""Tensors in files, in the safetensors format.

In: a dictionary of tensors, nested or not. Out: a file that any safetensors reader reads.
Invariant: what is loaded has the dtypes, shapes and bits of what was saved; a killed save leaves no
half file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tgrad import dtype as dt
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


def save(obj: Any, path: str | os.PathLike[str]) -> None:
    """Write tensors to a file.

    Args:
        obj: a dictionary of tensors such as `model.state_dict()`; dictionaries, lists and plain
            values around tensors, such as `optimizer.state_dict()`, are written too.
        path: where to.

    Raises:
        DataError: the file cannot be written.
        UnsupportedError: safetensors is not installed, or an object is not plain data.

    >>> import tempfile, tgrad
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     tgrad.save({"w": tgrad.ones(2)}, file.name)
    ...     tgrad.load(file.name)["w"].tolist()
    [1.0, 1.0]
    """
    library = _safetensors()
    tensors: dict[str, Tensor] = {}
    structure = _flatten(obj, "", tensors)
    realize_tensors(list(tensors.values()))
    arrays = {name: t.numpy() for name, t in tensors.items()}
    flat = isinstance(obj, dict) and all(isinstance(v, Tensor) for v in obj.values())
    metadata = None if flat else {STRUCTURE: json.dumps(structure)}
    target = Path(path)
    partial = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        library.numpy.save_file(arrays, partial, metadata)
        os.replace(partial, target)
    except (OSError, library.SafetensorError) as error:
        raise DataError(f"{target} cannot be written: {error}.", "Choose another path.") from None
    finally:
        partial.unlink(missing_ok=True)


def load(path: str | os.PathLike[str], map_location: str | Device | None = None) -> Any:
    """What `save` wrote, or the tensors of any safetensors file.

    Args:
        path: the file.
        map_location: device of the tensors; by default TGRAD_DEVICE, else "cpu".

    Raises:
        DataError: the file is missing or is not a safetensors file.
        UnsupportedError: safetensors is not installed.
    """
    library = _safetensors()
    try:
        with library.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            kinds = {name: file.get_slice(name).get_dtype() for name in list(file.keys())}
            plain = [name for name, kind in kinds.items() if kind not in _FLOAT8]
            arrays = {name: file.get_tensor(name) for name in plain}
        if len(plain) < len(kinds):
            arrays |= _float8_arrays(library.deserialize(Path(path).read_bytes()))
    except (OSError, library.SafetensorError) as error:
        raise DataError(
            f"{os.fspath(path)} cannot be read: {error}.", "Give a file that tgrad.save wrote."
        ) from None
    tensors = {name: tensor(array, device=map_location) for name, array in arrays.items()}
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
    if kind == "dict":
        return {key: _unflatten(item, tensors) for key, item in value}
    if kind == "value":
        return value
    items = [_unflatten(item, tensors) for item in value]
    return tuple(items) if kind == "tuple" else items
