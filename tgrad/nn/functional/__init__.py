"""Functions of neural nets, under PyTorch's names; imported as F.

In: tensors. Out: lazy tensors. Invariant: nothing is defined here.
"""

from tgrad.nn.functional.activation import *  # noqa: F403
from tgrad.nn.functional.adaptive import *  # noqa: F403
from tgrad.nn.functional.attention import *  # noqa: F403
from tgrad.nn.functional.bags import *  # noqa: F403
from tgrad.nn.functional.classification import *  # noqa: F403
from tgrad.nn.functional.convolution import *  # noqa: F403
from tgrad.nn.functional.ctc import *  # noqa: F403
from tgrad.nn.functional.fractional import *  # noqa: F403
from tgrad.nn.functional.grouped import *  # noqa: F403
from tgrad.nn.functional.linear import *  # noqa: F403
from tgrad.nn.functional.loss import *  # noqa: F403
from tgrad.nn.functional.margin_loss import *  # noqa: F403
from tgrad.nn.functional.multihead import *  # noqa: F403
from tgrad.nn.functional.normalization import *  # noqa: F403
from tgrad.nn.functional.padding import *  # noqa: F403
from tgrad.nn.functional.piecewise import *  # noqa: F403
from tgrad.nn.functional.pooling import *  # noqa: F403
from tgrad.nn.functional.randomised import *  # noqa: F403
from tgrad.nn.functional.sampling import *  # noqa: F403
from tgrad.nn.functional.scaled import *  # noqa: F403
from tgrad.nn.functional.transposed import *  # noqa: F403
