"""Data sets as NumPy arrays.

In: a name or a directory. Out: an `ImageDataset`. Invariant: nothing here knows of tensors or
devices; a file is checked before it is trusted.
"""

from tgrad.data.dataset import ImageDataset
from tgrad.data.digits import load_digits
from tgrad.data.mnist import load_mnist

__all__ = ["ImageDataset", "load_digits", "load_mnist"]
