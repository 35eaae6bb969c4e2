"""The daily summary of a month, by the product's own query in a DuckDB of the test."""

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.reports.daily_summary import as_summary, summary_sql


def summarize(trips: MonthFile | pa.Table | Path, kind: TaxiKind, month: Month) -> pa.Table:
    """A table of `SUMMARY_COLUMNS`, ordered by its key."""
    table = trips.to_arrow() if isinstance(trips, MonthFile) else trips
    with duckdb.connect() as connection:
        connection.register("trips", pq.read_table(table) if isinstance(table, Path) else table)
        return as_summary(connection.sql(summary_sql(kind, month, "trips")).to_arrow_table())
