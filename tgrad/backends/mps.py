"""`torch.backends.mps`' names: Apple's GPUs, of which tgrad knows none.

In: nothing. Out: no. Invariant: none is available.
"""


def is_available() -> bool:
    """No."""
    return False


def is_built() -> bool:
    """No."""
    return False
