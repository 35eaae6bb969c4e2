"""The audit finds what others changed in a sink, reports it, and has it loaded again if repair is on."""

from __future__ import annotations

import dagster as dg
import duckdb
import psycopg
import pytest

from taxi_assets.assets.month_status import month_status, resource_keys
from taxi_assets.automation.schedules import reconciliation
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.definitions import build_defs
from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres
from taxi_assets.status.decide import Cell
from taxi_assets_tests.loaded_months import BEFORE, OLDER, Loaded, loaded_months


@pytest.fixture
def loaded(tmp_path):
    with loaded_months(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory):
    """The same, for tests that change nothing in it."""
    with loaded_months(tmp_path_factory.mktemp("unchanged")) as made:
        yield made


def audit(loaded: Loaded, instance: dg.DagsterInstance | None = None, **settings: object) -> tuple[list[str], str]:
    """Run the audit's job; return the months that it measured, and its error."""
    defs = build_defs(loaded.settings.model_copy(update=settings))
    instance = instance or loaded.instance
    result = defs.resolve_job_def("audit_yellow").execute_in_process(instance=instance, raise_on_error=False)
    logged = instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    months = {entry.dagster_event.asset_check_evaluation_data.partition[:7] for entry in logged if entry.dagster_event}
    errors = [event.step_failure_data.user_failure_data for event in result.all_events if event.is_step_failure]
    return sorted(months), errors[0].description if errors else ""


def due(loaded: Loaded, *, repair: bool) -> list[tuple[str, set[str]]]:
    """What the reconciliation would load: months, with the assets."""
    requests, _ = loaded.tick(reconciliation, repair=repair)
    return [(r.partition_key[:7], {key.to_user_string() for key in r.asset_selection}) for r in requests]


def cell(loaded: Loaded, month: str, sink: str) -> Cell:
    """The state of a month in a sink."""
    with dg.build_resources(
        {name: loaded.defs.resources[name] for name in resource_keys(loaded.settings)}
    ) as resources:
        status = month_status(loaded.instance, loaded.repository.asset_graph, YELLOW, loaded.settings, resources)
        (decision,) = status.decide({}, status.read([Month.parse(month)]))
    return decision.cells[sink]


def delete_trips(loaded: Loaded, month: str) -> None:
    with psycopg.connect(EmbeddedPostgres(loaded.settings.home_folder / "postgres").url()) as connection:
        done = connection.execute(
            "DELETE FROM ny_taxi.yellow_cab_data WHERE date_trunc('month', tpep_pickup_datetime) = %s AND vendorid = 1",
            [f"{month}-01"],
        )
    assert done.rowcount


def test_what_others_changed_is_reported_and_loaded_again_only_if_repair_is_on(loaded):
    assert audit(loaded) == ([OLDER, BEFORE], "")
    delete_trips(loaded, OLDER)
    assert cell(loaded, OLDER, "postgres_table") is Cell.LOADED  # until somebody measures it
    months, error = audit(loaded)
    assert months == [OLDER, BEFORE]
    assert error.startswith(f"1 of 2 audited months differ from the lake: {OLDER}: postgres_table has rows ")
    assert "TAXI_REPAIR=true" in error
    assert cell(loaded, OLDER, "postgres_table") is Cell.DIFFERS
    assert due(loaded, repair=False) == []
    assert due(loaded, repair=True) == [(OLDER, {"postgres_table"})]
    job = loaded.defs.resolve_job_def("load_month")
    part = job.get_subset(asset_selection={dg.AssetKey("postgres_table")})
    assert part.execute_in_process(partition_key=f"{OLDER}-01", instance=loaded.instance).success
    assert cell(loaded, OLDER, "postgres_table") is Cell.LOADED
    assert due(loaded, repair=True) == []
    assert audit(loaded)[1] == ""


def test_trips_inserted_into_the_warehouse_are_found(loaded):
    with duckdb.connect(loaded.settings.home_folder / "warehouse.duckdb") as connection:
        month = f"date_trunc('month', tpep_pickup_datetime) = DATE '{BEFORE}-01'"
        connection.execute(
            f"INSERT INTO ny_taxi.yellow_cab_data SELECT * FROM ny_taxi.yellow_cab_data WHERE {month} LIMIT 1"
        )
    assert f"{BEFORE}: bq_table has rows" in audit(loaded)[1]


def test_a_run_measures_a_bounded_number_of_months_and_the_next_one_continues(unchanged):
    first, _ = audit(unchanged, audit_months=1)
    second, _ = audit(unchanged, audit_months=1)
    third, _ = audit(unchanged, audit_months=1)
    assert sorted(first + second) == [OLDER, BEFORE]
    assert third == first


def test_an_instance_with_another_history_learns_what_the_sinks_have(unchanged):
    with dg.instance_for_test() as other:
        assert audit(unchanged, other) == ([OLDER, BEFORE], "")
        for asset in ("raw_trips", "clean_trips", "postgres_table", "bq_table", "month_report"):
            assert other.get_materialized_partitions(dg.AssetKey(asset)) == {f"{OLDER}-01", f"{BEFORE}-01"}
