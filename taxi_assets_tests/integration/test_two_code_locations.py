"""Two sets of definitions with different settings in one process: each writes to its own home, schema and bucket."""

from pathlib import Path

import dagster as dg
import duckdb
import psycopg
import pyarrow.parquet as pq
import pytest

from taxi_assets.definitions import build_defs
from taxi_assets.settings import Settings


def materialize(settings: Settings) -> dg.ExecuteInProcessResult:
    """Load January 2021 and the zones, in a separate instance."""
    zones = dg.define_asset_job("zones", selection="taxi_zones")
    defs = dg.Definitions.merge(build_defs(settings), dg.Definitions(jobs=[zones]))
    with dg.DagsterInstance.ephemeral() as instance:
        assert defs.resolve_job_def("zones").execute_in_process(instance=instance).success
        return defs.resolve_job_def("load_month").execute_in_process(
            instance=instance, partition_key="2021-01-01", raise_on_error=False
        )


def rows_in(settings: Settings, url: str) -> dict[str, int]:
    """The rows of every sink at the places that the settings name, read with ordinary clients."""
    objects = Path(settings.bucket)
    with psycopg.connect(url) as connection:
        query = f"SELECT count(*) FROM {settings.postgres_schema}.yellow_cab_data"
        held = {"postgres_table": connection.execute(query).fetchone()[0]}
    with duckdb.connect(str(settings.home / "warehouse.duckdb"), read_only=True) as connection:
        held["bq_table"] = connection.execute(f"SELECT count(*) FROM {settings.dataset}.yellow_cab_data").fetchone()[0]
    (month,) = objects.rglob("yellow_tripdata_2021-01.parquet")
    held["gcs_parquet"] = pq.read_metadata(month).num_rows
    days = list(objects.glob("*/*_by_day/**/*.parquet"))
    assert len(days) == 31
    held["gcs_partitioned"] = sum(pq.read_metadata(day).num_rows for day in days)
    clean = pq.read_metadata(settings.home / "lake" / "yellow_clean_trips" / "2021-01.parquet").num_rows
    assert held == dict.fromkeys(held, clean)
    return held


def test_each_writes_where_its_own_settings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_url: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setenv("DAGSTER_HOME", str(elsewhere))
    monkeypatch.setenv("TAXI_HOME", str(elsewhere / "home"))
    monkeypatch.setenv("TAXI_POSTGRES_SCHEMA", "elsewhere")
    first, second = (
        Settings(
            _env_file=None,
            home=tmp_path / name,
            source="sample",
            sample_rows=rows,
            postgres_url=postgres_url,
            postgres_schema=name,
            bucket=str(tmp_path / f"{name}_bucket"),
            dataset=f"{name}_dataset",
        )
        for name, rows in (("first", 3_000), ("second", 5_000))
    )
    assert materialize(first).success
    held = rows_in(first, postgres_url)
    assert materialize(second).success
    assert rows_in(first, postgres_url) == held
    assert 2_500 < held["postgres_table"] < 3_000 < rows_in(second, postgres_url)["postgres_table"]

    assert not elsewhere.exists()
    with psycopg.connect(postgres_url) as connection:
        query = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_|^information_schema$|^public$' ORDER BY 1"
        assert connection.execute(query).fetchall() == [("first",), ("second",)]
