"""New York's taxi trip records as Dagster assets, month by month."""
