"""The embedded Postgres: every caller gets the URL of the same running server, whatever happened to it before."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time

import psycopg
import pytest

from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres
from taxi_assets_tests.embedded_servers import call, command, environment, postmasters, server
from taxi_assets_tests.postgres_fixtures import PostgresServer, rows_of, run_sql
from taxi_assets_tests.processes import free_port, until

__all__ = ["server"]


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])


def kill(server: EmbeddedPostgres) -> None:
    PostgresServer("", server.data).kill()


def test_it_starts_answers_keeps_its_data_over_a_stop_and_reports_whether_it_runs(server):
    assert not server.running()
    url = server.url()
    run_sql(url, "CREATE TABLE kept AS SELECT 7 AS n")
    assert server.running()
    assert server.url() == url
    server.stop()
    assert not server.running()
    assert rows_of(server.url(), "SELECT n FROM kept") == [(7,)]


def test_stopping_what_never_ran_does_nothing(server):
    server.stop()
    assert not server.folder.exists()


def test_it_listens_on_the_loopback_only_and_keeps_what_is_committed(server):
    url = server.url()
    names = (
        "listen_addresses",
        "unix_socket_directories",
        "fsync",
        "synchronous_commit",
        "full_page_writes",
        "wal_level",
        "max_wal_senders",
    )
    assert [rows_of(url, f"SHOW {name}")[0][0] for name in names] == ["127.0.0.1", "", "on", "on", "on", "minimal", "0"]


def test_the_password_is_needed_random_and_in_a_file_for_its_owner_alone(server):
    url = server.url()
    password = (server.folder / "password").read_text()
    assert (server.folder / "password").stat().st_mode & 0o777 == 0o600
    assert len(password) >= 24
    for wrong in (url.replace(password, "wrong"), url.replace(f":{password}@", "@")):
        with pytest.raises(psycopg.OperationalError, match=r"password authentication failed|no password supplied"):
            psycopg.connect(wrong)
    assert not [path for path in (server.folder, server.data.parent) for file in path.glob("*") if file.is_file()
                and file.name != "password" and password in file.read_text()]  # fmt: skip


def test_six_cold_starters_end_with_one_server(server):
    starters = [
        subprocess.Popen(
            command("url", server.folder), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    outputs = [starter.communicate(timeout=120) for starter in starters]
    assert [starter.returncode for starter in starters] == [0] * 6, outputs
    assert len({out for out, _ in outputs}) == 1
    assert len(postmasters(server)) == 1
    assert rows_of(outputs[0][0].strip(), "SELECT 1") == [(1,)]


def test_a_server_killed_with_9_is_started_again_with_what_was_committed(server):
    run_sql(server.url(), "CREATE TABLE kept AS SELECT generate_series(1, 10000) AS n")
    kill(server)
    assert not server.running()
    assert rows_of(server.url(), "SELECT count(*) FROM kept") == [(10_000,)]


def test_a_stale_pid_that_now_belongs_to_another_program_harms_neither(server):
    server.url()
    kill(server)
    options = {"user": server.data.stat().st_uid} if os.geteuid() == 0 else {}
    stranger = subprocess.Popen(["sleep", "60"], **options)
    try:
        pid_file = server.data / "postmaster.pid"
        _, *rest = pid_file.read_text().splitlines()
        pid_file.write_text("\n".join([str(stranger.pid), *rest]) + "\n")
        server.stop()
        assert stranger.poll() is None
        assert rows_of(server.url(), "SELECT 1") == [(1,)]
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_port_that_was_taken_in_the_meantime_is_changed(server):
    before = port_of(server.url())
    server.stop()
    with socket.socket() as taker:
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taker.bind(("127.0.0.1", before))
        taker.listen()
        url = server.url()
        assert port_of(url) != before
        assert rows_of(url, "SELECT 1") == [(1,)]
    assert server.url() == url


def test_a_start_interrupted_while_the_data_was_made_is_repeated(server):
    starter = subprocess.Popen(
        command("start", server.folder), env=environment(), stderr=subprocess.DEVNULL, start_new_session=True
    )
    until(lambda: (server.folder / "alive").exists(), 30, "the start to begin")
    time.sleep(0.3)
    os.killpg(starter.pid, signal.SIGKILL)
    starter.wait()
    assert rows_of(server.url(), "SELECT 1") == [(1,)]
    assert len(postmasters(server)) == 1


def test_it_outlives_its_starter_and_holds_no_pipe_of_it_open(server):
    started = time.monotonic()
    done = call("start", server.folder, start_new_session=True)  # returns when no process has stdout open
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 60
    assert "password" not in done.stdout + done.stderr
    assert (server.folder / "password").read_text() not in done.stdout + done.stderr
    (postmaster,) = postmasters(server)
    assert postmaster.ppid() != os.getpid()
    assert os.getsid(postmaster.pid) not in (os.getsid(0), 0)
    assert server.running()


def test_the_command_line_starts_reports_and_stops(server):
    assert call("status", server.folder).returncode == 3
    url = call("url", server.folder).stdout.strip()
    assert rows_of(url, "SELECT 1") == [(1,)]
    assert call("status", server.folder).returncode == 0
    assert call("stop", server.folder).returncode == 0
    assert call("status", server.folder).returncode == 3
    assert postmasters(server) == []
    assert call("restart", server.folder).returncode == 2


def test_a_stranger_on_the_recorded_port_is_not_taken_for_the_server(server):
    server.url()
    server.stop()
    state = server.folder / "server.json"
    before = state.read_text()
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", free_port()))
        stranger.listen()
        stranger.settimeout(20)
        state.write_text(before.replace(str(json.loads(before)["port"]), str(stranger.getsockname()[1])))
        assert not server.running()
        url = server.url()
    assert rows_of(url, "SELECT 1") == [(1,)]
