"""Postgres behind PgBouncer with transaction pooling: a connection of the server is another client's after each transaction."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from taxi_assets.datasets.schema import YELLOW
from taxi_assets.sinks.contract import WriteContext
from taxi_assets.sinks.postgres.io_manager import PostgresIOManager
from taxi_assets_tests.months import month_of_trips, same_trips
from taxi_assets_tests.postgres_fixtures import rows_of
from taxi_assets_tests.processes import end, free_port, until


@pytest.fixture
def pooled_url(postgres_url: str, tmp_path: Path) -> Iterator[str]:
    """The database through a pool of one connection."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if not program:
        pytest.skip("PgBouncer is not installed (Debian: apt-get install pgbouncer)")
    at, port = conninfo_to_dict(postgres_url), free_port()
    (tmp_path / "pgbouncer.ini").write_text(
        f"[databases]\ntrips = host={at['host']} port={at['port']} dbname={at['dbname']} user={at['user']} "
        f"password={at['password']}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\n"
        "unix_socket_dir =\npool_mode = transaction\ndefault_pool_size = 1\n"
    )
    user = ["-u", "nobody"] if os.getuid() == 0 else []
    with (tmp_path / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen([program, "-q", *user, str(tmp_path / "pgbouncer.ini")], stderr=log, stdout=log)
    try:
        until(lambda: accepts(port), 20, "PgBouncer")
        yield f"postgresql://anyone@127.0.0.1:{port}/trips"
    finally:
        end(process)


def accepts(port: int) -> bool:
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False


def test_a_load_leaves_no_setting_on_the_connection_of_the_pool(pooled_url: str, tmp_path: Path) -> None:
    names = ("statement_timeout", "lock_timeout")
    before = [rows_of(pooled_url, f"SHOW {name}") for name in names]
    sink, trips = PostgresIOManager(url=pooled_url), month_of_trips(tmp_path, "2021-01", 500)
    for run in ("first", "second"):
        sink.replace(YELLOW.table, trips, WriteContext(run, "token", lambda _: None, {}))
    assert same_trips(sink.read(YELLOW.table, trips.month), trips)
    assert [rows_of(pooled_url, f"SHOW {name}") for name in names] == before
