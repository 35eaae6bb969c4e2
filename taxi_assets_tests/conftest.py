"""Fixtures of all tests: real published files where available, isolated settings, a separate folder."""

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from taxi_assets.core import folders

REPOSITORY = Path(__file__).resolve().parent.parent
PUBLISHED = Path(os.environ.get("TAXI_TEST_DATA", REPOSITORY.parent / "shared" / "data" / "tlc"))


@pytest.fixture(scope="session")
def tlc() -> Callable[[str], Path]:
    """The path of a real published file by its name under the collection, or a skip if it is missing."""

    def find(name: str) -> Path:
        if not (PUBLISHED / name).exists():
            pytest.skip(f"real trip records are not at hand ({PUBLISHED / name}); set TAXI_TEST_DATA to their folder")
        return PUBLISHED / name

    return find


@pytest.fixture(scope="session")
def current(tlc: Callable[[str], Path]) -> Path:
    """The folder of files in the publisher's newest layout, or a skip."""
    return tlc("../current")


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the developer's TAXI_* variables from tests, and let each test write to its own folder."""
    for name in [name for name in os.environ if name.startswith("TAXI_") and name != "TAXI_TEST_DATA"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setattr(folders, "tempfile", SimpleNamespace(gettempdir=lambda: str(tmp_path / ".taxi")))
