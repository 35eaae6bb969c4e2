"""Every sink as the contract sees it: how to have one in a fresh place, what its ordinary client reads there, how it is
broken, and what counts as left behind. What is promised of all of them is in `contract`.

A `Place` is used by one test at a time: it sets this process' environment while it is open.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import io
import multiprocessing
import os
import random
import re
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch
from urllib.parse import quote

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import requests
from google.api_core.exceptions import NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from taxi_assets.io_managers import month_journal
from taxi_assets.io_managers.base import Writing
from taxi_assets.io_managers.daily_object import DailyObjectIOManager
from taxi_assets.io_managers.day_folders import DayFoldersIOManager
from taxi_assets.io_managers.duckdb_warehouse import DuckDBWarehouseIOManager
from taxi_assets.io_managers.parquet_object import ParquetObjectIOManager
from taxi_assets.io_managers.postgres import PostgresIOManager
from taxi_assets.services import gcs_bucket
from taxi_assets.settings import get_settings
from taxi_assets.trips.files import TripFile
from taxi_assets.trips.month import Month
from taxi_assets.trips.schema import YELLOW
from taxi_assets_tests.bigquery_fixtures import PROJECT, BigQueryServer, bigquery_sink, wire_to
from taxi_assets_tests.gcs_fixtures import GcsServer
from taxi_assets_tests.months import month_of_trips
from taxi_assets_tests.postgres_fixtures import PostgresServer, rows_of, run_sql
from taxi_assets_tests.processes import until

COLUMNS = YELLOW.schema.names
JANUARY = Month(2021, 1)
UNHEARD_OF = Month(2009, 1)
"""A month that no test loads."""
PATIENCE = 1.0
"""Seconds that a server which is away is waited for: long enough to outlast a fault, short enough to see it give up."""

Contents = str
"""All of a month's rows, in one line that tells two months apart: their number, and a hash of them in order."""
Fault = Callable[[random.Random, float], AbstractContextManager[Any]]
"""Breaks the place at a random moment of the next so many seconds; at the end of the block all is well again."""


class Servers(Protocol):
    """The servers that sinks talk to, started when they are first asked for."""

    @property
    def postgres(self) -> PostgresServer: ...
    @property
    def gcs(self) -> GcsServer: ...
    @property
    def bigquery(self) -> BigQueryServer: ...


def contents(rows: Iterable[tuple]) -> Contents:
    lines = sorted(map(repr, rows))
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return f"{len(lines)} rows {digest[:12]}"


@functools.cache
def contents_of(trips: TripFile) -> Contents:
    return contents(tuples(trips.to_arrow()))


def tuples(table: pa.Table) -> Iterator[tuple]:
    return zip(*(table[name].to_pylist() for name in COLUMNS), strict=True)


class _FirstOfMonth:
    """gcs_daily as a month: its first day, by the methods of the other sinks."""

    def __init__(self, location: str) -> None:
        self._daily = DailyObjectIOManager(location=location)

    def replace(self, kind: Any, trips: TripFile, writing: Writing) -> Any:
        return self._daily.replace(kind, trips.month.start.date(), trips, writing)

    def read_facts(self, kind: Any, month: Month) -> Any:
        return self._daily.read_facts(kind, month.start.date())

    def read(self, kind: Any, month: Month) -> Any:
        return self._daily.read(kind, month.start.date())


def on_the_first(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with all its pickups on the first of the month."""
    index = batch.schema.get_field_index(YELLOW.pickup)
    late = batch.column(index).to_numpy(zero_copy_only=False)
    first = late.astype("datetime64[M]").astype("datetime64[us]") + (late - late.astype("datetime64[D]"))
    return batch.set_column(index, batch.schema.field(index), pa.array(first, pa.timestamp("us")))


MAKE: dict[str, Callable[[str], Any]] = {
    "postgres": lambda where: PostgresIOManager.at(where, patience=60),
    "object": lambda where: ParquetObjectIOManager(location=where, template="nyc/{kind}_tripdata_{month}.parquet"),
    "days": lambda where: DayFoldersIOManager(location=where, prefix="nyc/{kind}_by_day"),
    "daily": _FirstOfMonth,
    "duckdb": lambda where: DuckDBWarehouseIOManager(path=where),
    "bigquery": lambda where: bigquery_sink(*where.split(), retry_seconds=PATIENCE),
}
"""A sink, in whatever process, from one word that says where."""


class Broken:
    """Trips that fail after half of their rows, as those of a damaged source do."""

    def __init__(self, file: TripFile) -> None:
        self.month, self.rows, self.bytes, self.schema, self.facts, self._file = (
            file.month, file.rows, file.bytes, file.schema, file.facts, file)  # fmt: skip

    def batches(self, columns: list[str] | None = None, rows: int = 0) -> Iterator[pa.RecordBatch]:
        yield next(self._file.batches(columns, max(1, self.rows // 2)))
        raise ZeroDivisionError("broken midway")

    def to_arrow(self) -> pa.Table:
        raise ZeroDivisionError("broken midway")


class Place:
    """A sink in a fresh place. Subclasses say what is particular to it."""

    change: Callable[[pa.RecordBatch], pa.RecordBatch] = staticmethod(lambda batch: batch)
    environment: dict[str, str] = {}
    rows = 2_000
    """Rows of a month that takes long enough to be broken in the middle."""
    where: str
    faults: dict[str, Fault]

    def __init__(self, name: str, servers: Servers, folder: Path, stack: ExitStack) -> None:
        self.name, self.make, self.folder = name, MAKE[name.removeprefix("gcs-")], folder
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.faults = {}
        self.prepare(servers, stack)
        self.environment = self.environment | {"DAGSTER_HOME": str(self.home)}
        stack.enter_context(patch.dict(os.environ, self.environment))
        stack.callback(get_settings.cache_clear)
        get_settings.cache_clear()
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

    def extra(self) -> list[str]:
        """What is in the place besides months."""
        raise NotImplementedError

    def trips(self, month: str, rows: int, seed: int = 0) -> TripFile:
        """A month that this sink can be given."""
        return month_of_trips(self.folder / "made", month, rows, seed, change=self.change)

    def broken(self, trips: TripFile) -> Any:
        """The same month, failing midway."""
        return Broken(trips)

    def replace(self, trips: Any, run: str | None = None) -> None:
        self.sink.replace(YELLOW, trips, _writing(run))

    def leftovers(self) -> list[str]:
        """What nobody will need, here and in the folder for staged files."""
        gc.collect()  # handles take their files along
        staged = [str(path) for path in get_settings().staging_folder.glob("**/*") if path.name != ".lock"]
        return sorted(staged + self.extra())

    @contextmanager
    def writer(self, trips: TripFile, run: str | None = None) -> Generator[Any]:
        """A process that is about to replace the month; killed at the end of the block if it still lives."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        ready = context.Event()
        told = (self.name, self.where, trips, self.environment, run, ready)
        process = context.Process(target=_replace_in_process, args=told)
        process.start()
        try:
            assert ready.wait(60), f"a process to write {self.name} did not start"
            yield process
        finally:
            process.kill()
            process.join()


def _replace_in_process(
    name: str, where: str, trips: TripFile, environment: dict[str, str], run: str | None, ready: Any
) -> None:
    os.environ.update(environment)
    get_settings.cache_clear()
    gcs_bucket.PATIENCE, month_journal.HELP_AFTER = 10.0, 0.2
    sink = MAKE[name.removeprefix("gcs-")](where)
    sink.read_facts(YELLOW, UNHEARD_OF)  # imports and connects, so that what is killed is the writing
    ready.set()
    sink.replace(YELLOW, trips, _writing(run))
    os._exit(0)  # so that its end tells how long that took


def _query(table: str, start: str, end: str) -> str:
    return f"SELECT {', '.join(COLUMNS)} FROM {table} WHERE {YELLOW.pickup} >= {start} AND {YELLOW.pickup} < {end}"


def _writing(run: str | None) -> Writing:
    return Writing(run or str(uuid.uuid4()), uuid.uuid4().hex[:12], lambda line: None, {})


@contextmanager
def _at_some_moment(seconds: float, chance: random.Random, break_: Callable[[], None]) -> Generator[None]:
    timer = threading.Timer(chance.uniform(0, seconds), break_)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


class PostgresPlace(Place):
    """A database of its own on an embedded server that may be killed."""

    def prepare(self, servers: Servers, stack: ExitStack) -> None:
        self.server, database = servers.postgres, f"contract_{uuid.uuid4().hex[:12]}"
        run_sql(self.server.url, f"CREATE DATABASE {database}")
        stack.callback(lambda: run_sql(self.server.url, f"DROP DATABASE {database} WITH (FORCE)"))
        self.where = self.server.url.rpartition("/")[0] + f"/{database}"
        self.faults = {"connection cut": self._cut, "server killed": self._kill_server}

    def held(self, month: Month) -> Contents | None:
        if not rows_of(self.where, "SELECT 1 FROM pg_tables WHERE tablename = %s", self._partition(month)):
            return None
        return contents(rows_of(self.where, _query("ny_taxi.yellow_cab_data", "%s", "%s"), month.start, month.end))

    def extra(self) -> list[str]:
        query = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace::regnamespace::text !~ %s"
        tables = {name for (name,) in rows_of(self.where, query, "^(pg_|information)")}
        return sorted(name for name in tables if not re.fullmatch(r"load_history|yellow_cab_data(_\d{4}_\d\d)?", name))

    def _partition(self, month: Month) -> str:
        return f"yellow_cab_data_{month.year}_{month.month:02d}"

    def _cut(self, chance: random.Random, seconds: float) -> AbstractContextManager[None]:
        ours = "application_name = 'taxi_assets' AND datname = current_database()"
        query = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}"
        return _at_some_moment(seconds, chance, lambda: run_sql(self.where, query))

    @contextmanager
    def _kill_server(self, chance: random.Random, seconds: float) -> Generator[None]:
        try:
            with _at_some_moment(seconds, chance, self.server.kill):
                yield
        finally:
            self.server.start()


class ObjectsPlace(Place):
    """A bucket: a directory, on a small disk where one may be had, or one of Google Cloud Storage over the wire."""

    def prepare(self, servers: Servers, stack: ExitStack) -> None:
        self.change = on_the_first if self.name.endswith("daily") else self.change
        self.gcs = servers.gcs if self.name.startswith("gcs-") else None
        if self.gcs:
            self.where = f"gs://{self.gcs.new_bucket()}"
            self.environment = {"STORAGE_EMULATOR_HOST": self.gcs.url}
            self.faults = {"503s and resets": self._disturb, "server gone": self._gone}
            return
        if disk := _small_disk(self.folder, stack):
            self.home, self.faults = disk, {"disk full": lambda chance, seconds: _full(disk, chance)}
        self.where = str(self.home / "bucket")

    def held(self, month: Month) -> Contents | None:
        prefix = {"object": f"nyc/yellow_tripdata_{month}", "days": f"nyc/yellow_by_day/tpep_pickup_date={month}-"}
        start = prefix.get(self.name.removeprefix("gcs-"), f"{month.year}/{month.month:02d}/01/")
        found = {name: pq.read_table(io.BytesIO(self._get(name))) for name in self._names() if name.startswith(start)}
        for name, table in found.items():
            day = name.partition("tpep_pickup_date=")[2][:10]
            assert not day or {str(pickup.date()) for pickup in table[YELLOW.pickup].to_pylist()} <= {day}, name
        return contents(row for table in found.values() for row in tuples(table)) if found else None

    def look(self, month: Month) -> Contents | None:
        if self.name.endswith("days"):  # who lists the folders sees each day old or new: `test_day_folders`
            return contents(tuples(self.sink.read(YELLOW, month).to_arrow()))
        return self.held(month)

    def settle(self, month: Month) -> None:
        if self.name.endswith("days"):  # the next look through the sink finishes what a killed writer has committed
            self.sink.read_facts(YELLOW, month)

    def extra(self) -> list[str]:
        hidden = Path(self.where, ".bucket")
        left = [path.name for path in hidden.iterdir() if path.name != "lock"] if not self.gcs else []
        return left + [name for name in self._names() if not name.endswith(".parquet")]

    def _names(self) -> list[str]:
        if not self.gcs:
            root = Path(self.where)
            files = (path.relative_to(root) for path in sorted(root.rglob("*")) if path.is_file())
            return [str(path) for path in files if not path.parts[0].startswith(".")]
        answer = requests.get(f"{self._api()}?maxResults=1000", timeout=30)
        answer.raise_for_status()
        return [item["name"] for item in answer.json().get("items", [])]

    def _get(self, name: str) -> bytes:
        if not self.gcs:
            return Path(self.where, name).read_bytes()
        answer = requests.get(f"{self._api()}/{quote(name, safe='')}?alt=media", timeout=30)
        answer.raise_for_status()
        return answer.content

    def _api(self) -> str:
        """Past the gate: the one who judges is not disturbed."""
        return f"http://127.0.0.1:{self.gcs.port}/storage/v1/b/{self.where.removeprefix('gs://')}/o"

    @contextmanager
    def _disturb(self, chance: random.Random, seconds: float) -> Generator[None]:
        """Busy answers, resets, and answers lost after the work was done."""
        yield from _disturbed(
            self.gcs, lambda _: chance.choice(["503", "reset", "lost"]) if chance.random() < 0.2 else None
        )

    @contextmanager
    def _gone(self, chance: random.Random, seconds: float) -> Generator[None]:
        ends = time.monotonic() + chance.uniform(0, seconds)
        yield from _disturbed(self.gcs, lambda _: "reset" if time.monotonic() > ends else None)


class DuckDBPlace(Place):
    """A DuckDB file, on a small disk where one may be had."""

    rows = 20_000

    def prepare(self, servers: Servers, stack: ExitStack) -> None:
        if disk := _small_disk(self.folder, stack):
            self.home, self.faults = disk, {"disk full": lambda chance, seconds: _full(disk, chance)}
        self.where = str(self.home / "warehouse.duckdb")

    def held(self, month: Month) -> Contents | None:
        if not Path(self.where).exists():
            return None
        query = _query("ny_taxi.yellow_cab_data", "?", "?")
        with until(self._opened, 30, "the file, which one at a time may open") as connection:
            return contents(connection.execute(query, [month.start, month.end]).fetchall())

    def _opened(self) -> duckdb.DuckDBPyConnection | None:
        with suppress(duckdb.IOException, duckdb.ConnectionException):
            return duckdb.connect(self.where, read_only=True)
        return None

    def look(self, month: Month) -> Contents | None:  # while a writer has the file, DuckDB lets nobody else open it
        return contents(tuples(self.sink.read(YELLOW, month).to_arrow()))

    def extra(self) -> list[str]:
        return [path.name for path in self.home.glob("warehouse.duckdb?*")]


class BigQueryPlace(Place):
    """A dataset of its own in the emulator, behind a wire that disturbs; the trips are objects in the emulator's bucket."""

    def prepare(self, servers: Servers, stack: ExitStack) -> None:
        self.server, self.dataset = servers.bigquery, f"taxi_{uuid.uuid4().hex[:8]}"
        self.wire = stack.enter_context(wire_to(self.server.endpoint))
        self.where = f"{self.wire.endpoint} {self.dataset}"
        options = {"api_endpoint": self.server.endpoint}  # past the wire
        self.client = stack.enter_context(bigquery.Client(PROJECT, AnonymousCredentials(), client_options=options))
        self.faults = {"503s and resets": self._disturb, "server gone": self._gone, "server killed": self._kill_server}

    def trips(self, month: str, rows: int, seed: int = 0) -> TripFile:
        return self.server.upload(super().trips(month, rows // 10, seed))  # its rows come back as JSON, slowly

    def broken(self, trips: TripFile) -> Any:
        half = self.folder / "half.parquet"
        half.write_bytes(trips.path.read_bytes()[: trips.bytes // 2])
        damaged = self.server.upload(TripFile(half, trips.month))
        half.write_bytes(trips.path.read_bytes())  # the handle knows what the object should have been
        return damaged

    def held(self, month: Month) -> Contents | None:
        query = _query(f"`{PROJECT}.{self.dataset}.yellow_cab_data`", f"'{month.start}'", f"'{month.end}'")
        with suppress(NotFound):
            return contents(row.values() for row in self.client.query(query).result())
        return None

    def settle(self, month: Month) -> None:
        """A job does not end with who started it."""
        until(lambda: not list(self.client.list_jobs(state_filter="running")), 30, "running load jobs")

    def extra(self) -> list[str]:
        tables = (table.table_id for table in self.client.list_tables(self.dataset))
        return [name for name in tables if name != "yellow_cab_data"]

    @contextmanager
    def _disturb(self, chance: random.Random, seconds: float) -> Generator[None]:
        faults = [(503, "backendError"), "reset", "lost"]
        yield from _disturbed(self.wire, lambda _: chance.choice(faults) if chance.random() < 0.2 else None)

    @contextmanager
    def _gone(self, chance: random.Random, seconds: float) -> Generator[None]:
        ends = time.monotonic() + chance.uniform(0, seconds)
        yield from _disturbed(self.wire, lambda _: "reset" if time.monotonic() > ends else None)

    @contextmanager
    def _kill_server(self, chance: random.Random, seconds: float) -> Generator[None]:
        try:
            with _at_some_moment(seconds, chance, self.server.kill):
                yield
        finally:
            self.server.kill()
            self.server.start()


def _disturbed(server: Any, disturb: Callable[[Any], Any]) -> Generator[None]:
    usual, server.disturb = server.disturb, disturb
    try:
        yield
    finally:
        server.disturb = usual


def _small_disk(folder: Path, stack: ExitStack, megabytes: int = 64) -> Path | None:
    """A file system that can be filled, where this user may mount one."""
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", disk]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        return None
    stack.callback(lambda: subprocess.run(["umount", "--lazy", disk], check=True))
    return disk


@contextmanager
def _full(disk: Path, chance: random.Random) -> Generator[None]:
    """Leave room for a part of a small month."""
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    with (disk / ".ballast").open("wb") as ballast:
        os.posix_fallocate(ballast.fileno(), 0, free - chance.randrange(0, 1 << chance.randrange(12, 20)))
    try:
        yield
    finally:
        (disk / ".ballast").unlink()


SINKS: dict[str, type[Place]] = {
    "postgres": PostgresPlace,
    "object": ObjectsPlace,
    "days": ObjectsPlace,
    "duckdb": DuckDBPlace,
    "gcs-object": ObjectsPlace,
    "gcs-days": ObjectsPlace,
    "gcs-daily": ObjectsPlace,
    "bigquery": BigQueryPlace,
}


@contextmanager
def place_of(name: str, servers: Servers, folder: Path) -> Generator[Place]:
    """The sink in a fresh place."""
    with ExitStack() as stack:
        yield SINKS[name](name, servers, folder, stack)
