"""API to Postgres with dlt, the fast way it documents: Arrow tables, loaded by ADBC. Stand-alone, in dlt's environment."""

import gzip
import os
import urllib.request

import dlt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

env = os.environ
CREDENTIALS = (
    f"postgresql://{env['BENCH_POSTGRES_USER']}:{env['BENCH_POSTGRES_PASSWORD']}@{env['BENCH_POSTGRES_HOST']}:"
    f"{env['BENCH_POSTGRES_PORT']}/{env['BENCH_POSTGRES_DATABASE']}"
)
INTEGERS = ("VendorID", "passenger_count", "RatecodeID", "PULocationID", "DOLocationID", "payment_type")
NUMBERS = ("trip_distance", "fare_amount", "extra", "mta_tax", "tip_amount", "tolls_amount", "improvement_surcharge",
           "total_amount", "congestion_surcharge")  # fmt: skip
TYPES = {
    **dict.fromkeys(INTEGERS, pa.int64()),
    **dict.fromkeys(NUMBERS, pa.float64()),
    **dict.fromkeys(("tpep_pickup_datetime", "tpep_dropoff_datetime"), pa.timestamp("us")),
    "store_and_fwd_flag": pa.string(),
}


@dlt.resource(name="yellow_cab_data", write_disposition="replace")
def trips():
    with urllib.request.urlopen(env["BENCH_URL"]) as answer, gzip.open(answer) as file:
        options = pa.csv.ConvertOptions(column_types=TYPES, strings_can_be_null=True)
        for batch in pa.csv.open_csv(file, pa.csv.ReadOptions(block_size=16 << 20), convert_options=options):
            yield pa.Table.from_batches([batch]).filter(pc.field("passenger_count") > 0)


pipeline = dlt.pipeline(
    "taxi",
    destination=dlt.destinations.postgres(CREDENTIALS),
    dataset_name="dlt_taxi",
    pipelines_dir=env["BENCH_SCRATCH"] + "/dlt",
)
info = pipeline.run(trips(), loader_file_format="parquet")
info.raise_on_failed_jobs()
