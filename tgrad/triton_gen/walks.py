"""Programs that walk over tiles know these by their numbers inside the loop over k.

In: a Kernel, its Config. Out: axes whose lanes are made in the loop and after it. Invariant: what
is loaded and stored is the same.

A walk and the loop inside it are one loop for Triton (flatten), which carries what the inner loop
reads. What is carried has no known alignment: an operand that lies along m or n was loaded two
bytes at a time, and not copied ahead (sm_90, triton 3.7: none of 48 asynchronous copies, 49 KB of
shared memory in place of 229). A number of a tile is carried, and lanes made of it in the loop:

    for pid in tl.range(tl.program_id(0), 1179, 132, flatten=True):
        m_at = pid // 3
        for k0 in tl.range(0, 1024, BLOCK_K):
            m = m_at * BLOCK_M + tl.arange(0, BLOCK_M)
            ...
        m = m_at * BLOCK_M + tl.arange(0, BLOCK_M)
"""

from __future__ import annotations

from tgrad.kernel import ir
from tgrad.kernel.ir import Config, Kernel


def walked_axes(kernel: Kernel, config: Config) -> tuple[str, ...]:
    """The axes over which programs walk, if an operand of a dot lies along one of them."""
    axes = [a.name for a in kernel.grid if a.steps > 1 and a.block > 1]
    if not config.programs:
        return ()
    body = list(ir.statements(kernel.body))
    operands = {t.id for s in body if isinstance(s, ir.DotTile) for t in (s.a, s.b)}
    loads = [s for s in body if isinstance(s, ir.LoadTile) and s.out.id in operands]
    lie = any(s.index.stride(name) in (1, -1) for s in loads for name in axes)
    return tuple(axes) if lie else ()
