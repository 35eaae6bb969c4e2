"""What tests of the BigQuery sink share: the sink in a dataset of its own, months in the bucket, a wire that is watched.

Import the fixtures you use by name into the test module.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery as google

from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.datasets.schema import Column
from taxi_assets.sinks.bigquery.io_manager import BigQueryIOManager
from taxi_assets.sinks.contract import WriteContext
from taxi_assets_tests.bigquery_fixtures import PROJECT, BigQueryServer, Request, Wire, bigquery_sink, wire_to
from taxi_assets_tests.months import month_of_trips

JANUARY, FEBRUARY = Month(2021, 1), Month(2021, 2)
TIP = Column("tip_jar", "double", "Coins, US dollars.")


@pytest.fixture
def server(bigquery: BigQueryServer) -> BigQueryServer:
    return bigquery


@pytest.fixture
def sink(server: BigQueryServer) -> BigQueryIOManager:
    return bigquery_sink(server.endpoint)


@pytest.fixture
def wire(server: BigQueryServer) -> Iterator[Wire]:
    with wire_to(server.endpoint) as wire:
        yield wire


@pytest.fixture
def made(server: BigQueryServer, tmp_path: Path) -> Callable[..., MonthFile]:
    """A month in the bucket."""

    def make(month: str = "2021-01", rows: int = 500, seed: int = 0, **options) -> MonthFile:
        return server.upload(month_of_trips(tmp_path / "made", month, rows, seed, **options))

    return make


def a_run(run_id: str | None = None, log: Callable[[str], None] = lambda _: None) -> WriteContext:
    return WriteContext(run_id or str(uuid.uuid4()), "token", log, {})


def at_uri(trips: MonthFile, uri: str, generation: int = 0) -> MonthFile:
    return MonthFile(trips.path, trips.month, uri=uri, generation=generation)


def client(sink: BigQueryIOManager) -> google.Client:
    options = {"api_endpoint": sink.api_endpoint}
    return google.Client(PROJECT, AnonymousCredentials(), location="US", client_options=options)


def is_load(request: Request) -> bool:
    return request.method == "POST" and "load" in request.body.get("configuration", {})


def loads(wire: Wire) -> list[Request]:
    return [request for request in wire.requests if is_load(request)]


def first(times: int, trouble: object, of: Callable[[Request], bool] = lambda _: True) -> Callable[[Request], object]:
    """Trouble for the first `times` requests that `of` picks."""
    left = iter(range(times))
    return lambda request: trouble if of(request) and next(left, None) is not None else None
