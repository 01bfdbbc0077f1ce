"""`tgrad autotune show | export | import | diff | prune | verify`: the store of choices.

In: the store of the cache directory, files. Out: text, an exit status. Invariant: what belongs to
another device or version is never changed but by `prune`, and is said; a file is taken in whole or
not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import wraps
from pathlib import Path
from typing import Any

from tgrad.autotuning.machine import ThisMachine
from tgrad.cli.script import fail, write_text
from tgrad.runtime.report.text import duration
from tgrad.settings import settings
from tgrad.tune.exchange import ExchangeError, read_file, text_of
from tgrad.tune.record import Record, RecordError
from tgrad.tune.store import Store, StoreError


def _guarded(command: Callable[..., int]) -> Callable[..., int]:
    """Errors of stores and files as one line and the exit status 1."""

    @wraps(command)
    def run(*args: Any) -> int:
        try:
            return command(*args)
        except (StoreError, ExchangeError) as error:
            what, _, hint = str(error).partition("\n  ")
            return fail("autotune", what, hint or "Nothing was changed.")

    return run


def _split(records: Sequence[Record], machine: ThisMachine) -> tuple[list[Record], list[Record]]:
    """Those of this machine, and the others."""
    here = [r for r in records if machine.is_here(r)]
    return here, [r for r in records if r not in here]


def _others(records: Sequence[Record]) -> None:
    """Say what is left alone."""
    places: dict[tuple[str, str], int] = {}
    for r in records:
        places[r.device, r.generator] = places.get((r.device, r.generator), 0) + 1
    for (device, generator), count in sorted(places.items()):
        print(f"{count} of another device or version, left alone: {device}; {generator}")


@_guarded
def show(every: bool) -> int:
    """A row a kernel."""
    store = Store(settings.cache_dir)
    here, others = _split(store.records(), ThisMachine(settings))
    rows = [_row(r) for r in ([*here, *others] if every else here)]
    header = ("kernel", "line", "heuristic", "tuned", "gain", "trials", "choice")
    widths = [max(len(r[i]) for r in (header, *rows)) for i in range(len(header))]
    for row in (header, *rows) if rows else ():
        print("  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip())
    print(f"{len(here)} kernels of this machine in {store.path}")
    _others(others)
    return 0


def _row(r: Record) -> tuple[str, ...]:
    choice = " ".join(f"{name}={value}" for name, value in r.choice.items())
    if not r.is_measured:
        return r.kernel, r.line, "", "ranked", "", str(r.trials), choice
    times = duration(r.heuristic), duration(r.tuned), f"{r.gain:.2f}x"
    return (r.kernel, r.line, *times, str(r.trials), choice)


@_guarded
def export(path: Path, kernels: str) -> int:
    """Write the records of this machine."""
    here, others = _split(Store(settings.cache_dir).records(), ThisMachine(settings))
    chosen = [r for r in here if fnmatchcase(r.kernel, kernels)]
    if not chosen:
        hint = "Run `tgrad autotune SCRIPT` first; `tgrad autotune show --all` lists all."
        return fail("autotune", "There is nothing of this machine to export.", hint)
    reason = write_text(path, text_of(chosen))
    if reason:
        return fail("autotune", reason, "Name another file.")
    print(f"{len(chosen)} kernels written to {path}")
    _others(others)
    return 0


@_guarded
def import_(path: Path) -> int:
    """Take in a file, all of it or nothing."""
    machine = ThisMachine(settings)
    records = read_file(path)
    for record in records:
        reason = "" if machine.is_kin(record) else machine.stranger(record)
        reason = reason or (machine.fault(record) if machine.is_here(record) else "")
        if reason:
            return fail("autotune", f"{path} is refused: {reason}.", "Nothing was changed.")
    store = Store(settings.cache_dir)
    measured = {(r.key, r.device, r.generator) for r in store.records() if r.is_measured}
    news = [r for r in records if r.is_measured or (r.key, r.device, r.generator) not in measured]
    store.put(news)
    print(f"{len(news)} kernels of {path} stored in {store.path}")
    if len(records) > len(news):
        print(f"{len(records) - len(news)} that were only ranked are measured here already: kept")
    starts = [r for r in news if not (r.is_measured and machine.is_here(r))]
    if starts:
        print(f"{len(starts)} of them are where a search starts, and no run uses them yet:")
        reasons = (machine.stranger(r).partition(" is ")[2] or "only ranked" for r in starts)
        for reason in dict.fromkeys(reasons):
            print(f"  {reason}")
        print("Measure them: tgrad autotune SCRIPT")
    return 0


@_guarded
def diff(path: Path) -> int:
    """What differs between the store and a file; the exit status 1 if anything does."""
    theirs = {(r.key, r.device, r.generator): r for r in read_file(path)}
    ours = {(r.key, r.device, r.generator): r for r in Store(settings.cache_dir).records()}
    differs = False
    for place in sorted({*ours, *theirs}, key=lambda p: (ours.get(p) or theirs[p]).kernel):
        a, b = ours.get(place), theirs.get(place)
        if a is not None and b is not None and dict(a.choice) == dict(b.choice):
            continue
        differs = True
        for sign, record in (("-", b), ("+", a)):
            if record is not None:
                kernel, _, _, tuned, gain, _, choice = _row(record)
                print(f"{sign} {kernel}  {tuned}  {gain}  {choice}")
    print(f"- {path}, + the store" if differs else "no difference")
    return int(differs)


@_guarded
def prune(devices: bool) -> int:
    """Forget what no run here uses: of other versions, with `devices` of other devices too."""
    store, machine = Store(settings.cache_dir), ThisMachine(settings)
    gone = []
    for r in store.records():
        found = machine.find(r)
        is_same_device = found is not None and found[1].device == r.device
        if not machine.is_here(r) and (devices or is_same_device):
            gone.append((r.key, r.device, r.generator))
    broken = store.remove_broken()
    print(f"{store.remove(gone)} kernels forgotten, {broken} broken rows removed")
    return 0


@_guarded
def verify() -> int:
    """Check the file, each row, and the choices of this machine."""
    store, machine = Store(settings.cache_dir), ThisMachine(settings)
    faults = [f.reason for f in store.verify()]
    records = store.records()
    here, others = _split(records, machine)
    for record in here:
        try:
            reason = machine.fault(record)
        except RecordError as error:
            reason = str(error)
        faults += [reason] if reason else []
    for reason in faults:
        print(f"broken: {reason}")
    _others(others)
    print(f"{len(records)} kernels in {store.path}, {len(faults)} faults")
    return int(bool(faults))
