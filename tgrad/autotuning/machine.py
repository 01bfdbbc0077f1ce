"""The places of this machine: what its records are of, and what their choices are checked against.

In: Records. Out: the backend at whose place a record was made, or why there is none. Invariant:
torch is loaded only if a record of a GPU is asked about.
"""

from __future__ import annotations

from functools import cached_property
from importlib.util import find_spec

from tgrad.backend import Backend, backend_of
from tgrad.device import Device
from tgrad.errors import TgradError
from tgrad.fusion.choices import fault_of
from tgrad.kernel.space import Place
from tgrad.settings import Settings
from tgrad.tune.record import Record

_CPU_GENERATOR = "C "


class ThisMachine:
    """The devices that kernels can be measured on here."""

    def __init__(self, settings: Settings):
        self.settings = settings

    def _open(self, device: str) -> tuple[Backend, Place] | None:
        try:
            backend = backend_of(Device(device))
            return backend, backend.place(self.settings)
        except TgradError:
            return None

    @cached_property
    def cpu(self) -> tuple[Backend, Place] | None:
        """None where there is no C compiler."""
        return self._open("cpu")

    @cached_property
    def gpu(self) -> tuple[Backend, Place] | None:
        """None where torch sees no GPU."""
        has_packages = find_spec("torch") is not None and find_spec("triton") is not None
        return self._open("cuda") if has_packages else None

    def find(self, record: Record) -> tuple[Backend, Place] | None:
        """The device of the record's kind; None where there is none here."""
        return self.cpu if record.generator.startswith(_CPU_GENERATOR) else self.gpu

    def is_here(self, record: Record) -> bool:
        """Whether runs on this machine may use the record."""
        found = self.find(record)
        return found is not None and found[1] == record.place

    def is_kin(self, record: Record) -> bool:
        """Whether it is of another version, or of other numbers of the same processor or GPU."""
        found = self.find(record)
        return found is not None and found[1].kind == record.place.kind != ("", "")

    def stranger(self, record: Record) -> str:
        """Why the record is not for this machine, in words; "" if it is."""
        found = self.find(record)
        if found is None:
            return f"{record.kernel} is for {record.device}, which is not here"
        place = found[1]
        if place.device != record.device:
            return f"{record.kernel} is for {record.device}; here is {place.device}"
        if place.generator != record.generator:
            return f"{record.kernel} is of {record.generator}; here is {place.generator}"
        return ""

    def fault(self, record: Record) -> str:
        """What is wrong with a record of this machine, in words; "" if nothing is."""
        found = self.find(record)
        assert found is not None
        if record.is_plan:
            reason = fault_of(record.choice)
            return f"{record.kernel}: {reason}" if reason else ""
        space = found[0].space(record.work)
        choice = space.find(record.choice)
        if choice is None or space.config(choice) is None:
            return f"{record.kernel} has a choice that is not in its space: {dict(record.choice)}"
        return ""
