"""Signal processing, under the names of torch.signal."""

from tgrad.signal import windows as windows

__all__ = ["windows"]
