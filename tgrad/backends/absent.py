"""Libraries that PyTorch computes with and tgrad does not: `mkldnn`, `mkl`, `openmp`, `opt_einsum`.

In: a question. Out: no. Invariant: kernels are tgrad's own on every device.
"""

enabled = False


def is_available() -> bool:
    """No."""
    return False
