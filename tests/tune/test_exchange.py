"""Exports: read back as written, or refused with a reason."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.tune.records import ELSEWHERE, record_of, with_choice
from tests.tune.test_end_to_end import tgrad_command
from tgrad.tune.exchange import ExchangeError, records_of, text_of
from tgrad.tune.lookup import Choices
from tgrad.tune.store import Store


def test_what_is_written_is_read():
    records = [record_of(), record_of("softmax"), record_of("matmul", 32)]
    text = text_of(records)
    assert sorted(r.key for r in records_of(text, "x")) == sorted(r.key for r in records)
    assert text == text_of(records[::-1]) == text_of(records_of(text, "x"))
    data = json.loads(text)
    assert {"kernel", "line", "equation", "choice", "heuristic", "tuned", "key", "device"} <= set(
        data["kernels"][0]
    )
    assert records_of(text_of([]), "x") == []


def test_a_path_of_the_user_stays_here():
    assert "/" not in json.loads(record_of().region)["source"][0]


def change(text: str, **changes: object) -> str:
    data = json.loads(text)
    data["kernels"][0].update(changes)
    return json.dumps(data)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda t: t[: len(t) // 2], "is cut off or no JSON"),
        (lambda t: "", "is cut off or no JSON"),
        (lambda t: json.dumps({"triton": 1}), "is not an export of tgrad autotune"),
        (lambda t: "[1, 2]", "is not an export of tgrad autotune"),
        (lambda t: t.replace('"layout": 1', '"layout": 9'), "has layout 9; this tgrad reads"),
        (lambda t: change(t, tuned=1e-6), "was changed after it was exported"),
        (lambda t: change(t, choice={"k_block": 32}), "was changed after it was exported"),
        (lambda t: change(t, device="mine"), "was changed after it was exported"),
        (lambda t: change(t, tuned="fast"), "kernel 1: tuned is 'fast'"),
        (lambda t: change(t, tuned=float("nan")), "kernel 1: the times are"),
        (lambda t: change(t, more=1), "kernel 1: missing or unknown fields: more"),
        (lambda t: change(t, key="0"), "kernel 1: the key of .* is not that of its region"),
        (lambda t: change(t, region="{}"), "kernel 1: the region of .* cannot be read"),
        (lambda t: change(t, extents=[1]), "kernel 1: the extents of"),
        (lambda t: json.dumps({**json.loads(t), "kernels": 3}), "has no list of kernels"),
    ],
)
def test_refused(edit, reason):
    with pytest.raises(ExchangeError, match=reason):
        records_of(edit(text_of([record_of()])), "x.json")


def test_commands_refuse_and_change_nothing(tmp_path):
    cache = tmp_path / "cache"
    good = record_of()
    Store(cache).put([good])
    files = {
        "foreign": (text_of([record_of(place=ELSEWHERE)]), "is for another processor; here is"),
        "illegal": (text_of([with_choice(good, k_block=7)]), "a choice that is not in its space"),
        "cut": (text_of([good])[:-200], "is cut off or no JSON"),
    }
    for name, (text, reason) in files.items():
        file = tmp_path / f"{name}.json"
        file.write_text(text)
        answer = tgrad_command(cache, "autotune", "import", str(file))
        assert answer.returncode == 1 and reason in answer.stderr, answer.stderr
    missing = tgrad_command(cache, "autotune", "import", str(tmp_path / "none.json"))
    assert missing.returncode == 1 and "cannot be read" in missing.stderr
    assert Store(cache).records() == [good]


def test_what_another_version_measured_is_a_start_and_said_so(tmp_path):
    """No run uses it; a session on this machine looks at it first."""
    here = record_of()
    older = replace(here, generator=here.generator.partition(",")[0] + ", cc 1")
    file, cache = tmp_path / "older.json", tmp_path / "cache"
    file.write_text(text_of([older]))
    answer = tgrad_command(cache, "autotune", "import", str(file))
    assert answer.returncode == 0, answer.stderr
    assert "1 of them are where a search starts, and no run uses them yet" in answer.stdout
    assert "cc 1; here is C " in answer.stdout
    assert Store(cache).records() == [older]
    choices = Choices(here.place, [[older]])
    assert not choices and choices.ranked(here.work) == [older]


def test_commands_of_the_store(tmp_path):
    cache, file = tmp_path / "cache", tmp_path / "x.tune.json"
    empty = tgrad_command(cache, "autotune", "export", str(file))
    assert empty.returncode == 1 and "nothing of this machine to export" in empty.stderr
    here, other = record_of(), record_of("softmax", place=ELSEWHERE)
    Store(cache).put([here, other])
    shown = tgrad_command(cache, "autotune", "show").stdout
    assert here.kernel in shown and "2.00x" in shown and other.kernel not in shown
    assert "1 of another device or version, left alone: another processor" in shown
    assert other.kernel in tgrad_command(cache, "autotune", "show", "--all").stdout
    assert tgrad_command(cache, "autotune", "export", str(file)).returncode == 0
    assert [r.kernel for r in records_of(file.read_text(), "x")] == [here.kernel]
    fresh = tmp_path / "fresh"
    assert tgrad_command(fresh, "autotune", "import", str(file)).returncode == 0
    assert Store(fresh).records() == [here]
    assert tgrad_command(fresh, "autotune", "diff", str(file)).stdout == "no difference\n"
    Store(fresh).put([with_choice(here, k_block=32)])
    differs = tgrad_command(fresh, "autotune", "diff", str(file))
    assert differs.returncode == 1 and "k_block=32" in differs.stdout
    assert "2 kernels" in tgrad_command(cache, "autotune", "verify").stdout
    assert "0 kernels forgotten" in tgrad_command(cache, "autotune", "prune").stdout
    assert "1 kernels forgotten" in tgrad_command(cache, "autotune", "prune", "--devices").stdout
    assert Store(cache).records() == [here]
    illegal = tgrad_command(tmp_path, "autotune", "verify")
    assert illegal.returncode == 0
    Store(cache).put([with_choice(here, k_block=7)])
    broken = tgrad_command(cache, "autotune", "verify")
    assert broken.returncode == 1 and "not in its space" in broken.stdout
