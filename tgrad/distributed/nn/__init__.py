"""`torch.distributed.nn`: exchanges that are differentiated.

In: nothing. Out: the functions of `functional`. Invariant: both spellings name the same functions.
"""

from tgrad.distributed.nn.functional import (
    all_gather,
    all_reduce,
    all_to_all_single,
    broadcast,
    reduce_scatter,
)

__all__ = ["all_gather", "all_reduce", "all_to_all_single", "broadcast", "reduce_scatter"]
