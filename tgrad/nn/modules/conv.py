"""Convolutions, where PyTorch has them: see convolution.py."""

from tgrad.nn.modules.convolution import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
)
from tgrad.nn.modules.convolution import _TransposedConvolution as _ConvTransposeNd
from tgrad.nn.modules.convolution import _Windowed as _ConvNd

__all__ = [
    "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d",
    "_ConvNd", "_ConvTransposeNd",
]  # fmt: skip
