"""From Regions to generated sources: what every generator does around its own printer.

In: regions, each with what is known of its configuration; how to choose and how to print. Out: a
Draft for each, in order. Invariant: equal work of one line of the user is lowered and printed once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from tgrad.fusion.region import Region
from tgrad.kernel.ir import Config, Draft, Kernel
from tgrad.kernel.lower import lower
from tgrad.kernel.verify import verify_kernel

Known = TypeVar("Known", bound=Hashable)


def draft_regions(
    work: Sequence[tuple[Region, Known]],
    configure: Callable[[Region, Known], Config],
    emit: Callable[[Kernel, Config], str],
) -> list[Draft]:
    """Generated sources of regions; nothing is compiled.

    Args:
        work: one kernel's worth of work each; different work has different names.
        configure: the configuration of a region.
        emit: the source of a kernel.

    Raises:
        VerifyError: a kernel breaks a rule of kernel/ir.py.
    """
    keys = [(region, region.source, known) for region, known in work]
    drafts: dict[Hashable, Draft] = {}
    for key in keys:
        if key not in drafts:
            region, _, known = key
            config = configure(region, known)
            kernel = lower(region, config)
            verify_kernel(kernel)
            drafts[key] = Draft(kernel, config, emit(kernel, config))
    return [drafts[key] for key in keys]
