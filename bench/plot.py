"""Results as a picture: each peer's time over tgrad's, a group of bars a case.

In: `Results`. Out: a file. Invariant: matplotlib is imported here alone.
"""

from __future__ import annotations

from pathlib import Path

from bench.results import OURS, Results

LONGEST = 8.0
"""Ratio at which a bar is cut; its figure stands beside it."""


def plot(results: Results, path: Path) -> None:
    """Bars right of 1 are slower than tgrad.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    peers = [name for name in results.peers if name != OURS]
    rows = [row for row in results.rows if row.cells[OURS].median]
    figure, axis = plt.subplots(figsize=(9, 0.8 + 0.16 * (len(peers) + 1) * len(rows)))
    height = 1 / (len(peers) + 1)
    for place, name in enumerate(peers):
        for number, row in enumerate(rows):
            theirs, ours = row.cells[name].median, row.cells[OURS].median
            if theirs is None or ours is None:
                continue
            ratio, y = theirs / ours, number + (place + 0.5) * height
            axis.barh(y, min(ratio, LONGEST), height * 0.9, color=f"C{place}",
                      label=name if number == 0 else None)  # fmt: skip
            axis.text(min(ratio, LONGEST) + 0.05, y, f"{ratio:.2f}", va="center", fontsize=6)
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set_yticks([n + 0.4 for n in range(len(rows))], [row.title for row in rows], fontsize=7)
    axis.set_ylim(len(rows), -0.2)
    axis.set_xlim(0, LONGEST + 0.6)
    axis.set_xlabel("time ÷ tgrad's time (right of 1: tgrad is faster)")
    machine = results.machine
    axis.set_title(f"{machine.processor}, {machine.cores} cores", fontsize=8, loc="left")
    axis.legend(fontsize=7, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(peers))
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
