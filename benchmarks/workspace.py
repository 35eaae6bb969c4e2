"""What the cases share: a folder with the months they read, a Postgres server, a local HTTP server as the publisher."""

from __future__ import annotations

import gzip
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from isal import igzip

from benchmarks.measure import Case, Sample, run

REPOSITORY = Path(__file__).resolve().parent.parent
DEFAULT_FOLDER = REPOSITORY / ".taxi" / "bench"
MONTH = "2021-01"
ROWS = 1_370_000
"""Yellow 2021-01, the month of the courses, has 1,369,765 rows."""


class Workspace:
    """One folder for months of `rows` rows, and the environment of everything that is measured on them."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder, self.rows = folder.resolve(), rows
        self.inputs = self.folder / f"months-{rows}"
        self.home = self.folder / "home"
        self._url = self._postgres = ""
        self._wire: dict[str, str] = {}

    def env(self, folder: str = "", home: str = "home") -> dict[str, str]:
        """The environment of a case, with the months of a folder of the publisher's; no TAXI_* of the user's."""
        server = urlsplit(self._postgres)
        ours = {
            "DAGSTER_HOME": self.folder / home,
            "TAXI_SOURCE": f"{self._url}/{folder}{{kind}}_tripdata_{{month}}.csv.gz",
            "TAXI_POSTGRES_URL": self._postgres,
        }
        bench = {
            "BENCH_MONTH": MONTH,
            "BENCH_ROWS": self.rows,
            "BENCH_INPUTS": self.inputs,
            "BENCH_SCRATCH": self.folder / "scratch",
            "BENCH_PEERS": self.folder / "peers",
            "BENCH_URL": f"{self._url}/yellow_tripdata_{MONTH}.csv.gz",
            "BENCH_POSTGRES_HOST": server.hostname,
            "BENCH_POSTGRES_PORT": server.port,
            "BENCH_POSTGRES_USER": server.username,
            "BENCH_POSTGRES_PASSWORD": server.password,
            "BENCH_POSTGRES_DATABASE": server.path.lstrip("/"),
        }
        kept = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("TAXI_", "BENCH_", "DAGSTER_", "PYTHONPATH", "PYTHONDONTWRITE"))
        }
        return {
            **kept,
            "PYTHONPATH": str(REPOSITORY),
            **{k: str(v) for k, v in {**ours, **self._wire, **bench}.items()},
        }

    @contextmanager
    def ready(self, months: tuple[str, ...] = (MONTH,)) -> Generator[Workspace]:
        """Months made, servers up; they are stopped at the end, the months stay for the next time."""
        for month in months:
            make_month(self.inputs, month, self.rows)
        for home in (self.home, self.folder / "noop"):
            home.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / "dagster.yaml", home / "dagster.yaml")
        (self.folder / "scratch").mkdir(exist_ok=True)
        with postgres(self.folder / "postgres") as self._postgres, publisher(self.inputs) as self._url:
            yield self

    @contextmanager
    def wired(self) -> Generator[None]:
        """The bucket and the warehouse over the wire: emulators of Cloud Storage and BigQuery, which hold nothing yet."""
        from taxi_assets_tests.emulators.__main__ import start, stop
        from taxi_assets_tests.processes import free_port

        folder = self.folder / "emulators"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            self._wire = start(folder, (free_port(), free_port(), free_port()))
            self._wire["TAXI_POSTGRES_URL"] = self._postgres
            yield
        finally:
            self._wire = {}
            stop(folder)

    def run(self, case: Case) -> Sample:
        """Settle the workspace and run a case once."""
        self.settle()
        return run(case, self.env(case.folder, case.home) | dict(case.env), self.folder / case.home)

    def settle(self) -> None:
        """Before each run: nothing downloaded is at hand, and no run pays for what an earlier one left to be written."""
        shutil.rmtree(self.home / ".taxi" / "downloads", ignore_errors=True)
        import psycopg

        with psycopg.connect(self._postgres, autocommit=True) as connection:
            connection.execute("CHECKPOINT")
        os.sync()

    def forget(self) -> None:
        """Remove what the graph loaded, and what Dagster recorded of it."""
        import psycopg

        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)
        shutil.copyfile(REPOSITORY / "dagster.yaml", self.home / "dagster.yaml")
        with psycopg.connect(self._postgres, autocommit=True) as connection:
            connection.execute("DROP SCHEMA IF EXISTS ny_taxi CASCADE")


def make_month(folder: Path, month: str, rows: int) -> None:
    """The generated month as csv.gz, twice: as it is in `folder/damaged`, and in `folder` without its unreadable lines,
    on which the original and the other tools fail."""
    from taxi_assets.core.month import Month
    from taxi_assets.datasets.schema import KINDS
    from taxi_assets.publisher.sample import HEADERS, write_sample

    name = f"yellow_tripdata_{month}.csv.gz"
    target, damaged = folder / name, folder / "damaged" / name
    if target.exists():
        return
    damaged.parent.mkdir(parents=True, exist_ok=True)
    write_sample(damaged, KINDS["yellow"], Month.parse(month), rows)
    commas, rest = HEADERS["yellow"].count(","), b""
    staged = target.with_suffix(".new")
    with igzip.open(damaged) as source, gzip.open(staged, "wb", compresslevel=6) as sink:
        while data := source.read(8 << 20):
            *lines, rest = (rest + data).split(b"\n")
            sound = [x for x in lines if x.count(b",") == commas and b",two," not in x and b"-32 " not in x]
            sink.write(b"".join(line + b"\n" for line in sound))
    staged.replace(target)


@contextmanager
def postgres(folder: Path) -> Generator[str]:
    """The address of an embedded server with the product's own settings: fsync and synchronous_commit are on."""
    from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres

    server = EmbeddedPostgres(folder)
    try:
        yield server.url()
    finally:
        server.stop()


@contextmanager
def publisher(folder: Path) -> Generator[str]:
    """The address of an HTTP server for the files in `folder`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            with suppress(urllib.error.URLError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
                break
            if time.monotonic() > deadline:
                raise RuntimeError("the local HTTP server does not answer")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
