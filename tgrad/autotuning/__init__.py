"""Tuning of plans: the search of tgrad/tune with this machine's generators, devices and store.

In: plans. Out: records in the store. Invariant: kernels are compiled and measured in child
processes; this one only plans and decides.
"""

from __future__ import annotations

from collections.abc import Sequence

from tgrad.autotuning.session import Request, Session, Silent
from tgrad.backend import backend_of
from tgrad.errors import CacheError
from tgrad.runtime.plan import Plan
from tgrad.settings import settings
from tgrad.tune.record import Record
from tgrad.tune.store import StoreError
from tgrad.tune.stored import refresh

TUNED_DEVICES = ("cpu", "cuda")

__all__ = ["TUNED_DEVICES", "tune_plans"]


def tune_plans(plans: Sequence[Plan], budget: float) -> list[Record]:
    """Tune the kernels of plans that the store does not know yet.

    Args:
        plans: on any devices; those on `TUNED_DEVICES` are tuned.
        budget: seconds, for all of them together.

    Returns:
        What was found and stored. Plans made from now on use it.

    Raises:
        CacheError: the store cannot be written.
    """
    by_device: dict[str, list[Plan]] = {}
    for plan in plans:
        if plan.device.type in TUNED_DEVICES:
            by_device.setdefault(plan.device.type, []).append(plan)
    records: list[Record] = []
    for name, some in by_device.items():
        request = Request(budget / len(by_device), device=name)
        try:
            with Session(backend_of(some[0].device), request, settings, Silent()) as session:
                records += session.run(some, only_new=True)
        except StoreError as error:
            what, _, hint = str(error).partition("\n  ")
            raise CacheError(what, hint) from error
    refresh()
    return records
