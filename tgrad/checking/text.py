"""What was checked, as text and as data.

In: a Checker's launches. Out: lines for people; rows of plain data. Invariant: the first wrong
kernel comes first, with its source's path and the user's line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tgrad.checking.checker import Checked
from tgrad.checking.compare import Difference


def text_of(launches: Sequence[Checked]) -> str:
    """Wrong kernels in the order in which they ran, then what nobody could check, then counts."""
    wrong = [x for x in launches if not x.is_right]
    lines = [line for x in wrong for line in (*_lines(x), "")]
    unknown = [x for x in launches if x.unknown]
    lines += [f"not compared: {x.kernel.name}, {x.unknown}" for x in unknown]
    count = len(launches) - len(unknown)
    verdict = f"{len(wrong)} wrong, the first is {wrong[0].kernel.name}" if wrong else "all right"
    lines.append(f"{count} of {len(launches)} launches compared with the CPU: {verdict}")
    return "\n".join(lines)


def _lines(x: Checked) -> Iterator[str]:
    yield f"{x.kernel.name}: launch {x.step} of plan {x.plan + 1}, from {x.kernel.line}"
    for d in x.differences:
        yield f"  {_difference(d)}"
    if x.changed:
        yield f"  writes to what it only reads: {', '.join(x.changed)}"
    if x.unsteady:
        yield f"  other bits when it runs again on the same inputs: {', '.join(x.unsteady)}"
    if x.path:
        yield f"  {x.path}"


def _difference(d: Difference) -> str:
    which = (
        f"{d.wrong:,} of {d.size:,} elements" if d.wrong else f"all {d.size:,} elements a little"
    )
    return (
        f"{d.slot} ({d.dtype.name}): {which} wrong, root mean square {d.ratio:.1e} of the "
        f"values'; at {d.at:,} it is {d.have:.6g} and should be {d.want:.6g}"
    )


def data_of(launches: Sequence[Checked]) -> list[dict[str, Any]]:
    """A row a launch."""
    return [
        {
            "plan": x.plan,
            "step": x.step,
            "kernel": x.kernel.name,
            "line": x.kernel.line,
            "path": x.path,
            "right": x.is_right and not x.unknown,
            "unknown": x.unknown,
            "changed": list(x.changed),
            "unsteady": list(x.unsteady),
            "differences": [
                {"slot": d.slot, "dtype": d.dtype.name, "size": d.size, "wrong": d.wrong,
                 "at": d.at, "have": d.have, "want": d.want, "ratio": d.ratio}
                for d in x.differences
            ],
        }
        for x in launches
    ]  # fmt: skip
