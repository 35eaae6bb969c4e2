"""The journal's rules, with three small objects, and writers, readers and helpers that stumble, sleep and die anywhere.

A failure names its seed; CONTRACT_SEED=<seed> plays the same actors again, as far as threads repeat themselves.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taxi_assets.core.month import Month
from taxi_assets.sinks.day_folders import journal as month_journal
from taxi_assets.sinks.day_folders.journal import MonthOfObjects
from taxi_assets.sinks.storage.bucket import Stat
from taxi_assets.sinks.storage.local_bucket import LocalBucket
from taxi_assets_tests.sinks.contract import KILLS, SEED

JANUARY = Month(2021, 1)
JOURNAL = "_journal/set"


class Died(BaseException):
    """kill -9, as far as one thread can be killed."""


Span = tuple[float, float]
"""The start and the end of an operation that took effect at one moment in between."""


class Stumbling(LocalBucket):
    """A directory's bucket for one actor, who pauses at random before and after what it does, and may die there.

    `commits` has an item for every journal that the actor put.
    """

    def __init__(self, root: Path, chance: random.Random, deadly: bool) -> None:
        super().__init__(root)
        self.chance, self.dead, self.deadly = chance, False, deadly
        self.one = threading.Lock()
        self.commits: list[Span] = []

    def stumble(self) -> None:
        with self.one:
            self.dead = self.dead or (self.deadly and self.chance.random() < 0.02)
            pause = self.chance.choice([0, 0, 0, 0, 0, 0.001, 0.001, 0.004, 0.03])
        if self.dead:
            raise Died
        time.sleep(pause)

    def put(self, name: str, *args: Any, **more: Any) -> Stat:
        self.stumble()
        started = time.monotonic()
        done = super().put(name, *args, **more)
        if name == JOURNAL:
            self.commits.append((started, time.monotonic()))
        self.stumble()
        return done

    def stat(self, name: str) -> Stat | None:
        self.stumble()
        return super().stat(name)

    def delete(self, *args: Any, **more: Any) -> None:
        self.stumble()
        super().delete(*args, **more)
        self.stumble()

    def download(self, *args: Any, **more: Any) -> None:
        self.stumble()
        super().download(*args, **more)

    def list(self, prefix: str) -> Iterator[Stat]:
        self.stumble()
        return iter(list(super().list(prefix)))


class Play:
    """A month of three objects and the actors on it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed, self.wrong = folder, seed, []
        self.committed: dict[str, Span] = {}
        """The versions whose writer put its journal or returned, even if it died later."""
        self.reads: list[tuple[Span, str | None]] = []
        self.chance = random.Random(seed)

    def month(self, deadly: bool) -> MonthOfObjects:
        names = {day: f"set/{day}" for day in JANUARY.days[:3]}
        bucket = Stumbling(self.folder / "bucket", random.Random(self.chance.random()), deadly)
        return MonthOfObjects(bucket, JANUARY, names, JOURNAL, str(self.folder))

    def write(self, version: str, month: MonthOfObjects) -> None:
        folder = self.folder / f"writer-{version}"
        folder.mkdir()
        files = {day: folder / str(day) for day in month.names}
        for path in files.values():
            path.write_text(version)
        started, commits = time.monotonic(), getattr(month.bucket, "commits", [])
        before = len(commits)
        try:
            month.publish(files, folder, lambda line: None)
            self.committed[version] = (started, time.monotonic())
        finally:
            if len(commits) > before:
                self.committed[version] = commits[before]

    def read(self, month: MonthOfObjects) -> str | None:
        folder = self.folder / f"reader-{random.getrandbits(60):x}"
        folder.mkdir()
        started = time.monotonic()
        paths = month.fetch(folder)
        ended = time.monotonic()
        found = {path.read_text() for path in paths or []}
        if len(found) > 1:
            self.wrong.append(f"a mixture: {sorted(found)}")
        version = next(iter(found), None)
        self.reads.append(((started, ended), version))
        return version

    def current(self, read: Span) -> set[str]:
        """The versions that a read in this span may return: committed before its end, and not replaced by another
        commit before its start."""
        started, ended = read
        replaced = {
            version
            for version, (_, done) in self.committed.items()
            if any(done < begun and finished < started for begun, finished in self.committed.values())
        }
        return {version for version, (begun, _) in self.committed.items() if begun < ended} - replaced

    def run(self) -> None:
        self.write("first", self.month(deadly=False))
        threads = []
        for i in range(3):
            threads.append(
                self.actor(lambda month, i=i: [self.write(f"{i}{j}", month) for j in range(2)], deadly=i > 0)
            )
        for _ in range(2):
            threads.append(self.actor(lambda month: [self.read(month) for _ in range(4)], deadly=True))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert self.wrong == [], f"seed {self.seed}"
        assert {"first", "00", "01"} <= self.committed.keys(), f"seed {self.seed}"  # these writers never die
        last = self.read(self.month(deadly=False))
        assert last == self.read(self.month(deadly=False)), f"seed {self.seed}"
        assert last not in ("first", "00", None), f"seed {self.seed}"  # 01 was committed after them
        for span, version in self.reads:
            if version not in (current := self.current(span)):
                self.wrong.append(f"read {version}, not one of the current versions {sorted(current)}")
        assert self.wrong == [], f"seed {self.seed}"
        assert [found.name for found in LocalBucket(self.folder / "bucket").list("_journal")] == [], f"seed {self.seed}"

    def actor(self, work: Callable[[MonthOfObjects], object], deadly: bool) -> threading.Thread:
        month = self.month(deadly)

        def play() -> None:
            try:
                work(month)
            except Died:
                pass
            except Exception as error:  # noqa: BLE001
                self.wrong.append(repr(error))

        return threading.Thread(target=play)


@pytest.mark.parametrize("part", range(4))
def test_actors_that_stumble_and_die_anywhere_lose_no_commit_and_leave_no_mixture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    monkeypatch.setattr(month_journal, "HELP_AFTER", 0.01)
    for i in range(2 * (KILLS or 5)):
        folder = tmp_path / str(i)
        folder.mkdir()
        Play(folder, SEED + 1000 * part + i).run()


class Sleeping(LocalBucket):
    """A directory's bucket for one who falls asleep just before one change, until woken."""

    def __init__(self, root: Path, method: str, name: str) -> None:
        super().__init__(root)
        self.where, self.asleep, self.woken = (method, name), threading.Event(), threading.Event()
        self.dies_before_delete = False

    def put(self, name: str, *args: Any, **more: Any) -> Stat:
        self.sleep("put", name)
        return super().put(name, *args, **more)

    def delete(self, name: str, *args: Any, **more: Any) -> None:
        self.sleep("delete", name)
        if self.dies_before_delete:
            raise Died
        super().delete(name, *args, **more)

    def sleep(self, *what: str) -> None:
        if what == self.where and not self.asleep.is_set():
            self.asleep.set()
            assert self.woken.wait(30)


class Sleeper:
    """Somebody who does something and falls asleep on the way: made asleep, ended by `wake`."""

    def __init__(self, play: Play, method: str, name: str, work: Callable[[MonthOfObjects], object]) -> None:
        self.bucket = Sleeping(play.folder / "bucket", method, name)
        month = dataclasses.replace(play.month(deadly=False), bucket=self.bucket)
        self.work = work
        self.thread = threading.Thread(target=self.run, args=(month,))
        self.thread.start()
        assert self.bucket.asleep.wait(30)

    def run(self, month: MonthOfObjects) -> None:
        with contextlib.suppress(Died):
            self.work(month)

    def wake(self) -> None:
        self.bucket.woken.set()
        self.thread.join()


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """The month of three objects, in its first version; nobody waits before helping."""
    monkeypatch.setattr(month_journal, "HELP_AFTER", 0.0)
    play = Play(tmp_path, 1)
    play.write("first", play.month(deadly=False))
    return play


@pytest.mark.parametrize("later", [1, 2])
def test_a_writer_who_slept_through_later_commits_undoes_nothing(play: Play, later: int) -> None:
    writer = Sleeper(play, "put", "set/2021-01-02", lambda month: play.write("second", month))
    for i in range(later):
        play.write(f"later{i}", play.month(deadly=False))
    writer.wake()
    assert play.read(play.month(deadly=False)) == f"later{later - 1}"
    assert play.wrong == []


def test_a_late_helper_who_touches_an_object_under_the_next_journal_keeps_nobody_from_replacing_it(play: Play) -> None:
    """Rule 3: what the late helper puts is the old object over the old object, and the next writer's condition
    fails."""
    first = Sleeper(play, "delete", JOURNAL, lambda month: play.write("second", month))
    helper = Sleeper(play, "put", "set/2021-01-02", lambda month: month.settle())
    helper.bucket.dies_before_delete = True  # or it would help with the next journal, too
    first.wake()
    writer = Sleeper(play, "put", "set/2021-01-02", lambda month: play.write("third", month))
    helper.wake()
    writer.wake()
    assert play.read(play.month(deadly=False)) == "third"
    assert play.wrong == []


def test_a_reader_who_looks_while_a_month_is_put_in_place_reads_no_mixture(play: Play, tmp_path: Path) -> None:
    """Rule 6: the objects that it saw were all there, but of two months."""
    writers = []

    class Looking(LocalBucket):
        def list(self, prefix: str) -> Iterator[Stat]:
            if not writers:
                writers.append(Sleeper(play, "put", "set/2021-01-02", lambda month: play.write("second", month)))
            return super().list(prefix)

    month = dataclasses.replace(play.month(deadly=False), bucket=Looking(tmp_path / "bucket"))
    assert play.read(month) == "second"
    writers[0].wake()
    assert play.wrong == []
