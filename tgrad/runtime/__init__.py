"""The runtime: plans, memory, devices. Knows compiled kernels, never how they were made."""
