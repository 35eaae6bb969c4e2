"""The daily summary's IO manager: a month's rows in the bucket, in Postgres and in the warehouse.

The three are replaced one after another, each atomically: a reader of any of them sees the old month or the new one. A
run killed between two leaves some with the old one; the check `daily_summary_is_in_every_sink` says so, and the next
run puts it right. What the summary is, is `reports.daily_summary`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, LiteralString

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.failures import explained
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.lake.scratch import Scratch
from taxi_assets.reports.daily_summary import KEY, SUMMARY_COLUMNS, SUMMARY_NAMES, as_frame, as_summary, summary_schema
from taxi_assets.sinks.bigquery.io_manager import BigQueryIOManager
from taxi_assets.sinks.contract import Writing, kind_of, publish, sql_to_paste
from taxi_assets.sinks.duckdb.io_manager import DuckDBWarehouseIOManager
from taxi_assets.sinks.parquet_object.io_manager import ParquetObjectIOManager
from taxi_assets.sinks.postgres.io_manager import PostgresIOManager
from taxi_assets.sinks.storage.buckets import Stat
from taxi_assets.sinks.storage.trip_objects import PARQUET, TripObject, link

if TYPE_CHECKING:
    import pandas as pd

OBJECT = "reports/{kind}/daily_summary/{month}.parquet"

_POSTGRES_TYPES: dict[str, LiteralString] = {
    "date32[day]": "date",
    "string": "text",
    "int64": "bigint",
    "double": "double precision",
}


class SummaryOf(TaxiKind):
    """A kind's daily summary in the shape in which sinks know a kind: its table, its columns, what says the month."""

    @classmethod
    def trips(cls, kind: TaxiKind) -> SummaryOf:
        """The summary of the kind's trips."""
        return cls(kind.name, kind.meter, SUMMARY_COLUMNS, kind.first_month)

    @property
    def table(self) -> str:
        """Name of the table in Postgres and in the warehouse."""
        return f"{self.name}_daily_summary"

    @property
    def pickup(self) -> str:
        """Name of the column that says the month."""
        return "pickup_date"


class SummaryIOManager(dg.IOManager):
    """Keeps a month's summary where the trips are: with the connections of their sinks."""

    def __init__(
        self,
        postgres: PostgresIOManager,
        objects: ParquetObjectIOManager,
        warehouse: DuckDBWarehouseIOManager | BigQueryIOManager,
    ) -> None:
        self._postgres, self._bucket, self._warehouse = postgres, objects.bucket, warehouse

    def replace(self, kind: TaxiKind, month: Month, summary: pa.Table, writing: Writing) -> Mapping[str, Any]:
        """Make the month exactly `summary` (in `SUMMARY_COLUMNS`) in all three, and return metadata about it.

        Raises:
            TransientError, PermanentError: the one that failed is as it was before, and so are those after it.
        """
        table, bucket, name = SummaryOf.trips(kind), self._bucket(), self._object(kind, month)
        with Scratch("summary") as folder:
            pq.write_table(summary.cast(table.schema), folder / "summary.parquet", compression="zstd")
            found = bucket.put(name, folder / "summary.parquet", content_type=PARQUET)
        self._replace_in_postgres(table, month, summary)
        self._warehouse.replace(table, TripObject(bucket, found, month), writing)  # from the object, as bq_table does
        return {
            "dagster/table_name": self._postgres.where(table, month),
            "dagster/partition_row_count": summary.num_rows,
            "dagster/uri": bucket.uri(name),
            **link(bucket, name),
            "warehouse_table": self._warehouse.where(table, month),
            "sql": sql_to_paste(self._postgres.where(table, month), table, month),
        }

    def held(self, kind: TaxiKind, month: Month) -> dict[str, pa.Table]:
        """The month as each of the three holds it, by asking it; without rows where it has no such month."""
        table, columns = SummaryOf.trips(kind), ", ".join(SUMMARY_NAMES)
        found = {"bucket": self._read_object(kind, month), "postgres": self._read_postgres(table, month)}
        found["warehouse"] = self._warehouse.select(
            table,
            month,
            lambda name: (
                f"SELECT {columns} FROM {name} WHERE pickup_date >= DATE '{month.start:%Y-%m-%d}' "
                f"AND pickup_date < DATE '{month.end:%Y-%m-%d}'"
            ),
        )
        order = [(name, "ascending") for name in KEY]
        empty = summary_schema().empty_table()
        return {place: empty if rows is None else as_summary(rows).sort_by(order) for place, rows in found.items()}

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Publish one month's frame, or (month, frame) by (month, frame) in a run over several months."""
        kind, months = kind_of(context), {Month.parse(key): key for key in context.asset_partition_keys}

        def replace(month: Month, frame: pd.DataFrame, writing: Writing) -> Mapping[str, Any]:
            summary = as_summary(frame)
            quiet = dataclasses.replace(writing, log=context.log.debug)
            metadata = {**self.replace(kind, month, summary, quiet), **_shown(summary)}
            writing.log(
                f"{month}: {summary.num_rows:,} rows of daily summary in the bucket, Postgres and the warehouse."
            )
            return metadata

        publish(context, months, _frames_in(obj, list(months)), replace)

    def load_input(self, context: dg.InputContext) -> Any:
        """The summary as a frame, or as a `pyarrow.Table` where the reader's annotation asks for one."""
        kind = kind_of(context.upstream_output)
        months = [Month.parse(key) for key in context.asset_partition_keys]
        with explained("reading daily_summary"):
            tables = {month: self._read_object(kind, month) for month in months}
            if missing := [str(month) for month, table in tables.items() if table is None]:
                raise PermanentError(f"{', '.join(missing)} has no daily summary yet; materialize daily_summary first.")
            table = pa.concat_tables([as_summary(table) for table in tables.values() if table is not None])
        return table if context.dagster_type.typing_type is pa.Table else as_frame(table)

    def _object(self, kind: TaxiKind, month: Month) -> str:
        return OBJECT.format(kind=kind.name, month=month)

    def _read_object(self, kind: TaxiKind, month: Month) -> pa.Table | None:
        bucket, name = self._bucket(), self._object(kind, month)
        found: Stat | None = bucket.stat(name)
        return TripObject(bucket, found, month).to_arrow() if found else None

    def _replace_in_postgres(self, table: SummaryOf, month: Month, summary: pa.Table) -> None:
        from psycopg import sql

        schema, name = sql.Identifier(self._postgres.schema_name), self._identifier(table)
        columns = sql.SQL(", ").join(
            sql.SQL("{} " + _POSTGRES_TYPES[c.type] + " NOT NULL").format(sql.Identifier(c.name)) for c in table.columns
        )
        key = sql.SQL(", ").join(map(sql.Identifier, KEY))
        with self._postgres.transaction(f"{month} (daily summary)") as cursor:
            turn = [f"taxi_assets {self._postgres.schema_name}.{table.table}"]
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", turn)  # writers take turns
            if not self._exists(cursor, table):
                cursor.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema))
                cursor.execute(sql.SQL("CREATE TABLE {} ({}, PRIMARY KEY ({}))").format(name, columns, key))
                for c in table.columns:
                    cursor.execute(
                        sql.SQL("COMMENT ON COLUMN {}.{} IS {}").format(name, sql.Identifier(c.name), c.description)
                    )
            cursor.execute(
                sql.SQL("DELETE FROM {} WHERE pickup_date >= %s AND pickup_date < %s").format(name),
                [month.start, month.end],
            )
            with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN").format(name, _names())) as copy:
                for row in summary.to_pylist():
                    copy.write_row([row[column] for column in SUMMARY_NAMES])

    def _read_postgres(self, table: SummaryOf, month: Month) -> pa.Table | None:
        from psycopg import sql

        with self._postgres.transaction(f"{month} (daily summary)") as cursor:
            if not self._exists(cursor, table):
                return None
            query = sql.SQL("SELECT {} FROM {} WHERE pickup_date >= %s AND pickup_date < %s")
            rows = cursor.execute(query.format(_names(), self._identifier(table)), [month.start, month.end]).fetchall()
        return pa.Table.from_pylist([dict(zip(SUMMARY_NAMES, row, strict=True)) for row in rows], table.schema)

    def _identifier(self, table: SummaryOf) -> Any:
        from psycopg import sql

        return sql.Identifier(self._postgres.schema_name, table.table)

    def _exists(self, cursor: Any, table: SummaryOf) -> bool:
        query = "SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = %s AND tablename = %s"
        return bool(cursor.execute(query, [self._postgres.schema_name, table.table]).fetchone())


def _frames_in(obj: Any, expected: list[Month]) -> Iterator[tuple[Month, pd.DataFrame]]:
    if not isinstance(obj, pa.Table) and type(obj).__name__ != "DataFrame":
        yield from obj
    elif len(expected) == 1:
        yield expected[0], obj
    else:
        raise PermanentError("A frame holds one month; return (month, frame) pairs in a run over several.")


def _names() -> Any:
    from psycopg import sql

    return sql.SQL(", ").join(map(sql.Identifier, SUMMARY_NAMES))


def _shown(summary: pa.Table) -> dict[str, Any]:
    """Sums for the UI's plots, and the largest rows as a table."""
    sums = {name: pc.sum(summary[name]).as_py() or 0 for name in SUMMARY_NAMES[3:]}
    largest = summary.sort_by([("trips", "descending")]).slice(0, 10).to_pylist()
    head = [" | ".join(SUMMARY_NAMES), " | ".join("---" for _ in SUMMARY_NAMES)]
    lines = [*head, *(" | ".join(map(str, row.values())) for row in largest)]
    rounded = {name: value if isinstance(value, int) else round(value, 2) for name, value in sums.items()}
    return {**rounded, "preview": dg.MetadataValue.md("\n".join(f"| {line} |" for line in lines))}
