"""The course's partitioned export: pyarrow's dataset in folders by pickup date; a directory stands in for the bucket."""

import os
import shutil

import pyarrow as pa
import pyarrow.parquet as pq

if "data_exporter" not in globals():
    from mage_ai.data_preparation.decorators import data_exporter


@data_exporter
def export_data(data, *args, **kwargs) -> None:
    root = os.path.join(os.environ["BENCH_BUCKET"], "nyc_taxi_data")
    shutil.rmtree(root, ignore_errors=True)
    data["tpep_pickup_date"] = data["tpep_pickup_datetime"].dt.date
    pq.write_to_dataset(pa.Table.from_pandas(data), root_path=root, partition_cols=["tpep_pickup_date"])
