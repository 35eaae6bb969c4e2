"""Fixtures of all tests: real published files where available, isolated settings, a separate folder."""

import os
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest

from taxi_assets.core import folders
from taxi_assets_tests.bigquery_fixtures import bigquery, bigquery_of_session  # noqa: F401
from taxi_assets_tests.gcs_fixtures import gcs, gcs_of_session  # noqa: F401
from taxi_assets_tests.postgres_fixtures import (  # noqa: F401
    every_postgres_server,
    every_postgres_url,
    own_postgres_server,
    postgres_server,
    postgres_url,
)
from taxi_assets_tests.processes import end_unwatched_tails, left_behind, until

REPOSITORY = Path(__file__).resolve().parent.parent
PUBLISHED = Path(os.environ.get("TAXI_TEST_DATA", REPOSITORY.parent / "shared" / "data" / "tlc"))
NEEDS_TRIPS = "needs real trip records"


@pytest.fixture(scope="session")
def tlc() -> Callable[[str], Path]:
    """The path of a real published file by its name under the collection, or a skip if it is missing."""

    def find(name: str) -> Path:
        if not (PUBLISHED / name).exists():
            absent = f"{name} is not among them" if PUBLISHED.exists() else "see CONTRIBUTING.md"
            pytest.skip(f"{NEEDS_TRIPS}: set TAXI_TEST_DATA to their folder ({absent})")
        return PUBLISHED / name

    return find


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count the tests that need real trip records in one line of the summary, wherever they were skipped."""
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple) and NEEDS_TRIPS in report.longrepr[2]:
        report.longrepr = (__file__, 1, report.longrepr[2])
    return report


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let each of several processes begin with tests that take long, so that none still runs when the others are done.

    xdist gives each process as many tests in a row (--dist worksteal).
    """
    processes = int(getattr(config, "workerinput", {}).get("workercount", 1))
    long = [item for item in items if item.get_closest_marker("long")]
    others = iter([item for item in items if not item.get_closest_marker("long")])
    left, ordered = len(items), list[pytest.Item]()
    for process in range(processes):
        first, size = long[process::processes], left // (processes - process)
        ordered += [*first, *islice(others, max(0, size - len(first)))]
        left -= size
    items[:] = [*ordered, *others]


@pytest.fixture(scope="session")
def current(tlc: Callable[[str], Path]) -> Path:
    """The folder of files in the publisher's newest layout, or a skip."""
    return tlc("../current")


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail the last test of a process if processes of its tests still run, or their Postgres servers' data are under /var."""
    yield
    folder = tmp_path_factory.getbasetemp()
    with suppress(AssertionError):
        until(lambda: not left_behind(folder), 20, "the processes of the tests to end")
    if tails := end_unwatched_tails(folder):
        warnings.warn(f"{tails} tail processes of killed steps had no watcher", stacklevel=1)
        until(lambda: not end_unwatched_tails(folder), 5, "tail processes to end")
    left = left_behind(folder)
    assert not left, "\n".join(left)


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the developer's TAXI_* variables from tests, and let each test write to its own folder."""
    for name in [name for name in os.environ if name.startswith("TAXI_") and name != "TAXI_TEST_DATA"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setattr(folders, "tempfile", SimpleNamespace(gettempdir=lambda: str(tmp_path / ".taxi")))
