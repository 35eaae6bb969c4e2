"""Every sink as the contract sees it. What a place is, is in `base`; what is particular to a sink, beside it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from taxi_assets_tests.sinks.places.base import Place, Servers
from taxi_assets_tests.sinks.places.buckets import ObjectsPlace
from taxi_assets_tests.sinks.places.lake import LakePlace
from taxi_assets_tests.sinks.places.postgres import PostgresPlace
from taxi_assets_tests.sinks.places.warehouses import BigQueryPlace, DuckDBPlace

SINKS: dict[str, type[Place]] = {
    "postgres": PostgresPlace,
    "object": ObjectsPlace,
    "days": ObjectsPlace,
    "daily": ObjectsPlace,
    "duckdb": DuckDBPlace,
    "gcs-object": ObjectsPlace,
    "gcs-days": ObjectsPlace,
    "gcs-daily": ObjectsPlace,
    "bigquery": BigQueryPlace,
    "lake": LakePlace,
    "lake-copied": LakePlace,
}


@contextmanager
def place_of(name: str, servers: Servers, folder: Path) -> Generator[Place]:
    """The sink in a fresh place."""
    with ExitStack() as stack:
        yield SINKS[name](name, servers, folder, stack)
