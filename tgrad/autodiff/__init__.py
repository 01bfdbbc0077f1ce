"""Gradients as graph: a table of VJPs and reverse-mode differentiation over it."""

from tgrad.autodiff.backward import gradients, register_vjp
from tgrad.autodiff.vjp_rules import NO_VJP, VJP

__all__ = ["NO_VJP", "VJP", "gradients", "register_vjp"]
