"""How the tests run regions on the device opencl."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest

from tgrad.cpu_fallback.opencl import build_drafts, draft_opencl
from tgrad.device import Device
from tgrad.errors import DeviceError
from tgrad.fusion.region import Region
from tgrad.runtime.device import open_device
from tgrad.runtime.opencl import OpenClRuntime
from tgrad.settings import read_settings


def has_opencl() -> bool:
    """Whether pyopencl is installed and finds a device."""
    try:
        open_device(Device("opencl"))
    except DeviceError:
        return False
    return True


needs_opencl = pytest.mark.skipif(not has_opencl(), reason="pyopencl finds no device")


def run_regions(
    regions: Sequence[Region], arrays: Sequence[Sequence[np.ndarray]]
) -> list[list[np.ndarray]]:
    """All slots of each region after it has run, all kernels of one program."""
    runtime = cast(OpenClRuntime, open_device(Device("opencl")))
    artifacts = build_drafts(draft_opencl(regions), read_settings(), runtime.build)
    found = []
    for region, artifact, given in zip(regions, artifacts, arrays, strict=True):
        memories = [runtime.allocate(a.nbytes) for a in given]
        for memory, array in zip(memories, given):
            runtime.write(memory, array)
        runtime.launch(artifact, memories)
        found.append(
            [runtime.read(m, s.dtype, a.shape) for m, s, a in zip(memories, region.slots, given)]
        )
    return found
