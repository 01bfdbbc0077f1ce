"""The autotuner: which configuration of a kernel is quickest, found ahead of time and stored.

In: regions, and functions that measure. Out: choices, in a database and in files to commit.
Invariant: no generator is imported here; spaces and measurements come in as functions.
"""

STORE_FILE = "autotune.db"
"""The store, below the cache directory."""
