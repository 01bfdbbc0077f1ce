"""Choices as a file to commit: readable JSON.

In: Records. Out: text, and back. Invariant: what is read back is what was written, or the reading
is refused with a reason: a file that is cut off, of another program, of another layout, or changed
by hand.

    {
     "format": "tgrad autotune",
     "layout": 1,
     "checksum": "...",                      of all records
     "kernels": [
      {
       "kernel": "matmul_1024x1024_f32",  "line": ..., "equation": ..., "choice": {...},
       "heuristic": seconds, "tuned": seconds, "trials": ..., "device": ..., "generator": ...,
       "key": ..., "form": ..., "extents": [...], "region": ...
      }
     ]
    }
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tgrad.tune.record import Record, RecordError, record_from_json

FORMAT = "tgrad autotune"
LAYOUT = 1
_ORDER = (
    "kernel", "line", "equation", "choice", "heuristic", "tuned", "trials", "device", "generator",
    "key", "form", "extents", "region",
)  # fmt: skip


class ExchangeError(Exception):
    """A file that is not taken in; the message says why."""


def text_of(records: Sequence[Record]) -> str:
    """Records as text; equal records give equal text, in whatever order they come."""
    ordered = sorted(records, key=lambda r: (r.kernel, r.key, r.device, r.generator))
    head = [
        f' "format": {json.dumps(FORMAT)}',
        f' "layout": {LAYOUT}',
        f' "checksum": {json.dumps(_checksum(ordered))}',
    ]
    kernels = ",\n".join(_kernel(r) for r in ordered)
    body = f' "kernels": [\n{kernels}\n ]' if ordered else ' "kernels": []'
    return "{\n" + ",\n".join([*head, body]) + "\n}\n"


def _kernel(record: Record) -> str:
    data = record.to_json()
    fields = ",\n".join(f"   {json.dumps(name)}: {json.dumps(data[name])}" for name in _ORDER)
    return "  {\n" + fields + "\n  }"


def _checksum(records: Sequence[Record]) -> str:
    return hashlib.sha256("".join(r.digest for r in records).encode()).hexdigest()


def records_of(text: str, name: str) -> list[Record]:
    """The records of a text.

    Args:
        name: of the file, for messages.

    Raises:
        ExchangeError: it is not what `text_of` wrote.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ExchangeError(f"{name} is cut off or no JSON: {error}.") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ExchangeError(f"{name} is not an export of tgrad autotune.")
    if data.get("layout") != LAYOUT:
        raise ExchangeError(
            f"{name} has layout {data.get('layout')!r}; this tgrad reads layout {LAYOUT}."
        )
    records = [_record(name, n, entry) for n, entry in enumerate(_kernels(data, name))]
    if data.get("checksum") != _checksum(records):
        raise ExchangeError(
            f"{name} was changed after it was exported: its checksum does not hold. Tune and "
            "export again."
        )
    return records


def _kernels(data: dict[str, Any], name: str) -> list[Any]:
    kernels = data.get("kernels")
    if not isinstance(kernels, list):
        raise ExchangeError(f"{name} has no list of kernels.")
    return kernels


def _record(name: str, number: int, entry: Any) -> Record:
    try:
        record = record_from_json(entry)
        record.check()
    except RecordError as error:
        raise ExchangeError(f"{name}, kernel {number + 1}: {error}.") from None
    return record


def read_file(path: Path) -> list[Record]:
    """The records of a file.

    Raises:
        ExchangeError: it cannot be read, or is not what was exported.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ExchangeError(f"{path} cannot be read: {error}.") from None
    return records_of(text, str(path))
