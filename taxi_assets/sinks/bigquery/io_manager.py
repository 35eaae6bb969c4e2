"""The cloud warehouse: a month loaded by BigQuery itself, from the object in Cloud Storage into the month's partition.

One load job with WRITE_TRUNCATE into `table$YYYYMM` replaces exactly that partition, atomically; no row passes through
this process. How Google's errors are read is in `services.bigquery_client`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import Column, TaxiKind, columns_of
from taxi_assets.lake.month_file import Facts
from taxi_assets.sinks.bigquery import client as bigquery_client
from taxi_assets.sinks.bigquery.client import REQUEST_SECONDS, explained
from taxi_assets.sinks.contract import MonthIOManager, Trips, Writing, sql_to_paste
from taxi_assets.sinks.table_schema import compare, require_canonical, surplus_schema
from taxi_assets.sinks.warehouse_month import WarehouseMonth

if TYPE_CHECKING:
    import pyarrow as pa
    from google.cloud import bigquery

SQL_TYPES = {
    "int16": "INTEGER",
    "int64": "INTEGER",
    "bool": "BOOLEAN",
    "double": "FLOAT",
    "string": "STRING",
    "timestamp[us]": "DATETIME",
    "date32[day]": "DATE",
}

_ARROW_FIRST = {"int64": "INTEGER", **SQL_TYPES}
"""With 64-bit integers before 16-bit ones, which are INTEGER, too: how a column that only the table has is read."""

CLUSTERING = ("pulocationid", "vendorid")
"""Within a month people ask by place first; blocks of one zone make such a query read a fraction of the month."""

_ATTEMPTS = 20
"""Failed load jobs of one run, month and object after which something other than bad luck is at work."""


class BigQueryIOManager(MonthIOManager):
    """Keeps a table a kind of taxi, `project.dataset.table`, partitioned by the month of the pickup."""

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
        description="Most bytes a query of ours may be billed. The largest month (16 million trips) is about 2.5 GiB "
        "read whole and 0.3 GiB for its facts; 4 GiB cost about 2.5 cents.",
    )
    retry_seconds: float = Field(
        120.0, gt=0, description="How long a request that fails for a passing reason is retried."
    )
    job_seconds: float = Field(1800.0, gt=0, description="How long to wait for a load job.")

    def replace(self, kind: TaxiKind, trips: Trips, writing: Writing) -> Mapping[str, Any]:
        """Load the object into the month's partition; the partition is the old one until the job has succeeded.

        Raises:
            TransientError: BigQuery is away or overloaded, or the job is still running after `job_seconds`.
            PermanentError: the trips are not in Cloud Storage, a row is outside the month, a column is not the table's,
                or the account may not load.
        """
        uri = getattr(trips, "uri", "")
        if not uri.startswith("gs://"):
            raise PermanentError(
                f"{trips.month}: BigQuery loads from Cloud Storage, and the month is at {uri or 'no object'}: set "
                "TAXI_BUCKET to gs://name and materialize gcs_parquet again."
            )
        require_canonical(kind, trips)
        with explained(f"{trips.month}: loading {uri} into {self._name(kind)}"), self._client() as client:
            table, schema = self._bring_up_table(client, kind, trips, writing.log)
            if not trips.rows:
                return self._empty(client, kind, trips.month)
            job = self._load(client, kind, table, schema, uri, trips, writing)
            self._finish(job, kind, trips, writing)
        writing.log(f"{trips.month}: {job.output_rows:,} rows in {self._name(kind)} by job {job.job_id}.")
        return {
            "dagster/table_name": self._name(kind),
            "dagster/partition_row_count": job.output_rows,
            "bytes": job.output_bytes,
            "sql": sql_to_paste(f"`{self._name(kind)}`", kind, trips.month),
            "link": self._console(f"p={table.project}&d={table.dataset_id}&t={table.table_id}&page=table"),
            "job_id": job.job_id,
            "job": self._console(f"j=bq:{job.location}:{job.job_id}&page=queryresults"),
            "slot_ms": int(job._properties.get("statistics", {}).get("totalSlotMs", 0)),  # no public name for it
        }

    def _console(self, place: str) -> dg.UrlMetadataValue:
        """A page of BigQuery's console."""
        return dg.MetadataValue.url(f"https://console.cloud.google.com/bigquery?project={self.project}&{place}")

    def read_facts(self, kind: TaxiKind, month: Month) -> Facts | None:
        """Ask the partition for the month's rows, total and span (two columns of it are read); None without a table."""
        from google.api_core.exceptions import NotFound

        query = (
            f"SELECT COUNT(*), IFNULL(SUM(total_amount), 0), MIN({kind.pickup}), MAX({kind.pickup}) "
            f"FROM `{self._name(kind)}` WHERE {_in_month(kind)}"
        )
        with explained(f"{month}: reading {self._name(kind)}"), self._client() as client:
            try:
                client.get_table(self._name(kind), retry=self._retry, timeout=REQUEST_SECONDS)
            except NotFound:
                return None
            ((rows, total, first, last),) = self._query(client, query, month).result(retry=self._retry)
        return Facts(rows, total, first and first.isoformat(sep=" "), last and last.isoformat(sep=" "), {})

    def select(self, kind: TaxiKind, month: Month, query: Callable[[str], str]) -> pa.Table:
        """The answer to a query of the month; `query` is given the table as SQL names it.

        Raises:
            TransientError, PermanentError: BigQuery is away, or refuses; there is no table, for one.
        """
        with explained(f"{month}: reading {self._name(kind)}"), self._client() as client:
            found = self._query(client, query(f"`{self._name(kind)}`"), month).result(retry=self._retry)
            return found.to_arrow(create_bqstorage_client=False)

    def where(self, kind: TaxiKind, month: Month) -> str:  # noqa: ARG002
        """The table."""
        return self._name(kind)

    def read(self, kind: TaxiKind, month: Month) -> Trips:
        """The month as a handle; a month without rows is empty, not missing.

        Raises:
            PermanentError: there is no table yet.
        """
        facts = self.read_facts(kind, month)
        if facts is None:
            raise PermanentError(f"{month}: there is no table {self._name(kind)}: materialize bq_table for this month.")

        def stream(columns: list[str]) -> Iterator[pa.RecordBatch]:
            query = f"SELECT {', '.join(columns)} FROM `{self._name(kind)}` WHERE {_in_month(kind)}"
            with explained(f"{month}: reading {self._name(kind)}"), self._client() as client:
                yield from self._query(client, query, month).result(retry=self._retry).to_arrow_iterable()

        def size() -> int:
            query = f"SELECT * FROM `{self._name(kind)}` WHERE {_in_month(kind)}"
            with explained(f"{month}: reading {self._name(kind)}"), self._client() as client:
                return self._query(client, query, month, dry_run=True).total_bytes_processed  # a dry run is free

        with explained(f"{month}: reading {self._name(kind)}"), self._client() as client:
            table = client.get_table(self._name(kind), retry=self._retry, timeout=REQUEST_SECONDS)
        return WarehouseMonth(month, facts, surplus_schema(kind, _types(table), _ARROW_FIRST), stream, size)

    def _name(self, kind: TaxiKind) -> str:
        return f"{self.project}.{self.dataset}.{kind.table}"

    def _partition(self, kind: TaxiKind, month: Month) -> str:
        return f"{self._name(kind)}${month.compact}"

    def _client(self) -> bigquery.Client:
        return bigquery_client.client(self.project, self.location, self.key_file, self.api_endpoint)

    @property
    def _retry(self) -> Any:
        return bigquery_client.retry(self.retry_seconds)

    @property
    def _retry_until_found(self) -> Any:
        """For a job that is known to exist: shortly after its insertion BigQuery may still say 404."""
        from google.api_core.exceptions import NotFound

        return self._retry.with_predicate(lambda e: isinstance(e, NotFound) or bigquery_client.is_transient(e))

    def _bring_up_table(
        self, client: bigquery.Client, kind: TaxiKind, trips: Trips, log: Callable[[str], None]
    ) -> tuple[bigquery.Table, list[bigquery.SchemaField]]:
        """The table, made with its dataset when missing, and the columns it has after the load.

        Raises:
            PermanentError: it is not one that the month can be loaded into.
        """
        from google.api_core.exceptions import NotFound

        columns = columns_of(kind, trips.schema)
        try:
            table = client.get_table(self._name(kind), retry=self._retry, timeout=REQUEST_SECONDS)
        except NotFound:
            table = self._create_table(client, kind, _schema(columns))
        partitioning = table.time_partitioning
        if partitioning is None or (partitioning.type_, partitioning.field) != ("MONTH", kind.pickup):
            raise PermanentError(
                f"{self._name(kind)} is not partitioned by the month of {kind.pickup}: rename it, or name another "
                "dataset in TAXI_DATASET, then materialize again."
            )
        difference = compare(
            kind,
            columns,
            _types(table),
            SQL_TYPES,
            table=self._name(kind),
            remedy="change the table's column yourself, or name another dataset in TAXI_DATASET, then materialize again.",
            not_null=[field.name for field in table.schema if field.mode == "REQUIRED"],
            convert=False,
        )
        if difference.surplus:
            surplus = ", ".join(difference.surplus)
            log(f"{trips.month}: {self._name(kind)} has {surplus}, which trips do not have; null in this month.")
        added = [column for column in columns if column.name in difference.added]
        return table, [*table.schema, *_schema(added)]  # all of them: a load that replaces must name every column

    def _create_table(
        self, client: bigquery.Client, kind: TaxiKind, schema: list[bigquery.SchemaField]
    ) -> bigquery.Table:
        """Make the table and, if that shows it to be missing, the dataset; another run may do so at the same time."""
        from google.api_core.exceptions import NotFound
        from google.cloud import bigquery

        table = bigquery.Table(self._name(kind), schema=schema)
        table.description = f"New York's {kind.name} taxi trips, one partition a month; published by the TLC."
        table.labels = {"kind": kind.name}
        table.time_partitioning = bigquery.TimePartitioning(bigquery.TimePartitioningType.MONTH, kind.pickup)
        table.clustering_fields = [name for name in CLUSTERING if name in kind.schema.names] or None
        options = {"exists_ok": True, "retry": self._retry, "timeout": REQUEST_SECONDS}
        try:
            return client.create_table(table, **options)
        except NotFound:
            dataset = bigquery.Dataset(f"{self.project}.{self.dataset}")
            dataset.location = self.location
            client.create_dataset(dataset, **options)
            return client.create_table(table, **options)

    def _load(
        self,
        client: bigquery.Client,
        kind: TaxiKind,
        table: bigquery.Table,
        schema: list[bigquery.SchemaField],
        uri: str,
        trips: Trips,
        writing: Writing,
    ) -> bigquery.LoadJob:
        """Start the month's load job, or join it where this run has started it before.

        The job's id says table, month, object generation, run and attempt: a step that is retried after a lost answer
        or a crash finds its own job; another run makes another job, so that loading an older object again does load. A
        job that failed, or whose month another run has replaced since, is passed over by the next attempt number.
        """
        from google.api_core.exceptions import Conflict
        from google.cloud import bigquery

        config = bigquery.LoadJobConfig(
            source_format=bigquery.SourceFormat.PARQUET,
            write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
            schema=schema,
            schema_update_options=[bigquery.SchemaUpdateOption.ALLOW_FIELD_ADDITION],
            time_partitioning=table.time_partitioning,
            clustering_fields=table.clustering_fields,
            labels={"kind": kind.name, "month": str(trips.month), "run_id": _label(writing.run_id)},
        )
        generation = getattr(trips, "generation", 0)
        stem = _job_id(self.dataset, kind.table, trips.month.compact, f"g{generation}", writing.run_id)
        for attempt in range(1, _ATTEMPTS + 1):
            job_id = f"{stem}-{attempt}"
            try:
                return client.load_table_from_uri(
                    uri,
                    self._partition(kind, trips.month),
                    job_id=job_id,
                    job_config=config,
                    retry=self._retry,
                    timeout=REQUEST_SECONDS,
                )
            except Conflict:
                job = client.get_job(job_id, retry=self._retry_until_found, timeout=REQUEST_SECONDS)
                assert isinstance(job, bigquery.LoadJob)  # the id is ours
                if job.state != "DONE" or (job.error_result is None and self._holds(kind, trips)):
                    writing.log(f"{trips.month}: joining load job {job_id}, which this run has started before.")
                    return job
        raise PermanentError(
            f"{trips.month}: {_ATTEMPTS} load jobs of this run failed for {self._name(kind)}; look at {job_id} in "
            "BigQuery's job history, then materialize again."
        )

    def _holds(self, kind: TaxiKind, trips: Trips) -> bool:
        """Whether the month is these trips, as far as counting and summing tell."""
        found = self.read_facts(kind, trips.month)
        return found is not None and not trips.facts.differences(found)

    def _finish(self, job: bigquery.LoadJob, kind: TaxiKind, trips: Trips, writing: Writing) -> None:
        import concurrent.futures

        try:
            job.result(retry=self._retry, timeout=self.job_seconds)
        except concurrent.futures.TimeoutError:
            raise TransientError(
                f"{trips.month}: load job {job.job_id} into {self._name(kind)} still runs after {self.job_seconds:.0f} "
                "s; a retry of the step joins it."
            ) from None
        if job.output_rows != trips.rows:
            writing.log(
                f"{trips.month}: {job.output_rows:,} rows were loaded where {trips.rows:,} were expected: the "
                "object was replaced meanwhile; the checks of this run may say so too."
            )

    def _empty(self, client: bigquery.Client, kind: TaxiKind, month: Month) -> Mapping[str, Any]:
        """A month without trips is a partition that is not there: deleting one is atomic and free."""
        client.delete_table(self._partition(kind, month), not_found_ok=True, retry=self._retry, timeout=REQUEST_SECONDS)
        return {"dagster/table_name": self._name(kind), "dagster/partition_row_count": 0}

    def _query(self, client: bigquery.Client, query: str, month: Month, *, dry_run: bool = False) -> bigquery.QueryJob:
        """Send a query pruned to the month's partition, with a limit on what it may cost."""
        from google.cloud import bigquery

        config = bigquery.QueryJobConfig(
            dry_run=dry_run,
            maximum_bytes_billed=self.maximum_bytes_billed,
            query_parameters=[
                bigquery.ScalarQueryParameter("start", "DATETIME", month.start),
                bigquery.ScalarQueryParameter("end", "DATETIME", month.end),
            ],
        )
        return client.query(query, config, retry=self._retry, job_retry=self._retry, timeout=REQUEST_SECONDS)


def _schema(columns: Iterable[Column]) -> list[bigquery.SchemaField]:
    """Columns, described. Without it BigQuery would guess the zone-less timestamps' type from the file."""
    from google.cloud import bigquery

    return [bigquery.SchemaField(c.name, SQL_TYPES[c.type], description=c.description) for c in columns]


def _types(table: bigquery.Table) -> dict[str, str]:
    return {field.name: _legacy(field.field_type) for field in table.schema}


def _legacy(type_: str) -> str:
    """The API's own spelling of a type that a table's maker may have written as in SQL."""
    return {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN"}.get(type_, type_)


def _in_month(kind: TaxiKind) -> str:
    return f"{kind.pickup} >= @start AND {kind.pickup} < @end"


def _job_id(*parts: str) -> str:
    """A job id of letters, digits, - and _ (BigQuery's rule)."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", "-".join(("taxi", *parts)))


def _label(text: str) -> str:
    """A label value: lower case, digits, - and _, at most 63 characters (BigQuery's rule)."""
    return re.sub(r"[^a-z0-9_-]", "-", text.lower())[:63]
