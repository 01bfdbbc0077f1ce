"""`torch.nn.parallel`: one model in several processes.

In: a module. Out: the module that keeps its copies equal. Invariant: one process drives one device.
"""

from tgrad.nn.parallel.data_parallel import DataParallel, data_parallel
from tgrad.nn.parallel.distributed import DistributedDataParallel

__all__ = ["DataParallel", "DistributedDataParallel", "data_parallel"]
