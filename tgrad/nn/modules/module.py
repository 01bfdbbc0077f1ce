"""The base of modules, where PyTorch has it: see nn/module.py."""

from tgrad.nn.module import Module

__all__ = ["Module"]


def _addindent(s_: str, numSpaces: int) -> str:
    """Text with all lines but the first moved to the right, for `__repr__` of modules.

    >>> _addindent("a\\nb", 2)
    'a\\n  b'
    """
    return s_.replace("\n", "\n" + " " * numSpaces)
