"""One Parquet object a month."""
