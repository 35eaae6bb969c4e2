"""Clean and rejected months appear together: at every moment they are of one load, whoever is killed when."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import tempfile
import threading
import time
from pathlib import Path

import pytest

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.lake.io_manager import LakeIOManager
from taxi_assets.resources import resources
from taxi_assets.settings import Settings
from taxi_assets.sinks.contract import WriteContext
from taxi_assets_tests.months import month_of_trips

MONTH = Month(2021, 1)
WRITE = WriteContext("run", "token", lambda line: None, {})


class Lakes:
    """The clean and the rejected months of a home."""

    def __init__(self, home: Path, lake: Path | None = None) -> None:
        managers = resources(Settings(home=home, lake=str(lake) if lake else None))
        self.home = home
        self.clean: LakeIOManager = managers["clean_lake"]
        self.rejected: LakeIOManager = managers["rejected_lake"]

    def pair(self, number: int) -> MonthFile:
        """Stage a clean month of `number` rows with 100 - `number` rejected ones."""
        extra = {"pair": f"p{number:03d}", "raw_rows": 100}
        clean, rejected = (
            month_of_trips(self.home / "staging" / name, "2021-01", rows, number, extra=extra)
            for name, rows in (("clean", number), ("rejected", 100 - number))
        )
        clean.companion = rejected
        return clean

    def publish(self, number: int) -> None:
        clean = self.pair(number)
        self.clean.replace(YELLOW.table, clean, WRITE)
        assert clean.companion is not None
        self.rejected.replace(YELLOW.table, clean.companion, WRITE)

    def rows(self) -> tuple[int, int, int]:
        """The rows of the clean and of the rejected month, and those of the raw month that they come from."""
        while True:
            clean = self.clean.manifest(YELLOW.table, MONTH)
            rejected = self.rejected.manifest(YELLOW.table, MONTH)
            assert clean
            assert rejected
            if clean == self.clean.manifest(YELLOW.table, MONTH):  # no other pair was published meanwhile
                assert clean.extra["pair"] == rejected.extra["pair"]
                return clean.rows, rejected.rows, clean.extra["raw_rows"]


@pytest.mark.parametrize("shared", [True, False], ids=["one file system", "two file systems"])
def test_the_staged_files_of_a_pair_are_gone_when_it_is_published(tmp_path: Path, shared: bool) -> None:
    """A lake in another file system (NFS, a mounted bucket) gets copies. On Cloud Run what stays behind is memory."""
    with tempfile.TemporaryDirectory(dir=None if shared else "/dev/shm") as folder:
        if not shared and Path(folder).stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("needs /dev/shm on a file system of its own")
        lakes = Lakes(tmp_path, Path(folder) / "lake" if not shared else tmp_path / "lake")
        lakes.publish(10)
        assert lakes.rows() == (10, 90, 100)
        assert [path.name for path in (tmp_path / "staging").rglob("*.parquet")] == []


@pytest.fixture
def lakes(tmp_path: Path) -> Lakes:
    return Lakes(tmp_path)


def waiting(lakes: Lakes) -> list[str]:
    folder = lakes.rejected.path(YELLOW.table, MONTH).parent
    return sorted(path.name for path in folder.iterdir() if path.name != f"{MONTH}.parquet")


def test_a_pair_replaces_the_previous_one_and_leaves_nothing(lakes):
    for number in (10, 20, 15):
        lakes.publish(number)
        assert lakes.rows() == (number, 100 - number, 100)
        assert waiting(lakes) == []
    assert lakes.rejected.read(YELLOW.table, MONTH).rows == 85
    assert lakes.rejected.measure(YELLOW.table, MONTH).rows == 85
    assert lakes.rejected.manifests(YELLOW.table)[MONTH].rows == 85


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_a_writer_that_stops_at_any_rename_leaves_one_pair(lakes, monkeypatch, calls):
    lakes.publish(10)
    usual, done = Path.replace, []

    def stop_after(path: Path, target: Path) -> Path:
        if len(done) == calls - 1:
            raise KeyboardInterrupt
        done.append(path)
        return usual(path, target)

    monkeypatch.setattr(Path, "replace", stop_after)
    with pytest.raises(KeyboardInterrupt):
        lakes.publish(20)
    monkeypatch.setattr(Path, "replace", usual)
    expected = 20 if calls == 3 else 10  # the second rename is the commit
    assert lakes.rows() == (expected, 100 - expected, 100)
    lakes.publish(30)
    assert lakes.rows() == (30, 70, 100)
    assert waiting(lakes) == []


def write_for_ever(home: Path, begun) -> None:
    lakes, number = Lakes(home), 0
    while True:
        lakes.publish(number % 90 + 5)
        begun.set()
        number += 1


def test_a_reader_and_the_next_writer_see_one_pair_whenever_a_writer_is_killed(lakes):
    chance, context = random.Random(2026), multiprocessing.get_context("fork")
    lakes.publish(10)
    for _ in range(12):
        begun = context.Event()
        writer = context.Process(target=write_for_ever, args=(lakes.home, begun))
        writer.start()
        assert begun.wait(20)
        killer = threading.Timer(chance.uniform(0, 0.2), os.kill, (writer.pid, signal.SIGKILL))
        killer.start()
        while writer.is_alive():
            clean, rejected, raw = lakes.rows()
            assert clean + rejected == raw
        writer.join()
        clean, rejected, raw = lakes.rows()
        assert clean + rejected == raw
    lakes.publish(50)
    assert lakes.rows() == (50, 50, 100)
    assert waiting(lakes) == []


def test_a_handle_reads_the_month_that_it_was_opened_on(lakes):
    lakes.publish(10)
    handle = lakes.clean.read(YELLOW.table, MONTH)
    lakes.publish(20)
    assert (handle.rows, handle.to_arrow().num_rows, handle.manifest.rows) == (10, 10, 10)
    folder = handle.path.parent
    del handle
    deadline = time.monotonic() + 5
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not folder.exists()


def test_a_month_that_is_not_there_is_named(lakes):
    with pytest.raises(PermanentError, match=r"2021-01 has no rejected_trips yet .*materialize rejected_trips"):
        lakes.rejected.read(YELLOW.table, MONTH)
