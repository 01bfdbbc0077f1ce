"""`torch.backends`' names: what there is beside tgrad's own kernels.

In: nothing. Out: `cuda`, `cudnn`, `mps`. Invariant: the one choice that means something here, TF32,
is that of `tgrad.set_float32_matmul_precision`. Source:
https://docs.pytorch.org/docs/stable/backends.html
"""

from tgrad.backends import cuda as cuda
from tgrad.backends import cudnn as cudnn
from tgrad.backends import mps as mps
