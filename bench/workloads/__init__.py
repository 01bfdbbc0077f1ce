"""Workloads for `pytest bench/ --benchmark-only`: one kind a file.

In: nothing. Out: nothing. Invariant: the small sizes are marked `quick`; together they take less
than two minutes on two cores.
"""
