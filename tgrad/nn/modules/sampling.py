"""Windows, blocks and other sizes of images, as modules.

In: sizes. Out: modules without parameters. Invariant: each calls the function of its name.
"""

from __future__ import annotations

from tgrad.nn import functional as F
from tgrad.nn.modules.stateless import REQUIRED, Stateless, options

_WINDOW = options(dilation=1, padding=0, stride=1)


class Upsample(Stateless):
    """Images of another size, or of their size times a factor; see `interpolate`."""

    function = staticmethod(F.interpolate)
    constants = options(
        size=None,
        scale_factor=None,
        mode="nearest",
        align_corners=None,
        recompute_scale_factor=None,
    )


class UpsamplingNearest2d(Stateless):
    """Images made larger by their nearest pixels."""

    function = staticmethod(F.upsample_nearest)
    constants = options(size=None, scale_factor=None)


class UpsamplingBilinear2d(Stateless):
    """Images made larger between their pixels, corners on corners."""

    function = staticmethod(F.upsample_bilinear)
    constants = options(size=None, scale_factor=None)


class PixelShuffle(Stateless):
    """(N, C * r², H, W) to (N, C, H * r, W * r)."""

    function = staticmethod(F.pixel_shuffle)
    constants = options(upscale_factor=REQUIRED)


class PixelUnshuffle(Stateless):
    """(N, C, H * r, W * r) to (N, C * r², H, W)."""

    function = staticmethod(F.pixel_unshuffle)
    constants = options(downscale_factor=REQUIRED)


class ChannelShuffle(Stateless):
    """Channels taken from the groups in turn."""

    function = staticmethod(F.channel_shuffle)
    constants = options(groups=REQUIRED)


class Unfold(Stateless):
    """The windows of images as columns."""

    function = staticmethod(F.unfold)
    constants = options(kernel_size=REQUIRED, **_WINDOW)


class Fold(Stateless):
    """Columns added up to the images whose windows they are."""

    function = staticmethod(F.fold)
    constants = options(output_size=REQUIRED, kernel_size=REQUIRED, **_WINDOW)
