"""Layers, one file a family.

In: nothing. Out: modules. Invariant: PyTorch's class names, arguments and parameter names.
"""

from tgrad.nn.modules import batchnorm as batchnorm
from tgrad.nn.modules import conv as conv
from tgrad.nn.modules import instancenorm as instancenorm
from tgrad.nn.modules import lazy as lazy
from tgrad.nn.modules import module as module
