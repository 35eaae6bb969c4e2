"""The warehouses as the contract sees them: a DuckDB file, and a dataset of BigQuery's emulator."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import Any

import duckdb
from google.api_core.exceptions import NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.sinks.bigquery.manifests import NAME as MANIFESTS
from taxi_assets_tests.bigquery_fixtures import PROJECT, wire_to
from taxi_assets_tests.processes import until
from taxi_assets_tests.sinks.places.base import (
    Broken,
    Contents,
    Place,
    Servers,
    at_some_moment,
    contents,
    disturbed,
    month_query,
    table_of,
)
from taxi_assets_tests.sinks.places.small_disk import full, small_disk


class DuckDBPlace(Place):
    """A DuckDB file, on a small disk where one may be had."""

    rows = 20_000

    def prepare(self, servers: Servers, stack: ExitStack) -> None:
        if disk := small_disk(self.folder, stack):
            self.home, self.faults = disk, {"disk full": lambda chance, seconds: full(disk, chance)}
        self.where = str(self.home / "warehouse.duckdb")

    def held(self, month: Month) -> Contents | None:
        if not Path(self.where).exists():
            return None
        query = month_query("ny_taxi.yellow_cab_data", "?", "?")
        with until(self._opened, 30, "the file, which one at a time may open") as connection:
            return contents(connection.sql(query, params=[month.start, month.end]).to_arrow_table())

    def _opened(self) -> duckdb.DuckDBPyConnection | None:
        with suppress(duckdb.IOException, duckdb.ConnectionException):
            return duckdb.connect(self.where, read_only=True)
        return None

    def look(self, month: Month) -> Contents | None:  # while a writer has the file, DuckDB lets nobody else open it
        return contents(self.sink.read(YELLOW.table, month).to_arrow())

    def broken(self, trips: MonthFile) -> Any:
        """The rows are streamed, as DuckDB would take the path for a pattern."""
        return Broken(trips, lambda: trips.path.with_name("[broken].parquet"))

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

    def trips(self, month: str, rows: int, seed: int = 0, **made: Any) -> MonthFile:
        return self.server.upload(super().trips(month, rows // 10, seed, **made))  # its rows come back as JSON, slowly

    def broken(self, trips: MonthFile) -> Any:
        half = self.folder / "half.parquet"
        half.write_bytes(trips.path.read_bytes()[: trips.bytes // 2])
        damaged = self.server.upload(MonthFile(half, trips.month))
        half.write_bytes(trips.path.read_bytes())  # the handle knows what the object should have been
        return damaged

    def held(self, month: Month) -> Contents | None:
        query = month_query(f"`{PROJECT}.{self.dataset}.yellow_cab_data`", f"'{month.start}'", f"'{month.end}'")
        with suppress(NotFound):
            return contents(table_of(row.values() for row in self.client.query(query).result()))
        return None

    def settle(self, month: Month) -> None:
        """A job does not end with who started it."""
        until(lambda: not list(self.client.list_jobs(state_filter="running")), 30, "running load jobs")

    def extra(self) -> list[str]:
        tables = (table.table_id for table in self.client.list_tables(self.dataset))
        return [name for name in tables if name not in ("yellow_cab_data", MANIFESTS)]

    def _disturb(self, chance: random.Random, seconds: float) -> AbstractContextManager[Event]:
        faults = [(503, "backendError"), "reset", "lost"]
        return disturbed(self.wire, lambda _: chance.choice(faults) if chance.random() < 0.2 else None)

    @contextmanager
    def _gone(self, chance: random.Random, seconds: float) -> Generator[Event]:
        """From a moment on requests are refused, and the response to one in progress is lost: a load is one long request."""
        ends, usual = time.monotonic() + chance.uniform(0, seconds), self.wire.lose
        with disturbed(self.wire, lambda _: "reset" if time.monotonic() > ends else None) as happened:

            def lose() -> bool:
                if gone := time.monotonic() > ends:
                    happened.set()
                return gone

            self.wire.lose = lose
            try:
                yield happened
            finally:
                self.wire.lose = usual

    @contextmanager
    def _kill_server(self, chance: random.Random, seconds: float) -> Generator[Event]:
        try:
            with at_some_moment(seconds, chance, self.server.kill) as killed:
                yield killed
        finally:
            self.server.kill()
            self.server.start()
