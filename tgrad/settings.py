"""Settings: read from the environment once, then passed as one object.

In: environment variables. Out: a frozen `Settings`. Invariant: nothing else reads `os.environ`
for tgrad's own variables.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}
_BINARY = {"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40}


def _user_cache() -> Path:
    """The cache directory of the platform (platformdirs where it is installed)."""
    try:
        import platformdirs
    except ImportError:
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches" / "tgrad"
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tgrad"
    return Path(platformdirs.user_cache_dir("tgrad", appauthor=False))


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the environment decides.

    Attributes:
        cache_dir: generated sources, compiled kernels and plans (TGRAD_CACHE_DIR).
        device: where new tensors live by default (TGRAD_DEVICE).
        cc: the C compiler (TGRAD_CC, then CC, then cc, gcc or clang on the path).
        num_threads: threads of the CPU kernels, 0 for all cores (OMP_NUM_THREADS).
        data_dir: where data sets are looked for first (TGRAD_DATA), or None.
        use_stored: whether kernels take configurations that `tgrad autotune` found (TGRAD_STORED=0
            for the heuristics alone).
        keep_plans: whether plans are kept in the cache for later processes (TGRAD_KEEP_PLANS=0 for
            planning everything anew).
    """

    cache_dir: Path
    device: str
    cc: str
    num_threads: int
    data_dir: Path | None
    use_stored: bool = True
    keep_plans: bool = True


def read_settings() -> Settings:
    """The settings of the environment as it is now."""
    env = os.environ
    threads = env.get("OMP_NUM_THREADS", "").split(",")[0]
    return Settings(
        cache_dir=Path(env["TGRAD_CACHE_DIR"]) if env.get("TGRAD_CACHE_DIR") else _user_cache(),
        device=env.get("TGRAD_DEVICE", "cpu"),
        cc=env.get("TGRAD_CC") or env.get("CC") or "",
        num_threads=int(threads) if threads.isdecimal() else 0,
        data_dir=Path(env["TGRAD_DATA"]) if env.get("TGRAD_DATA") else None,
        use_stored=env.get("TGRAD_STORED", "1") != "0",
        keep_plans=env.get("TGRAD_KEEP_PLANS", "1") != "0",
    )


settings = read_settings()


def parse_size(text: str) -> int:
    """Bytes from a number with a unit.

    Raises:
        ValueError: it is not one.

    >>> parse_size("8GiB"), parse_size("1.5 kB"), parse_size("4096")
    (8589934592, 1500, 4096)
    """
    found = re.fullmatch(r"\s*([0-9.]+)\s*([kmgt]?i?)b?\s*", text.lower())
    units = _UNITS | _BINARY
    if found is None or found[2] not in units or found[1].count(".") > 1 or found[1] == ".":
        raise ValueError(f"{text!r} is not a size; write for example 8GiB or 500MB.")
    return int(float(found[1]) * units[found[2]])


def parse_seconds(text: str) -> float:
    """Seconds from a number with a unit: s, min or h; seconds where there is none.

    Raises:
        ValueError: it is not one, or not positive.

    >>> parse_seconds("90s"), parse_seconds("1.5 min")
    (90.0, 90.0)
    """
    found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(s|min|h)?\s*", text)
    seconds = 0.0 if found is None else float(found[1]) * _SECONDS[found[2] or "s"]
    if seconds <= 0:
        raise ValueError(f"{text!r} is not a time; write for example 90s or 5min.")
    return seconds
