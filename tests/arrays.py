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
