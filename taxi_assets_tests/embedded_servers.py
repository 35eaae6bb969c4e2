"""Embedded Postgres servers of a test, their command line, and their processes.

Import the fixture `server` by name into the test module.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres
from taxi_assets_tests.processes import REPOSITORY


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    embedded = EmbeddedPostgres(tmp_path / "postgres")
    yield embedded
    embedded.remove()


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "taxi_assets.sinks.postgres.embedded", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY)}


def call(*arguments: str | Path, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(*arguments), env=environment(), capture_output=True, text=True, timeout=120, check=False, **options
    )


def postmasters(server: EmbeddedPostgres) -> list[psutil.Process]:
    """The processes that were started with this data folder; a server's other processes are its children."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        arguments = process.info["cmdline"] or []
        if str(server.data) in arguments and Path(arguments[0]).name.startswith("postgres"):
            found.append(process)
    return found
