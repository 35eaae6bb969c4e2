"""The third pipeline's export; a DuckDB file stands in for BigQuery, as in ours."""

import os

import duckdb

if "data_exporter" not in globals():
    from mage_ai.data_preparation.decorators import data_exporter


@data_exporter
def export_data(df, *args, **kwargs) -> None:
    with duckdb.connect(os.environ["BENCH_WAREHOUSE"]) as connection:
        connection.execute("CREATE OR REPLACE TABLE yellow_cab_data AS SELECT * FROM df")
