"""A loaded month is not replaced by a cut-off file or by generated trips, unless that is asked for."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.definitions import build_defs
from taxi_assets.publisher.sample import write_sample
from taxi_assets.resources import resources
from taxi_assets.settings import Settings
from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres
from taxi_assets_tests.sample_facts import expected

MONTH = Month(2021, 1)
SINKS = ("postgres", "parquet_object", "day_folders", "warehouse")
ROWS = 3_000


class Home:
    """A TAXI_HOME whose source is a CSV file that the tests change."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.folder, self.file, self.instance = folder, folder / "2021-01.csv", instance

    def settings(self, source: str = "") -> Settings:
        return Settings(home=self.folder / "home", source=source or f"{self.folder}/{{month}}.csv", sample_rows=500)

    def publish(self, rows: int = ROWS, share: float = 1.0) -> None:
        """Write the file, or the first part of it."""
        packed = self.folder / "made.csv.gz"
        write_sample(packed, YELLOW, MONTH, rows)
        text = gzip.decompress(packed.read_bytes())
        self.file.write_bytes(text[: round(len(text) * share)])

    def load(self, source: str = "", **allowed: bool) -> str:
        """Load the month; return the error, or an empty string."""
        job = build_defs(self.settings(source)).resolve_job_def("load_month")
        config = {"ops": {"raw_trips": {"config": allowed}}} if allowed else {}
        result = job.execute_in_process(
            partition_key=MONTH.key, instance=self.instance, raise_on_error=False, run_config=config
        )
        failures = [event.step_failure_data.user_failure_data for event in result.all_events if event.is_step_failure]
        return " ".join(failure.description or "" for failure in failures if failure)

    def rows(self) -> set[int | None]:
        """The numbers of rows that the sinks hold."""
        managers = resources(self.settings())
        held = [managers[name].measure(YELLOW.table, MONTH) for name in SINKS]
        return {manifest and manifest.rows for manifest in held}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with dg.instance_for_test() as instance:
        yield Home(tmp_path, instance)
    EmbeddedPostgres(tmp_path / "home" / "postgres").remove()


def kept(rows: int) -> set[int]:
    return {expected(YELLOW, MONTH, rows).expected_kept}


@pytest.mark.parametrize("in_lake", [True, False])
def test_a_file_that_was_cut_off_does_not_replace_the_month(home, in_lake):
    home.publish()
    assert home.load() == ""
    if not in_lake:  # a run on another machine: only the sinks have the month
        for file in (home.folder / "home" / "lake").rglob("*.parquet"):
            file.unlink()
    home.publish(share=0.3)
    error = home.load()
    assert f"% fewer than the {ROWS:,} that are loaded." in error
    assert "Its last line is incomplete: the file looks cut off." in error
    assert "--accept-smaller" in error
    assert home.rows() == kept(ROWS)
    assert not list((home.folder / "home" / "staging").glob("*.parquet"))
    assert home.load(accept_smaller=True) == ""
    assert home.rows() < set(range(round(ROWS * 0.3)))


def test_a_month_that_lost_a_few_rows_is_loaded(home):
    home.publish()
    assert home.load() == ""
    home.publish(rows=round(ROWS * 0.95))
    assert home.load() == ""
    assert home.rows() == kept(round(ROWS * 0.95))


@pytest.mark.long
def test_generated_trips_replace_real_ones_only_on_request_and_real_ones_replace_them(home):
    home.publish()
    assert home.load() == ""
    error = home.load("sample")
    assert f"{ROWS:,} real yellow trips" in error
    assert "--replace-real" in error
    assert home.rows() == kept(ROWS)
    assert home.load("sample", replace_real=True) == ""
    assert home.rows() == kept(500)
    assert home.load() == ""
    assert home.rows() == kept(ROWS)
