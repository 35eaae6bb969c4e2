# ruff: noqa: F401, F811 - pytest finds fixtures by their imported names
"""The BigQuery sink's jobs: whose they are, what happens when something goes wrong on the way, and what is sent where the
emulator proves nothing about Google (tests whose names say "request").
"""

from __future__ import annotations

import dataclasses
from urllib.parse import unquote

import pytest

from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets.core.staging import stage
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.reports.daily_summary import summary_table
from taxi_assets_tests.bigquery_fixtures import PROJECT, Request, bigquery_sink
from taxi_assets_tests.bigquery_sink_fixtures import (
    JANUARY,
    a_run,
    at_uri,
    first,
    is_load,
    loads,
    made,
    server,
    sink,
    wire,
)
from taxi_assets_tests.months import month_of_trips, one_pickup_outside, same_trips
from taxi_assets_tests.sink_fixtures import holds
from taxi_assets_tests.summaries import summarize


def test_a_lost_answer_makes_the_retry_join_the_job_that_was_started(made, wire):
    sink, trips, said = bigquery_sink(wire.endpoint), made(), []
    wire.disturb = first(1, "lost", of=is_load)
    sink.replace(YELLOW.table, trips, a_run(log=said.append))
    assert len({request.body["jobReference"]["jobId"] for request in loads(wire)}) == 1
    assert len(loads(wire)) == 2
    assert any("joining load job" in line for line in said)
    assert holds(sink, trips)


@pytest.fixture
def summary(made, server, tmp_path):
    """The daily summary of January, in the bucket."""
    rows, table = summarize(made(), YELLOW, JANUARY), summary_table(YELLOW)
    with stage(tmp_path, JANUARY, rows.schema, table, "summary") as writer:
        for batch in rows.to_batches():
            writer.write(batch)
        return server.upload(writer.close())


@pytest.mark.parametrize("answer", ["of the load", "of the job", "of every request, once"])
def test_a_lost_answer_on_the_load_of_the_daily_summary_is_joined(summary, wire, answer):
    sink, table, messages, seen = bigquery_sink(wire.endpoint), summary_table(YELLOW), [], set()

    def lose(request: Request) -> str | None:
        path = request.path.split("?")[0]
        wanted = {"of the load": is_load(request), "of the job": "/jobs/taxi-" in path}.get(answer, True)
        key = f"{request.method} {path} {sorted(request.body.get('configuration', {}))}"
        return None if key in seen or not wanted else (seen.add(key) or "lost")

    wire.disturb = lose
    for _ in range(2):  # the second time as a retried step of the run, after its job is done
        sink.replace(table, summary, a_run("same", log=messages.append))
    assert len({request.body["jobReference"]["jobId"] for request in loads(wire)}) == 1
    assert any("joining load job" in message for message in messages)
    assert sink.measure(table, JANUARY).differences(summary.manifest) == []
    assert sink.measure(table, JANUARY).rows > 100


def test_a_step_retried_after_another_run_replaced_the_daily_summary_loads_it_again(
    summary, sink, made, server, tmp_path
):
    table = summary_table(YELLOW)
    rows = summarize(made(seed=1), YELLOW, JANUARY)
    with stage(tmp_path, JANUARY, rows.schema, table, "other") as writer:
        for batch in rows.to_batches():
            writer.write(batch)
        other = server.upload(writer.close())
    sink.replace(table, summary, a_run("a"))
    sink.replace(table, other, a_run("b"))
    assert sink.replace(table, summary, a_run("a"))["job_id"].endswith("-a-2")
    assert sink.measure(table, JANUARY).differences(summary.manifest) == []


def test_a_step_retried_in_the_same_run_joins_and_another_run_loads_an_older_object_again(sink, made):
    old, new = made(), made(seed=1)
    jobs = [
        sink.replace(YELLOW.table, trips, a_run(run))["job_id"] for trips, run in ((old, "a"), (old, "a"), (new, "b"))
    ]
    assert jobs[0] == jobs[1] != jobs[2]
    sink.replace(YELLOW.table, old, a_run("c"))
    assert same_trips(sink.read(YELLOW.table, JANUARY), old)


def test_a_step_retried_after_another_run_replaced_the_month_loads_it_again(sink, made):
    ours, theirs = made(), made(seed=1)
    for trips, run in ((ours, "a"), (theirs, "b")):
        sink.replace(YELLOW.table, trips, a_run(run))
    job = sink.replace(YELLOW.table, ours, a_run("a"))["job_id"]
    assert job.endswith("-a-2")
    assert same_trips(sink.read(YELLOW.table, JANUARY), ours)


def test_a_job_that_failed_is_followed_by_the_next_attempt_of_the_run(sink, made, server, tmp_path):
    trips = made()
    spoilt = server.upload(month_of_trips(tmp_path, "2021-01", 500, change=one_pickup_outside))
    as_if_spoilt = at_uri(spoilt, spoilt.uri, trips.generation)
    with pytest.raises(PermanentError):
        sink.replace(YELLOW.table, as_if_spoilt, a_run("same"))
    job = sink.replace(YELLOW.table, trips, a_run("same"))["job_id"]
    assert job.endswith("-same-2")
    assert holds(sink, trips)


RATE = {"reason": "rateLimitExceeded", "message": "Exceeded rate limits: too many table update operations"}


def failed(answer: dict) -> dict:
    """The answer about a job, as if it had failed for the rate of its table."""
    return answer | {"status": {"state": "DONE", "errorResult": RATE, "errors": [RATE]}}


def fails_for_its_rate(*endings: str):
    """Trouble: jobs whose ids end so have failed as BigQuery lets them fail when their table changes too often."""
    return lambda request: failed if unquote(job_of(request)).endswith(endings) else None


def job_of(request: Request) -> str:
    """The id of the job that a request starts or asks for; empty for other requests."""
    reference = request.body.get("jobReference", {})
    return reference.get("jobId") or request.path.partition("/jobs/")[2].partition("?")[0]


def test_a_load_job_that_fails_for_the_rate_of_its_table_is_submitted_again(made, wire):
    sink, trips = bigquery_sink(wire.endpoint, resubmit_seconds=0.3), made()
    wire.disturb = fails_for_its_rate("-1", "-2")
    assert sink.replace(YELLOW.table, trips, a_run("burst"))["job_id"].endswith("-burst-3")
    assert holds(sink, trips)


def test_a_record_whose_insert_fails_for_the_rate_of_its_table_is_inserted_again(made, wire):
    sink, trips = bigquery_sink(wire.endpoint, resubmit_seconds=0.3), made()
    sink.replace(YELLOW.table, made("2021-02"), a_run())  # creates the table of records
    inserts = lambda request: "INSERT" in str(request.body.get("configuration", {}).get("query"))  # noqa: E731
    wire.disturb = first(1, failed, of=inserts)
    sink.replace(YELLOW.table, trips, a_run())
    assert sink.manifests(YELLOW.table)[JANUARY].sums == trips.manifest.sums


def test_a_load_job_that_fails_for_the_rate_of_its_table_every_time_is_a_transient_error(made, wire):
    sink = bigquery_sink(wire.endpoint, resubmit_seconds=0.1)
    wire.disturb = fails_for_its_rate(*map(str, range(1, 10)))
    with pytest.raises(TransientError, match="too many table update operations"):
        sink.replace(YELLOW.table, made(), a_run("burst"))
    assert len({job_of(request) for request in loads(wire)}) == 6


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
    sink.replace(YELLOW.table, trips, a_run())
    assert holds(sink, trips)
    assert len(seen) > 3


@pytest.mark.parametrize("trouble", [(503, "backendError"), "reset"])
def test_a_fault_that_lasts_is_a_transient_error_naming_month_table_and_object(sink, made, wire, trouble):
    old, new = made(), made(seed=1)
    sink.replace(YELLOW.table, old, a_run())
    wire.disturb = lambda request: trouble if is_load(request) else None
    hasty = bigquery_sink(wire.endpoint, sink.dataset, retry_seconds=2.0)
    with pytest.raises(
        TransientError, match=rf"2021-01: loading {new.uri} into {PROJECT}.{sink.dataset}.yellow_cab_data"
    ):
        hasty.replace(YELLOW.table, new, a_run())
    assert same_trips(sink.read(YELLOW.table, JANUARY), old)


@pytest.mark.parametrize(
    ("trouble", "remedy"),
    [
        ((403, "accessDenied"), "roles/bigquery.jobUser"),
        ((403, "quotaExceeded"), "wait for the project's quota"),
        ((404, "notFound"), "bucket and dataset are in the same location"),
    ],
)
def test_a_refusal_is_a_permanent_error_with_its_remedy_and_is_not_retried(sink, made, wire, trouble, remedy):
    sink.replace(YELLOW.table, made("2021-02"), a_run())
    wire.disturb = lambda request: trouble if is_load(request) else None
    with pytest.raises(PermanentError, match=remedy):
        bigquery_sink(wire.endpoint, sink.dataset).replace(YELLOW.table, made(), a_run())
    assert len(loads(wire)) == 1


def test_a_job_that_outlasts_our_patience_is_a_transient_error_and_the_retry_joins_it(made, wire):
    trips = made()
    impatient = bigquery_sink(wire.endpoint, job_seconds=0.5)
    still_running = lambda answer: answer | {"status": {"state": "RUNNING"}}  # noqa: E731
    wire.disturb = lambda request: still_running if "/jobs" in request.path else None
    with pytest.raises(TransientError, match=r"still runs after .* a retry of the step joins it"):
        impatient.replace(YELLOW.table, trips, a_run("same"))
    wire.disturb = lambda _: None
    patient = bigquery_sink(wire.endpoint, impatient.dataset)
    patient.replace(YELLOW.table, trips, a_run("same"))
    assert len({request.body["jobReference"]["jobId"] for request in loads(wire)}) == 1
    assert holds(patient, trips)


def test_the_load_request_truncates_the_months_partition_of_a_table_with_the_tables_own_layout(made, wire):
    sink, trips = bigquery_sink(wire.endpoint), made()
    sink.replace(YELLOW.table, trips, a_run("Run/ID 1"))
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
    sink.replace(YELLOW.table, made(rows=0), a_run())
    deletions = [unquote(request.path.split("?")[0]) for request in wire.requests if request.method == "DELETE"]
    assert deletions == [f"/bigquery/v2/projects/{PROJECT}/datasets/{sink.dataset}/tables/yellow_cab_data$202101"]
    assert not loads(wire)


def test_every_query_request_is_pruned_to_the_month_and_limited_in_what_it_may_cost(made, wire):
    sink = bigquery_sink(wire.endpoint, maximum_bytes_billed=123_456_789)
    sink.replace(YELLOW.table, made(), a_run())
    month = sink.read(YELLOW.table, JANUARY)
    assert month.to_arrow().num_rows == 500
    written = [r.body["configuration"]["query"] for r in wire.requests if "query" in r.body.get("configuration", {})]
    queries = [request.body for request in wire.sent("POST", "/queries")]
    assert {query["maximumBytesBilled"] for query in written + queries} == {"123456789"}
    assert all(query["query"].startswith("INSERT") for query in written)
    assert len(queries) == 2
    for query in queries:
        assert "WHERE `tpep_pickup_datetime` >= @start AND `tpep_pickup_datetime` < @end" in query["query"]
        values = {p["name"]: p["parameterValue"]["value"] for p in query["queryParameters"]}
        assert values == {"start": "2021-01-01T00:00:00.000000", "end": "2021-02-01T00:00:00.000000"}


def test_a_query_in_another_location_than_the_table_is_an_error_and_no_missing_month(made, wire):
    """BigQuery answers it as if there were no such table."""
    sink = bigquery_sink(wire.endpoint)
    assert sink.measure(YELLOW.table, JANUARY) is None
    sink.replace(YELLOW.table, made(), a_run())
    wire.disturb = lambda request: (404, "notFound") if request.path.partition("?")[0].endswith("/queries") else None
    with pytest.raises(PermanentError, match=r"2021-01: reading .*yellow_cab_data: BigQuery refused"):
        sink.measure(YELLOW.table, JANUARY)
