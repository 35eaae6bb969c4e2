# ruff: noqa: F401, F811 - pytest finds fixtures by their imported names
"""The BigQuery sink over the wire, against an emulator: the table it makes, what it loads, what it refuses.

The emulator's partition decorators are our own reading of the documentation (`emulators.bigquery_server`); what is sent
to Google is looked at in `test_bigquery_jobs`. What every sink promises is in the contract suite.
"""

from __future__ import annotations

import dataclasses

import pyarrow as pa
import pytest
from google.cloud import bigquery as google

from taxi_assets.core.errors import PermanentError
from taxi_assets.datasets.schema import GREEN, YELLOW, Column
from taxi_assets.sinks.parquet_object.io_manager import ParquetObjectIOManager
from taxi_assets_tests.bigquery_fixtures import BUCKET, PROJECT, bigquery_sink
from taxi_assets_tests.bigquery_sink_fixtures import (
    FEBRUARY,
    JANUARY,
    TIP,
    a_run,
    at_uri,
    client,
    loads,
    made,
    server,
    sink,
    wire,
)
from taxi_assets_tests.months import month_of_trips, one_pickup_outside, same_trips
from taxi_assets_tests.sink_fixtures import holds, with_columns


def test_a_first_load_makes_dataset_and_partitioned_clustered_described_table_and_reads_back_the_same(sink, made):
    assert sink.measure(YELLOW.table, JANUARY) is None
    trips = made()
    metadata = sink.replace(YELLOW.table, trips, a_run())
    name = f"{PROJECT}.{sink.dataset}.yellow_cab_data"
    assert metadata["dagster/table_name"] == name
    assert metadata["dagster/partition_row_count"] == 500
    assert metadata["job_id"] in metadata["job"].value
    assert f"&p={PROJECT}&d={sink.dataset}&t=yellow_cab_data&page=table" in metadata["link"].value
    assert holds(sink, trips)
    assert same_trips(sink.read(YELLOW.table, JANUARY), trips)
    table = client(sink).get_table(name)
    assert (table.time_partitioning.type_, table.time_partitioning.field) == ("MONTH", "tpep_pickup_datetime")
    assert table.clustering_fields == ["pulocationid", "vendorid"]
    assert [(f.name, f.description) for f in table.schema] == [(c.name, c.description) for c in YELLOW.columns]
    assert {f.field_type for f in table.schema if "datetime" in f.name} == {"DATETIME"}
    assert table.labels == {"kind": "yellow"}


def test_a_chosen_column_is_read_alone_and_in_batches(sink, made):
    trips = made()
    sink.replace(YELLOW.table, trips, a_run())
    batches = list(sink.read(YELLOW.table, JANUARY).batches(["vendorid"], rows=100))
    assert {batch.schema.field(0).type for batch in batches} == {pa.int16()}
    assert max(batch.num_rows for batch in batches) <= 100
    assert sum(batch.num_rows for batch in batches) == 500


def test_the_object_that_gcs_parquet_wrote_is_loaded_and_named_in_the_job(sink, server, tmp_path, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.storage)
    bucket = ParquetObjectIOManager(location=f"gs://{BUCKET}", template=f"{sink.dataset}/{{month}}.parquet")
    for seed in range(2):
        trips = month_of_trips(tmp_path, "2021-01", 300 + seed, seed)
        bucket.replace(YELLOW.table, trips, a_run())
        written = bucket.read(YELLOW.table, JANUARY)
        job = sink.replace(YELLOW.table, written, a_run())["job_id"]
        assert f"-g{written.generation}-" in job
        assert same_trips(sink.read(YELLOW.table, JANUARY), trips)


@pytest.mark.parametrize("uri", ["", "/tmp/bucket/yellow.parquet"])
def test_trips_that_are_not_in_cloud_storage_are_refused_with_the_setting_to_change(sink, made, uri):
    with pytest.raises(PermanentError, match=r"2021-01: BigQuery loads from Cloud Storage.* set TAXI_BUCKET"):
        sink.replace(YELLOW.table, at_uri(made(), uri), a_run())


def test_a_row_outside_the_month_refuses_the_load_whole_naming_month_table_and_object(sink, made):
    old = made()
    sink.replace(YELLOW.table, old, a_run())
    new = made(rows=300, seed=1, change=one_pickup_outside)
    with pytest.raises(PermanentError) as caught:
        sink.replace(YELLOW.table, new, a_run())
    said = str(caught.value)
    assert said.startswith(
        f"2021-01: loading {new.uri} into {PROJECT}.{sink.dataset}.yellow_cab_data: BigQuery refused"
    )
    assert "different partitions" in said
    assert "materialize clean_trips and gcs_parquet again" in said
    assert same_trips(sink.read(YELLOW.table, JANUARY), old)


def test_an_object_that_is_gone_is_a_permanent_error_and_leaves_the_old_month(sink, made):
    old = made()
    sink.replace(YELLOW.table, old, a_run())
    gone = at_uri(made(seed=1), "gs://taxi-test-bucket/nowhere.parquet", 7)
    with pytest.raises(PermanentError, match=r"2021-01: loading gs://taxi-test-bucket/nowhere.parquet"):
        sink.replace(YELLOW.table, gone, a_run())
    assert same_trips(sink.read(YELLOW.table, JANUARY), old)


def test_a_changed_column_is_refused_by_name_before_any_job(sink, made, wire):
    old = made()
    sink.replace(YELLOW.table, old, a_run())
    kind = with_columns(*YELLOW.columns[:-1], Column("dropoff_latitude", "string", ""))
    watched = bigquery_sink(wire.endpoint, sink.dataset)
    with pytest.raises(PermanentError, match="has column dropoff_latitude as FLOAT, trips have it as STRING"):
        watched.replace(kind.table, made(seed=1, kind=kind), a_run())
    assert not loads(wire)
    assert holds(sink, old)


def test_a_table_that_is_not_partitioned_by_month_is_refused(sink, made):
    with client(sink) as asking:
        asking.create_dataset(sink.dataset)
        asking.create_table(google.Table(f"{PROJECT}.{sink.dataset}.yellow_cab_data"))
    with pytest.raises(PermanentError, match="is not partitioned by the month of tpep_pickup_datetime"):
        sink.replace(YELLOW.table, made(), a_run())


def test_a_table_that_its_owner_clusters_otherwise_keeps_that(sink, made):
    table = google.Table(f"{PROJECT}.{sink.dataset}.yellow_cab_data", [google.SchemaField("vendorid", "INTEGER")])
    table.schema = [*table.schema, google.SchemaField("tpep_pickup_datetime", "DATETIME")]
    table.time_partitioning = google.TimePartitioning("MONTH", "tpep_pickup_datetime")
    table.clustering_fields = ["vendorid"]
    with client(sink) as asking:
        asking.create_dataset(sink.dataset)
        asking.create_table(table)
        trips = made()
        sink.replace(YELLOW.table, trips, a_run())
        assert asking.get_table(table).clustering_fields == ["vendorid"]
    assert holds(sink, trips)
