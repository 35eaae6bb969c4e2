"""Assets materialized from Python: one sink alone, with a key that is no partition, without resources. Each has one clear end."""

import dagster as dg
import pytest

from taxi_assets.core.failures import run_failures
from taxi_assets.definitions import build_defs
from taxi_assets.settings import Settings
from taxi_assets_tests.graph import in_every_sink, postgres  # noqa: F401

INGEST = ["raw_trips", "clean_trips", "rejected_trips"]
KEY = "2021-01-01"


@pytest.fixture
def defs(tmp_path) -> dg.Definitions:
    return build_defs(Settings(source="sample", sample_rows=1_000, home=tmp_path / ".taxi"))


def materialize(defs: dg.Definitions, *names: str, key: str = KEY) -> dg.ExecuteInProcessResult:
    """As docs/operations.md says."""
    return dg.materialize(
        defs.assets, selection=list(names), partition_key=key, resources=defs.resources, raise_on_error=False
    )


def test_a_sink_alone_takes_the_month_from_the_lake_or_says_that_it_is_not_there(defs, tmp_path, postgres):  # noqa: F811
    (failure,) = run_failures(materialize(defs, "postgres_table"))
    assert failure.startswith("postgres_table: 2021-01 has no clean_trips yet (")
    assert failure.endswith("; materialize clean_trips for it first.")
    (failure,) = run_failures(materialize(defs, "bq_table"))
    assert failure.startswith("bq_table: 2021-01: ")
    assert failure.endswith("yellow_tripdata_2021-01.parquet does not exist; materialize its asset for it first.")
    assert materialize(defs, *INGEST).success
    for sink in ("postgres_table", "gcs_parquet", "gcs_partitioned", "bq_table"):
        assert materialize(defs, sink).success
    rows = {name: len(rows) for name, rows in in_every_sink(tmp_path, postgres).items()}
    assert len(set(rows.values())) == 1


@pytest.mark.parametrize("key", ["2021-01", "2021-01-15", "2031-01-01"])
def test_a_key_that_is_no_partition_is_refused_by_dagster(defs, key):
    with pytest.raises(dg.DagsterUnknownPartitionError, match=f"Could not find a partition with key `{key}`"):
        materialize(defs, "raw_trips", key=key)


def test_an_asset_without_its_upstream_or_its_resources_is_refused_by_dagster(defs):
    table = defs.get_assets_def("postgres_table")
    with pytest.raises(dg.DagsterInvalidDefinitionError, match=r"clean_trips.* is not produced by any of the provided"):
        dg.materialize([table], partition_key=KEY, resources=defs.resources)
    with pytest.raises(dg.DagsterInvalidDefinitionError, match=r"io manager with key 'postgres' .* was not provided"):
        dg.materialize([table], partition_key=KEY)
