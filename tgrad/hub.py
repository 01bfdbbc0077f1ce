"""`torch.hub`'s names for files: weights by their address.

In: addresses. Out: files, and what is in them. Invariant: a file has its name only when it is whole
and, where a digest is given, has it. Files are where PyTorch keeps its own, and are shared with it.
Source: https://docs.pytorch.org/docs/stable/hub.html
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from tgrad.errors import DataError
from tgrad.serialization import load as load_file

__all__ = ["download_url_to_file", "get_dir", "load_state_dict_from_url", "set_dir"]

_DIGEST = re.compile(r"-([a-f0-9]+)\.")
"""In the name of a file: the first digits of its SHA-256."""

_chosen: list[Path] = []


def get_dir() -> str:
    """The folder that files are kept in: that of `set_dir`, else `hub` in TORCH_HOME, else in the
    user's cache."""
    if _chosen:
        return str(_chosen[-1])
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    home = os.environ.get("TORCH_HOME") or Path(cache) / "torch"
    return str(Path(home).expanduser() / "hub")


def set_dir(d: str | os.PathLike[str]) -> None:
    """Choose the folder that files are kept in."""
    _chosen[:] = [Path(d).expanduser()]


def download_url_to_file(
    url: str, dst: str | os.PathLike[str], hash_prefix: str | None = None, progress: bool = True
) -> None:
    """Copy what an address leads to into a file.

    Args:
        url: the address.
        dst: the file's path; its folder is made where it is missing.
        hash_prefix: first digits of the SHA-256 that it must have.
        progress: whether a line on the standard error says what is copied.

    Raises:
        DataError: nothing is there, it cannot be written, or it has another digest.
    """
    target = Path(dst).expanduser()
    if progress:
        print(f"{url} -> {target}", file=sys.stderr)
    partial = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            urllib.request.urlopen(url) as source,
            tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file,
        ):
            partial = Path(file.name)
            shutil.copyfileobj(source, file)
        digest = hashlib.sha256(partial.read_bytes()).hexdigest()
        if not digest.startswith(hash_prefix or ""):
            raise DataError(
                f"{url} has the SHA-256 {digest}, not {hash_prefix}...", "Try again later."
            )
        os.replace(partial, target)
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{url} cannot be copied to {target}: {error}.") from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def load_state_dict_from_url(
    url: str,
    model_dir: str | os.PathLike[str] | None = None,
    map_location: Any = None,
    progress: bool = True,
    check_hash: bool = False,
    file_name: str | None = None,
    weights_only: bool | None = None,
) -> Any:
    """`tgrad.load` of a file at an address, which is copied where it is not there yet.

    Args:
        url: the address of a file of tgrad, safetensors or, where torch is installed, PyTorch.
        model_dir: the folder of the file; by default `checkpoints` in `get_dir()`.
        map_location, weights_only: as `tgrad.load`'s.
        progress, file_name: whether a line says what is copied, and the file's name, by default
            that of the address.
        check_hash: whether the digits in the name, as in "resnet-f37072fd.pth", begin its SHA-256.

    Raises:
        DataError: it cannot be copied or read, or has another digest.
    """
    folder = Path(get_dir()) / "checkpoints" if model_dir is None else Path(model_dir)
    path = folder / (file_name or Path(urlparse(url).path).name)
    if not path.exists():
        found = _DIGEST.search(path.name) if check_hash else None
        download_url_to_file(url, path, found[1] if found else None, progress)
    return load_file(path, map_location, weights_only=weights_only)


def __getattr__(name: str) -> Any:
    raise AttributeError(
        f"tgrad.hub has no {name}: models there are PyTorch's code. "
        'Use torch.hub.load and torch.compile(model, backend="tgrad").'
    )


load_url = load_state_dict_from_url
"""Its name in `utils.model_zoo`."""
