"""Postgres as the contract sees it: a database of its own on a server that may be killed."""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from threading import Event

from taxi_assets.core.month import Month
from taxi_assets_tests.postgres_fixtures import rows_of, run_sql
from taxi_assets_tests.sinks.places.base import (
    Contents,
    Place,
    Servers,
    at_some_moment,
    contents,
    month_query,
    table_of,
)


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
        query = month_query("ny_taxi.yellow_cab_data", "%s", "%s")
        return contents(table_of(rows_of(self.where, query, month.start, month.end)))

    def extra(self) -> list[str]:
        query = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace::regnamespace::text !~ %s"
        tables = {name for (name,) in rows_of(self.where, query, "^(pg_|information)")}
        ours = r"load_history|month_manifests|yellow_cab_data(_\d{4}_\d\d)?"
        return sorted(name for name in tables if not re.fullmatch(ours, name))

    def _partition(self, month: Month) -> str:
        return f"yellow_cab_data_{month.year}_{month.month:02d}"

    def _cut(self, chance: random.Random, seconds: float) -> AbstractContextManager[Event]:
        ours = "application_name = 'taxi_assets' AND datname = current_database()"
        query = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}"
        return at_some_moment(seconds, chance, lambda: run_sql(self.where, query))

    @contextmanager
    def _kill_server(self, chance: random.Random, seconds: float) -> Generator[Event]:
        try:
            with at_some_moment(seconds, chance, self.server.kill) as killed:
                yield killed
        finally:
            self.server.start()
