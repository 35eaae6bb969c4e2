"""What the bucket sinks have in common and other sinks have not: handles that read objects, facts counted from their
pages, a server that goes away at any request. What every sink promises is in `contract`.

`test_parquet_object`, `test_day_folders` and `test_daily_object` run it, each in a directory and in the emulator of
Google Cloud Storage. A failure names the seed; CONTRACT_SEED=<seed> repeats the same choices.
"""

from __future__ import annotations

import gc
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from taxi_assets.errors import TransientError
from taxi_assets.io_managers import month_journal
from taxi_assets.io_managers.base import Trips, Writing
from taxi_assets.services import gcs_bucket
from taxi_assets.services.buckets import open_bucket
from taxi_assets.settings import get_settings
from taxi_assets.trips.files import Facts, TripFile
from taxi_assets.trips.month import Month
from taxi_assets.trips.schema import YELLOW
from taxi_assets_tests.months import month_of_trips, same_facts, same_trips
from taxi_assets_tests.sinks.contract import SEED
from taxi_assets_tests.sinks.places.base import MAKE, on_the_first

if TYPE_CHECKING:
    from taxi_assets_tests.gcs_fixtures import GcsServer, Request

WRITING = Writing("run-1", "token", lambda line: None, {})


class BucketSinkContract:
    """Subclasses name the sink."""

    name: str

    @pytest.fixture
    def sink(self, location: str, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setattr(month_journal, "HELP_AFTER", 0.2)
        monkeypatch.setattr(gcs_bucket, "PATIENCE", 3.0)
        return MAKE[self.name](location)

    @pytest.fixture
    def month(self, tmp_path: Path) -> Callable[..., TripFile]:
        """Make a month of trips that this sink keeps."""
        folder = tmp_path / "months"
        folder.mkdir()
        change = {"change": on_the_first} if self.name == "daily" else {}
        return lambda key="2021-01", rows=500, seed=0: month_of_trips(folder, key, rows, seed, **change)

    @pytest.fixture
    def chance(self) -> random.Random:
        return random.Random(SEED)

    def replace(self, sink: Any, file: Trips) -> Mapping[str, Any]:
        return sink.replace(YELLOW, file, WRITING)

    def require(self, sink: Any, *allowed: TripFile) -> TripFile:
        """The sink's month is exactly one of these."""
        found = sink.read_facts(YELLOW, allowed[0].month)
        for file in allowed:
            if same_facts(found, file.facts):
                return file
        raise AssertionError(f"neither old nor new, but {found} (seed {SEED})")

    def require_nothing_left(self, location: str) -> None:
        """Neither journals nor half-written or staged files, in the bucket or on this machine."""
        gc.collect()  # handles take their files along
        left = [found.name for found in open_bucket(location).list("") if not found.name.endswith(".parquet")]
        left += [path.name for path in get_settings().staging_folder.glob("**/*") if path.name != ".lock"]
        if not location.startswith("gs://"):
            left += [path.name for path in Path(location, ".bucket").iterdir() if path.name != "lock"]
        assert left == [], f"left behind: {left} (seed {SEED})"

    def test_a_month_that_was_never_written_is_absent(self, sink, month) -> None:
        assert sink.read_facts(YELLOW, Month(2021, 1)) is None
        with pytest.raises(Exception, match=r"2021-01.*materialise"):
            sink.read(YELLOW, Month(2021, 1))

    def test_the_first_load_is_the_month(self, sink, month, location) -> None:
        file = month()
        told = self.replace(sink, file)
        assert told["dagster/partition_row_count"] == 500
        self.require(sink, file)
        found = sink.read(YELLOW, file.month)
        assert same_trips(found, file)
        assert found.rows == 500
        assert found.schema.equals(file.schema)
        assert same_facts(found.facts, file.facts)
        assert same_trips(file, TripFile(file.path, file.month)), "the caller's own file was used up"
        del found
        self.require_nothing_left(location)

    def test_an_empty_month_is_there_and_has_no_rows(self, sink, month) -> None:
        self.replace(sink, month(rows=0))
        assert sink.read_facts(YELLOW, Month(2021, 1)) == Facts(0, 0.0, None, None, {})

    def test_who_counts_the_month_all_the_time_finds_the_old_one_or_the_new_one(self, sink, month, chance) -> None:
        months = [month(rows=400 + 50 * i, seed=i) for i in range(2)]
        self.replace(sink, months[0])
        stop, wrong, looks = threading.Event(), [], []

        def poll() -> None:
            while not stop.is_set():
                try:
                    looks.append(self.require(sink, *months))
                except TransientError:
                    pass  # replaced again and again while it was read: it says so, and is no lie
                except Exception as error:  # noqa: BLE001
                    wrong.append(repr(error))

        reader = threading.Thread(target=poll)
        reader.start()
        ends, i = time.monotonic() + 60, 0
        while time.monotonic() < ends and (i < 6 or len(looks) < 6):
            self.replace(sink, months[1 - i % 2])
            time.sleep(chance.choice([0, 0, 0.05, 0.3]))
            i += 1
        stop.set()
        reader.join()
        assert wrong == []
        assert len(looks) >= 6

    def test_a_server_that_goes_away_at_any_request_leaves_the_old_month_or_the_new_one(
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
