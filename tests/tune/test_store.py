"""The store: what is written is read, broken rows and foreign files are seen, many may write."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.tune.records import ELSEWHERE, record_of, with_choice
from tests.tune.test_end_to_end import ROOT, environment
from tgrad.tune.store import Store, StoreError

WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from tests.tune.records import record_of
from tgrad.tune.store import Store
store, record = Store(Path(sys.argv[1])), record_of()
print("ready", flush=True)
for n in range(int(sys.argv[3])):
    store.put([replace(record, key=f"{sys.argv[2]}{n}")])
"""


def sql(store: Store, statement: str) -> None:
    database = sqlite3.connect(store.path)
    database.execute(statement)
    database.commit()
    database.close()


def test_records_come_back(tmp_path):
    store = Store(tmp_path / "cache")
    assert store.records() == [] and store.verify() == [] and not store.path.exists()
    first, second = record_of(), record_of("softmax", place=ELSEWHERE)
    store.put([first, second])
    assert store.records() == [first, second]
    better = with_choice(first, k_block=32)
    store.put([better])
    assert store.records() == [better, second]
    assert store.verify() == []
    assert store.remove([(second.key, second.device, second.generator)]) == 1
    assert store.records() == [better]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE choices SET record = replace(record, '0.001', '0.0001')",
        "UPDATE choices SET record = substr(record, 1, 100)",
        "UPDATE choices SET device = 'this one'",
        "UPDATE choices SET digest = ''",
    ],
)
def test_a_row_changed_by_hand_is_not_read(tmp_path, statement):
    store = Store(tmp_path)
    store.put([record_of()])
    sql(store, statement)
    assert store.records() == []
    assert len(store.verify()) == 1
    assert store.remove_broken() == 1
    assert store.verify() == []


def test_another_layout_is_left_alone(tmp_path):
    store = Store(tmp_path)
    store.put([record_of()])
    sql(store, "PRAGMA user_version = 7")
    before = store.path.read_bytes()
    for use in (store.records, store.verify, lambda: store.put([record_of()])):
        with pytest.raises(StoreError, match="has layout 7 and this tgrad writes layout 1"):
            use()
    assert store.path.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database, but long enough to be one" * 9, b"SQLite"])
def test_a_file_that_is_no_database_is_refused(tmp_path, content):
    store = Store(tmp_path)
    store.path.write_bytes(content)
    with pytest.raises(StoreError, match="cannot be used"):
        store.records()
    assert store.path.read_bytes() == content


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be used"):
        Store(tmp_path / "file" / "cache").put([record_of()])


def start_writer(folder: Path, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), name, str(count)],
        cwd=ROOT,
        env=environment(folder),
        stdout=subprocess.PIPE,
        text=True,
    )


def test_many_processes_write_and_some_are_killed(tmp_path):
    """Two write all they have; others are killed in the middle; a reader reads all the time."""
    whole = [start_writer(tmp_path, name, 40) for name in "ab"]
    killed = [start_writer(tmp_path, name, 100_000) for name in "cd"]
    store = Store(tmp_path)
    for process in (*whole, *killed):
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for name, process in zip("cd", killed):
        deadline = time.monotonic() + 60
        while sum(r.key.startswith(name) for r in store.records()) < 5:
            assert time.monotonic() < deadline
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert [p.wait(60) for p in whole] == [0, 0]
    keys = {r.key for r in store.records()}
    assert {f"{name}{n}" for name in "ab" for n in range(40)} <= keys
    faults = store.verify()
    assert {f.reason for f in faults} == {
        f"the key of {record_of().kernel} is not that of its region"
    }
