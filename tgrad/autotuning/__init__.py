"""Tuning of plans: the search of tgrad/tune with this machine's generators, devices and store.

In: plans. Out: records in the store. Invariant: kernels are compiled and measured in child
processes; this one only plans and decides.
"""
