"""Months between assets: immutable Parquet files, how they are staged, cleaned and kept."""
