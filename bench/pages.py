"""docs/benchmarks.md and the README's section on performance, from committed results.

In: the JSON files of bench/results. Out: Markdown. Invariant: every figure on the page is from a
file, with the machine and the commit that it says; rows where tgrad is slower stand first. A test
holds that both texts are what this prints.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import results
from bench.machine import ROOT
from bench.results import OURS, WAYS, Results, Row, fastest_peer, geometric_mean, ratio_of
from bench.tables import Table, first_step_table, main_table, markdown, milliseconds, others_text

RESULTS = ROOT / "bench" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- benchmarks: python -m bench docs -->", "<!-- end of benchmarks -->"

TABLES: tuple[tuple[str, str, str], ...] = (
    ("target", "Training to a target", "python -m bench target --data DIR"),
    ("compile", "First steps", "python -m bench compile"),
    ("launches", "Launches and bytes of a training step", "python -m bench launches"),
    ("memory", "Peak memory of a training step", "python -m bench memory"),
    ("accuracy", "Accuracy", "python -m bench accuracy"),
)
"""File, heading, command."""

COUNTS = """## Counts

Nodes, launches, kernels, FLOPs, bytes, peak memory and the generated code of every workload and
model for two targets are in [bench/results/counts.json](../bench/results/counts.json). They follow
from the code alone, are the same on every machine, and the tests fail where one changes unnoticed:
`python -m bench counts`.
"""

DATED = "*-[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9].json"
KINDS: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("cpu", "CPU", ("cpu.json", "cpu-*.json"), "python -m bench cpu --json bench/results/cpu.json"),
    ("gpu", "GPU", (DATED,), "python -m bench gpu"),
)
"""Name, heading, files (one for each machine, such as cpu.json and cpu-avx2.json), and the command
that writes one."""

KNOWN = """## What is known of these figures

- AMD EPYC, family 25 model 1, commit 943d100135: convolutions are of before decision 0061.
- NVIDIA H100, commit b075ce6: GPT-2's training step was wrong there and has no time, for a race
  that decision 0057 ends. On an H200 (`python -m bench confirm`, commits 222cffe469 and e427008058)
  its first four losses and ResNet-50's are PyTorch's, as one graph and kernel by kernel.
- NVIDIA H100, the same run: in the rows `layer norm, forward and backward` and `conv 3x3,
  128x64x56x56 to 64, forward and backward` the host waited for the device at each call. It waits no
  longer: on the H200 0.108 ms and, in its table, 0.396 ms.
- NVIDIA H200: two calls of one commit; each peer had a minute and a half for a step. Without
  max-autotune. In the rows of convolutions PyTorch's images lay channels last and tgrad's did not,
  which it copied in the time measured; since, both lie so. The Python part of a call, with the
  copies into and out of its graph but without CUDA's launch of it (`python -m bench.replay cuda`):
  41 to 59 us, the whole call 68 to 76 us.
- NVIDIA H200, commit 821e2b18bd: one turn of each peer, PyTorch alone beside tgrad. The row of the
  7x7 convolution, forward and backward, is of an order of axes that it no longer has: 2.17 ms
  before (commit ec016c062c, 1.50 times PyTorch's speed there). The Python part of a call is 14 to
  27 us, the median of nine 19.7; with copies into and out of its graph 34 to 60, the whole call 41
  to 76.
"""

GPU_RUN = """## On a GPU

`python -m bench gpu` measures for eight minutes (`--minutes N`) and writes
`bench/results/<gpu>-<date>.json`, after each row again, so that a run that is killed loses nothing.
A medium size of each kind of row comes first, then training steps, then all the others; what the
time does not suffice for is named as not reached. Some more options:

- `--only 'softmax_*,step_gpt2'`: keys of rows, or shell patterns of them.
- `--peers torch,compile`: without `max-autotune`, which takes the most time. It takes part in
  products, convolutions and training steps; with `--search-all` in all rows.
- `--patience 120`: seconds that a peer may take to compile a row; then it has no time there.
- `--first-steps`: first steps from an empty and a warm cache too, which take minutes more.
- `--plot FILE`: a picture; `--logs DIR`: what each peer prints, with tracebacks of its failures.

Results are compared with PyTorch's in float32 without TF32, from inputs rounded to bfloat16.

Before it, on a machine that is new: `python -m bench confirm` runs GPT-2's and ResNet-50's steps as
users do and kernel by kernel, prints their first losses beside PyTorch's, and where they differ
compares each kernel with the CPU and names those that are wrong (`--check always`: in any case).
After it: `python -m bench variants` measures the kernels of the rows that were short, with one
thing of their configurations changed at a time.
"""


def page(folder: Path = RESULTS) -> str:
    """docs/benchmarks.md."""
    parts = [
        "# Benchmarks\n\nGenerated by `python -m bench docs` from the files in `bench/results`. "
        "How it is measured, and why so: [decision 0010](decisions/0010-peers-take-turns.md).\n"
    ]
    for name, heading, patterns, command in KINDS:
        paths = files_of(folder, patterns)
        parts += [_measured(path, heading, f"python -m bench {name}") for path in paths]
        if not paths:
            parts.append(_absent(heading, command))
    parts += [GPU_RUN, KNOWN]
    for name, heading, command in TABLES:
        parts.append(_table(folder / f"{name}.json", heading, command))
    return "\n".join((*parts, COUNTS))


def files_of(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """Files of these patterns, those of the first before those of the next."""
    return [path for pattern in patterns for path in sorted(folder.glob(pattern))]


def dated_path(accelerator: str, date: str, folder: Path = RESULTS) -> Path:
    """The file of a run on a GPU.

    >>> dated_path("NVIDIA H100 80GB HBM3", "2026-01-31").name
    'nvidia-h100-80gb-hbm3-2026-01-31.json'
    """
    name = re.sub(r"[^a-z0-9]+", "-", accelerator.lower()).strip("-")
    return folder / f"{name}-{date}.json"


def _measured(path: Path, heading: str, command: str) -> str:
    found = results.read(path)
    machine = found.machine.accelerator or found.machine.processor
    title = f"## {heading}: {machine}\n\n`{command}`\n"
    parts = [title, _verdict(found), markdown(main_table(found))]
    if found.first_steps:
        parts += ["### First steps\n", markdown(first_step_table(found.first_steps))]
    return "\n".join(parts)


def _absent(heading: str, command: str) -> str:
    return f"## {heading}\n\nNot measured yet: `{command}`.\n"


def _verdict(found: Results) -> str:
    """What is slower, what is faster, in words; the slow ones first."""
    slower, faster = split_rows(found.rows)
    mean = geometric_mean([ratio for _, ratio in (*slower, *faster)])
    lines = [_warning(found.preliminary)]
    if mean is not None:
        count = len(slower) + len(faster)
        lines.append(
            f"Geometric mean of (fastest peer ÷ tgrad) over {count} rows: **{mean:.2f}×**.\n"
        )
    for word, rows in (("slower than the fastest peer", slower), ("faster", faster)):
        lines.append(f"tgrad is {word} in {len(rows)} rows" + (":\n" if rows else ".\n"))
        lines += [f"- {_row_text(row, ratio)}" for row, ratio in rows]
        lines.append("")
    return "\n".join(lines)


def split_rows(
    rows: Sequence[Row],
) -> tuple[list[tuple[Row, float]], list[tuple[Row, float]]]:
    """Rows where tgrad is slower than the fastest peer, the worst first, and the others."""
    pairs = [(row, ratio) for row in rows if (ratio := ratio_of(row)) is not None]
    pairs.sort(key=lambda pair: pair[1])
    return [p for p in pairs if p[1] < 1], [p for p in pairs if p[1] >= 1]


def _row_text(row: Row, ratio: float) -> str:
    best = fastest_peer(row)
    assert best is not None
    ours = milliseconds(row.cells[OURS].median)
    return f"{_escaped(row)}: {ratio:.2f}× ({ours} ms; {best[0]} {milliseconds(best[1])} ms)"


def _escaped(row: Row) -> str:
    return row.title.replace("*", "\\*")


def _warning(is_preliminary: bool) -> str:
    if not is_preliminary:
        return ""
    return "**Preliminary**: the machine was shared or the run shortened. Of no weight.\n"


def _table(path: Path, heading: str, command: str) -> str:
    if not path.is_file():
        return _absent(heading, f"{command} --json bench/results/{path.name}")
    data: dict[str, Any] = json.loads(path.read_text())
    table = Table(
        data["title"],
        tuple(data["header"]),
        tuple(map(tuple, data["rows"])),
        (*data["notes"], _place(data)),
    )
    warning = _warning(data["preliminary"])
    return "\n".join(
        part for part in (f"## {heading}\n\n`{command}`\n", warning, markdown(table)) if part
    )


def _place(data: dict[str, Any]) -> str:
    machine = data["machine"]
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}; commit "
        f"{data['commit']}, {data['date']}{others_text(data.get('others'))}"
    )


def readme_section(folder: Path = RESULTS) -> str:
    """What stands between the marks in README.md, the marks included."""
    lines = [BEGIN, ""]
    for _, heading, patterns, _ in KINDS:
        for path in files_of(folder, patterns):
            lines += [_summary(results.read(path), heading), ""]
    lines += ["All rows, with the machines: [docs/benchmarks.md](docs/benchmarks.md).", "", END]
    return "\n".join(lines)


def _summary(found: Results, heading: str) -> str:
    """A paragraph: the mean, the rows where tgrad loses, and where it wins most."""
    slower, faster = split_rows(found.rows)
    mean = geometric_mean([ratio for _, ratio in (*slower, *faster)])
    machine = found.machine.accelerator or f"{found.machine.processor}, {found.machine.cores} cores"
    peers = ", ".join(name for name in found.peers if name not in WAYS)
    begin = "Preliminary, of no weight: on" if found.preliminary else "On"
    text = f"{heading}. {begin} {machine}, against the fastest of {peers} in each row: "
    if mean is None:
        return f"{text}no row has times of both."
    text += f"geometric mean {mean:.2f}× over {len(slower) + len(faster)} rows. "
    losses = "; ".join(f"{_escaped(row)} {r:.2f}×" for row, r in slower)
    text += f"Slower in {len(slower)}: {losses}. " if slower else "Slower in none. "
    wins = "; ".join(f"{_escaped(row)} {r:.2f}×" for row, r in reversed(faster[-3:]))
    return (
        text + (f"Fastest by: {wins}. " if wins else "") + f"Commit {found.commit}, {found.date}."
    )


def with_section(readme: str, section: str) -> str:
    """The README with its section replaced.

    Raises:
        ValueError: a mark is missing.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md has no {BEGIN!r} … {END!r}")
    return before + section + after


def write_pages() -> None:
    """Both texts, in place."""
    PAGE.write_text(page())
    README.write_text(with_section(README.read_text(), readme_section()))
