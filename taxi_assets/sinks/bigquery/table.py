"""The BigQuery table: partitioned by month unless it has no time, created when missing, extended by new columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from google.api_core.exceptions import NotFound
from google.api_core.retry import Retry
from google.cloud import bigquery

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.core.table import Column, Table
from taxi_assets.sinks.bigquery.client import REQUEST_SECONDS, find_table
from taxi_assets.sinks.columns import compare

SQL_TYPES = {
    "int16": "INTEGER",
    "int64": "INTEGER",
    "bool": "BOOLEAN",
    "double": "FLOAT",
    "string": "STRING",
    "timestamp[us]": "DATETIME",
    "date32[day]": "DATE",
}

WIDEST_FIRST = {"int64": "INTEGER", **SQL_TYPES}
"""With 64-bit integers before 16-bit ones, which are INTEGER, too: how a column that only the table has is read."""


@dataclass(frozen=True)
class Tables:
    """The tables of a dataset, `project.dataset`, in a location."""

    client: bigquery.Client
    dataset: str
    location: str
    retry: Retry

    def name(self, table: Table) -> str:
        """Return the name of a table."""
        return f"{self.dataset}.{table.name}"

    def prepare(
        self, table: Table, loaded: Table, what: Month | str, log: Callable[[str], None]
    ) -> tuple[bigquery.Table, list[bigquery.SchemaField]]:
        """Return the table, created with its dataset when missing, and the columns it has after the load.

        `loaded` is the table with the new columns of the month, or of whatever `what` names.

        Raises:
            PermanentError: it cannot be loaded into the table.
        """
        target = find_table(self.client, self.name(table), self.retry) or self._create(loaded)
        actual = target.time_partitioning and (target.time_partitioning.type_, target.time_partitioning.field)
        if actual != (("MONTH", table.time) if table.time else None):
            layout = f"is not partitioned by the month of {table.time}" if table.time else "is partitioned"
            raise PermanentError(
                f"{self.name(table)} {layout}: rename it, or name another dataset in TAXI_DATASET, then materialize again."
            )
        difference = compare(
            table,
            loaded,
            column_types(target),
            SQL_TYPES,
            name=self.name(table),
            remedy="change the table's column yourself, or name another dataset in TAXI_DATASET, then materialize again",
            not_null=[field.name for field in target.schema if field.mode == "REQUIRED"],
            convert=False,
        )
        if difference.surplus:
            surplus = ", ".join(difference.surplus)
            log(f"{what}: {self.name(table)} has {surplus}, which trips do not have; null in this month.")
        added = [column for column in loaded.columns if column.name in difference.added]
        # all of them: a load that replaces must name every column
        return target, [*target.schema, *schema_fields(added)]

    def _create(self, table: Table) -> bigquery.Table:
        """Create the table and, if that shows it to be missing, the dataset; another run may do so at the same time."""
        target = bigquery.Table(self.name(table), schema=schema_fields(table.columns))
        target.description = table.description or None
        target.labels = {"kind": label(table.object_kind)}
        if table.time:
            target.time_partitioning = bigquery.TimePartitioning(bigquery.TimePartitioningType.MONTH, table.time)
        target.clustering_fields = list(table.clustering) or None
        options = {"exists_ok": True, "retry": self.retry, "timeout": REQUEST_SECONDS}
        try:
            return self.client.create_table(target, **options)
        except NotFound:
            dataset = bigquery.Dataset(self.dataset)
            dataset.location = self.location
            self.client.create_dataset(dataset, **options)
            return self.client.create_table(target, **options)


def schema_fields(columns: Iterable[Column]) -> list[bigquery.SchemaField]:
    """Columns, described. Without it BigQuery would guess the zone-less timestamps' type from the file."""
    return [bigquery.SchemaField(c.name, SQL_TYPES[c.type], description=c.description) for c in columns]


def column_types(table: bigquery.Table) -> dict[str, str]:
    """Return name and type of the columns; a repeated one has a type that no Arrow type maps to."""
    return {field.name: "REPEATED" if field.mode == "REPEATED" else _legacy(field.field_type) for field in table.schema}


def _legacy(type_: str) -> str:
    """The API's own spelling of a type that a table's maker may have written as in SQL."""
    return {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN"}.get(type_, type_)


def label(text: str) -> str:
    """A label value: lower case, digits, - and _, at most 63 characters (BigQuery's rule)."""
    return re.sub(r"[^a-z0-9_-]", "-", text.lower())[:63]
