"""local-bigquery with partition decorators, `table$YYYY[MM[DD[HH]]]`: runs in the emulator's own environment.

local-bigquery 0.4.0 treats `table$202101` as the name of another table. This module adds, from BigQuery's documentation of
partition decorators and of jobs.insert:

* a load into one replaces (WRITE_TRUNCATE), extends (WRITE_APPEND) or fills (WRITE_EMPTY) that partition, in one
  transaction,
* it fails, with the partition unchanged, if a row belongs to another partition, or if a column is new without
  ALLOW_FIELD_ADDITION, has another type, or the job's partitioning or clustering is not the table's,
* deleting one (tables.delete) empties it,
* a nullable column of the job's schema that a Parquet file lacks is null,
* a query with the request id of an earlier one (jobs.query) has that one's answer.

A job that was running when the server was killed is failed with `backendError` at the next start. Changes to the
catalog are serialized, because DuckLake fails some concurrent ones, which BigQuery does not.

A test with this server therefore checks the client against the documentation, not against Google.
"""

from __future__ import annotations

import argparse
import functools
import pathlib
import re
import sys
import threading

from local_bigquery import cli
from local_bigquery.catalog import datasets, metadata, names, tables
from local_bigquery.engine import database, types
from local_bigquery.errors import BigQueryError, not_found
from local_bigquery.jobs import load, runner, store
from local_bigquery.models import Job, Table
from local_bigquery.settings import settings

DECORATED = re.compile(r"(?P<table>.+)\$(?P<partition>\d{4}(?:\d\d){0,3})")
GRANULARITY = {4: ("YEAR", "%Y"), 6: ("MONTH", "%Y%m"), 8: ("DAY", "%Y%m%d"), 10: ("HOUR", "%Y%m%d%H")}
"""By the number of digits: BigQuery's name of it and the digits' format."""

whole_table = {name: getattr(tables, name) for name in ("write", "columns", "delete")}
one_at_a_time = threading.RLock()


class Partition:
    """A partition named by a decorator, of a table that exists and is partitioned that way."""

    def __init__(self, project: str, dataset: str, decorated: re.Match[str]) -> None:
        self.reference = (project, dataset, decorated["table"])
        self.id = decorated["partition"]
        self.label = f"{names.label(*self.reference)}${self.id}"
        self.unit, self.format = GRANULARITY[len(self.id)]
        if not tables.exists(*self.reference):
            raise not_found("Table", names.label(*self.reference))
        self.stored = metadata.load(Table, *self.reference)
        partitioning = self.stored and self.stored.timePartitioning
        if not partitioning or not partitioning.field or (partitioning.type or "DAY") != self.unit:
            raise BigQueryError("invalid", f"{self.label}: the table is not partitioned by {self.unit} of a column")
        self.column = database.quote(partitioning.field)
        self.table = tables.name(*self.reference)
        start = f"strptime('{self.id}', '{self.format}')"
        self.rows = f"{self.column} >= {start} AND {self.column} < {start} + INTERVAL 1 {self.unit}"

    def check_layout(self, config) -> None:
        """Check that the job's partitioning and clustering, if set, match the table's."""
        for name in ("timePartitioning", "clustering"):
            wanted, actual = getattr(config, name, None), getattr(self.stored, name, None)
            if wanted and (not actual or wanted.dump() != actual.dump()):
                raise BigQueryError("invalid", f"Incompatible table partitioning specification: {name} of {self.label}")

    def check_columns(self, relation) -> None:
        """No column of the new rows has another type than the table's."""
        existing = {field.name.casefold(): field for field in whole_table["columns"](*self.reference)}
        for name, type_ in zip(relation.columns, relation.types, strict=True):
            given, field = types.field(name, type_, False), existing.get(name.casefold())
            if field and field.type != given.type:
                raise BigQueryError(
                    "invalid",
                    f"Provided Schema does not match Table {names.label(*self.reference)}. Field {name} has changed "
                    f"type from {field.type} to {given.type}",
                )

    def check_rows(self, cursor, query: str, params) -> None:
        """Every new row belongs here."""
        [(strays,)] = cursor.execute(
            f"SELECT count(*) FROM ({query}) WHERE ({self.rows}) IS NOT TRUE", params
        ).fetchall()
        if strays:
            raise BigQueryError(
                "invalid", f"Some rows belong to different partitions rather than destination partition {self.id}"
            )

    def replace(self, cursor, query: str, params, disposition: str) -> None:
        """Put the rows in, in one transaction."""
        cursor.execute("BEGIN TRANSACTION")
        try:
            if disposition == "WRITE_EMPTY":
                [(present,)] = cursor.execute(f"SELECT count(*) FROM {self.table} WHERE {self.rows}").fetchall()
                if present:
                    raise BigQueryError("duplicate", f"Already Exists: Table {self.label}")
            if disposition == "WRITE_TRUNCATE":
                cursor.execute(f"DELETE FROM {self.table} WHERE {self.rows}")
            cursor.execute(f"INSERT INTO {self.table} BY NAME {query}", params)
            cursor.execute("COMMIT")
        except BaseException:
            cursor.execute("ROLLBACK")
            raise


def write(
    cur, query, params, reference, config, default="WRITE_EMPTY", prefix="Invalid schema update. ", isolated=False
):
    """Instead of tables.write: what goes to a decorated name goes into the partition."""
    decorated = DECORATED.fullmatch(reference[2])
    if not decorated:
        return whole_table["write"](cur, query, params, reference, config, default, prefix, isolated)
    partition = Partition(*reference[:2], decorated)
    relation = cur.sql(query, params=params)
    partition.check_layout(config)
    partition.check_columns(relation)
    partition.check_rows(cur, query, params)
    with one_at_a_time:
        tables.evolve(cur, partition.reference, relation, getattr(config, "schemaUpdateOptions", None), prefix)
        partition.replace(cur, query, params, config.writeDisposition or default)
    return False


def columns(project: str, dataset: str, table: str):
    """Instead of tables.columns: a partition has its table's."""
    return whole_table["columns"](project, dataset, table.split("$")[0])


def delete(project: str, dataset: str, table: str):
    """Instead of tables.delete: deleting a partition leaves the table."""
    decorated = DECORATED.fullmatch(table)
    if not decorated:
        return whole_table["delete"](project, dataset, table)
    partition = Partition(project, dataset, decorated)
    with one_at_a_time:
        return database.execute(f"DELETE FROM {partition.table} WHERE {partition.rows}")


def projection(config, fields, columns):
    """Instead of load._projection: without the nullable columns that a Parquet file lacks, which are null."""
    present = {name.casefold() for name in columns}
    parquet = config.sourceFormat == "PARQUET"
    missing = [f for f in fields if parquet and f.mode != "REQUIRED" and f.name.casefold() not in present]
    casts, bad = whole_projection(config, [field for field in fields if field not in missing], columns)
    return ", ".join(
        [casts, *(f"CAST(NULL AS {types.duckdb_type(f)}) AS {database.quote(f.name)}" for f in missing)]
    ), bad


def submit(project: str, job_id: str, configuration, *more):
    """Instead of runner.submit: a query that is sent again under its request id is not run again."""
    if configuration.query and (first := store.load(project, job_id)):
        return first
    return whole_submit(project, job_id, configuration, *more)


def alone(function):
    """The function, never while another one is at work."""

    @functools.wraps(function)
    def waiting(*arguments, **named):
        with one_at_a_time:
            return function(*arguments, **named)

    return waiting


tables.write, tables.columns, tables.delete = write, columns, delete
whole_projection, load._projection = load._projection, projection
whole_submit, runner.submit = runner.submit, submit
tables.create, datasets.create = alone(tables.create), alone(datasets.create)


def fail_interrupted_jobs() -> None:
    """No job is running when the server starts."""
    for (resource,) in database.fetch("SELECT resource FROM emulator.jobs WHERE state <> 'DONE'"):
        job = Job.model_validate_json(resource)
        store.save(runner._done(job, job.statistics, BigQueryError("backendError", "The server was interrupted.")))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--data-dir", type=pathlib.Path, required=True)
    settings.data_dir = parser.parse_known_args()[0].data_dir
    sys.modules["pandas"] = None  # DuckDB looks for it with every query; it is not installed
    database.execute("SET threads = 1")  # queries are small: a second thread costs more than it does
    fail_interrupted_jobs()
    cli.main(sys.argv[1:])
