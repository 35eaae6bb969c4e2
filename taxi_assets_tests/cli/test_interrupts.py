"""Ctrl-C ends a command at once, whatever it waits for, and leaves nothing that counts as running.

The commands are process groups of their own, which get SIGINT as from a terminal.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from taxi_assets.cli.interrupts import INTERRUPTED, LOAD_INTERRUPTED
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres
from taxi_assets.status.run_history import RunHistory
from taxi_assets_tests.misbehaving_server import Fault, Offer, misbehaving_server, wait_for_bytes
from taxi_assets_tests.processes import REPOSITORY, until

SECONDS = 3.0
"""Until a command has ended, on a busy machine."""
FILE = "/yellow_tripdata_2021-01.csv.gz"


class Command:
    """The command `taxi-assets` with its children, and what it prints."""

    def __init__(self, folder: Path, *arguments: str, **settings: str) -> None:
        shutil.copy(REPOSITORY / "dagster.yaml", folder)
        self.folder, self._log = folder, folder / "printed"
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "taxi_assets", *arguments],
                env={**os.environ, "PYTHONPATH": str(REPOSITORY), "DAGSTER_HOME": str(folder)}
                | {f"TAXI_{name.upper()}": value for name, value in settings.items()},
                cwd=folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def printed(self) -> str:
        return self._log.read_text()

    def until_printed(self, text: str) -> None:
        until(lambda: text in self.printed or self.process.poll() is not None, 60, f"{text!r}")
        assert text in self.printed

    def interrupt(self) -> None:
        """Press Ctrl-C; the command ends with exit code 130, and prints nothing after the one line."""
        assert self.process.poll() is None, self.printed
        before = time.monotonic()
        os.killpg(self.process.pid, signal.SIGINT)
        code = self.process.wait(timeout=30)
        assert (code, time.monotonic() - before < SECONDS) == (130, True), self.printed
        until(self._ended, 10, "Dagster's children to end")
        lines = self.printed.splitlines()
        assert [line for line in lines if "Traceback" in line or "Interrupt" in line] == lines[-1:]

    def _ended(self) -> bool:
        """Whether no process of the command's group is left."""
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def runs(self) -> list[dg.DagsterRunStatus]:
        """The statuses of the runs, of which none counts as running."""
        with dg.DagsterInstance.from_config(str(self.folder)) as instance:
            assert RunHistory(instance, YELLOW, {}).running() == {}
            return [run.status for run in instance.get_runs()]


@pytest.fixture
def commands(tmp_path: Path, monkeypatch) -> Iterator[list[Command]]:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    started: list[Command] = []
    yield started
    for command in started:
        if command.process.poll() is None:
            os.killpg(command.process.pid, signal.SIGKILL)
            command.process.wait()


@pytest.fixture
def unreachable() -> Iterator[str]:
    """An address that does not answer: the queue of its connections is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        clients = [socket.socket() for _ in range(4)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield f"127.0.0.1:{server.getsockname()[1]}"
        for client in clients:
            client.close()


def test_a_download_is_interrupted_and_the_embedded_postgres_keeps_running(tmp_path, commands):
    postgres = EmbeddedPostgres(tmp_path / ".taxi" / "postgres")
    with misbehaving_server() as server:
        server.offers[FILE] = Offer(b"x" * 10_000_000)
        server.script(FILE, then=Fault(piece=1000, pause=0.05))
        source = f"{server.address}/yellow_tripdata_{{month}}.csv.gz"
        commands.append(command := Command(tmp_path, "run", "2021-01", source=source))
        try:
            wait_for_bytes(server, 5000, 60)
            command.interrupt()
            assert command.printed.endswith(f"{LOAD_INTERRUPTED}\n")
            assert command.runs() == [dg.DagsterRunStatus.CANCELED]
            assert postgres.running()
            postgres.stop()
            assert not postgres.running()
        finally:
            postgres.remove()


@pytest.mark.parametrize("what", ["source", "postgres"])
def test_a_connection_to_a_host_that_does_not_answer_is_interrupted(
    tmp_path, commands, unreachable, postgres_url, what
):
    source = f"http://{unreachable}/{{month}}.csv" if what == "source" else "sample"
    url = f"postgresql://user:password@{unreachable}/database" if what == "postgres" else postgres_url
    commands.append(command := Command(tmp_path, "run", "2021-01", source=source, postgres_url=url))
    host, _, port = unreachable.partition(":")
    tried = f"{int.from_bytes(socket.inet_aton(host), 'little'):08X}:{int(port):04X} 02 "
    until(lambda: Path("/proc/net/tcp").read_text().count(tried) > 3, 60, "the connection")
    time.sleep(0.5)
    command.interrupt()
    assert command.printed.endswith(f"{LOAD_INTERRUPTED}\n")
    assert set(command.runs()) <= {dg.DagsterRunStatus.CANCELED}


def test_a_load_that_waits_for_a_lock_in_postgres_is_interrupted(tmp_path, commands, postgres_url):
    with psycopg.connect(postgres_url) as other:
        other.execute("CREATE SCHEMA ny_taxi")  # until this transaction ends, nobody else can create it
        commands.append(
            command := Command(
                tmp_path, "run", "2021-01", source="sample", sample_rows="1000", postgres_url=postgres_url
            )
        )
        with psycopg.connect(postgres_url, autocommit=True) as watching:
            waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            until(lambda: watching.execute(waits).fetchone(), 60, "the load to wait")
        command.interrupt()
    assert command.printed.endswith(f"{LOAD_INTERRUPTED}\n")
    assert command.runs() == [dg.DagsterRunStatus.CANCELED]


def test_a_pause_between_attempts_is_interrupted(tmp_path, commands, postgres_url):
    with misbehaving_server() as server:
        server.missing = 503
        source = f"{server.address}/yellow_tripdata_{{month}}.csv.gz"
        commands.append(command := Command(tmp_path, "run", "2021-01", source=source, postgres_url=postgres_url))
        until(lambda: len(server.seen) >= 2, 60, "the second attempt")
        command.interrupt()
    assert command.printed.endswith(f"{LOAD_INTERRUPTED}\n")


@pytest.mark.parametrize("arguments", [("status",), ("backfill",)])
def test_commands_that_look_at_the_source_are_interrupted(tmp_path, commands, unreachable, postgres_url, arguments):
    source = f"http://{unreachable}/{{month}}.csv"
    months = ("--from", "2021-01", "--to", "2021-03")
    commands.append(command := Command(tmp_path, *arguments, *months, source=source, postgres_url=postgres_url))
    command.until_printed("Checking 3 months at the source ...\n")
    time.sleep(1)
    command.interrupt()
    assert command.printed.splitlines()[-1].startswith(INTERRUPTED)
