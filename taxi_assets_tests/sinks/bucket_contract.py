"""What the tests of the bucket sinks share, each in a directory and in the emulator of Google Cloud Storage.

That a month is replaced whole or not at all, whatever happens, is tested for every sink by `test_contract`.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from taxi_assets.core.errors import TransientError
from taxi_assets.core.folders import default_staging
from taxi_assets.core.manifest import Manifest
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.sinks.contract import WriteContext
from taxi_assets.sinks.day_folders import journal as month_journal
from taxi_assets.sinks.storage import gcs_bucket
from taxi_assets.sinks.storage.buckets import open_bucket
from taxi_assets_tests.months import month_of_trips, same_manifest, same_trips
from taxi_assets_tests.sinks.contract import SEED
from taxi_assets_tests.sinks.places.managers import MAKE, on_the_first

if TYPE_CHECKING:
    from taxi_assets_tests.gcs_fixtures import GcsServer, Request


WRITING = WriteContext("run-1", "token", lambda line: None, {})


class BucketSinkContract:
    """The sink, months for it, and what its first load is; subclasses name the sink."""

    name: str

    @pytest.fixture
    def sink(self, location: str, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setattr(month_journal, "HELP_AFTER", 0.2)
        monkeypatch.setattr(gcs_bucket, "PATIENCE", 3.0)
        return MAKE[self.name](location)

    @pytest.fixture
    def month(self, tmp_path: Path) -> Callable[..., MonthFile]:
        """Make a month of trips that this sink keeps."""
        folder = tmp_path / "months"
        folder.mkdir()
        change = {"change": on_the_first} if self.name == "daily" else {}
        return lambda key="2021-01", rows=500, seed=0: month_of_trips(folder, key, rows, seed, **change)

    @pytest.fixture
    def chance(self) -> random.Random:
        return random.Random(SEED)

    def replace(self, sink: Any, file: MonthFile) -> Mapping[str, Any]:
        return sink.replace(YELLOW.table, file, WRITING)

    def require(self, sink: Any, *allowed: MonthFile) -> MonthFile:
        """The sink's month is exactly one of these."""
        found = sink.measure(YELLOW.table, allowed[0].month)
        for file in allowed:
            if same_manifest(found, file.manifest):
                return file
        raise AssertionError(f"neither old nor new, but {found}")

    def require_nothing_left(self, location: str) -> None:
        """Neither journals nor half-written or staged files, in the bucket or on this machine."""
        gc.collect()  # handles take their files along
        left = [found.name for found in open_bucket(location).list("") if not found.name.endswith(".parquet")]
        left += [path.name for path in Path(default_staging()).glob("**/*") if path.name != ".lock"]
        if not location.startswith("gs://"):
            left += [path.name for path in Path(location, ".bucket").iterdir() if path.name != "lock"]
        assert left == [], f"left behind: {left}"

    def test_the_first_load_is_the_month(self, sink, month, location) -> None:
        file = month()
        told = self.replace(sink, file)
        assert told["dagster/partition_row_count"] == 500
        self.require(sink, file)
        found = sink.read(YELLOW.table, file.month)
        assert same_trips(found, file)
        assert found.rows == 500
        assert found.schema.equals(file.schema)
        assert same_manifest(found.manifest, file.manifest)
        assert same_trips(file, MonthFile(file.path, file.month)), "the caller's own file was used up"
        assert sink.measure(YELLOW.table, Month(2021, 3)) is None
        del found
        self.require_nothing_left(location)

    def test_an_empty_month_is_there_and_has_no_rows(self, sink, month) -> None:
        self.replace(sink, month(rows=0))
        assert sink.measure(YELLOW.table, Month(2021, 1)) == Manifest(0, {"total_amount": 0.0})

    def test_a_server_that_goes_away_midway_leaves_the_old_month_or_the_new_one(
        self, sink, month, location, chance, request, monkeypatch
    ) -> None:
        monkeypatch.setattr(gcs_bucket, "PATIENCE", 0.5)
        gcs = self._gcs(location, request)
        old, new = month(), month(seed=1)
        self.replace(sink, old)
        gcs.requests.clear()
        self.replace(sink, old)
        usual = len(gcs.requests)
        for _ in range(3):

            def gone(request: Request, served: Iterator[int]) -> str | None:
                return None if next(served, None) is not None else "reset"

            gcs.disturb = partial(gone, served=iter(range(chance.randrange(usual))))
            with pytest.raises(TransientError, match=r"gs://.* cannot be reached"):
                self.replace(sink, new)
            gcs.disturb = lambda request: None
            self.require(sink, old, new)
            self.replace(sink, old)
            self.require(sink, old)
        self.require_nothing_left(location)

    def _gcs(self, location: str, request: pytest.FixtureRequest) -> GcsServer:
        if not location.startswith("gs://"):
            pytest.skip("a directory has no server")
        return request.getfixturevalue("gcs")
