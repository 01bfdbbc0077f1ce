"""`torch.cuda`'s streams, of which tgrad has one for each GPU: torch's current one.

In: PyTorch's calls. Out: that stream. Invariant: plans run in order and share their temporary
memory, so what a program puts on several streams is computed as it would be, and does not overlap.
Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-streams
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tgrad.errors import DeviceError, UnsupportedError


def Stream(device: Any = None, priority: int = 0) -> Any:
    """The current stream, and a warning: work that a program puts there runs in order with the
    rest. Kernels of one plan lie side by side where they can.

    Args:
        device: the GPU; by default the current one.
        priority: accepted; there is one stream.

    Raises:
        DeviceError: there is no GPU.
    """
    warnings.warn(
        "cuda.Stream changes nothing: plans run one after the other, on the current stream.",
        stacklevel=2,
    )
    return _current(device)


@contextmanager
def stream(stream: Any) -> Iterator[None]:
    """Inside, work is on a stream: the current one, or None.

    Raises:
        UnsupportedError: it is another one, which torch has made.
    """
    set_stream(stream)
    yield


def set_stream(stream: Any) -> None:
    """Put work on a stream: the current one, or None.

    Raises:
        UnsupportedError: as `stream`.
    """
    if stream is not None and stream != _current(stream.device):
        raise UnsupportedError(
            "a stream that is not the current one.", "Use tgrad.cuda.Stream(), or none."
        )


def _current(device: Any) -> Any:
    try:
        import torch

        return torch.cuda.current_stream(None if device is None else str(device))
    except (AssertionError, ModuleNotFoundError, RuntimeError) as error:
        raise DeviceError(f"cuda.Stream without a GPU: {error}", "Ask is_available().") from None
