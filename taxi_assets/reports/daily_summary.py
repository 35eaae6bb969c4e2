"""The daily summary: one row per day, payment type and pickup borough, by one SQL text for both warehouses.

Defines its columns, its SQL, the pandas type that checks it, and its reconciliation with the clean month. The asset and
its sinks decide where it is stored.
"""

from __future__ import annotations

import math
import warnings
from functools import cache
from typing import TYPE_CHECKING

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.manifest import Manifest
from taxi_assets.core.month import Month
from taxi_assets.core.table import Column, Table, arrow_schema
from taxi_assets.datasets.codes import PAYMENTS
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.datasets.zones import BOROUGHS, OUTSIDE, OUTSIDE_ID

if TYPE_CHECKING:
    import dagster as dg
    import pandas as pd
    import pyarrow as pa

NOT_RECORDED = "Not recorded"
"""A payment or zone that the provider did not send, or a number that no dictionary knows."""

PAYMENT_NAMES = (*PAYMENTS.values(), NOT_RECORDED)
BOROUGH_NAMES = (*BOROUGHS, OUTSIDE, NOT_RECORDED)

SUMMARY_COLUMNS = (
    Column("pickup_date", "date32[day]", "Day of the pickup, New York wall clock.", required=True),
    Column("payment", "string", f"How it was paid: {', '.join(PAYMENT_NAMES)}.", required=True),
    Column("borough", "string", f"Where it began: {', '.join(BOROUGH_NAMES)}; EWR is Newark Airport.", required=True),
    Column("trips", "int64", "Trips kept, a number of at least 1.", required=True),
    Column("passengers", "int64", "Passengers in them, a number; unknown counts are none.", required=True),
    Column("miles", "double", "Miles by the taximeter, to the hundredth.", required=True),
    Column("fares", "double", "Time-and-distance fares, US dollars; refunds are negative.", required=True),
    Column("tips", "double", "Tips, US dollars; cash tips are not recorded.", required=True),
    Column("revenue", "double", "Charged to passengers in all, cash tips apart, US dollars.", required=True),
)
"""The summary's columns, in order, with units. The first three are the key: a row each, and none is empty."""

SUMMARY_NAMES = [column.name for column in SUMMARY_COLUMNS]
KEY = SUMMARY_NAMES[:3]

_CENT = 0.005
"""Each row's sums are rounded to the hundredth, so a column may be off by half of one a row."""


@cache
def summary_table(kind: TaxiKind) -> Table:
    """The table of the summary of a taxi kind, for the sinks."""
    return Table(
        f"{kind.name}_daily_summary",
        SUMMARY_COLUMNS,
        "pickup_date",
        sums=tuple(SUMMARY_NAMES[3:]),
        kind=kind.name,
        description=f"New York's {kind.title} trips by day, payment type and borough of the pickup.",
        key=tuple(KEY),
    )


@cache
def summary_schema() -> pa.Schema:
    """`SUMMARY_COLUMNS` as Arrow has them."""
    return arrow_schema(SUMMARY_COLUMNS, required=True)


def summary_sql(kind: TaxiKind, month: Month, table: str) -> str:
    """The query, the same text for DuckDB and BigQuery; it prunes to the month and reads eight columns of it.

    Boroughs are literals from the publisher's lookup, whose zones do not change, so no second table is needed. `table` is
    inserted unchanged: it must be quoted for the warehouse and must come from a trusted source.
    """
    codes = "\n".join(f"      WHEN {code} THEN '{name}'" for code, name in PAYMENTS.items())
    payment = f"CASE {kind.measures.payment}\n{codes}\n      ELSE '{NOT_RECORDED}' END" if kind.measures.payment else ""
    zones = BOROUGHS | {OUTSIDE: {OUTSIDE_ID}}
    boroughs = "\n".join(
        f"      WHEN pulocationid IN ({', '.join(map(str, sorted(ids)))}) THEN '{name}'" for name, ids in zones.items()
    )
    summed = {
        name: " + ".join(f"COALESCE(SUM({column}), 0)" for column in columns) or "0.0"
        for name, columns in summed_columns(kind).items()
    }
    passengers = summed.pop("passengers")
    sums = ",\n".join(f"  ROUND({total}, 2) AS {name}" for name, total in summed.items())
    return f"""\
SELECT
  CAST({kind.pickup} AS DATE) AS pickup_date,
  {payment or f"'{NOT_RECORDED}'"} AS payment,
  CASE
{boroughs}
      ELSE '{NOT_RECORDED}' END AS borough,
  COUNT(*) AS trips,
  CAST({passengers} AS BIGINT) AS passengers,
{sums}
FROM {table}
WHERE {kind.pickup} >= DATETIME '{month.start}' AND {kind.pickup} < DATETIME '{month.end}'
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3"""


def summed_columns(kind: TaxiKind) -> dict[str, tuple[str, ...]]:
    """The columns of the trips that are added up for each sum of the summary; none where the dataset has no such thing."""
    of = kind.measures
    single = {"passengers": of.passengers, "miles": of.distance, "fares": of.fare, "tips": of.tip}
    return {**{name: (column,) if column else () for name, column in single.items()}, "revenue": of.total}


def as_summary(found: pa.Table | pd.DataFrame) -> pa.Table:
    """What a warehouse answered, in exactly `SUMMARY_COLUMNS`.

    Raises:
        PermanentError: a column is missing, or a value is empty or does not fit its type.
    """
    import pyarrow as pa

    try:
        table = found if isinstance(found, pa.Table) else pa.Table.from_pandas(found, preserve_index=False)
        table = table.select(SUMMARY_NAMES)
        if empty := [name for name in SUMMARY_NAMES if table[name].null_count]:
            raise PermanentError(f"The daily summary has empty values in {', '.join(empty)}: correct its query.")
        return table.cast(summary_schema())
    except (KeyError, pa.ArrowException) as error:
        raise PermanentError(f"The daily summary is not in its columns ({error}): correct its query.") from None


def as_frame(summary: pa.Table) -> pd.DataFrame:
    """The summary as the frame that `summary_type` describes; days are midnights."""
    frame = summary.to_pandas(date_as_object=False)
    return frame.astype({"pickup_date": "datetime64[ns]"})


def require_reconciled(kind: TaxiKind, summary: pa.Table, clean: Manifest, month: Month) -> None:
    """Compare the summary with its clean month: every trip and every dollar once, on the month's days.

    Raises:
        PermanentError: a day is not of the month, or trips or revenue do not add up to the clean month's.
    """
    import pyarrow.compute as pc

    again = "materialize daily_summary again, and bq_table first if it is not of this clean month"
    days = summary["pickup_date"].unique().to_pylist()
    if strange := [day for day in days if day not in month.days]:
        raise PermanentError(f"{month}: the daily summary has {strange[0]}, which is not in the month; {again}.")
    trips = pc.sum(summary["trips"]).as_py() or 0
    if trips != clean.rows:
        raise PermanentError(
            f"{month}: the daily summary has {trips:,} trips and the clean month {clean.rows:,}; {again}."
        )
    for name, (column, *more) in ((name, columns) for name, columns in summed_columns(kind).items() if columns):
        if more or column not in clean.sums:  # the clean month's sum of it is not known
            continue
        found, total = pc.sum(summary[name]).as_py() or 0.0, clean.sums[column]
        if not math.isclose(found, total, rel_tol=1e-9, abs_tol=_CENT * (summary.num_rows + 1)):
            raise PermanentError(
                f"{month}: the daily summary has ${found:,.2f} of {name} and the clean month ${total:,.2f}; {again}."
            )


@cache
def summary_type() -> dg.DagsterType:
    """The frame's Dagster type: its columns, and the constraints on every month's summary.

    Each day, payment and borough is one row; names are known; no value is null; trips are at least 1 and passengers at least 0.
    Money and miles may be negative, because refunds are trips too. dagster-pandas is imported here because its import takes a
    second.
    """
    import dagster as dg
    from dagster_pandas import PandasColumn, create_dagster_pandas_dataframe_type
    from dagster_pandas.constraints import (
        DataFrameConstraint,
        DataFrameConstraintViolationException,
        StrictColumnsConstraint,
    )

    class OneRowAKey(DataFrameConstraint):
        statement = "Each day, payment and borough is one row."

        def __init__(self) -> None:
            super().__init__(error_description=self.statement, markdown_description=self.statement)

        def validate(self, dataframe: pd.DataFrame) -> None:
            if dataframe.duplicated(KEY).any():
                raise DataFrameConstraintViolationException("one row a key", self.statement)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=dg.BetaWarning)  # all of dagster-pandas is called beta, for years
        columns = [
            PandasColumn.datetime_column("pickup_date", non_nullable=True),
            PandasColumn.categorical_column("payment", set(PAYMENT_NAMES), non_nullable=True),
            PandasColumn.categorical_column("borough", set(BOROUGH_NAMES), non_nullable=True),
            PandasColumn.integer_column("trips", min_value=1, non_nullable=True),
            PandasColumn.integer_column("passengers", min_value=0, non_nullable=True),
            *(PandasColumn.float_column(name, non_nullable=True) for name in SUMMARY_NAMES[5:]),
        ]
        return create_dagster_pandas_dataframe_type(
            "DailySummary",
            description="One row a day, way of payment and borough of pickup.\n\n"
            + "\n".join(f"- `{column.name}`: {column.description}" for column in SUMMARY_COLUMNS),
            columns=columns,
            dataframe_constraints=[StrictColumnsConstraint(SUMMARY_NAMES, enforce_ordering=True), OneRowAKey()],
        )
