"""The rest of the graph: green months, months of 2009, single days, and what a notebook loads."""

import dagster as dg
import duckdb
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.datasets.schema import FHV, FHVHV, GREEN, YELLOW
from taxi_assets.definitions import build_defs
from taxi_assets_tests.graph import in_every_sink, instance, load, postgres
from taxi_assets_tests.sample_facts import expected

__all__ = ["instance", "postgres"]


def test_a_whole_real_green_month_reaches_every_sink(instance, monkeypatch, tlc, tmp_path, postgres):
    tlc("green_full_months/green_tripdata_2021-03.parquet")
    template = tlc("green_full_months") / "green_tripdata_{month}.parquet"
    result = load(instance, monkeypatch, "2021-03", kind=GREEN, source=template, kinds="yellow,green")
    assert result.success
    published = pq.read_table(tlc("green_full_months/green_tripdata_2021-03.parquet"))
    pickup = published["lpep_pickup_datetime"]
    inside = pc.and_(
        pc.greater_equal(pickup, pa.scalar(pd.Timestamp("2021-03-01"), pickup.type)),
        pc.less(pickup, pa.scalar(pd.Timestamp("2021-04-01"), pickup.type)),
    )
    kept = pc.sum(pc.and_(inside, pc.greater(published["passenger_count"], 0))).as_py()
    held = in_every_sink(tmp_path, postgres, GREEN)
    assert {sink: len(rows) for sink, rows in held.items()} == dict.fromkeys(held, kept)
    assert len({repr(rows) for rows in held.values()}) == 1


@pytest.mark.parametrize(
    ("kind", "month", "name"),
    [
        (FHV, "2018-01", "fhv_csv_first100rows/fhv_tripdata_2018-01.csv"),
        (FHVHV, "2025-01", "fhvhv_csv_samples/fhvhv_tripdata_2025-01_first1000.csv"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_real_for_hire_trips_reach_every_sink(kind, month, name, instance, monkeypatch, tlc, tmp_path, postgres):
    source = tmp_path / f"{kind.name}_{month}.csv"
    source.write_bytes(tlc(name).read_bytes())
    template = tmp_path / f"{kind.name}_{{month}}.csv"
    result = load(instance, monkeypatch, month, kind=kind, source=template, kinds="yellow,green,fhv,fhvhv")
    assert result.success
    failed = [check.check_name for check in result.get_asset_check_evaluations() if not check.passed]
    assert failed == []
    held = in_every_sink(tmp_path, postgres, kind)
    assert {len(rows) for rows in held.values()} == {source.read_text().count("\n") - 1}
    assert len({repr(rows) for rows in held.values()}) == 1
    page = (tmp_path / f".taxi/bucket/reports/{kind.name}/{month}.html").read_text()
    assert "Who sent the vehicles" in page
    assert ("Uber" in page) == (kind is FHVHV)


def test_trips_of_several_datasets_are_in_one_view(instance, monkeypatch, tmp_path, postgres):
    query, rows = "SELECT dataset, count(*) FROM ny_taxi.trips GROUP BY 1", {}
    for kind in (YELLOW, FHV, FHVHV):
        result = load(
            instance, monkeypatch, kind=kind, source="sample", sample_rows=1_000, kinds="yellow,green,fhv,fhvhv"
        )
        assert result.success
        rows[kind.name] = expected(kind, Month(2021, 1), 1_000).expected_kept
        with psycopg.connect(postgres.url()) as connection:
            assert dict(connection.execute(query).fetchall()) == rows
        with duckdb.connect(str(tmp_path / ".taxi/warehouse.duckdb"), read_only=True) as connection:
            assert dict(connection.execute(query).fetchall()) == rows


def test_a_month_in_the_format_of_2009_reaches_every_sink(instance, monkeypatch, tlc, tmp_path, postgres):
    tlc("yellow_csv_heads/yellow_tripdata_2009-01.csv")
    result = load(instance, monkeypatch, "2009-01", source=tlc("yellow_csv_heads") / "yellow_tripdata_{month}.csv")
    assert result.success
    held = in_every_sink(tmp_path, postgres)
    assert {len(rows) for rows in held.values()} == {98}
    assert len({repr(rows) for rows in held.values()}) == 1


def test_green_is_not_in_the_graph_unless_it_is_asked_for():
    keys = {key.to_user_string() for key in build_defs().resolve_asset_graph().get_all_asset_keys()}
    assert not [key for key in keys if key.startswith("green")]
    assert {
        "raw_trips",
        "clean_trips",
        "rejected_trips",
        "postgres_table",
        "gcs_parquet",
        "gcs_partitioned",
        "bq_table",
        "taxi_zones",
    } <= keys


def test_a_window_of_days_is_exported_one_object_a_day(instance, monkeypatch, tmp_path):
    monkeypatch.setenv("TAXI_DAILY", "true")
    assert load(instance, monkeypatch, source="sample", sample_rows=5_000).success
    assert load(instance, monkeypatch, "2021-02", source="sample", sample_rows=5_000).success
    job = dg.define_asset_job("days", selection="gcs_daily")
    days = dg.Definitions.merge(build_defs(), dg.Definitions(jobs=[job])).resolve_job_def("days")
    window = {"dagster/asset_partition_range_start": "2021-01-30", "dagster/asset_partition_range_end": "2021-02-02"}
    assert days.execute_in_process(instance=instance, tags=window, raise_on_error=False).success
    objects = sorted(path.relative_to(tmp_path / ".taxi/bucket") for path in tmp_path.rglob("daily-trips.parquet"))
    assert [str(path) for path in objects] == [
        "2021/01/30/daily-trips.parquet",
        "2021/01/31/daily-trips.parquet",
        "2021/02/01/daily-trips.parquet",
        "2021/02/02/daily-trips.parquet",
    ]
    month = pq.read_table(tmp_path / ".taxi/lake/yellow_clean_trips/2021-01.parquet", partitioning=None)
    day = pq.read_table(tmp_path / ".taxi/bucket/2021/01/30/daily-trips.parquet", partitioning=None)
    wanted = month.filter(pc.equal(pc.strftime(month["tpep_pickup_datetime"], "%Y-%m-%d"), "2021-01-30"))
    assert day.equals(wanted)
    assert day.num_rows > 50


def test_a_notebook_loads_a_month_as_a_handle_a_table_or_a_frame(instance, monkeypatch):
    assert load(instance, monkeypatch, source="sample", sample_rows=2_000).success
    defs = build_defs()
    handle = defs.load_asset_value("clean_trips", partition_key="2021-01-01", instance=instance)
    assert isinstance(handle, MonthFile)
    frame = defs.load_asset_value(
        "clean_trips", partition_key="2021-01-01", instance=instance, python_type=pd.DataFrame
    )
    table = defs.load_asset_value("postgres_table", partition_key="2021-01-01", instance=instance, python_type=pa.Table)
    assert len(frame) == handle.rows == table.num_rows
