"""Functions of neural nets, under PyTorch's names; imported as F.

In: tensors. Out: lazy tensors. Invariant: nothing is defined here.
"""

from tgrad.nn.functional.activation import *  # noqa: F403
from tgrad.nn.functional.classification import *  # noqa: F403
from tgrad.nn.functional.convolution import *  # noqa: F403
from tgrad.nn.functional.linear import *  # noqa: F403
from tgrad.nn.functional.loss import *  # noqa: F403
from tgrad.nn.functional.normalization import *  # noqa: F403
from tgrad.nn.functional.pooling import *  # noqa: F403
