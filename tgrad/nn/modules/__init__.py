"""Layers, one file a family.

In: nothing. Out: modules. Invariant: PyTorch's class names, arguments and parameter names.
"""
