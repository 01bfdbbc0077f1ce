"""`torch.utils.checkpoint`'s names.

In: nothing. Out: the functions of checkpointing.py. Invariant: nothing is defined here.
"""

from tgrad.checkpointing import checkpoint as checkpoint
from tgrad.checkpointing import checkpoint_sequential as checkpoint_sequential
