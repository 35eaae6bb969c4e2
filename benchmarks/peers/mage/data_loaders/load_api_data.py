"""The course's loader: the published csv.gz through pandas, with its dtypes."""

import os

import pandas as pd

if "data_loader" not in globals():
    from mage_ai.data_preparation.decorators import data_loader
if "test" not in globals():
    from mage_ai.data_preparation.decorators import test

TAXI_DTYPES = {
    "VendorID": pd.Int64Dtype(),
    "passenger_count": pd.Int64Dtype(),
    "trip_distance": float,
    "RatecodeID": pd.Int64Dtype(),
    "store_and_fwd_flag": str,
    "PULocationID": pd.Int64Dtype(),
    "DOLocationID": pd.Int64Dtype(),
    "payment_type": pd.Int64Dtype(),
    "fare_amount": float,
    "extra": float,
    "mta_tax": float,
    "tip_amount": float,
    "tolls_amount": float,
    "improvement_surcharge": float,
    "total_amount": float,
    "congestion_surcharge": float,
}


@data_loader
def load_data_from_api(*args, **kwargs):
    return pd.read_csv(
        os.environ["BENCH_URL"],
        sep=",",
        compression="gzip",
        dtype=TAXI_DTYPES,
        parse_dates=["tpep_pickup_datetime", "tpep_dropoff_datetime"],
    )


@test
def test_output(output, *args) -> None:
    assert output is not None, "The output is undefined"
