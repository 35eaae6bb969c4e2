"""The simulated world with real sinks: an object and day folders in a directory, Postgres, DuckDB."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import duckdb
import psycopg

from taxi_assets.core.manifest import Manifest
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.core.staging import stage
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.sinks.contract import MonthSink, WriteContext
from taxi_assets.sinks.day_folders.io_manager import DayFoldersIOManager
from taxi_assets.sinks.duckdb.io_manager import DuckDBIOManager
from taxi_assets.sinks.parquet_object.io_manager import ParquetObjectIOManager
from taxi_assets.sinks.postgres.io_manager import PostgresIOManager
from taxi_assets_tests.months import month_of_trips
from taxi_assets_tests.simulation.model import Content, Held, World

WRITE = WriteContext("run", "token", lambda line: None, {})
TABLE = YELLOW.table


class RealPlace(MutableMapping[Month, Held]):
    """The months of a real sink: what it records, and whether it still holds that."""

    def __init__(self, sink: MonthSink, folder: Path) -> None:
        self.sink, self._folder = sink, folder

    def __getitem__(self, month: Month) -> Held:
        manifest = self.sink.manifests(TABLE)[month]
        extra = manifest.extra
        measured = self.sink.measure(TABLE, month)
        if "version" not in extra:
            return Held(Content(0, 0, 0, True), manifest)
        version, code, rules = int(extra["sha256"][3:]), int(extra["code_version"]), int(extra["rules"]["level"])
        return Held(Content(version, code, rules, measured is None or measured.rows != manifest.rows), manifest)

    def __setitem__(self, month: Month, held: Held) -> None:
        month_file = _month_file(self._folder, month, held.manifest)
        self.sink.replace(TABLE, month_file, WRITE)
        month_file.discard()

    def __delitem__(self, month: Month) -> None:
        raise NotImplementedError("a real sink does not remove months; see RealWorld.delete")

    def __iter__(self) -> Iterator[Month]:
        return iter(self.sink.manifests(TABLE))

    def __len__(self) -> int:
        return len(self.sink.manifests(TABLE))


def _month_file(folder: Path, month: Month, manifest: Manifest) -> MonthFile:
    """A staged month of as many rows as the manifest has, which records the same."""
    made = month_of_trips(folder, str(month), manifest.rows)
    with stage(folder, month, made.schema, TABLE, "month") as writer:
        for batch in made.batches():
            writer.write(batch)
        writer.extra = manifest.extra
        written = writer.close()
    made.discard()
    return written


@dataclasses.dataclass
class RealWorld(World):
    """A world whose four sinks are real; the lakes, the summary and the report stay a model."""

    folder: Path = Path()
    postgres_url: str = ""
    moves: int = 0

    def __post_init__(self) -> None:
        for name in ("object", "days", "postgres", "warehouse"):
            self.move(name)

    def move(self, sink: str) -> None:
        """Give a sink a new, empty address."""
        if sink not in ("object", "days", "postgres", "warehouse"):
            super().move(sink)
            return
        self.moves += 1
        address = f"{sink}_{self.moves}"
        staging = str(self.folder / "staging")
        made: dict[str, Any] = {
            "object": lambda: ParquetObjectIOManager(
                location=str(self.folder / address), template="{kind}/{month}.parquet", staging=staging
            ),
            "days": lambda: DayFoldersIOManager(
                location=str(self.folder / address), prefix="{kind}/days", staging=staging
            ),
            "postgres": lambda: PostgresIOManager(url=self.postgres_url, schema_name=address, staging=staging),
            "warehouse": lambda: DuckDBIOManager(path=str(self.folder / f"{address}.duckdb"), staging=staging),
        }
        self.sinks[sink] = RealPlace(made[sink](), self.folder / "made")

    def tamper(self, sink: str, month: Month) -> None:
        """Change the month with the sink's own tools."""
        place = self.sinks[sink]
        if not isinstance(place, RealPlace):
            super().tamper(sink, month)
            return
        if month not in place:
            return
        where = f"WHERE tpep_pickup_datetime >= '{month.start}' AND tpep_pickup_datetime < '{month.end}'"
        io: Any = place.sink
        if sink == "postgres":
            table = f"{io.schema_name}.yellow_cab_data"
            with psycopg.connect(self.postgres_url) as connection:
                connection.execute(f"DELETE FROM {table} WHERE ctid = (SELECT ctid FROM {table} {where} LIMIT 1)")  # ty: ignore[no-matching-overload]
        elif sink == "warehouse":
            with duckdb.connect(io.path) as connection:
                table = "ny_taxi.yellow_cab_data"
                connection.execute(f"INSERT INTO {table} SELECT * FROM {table} {where} LIMIT 1")
        else:
            self.delete(sink, month)

    def delete(self, sink: str, month: Month) -> None:
        """Remove the month, or a part of it, with the sink's own tools."""
        place = self.sinks[sink]
        if not isinstance(place, RealPlace):
            super().delete(sink, month)
            return
        io: Any = place.sink
        if sink == "object":
            Path(io.location, f"yellow/{month}.parquet").unlink(missing_ok=True)
        elif sink == "days":
            Path(io.location, f"yellow/days/tpep_pickup_date={month.start:%Y-%m-%d}/trips.parquet").unlink(
                missing_ok=True
            )
        elif sink == "postgres":
            with psycopg.connect(self.postgres_url) as connection:
                connection.execute(
                    f"DROP TABLE IF EXISTS {io.schema_name}.yellow_cab_data_{month.year}_{month.month:02d}"
                )  # ty: ignore[no-matching-overload]
        elif month in place:
            with duckdb.connect(io.path) as connection:
                connection.execute(
                    f"DELETE FROM ny_taxi.yellow_cab_data WHERE month(tpep_pickup_datetime) = {month.month}"
                )
