"""Fourier transforms, under PyTorch's names.

In: real or complex tensors, with parts of float32 or float64. Out: the same, lazy. Invariant:
nothing is defined here. Source: https://docs.pytorch.org/docs/stable/fft.html
"""

from tgrad.fft.frequencies import fftfreq, fftshift, ifftshift, rfftfreq
from tgrad.fft.transforms import (
    fft,
    fft2,
    fftn,
    hfft,
    hfft2,
    hfftn,
    ifft,
    ifft2,
    ifftn,
    ihfft,
    ihfft2,
    ihfftn,
    irfft,
    irfft2,
    irfftn,
    rfft,
    rfft2,
    rfftn,
)

__all__ = [
    "fft", "fft2", "fftfreq", "fftn", "fftshift", "hfft", "hfft2", "hfftn", "ifft",
    "ifft2", "ifftn", "ifftshift", "ihfft", "ihfft2", "ihfftn", "irfft", "irfft2", "irfftn",
    "rfft", "rfft2", "rfftfreq", "rfftn",
]  # fmt: skip
