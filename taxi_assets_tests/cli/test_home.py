"""`clean-data` and `stop`: what they ask, refuse and report."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from taxi_assets.cli.main import main
from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres
from taxi_assets_tests.processes import REPOSITORY, until

OPEN_HISTORY = "import dagster as dg; instance = dg.DagsterInstance.get(); print('open', flush=True); input()"
OPEN_FILE = "file = open('.taxi/notes'); print('open', flush=True); input()"


@pytest.fixture
def home(tmp_path: Path, monkeypatch) -> Path:
    """TAXI_HOME with a file, in a project folder that is the working directory."""
    (tmp_path / "dagster.yaml").write_text((REPOSITORY / "dagster.yaml").read_text())
    (tmp_path / ".taxi").mkdir()
    (tmp_path / ".taxi" / "notes").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / ".taxi"


@pytest.mark.parametrize("answer", ["y\n", "yes\n", "Yes\n", "Y"])
def test_clean_data_takes_yes_for_an_answer(home, monkeypatch, capsys, answer):
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert main(["clean-data"]) == 0
    assert capsys.readouterr().out.endswith(f"[y/N] Deleted {home}.\n")
    assert not home.exists()


@pytest.mark.parametrize("answer", ["\n", "n\n", "no\n", "yesterday\n"])
def test_clean_data_deletes_nothing_after_another_answer(home, monkeypatch, capsys, answer):
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert main(["clean-data"]) == 1
    assert capsys.readouterr().out.endswith("[y/N] Nothing was deleted.\n")
    assert (home / "notes").exists()


def test_without_a_terminal_clean_data_names_the_option(home, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["clean-data"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: Nothing was deleted")
    assert "--yes" in line
    assert (home / "notes").exists()


@pytest.mark.parametrize("code", [OPEN_HISTORY, OPEN_FILE])
def test_clean_data_names_the_process_that_uses_the_folder(home, capsys, code):
    secret = "https://user:pass-word@host/"
    process = subprocess.Popen(
        [sys.executable, "-c", code, secret],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "open\n"
        assert main(["clean-data", "--yes"]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {home} is in use by process {process.pid} (python")
        assert "pass-word" not in line
        assert (home / "notes").exists()
    finally:
        process.communicate("\n")
    assert main(["clean-data", "--yes"]) == 0
    assert not home.exists()


def test_stop_says_whether_postgres_was_running_and_clean_data_stops_it(
    own_postgres_server, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    postgres = EmbeddedPostgres(tmp_path / ".taxi" / "postgres")
    assert main(["stop"]) == 0
    assert capsys.readouterr().out == f"Stopped the embedded Postgres in {' and '.join(map(str, postgres.folders))}.\n"
    assert not postgres.running()
    assert main(["stop"]) == 0
    assert capsys.readouterr().out == "The embedded Postgres was not running.\n"
    postgres.url()
    assert main(["clean-data", "--yes"]) == 0
    until(lambda: not postgres.folder.exists(), 5, "the folder to be deleted")
