"""`torch.utils.checkpoint`'s names.

In: nothing. Out: what checkpointing.py and selective.py have. Invariant: nothing is defined here.
"""

from tgrad.checkpointing import checkpoint as checkpoint
from tgrad.checkpointing import checkpoint_sequential as checkpoint_sequential
from tgrad.checkpointing import noop_context_fn as noop_context_fn
from tgrad.checkpointing import set_checkpoint_debug_enabled as set_checkpoint_debug_enabled
from tgrad.checkpointing import set_checkpoint_early_stop as set_checkpoint_early_stop
from tgrad.selective import CheckpointPolicy as CheckpointPolicy
from tgrad.selective import SelectiveCheckpointContext as SelectiveCheckpointContext
from tgrad.selective import (
    create_selective_checkpoint_contexts as create_selective_checkpoint_contexts,
)
