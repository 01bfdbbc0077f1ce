"""Optimizers, under PyTorch's names.

In: parameters with gradients. Out: new parameters. Invariant: nothing is defined here.
"""

from tgrad.optim import lr_scheduler as lr_scheduler
from tgrad.optim.adam import Adam, AdamW
from tgrad.optim.adaptive import Adadelta, Adagrad, Adamax, RAdam, RMSprop
from tgrad.optim.optimizer import Optimizer
from tgrad.optim.sgd import SGD

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "lr_scheduler",
]
