"""Inputs and results of torch's tensors, on whatever device they are.

In: inputs of a case; results. Out: torch's tensors; what is compared of results. Invariant: what is
large is expanded and sampled where it is, and does not pass through the host.
"""

from __future__ import annotations

import numpy as np
import torch

from bench.case import Repeated, stride_of


def stored(value: np.ndarray | Repeated, device: str, dtype: str) -> torch.Tensor:
    """The array in memory of the device, in the dtype if it is of floats."""
    block = value.block if isinstance(value, Repeated) else value
    tensor = torch.tensor(block, device=device)
    if tensor.is_floating_point():
        tensor = tensor.to(getattr(torch, dtype))
    return _filled(tensor, value.shape) if isinstance(value, Repeated) else tensor


def _filled(block: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor of that shape that repeats the block; no memory besides."""
    tensor = torch.empty(shape, dtype=block.dtype, device=block.device)
    flat, size = tensor.view(-1), block.numel()
    count = flat.numel() // size if size else 0
    flat[: count * size].view(count, size).copy_(block)
    flat[count * size :].copy_(block[: flat.numel() - count * size])
    return tensor


def sampled(result: torch.Tensor) -> np.ndarray:
    """As `bench.case.sampled`; only what is compared travels to the host."""
    values = result.detach()
    stride = stride_of(values.numel())
    chosen = values if stride == 1 else values.reshape(-1)[::stride]
    few: np.ndarray = chosen.to("cpu", torch.float64, copy=True).numpy()
    if few.size and not _is_finite(values):
        few.flat[0] = np.nan
    return few


def _is_finite(values: torch.Tensor) -> bool:
    """Whether no element is NaN or infinite: a minimum is NaN where one is, and takes no memory."""
    low, high = torch.aminmax(values)
    return bool(torch.isfinite(low) & torch.isfinite(high))
