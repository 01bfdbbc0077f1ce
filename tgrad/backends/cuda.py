"""`torch.backends.cuda`'s names.

In: a choice. Out: that of precision.py. Invariant: there is one precision of products.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from tgrad.errors import UnsupportedError
from tgrad.precision import get_float32_matmul_precision, set_float32_matmul_precision

_SUMS = {
    "allow_bf16_reduced_precision_reduction": False,
    "allow_fp16_accumulation": False,
    "allow_fp16_reduced_precision_reduction": False,
}
"""Sums of products of 16 bits are float32 always."""


def check_fixed(place: str, known: Mapping[str, object], name: str, value: object) -> None:
    """Warn that a choice changes nothing, unless it is what is so already.

    Raises:
        AttributeError: there is no such choice.
    """
    if name not in known:
        raise AttributeError(f"backends.{place} has no {name!r}")
    if value != known[name]:
        warnings.warn(
            f"{place}.{name} = {value} changes nothing: it is {known[name]} in tgrad.",
            stacklevel=3,
        )


def is_built() -> bool:
    """Whether kernels for GPUs can be made: Triton is installed."""
    return find_spec("triton") is not None


class Precision:
    """How exactly float32 is multiplied on GPUs.

    >>> import tgrad
    >>> tgrad.backends.cuda.matmul.allow_tf32 = True
    >>> tgrad.get_float32_matmul_precision()
    'high'
    >>> tgrad.backends.cuda.matmul.allow_tf32 = False
    """

    def __setattr__(self, name: str, value: object) -> None:
        if name not in ("allow_tf32", "fp32_precision"):
            check_fixed("cuda.matmul", _SUMS, name, value)
        else:
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name in _SUMS:
            return _SUMS[name]
        raise AttributeError(f"backends.cuda.matmul has no {name!r}")

    @property
    def fp32_precision(self) -> str:
        """ "tf32" where `allow_tf32`, else "ieee"."""
        return "tf32" if self.allow_tf32 else "ieee"

    @fp32_precision.setter
    def fp32_precision(self, precision: str) -> None:
        if precision not in ("tf32", "ieee", "none"):
            raise UnsupportedError(f"fp32_precision={precision!r}.", 'Use "tf32" or "ieee".')
        self.allow_tf32 = precision == "tf32"

    @property
    def allow_tf32(self) -> bool:
        """Whether operands are rounded to TF32, for the matrix units."""
        return get_float32_matmul_precision() != "highest"

    @allow_tf32.setter
    def allow_tf32(self, allowed: bool) -> None:
        set_float32_matmul_precision("high" if allowed else "highest")


matmul = Precision()


# -- kernels of attention, of which tgrad generates one --------------------------------------------


_ATTENTION = {
    "enable_flash_sdp": True,
    "enable_mem_efficient_sdp": True,
    "enable_math_sdp": True,
    "enable_cudnn_sdp": False,
}
"""Attention that is found in a graph is one kernel, as with PyTorch's flash kernel; what is not is
computed step by step; there is no cuDNN. Results are the same."""


def flash_sdp_enabled() -> bool:
    """True: see `_ATTENTION`."""
    return _ATTENTION["enable_flash_sdp"]


def mem_efficient_sdp_enabled() -> bool:
    """True, as `flash_sdp_enabled`."""
    return _ATTENTION["enable_mem_efficient_sdp"]


def math_sdp_enabled() -> bool:
    """True: attention that is no such kernel is computed step by step."""
    return _ATTENTION["enable_math_sdp"]


def cudnn_sdp_enabled() -> bool:
    """False: there is no cuDNN."""
    return _ATTENTION["enable_cudnn_sdp"]


def enable_flash_sdp(enabled: bool) -> None:
    """Warns where it asks for another choice: tgrad generates its own kernels.

    >>> import tgrad
    >>> tgrad.backends.cuda.enable_flash_sdp(True)
    """
    check_fixed("cuda", _ATTENTION, "enable_flash_sdp", enabled)


def enable_mem_efficient_sdp(enabled: bool) -> None:
    """As `enable_flash_sdp`."""
    check_fixed("cuda", _ATTENTION, "enable_mem_efficient_sdp", enabled)


def enable_math_sdp(enabled: bool) -> None:
    """As `enable_flash_sdp`."""
    check_fixed("cuda", _ATTENTION, "enable_math_sdp", enabled)


def enable_cudnn_sdp(enabled: bool) -> None:
    """As `enable_flash_sdp`."""
    check_fixed("cuda", _ATTENTION, "enable_cudnn_sdp", enabled)


def is_flash_attention_available() -> bool:
    """Whether kernels for GPUs can be made."""
    return is_built()


@contextmanager
def sdp_kernel(
    enable_flash: bool = True,
    enable_math: bool = True,
    enable_mem_efficient: bool = True,
    enable_cudnn: bool = True,
) -> Iterator[None]:
    """A block that PyTorch chooses kernels of attention in, under its older name; here it changes
    nothing, see `nn.attention.sdpa_kernel`."""
    yield
