"""The benchmarks of tgrad: `pytest bench/ --benchmark-only` and `python -m bench`.

In: nothing. Out: nothing. Invariant: nothing is imported here, so that a worker of any interpreter
can import a part of it; only NumPy is needed for cases and workers.
"""
