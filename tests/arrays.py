"""Arrays and tensors of PyTorch with the same bits, of all dtypes.

In: a NumPy array or a tensor of torch. Out: the other. Invariant: no element is converted, and NaN
keeps its bits; the floats that NumPy lacks are of ml_dtypes.
"""

from __future__ import annotations

import numpy as np
import torch

from tgrad import dtype as dt


def to_torch(array: np.ndarray) -> torch.Tensor:
    """A copy with the same bits."""
    found = dt.from_numpy(array.dtype)
    if not found.is_narrow:
        return torch.from_numpy(np.array(array))
    bits = np.array(array).view(f"i{found.itemsize}")
    return torch.from_numpy(bits).view(getattr(torch, found.name))


def from_torch(tensor: torch.Tensor) -> np.ndarray:
    """The values, detached."""
    found = dt.by_name(str(tensor.dtype).removeprefix("torch."))
    tensor = tensor.detach()
    if not found.is_narrow:
        return tensor.numpy()
    bits = getattr(torch, f"int{8 * found.itemsize}")
    return tensor.contiguous().view(bits).numpy().view(found.numpy)


def cast_by_torch(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """`tensor.to(dtype)` as PyTorch has done it since 2.12: beyond the range of float8_e4m3fn lies
    its end; before that it was NaN."""
    if dtype is torch.float8_e4m3fn:
        tensor = tensor.float().clamp(-448, 448)
    return tensor.to(dtype)
