"""One cache directory for all tests of the C generator in a session."""

from __future__ import annotations

import pytest

from tests.cpu_fallback.cases import settings_in
from tgrad.settings import Settings


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return settings_in(tmp_path_factory.mktemp("cache"))
