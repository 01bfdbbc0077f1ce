"""Kernels: tile programs that every generator prints."""
