"""The cloud warehouse: a month loaded by BigQuery itself, from the object in Cloud Storage into the month's partition.

One load job with WRITE_TRUNCATE into `table$YYYYMM` replaces exactly that partition, atomically; no row passes through
this process. Google's errors are translated in `client`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import dagster as dg
from google.api_core.exceptions import Conflict, NotFound
from google.cloud import bigquery
from google.cloud.bigquery.table import RowIterator
from pydantic import Field

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.manifest import Manifest, aggregates, from_row
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.core.scratch import Scratch
from taxi_assets.core.staging import stage
from taxi_assets.core.table import Table
from taxi_assets.sinks.bigquery import client as bigquery_client
from taxi_assets.sinks.bigquery.client import REQUEST_SECONDS, explained
from taxi_assets.sinks.bigquery.dimensions import BigQueryDimensions
from taxi_assets.sinks.bigquery.manifests import Manifests
from taxi_assets.sinks.bigquery.table import SQL_TYPES, WIDEST_FIRST, Tables, column_types, label
from taxi_assets.sinks.bigquery.views import BigQueryViews
from taxi_assets.sinks.columns import read_schema, require_columns
from taxi_assets.sinks.contract import ROW_COUNT, ConfigurableSink, WriteContext, example_query

if TYPE_CHECKING:
    import pyarrow as pa
_ATTEMPTS = 20
"""Failed load jobs of one run, month and object after which something other than bad luck is at work."""


class BigQueryIOManager(ConfigurableSink):
    """Keeps tables, `project.dataset.table`, partitioned by the month of the table's time."""

    kind: ClassVar[str] = "bigquery"

    project: str = Field(description="Google Cloud project of the dataset and the jobs.")
    dataset: str = Field("ny_taxi", description="Dataset of the tables; made when missing.")
    location: str = Field("US", description="Location of the dataset; the bucket must be in it.")
    key_file: str | None = Field(None, description="Service account key; unset: Application Default Credentials.")
    api_endpoint: str | None = Field(
        None, description="An emulator's address, http://host:port; used without credentials."
    )
    maximum_bytes_billed: int = Field(
        4 << 30,
        gt=0,
        description="Maximum number of bytes that a query is billed. The largest month (16 million trips) is about 2.5 GiB "
        "read whole and 0.3 GiB for its facts; 4 GiB cost about 2.5 cents.",
    )
    retry_seconds: float = Field(
        120.0, gt=0, description="Seconds for which a request is retried after transient errors."
    )
    job_seconds: float = Field(1800.0, gt=0, description="How long to wait for a load job.")
    resubmit_seconds: float = Field(
        60.0, gt=0, description="Longest wait before a job is submitted again that failed for the rate of its table."
    )

    def replace(self, table: Table, month_file: MonthFile, write: WriteContext) -> Mapping[str, Any]:
        """Load the object into the month's partition; the partition is the old one until the job has succeeded.

        Raises:
            TransientError: BigQuery is unavailable or overloaded, or the job is still running after `job_seconds`.
            PermanentError: the trips are not in Cloud Storage, a row is outside the month, a column is not the table's,
                or the account may not load.
        """
        month, uri = month_file.month, month_file.uri
        if not uri.startswith("gs://"):
            raise PermanentError(
                f"{month}: BigQuery loads from Cloud Storage, and the month is at {uri or 'no object'}: set TAXI_BUCKET to "
                "gs://name and materialize gcs_parquet again."
            )
        loaded = require_columns(table, month_file, SQL_TYPES)
        with explained(f"{month}: loading {uri} into {self._name(table)}"), self._client() as client:
            target, schema = self._tables(client).prepare(table, loaded, month, write.log)
            if not month_file.rows:
                metadata = self._empty(client, table, month)
                self._manifests(client).record(table, month, month_file.manifest.loaded_by(write.run_id))
                return metadata

            def load() -> bigquery.LoadJob:
                job = self._load(client, table, target, schema, month_file, write)
                self._finish(job, table, month_file, write)
                return job

            job = bigquery_client.resubmitted(load, str(month), self.resubmit_seconds)
            self._manifests(client).record(table, month, month_file.manifest.loaded_by(write.run_id))
        write.log(f"{month}: {job.output_rows:,} rows in {self._name(table)} by job {job.job_id}.")
        return {
            "dagster/table_name": self._name(table),
            ROW_COUNT: job.output_rows,
            "bytes": job.output_bytes,
            "sql": example_query(f"`{self._name(table)}`", table, month),
            "link": self._console(f"p={target.project}&d={target.dataset_id}&t={target.table_id}&page=table"),
            "job_id": job.job_id,
            "job": self._console(f"j=bq:{job.location}:{job.job_id}&page=queryresults"),
            "slot_ms": int(job._properties.get("statistics", {}).get("totalSlotMs", 0)),  # no public name for it
        }

    def _console(self, place: str) -> dg.UrlMetadataValue:
        """A page of BigQuery's console."""
        return dg.MetadataValue.url(f"https://console.cloud.google.com/bigquery?project={self.project}&{place}")

    def measure(self, table: Table, month: Month) -> Manifest | None:
        """Query the partition for the month's rows, sums and time span (only these columns are read); None without a table."""
        query = f"SELECT {aggregates(table, '`')} FROM `{self._name(table)}` WHERE {_in_month(table)}"
        with explained(f"{month}: reading {self._name(table)}"), self._client() as client:
            try:
                (row,) = self._query(client, query, table, month)
            except NotFound:
                if bigquery_client.find_table(client, self._name(table), self._retry):
                    raise  # in another location than the query
                return None
        return from_row(table, row.values())

    def manifests(self, table: Table) -> dict[Month, Manifest]:
        """See `MonthSink.manifests`. A record counts while its partition has as many rows; without one, a month has rows only."""
        with explained(f"reading what is recorded of {self._name(table)}"), self._client() as client:
            return self._manifests(client).read(table)

    @property
    def views(self) -> BigQueryViews:
        """The database as a place of views."""
        return BigQueryViews(f"{self.project}.{self.dataset}", self._client, self._retry)

    @property
    def dimensions(self) -> BigQueryDimensions:
        """The dataset as a place of dimensions."""
        dataset, billed = f"{self.project}.{self.dataset}", self.maximum_bytes_billed
        times = self.job_seconds, self.resubmit_seconds
        return BigQueryDimensions(dataset, self.location, self._client, self._retry, billed, *times)

    def _tables(self, client: bigquery.Client) -> Tables:
        return Tables(client, f"{self.project}.{self.dataset}", self.location, self._retry)

    def _manifests(self, client: bigquery.Client) -> Manifests:
        billed, wait = self.maximum_bytes_billed, self.resubmit_seconds
        return Manifests(client, f"{self.project}.{self.dataset}", self._retry, billed, wait)

    def select(self, table: Table, month: Month, query: Callable[[str], str]) -> pa.Table:
        """The answer to a query of the month; `query` gets the table's name as SQL quotes it.

        Raises:
            TransientError, PermanentError: BigQuery is away, or refuses; there is no table, for one.
        """
        with explained(f"{month}: reading {self._name(table)}"), self._client() as client:
            found = self._query(client, query(f"`{self._name(table)}`"), table, month)
            return found.to_arrow(create_bqstorage_client=False)

    def where(self, table: Table, month: Month) -> str:  # noqa: ARG002
        """The table."""
        return self._name(table)

    def read(self, table: Table, month: Month) -> MonthFile:
        """The month as a handle; its rows are downloaded when they are first read. Without rows it is empty, not missing.

        Raises:
            PermanentError: there is no table yet.
        """
        manifest = self.measure(table, month)
        if manifest is None:
            raise PermanentError(
                f"{month}: there is no table {self._name(table)}: materialize its asset for this month."
            )
        scratch = Scratch(self.staging, "bigquery")

        def fetch() -> Path:
            with explained(f"{month}: reading {self._name(table)}"), self._client() as client:
                existing = column_types(client.get_table(self._name(table), retry=self._retry, timeout=REQUEST_SECONDS))
                schema = read_schema(table, existing, WIDEST_FIRST)
                columns = ", ".join(f"`{name}`" for name in schema.names)
                query = f"SELECT {columns} FROM `{self._name(table)}` WHERE {_in_month(table)}"
                rows = self._query(client, query, table, month)
                with stage(scratch.folder, month, schema, table, "month", "lz4") as writer:
                    for batch in rows.to_arrow_iterable():
                        writer.write(batch.select(schema.names).cast(schema))
                    return writer.close().path

        return MonthFile(fetch, month, manifest=manifest)

    def _name(self, table: Table) -> str:
        return f"{self.project}.{self.dataset}.{table.name}"

    def _partition(self, table: Table, month: Month) -> str:
        return f"{self._name(table)}${month.compact}"

    def _client(self) -> bigquery.Client:
        return bigquery_client.client(self.project, self.location, self.key_file, self.api_endpoint)

    @property
    def _retry(self) -> Any:
        return bigquery_client.retry(self.retry_seconds)

    @property
    def _retry_until_found(self) -> Any:
        """For a job that exists: shortly after its insertion BigQuery may still return 404."""
        return self._retry.with_predicate(lambda e: isinstance(e, NotFound) or bigquery_client.is_transient(e))

    def _load(
        self,
        client: bigquery.Client,
        table: Table,
        target: bigquery.Table,
        schema: list[bigquery.SchemaField],
        month_file: MonthFile,
        write: WriteContext,
    ) -> bigquery.LoadJob:
        """Start the month's load job, or join it where this run has started it before.

        The job's id contains table, month, object generation, run and attempt. A step that is retried after a lost response
        or a crash finds its own job; another run creates another job, so that loading an older object again works. If a
        job failed, or another run has replaced its month since, the next attempt number is used.
        """
        config = bigquery.LoadJobConfig(
            source_format=bigquery.SourceFormat.PARQUET,
            write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
            schema=schema,
            schema_update_options=[bigquery.SchemaUpdateOption.ALLOW_FIELD_ADDITION],
            time_partitioning=target.time_partitioning,
            clustering_fields=target.clustering_fields,
            labels={"kind": label(table.object_kind), "month": str(month_file.month), "run_id": label(write.run_id)},
        )
        month = month_file.month
        stem = _job_id(self.dataset, table.name, month.compact, f"g{month_file.generation}", write.run_id)
        for attempt in range(1, _ATTEMPTS + 1):
            job_id = f"{stem}-{attempt}"
            try:
                return client.load_table_from_uri(
                    month_file.uri,
                    self._partition(table, month),
                    job_id=job_id,
                    job_config=config,
                    retry=self._retry,
                    timeout=REQUEST_SECONDS,
                )
            except Conflict:
                job = client.get_job(job_id, retry=self._retry_until_found, timeout=REQUEST_SECONDS)
                assert isinstance(job, bigquery.LoadJob)  # the id is ours
                if job.state != "DONE" or (job.error_result is None and self._holds(table, month_file)):
                    write.log(f"{month_file.month}: joining load job {job_id}, which this run has started before.")
                    return job
        raise PermanentError(
            f"{month_file.month}: {_ATTEMPTS} load jobs of this run failed for {self._name(table)}; look at {job_id} in "
            "BigQuery's job history, then materialize again."
        )

    def _holds(self, table: Table, month_file: MonthFile) -> bool:
        """Whether the month has these rows, as far as counts and sums show."""
        found = self.measure(table, month_file.month)
        return found is not None and not month_file.manifest.differences(found)

    def _finish(self, job: bigquery.LoadJob, table: Table, month_file: MonthFile, write: WriteContext) -> None:
        month, target, joins = str(month_file.month), self._name(table), "a retry of the step joins it"
        bigquery_client.wait_for(job, month, target, joins, self._retry, self.job_seconds)
        if job.output_rows != month_file.rows:
            write.log(
                f"{month_file.month}: {job.output_rows:,} rows were loaded where {month_file.rows:,} were expected: the "
                "object was replaced meanwhile; the checks of this run may say so too."
            )

    def _empty(self, client: bigquery.Client, table: Table, month: Month) -> Mapping[str, Any]:
        """A month without trips is a partition that is not there: deleting one is atomic and free."""
        client.delete_table(
            self._partition(table, month), not_found_ok=True, retry=self._retry, timeout=REQUEST_SECONDS
        )
        return {"dagster/table_name": self._name(table), ROW_COUNT: 0}

    def _query(self, client: bigquery.Client, query: str, table: Table, month: Month) -> RowIterator:
        """Send a query pruned to the month's partition, with a limit on its cost."""
        types = {column.name: SQL_TYPES[column.type] for column in table.columns}
        type_ = types[table.time or ""]
        edges = {"start": month.start, "end": month.end}
        parameters = [
            bigquery.ScalarQueryParameter(name, type_, edge.date() if type_ == "DATE" else edge)
            for name, edge in edges.items()
        ]
        return bigquery_client.select(client, query, parameters, self.maximum_bytes_billed, self._retry)


def _in_month(table: Table) -> str:
    return f"`{table.time}` >= @start AND `{table.time}` < @end"


def _job_id(*parts: str) -> str:
    """A job id of letters, digits, - and _ (BigQuery's rule)."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", "-".join(("taxi", *parts)))
