"""Two runs of a month at once with different rows: one wins, and the other says so."""

import threading
from pathlib import Path

import dagster as dg

from taxi_assets.core.failures import run_failures
from taxi_assets.definitions import build_defs
from taxi_assets.settings import Settings
from taxi_assets.sinks.postgres.io_manager import PostgresIOManager
from taxi_assets_tests.graph import Database, instance, postgres  # noqa: F401

MONTH = "2021-01-01"
SELECTION = dg.AssetSelection.assets("raw_trips", "clean_trips", "rejected_trips", "postgres_table")


def job(settings: Settings, **overrides: object) -> dg.JobDefinition:
    defs = build_defs(settings, resource_overrides=overrides)
    both = dg.Definitions.merge(defs, dg.Definitions(jobs=[dg.define_asset_job("to_postgres", SELECTION)]))
    return both.resolve_job_def("to_postgres")


def test_the_run_that_loses_names_the_one_that_replaced_the_month_and_can_be_run_again(
    instance: dg.DagsterInstance,  # noqa: F811
    postgres: Database,  # noqa: F811
    tmp_path: Path,
):
    few, many = (Settings(home=tmp_path / ".taxi", source="sample", sample_rows=rows) for rows in (3_000, 3_300))
    rivals = []

    class AfterTheRival(PostgresIOManager):
        def replace(self, *arguments):
            rival = lambda: rivals.append(job(many).execute_in_process(partition_key=MONTH, instance=instance))  # noqa: E731
            thread = threading.Thread(target=rival)
            thread.start()
            thread.join()
            return super().replace(*arguments)

    sink = AfterTheRival(url=postgres.url(), staging=str(few.staging_folder))
    loser = job(few, postgres=sink).execute_in_process(partition_key=MONTH, instance=instance, raise_on_error=False)
    assert rivals[0].success
    assert not loser.success
    (failure,) = run_failures(loser)
    assert failure.startswith(
        f"postgres_table: 2021-01: another run ({rivals[0].run_id[:8]}) replaced clean_trips meanwhile; run it again."
    )
    assert "Dagster" not in failure
    assert job(few).execute_in_process(partition_key=MONTH, instance=instance).success
