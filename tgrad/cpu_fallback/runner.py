"""One C entry point that runs all steps of a plan, with no Python between them.

In: Settings. Out: a compiled function `tgrad_run_steps(char *const *arguments)` that takes four
addresses: the number of steps, an array of kernels, an array with each step's array of slots, and a
counter of kernels that have run.
Invariant: it is compiled once a machine and cached like any kernel.

    for (step) kernels[step](slots[step]);
"""

from __future__ import annotations

from typing import Any

from tgrad.cpu_fallback.compile import KernelSource, compile_kernels
from tgrad.settings import Settings

_NAME = "tgrad_run_steps"

_TEXT = f"""\
/* Runs the kernels of a plan one after the other. */
void {_NAME}(char *const *arguments) {{
  typedef void (*kernel)(char *const *);
  const long count = *(const long *)arguments[0];
  const kernel *kernels = (const kernel *)arguments[1];
  char *const *const *slots = (char *const *const *)arguments[2];
  long *launched = (long *)arguments[3];
  for (long step = 0; step < count; step++) {{
    kernels[step](slots[step]);
    launched[0]++;
  }}
}}
"""


def compile_runner(settings: Settings) -> Any:
    """The function, as ctypes sees it: it takes one `void **`.

    Raises:
        CompileError: there is no C compiler.
        CacheError: the cache directory cannot be written.
    """
    return compile_kernels([KernelSource(_NAME, _TEXT)], settings)[_NAME].entry
