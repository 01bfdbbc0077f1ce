"""The stored choices that this process uses, read once.

In: Settings, a place. Out: Choices. Invariant: nothing is measured; what cannot be read is said
once, as a warning, and the heuristics stand. Where nothing is stored, nothing that reads it is
loaded.

Origins, in the order in which they are asked:
    the store       <cache>/autotune.db, what was measured on this machine
    the project     beside the program: for train.py the file train.tune.json, else tgrad-tune.json
    tgrad           what it ships: for a device of the kind "sm_90" the file shipped/sm_90.json, and
                    no other is read
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tgrad.kernel.space import Place
from tgrad.settings import Settings
from tgrad.tune import STORE_FILE

if TYPE_CHECKING:
    from tgrad.tune.lookup import Choices
    from tgrad.tune.record import Record

SHIPPED = Path(__file__).parent / "shipped"

_known: dict[tuple[Place, tuple[Path, ...]], Choices] = {}
_read: dict[Path, list[Record]] = {}
_lock = threading.Lock()
_revision = 0


def revision() -> int:
    """A number that changes when `refresh` is called: plans made before it may be out of date."""
    return _revision


def refresh() -> None:
    """Read everything again at the next question."""
    global _revision
    with _lock:
        _known.clear()
        _read.clear()
        _revision += 1


def stored_choices(options: Settings, place: Callable[[], Place]) -> Choices | None:
    """The choices for a place; None where nothing is stored for any.

    Args:
        place: called only if there is something.
    """
    if not options.use_stored:
        return None
    paths, shipped = origins(options), shipped_files()
    if not paths and not shipped:
        return None
    where = place()
    paths += tuple(p for p in shipped if p.stem == where.kind[0])
    if not paths:
        return None
    from tgrad.tune.lookup import Choices

    with _lock:
        if (where, paths) not in _known:
            _known[where, paths] = Choices(where, [_records(p) for p in paths])
        return _known[where, paths]


def origins(options: Settings) -> tuple[Path, ...]:
    """The user's files that there are, in the order in which they are asked."""
    store = options.cache_dir / STORE_FILE
    project = project_file()
    found = [store, *([] if project is None else [project])]
    return tuple(p for p in found if p.is_file())


def shipped_files() -> tuple[Path, ...]:
    """What comes with tgrad, a file for each kind of device."""
    return tuple(sorted(SHIPPED.glob("*.json")))


def project_file() -> Path | None:
    """The export beside the running program."""
    program = getattr(sys.modules.get("__main__"), "__file__", None)
    return None if program is None else file_beside(Path(program))


def file_beside(program: Path) -> Path | None:
    """The export beside a program, by the rule of the module's docstring."""
    for name in (f"{program.stem}.tune.json", "tgrad-tune.json"):
        path = program.parent / name
        if path.is_file():
            return path
    return None


def _records(path: Path) -> list[Record]:
    if path not in _read:
        from tgrad.tune.exchange import ExchangeError, read_file
        from tgrad.tune.store import Store, StoreError

        try:
            is_store = path.name == STORE_FILE
            _read[path] = Store(path.parent).records() if is_store else read_file(path)
        except (StoreError, ExchangeError) as error:
            warnings.warn(f"tgrad: {error} Heuristics are used.", stacklevel=2)
            _read[path] = []
    return _read[path]
