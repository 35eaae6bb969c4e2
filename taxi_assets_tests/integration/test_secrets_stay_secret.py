"""A marker in every secret setting is in nothing that loads write, whether they succeed or fail."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dagster as dg
import duckdb
import psycopg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap  # what a code server sends to the UI

from taxi_assets.cli.main import main
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.definitions import build_defs
from taxi_assets.publisher.sample import write_sample
from taxi_assets.settings import load_settings
from taxi_assets_tests.alert_servers import mail_server, webhook
from taxi_assets_tests.postgres_fixtures import PostgresServer, as_user, run_sql
from taxi_assets_tests.processes import REPOSITORY, free_port

PLAIN, ENCODED = "Zq7Marker", "%5Aq7Marker"
FORMS = ("q7Marker", base64.b64encode(f"u:{PLAIN}".encode()).decode().rstrip("="))
"""What is searched for: the part that a marker and its percent-encoded form have in common, and an HTTP Basic login."""
GOOD, DAMAGED, REDIRECTED, ECHOED = "2021-01", "2021-02", "2021-03", "2021-04"
STATUSES = {"2021-05": 403, "2021-06": 404, "2021-07": 500, "2021-08": 401}


class Publisher(BaseHTTPRequestHandler):
    """A publisher that requires a login and a token, and fails for most months, some of them with the address in the answer."""

    file: bytes = b""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        month = path[-14:-7]
        login = f"Basic {base64.b64encode(f'u:{PLAIN}'.encode()).decode()}"
        if self.headers["Authorization"] != login or query != f"token={PLAIN}":
            self.send_error(401)
        elif month == REDIRECTED:
            self.send_response(302)
            self.send_header("Location", f"http://u:{PLAIN}@127.0.0.1:9/moved?signature={PLAIN}")
            self.end_headers()
        elif month in STATUSES:
            self.send_error(STATUSES[month], explain=f"{self.path} {login}")
        else:
            contents = {GOOD: self.file, DAMAGED: self.file[:500], ECHOED: f"<html>{self.path} {login}</html>".encode()}
            self.send_response(200)
            self.send_header("Content-Length", str(len(contents[month])))
            self.send_header("ETag", '"1"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(contents[month])

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[str]:
    """The value of TAXI_SOURCE, with a login and a token."""
    path = tmp_path / "published.csv.gz"
    write_sample(path, YELLOW, Month.parse(GOOD), 500)
    Publisher.file = path.read_bytes()
    path.unlink()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Publisher)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://u:{ENCODED}@127.0.0.1:{server.server_address[1]}/trips_{{month}}.csv.gz?token={PLAIN}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def role(postgres_url: str, postgres_server: PostgresServer) -> Iterator[str]:
    """The address of the database for a user `secretive` whose password is the marker, percent-encoded."""
    database = postgres_url.rpartition("/")[2]
    run_sql(
        postgres_url,
        f"CREATE ROLE secretive LOGIN PASSWORD '{PLAIN}'",
        f"GRANT CREATE ON DATABASE {database} TO secretive",
    )
    yield as_user(postgres_url, "secretive", ENCODED)
    run_sql(postgres_url, "DROP OWNED BY secretive CASCADE", "DROP ROLE secretive")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder, and an environment in which nothing waits between attempts."""
    shutil.copy(REPOSITORY / "dagster.yaml", tmp_path)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr("taxi_assets.assets.common.RETRY", dg.RetryPolicy(max_retries=1))
    return tmp_path


class World:
    """Loads with settings, and everything that was shown on the way."""

    def __init__(self, project: Path, monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance) -> None:
        self.project, self._monkeypatch, self.instance = project, monkeypatch, instance
        self.shown: dict[str, str] = {}

    def set(self, **values: object) -> None:
        for name, value in values.items():
            self._monkeypatch.setenv(f"TAXI_{name.upper()}", str(value))

    def load(self, month: str, *assets: str) -> bool:
        """Load assets of a month, by default all; return whether that succeeded."""
        defs = build_defs(load_settings())
        self.shown[f"snapshot {len(self.shown)}"] = dg.serialize_value(
            RepositorySnap.from_def(defs.get_repository_def())
        )
        job = defs.resolve_job_def("load_month")
        if assets:
            job = job.get_subset(asset_selection={dg.AssetKey(name) for name in assets}, asset_check_selection=set())
        return job.execute_in_process(partition_key=f"{month}-01", instance=self.instance, raise_on_error=False).success

    def alert(self, **values: object) -> None:
        """Report all failures of runs so far."""
        self.set(**values)
        defs = build_defs(load_settings())
        with dg.build_sensor_context(instance=self.instance, definitions=defs) as context:
            data = defs.resolve_sensor_def("alerts").evaluate_tick(context)
        self.shown[f"alerts {len(self.shown)}"] = f"{data.skip_message} {data.cursor}"

    def leaks(self) -> list[str]:
        """Name everything that contains a marker."""
        for run in self.instance.get_runs():
            self.shown[f"run {run.run_id}"] = dg.serialize_value(run)
            self.shown[f"events of {run.run_id}"] = "".join(map(dg.serialize_value, self.instance.all_logs(run.run_id)))
            self.shown[f"job of {run.run_id}"] = dg.serialize_value(self.instance.get_job_snapshot(run.job_snapshot_id))
            self.shown[f"plan of {run.run_id}"] = dg.serialize_value(
                self.instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id)
            )
        found = [name for name, text in self.shown.items() if any(form in text for form in FORMS)]
        files = [path for path in self.project.rglob("*") if path.is_file() and path.name not in (".env", "key.json")]
        return found + [
            str(path)
            for path in files
            if any(form.encode() in path.read_bytes() or form in str(path) for form in FORMS)
        ]


@pytest.fixture
def world(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with dg.DagsterInstance.get() as instance:
        yield World(project, monkeypatch, instance)


def in_postgres(url: str) -> str:
    """Every row of every table, as text."""
    with psycopg.connect(url) as connection:
        tables = connection.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'ny_taxi'")
        names = [name for (name,) in tables]
        assert {"load_history", "month_manifests"} <= set(names)
        return "\n".join(str(connection.execute(f"SELECT * FROM ny_taxi.{name}").fetchall()) for name in names)


def in_duckdb(path: Path) -> str:
    with duckdb.connect(str(path), read_only=True) as connection:
        tables = connection.execute("SELECT schema_name, table_name FROM duckdb_tables()").fetchall()
        assert len(tables) > 1
        return "\n".join(str(connection.sql(f'SELECT * FROM "{s}"."{t}"').fetchall()) for s, t in tables)


def test_no_secret_is_in_what_loads_that_succeed_and_that_fail_write(world, publisher, role, capfd):
    with ExitStack() as stack:
        hook, mail = stack.enter_context(webhook()), stack.enter_context(mail_server())
        world.set(source=publisher, postgres_url=role, celery_broker=f"redis://:{PLAIN}@127.0.0.1:6379/0")
        channels = {"smtp_url": f"smtp://u:{ENCODED}@127.0.0.1:{mail.port}", "alert_email": "me@example.com"}
        assert world.load(GOOD)
        for month in (DAMAGED, REDIRECTED, ECHOED, *STATUSES):
            assert not world.load(month, "raw_trips"), month
        world.alert(alert_webhook=f"{hook.url}?token={PLAIN}", **channels)
        assert len(hook.posted) == len(mail.mails) > 1
        hook.answer = 404
        world.alert(alert_webhook=f"{hook.url}?token={PLAIN}", smtp_url=f"smtp://u:{PLAIN}@127.0.0.1:{free_port()}")
        world.alert(alert_webhook=f"http://u:{ENCODED}@no-such-host.invalid/{PLAIN}")
        world.shown["posted"] = json.dumps(hook.posted)
        world.shown["mails"] = "\n".join(each.as_string() for each in mail.mails)
    world.shown["Postgres"] = in_postgres(role)
    world.shown["DuckDB"] = in_duckdb(world.project / ".taxi" / "warehouse.duckdb")
    assert main(["summary", GOOD]) == 0
    world.set(source=f"http://u:{ENCODED}@127.0.0.1:{free_port()}/{{month}}.csv?token={PLAIN}")
    assert not world.load(GOOD, "raw_trips")
    assert main(["status", "--from", GOOD, "--to", DAMAGED]) == 0
    world.shown["printed"] = "".join(capfd.readouterr())
    assert len(world.instance.get_runs()) >= 9
    assert world.leaks() == []


def postgres_addresses(port: int, name: str) -> dict[str, str]:
    return {
        "percent-encoded": f"postgresql://u:{ENCODED}@127.0.0.1:{port}/{name}",
        "as it is": f"postgresql://u:{PLAIN}@127.0.0.1:{port}/{name}",
        "in the query string": f"postgresql://127.0.0.1:{port}/{name}?user=u&password={PLAIN}&sslpassword={PLAIN}",
        "key=value": f"host=127.0.0.1 port={port} user=u dbname={name} password='{PLAIN}'",
    }


def test_no_secret_is_in_what_loads_write_when_a_sink_refuses(world, publisher, postgres_url, capfd):
    world.set(source=publisher, postgres_url=postgres_url)
    assert world.load(GOOD, "raw_trips", "clean_trips", "rejected_trips")
    server, _, name = postgres_url.rpartition("/")
    for port in (int(server.rpartition(":")[2]), free_port()):  # a wrong password, and no server
        for shape, address in postgres_addresses(port, name).items():
            world.set(postgres_url=address)
            assert not world.load(GOOD, "postgres_table"), shape
    for content in (
        f"{PLAIN} is no JSON",
        json.dumps({"type": "service_account", "private_key": PLAIN}),
        json.dumps(key()),
    ):
        (world.project / "key.json").write_text(content)
        world.set(gcp_key_file=world.project / "key.json", bigquery_project="project", bucket="gs://bucket")
        assert not world.load(GOOD, "bq_table")
        assert not world.load(GOOD, "gcs_parquet")
    world.shown["printed"] = "".join(capfd.readouterr())
    assert world.leaks() == []


def key() -> dict[str, str]:
    """A service account key whose private key is broken."""
    private = f"-----BEGIN PRIVATE KEY-----\n{PLAIN}\n-----END PRIVATE KEY-----\n"
    return {"type": "service_account", "client_email": "a@b", "token_uri": "https://h", "private_key": private}


def test_dagsters_command_line_shows_no_secret_of_a_load_and_of_settings_that_are_refused(world, publisher, role):
    secrets = {
        "SOURCE": publisher,
        "POSTGRES_URL": role,
        "ALERT_WEBHOOK": f"http://127.0.0.1/{PLAIN}",
        "SMTP_URL": f"smtp://u:{ENCODED}@127.0.0.1",
        "CELERY_BROKER": f"redis://:{PLAIN}@127.0.0.1",
        "ALERT_EMAIL": "me@example.com",
    }
    (world.project / ".env").write_text("".join(f"TAXI_{name}='{value}'\n" for name, value in secrets.items()))
    load = ["asset", "materialize", "--select", "raw_trips", "--partition", f"{DAMAGED}-01"]
    for name, arguments, settings in (
        ("a load", load, {}),
        ("an invalid setting", ["definitions", "validate"], {"TAXI_SAMPLE_ROWS": "none"}),
        (
            "an unescaped password",
            ["definitions", "validate"],
            {"TAXI_POSTGRES_URL": f"postgresql://u:9/{PLAIN}#@host/d"},
        ),
        (
            "an unescaped source",
            ["definitions", "validate"],
            {"TAXI_SOURCE": f"https://u:{PLAIN}@9/x#1@host/{{month}}"},
        ),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "dagster", *arguments, "-m", "taxi_assets.definitions"],
            cwd=world.project,
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1, done.stderr
        world.shown[name] = done.stdout + done.stderr
    assert "TAXI_SAMPLE_ROWS should be a valid integer" in world.shown["an invalid setting"]
    assert "TAXI_POSTGRES_URL must be postgresql://" in world.shown["an unescaped password"]
    assert "TAXI_SOURCE must be a URL" in world.shown["an unescaped source"]
    assert world.leaks() == []
