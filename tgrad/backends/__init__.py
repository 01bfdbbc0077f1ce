"""`torch.backends`' names: what there is beside tgrad's own kernels.

In: nothing. Out: `cuda`, `cudnn`, `mps`, and libraries that are not used. Invariant: the one choice
that means something here, TF32, is that of `tgrad.set_float32_matmul_precision`. Source:
https://docs.pytorch.org/docs/stable/backends.html
"""

from tgrad.backends import absent as mkl
from tgrad.backends import absent as mkldnn
from tgrad.backends import absent as openmp
from tgrad.backends import absent as opt_einsum
from tgrad.backends import cuda as cuda
from tgrad.backends import cudnn as cudnn
from tgrad.backends import mps as mps

__all__ = ["cuda", "cudnn", "mkl", "mkldnn", "mps", "openmp", "opt_einsum"]
