"""A sink as the contract sees it: how to have one in a fresh place, what its ordinary client reads there, how it is
broken, and what counts as left behind. What is promised of all of them is in `contract`.

A `Place` is used by one test at a time: it sets this process' environment while it is open.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

import pyarrow as pa
from pyarrow import csv

from taxi_assets.core import folders
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.datasets.schema import YELLOW, TaxiKind
from taxi_assets.sinks.contract import WriteContext
from taxi_assets.sinks.day_folders import journal as month_journal
from taxi_assets.sinks.storage import gcs_bucket
from taxi_assets_tests.bigquery_fixtures import BigQueryServer
from taxi_assets_tests.gcs_fixtures import GcsServer
from taxi_assets_tests.months import month_of_trips, stage_in
from taxi_assets_tests.postgres_fixtures import PostgresServer
from taxi_assets_tests.sinks.places.managers import MAKE, PATIENCE

COLUMNS = YELLOW.schema.names
JANUARY = Month(2021, 1)

Contents = str
"""All of a month's rows, in one line that tells two months apart: their number, and a hash of them in order."""
Fault = Callable[[random.Random, float], AbstractContextManager[threading.Event]]
"""Breaks the place at a random moment of the next so many seconds; the event is set when it has happened. At the end of
the block all is well again."""
PRELOADED = (__name__, "google.cloud.bigquery", "google.cloud.storage", "duckdb", "pgpq", "psycopg", "psycopg.sql")
"""What writers import, some of it late: done once, in the server that they are forked from."""


class Servers(Protocol):
    """The servers that sinks talk to, started when they are first asked for."""

    @property
    def postgres(self) -> PostgresServer: ...
    @property
    def gcs(self) -> GcsServer: ...
    @property
    def bigquery(self) -> BigQueryServer: ...


def contents(rows: pa.Table) -> Contents:
    in_order = rows.select(COLUMNS).cast(YELLOW.schema).sort_by([(name, "ascending") for name in COLUMNS])
    text = pa.BufferOutputStream()
    csv.write_csv(in_order, text)  # exact, and tells null from empty text
    return f"{rows.num_rows} rows {hashlib.sha256(text.getvalue()).hexdigest()[:12]}"


@functools.cache
def contents_of(trips: MonthFile) -> Contents:
    return contents(trips.to_arrow())


def table_of(rows: Iterable[tuple]) -> pa.Table:
    """A client's rows, of COLUMNS."""
    columns = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, YELLOW.schema, strict=True)]
    return pa.table(arrays, schema=YELLOW.schema)


class Broken(MonthFile):
    """A month whose rows fail after half of them; `path` is what a sink gets that wants the file."""

    def __init__(self, file: MonthFile, path: Callable[[], Path]) -> None:
        super().__init__(path, file.month, manifest=file.manifest, bytes=file.bytes)
        self._file, self.schema = file, file.schema

    def batches(self, columns: list[str] | None = None, rows: int = 0) -> Iterator[pa.RecordBatch]:
        yield next(self._file.batches(columns, max(1, self.rows // 2)))
        raise ZeroDivisionError("broken midway")


def broken(trips: MonthFile) -> Broken:
    """The same month, failing midway, whose file cannot be had."""

    def fail() -> Path:
        raise ZeroDivisionError("broken midway")

    return Broken(trips, fail)


class Place:
    """A sink in a fresh place. Subclasses say what is particular to it."""

    change: Callable[[pa.RecordBatch], pa.RecordBatch] = staticmethod(lambda batch: batch)
    environment: dict[str, str] = {}
    rows = 2_000
    """Rows of a month that takes long enough to be broken in the middle."""
    records_manifest = False
    """Whether the sink records a month's manifest, which `sink.manifest` returns."""
    records_manifests = True
    """Whether the sink records what each month is: every sink of months."""
    housekeeping_after_kill = False
    """Whether files of killed writers stay until the housekeeping removes them. Otherwise the next load leaves none."""
    where: str
    faults: dict[str, Fault]
    pace = 1.0
    """Seconds that a writer in a process of its own takes, as last seen."""

    def __init__(self, name: str, servers: Servers, folder: Path, stack: ExitStack) -> None:
        self.name, self.make, self.folder = name, MAKE[name.removeprefix("gcs-")], folder
        self.looking = threading.Lock()  # what a reader of this process holds is not left behind
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.faults = {}
        self.prepare(servers, stack)
        self.environment = self.environment | {"DAGSTER_HOME": str(self.home)}
        stack.enter_context(patch.dict(os.environ, self.environment))
        stack.enter_context(patch.object(folders, "tempfile"))
        stage_in(self.home)
        stack.enter_context(patch.object(gcs_bucket, "PATIENCE", PATIENCE))
        stack.enter_context(patch.object(month_journal, "HELP_AFTER", 0.2))
        self.sink = self.make(self.where)

    def prepare(self, servers: Servers, stack: ExitStack) -> None:
        """Set `where`, `environment` and `faults`."""
        raise NotImplementedError

    def held(self, month: Month) -> Contents | None:
        """The month as the sink's ordinary client reads it, none of our code; None when it is not there."""
        raise NotImplementedError

    def look(self, month: Month) -> Contents | None:
        """What a reader sees who may look at any moment: the ordinary client where nothing else is promised."""
        return self.held(month)

    def settle(self, month: Month) -> None:
        """Wait for, or do, what a reader through the sink never notices."""

    def housekeeping(self) -> None:
        """Remove the files of killed writers, as the scheduled job does a day later."""

    def extra(self) -> list[str]:
        """What is in the place besides months."""
        raise NotImplementedError

    def trips(self, month: str, rows: int, seed: int = 0, **made: Any) -> MonthFile:
        """A month that this sink can be given, made with further arguments of `month_of_trips`."""
        return month_of_trips(self.folder / "made", month, rows, seed, change=self.change, **made)

    def broken(self, trips: MonthFile) -> Any:
        """The same month, failing midway."""
        return broken(trips)

    def replace(self, trips: Any, run: str | None = None, kind: TaxiKind = YELLOW) -> None:
        self.sink.replace(kind.table, trips, _writing(run))

    def leftovers(self) -> list[str]:
        """What nobody will need, here and in the folder for staged files."""
        with self.looking:
            if found := self._leftovers():
                gc.collect()  # handles take their files along
                found = self._leftovers()
            return found

    def _leftovers(self) -> list[str]:
        staged = [str(path) for path in Path(folders.default_staging()).glob("**/*") if path.name != ".lock"]
        return sorted(staged + self.extra())

    @contextmanager
    def writer(self, trips: MonthFile, run: str | None = None, killed_after: float | None = None) -> Generator[Writer]:
        """A process that has begun to replace the month, and is killed after so many seconds of writing."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(PRELOADED))
        ours, its = context.Pipe()
        arguments = (self.name, self.where, trips, self.environment, run, killed_after, its)
        process = context.Process(target=_replace_in_process, args=arguments)
        process.start()
        its.close()
        try:
            assert ours.poll(60), f"a process to write {self.name} did not start"
            ours.recv()
            yield Writer(process, ours)
        finally:
            process.kill()
            process.join()
            ours.close()


@dataclass(frozen=True)
class Writer:
    """A process that replaces a month."""

    _process: BaseProcess
    _wire: Connection

    def seconds(self) -> float | None:
        """Wait until it has ended: how long it wrote, or None when it was killed before it was done."""
        self._process.join(120)
        assert self._process.exitcode in (0, -signal.SIGKILL), f"a writer ended with {self._process.exitcode}"
        return None if self._process.exitcode else self._wire.recv()


def _replace_in_process(
    name: str,
    where: str,
    trips: MonthFile,
    environment: dict[str, str],
    run: str | None,
    killed_after: float | None,
    wire: Connection,
) -> None:
    os.environ.update(environment)
    stage_in(environment["DAGSTER_HOME"])
    gcs_bucket.PATIENCE, month_journal.HELP_AFTER = 10.0, 0.2
    sink = MAKE[name.removeprefix("gcs-")](where)
    wire.send("begun")
    if killed_after is not None:  # by itself: on a busy machine another process would come too late
        sys.setswitchinterval(0.0005)
        threading.Timer(killed_after, os.kill, (os.getpid(), signal.SIGKILL)).start()
    begun = time.monotonic()
    sink.replace(YELLOW.table, trips, _writing(run))
    wire.send(time.monotonic() - begun)
    os._exit(0)


def month_query(table: str, start: str, end: str) -> str:
    return f"SELECT {', '.join(COLUMNS)} FROM {table} WHERE {YELLOW.pickup} >= {start} AND {YELLOW.pickup} < {end}"


def _writing(run: str | None) -> WriteContext:
    return WriteContext(run or str(uuid.uuid4()), uuid.uuid4().hex[:12], lambda line: None, {})


@contextmanager
def at_some_moment(seconds: float, chance: random.Random, break_: Callable[[], None]) -> Generator[threading.Event]:
    happened = threading.Event()

    def break_now() -> None:
        happened.set()
        break_()

    timer = threading.Timer(chance.uniform(0, seconds), break_now)
    timer.start()
    try:
        yield happened
    finally:
        timer.cancel()
        timer.join()


@contextmanager
def disturbed(server: Any, disturb: Callable[[Any], Any]) -> Generator[threading.Event]:
    """The server or wire, with trouble for the requests that `disturb` picks."""
    usual, happened = server.disturb, threading.Event()

    def disturb_and_tell(request: Any) -> Any:
        if trouble := disturb(request):
            happened.set()
        return trouble

    server.disturb = disturb_and_tell
    try:
        yield happened
    finally:
        server.disturb = usual
