"""Divergences, where PyTorch has them: see divergence.py."""

from tgrad.distributions.divergence import kl_divergence, register_kl

__all__ = ["kl_divergence", "register_kl"]
