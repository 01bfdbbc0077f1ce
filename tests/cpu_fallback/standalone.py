"""Kernels as a program of their own, for other compilers, flags and processors.

In: regions with their slots' contents, a machine to generate for, a compiler. Out: the slots after
the kernels have run. Invariant: every slot is a separate allocation of its exact size, so that a
sanitizer sees each element read or written outside.
"""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tgrad.cpu_fallback import Machine
from tgrad.cpu_fallback.emit_c import emit
from tgrad.cpu_fallback.heuristics import choose_config
from tgrad.cpu_fallback.preamble import preamble
from tgrad.fusion.region import Region
from tgrad.kernel.lower import lower

FLAGS = ("-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-w")

_MAIN = """
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
int main(int count, char **arguments) {{
  FILE *in = fopen(arguments[1], "rb"), *out = fopen(arguments[2], "wb");
  if (!in || !out) return 3;
  tg_threads = 2;
{calls}
  fclose(in);
  fclose(out);
  return 0;
}}
"""

_CALL = """\
  {{
    static const long bytes[] = {{{bytes}}};
    char *slots[{slots}];
    for (int i = 0; i < {slots}; i++) {{
      if (posix_memalign((void **)&slots[i], 64, bytes[i] + !bytes[i])) return 5;
      if (fread(slots[i], 1, bytes[i], in) != bytes[i]) return 4;
    }}
    {name}(slots);
    for (int i = 0; i < {slots}; i++) {{
      fwrite(slots[i], 1, bytes[i], out);
      free(slots[i]);
    }}
  }}
"""


@dataclass(frozen=True)
class Toolchain:
    """How to compile and run.

    Attributes:
        compiler: its command.
        flags: beside FLAGS.
        machine: what is generated for.
        runner: command that runs the program (an emulator), or nothing.
    """

    compiler: str
    flags: tuple[str, ...]
    machine: Machine
    runner: tuple[str, ...] = ()


def run_standalone(
    cases: Sequence[tuple[Region, Sequence[np.ndarray]]], tools: Toolchain, folder: Path
) -> list[list[np.ndarray]]:
    """All slots of each region after its kernel has run; what the program prints is a failure."""
    sources, calls = [], []
    for number, (region, arrays) in enumerate(cases):
        region = dataclasses.replace(region, name=f"{region.name}_{number}")
        config = choose_config(region, tools.machine)
        sources.append(emit(lower(region, config), config, tools.machine))
        sizes = ", ".join(str(a.nbytes) for a in arrays)
        calls.append(_CALL.format(bytes=sizes, slots=len(arrays), name=region.name))
    text = "".join(sources)
    source, program = folder / "kernels.c", folder / "kernels"
    main = _MAIN.format(calls="".join(calls))
    source.write_text(preamble(text + main) + text + main)
    command = [tools.compiler, *FLAGS, *tools.flags, str(source), "-lm", "-o", str(program)]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr[-4000:]
    given, result = folder / "given", folder / "result"
    with given.open("wb") as file:
        for _, arrays in cases:
            for a in arrays:
                file.write(np.ascontiguousarray(a).tobytes())
    answer = subprocess.run(
        [*tools.runner, str(program), str(given), str(result)], capture_output=True, text=True
    )
    assert answer.returncode == 0 and not answer.stderr, answer.stderr[-4000:]
    data, place, outputs = result.read_bytes(), 0, []
    for _, arrays in cases:
        outputs.append([])
        for a in arrays:
            outputs[-1].append(np.frombuffer(data, a.dtype, a.size, place))
            place += a.nbytes
    assert place == len(data)
    return outputs
