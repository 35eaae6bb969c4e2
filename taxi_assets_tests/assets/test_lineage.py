"""Every column has its lineage: the asset and column from which it is computed."""

import dagster as dg
import pytest

from taxi_assets.definitions import build_defs

UPSTREAM = {
    "clean_trips": "raw_trips",
    "rejected_trips": "raw_trips",
    "postgres_table": "clean_trips",
    "gcs_parquet": "clean_trips",
    "gcs_partitioned": "clean_trips",
    "bq_table": "gcs_parquet",
    "daily_summary": "bq_table",
}


@pytest.mark.parametrize("name", UPSTREAM)
def test_columns_are_traced_to_columns_that_exist(name):
    graph = build_defs().resolve_asset_graph()
    metadata = graph.get(dg.AssetKey(name)).metadata
    parents = {key.to_user_string() for key in graph.get(dg.AssetKey(name)).parent_keys}
    known = {column.name for column in graph.get(dg.AssetKey(UPSTREAM[name])).metadata["dagster/column_schema"].columns}
    own = {column.name for column in metadata["dagster/column_schema"].columns}
    lineage = metadata["dagster/column_lineage"].deps_by_column
    assert UPSTREAM[name] in parents
    assert own - lineage.keys() <= {"trips"}  # the row count has no source column
    for dep in (dep for deps in lineage.values() for dep in deps):
        assert dep.asset_key.to_user_string() == UPSTREAM[name]
        assert dep.column_name in known
