"""The daily summary of a month, by the product's own query in a DuckDB of the test."""

import duckdb
import pyarrow as pa

from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.reports.daily_summary import as_summary, summary_sql


def summarize(trips: MonthFile | pa.Table, kind: TaxiKind, month: Month) -> pa.Table:
    """Return a table of `SUMMARY_COLUMNS`, ordered by its key."""
    with duckdb.connect() as connection:
        connection.register("trips", trips.to_arrow() if isinstance(trips, MonthFile) else trips)
        return as_summary(connection.sql(summary_sql(kind, month, "trips")).to_arrow_table())
