"""`torch.nn.parallel`: one model in several processes.

In: a module. Out: the module that keeps its copies equal. Invariant: one process drives one device.
"""

from tgrad.nn.parallel.distributed import DistributedDataParallel

__all__ = ["DistributedDataParallel"]
