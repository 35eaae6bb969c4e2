"""The BigQuery sink over the wire: against an emulator, and, where that proves nothing about Google, at the request.

The emulator's partition decorators are our own reading of the documentation (`emulators.bigquery_server`), so tests
whose names say "request" look at what is sent instead. What every sink promises is in the contract suite.
"""

from __future__ import annotations

import dataclasses
import json
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery as google

from taxi_assets.errors import PermanentError, TransientError
from taxi_assets.io_managers.base import Writing
from taxi_assets.io_managers.bigquery import BigQueryIOManager
from taxi_assets.io_managers.parquet_object import ParquetObjectIOManager
from taxi_assets.services import bigquery_client
from taxi_assets.trips.files import TripFile
from taxi_assets.trips.month import Month
from taxi_assets.trips.schema import GREEN, YELLOW, Column, TaxiKind
from taxi_assets_tests.bigquery_fixtures import (
    BUCKET,
    PROJECT,
    BigQueryServer,
    Request,
    TripObject,
    Wire,
    bigquery,  # noqa: F401
    bigquery_sink,
    wire_to,
)
from taxi_assets_tests.months import month_of_trips, one_pickup_outside, same_facts, same_trips

JANUARY, FEBRUARY = Month(2021, 1), Month(2021, 2)
TIP = Column("tip_jar", pa.float64(), "Coins, US dollars.")


@pytest.fixture
def server(bigquery: BigQueryServer) -> BigQueryServer:  # noqa: F811
    return bigquery


@pytest.fixture
def sink(server: BigQueryServer) -> BigQueryIOManager:
    return bigquery_sink(server.endpoint)


@pytest.fixture
def wire(server: BigQueryServer) -> Iterator[Wire]:
    with wire_to(server.endpoint) as wire:
        yield wire


@pytest.fixture
def made(server: BigQueryServer, tmp_path: Path) -> Callable[..., TripObject]:
    """A month in the bucket."""

    def make(month: str = "2021-01", rows: int = 500, seed: int = 0, **options) -> TripObject:
        return server.upload(month_of_trips(tmp_path / "made", month, rows, seed, **options))

    return make


def a_run(run_id: str | None = None, log: Callable[[str], None] = lambda _: None) -> Writing:
    return Writing(run_id or str(uuid.uuid4()), "token", log, {})


def holds(sink: BigQueryIOManager, trips: TripFile) -> bool:
    return same_facts(sink.read_facts(YELLOW, trips.month), trips.facts)


def client(sink: BigQueryIOManager) -> google.Client:
    options = {"api_endpoint": sink.api_endpoint}
    return google.Client(PROJECT, AnonymousCredentials(), location="US", client_options=options)


def with_columns(*columns: Column) -> TaxiKind:
    return dataclasses.replace(YELLOW, columns=columns)


def is_load(request: Request) -> bool:
    return request.method == "POST" and "load" in request.body.get("configuration", {})


def loads(wire: Wire) -> list[Request]:
    return [request for request in wire.requests if is_load(request)]


def first(times: int, trouble: object, of: Callable[[Request], bool] = lambda _: True) -> Callable[[Request], object]:
    """Trouble for the first `times` requests that `of` picks."""
    left = iter(range(times))
    return lambda request: trouble if of(request) and next(left, None) is not None else None


# What a load does.


def test_a_first_load_makes_dataset_and_partitioned_clustered_described_table_and_reads_back_the_same(sink, made):
    assert sink.read_facts(YELLOW, JANUARY) is None
    trips = made()
    metadata = sink.replace(YELLOW, trips, a_run())
    name = f"{PROJECT}.{sink.dataset}.yellow_cab_data"
    assert metadata["dagster/table_name"] == name
    assert metadata["dagster/partition_row_count"] == 500
    assert metadata["job_id"] in metadata["job"].value
    assert f"&p={PROJECT}&d={sink.dataset}&t=yellow_cab_data&page=table" in metadata["link"].value
    assert holds(sink, trips)
    assert same_trips(sink.read(YELLOW, JANUARY), trips)
    table = client(sink).get_table(name)
    assert (table.time_partitioning.type_, table.time_partitioning.field) == ("MONTH", "tpep_pickup_datetime")
    assert table.clustering_fields == ["pulocationid", "vendorid"]
    assert [(f.name, f.description) for f in table.schema] == [(c.name, c.description) for c in YELLOW.columns]
    assert {f.field_type for f in table.schema if "datetime" in f.name} == {"DATETIME"}
    assert table.labels == {"kind": "yellow"}


def test_before_the_first_load_reading_a_month_says_what_to_materialise(sink):
    with pytest.raises(PermanentError, match=r"2021-01: there is no table .*yellow_cab_data: materialise bq_table"):
        sink.read(YELLOW, JANUARY)


def test_kinds_keep_separate_tables(sink, made):
    yellow, green = made(), made(seed=1, kind=GREEN)
    sink.replace(YELLOW, yellow, a_run())
    sink.replace(GREEN, green, a_run())
    assert holds(sink, yellow)
    assert same_trips(sink.read(GREEN, JANUARY), green)


def test_a_chosen_column_is_read_alone_and_in_batches(sink, made):
    trips = made()
    sink.replace(YELLOW, trips, a_run())
    batches = list(sink.read(YELLOW, JANUARY).batches(["vendorid"], rows=100))
    assert {batch.schema.field(0).type for batch in batches} == {pa.int16()}
    assert max(batch.num_rows for batch in batches) <= 100
    assert sum(batch.num_rows for batch in batches) == 500


def test_the_object_that_gcs_parquet_wrote_is_loaded_and_named_in_the_job(sink, server, tmp_path, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.storage)
    bucket = ParquetObjectIOManager(location=f"gs://{BUCKET}", template=f"{sink.dataset}/{{month}}.parquet")
    for seed in range(2):
        trips = month_of_trips(tmp_path, "2021-01", 300 + seed, seed)
        bucket.replace(YELLOW, trips, a_run())
        written = bucket.read(YELLOW, JANUARY)
        job = sink.replace(YELLOW, written, a_run())["job_id"]
        assert f"-g{written.generation}-" in job
        assert same_trips(sink.read(YELLOW, JANUARY), trips)


# Who else is there.


# What is refused.


@pytest.mark.parametrize("uri", ["", "/tmp/bucket/yellow.parquet"])
def test_trips_that_are_not_in_cloud_storage_are_refused_with_the_setting_to_change(sink, made, uri):
    with pytest.raises(PermanentError, match=r"2021-01: BigQuery loads from Cloud Storage.* set TAXI_BUCKET"):
        sink.replace(YELLOW, dataclasses.replace(made(), uri=uri), a_run())


def test_a_row_outside_the_month_refuses_the_load_whole_naming_month_table_and_object(sink, made):
    old = made()
    sink.replace(YELLOW, old, a_run())
    new = made(rows=300, seed=1, change=one_pickup_outside)
    with pytest.raises(PermanentError) as caught:
        sink.replace(YELLOW, new, a_run())
    said = str(caught.value)
    assert said.startswith(
        f"2021-01: loading {new.uri} into {PROJECT}.{sink.dataset}.yellow_cab_data: BigQuery refused"
    )
    assert "different partitions" in said
    assert "materialise clean_trips and gcs_parquet again" in said
    assert same_trips(sink.read(YELLOW, JANUARY), old)


def test_an_object_that_is_gone_is_a_permanent_error_and_leaves_the_old_month(sink, made):
    old = made()
    sink.replace(YELLOW, old, a_run())
    gone = dataclasses.replace(made(seed=1), uri="gs://taxi-test-bucket/nowhere.parquet", generation=7)
    with pytest.raises(PermanentError, match=r"2021-01: loading gs://taxi-test-bucket/nowhere.parquet"):
        sink.replace(YELLOW, gone, a_run())
    assert same_trips(sink.read(YELLOW, JANUARY), old)


def test_a_new_column_is_added_and_empty_in_older_months(sink, made):
    sink.replace(YELLOW, made("2021-02"), a_run())
    wider = with_columns(*YELLOW.columns, TIP)
    trips = made(kind=wider)
    sink.replace(wider, trips, a_run())
    assert same_trips(sink.read(wider, JANUARY), trips)
    assert sink.read(wider, FEBRUARY).to_arrow().column("tip_jar").null_count == 500


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        (YELLOW.columns[:-1], "has column dropoff_latitude, which trips do not have"),
        (
            (*YELLOW.columns[:-1], Column("dropoff_latitude", pa.string(), "")),
            "has column dropoff_latitude as FLOAT, trips have it as STRING",
        ),
    ],
)
def test_a_removed_or_changed_column_is_refused_by_name_before_any_job(sink, made, wire, columns, complaint):
    old = made()
    sink.replace(YELLOW, old, a_run())
    kind = with_columns(*columns)
    watched = bigquery_sink(wire.endpoint, sink.dataset)
    with pytest.raises(PermanentError, match=complaint):
        watched.replace(kind, made(seed=1, kind=kind), a_run())
    assert not loads(wire)
    assert holds(sink, old)


def test_a_table_that_is_not_partitioned_by_month_is_refused(sink, made):
    with client(sink) as asking:
        asking.create_dataset(sink.dataset)
        asking.create_table(google.Table(f"{PROJECT}.{sink.dataset}.yellow_cab_data"))
    with pytest.raises(PermanentError, match="is not partitioned by the month of tpep_pickup_datetime"):
        sink.replace(YELLOW, made(), a_run())


def test_a_table_that_its_owner_clusters_otherwise_keeps_that(sink, made):
    table = google.Table(f"{PROJECT}.{sink.dataset}.yellow_cab_data", [google.SchemaField("vendorid", "INTEGER")])
    table.schema = [*table.schema, google.SchemaField("tpep_pickup_datetime", "DATETIME")]
    table.time_partitioning = google.TimePartitioning("MONTH", "tpep_pickup_datetime")
    table.clustering_fields = ["vendorid"]
    with client(sink) as asking:
        asking.create_dataset(sink.dataset)
        asking.create_table(table)
        trips = made()
        sink.replace(YELLOW, trips, a_run())
        assert asking.get_table(table).clustering_fields == ["vendorid"]
    assert holds(sink, trips)


# Jobs and runs.


def test_a_lost_answer_makes_the_retry_join_the_job_that_was_started(made, wire):
    sink, trips, said = bigquery_sink(wire.endpoint), made(), []
    wire.disturb = first(1, "lost", of=is_load)
    sink.replace(YELLOW, trips, a_run(log=said.append))
    assert len({request.body["jobReference"]["jobId"] for request in loads(wire)}) == 1
    assert len(loads(wire)) == 2
    assert any("joining load job" in line for line in said)
    assert holds(sink, trips)


def test_a_step_retried_in_the_same_run_joins_and_another_run_loads_an_older_object_again(sink, made):
    old, new = made(), made(seed=1)
    jobs = [sink.replace(YELLOW, trips, a_run(run))["job_id"] for trips, run in ((old, "a"), (old, "a"), (new, "b"))]
    assert jobs[0] == jobs[1] != jobs[2]
    sink.replace(YELLOW, old, a_run("c"))
    assert same_trips(sink.read(YELLOW, JANUARY), old)


def test_a_job_that_failed_is_followed_by_the_next_attempt_of_the_run(sink, made, server, tmp_path):
    trips = made()
    spoilt = server.upload(month_of_trips(tmp_path, "2021-01", 500, change=one_pickup_outside))
    as_if_spoilt = dataclasses.replace(spoilt, generation=trips.generation)
    with pytest.raises(PermanentError):
        sink.replace(YELLOW, as_if_spoilt, a_run("same"))
    job = sink.replace(YELLOW, trips, a_run("same"))["job_id"]
    assert job.endswith("-same-2")
    assert holds(sink, trips)


# Trouble on the way.


@pytest.mark.parametrize(
    "trouble", [(503, "backendError"), (403, "rateLimitExceeded"), (500, "internalError"), "reset"]
)
def test_a_passing_fault_of_any_request_is_retried(made, wire, trouble):
    sink, trips = bigquery_sink(wire.endpoint), made()
    seen: set[str] = set()

    def once_each(request: Request) -> object:
        key = f"{request.method} {request.path.split('?')[0]} {sorted(request.body.get('configuration', {}))}"
        return None if key in seen else (seen.add(key) or trouble)

    wire.disturb = once_each
    sink.replace(YELLOW, trips, a_run())
    assert holds(sink, trips)
    assert len(seen) > 3


@pytest.mark.parametrize("trouble", [(503, "backendError"), "reset"])
def test_a_fault_that_lasts_is_a_transient_error_naming_month_table_and_object(sink, made, wire, trouble):
    old, new = made(), made(seed=1)
    sink.replace(YELLOW, old, a_run())
    wire.disturb = lambda request: trouble if is_load(request) else None
    hasty = bigquery_sink(wire.endpoint, sink.dataset, retry_seconds=2.0)
    with pytest.raises(
        TransientError, match=rf"2021-01: loading {new.uri} into {PROJECT}.{sink.dataset}.yellow_cab_data"
    ):
        hasty.replace(YELLOW, new, a_run())
    assert same_trips(sink.read(YELLOW, JANUARY), old)


@pytest.mark.parametrize(
    ("trouble", "remedy"),
    [
        ((403, "accessDenied"), "roles/bigquery.jobUser"),
        ((403, "quotaExceeded"), "wait for the project's quota"),
        ((404, "notFound"), "bucket and dataset are in the same location"),
    ],
)
def test_a_refusal_is_a_permanent_error_with_its_remedy_and_is_not_retried(sink, made, wire, trouble, remedy):
    sink.replace(YELLOW, made("2021-02"), a_run())
    wire.disturb = lambda request: trouble if is_load(request) else None
    with pytest.raises(PermanentError, match=remedy):
        bigquery_sink(wire.endpoint, sink.dataset).replace(YELLOW, made(), a_run())
    assert len(loads(wire)) == 1


def test_a_job_that_outlasts_our_patience_is_a_transient_error_and_the_retry_joins_it(made, wire):
    trips = made()
    impatient = bigquery_sink(wire.endpoint, job_seconds=0.5)
    still_running = lambda answer: answer | {"status": {"state": "RUNNING"}}  # noqa: E731
    wire.disturb = lambda request: still_running if "/jobs" in request.path else None
    with pytest.raises(TransientError, match=r"still runs after .* a retry of the step joins it"):
        impatient.replace(YELLOW, trips, a_run("same"))
    wire.disturb = lambda _: None
    patient = bigquery_sink(wire.endpoint, impatient.dataset)
    patient.replace(YELLOW, trips, a_run("same"))
    assert len({request.body["jobReference"]["jobId"] for request in loads(wire)}) == 1
    assert holds(patient, trips)


# What is sent, for what the emulator does not prove.


def test_the_load_request_truncates_the_months_partition_of_a_table_with_the_tables_own_layout(made, wire):
    sink, trips = bigquery_sink(wire.endpoint), made()
    sink.replace(YELLOW, trips, a_run("Run/ID 1"))
    [request] = loads(wire)
    assert request.body["jobReference"] == {
        "projectId": PROJECT,
        "jobId": f"taxi-{sink.dataset}-yellow_cab_data-202101-g{trips.generation}-Run-ID-1-1",
        "location": "US",
    }
    assert request.body["configuration"]["labels"] == {"kind": "yellow", "month": "2021-01", "run_id": "run-id-1"}
    load = request.body["configuration"]["load"]
    assert load["destinationTable"] == {
        "projectId": PROJECT,
        "datasetId": sink.dataset,
        "tableId": "yellow_cab_data$202101",
    }
    assert load["sourceUris"] == [trips.uri]
    assert load["sourceFormat"] == "PARQUET"
    assert load["writeDisposition"] == "WRITE_TRUNCATE"
    assert load["schemaUpdateOptions"] == ["ALLOW_FIELD_ADDITION"]
    assert load["timePartitioning"] == {"type": "MONTH", "field": "tpep_pickup_datetime"}
    assert load["clustering"] == {"fields": ["pulocationid", "vendorid"]}
    types = {field["name"]: field["type"] for field in load["schema"]["fields"]}
    assert types["tpep_pickup_datetime"] == "DATETIME"
    assert types["vendorid"] == "INTEGER"
    assert set(types) == set(YELLOW.schema.names)


def test_the_request_for_an_empty_month_deletes_its_partition_only(made, wire):
    sink = bigquery_sink(wire.endpoint)
    sink.replace(YELLOW, made(rows=0), a_run())
    deletions = [unquote(request.path.split("?")[0]) for request in wire.requests if request.method == "DELETE"]
    assert deletions == [f"/bigquery/v2/projects/{PROJECT}/datasets/{sink.dataset}/tables/yellow_cab_data$202101"]
    assert not loads(wire)


def test_every_query_request_is_pruned_to_the_month_and_limited_in_what_it_may_cost(made, wire):
    sink = bigquery_sink(wire.endpoint, maximum_bytes_billed=123_456_789)
    sink.replace(YELLOW, made(), a_run())
    month = sink.read(YELLOW, JANUARY)
    assert month.to_arrow().num_rows == 500
    assert month.bytes >= 0
    queries = [r.body["configuration"]["query"] for r in wire.requests if "query" in r.body.get("configuration", {})]
    assert len(queries) == 3
    assert not wire.sent("POST", "/queries")
    for query in queries:
        assert query["maximumBytesBilled"] == "123456789"
        assert "WHERE tpep_pickup_datetime >= @start AND tpep_pickup_datetime < @end" in query["query"]
        values = {p["name"]: p["parameterValue"]["value"] for p in query["queryParameters"]}
        assert values == {"start": "2021-01-01T00:00:00.000000", "end": "2021-02-01T00:00:00.000000"}


# Who calls.


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "no-gcloud"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")


def test_without_credentials_the_error_says_how_to_get_some(no_credentials):
    sink = BigQueryIOManager(project=PROJECT)
    with pytest.raises(PermanentError, match="gcloud auth application-default login"):
        sink.read_facts(YELLOW, JANUARY)


def test_a_key_file_is_used_as_it_is_and_the_environment_stays_as_it_was(no_credentials, tmp_path):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = "loader@taxi-test.iam.gserviceaccount.com"
    key = {"type": "service_account", "client_email": account, "private_key": pem.decode(),
           "token_uri": "http://127.0.0.1:9/token", "project_id": PROJECT}  # fmt: skip
    path = tmp_path / "key.json"
    path.write_text(json.dumps(key))
    before = dict(os.environ)
    used = bigquery_client.client(PROJECT, "EU", str(path), None)
    assert used._credentials.service_account_email == account
    assert used.location == "EU"
    assert dict(os.environ) == before


@pytest.mark.parametrize("content", [None, "not json: hunter2", '{"private_key": "hunter2"}'])
def test_a_key_file_that_is_none_is_named_without_its_content(tmp_path, content):
    path = tmp_path / "key.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(PermanentError, match=r"key.json is not readable .* TAXI_GCP_KEY_FILE") as caught:
        bigquery_client.client(PROJECT, "US", str(path), None)
    assert "hunter2" not in str(caught.value)
