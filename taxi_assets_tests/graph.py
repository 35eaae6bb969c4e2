"""The complete graph in the local profile, as tests run it, and its sinks read without the package's code."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import duckdb
import psycopg
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from taxi_assets.datasets.schema import YELLOW, TaxiKind
from taxi_assets.definitions import build_defs
from taxi_assets.keys import job_name


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@dataclass(frozen=True)
class Database:
    """The database of a test."""

    address: str

    def url(self) -> str:
        return self.address


@pytest.fixture(autouse=True)
def postgres(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """An empty database on the server of the test process, which costs less than a server of the test's own."""
    monkeypatch.setenv("TAXI_POSTGRES_URL", postgres_url)
    yield Database(postgres_url)
    shutil.rmtree(tmp_path / ".taxi", ignore_errors=True)


def load(
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    month: str = "2021-01",
    run_config: dict | None = None,
    kind: TaxiKind = YELLOW,
    **settings: object,
) -> dg.ExecuteInProcessResult:
    """Run the month's job with these settings (`source` is TAXI_SOURCE)."""
    for name, value in settings.items():
        monkeypatch.setenv(f"TAXI_{name.upper()}", str(value))
    job = build_defs().resolve_job_def(job_name(kind))
    return job.execute_in_process(
        partition_key=f"{month}-01", instance=instance, raise_on_error=False, run_config=run_config
    )


def in_every_sink(tmp_path: Path, postgres: Database, kind: TaxiKind = YELLOW) -> dict[str, list]:
    """Every sink's trips as sorted rows, read with its own ordinary client and none of our code."""
    columns = ", ".join(kind.schema.names)
    bucket = tmp_path / ".taxi" / "bucket"
    with psycopg.connect(postgres.url()) as connection:
        held = {"postgres_table": connection.execute(f"select {columns} from ny_taxi.{kind.table.name}").fetchall()}
    files = sorted((bucket / "nyc_taxi_data").glob(f"{kind.file_stem}_????-??.parquet"))
    held["gcs_parquet"] = [row for file in files for row in rows_of(pq.read_table(file, partitioning=None), kind)]
    by_day = ds.dataset(bucket / "nyc_taxi_data" / f"{kind.file_stem}_by_day", partitioning="hive")
    held["gcs_partitioned"] = rows_of(by_day.to_table(columns=kind.schema.names), kind)
    with duckdb.connect(str(tmp_path / ".taxi" / "warehouse.duckdb"), read_only=True) as connection:
        held["bq_table"] = connection.execute(f"select {columns} from ny_taxi.{kind.table.name}").fetchall()
    return {sink: sorted(rows, key=repr) for sink, rows in held.items()}


def rows_of(table: pa.Table, kind: TaxiKind = YELLOW) -> list[tuple]:
    """The trips as tuples in the order of the canonical columns."""
    return list(zip(*(table[name].to_pylist() for name in kind.schema.names), strict=True))
