"""DuckDB: a month replaced in one transaction of a file."""
