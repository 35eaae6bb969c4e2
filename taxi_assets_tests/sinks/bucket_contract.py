"""What every bucket sink promises, as tests: a month (or day) is replaced whole or not at all.

`test_parquet_object`, `test_day_folders` and `test_daily_object` run it, each in a directory and in the emulator of
Google Cloud Storage. A failure names the seed; CONTRACT_SEED=<seed> repeats the same choices, CONTRACT_KILLS kills
more often.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
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
from taxi_assets_tests.months import month_of_trips, same_manifest, same_trips, stage_in
from taxi_assets_tests.sinks.contract import KILLS, SEED
from taxi_assets_tests.sinks.places.base import MAKE, on_the_first

if TYPE_CHECKING:
    from taxi_assets_tests.gcs_fixtures import GcsServer, Request


WRITING = WriteContext("run-1", "token", lambda line: None, {})


def replace_in_process(name: str, location: str, file: MonthFile, environment: dict[str, str], ready: Any) -> None:
    """What a process that may be killed does."""
    os.environ.update(environment)
    stage_in(environment["DAGSTER_HOME"])
    month_journal.HELP_AFTER = 0.2
    sink = MAKE[name](location)
    open_bucket(location)  # imports what it needs
    ready.set()
    sink.replace(YELLOW.table, file, WRITING)


@dataclass
class Writer:
    """A process that replaces a month."""

    process: Any
    ready: Any

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


class Breaking(MonthFile):
    """A month whose file cannot be had, or whose rows fail after some of them, as of a damaged source or a full disk."""

    def __init__(self, file: MonthFile, error: Exception) -> None:
        super().__init__(self._fail, file.month, manifest=file.manifest, bytes=file.bytes)
        self._file, self._error, self.schema = file, error, file.schema

    def _fail(self) -> Path:
        raise self._error

    def batches(self, columns: list[str] | None = None, rows: int = 100) -> Iterator[pa.RecordBatch]:
        yield next(self._file.batches(columns, 100))
        raise self._error


class BucketSinkContract:
    """Subclasses name the sink."""

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
        raise AssertionError(f"neither old nor new, but {found} (seed {SEED})")

    def require_nothing_left(self, location: str) -> None:
        """Neither journals nor half-written or staged files, in the bucket or on this machine."""
        gc.collect()  # handles take their files along
        left = [found.name for found in open_bucket(location).list("") if not found.name.endswith(".parquet")]
        left += [path.name for path in Path(default_staging()).glob("**/*") if path.name != ".lock"]
        if not location.startswith("gs://"):
            left += [path.name for path in Path(location, ".bucket").iterdir() if path.name != "lock"]
        assert left == [], f"left behind: {left} (seed {SEED})"

    @contextmanager
    def start(self, location: str, file: MonthFile) -> Iterator[Writer]:
        """Begin replacing a month in a process of its own."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__, gcs_bucket.__name__])
        names = ("STORAGE_EMULATOR_HOST", "DAGSTER_HOME")
        environment = {name: os.environ[name] for name in names if name in os.environ}
        ready = context.Event()
        process = context.Process(target=replace_in_process, args=(self.name, location, file, environment, ready))
        process.start()
        try:
            assert ready.wait(60)
            yield Writer(process, ready)
        finally:
            process.kill()
            process.join()

    def test_a_month_that_was_never_written_is_absent(self, sink, month) -> None:
        assert sink.measure(YELLOW.table, Month(2021, 1)) is None
        with pytest.raises(Exception, match=r"2021-01.*materialize"):
            sink.read(YELLOW.table, Month(2021, 1))

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
        del found
        self.require_nothing_left(location)

    def test_the_same_again_changes_nothing(self, sink, month, location) -> None:
        file = month()
        for _ in range(3):
            self.replace(sink, file)
        assert same_trips(sink.read(YELLOW.table, file.month), file)
        self.require_nothing_left(location)

    @pytest.mark.parametrize("rows", [700, 500, 20, 0])
    def test_a_changed_smaller_or_empty_month_replaces_the_old_one_whole(
        self, sink, month, location, rows: int
    ) -> None:
        old, new = month(), month(rows=rows, seed=1)
        self.replace(sink, old)
        self.replace(sink, new)
        self.require(sink, new)
        assert same_trips(sink.read(YELLOW.table, new.month), new)
        self.require_nothing_left(location)

    def test_an_empty_month_is_there_and_has_no_rows(self, sink, month) -> None:
        self.replace(sink, month(rows=0))
        assert sink.measure(YELLOW.table, Month(2021, 1)) == Manifest(0, {"total_amount": 0.0})

    def test_other_months_stay_as_they_are(self, sink, month) -> None:
        january, february = month("2021-01"), month("2021-02")
        self.replace(sink, january)
        self.replace(sink, february)
        self.replace(sink, month("2021-01", 10, 7))
        self.require(sink, february)
        assert sink.measure(YELLOW.table, Month(2021, 3)) is None

    def test_twenty_months_at_once_each_arrive(self, sink, month, location) -> None:
        files = [month(f"{2020 + i // 12}-{1 + i % 12:02d}", 50 + i) for i in range(20)]
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(lambda file: self.replace(sink, file), files))
        for file in files:
            self.require(sink, file)
        self.require_nothing_left(location)

    def test_one_month_written_by_four_threads_at_once_ends_as_one_of_them(self, sink, month, location) -> None:
        files = [month(rows=100 * i, seed=i) for i in range(1, 5)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda file: self.replace(sink, file), files))
        last = self.require(sink, *files)
        assert same_trips(sink.read(YELLOW.table, last.month), last)
        self.require_nothing_left(location)

    def test_one_month_written_by_two_processes_at_once_ends_as_one_of_them(self, sink, month, location) -> None:
        files = [month(rows=100 * i, seed=i) for i in range(1, 3)]
        with self.start(location, files[0]) as one, self.start(location, files[1]) as other:
            for writer in (one, other):
                writer.process.join(60)
                assert writer.process.exitcode == 0
        last = self.require(sink, *files)
        assert same_trips(sink.read(YELLOW.table, last.month), last)
        self.require_nothing_left(location)

    def test_an_exception_midway_leaves_the_old_month(self, sink, month, location) -> None:
        old, new = month(), month(seed=1)
        self.replace(sink, old)
        with pytest.raises(ZeroDivisionError):
            self.replace(sink, Breaking(new, ZeroDivisionError()))
        assert same_trips(sink.read(YELLOW.table, old.month), old)
        self.require_nothing_left(location)

    def test_a_killed_writer_leaves_the_old_month_or_the_new_one(self, sink, month, location, chance) -> None:
        months = [month(rows=400 + 50 * i, seed=i) for i in range(2)]
        self.replace(sink, months[0])
        with self.start(location, months[1]) as whole:
            started = time.monotonic()
            whole.process.join(60)
            seconds = time.monotonic() - started
        outcomes = []
        for _ in range(KILLS):
            before = self.require(sink, *months)
            after = months[1 - months.index(before)]
            with self.start(location, after) as writer:
                time.sleep(chance.uniform(0, seconds))
                writer.kill()
            outcomes.append("new" if self.require(sink, before, after) is after else "old")
        print(f"seed {SEED}: killed {KILLS} times, then {outcomes}")
        self.replace(sink, months[0])
        assert same_trips(sink.read(YELLOW.table, months[0].month), months[0])
        self.require_nothing_left(location)

    def test_a_reader_sees_the_old_month_or_the_new_one_all_the_time(self, sink, month, chance) -> None:
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

    def test_faults_of_the_server_leave_the_old_month_or_the_new_one(
        self, sink, month, location, chance, request
    ) -> None:
        """Busy answers, resets, and answers lost after the work was done, at random."""
        gcs = self._gcs(location, request)
        months, failures = [month(rows=400 + 50 * i, seed=i) for i in range(2)], 0
        self.replace(sink, months[0])
        for i in range(4):
            gcs.disturb = lambda request: chance.choice(["503", "reset", "lost"]) if chance.random() < 0.2 else None
            try:
                self.replace(sink, months[1 - i % 2])
                allowed = [months[1 - i % 2]]
            except TransientError:
                failures += 1
                allowed = months
            gcs.disturb = lambda request: None
            self.require(sink, *allowed)
        print(f"seed {SEED}: {failures} of 4 gave up")
        self.replace(sink, months[0])
        self.require(sink, months[0])
        self.require_nothing_left(location)

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
