"""API to Postgres in plain pandas as the original's blocks do it: read, filter, COPY csv as Mage's exporter does.

Stand-alone, in an environment of its own.
"""

import io
import os

import pandas as pd
import psycopg2

INTEGERS = ("VendorID", "passenger_count", "RatecodeID", "PULocationID", "DOLocationID", "payment_type")
NUMBERS = ("trip_distance", "fare_amount", "extra", "mta_tax", "tip_amount", "tolls_amount", "improvement_surcharge",
           "total_amount", "congestion_surcharge")  # fmt: skip
TIMES = ("tpep_pickup_datetime", "tpep_dropoff_datetime")
SQL = {
    **dict.fromkeys(INTEGERS, "bigint"),
    **dict.fromkeys(NUMBERS, "double precision"),
    **dict.fromkeys(TIMES, "timestamp"),
}

frame = pd.read_csv(
    os.environ["BENCH_URL"],
    sep=",",
    compression="gzip",
    dtype={**dict.fromkeys(INTEGERS, pd.Int64Dtype()), **dict.fromkeys(NUMBERS, float), "store_and_fwd_flag": str},
    parse_dates=list(TIMES),
)
frame = frame[frame["passenger_count"] > 0]
buffer = io.StringIO()
frame.to_csv(buffer, index=False, header=False)
buffer.seek(0)
login = {part: os.environ[f"BENCH_POSTGRES_{part.upper()}"] for part in ("host", "port", "user", "password")}
with (
    psycopg2.connect(**login, dbname=os.environ["BENCH_POSTGRES_DATABASE"]) as connection,
    connection.cursor() as cursor,
):
    cursor.execute("CREATE SCHEMA IF NOT EXISTS pandas_taxi; DROP TABLE IF EXISTS pandas_taxi.yellow_cab_data")
    columns = ", ".join(f'"{name}" {SQL.get(name, "text")}' for name in frame.columns)
    cursor.execute(f"CREATE TABLE pandas_taxi.yellow_cab_data ({columns})")
    cursor.copy_expert("COPY pandas_taxi.yellow_cab_data FROM STDIN (FORMAT csv)", buffer)
