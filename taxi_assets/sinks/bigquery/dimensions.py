"""Dimensions in BigQuery: a table that one load job replaces; what is recorded of it is a row appended after the job.

BigQuery has no transaction over a load job and a row. So a record has the digest of its rows, and counts only while the
table has exactly these.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from dataclasses import dataclass

from google.api_core.retry import Retry
from google.cloud import bigquery

from taxi_assets.core.dimension import Dimension
from taxi_assets.core.errors import PermanentError
from taxi_assets.core.manifest import Manifest
from taxi_assets.core.table import Table
from taxi_assets.sinks.bigquery.client import REQUEST_SECONDS, explained, find_table, resubmitted, wait_for
from taxi_assets.sinks.bigquery.manifests import Manifests
from taxi_assets.sinks.bigquery.table import Tables, label
from taxi_assets.sinks.contract import WriteContext
from taxi_assets.sinks.dimensions import DimensionPlace

DIGEST = "rows_sha256"
"""In the `Manifest.extra` that is recorded: the digest of the rows."""


@dataclass(frozen=True)
class BigQueryDimensions(DimensionPlace):
    """Keeps a dimension as a table of a dataset, `project.dataset`; both are created when missing."""

    dataset: str
    location: str
    connect: Callable[[], bigquery.Client]
    retry: Retry
    maximum_bytes_billed: int
    job_seconds: float
    resubmit_seconds: float

    def where(self, table: Table) -> str:
        """The table."""
        return f"{self.dataset}.{table.name}"

    def replace(self, table: Table, dimension: Dimension, write: WriteContext) -> None:
        """Load the rows with WRITE_TRUNCATE: the table has the old ones until the job has succeeded."""
        import pyarrow.parquet as pq

        recorded = dimension.manifest.loaded_by(write.run_id)
        recorded = dataclasses.replace(recorded, extra={**recorded.extra, DIGEST: dimension.digest()})
        parquet = io.BytesIO()
        pq.write_table(dimension.rows, parquet)
        with explained(f"{table.name}: loading it into {self.where(table)}"), self.connect() as client:
            manifests = self._manifests(client)
            tables = Tables(client, self.dataset, self.location, self.retry)
            target, schema = tables.prepare(table, table, table.name, write.log)
            if target.num_rows and not _is_ours(target, manifests.read_dimension(table)):
                raise PermanentError(
                    f"{self.where(table)} exists and was not loaded by taxi_assets: rename it, or name another dataset in "
                    "TAXI_DATASET."
                )
            config = bigquery.LoadJobConfig(
                source_format=bigquery.SourceFormat.PARQUET,
                write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
                schema=schema,
                labels={"kind": label(table.object_kind), "run_id": label(write.run_id)},
            )
            size = parquet.tell()

            def load() -> None:
                job = client.load_table_from_file(
                    parquet, self.where(table), rewind=True, size=size, job_config=config, timeout=REQUEST_SECONDS
                )
                wait_for(job, table.name, self.where(table), "run it again", self.retry, self.job_seconds)

            resubmitted(load, table.name, self.resubmit_seconds)
            manifests.record_dimension(table, recorded)

    def read(self, table: Table) -> Dimension | None:
        """Read the rows and what is recorded of them: nothing, if a writer was killed before it recorded them."""
        with explained(f"{table.name}: reading {self.where(table)}"), self.connect() as client:
            target = find_table(client, self.where(table), self.retry)
            if target is None:
                return None
            recorded = self._manifests(client).read_dimension(table)
            fields = [field for field in target.schema if field.name in table.names]
            if not target.num_rows or not fields or not _is_ours(target, recorded):
                return None
            found = client.list_rows(target, fields, retry=self.retry, timeout=REQUEST_SECONDS)
            rows = Dimension.of(table, found.to_arrow(create_bqstorage_client=False), {})
        same = recorded is not None and recorded.extra.get(DIGEST) == rows.digest()
        return dataclasses.replace(rows, manifest=recorded) if recorded and same else rows

    def _manifests(self, client: bigquery.Client) -> Manifests:
        return Manifests(client, self.dataset, self.retry, self.maximum_bytes_billed, self.resubmit_seconds)


def _is_ours(target: bigquery.Table, recorded: Manifest | None) -> bool:
    """Whether this package made the table, by the label that it gave it, or loaded it."""
    return bool(target.labels.get("kind")) or recorded is not None
