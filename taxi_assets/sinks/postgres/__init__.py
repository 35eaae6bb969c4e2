"""Postgres: a table partitioned by month, each month replaced by one transaction; the embedded server."""
