"""The base of modules, where PyTorch has it: see nn/module.py."""

from tgrad.nn.module import Module

__all__ = ["Module"]
