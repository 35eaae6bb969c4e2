"""What is recorded of months and dimensions in BigQuery: a row appended after each load job.

BigQuery has no transaction over a load job and a row. So a record counts only while the month's partition has exactly as
many rows; if a process was killed between the two, the month is described by its number of rows. Records of dimensions are
compared with the rows in `dimensions`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.api_core.exceptions import NotFound
from google.api_core.retry import Retry
from google.cloud import bigquery

from taxi_assets.core.manifest import Manifest
from taxi_assets.core.month import Month
from taxi_assets.core.table import Table
from taxi_assets.sinks.bigquery.client import REQUEST_SECONDS, resubmitted, select
from taxi_assets.sinks.dimensions import RECORDS

NAME = "month_manifests"
"""The table of the records of months, one for all tables of the dataset."""

_ABOUT = {
    NAME: "What each loaded month is: rows, source, code, rules. The latest row of a month counts.",
    RECORDS: "What each dimension is: source, SHA-256, code. The latest row of a table counts.",
}


@dataclass(frozen=True)
class Manifests:
    """The records of a dataset, `project.dataset`."""

    client: bigquery.Client
    dataset: str
    retry: Retry
    maximum_bytes_billed: int
    resubmit_seconds: float

    def record(self, table: Table, month: Month, manifest: Manifest) -> None:
        """Append the record of a month; the latest one of a month counts."""
        self._append(NAME, {"table_name": table.name, "month": str(month), "manifest": manifest.to_json()})

    def record_dimension(self, table: Table, manifest: Manifest) -> None:
        """Append the record of a dimension; the latest one counts."""
        self._append(RECORDS, {"table_name": table.name, "manifest": manifest.to_json()})

    def read_dimension(self, table: Table) -> Manifest | None:
        """Read the record of a dimension; None if there is none."""
        query = (
            f"SELECT manifest FROM `{self.dataset}.{RECORDS}` WHERE table_name = @table "
            "ORDER BY recorded_at DESC LIMIT 1"
        )
        try:
            found = self._query(query, {"table": table.name})
        except NotFound:
            return None
        return Manifest.from_json(found[0][0]) if found else None

    def read(self, table: Table) -> dict[Month, Manifest]:
        """Read the records of a table's months, with two queries."""
        value = {"table": table.name}
        partitions = (
            f"SELECT partition_id, total_rows FROM `{self.dataset}.INFORMATION_SCHEMA.PARTITIONS` "
            "WHERE table_name = @table AND total_rows > 0"
        )
        try:
            rows = {
                Month(int(each[:4]), int(each[4:])): rows
                for each, rows in self._query(partitions, value)
                if each.isdigit()
            }
        except NotFound:  # no such dataset
            return {}
        try:
            latest = self._query(
                f"SELECT month, manifest FROM `{self.dataset}.{NAME}` WHERE table_name = @table "
                "QUALIFY row_number() OVER (PARTITION BY month ORDER BY recorded_at DESC) = 1",
                value,
            )
            recorded = {Month.parse(month): Manifest.from_json(text) for month, text in latest}
        except NotFound:
            recorded = {}
        empty = {month: 0 for month, manifest in recorded.items() if not manifest.rows and month not in rows}
        return {
            month: recorded[month] if month in recorded and recorded[month].rows == count else Manifest(count)
            for month, count in (rows | empty).items()
        }

    def _append(self, name: str, values: dict[str, str]) -> None:
        """Append a row to a table of records, with the time; the table is created when missing."""
        marks = ", ".join(f"@{column}" for column in values)
        query = f"INSERT INTO `{self.dataset}.{name}` VALUES ({marks}, CURRENT_TIMESTAMP())"
        billed = self.maximum_bytes_billed
        config = bigquery.QueryJobConfig(query_parameters=_parameters(values), maximum_bytes_billed=billed)

        def run() -> None:
            job = self.client.query(query, config, retry=self.retry, job_retry=None, timeout=REQUEST_SECONDS)
            job.result(retry=self.retry)

        def insert() -> None:
            resubmitted(run, f"{self.dataset}.{name}", self.resubmit_seconds)

        try:
            insert()
        except NotFound:
            self._create(name, list(values))
            insert()

    def _create(self, name: str, columns: list[str]) -> None:
        types = dict.fromkeys(columns, "STRING") | {"recorded_at": "TIMESTAMP"}
        table = bigquery.Table(
            f"{self.dataset}.{name}", [bigquery.SchemaField(*each, mode="REQUIRED") for each in types.items()]
        )
        table.description = _ABOUT[name]
        self.client.create_table(table, exists_ok=True, retry=self.retry, timeout=REQUEST_SECONDS)

    def _query(self, query: str, values: dict[str, str]) -> list[Any]:
        rows = select(self.client, query, _parameters(values), self.maximum_bytes_billed, self.retry)
        return [row.values() for row in rows]


def _parameters(values: dict[str, str]) -> list[bigquery.ScalarQueryParameter]:
    return [bigquery.ScalarQueryParameter(name, "STRING", value) for name, value in values.items()]
