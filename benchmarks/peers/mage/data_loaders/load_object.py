"""The course's loader of the third pipeline: the object that the second one wrote."""

import os

import pandas as pd

if "data_loader" not in globals():
    from mage_ai.data_preparation.decorators import data_loader


@data_loader
def load_object(*args, **kwargs):
    return pd.read_parquet(os.path.join(os.environ["BENCH_BUCKET"], "nyc_taxi_data.parquet"))
