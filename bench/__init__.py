"""The benchmarks of tgrad: `pytest bench/ --benchmark-only` and `python -m bench`.

In: nothing. Out: nothing. Invariant: nothing but os is imported here, so that a worker of any
interpreter can import a part of it; only NumPy is needed for cases and workers. Kernels of tgrad
have the heuristics' configurations, whatever `tgrad autotune` has stored, unless TGRAD_STORED=1.
"""

import os

os.environ.setdefault("TGRAD_STORED", "0")
