"""Plans are kept by graph key for the whole process; here each test starts with none, and with
nothing of earlier tests to compute."""

from __future__ import annotations

from collections import OrderedDict

import pytest

from tgrad import pending, pipeline, realizing


@pytest.fixture(autouse=True)
def no_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_plans", OrderedDict())
    monkeypatch.setattr(realizing, "_seen", OrderedDict())
    monkeypatch.setattr(pending, "_pending", {})
