"""The reports in the graph: one summary in three sinks, a page that queries the sinks, checks that detect a difference."""

from pathlib import Path

import dagster as dg
import duckdb
import psycopg
import pyarrow.parquet as pq
import pytest

from taxi_assets.core.staging import stage
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.definitions import build_defs
from taxi_assets.reports.daily_summary import KEY, SUMMARY_NAMES, summary_table
from taxi_assets.settings import load_settings
from taxi_assets.sinks.contract import WriteContext
from taxi_assets.sinks.parquet_object.io_manager import ParquetObjectIOManager
from taxi_assets.sinks.postgres.io_manager import PostgresIOManager
from taxi_assets.sinks.several import SeveralSinks
from taxi_assets.sinks.storage.local_bucket import LocalBucket
from taxi_assets_tests.bigquery_fixtures import BUCKET, BigQueryServer, bigquery_sink
from taxi_assets_tests.cleaned_months import cleaned_sample
from taxi_assets_tests.graph import Database, instance, postgres
from taxi_assets_tests.summaries import summarize

__all__ = ["instance", "postgres"]

COLUMNS = ", ".join(SUMMARY_NAMES)
REPORTS = dg.AssetSelection.groups("reports")


@pytest.fixture
def run(instance, monkeypatch):
    """Run a selection of assets, by default all of a month of 3,000 rows."""
    monkeypatch.setenv("TAXI_SOURCE", "sample")
    monkeypatch.setenv("TAXI_SAMPLE_ROWS", "3000")

    def run(month: str | None = "2021-01", selection: dg.AssetSelection | None = None, tags=None, **settings):
        for name, value in settings.items():
            monkeypatch.setenv(f"TAXI_{name.upper()}", value)
        selected = selection if selection is not None else dg.AssetSelection.groups("ingest", "sinks", "reports")
        job = dg.define_asset_job("part", selection=selected - deadlines())
        defs = dg.Definitions.merge(build_defs(), dg.Definitions(jobs=[job]))
        return defs.resolve_job_def("part").execute_in_process(
            partition_key=month and f"{month}-01", tags=tags, instance=instance, raise_on_error=False
        )

    return run


def deadlines() -> dg.AssetSelection:
    """The checks that are about no month."""
    from taxi_assets.automation.deadlines import check_keys

    return dg.AssetSelection.checks(*check_keys(YELLOW, load_settings()))


def in_every_place(tmp_path: Path, postgres: Database) -> dict[str, list[tuple]]:
    """The summary's rows, read with each place's own client and none of our code."""
    with psycopg.connect(postgres.url()) as connection:
        held = {"postgres": connection.execute(f"SELECT {COLUMNS} FROM ny_taxi.yellow_daily_summary").fetchall()}
    with duckdb.connect(str(tmp_path / ".taxi" / "warehouse.duckdb"), read_only=True) as connection:
        held["warehouse"] = connection.execute(f"SELECT {COLUMNS} FROM ny_taxi.yellow_daily_summary").fetchall()
    objects = sorted((tmp_path / ".taxi/bucket/reports/yellow/daily_summary").glob("*.parquet"))
    held["bucket"] = [tuple(row.values()) for path in objects for row in pq.read_table(path).to_pylist()]
    return {place: sorted(rows) for place, rows in held.items()}


def failed_sentences(result: dg.ExecuteInProcessResult) -> str:
    """The errors of the failed steps; for a bug, the complete error."""
    failures = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    return " ".join(f.user_failure_data.description if f.user_failure_data else f.error.to_string() for f in failures)


def test_the_summary_is_the_same_in_three_places_and_a_second_run_changes_nothing(run, tmp_path, postgres):
    assert run().success
    first = in_every_place(tmp_path, postgres)
    assert len(first["postgres"]) > 100
    assert first["postgres"] == first["warehouse"] == first["bucket"]
    with psycopg.connect(postgres.url()) as connection:
        (trips,) = connection.execute("SELECT count(*) FROM ny_taxi.yellow_cab_data").fetchone()
    assert sum(row[3] for row in first["postgres"]) == trips
    assert run().success
    assert in_every_place(tmp_path, postgres) == first


def test_months_do_not_touch_each_other_and_a_run_may_hold_several(run, tmp_path, postgres):
    assert run().success
    january = in_every_place(tmp_path, postgres)["postgres"]
    edges = {"dagster/asset_partition_range_start": "2021-02-01", "dagster/asset_partition_range_end": "2021-03-01"}
    result = run(None, tags=edges, months_per_run="all")
    assert result.success, failed_sentences(result)
    held = in_every_place(tmp_path, postgres)
    assert held["postgres"] == held["warehouse"] == held["bucket"]
    assert [row for row in held["postgres"] if row[0].month == 1] == january
    assert {row[0].month for row in held["postgres"]} == {1, 2, 3}
    reports = {m.partition: m.metadata for m in result.asset_materializations_for_node("month_report")}
    assert {name[:7] for name in reports} == {"2021-02", "2021-03"}
    assert all(metadata["page"].value.endswith(f"{name[:7]}.html") for name, metadata in reports.items())


def test_a_notebook_reads_the_summary_as_a_frame(run, instance):
    assert run(selection=dg.AssetSelection.groups("ingest", "sinks", "reports")).success
    frame = build_defs().load_asset_value("daily_summary", partition_key="2021-01-01", instance=instance).to_pandas()
    assert list(frame.columns) == SUMMARY_NAMES
    assert frame["pickup_date"].notna().all()


@pytest.mark.parametrize("place", ["postgres", "warehouse", "bucket"])
def test_a_summary_that_was_tampered_with_fails_its_check(run, tmp_path, postgres, place):
    assert run().success
    change = "UPDATE ny_taxi.yellow_daily_summary SET trips = trips + 1 WHERE pickup_date = DATE '2021-01-05'"
    match place:
        case "postgres":
            with psycopg.connect(postgres.url()) as connection:
                connection.execute(change)
        case "warehouse":
            with duckdb.connect(str(tmp_path / ".taxi" / "warehouse.duckdb")) as connection:
                connection.execute(change)
        case _:
            path = tmp_path / ".taxi/bucket/reports/yellow/daily_summary/2021-01.parquet"
            pq.write_table(pq.read_table(path).slice(1), path)
    checks = dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey("daily_summary"), "daily_summary_is_in_every_sink"))
    result = run(None, checks, tags={"dagster/partition": "2021-01-01"})
    (evaluation,) = result.get_asset_check_evaluations()
    assert not evaluation.passed
    assert evaluation.description.startswith(f"{place}: 2021-01: the daily summary has ")


def test_a_summary_of_another_clean_month_is_refused(run, tmp_path, postgres):
    assert run().success
    before = in_every_place(tmp_path, postgres)
    with duckdb.connect(str(tmp_path / ".taxi" / "warehouse.duckdb")) as connection:
        connection.execute("DELETE FROM ny_taxi.yellow_cab_data WHERE tpep_pickup_datetime < '2021-01-05'")
    result = run(selection=dg.AssetSelection.assets("daily_summary"))
    assert not result.success
    assert "materialize daily_summary again, and bq_table first" in failed_sentences(result)
    assert in_every_place(tmp_path, postgres) == before


def test_the_report_asks_the_sinks_and_compares_with_other_years(run, tmp_path, postgres):
    assert run("2020-01").success
    result = run("2021-01")
    assert result.success
    (report,) = result.asset_materializations_for_node("month_report")
    assert report.metadata["other_years"].value == "2020-01"
    assert report.metadata["sinks_that_differ"].value == 0
    assert "](data:image/svg+xml;base64," in report.metadata["trips_per_day"].value
    page = tmp_path / ".taxi/bucket/reports/yellow/2021-01.html"
    assert report.metadata["page"].value == page.as_uri()
    assert "Against January 2020 (generated)" in page.read_text()
    with psycopg.connect(postgres.url()) as connection:
        connection.execute("DELETE FROM ny_taxi.yellow_cab_data WHERE tpep_pickup_datetime >= '2021-01-30'")
    again = run("2021-01", dg.AssetSelection.assets("month_report"))
    assert again.success
    (report,) = again.asset_materializations_for_node("month_report")
    assert report.metadata["sinks_that_differ"].value == 1
    assert "rows, not 2," in page.read_text()


@pytest.mark.parametrize("reason", ["another release", "deleted meanwhile"])
def test_a_profile_that_cannot_be_read_is_left_out_of_the_comparison(run, tmp_path, monkeypatch, reason):
    profile = tmp_path / ".taxi/bucket/reports/yellow/2020-01.json"
    profile.parent.mkdir(parents=True)
    profile.write_text('{"format": 0, "month": "2020-01"}')
    if reason == "deleted meanwhile":
        read = LocalBucket.open
        monkeypatch.setattr(LocalBucket, "open", lambda *args: profile.unlink(missing_ok=True) or read(*args))
    result = run("2021-01")
    assert result.success
    (report,) = result.asset_materializations_for_node("month_report")
    assert report.metadata["other_years"].value == "none loaded"


def test_the_summary_is_loaded_into_bigquery_from_its_object(bigquery: BigQueryServer, tmp_path, postgres, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", bigquery.storage)
    sink, month = bigquery_sink(bigquery.endpoint), cleaned_sample(tmp_path, 3_000)
    objects = ParquetObjectIOManager(location=f"gs://{BUCKET}", template="{month}.parquet")
    parts = {"bucket": objects, "postgres": PostgresIOManager(url=postgres.url()), "warehouse": sink}
    table, order = summary_table(YELLOW), [(name, "ascending") for name in KEY]
    summary = summarize(month.clean, YELLOW, month.month)
    for rows in (summary.slice(7), summary):
        with stage(tmp_path, month.month, rows.schema, table, "summary") as writer:
            writer.write(rows.combine_chunks().to_batches()[0])
            staged = writer.close()
        SeveralSinks(parts).replace(table, staged, WriteContext(str(id(rows)), "token", print, {}))
        for name, part in parts.items():
            assert part.read(table, month.month).to_arrow().sort_by(order).equals(rows.sort_by(order)), name
            assert not part.measure(table, month.month).differences(staged.manifest), name
    with sink._client() as client:
        target = client.get_table(f"{sink.project}.{sink.dataset}.{table.name}")
    assert (target.time_partitioning.type_, target.time_partitioning.field) == ("MONTH", "pickup_date")
