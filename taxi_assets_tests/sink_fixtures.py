"""What tests of the database sinks share: a write context and its log, months of trips, and a comparison.

Import the fixtures you use (and those they use) by name into the test module.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from taxi_assets.core.month_file import MonthFile
from taxi_assets.datasets.schema import YELLOW, Column, TaxiKind
from taxi_assets.sinks.contract import MonthSink, WriteContext
from taxi_assets_tests.months import month_of_trips, same_manifest


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def writing(log: list[str]) -> WriteContext:
    return WriteContext("11111111-run", "token", log.append, {})


def made(tmp_path: Path, month: str = "2021-01", rows: int = 2_000, seed: int = 0, **options) -> MonthFile:
    """A month in a file of its own folder."""
    return month_of_trips(tmp_path / "made", month, rows, seed, **options)


def holds(sink: MonthSink, trips: MonthFile) -> bool:
    """Whether the sink measures the month as these trips."""
    return same_manifest(sink.measure(YELLOW.table, trips.month), trips.manifest)


def with_columns(*columns: Column) -> TaxiKind:
    """Yellow with these columns."""
    return dataclasses.replace(YELLOW, columns=columns)
