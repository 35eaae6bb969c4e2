"""Real Postgres servers for tests: the embedded one, and any other version that is installed where Debian's packages put
it, or in another folder of that shape (`13/bin/postgres`, …) that POSTGRES_SERVERS names.

The fixtures are in `conftest`, so that all tests of a process share the servers: a module that imports them has its own.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres
from taxi_assets.sinks.postgres.embedded_home import Home
from taxi_assets_tests.processes import free_port, until

OTHERS = {
    path.parent.name: path
    for path in sorted(Path(os.environ.get("POSTGRES_SERVERS") or "/usr/lib/postgresql").glob("*/bin"))
}
"""The programs of other installed versions, by major number."""
ON_OTHER_VERSIONS = pytest.mark.parametrize("every_postgres_server", list(OTHERS), indirect=True)
"""For what the contract suite does on the embedded server."""


@dataclasses.dataclass(frozen=True)
class PostgresServer:
    """A running server: where, and the folder of its data."""

    url: str
    data: Path
    embedded: EmbeddedPostgres | None = None

    def start(self) -> None:
        """Start the embedded server again, where it was."""
        assert self.embedded.url() == self.url

    def kill(self) -> None:
        """kill -9 of the server, and wait until its other processes have noticed."""
        pid = int((self.data / "postmaster.pid").read_text().split()[0])
        children = psutil.Process(pid).children(recursive=True)
        os.kill(pid, signal.SIGKILL)
        psutil.wait_procs(children, timeout=20)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """The embedded server, one per test process; tests share it, each with its own database."""
    embedded = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"))
    yield PostgresServer(embedded.url(), embedded.data, embedded)
    embedded.remove()


@pytest.fixture(scope="session", params=["embedded", *OTHERS])
def every_postgres_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PostgresServer]:
    """The embedded server and every other installed version in turn."""
    if request.param == "embedded":
        yield request.getfixturevalue("postgres_server")
    else:
        yield from _installed(OTHERS[request.param])


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """An empty database on the embedded server, by its address."""
    yield from _database(postgres_server)


@pytest.fixture
def every_postgres_url(every_postgres_server: PostgresServer) -> Iterator[str]:
    """An empty database on every installed version of the server."""
    yield from _database(every_postgres_server)


@pytest.fixture
def own_postgres_server(tmp_path: Path) -> Iterator[PostgresServer]:
    """A separate embedded server that the test may kill, in the folder that the sink uses without a URL."""
    embedded = EmbeddedPostgres(tmp_path / ".taxi" / "postgres")
    yield PostgresServer(embedded.url(), embedded.data, embedded)
    embedded.remove()


@contextmanager
def encrypting(server: PostgresServer, certificate: Path, key: Path) -> Generator[None]:
    """The server with TLS switched on; skips the test where it was built without."""
    owner = server.data.stat()
    for source, name in ((certificate, "server.crt"), (key, "server.key")):
        target = server.data / name
        shutil.copyfile(source, target)
        target.chmod(0o600)
        os.chown(target, owner.st_uid, owner.st_gid)
    try:
        run_sql(server.url, "ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()")
    except psycopg.errors.InvalidParameterValue:
        pytest.skip("this server was built without TLS")
    try:
        until(lambda: rows_of(server.url, "SHOW ssl") == [("on",)], 20, "the server to switch TLS on")
        yield
    finally:
        run_sql(server.url, "ALTER SYSTEM RESET ssl", "SELECT pg_reload_conf()")
        until(lambda: rows_of(server.url, "SHOW ssl") == [("off",)], 20, "the server to switch TLS off")


def rows_of(url: str, query: str, *parameters: object) -> list[tuple]:
    """The rows of a query, on a new connection."""
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(query, parameters).fetchall()


def run_sql(url: str, *statements: str) -> None:
    """Run statements, each in its own transaction."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def as_user(url: str, user: str, password: str) -> str:
    """The address for another user."""
    parts = conninfo_to_dict(url)
    return f"postgresql://{user}:{password}@{parts['host']}:{parts['port']}/{parts['dbname']}"


def _database(server: PostgresServer) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    run_sql(server.url, f"CREATE DATABASE {name}")
    yield server.url.rpartition("/")[0] + f"/{name}"
    run_sql(server.url, f"DROP DATABASE {name} WITH (FORCE)")


def _installed(programs: Path) -> Iterator[PostgresServer]:
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="taxi-test-postgres-") as folder:
        os.chmod(folder, 0o755)  # its user is nobody when the tests run as root
        home = Home(Path(folder))
        home.__dict__["programs"] = programs
        word = home.folder / "password"
        home.own_file(word, "secret")
        home.own_file(home.log, "")
        home.own_folder(home.data)
        port = free_port()
        made = home.run(
            "initdb", "-U", "taxi", "-A", "scram-sha-256", "--pwfile", word, "--locale=C", "-E", "UTF8", "-D", home.data
        )
        assert made.returncode == 0, made.stderr
        options = f"-c port={port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        started = home.run("pg_ctl", "start", "-w", "-D", home.data, "-l", home.log, "-o", options)
        assert started.returncode == 0, home.log.read_text()
        try:
            yield PostgresServer(f"postgresql://taxi:secret@127.0.0.1:{port}/postgres", home.data)
        finally:
            home.stop()
