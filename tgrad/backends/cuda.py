"""`torch.backends.cuda`'s names.

In: a choice. Out: that of precision.py. Invariant: there is one precision of products.
"""

from __future__ import annotations

from importlib.util import find_spec

from tgrad.precision import get_float32_matmul_precision, set_float32_matmul_precision


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

    @property
    def allow_tf32(self) -> bool:
        """Whether operands are rounded to TF32, for the matrix units."""
        return get_float32_matmul_precision() != "highest"

    @allow_tf32.setter
    def allow_tf32(self, allowed: bool) -> None:
        set_float32_matmul_precision("high" if allowed else "highest")


matmul = Precision()
