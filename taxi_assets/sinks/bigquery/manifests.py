"""What is recorded of the months in BigQuery: a row appended after each load job.

BigQuery has no transaction over a load job and a row. So a record counts only while the month's partition has exactly as
many rows; if a process was killed between the two, the month is described by its number of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taxi_assets.core.manifest import Manifest
from taxi_assets.core.month import Month
from taxi_assets.core.table import Table
from taxi_assets.sinks.bigquery.client import REQUEST_SECONDS

if TYPE_CHECKING:
    from google.api_core.retry import Retry
    from google.cloud import bigquery

NAME = "month_manifests"
"""The table of the records, one for all tables of the dataset."""


@dataclass(frozen=True)
class Manifests:
    """The records of a dataset, `project.dataset`."""

    client: bigquery.Client
    dataset: str
    retry: Retry
    maximum_bytes_billed: int

    def record(self, table: Table, month: Month, manifest: Manifest) -> None:
        """Append the record of a month; the latest one of a month counts."""
        from google.api_core.exceptions import NotFound

        values = {"table": table.name, "month": str(month), "text": manifest.to_json()}
        query = f"INSERT INTO `{self.dataset}.{NAME}` VALUES (@table, @month, @text, CURRENT_TIMESTAMP())"
        try:
            self._query(query, values)
        except NotFound:
            self._create()
            self._query(query, values)

    def read(self, table: Table) -> dict[Month, Manifest]:
        """Read the records of a table's months, with three requests."""
        from google.api_core.exceptions import NotFound

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

    def _create(self) -> None:
        from google.cloud import bigquery

        types = {"table_name": "STRING", "month": "STRING", "manifest": "STRING", "recorded_at": "TIMESTAMP"}
        table = bigquery.Table(
            f"{self.dataset}.{NAME}", [bigquery.SchemaField(*each, mode="REQUIRED") for each in types.items()]
        )
        table.description = "What each loaded month is: rows, source, code, rules. The latest row of a month counts."
        self.client.create_table(table, exists_ok=True, retry=self.retry, timeout=REQUEST_SECONDS)

    def _query(self, query: str, values: dict[str, str]) -> list[Any]:
        from google.cloud import bigquery

        parameters = [bigquery.ScalarQueryParameter(name, "STRING", value) for name, value in values.items()]
        config = bigquery.QueryJobConfig(query_parameters=parameters, maximum_bytes_billed=self.maximum_bytes_billed)
        # without job_retry, which would repeat the request for minutes beyond `retry`
        job = self.client.query(query, config, retry=self.retry, job_retry=None, timeout=REQUEST_SECONDS)
        return [row.values() for row in job.result(retry=self.retry)]
