"""How exactly GPUs multiply matrices of float32.

In: PyTorch's name of a precision. Out: Triton's. Invariant: it concerns products of float32 on GPUs
alone; the default is full precision. Source:
https://docs.pytorch.org/docs/stable/generated/torch.set_float32_matmul_precision.html
"""

from __future__ import annotations

from tgrad.modes import process

_INPUT_PRECISION = {"highest": "ieee", "high": "tf32", "medium": "tf32"}


def set_float32_matmul_precision(precision: str) -> None:
    """Choose the precision of float32 products on GPUs, for plans made from now on.

    A plan is made when a value is first asked for, not where the product is written. Compiled
    functions make another one after a change. CPUs always compute in full precision.

    Args:
        precision: "highest" for all 24 bits of the operands; "high" or "medium" for TF32, which
            rounds them to 11 bits and runs on the matrix units.

    Raises:
        ValueError: it is none of the three.

    >>> import tgrad
    >>> tgrad.set_float32_matmul_precision("high")
    >>> tgrad.get_float32_matmul_precision()
    'high'
    >>> tgrad.set_float32_matmul_precision("highest")
    """
    if precision not in _INPUT_PRECISION:
        raise ValueError(
            f"float32 matmul precision {precision!r}; use one of {', '.join(_INPUT_PRECISION)}."
        )
    process.precision = precision


def get_float32_matmul_precision() -> str:
    """The precision of float32 products on GPUs, "highest" until it is set."""
    return process.precision


def input_precision() -> str:
    """Triton's name of it: "ieee" or "tf32"."""
    return _INPUT_PRECISION[process.precision]
