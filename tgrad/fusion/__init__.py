"""Fusion: which nodes share a kernel, and why."""
