"""Optimizers, under PyTorch's names.

In: parameters with gradients. Out: new parameters. Invariant: nothing is defined here but what is
refused.
"""

from tgrad.optim import lr_scheduler as lr_scheduler
from tgrad.optim import swa_utils as swa_utils
from tgrad.optim.adafactor import Adafactor
from tgrad.optim.adam import Adam, AdamW
from tgrad.optim.adaptive import Adadelta, Adagrad, Adamax, NAdam, RAdam, RMSprop
from tgrad.optim.asgd import ASGD
from tgrad.optim.lbfgs import LBFGS
from tgrad.optim.muon import Muon
from tgrad.optim.optimizer import Optimizer
from tgrad.optim.rprop import Rprop
from tgrad.optim.sgd import SGD

__all__ = [
    "ASGD",
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Muon",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "lr_scheduler",
    "swa_utils",
]


def __getattr__(name: str) -> object:
    if name == "SparseAdam":
        raise AttributeError("tgrad.optim has no SparseAdam: gradients are dense; use Adam.")
    raise AttributeError(f"module 'tgrad.optim' has no attribute {name!r}")
