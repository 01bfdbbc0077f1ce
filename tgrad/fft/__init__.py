"""Fourier transforms, under PyTorch's names; complex values are pairs.

tgrad has no complex dtypes. A complex tensor of shape S is a real tensor of shape (*S, 2), the real
part first, as `torch.view_as_real` gives it: `rfft(x)` is `view_as_real(torch.fft.rfft(x))`, and
`fft(z)` takes and returns pairs. `dim`, `n` and `s` speak of S: dim=-1 is the axis before that of
pairs. `pair` makes pairs of real parts.

In: real tensors or pairs, float32 or float64. Out: the same, lazy. Invariant: nothing is defined
here. Source: https://docs.pytorch.org/docs/stable/fft.html
"""

from tgrad.fft.frequencies import fftfreq, fftshift, ifftshift, rfftfreq
from tgrad.fft.pairs import conjugate, pair
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
    "conjugate", "fft", "fft2", "fftfreq", "fftn", "fftshift", "hfft", "hfft2", "hfftn", "ifft",
    "ifft2", "ifftn", "ifftshift", "ihfft", "ihfft2", "ihfftn", "irfft", "irfft2", "irfftn",
    "pair", "rfft", "rfft2", "rfftfreq", "rfftn",
]  # fmt: skip
