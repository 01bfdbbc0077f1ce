"""PyTorch's name space of that name.

In: nothing. Out: `checkpoint`. Invariant: nothing is defined here.
"""

from tgrad.utils import checkpoint as checkpoint
