"""One Parquet object a day."""
