"""The database of choices: one SQLite file, safe with many processes.

In: Records. Out: Records. Invariant: each record is written in a transaction of its own, so a
process that dies leaves all or nothing of it; a file of another layout, or one that is no database,
is left as it is and said so.

The file is <cache>/autotune.db in write-ahead mode: readers never wait, writers wait for each
other. Each row carries a digest of its record.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tgrad.cache_files import make_folder
from tgrad.tune import STORE_FILE
from tgrad.tune.record import Record, RecordError, record_from_json

LAYOUT = 1
"""Of the tables; another number is another version of tgrad."""
BUSY_SECONDS = 30.0

_TABLE = """
CREATE TABLE choices (
  key TEXT NOT NULL, device TEXT NOT NULL, generator TEXT NOT NULL,
  record TEXT NOT NULL, digest TEXT NOT NULL,
  PRIMARY KEY (key, device, generator)
) WITHOUT ROWID
"""


class StoreError(Exception):
    """A store that cannot be used; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A row that is not as it was written; the keys are empty where it is the file."""

    reason: str
    key: str = ""
    device: str = ""
    generator: str = ""


class Store:
    """The choices of a cache directory. The file is made with the first record."""

    def __init__(self, cache_dir: Path):
        self.path = cache_dir / STORE_FILE

    def put(self, records: Iterable[Record]) -> None:
        """Write records, each in place of what was known of its kernel at its place.

        Raises:
            StoreError: the file cannot be written, or is not ours.
        """
        rows = [(r.key, r.device, r.generator, json.dumps(r.to_json()), r.digest) for r in records]
        if not rows:
            return
        try:
            make_folder(self.path.parent)
        except OSError as error:
            raise self._refused(error) from error
        with self._open(create=True) as database:
            database.execute("BEGIN IMMEDIATE")
            database.executemany("INSERT OR REPLACE INTO choices VALUES (?, ?, ?, ?, ?)", rows)
            database.execute("COMMIT")

    def records(self) -> list[Record]:
        """All intact records, of every device and version, by kernel.

        Raises:
            StoreError: the file cannot be read, or is not ours.
        """
        return self._read()[0]

    def verify(self) -> list[Fault]:
        """Rows that are not as they were written, and what SQLite finds wrong with the file.

        Raises:
            StoreError: the file cannot be read, or is not ours.
        """
        records, faults = self._read()
        for record in records:
            try:
                record.check()
            except RecordError as error:
                faults.append(Fault(str(error), record.key, record.device, record.generator))
        if self.path.exists():
            with self._open() as database:
                found = [row[0] for row in database.execute("PRAGMA integrity_check")]
            faults += [Fault(text) for text in found if text != "ok"]
        return faults

    def remove(self, keys: Iterable[tuple[str, str, str]]) -> int:
        """Forget (key, device, generator); the number of rows that were there.

        Raises:
            StoreError: the file cannot be written, or is not ours.
        """
        if not self.path.exists():
            return 0
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            statement = "DELETE FROM choices WHERE key = ? AND device = ? AND generator = ?"
            count = database.executemany(statement, list(keys)).rowcount
            database.execute("COMMIT")
        return max(count, 0)

    def remove_broken(self) -> int:
        """Forget rows that are not as they were written; how many there were.

        Raises:
            StoreError: the file cannot be written, or is not ours.
        """
        faults = self._read()[1]
        if faults:
            with self._open() as database:
                database.execute("BEGIN IMMEDIATE")
                statement = "DELETE FROM choices WHERE key = ? AND device = ? AND generator = ?"
                database.executemany(statement, [(f.key, f.device, f.generator) for f in faults])
                database.execute("COMMIT")
        return len(faults)

    def _read(self) -> tuple[list[Record], list[Fault]]:
        if not self.path.exists():
            return [], []
        records: list[Record] = []
        faults: list[Fault] = []
        with self._open() as database:
            rows = database.execute("SELECT key, device, generator, record, digest FROM choices")
            for key, device, generator, text, digest in rows:
                try:
                    record = record_from_json(json.loads(text))
                except (ValueError, TypeError) as error:
                    faults.append(Fault(str(error), key, device, generator))
                    continue
                named = (record.key, record.device, record.generator)
                if record.digest != digest or named != (key, device, generator):
                    reason = f"{record.kernel} is not as it was written"
                    faults.append(Fault(reason, key, device, generator))
                    continue
                records.append(record)
        return sorted(records, key=lambda r: (r.kernel, r.key, r.device, r.generator)), faults

    @contextmanager
    def _open(self, create: bool = False) -> Iterator[sqlite3.Connection]:
        """A connection whose transactions are explicit."""
        mode = "rwc" if create else "rw"
        try:
            with closing(
                sqlite3.connect(
                    f"{self.path.absolute().as_uri()}?mode={mode}",
                    uri=True,
                    timeout=BUSY_SECONDS,
                    isolation_level=None,
                )
            ) as database:
                self._prepare(database)
                yield database
        except sqlite3.DatabaseError as error:
            raise self._refused(error) from error

    def _prepare(self, database: sqlite3.Connection) -> None:
        """Make the table where there is none; refuse what is not ours."""
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("BEGIN IMMEDIATE")
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version == 0 and not database.execute("SELECT name FROM sqlite_master").fetchone():
                database.execute(_TABLE)
                database.execute(f"PRAGMA user_version = {LAYOUT}")
                version = LAYOUT
            database.execute("COMMIT")
        if version != LAYOUT:
            raise StoreError(
                f"{self.path} has layout {version} and this tgrad writes layout {LAYOUT}: it is "
                "left alone.\n  Use the tgrad that made it, or set TGRAD_CACHE_DIR to another "
                "directory."
            )

    def _refused(self, error: Exception) -> StoreError:
        return StoreError(
            f"{self.path} cannot be used: {error}.\n  Delete it (what was tuned is tuned again) or "
            "set TGRAD_CACHE_DIR to another directory."
        )
